/* Eight floats in an AVX2 register, under the names that kernels/simd is written in. */
#ifndef TL_KERNELS_AVX2_VEC_H
#define TL_KERNELS_AVX2_VEC_H

#include <immintrin.h>
#include <stdint.h>

enum { VEC = 8 };
typedef __m256 vec;

/* Selects the first lanes. A full mask takes the plain instruction: AMD's masked store is slow. */
typedef struct vec_mask {
    __m256i bits;
    bool full;
} vec_mask;

static inline vec_mask vec_first(int64_t lanes) {
    __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    int count = lanes < VEC ? (int)lanes : VEC;
    return (vec_mask){_mm256_cmpgt_epi32(_mm256_set1_epi32(count), index), count == VEC};
}
static inline vec vec_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline vec vec_load_first(const float *p, vec_mask mask) {
    return mask.full ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, mask.bits);
}
static inline void vec_store(float *p, vec x) {
    _mm256_storeu_ps(p, x);
}
static inline void vec_store_first(float *p, vec_mask mask, vec x) {
    if (mask.full)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, mask.bits, x);
}
static inline vec vec_set(float x) {
    return _mm256_set1_ps(x);
}
static inline vec vec_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}
static inline vec vec_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}
static inline vec vec_div(vec a, vec b) {
    return _mm256_div_ps(a, b);
}
/* a * b + c, rounded once. */
static inline vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}
/* b when either is NaN. */
static inline vec vec_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}
static inline vec vec_min(vec a, vec b) {
    return _mm256_min_ps(a, b);
}
static inline vec vec_round(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x * 2^n for whole n in [-126, 127]. */
static inline vec vec_scale2(vec x, vec n) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

#endif
