/* Element-wise kernels and rows of channels, for whichever vec.h was included before. */
#ifndef TL_KERNELS_SIMD_ELEMENTWISE_H
#define TL_KERNELS_SIMD_ELEMENTWISE_H

#include "for_act.h"
#include "simd/act.h"
#include "simd/each.h"

SIMD_INLINE void act_forward_loop(tl_act act, const float *x, float *y, int64_t n) {
#define BODY(i, mask)                                                                              \
    vec_store_first(y + (i), mask, vec_act_inside(act, vec_load_first(x + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

static void simd_act_forward(tl_act act, const float *x, float *y, int64_t n){
#define LOOP(constant) act_forward_loop(constant, x, y, n)
    FOR_ACT(act, LOOP)
#undef LOOP
}

SIMD_INLINE void act_backward_loop(tl_act act, const float *v, const float *dy, bool add, float *dx,
                                   int64_t n) {
#define BODY(i, mask)                                                                              \
    vec_put(dx + (i), mask, add,                                                                   \
            vec_act_gradient(act, vec_load_first(v + (i), mask), vec_load_first(dy + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

static void simd_act_backward(tl_act act, const float *v, const float *dy, bool add, float *dx,
                              int64_t n) {
#define LOOP(constant) act_backward_loop(constant, v, dy, add, dx, n)
    FOR_ACT(act, LOOP)
#undef LOOP
}

static void simd_add(const float *a, const float *b, float *y, int64_t n) {
#define BODY(i, mask)                                                                              \
    vec_store_first(y + (i), mask,                                                                 \
                    vec_add(vec_load_first(a + (i), mask), vec_load_first(b + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

static void simd_mul(const float *a, const float *b, float *y, int64_t n) {
#define BODY(i, mask)                                                                              \
    vec_store_first(y + (i), mask,                                                                 \
                    vec_mul(vec_load_first(a + (i), mask), vec_load_first(b + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

static void simd_mul_add(const float *a, const float *b, float *y, int64_t n) {
#define BODY(i, mask)                                                                              \
    vec_store_first(y + (i), mask,                                                                 \
                    vec_fma(vec_load_first(a + (i), mask), vec_load_first(b + (i), mask),          \
                            vec_load_first(y + (i), mask)))
    FOR_VECTORS(n, BODY);
#undef BODY
}

/* --- rows of channels, one after the other: several at once, though they would share the loads of
 * coefficients, come from memory at half the speed ------------------------------------------------
 */

static void simd_scale_shift(const float *x, const float *scale, const float *shift, tl_act act,
                             float *y, int64_t rows, int64_t c) {
    for (int64_t row = 0; row < rows; row++, x += c, y += c) {
#define BODY(i, mask)                                                                              \
    vec_store_first(y + (i), mask,                                                                 \
                    vec_fma(vec_load_first(x + (i), mask), vec_load_first(scale + (i), mask),      \
                            vec_load_first(shift + (i), mask)))
        FOR_VECTORS(c, BODY);
#undef BODY
        if (act != TL_ACT_NONE) simd_act_forward(act, y, y, c);
    }
}

static void simd_affine3(const float *dy, const float *x, const float *a, const float *b,
                         const float *d, bool add, float *dx, int64_t rows, int64_t c) {
    for (int64_t row = 0; row < rows; row++, dy += c, x += c, dx += c) {
#define BODY(i, mask)                                                                              \
    do {                                                                                           \
        vec value = vec_fma(vec_load_first(x + (i), mask), vec_load_first(b + (i), mask),          \
                            vec_load_first(d + (i), mask));                                        \
        value = vec_fma(vec_load_first(dy + (i), mask), vec_load_first(a + (i), mask), value);     \
        vec_put(dx + (i), mask, add, value);                                                       \
    } while (0)
        FOR_VECTORS(c, BODY);
#undef BODY
    }
}

#endif
