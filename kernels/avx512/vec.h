/* Sixteen floats in an AVX-512 register, under the names that kernels/simd is written in. */
#ifndef TL_KERNELS_AVX512_VEC_H
#define TL_KERNELS_AVX512_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { VEC = 16 };
typedef __m512 vec;

/* Selects the first lanes. */
typedef __mmask16 vec_mask;

static inline vec_mask vec_first(int64_t lanes) {
    unsigned bits = lanes < VEC ? (1u << lanes) - 1u : 0xffffu;
    return (vec_mask)bits;
}
static inline vec_mask vec_all(void) {
    return 0xffffu;
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
/* x in the mask's lanes, elsewhere `other`. */
static inline vec vec_first_or(vec x, vec_mask mask, vec other) {
    return _mm512_mask_blend_ps(mask, other, x);
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
static inline vec vec_sqrt(vec x) {
    return _mm512_sqrt_ps(x);
}
/* x * 2^n for whole n in [-150, 128], as if n were not limited by what a float can hold. */
static inline vec vec_scale2(vec x, vec n) {
    return _mm512_scalef_ps(x, n);
}

/* Lane-wise answers. */
typedef __mmask16 vec_test;

/* False where either is NaN. */
static inline vec_test vec_greater(vec a, vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
static inline vec_test vec_equal(vec a, vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
static inline vec_test vec_is_nan(vec x) {
    return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
}
static inline vec_test vec_either(vec_test a, vec_test b) {
    return (vec_test)(a | b);
}
static inline vec vec_pick(vec_test test, vec yes, vec no) {
    return _mm512_mask_blend_ps(test, no, yes);
}
/* Lane i is lane index[i] of x. */
static inline vec vec_permute(vec x, const int32_t *index) {
    return _mm512_permutexvar_ps(_mm512_loadu_si512(index), x);
}

/* --- the same lanes as doubles ---------------------------------------------------------------- */

typedef struct vec_wide {
    __m512d low, high;
} vec_wide;

static inline vec_wide wide_floats(const float *p, vec_mask mask) {
    return (vec_wide){_mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)mask, p)),
                      _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)(mask >> 8), p + 8))};
}
static inline vec_wide wide_of(vec x) {
    return (vec_wide){_mm512_cvtps_pd(_mm512_castps512_ps256(x)),
                      _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}
static inline vec_wide wide_zero(void) {
    return (vec_wide){_mm512_setzero_pd(), _mm512_setzero_pd()};
}
static inline vec_wide wide_load(const double *p, vec_mask mask) {
    return (vec_wide){_mm512_maskz_loadu_pd((__mmask8)mask, p),
                      _mm512_maskz_loadu_pd((__mmask8)(mask >> 8), p + 8)};
}
static inline void wide_store(double *p, vec_mask mask, vec_wide x) {
    _mm512_mask_storeu_pd(p, (__mmask8)mask, x.low);
    _mm512_mask_storeu_pd(p + 8, (__mmask8)(mask >> 8), x.high);
}
static inline vec_wide wide_add(vec_wide a, vec_wide b) {
    return (vec_wide){_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)};
}
static inline vec_wide wide_sub(vec_wide a, vec_wide b) {
    return (vec_wide){_mm512_sub_pd(a.low, b.low), _mm512_sub_pd(a.high, b.high)};
}
static inline vec_wide wide_fma(vec_wide a, vec_wide b, vec_wide c) {
    return (vec_wide){_mm512_fmadd_pd(a.low, b.low, c.low),
                      _mm512_fmadd_pd(a.high, b.high, c.high)};
}
static inline double wide_total(vec_wide x) {
    return _mm512_reduce_add_pd(_mm512_add_pd(x.low, x.high));
}

/* --- integers and bytes ------------------------------------------------------------------------
 */

typedef __m512i ivec;

/* The first `lanes` bytes, 0 for the others; nothing behind them is read. */
static inline ivec ivec_bytes(const uint8_t *p, int64_t lanes) {
    __m128i bytes = lanes >= VEC ? _mm_loadu_si128((const __m128i *)(const void *)p)
                                 : _mm_maskz_loadu_epi8(vec_first(lanes), p);
    return _mm512_cvtepu8_epi32(bytes);
}
/* Stores the first `lanes`, which must be 0 to 255. */
static inline void ivec_store_bytes(uint8_t *p, int64_t lanes, ivec x) {
    __m128i bytes = _mm512_cvtepi32_epi8(x);
    if (lanes >= VEC)
        _mm_storeu_si128((__m128i *)(void *)p, bytes);
    else
        _mm_mask_storeu_epi8(p, vec_first(lanes), bytes);
}
static inline ivec ivec_set(int32_t x) {
    return _mm512_set1_epi32(x);
}
/* a * b + c modulo 2^32. */
static inline ivec ivec_mul_add(ivec a, ivec b, ivec c) {
    return _mm512_add_epi32(_mm512_mullo_epi32(a, b), c);
}
/* x / 2^bits, rounded down, between 0 and 255. */
static inline ivec ivec_to_byte(ivec x, int bits) {
    ivec value = _mm512_sra_epi32(x, _mm_cvtsi32_si128(bits));
    return _mm512_min_epi32(_mm512_max_epi32(value, _mm512_setzero_si512()),
                            _mm512_set1_epi32(255));
}
static inline vec vec_of_ints(ivec x) {
    return _mm512_cvtepi32_ps(x);
}
static inline ivec ivec_of_floats(vec x) {
    return _mm512_cvtps_epi32(x);
}

/* VEC / 4 neighbouring pixels of three bytes in four lanes each; 16 bytes are read. The fourth lane
 * of each holds anything. */
enum { PIXELS_BYTES = 16 };
static inline ivec ivec_pixels(const uint8_t *p) {
    const __m128i spread = _mm_setr_epi8(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
    return _mm512_cvtepu8_epi32(
        _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)p), spread));
}
/* A factor for each of these pixels, in all of its lanes. */
static inline ivec ivec_pixel_factors(const int32_t *p) {
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m128i factors = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_permutexvar_epi32(spread, _mm512_castsi128_si512(factors));
}
/* Stores the sum of these pixels as three bytes: each channel plus 1/2 as ivec_to_byte() has it. */
static inline void ivec_pixel_store(uint8_t *p, ivec x, int bits) {
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti32x8_epi32(x, 1));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    sum =
        _mm_sra_epi32(_mm_add_epi32(sum, _mm_set1_epi32(1 << (bits - 1))), _mm_cvtsi32_si128(bits));
    __m128i words = _mm_packs_epi32(sum, sum);
    int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(p, &bytes, 3);
}

#endif
