/* Element-wise kernels and rows of channels, for whichever vec.h was included before. */
#ifndef TL_KERNELS_SIMD_ELEMENTWISE_H
#define TL_KERNELS_SIMD_ELEMENTWISE_H

#include "for_act.h"
#include "simd/act.h"
#include "simd/each.h"

SIMD_INLINE void act_forward_loop(tl_act act, const elem *x, elem *y, int64_t n) {
#define BODY(i, mask)                                                                              \
    elem_store_first(y + (i), mask, vec_act_inside(act, elem_load_first(x + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

static void simd_act_forward(tl_act act, const void *x, void *y, int64_t n){
#define LOOP(constant) act_forward_loop(constant, x, y, n)
    FOR_ACT(act, LOOP)
#undef LOOP
}

SIMD_INLINE void act_backward_loop(tl_act act, const elem *v, const elem *dy, bool add, elem *dx,
                                   int64_t n) {
#define BODY(i, mask)                                                                              \
    elem_put(                                                                                      \
        dx + (i), mask, add,                                                                       \
        vec_act_gradient(act, elem_load_first(v + (i), mask), elem_load_first(dy + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

static void simd_act_backward(tl_act act, const void *v, const void *dy, bool add, void *dx,
                              int64_t n) {
#define LOOP(constant) act_backward_loop(constant, v, dy, add, dx, n)
    FOR_ACT(act, LOOP)
#undef LOOP
}

static void simd_add(const void *left, const void *right, void *result, int64_t n) {
    const elem *a = left, *b = right;
    elem *y = result;
#define BODY(i, mask)                                                                              \
    elem_store_first(y + (i), mask,                                                                \
                     vec_add(elem_load_first(a + (i), mask), elem_load_first(b + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

static void simd_mul(const void *left, const void *right, void *result, int64_t n) {
    const elem *a = left, *b = right;
    elem *y = result;
#define BODY(i, mask)                                                                              \
    elem_store_first(y + (i), mask,                                                                \
                     vec_mul(elem_load_first(a + (i), mask), elem_load_first(b + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

/* --- rows of channels, one after the other: several at once, though they would share the loads of
 * coefficients, come from memory at half the speed ------------------------------------------------
 */

static void simd_scale_shift(const void *from, const float *scale, const float *shift, tl_act act,
                             void *to, int64_t rows, int64_t c) {
    const elem *x = from;
    elem *y = to;
    for (int64_t row = 0; row < rows; row++, x += c, y += c) {
#define BODY(i, mask)                                                                              \
    elem_store_first(y + (i), mask,                                                                \
                     vec_fma(elem_load_first(x + (i), mask), vec_load_first(scale + (i), mask),    \
                             vec_load_first(shift + (i), mask)))
        FOR_VECTORS(c, BODY);
#undef BODY
        if (act != TL_ACT_NONE) simd_act_forward(act, y, y, c);
    }
}

static void simd_affine3(const void *slopes, const void *values, const float *a, const float *b,
                         const float *d, bool add, void *result, int64_t rows, int64_t c) {
    const elem *dy = slopes, *x = values;
    elem *dx = result;
    for (int64_t row = 0; row < rows; row++, dy += c, x += c, dx += c) {
#define BODY(i, mask)                                                                              \
    do {                                                                                           \
        vec value = vec_fma(elem_load_first(x + (i), mask), vec_load_first(b + (i), mask),         \
                            vec_load_first(d + (i), mask));                                        \
        value = vec_fma(elem_load_first(dy + (i), mask), vec_load_first(a + (i), mask), value);    \
        elem_put(dx + (i), mask, add, value);                                                      \
    } while (0)
        FOR_VECTORS(c, BODY);
#undef BODY
    }
}

#endif
