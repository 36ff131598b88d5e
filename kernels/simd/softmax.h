/* Softmax of one row, for whichever vec.h was included before. Sums are taken in float64, each lane
 * by itself: their order follows from n and the instruction set. */
#ifndef TL_KERNELS_SIMD_SOFTMAX_H
#define TL_KERNELS_SIMD_SOFTMAX_H

#include <math.h>

#include "simd/act.h"
#include "simd/each.h"

/* What is not there counts as -inf: never the largest, and e^-inf = 0. */
SIMD_INLINE vec load_or_least(const elem *x, vec_mask mask) {
    return vec_first_or(elem_load_first(x, mask), mask, vec_set(-INFINITY));
}

/* A NaN may get lost here: it comes back through the sum. */
static float row_largest(const elem *x, int64_t n) {
    vec best = vec_set(-INFINITY);
#define BODY(i, mask) best = vec_max(best, load_or_least(x + (i), mask))
    FOR_VECTORS(n, BODY);
#undef BODY
    float lane[VEC], largest;
    vec_store(lane, best);
    largest = lane[0];
    for (int i = 1; i < VEC; i++) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
}

/* The powers are taken twice: between the two, elements would round them. */
static void simd_softmax(const void *in, void *out, int64_t n) {
    const elem *x = in;
    elem *y = out;
    vec largest = vec_set(row_largest(x, n));
    vec_wide sum = wide_zero();
#define POWER(i, mask) vec_exp(vec_sub(load_or_least(x + (i), mask), largest))
#define BODY(i, mask) sum = wide_add(sum, wide_of(POWER(i, mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
    vec scale = vec_set((float)(1.0 / wide_total(sum)));
#define BODY(i, mask) elem_store_first(y + (i), mask, vec_mul(POWER(i, mask), scale))
    FOR_VECTORS(n, BODY);
#undef BODY
#undef POWER
}

static void simd_softmax_backward(const void *out, const void *slopes, bool add, void *result,
                                  int64_t n) {
    const elem *y = out, *dy = slopes;
    elem *dx = result;
    vec_wide sum = wide_zero();
#define BODY(i, mask) sum = wide_fma(wide_elems(dy + (i), mask), wide_elems(y + (i), mask), sum)
    FOR_VECTORS(n, BODY);
#undef BODY
    vec dot = vec_set((float)wide_total(sum));
#define BODY(i, mask)                                                                              \
    elem_put(                                                                                      \
        dx + (i), mask, add,                                                                       \
        vec_mul(elem_load_first(y + (i), mask), vec_sub(elem_load_first(dy + (i), mask), dot)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

#endif
