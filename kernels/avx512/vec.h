/* Sixteen floats in an AVX-512 register, under the names that kernels/simd is written in. */
#ifndef TL_KERNELS_AVX512_VEC_H
#define TL_KERNELS_AVX512_VEC_H

#include <immintrin.h>
#include <stdint.h>

enum { VEC = 16 };
typedef __m512 vec;

/* Selects the first lanes. */
typedef __mmask16 vec_mask;

static inline vec_mask vec_first(int64_t lanes) {
    unsigned bits = lanes < VEC ? (1u << lanes) - 1u : 0xffffu;
    return (vec_mask)bits;
}
static inline vec vec_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline vec vec_load_first(const float *p, vec_mask mask) {
    return _mm512_maskz_loadu_ps(mask, p);
}
static inline void vec_store(float *p, vec x) {
    _mm512_storeu_ps(p, x);
}
static inline void vec_store_first(float *p, vec_mask mask, vec x) {
    _mm512_mask_storeu_ps(p, mask, x);
}
static inline vec vec_set(float x) {
    return _mm512_set1_ps(x);
}
static inline vec vec_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}
static inline vec vec_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}
static inline vec vec_div(vec a, vec b) {
    return _mm512_div_ps(a, b);
}
/* a * b + c, rounded once. */
static inline vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* b when either is NaN. */
static inline vec vec_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}
static inline vec vec_min(vec a, vec b) {
    return _mm512_min_ps(a, b);
}
static inline vec vec_round(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x * 2^n for whole n in [-126, 127]. */
static inline vec vec_scale2(vec x, vec n) {
    return _mm512_scalef_ps(x, n);
}

#endif
