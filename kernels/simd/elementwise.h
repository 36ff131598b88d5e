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

static void simd_scale_shift(const void *from, const float *scale, const float *shift,
                             const void *more, tl_act act, void *to, int64_t rows, int64_t c) {
    const elem *x = from, *residual = more;
    elem *y = to;
    const tl_act inside = act_is_smooth(act) ? TL_ACT_NONE : act;
    for (int64_t row = 0; row < rows; row++, x += c, y += c) {
#define BODY(i, mask)                                                                              \
    do {                                                                                           \
        vec value = vec_fma(elem_load_first(x + (i), mask), vec_load_first(scale + (i), mask),     \
                            vec_load_first(shift + (i), mask));                                    \
        if (residual) value = vec_add(value, elem_load_first(residual + (i), mask));               \
        elem_store_first(y + (i), mask, vec_act_straight(inside, value));                          \
    } while (0)
        FOR_VECTORS(c, BODY);
#undef BODY
        if (residual) residual += c;
        if (inside != act) simd_act_forward(act, y, y, c);
    }
}

/* What a loop over rows will come to. Their operands are many and each is read only once: left
 * to itself memory is often late. */
SIMD_INLINE void fetch_ahead(const elem *p) {
    enum { AHEAD = 4096 / sizeof *p };
    __builtin_prefetch(p + AHEAD);
}

/* dz of the vector at element `at`, of channel i and those behind it, where x is known. */
SIMD_INLINE vec slopes_at(const tl_slopes *s, int64_t at, int64_t i, vec_mask mask, vec x) {
    const elem *dy = (const elem *)s->dy + at, *v = s->v;
    vec slope = elem_load_first(dy, mask), zero = vec_set(0.0f);
    fetch_ahead(dy);
    if (s->act != TL_ACT_NONE) {
        vec value;
        if (v) {
            value = elem_load_first(v + at, mask);
            fetch_ahead(v + at);
        } else {
            value = elem_rounded(
                vec_fma(x, vec_load_first(s->scale + i, mask), vec_load_first(s->shift + i, mask)));
        }
        if (s->act == TL_ACT_RELU6)
            slope = vec_pick(vec_greater(vec_set(6.0f), value), slope, zero);
        slope = vec_pick(vec_greater(value, zero), slope, zero);
    }
    if (s->dz) elem_store_first((elem *)s->dz + at, mask, slope);
    return slope;
}

static void simd_affine3(const tl_slopes *slopes, const float *a, const float *b, const float *d,
                         bool add, void *result, int64_t rows, int64_t c) {
    const tl_slopes s = *slopes;
    const elem *x = s.x;
    elem *dx = result;
    for (int64_t first = 0; first < rows * c; first += c) {
#define BODY(i, mask)                                                                              \
    do {                                                                                           \
        vec of = elem_load_first(x + first + (i), mask);                                           \
        fetch_ahead(x + first + (i));                                                              \
        vec slope = slopes_at(&s, first + (i), i, mask, of);                                       \
        vec value = vec_fma(of, vec_load_first(b + (i), mask), vec_load_first(d + (i), mask));     \
        value = vec_fma(slope, vec_load_first(a + (i), mask), value);                              \
        elem_put(dx + first + (i), mask, add, value);                                              \
    } while (0)
        FOR_VECTORS(c, BODY);
#undef BODY
    }
}

#endif
