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

/* --- rows of channels: a channel's coefficients are loaded once for several rows ----------------
 */

enum { TOGETHER = 4 }; /* rows */

/* LOOP(rows) over groups of TOGETHER rows, then over single ones; `row` is the group's first. */
#define FOR_ROWS(count, LOOP)                                                                      \
    do {                                                                                           \
        int64_t row = 0;                                                                           \
        for (; row + TOGETHER <= (count); row += TOGETHER) LOOP(row, TOGETHER);                    \
        for (; row < (count); row++) LOOP(row, 1);                                                 \
    } while (0)

SIMD_INLINE void scale_shift_rows(const float *x, const float *scale, const float *shift, float *y,
                                  const int rows, int64_t c) {
#define BODY(i, mask)                                                                              \
    do {                                                                                           \
        vec factor = vec_load_first(scale + (i), mask), term = vec_load_first(shift + (i), mask);  \
        _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++) {                                   \
            vec value = vec_fma(vec_load_first(x + r * c + (i), mask), factor, term);              \
            vec_store_first(y + r * c + (i), mask, value);                                         \
        }                                                                                          \
    } while (0)
    FOR_VECTORS(c, BODY);
#undef BODY
}

/* The activation follows while the group's rows are in the first-level cache. */
static void simd_scale_shift(const float *x, const float *scale, const float *shift, tl_act act,
                             float *y, int64_t rows, int64_t c) {
#define ROWS(row, count)                                                                           \
    do {                                                                                           \
        float *to = y + (row)*c;                                                                   \
        scale_shift_rows(x + (row)*c, scale, shift, to, count, c);                                 \
        if (act != TL_ACT_NONE) simd_act_forward(act, to, to, (count)*c);                          \
    } while (0)
    FOR_ROWS(rows, ROWS);
#undef ROWS
}

SIMD_INLINE void affine3_rows(const float *dy, const float *x, const float *a, const float *b,
                              const float *d, bool add, float *dx, const int rows, int64_t c) {
#define BODY(i, mask)                                                                              \
    do {                                                                                           \
        vec va = vec_load_first(a + (i), mask), vb = vec_load_first(b + (i), mask);                \
        vec vd = vec_load_first(d + (i), mask);                                                    \
        _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++) {                                   \
            int64_t j = r * c + (i);                                                               \
            vec value = vec_fma(vec_load_first(x + j, mask), vb, vd);                              \
            value = vec_fma(vec_load_first(dy + j, mask), va, value);                              \
            vec_put(dx + j, mask, add, value);                                                     \
        }                                                                                          \
    } while (0)
    FOR_VECTORS(c, BODY);
#undef BODY
}

static void simd_affine3(const float *dy, const float *x, const float *a, const float *b,
                         const float *d, bool add, float *dx, int64_t rows, int64_t c) {
#define ROWS(row, count)                                                                           \
    affine3_rows(dy + (row)*c, x + (row)*c, a, b, d, add, dx + (row)*c, count, c)
    FOR_ROWS(rows, ROWS);
#undef ROWS
}

#endif
