/* Eight floats in an AVX2 register, under the names that kernels/simd is written in. */
#ifndef TL_KERNELS_AVX2_VEC_H
#define TL_KERNELS_AVX2_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

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
static inline vec_mask vec_all(void) {
    return (vec_mask){_mm256_set1_epi32(-1), true};
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
/* x in the mask's lanes, elsewhere `other`. */
static inline vec vec_first_or(vec x, vec_mask mask, vec other) {
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(mask.bits));
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
static inline vec vec_sqrt(vec x) {
    return _mm256_sqrt_ps(x);
}
static inline vec vec_power2(__m256i n) {
    __m256i exponent = _mm256_add_epi32(n, _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
/* x * 2^n for whole n in [-150, 128], as if n were not limited by what a float can hold: in two
 * steps, of which only the second one can round. */
static inline vec vec_scale2(vec x, vec n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(x, vec_power2(half)),
                         vec_power2(_mm256_sub_epi32(whole, half)));
}

/* Lane-wise answers: all bits or none. */
typedef __m256 vec_test;

/* False where either is NaN. */
static inline vec_test vec_greater(vec a, vec b) {
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}
static inline vec_test vec_equal(vec a, vec b) {
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
static inline vec_test vec_is_nan(vec x) {
    return _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
}
static inline vec_test vec_either(vec_test a, vec_test b) {
    return _mm256_or_ps(a, b);
}
static inline vec vec_pick(vec_test test, vec yes, vec no) {
    return _mm256_blendv_ps(no, yes, test);
}
/* Lane i is lane index[i] of x. */
static inline vec vec_permute(vec x, const int32_t *index) {
    return _mm256_permutevar8x32_ps(x, _mm256_loadu_si256((const __m256i *)(const void *)index));
}

/* --- the same lanes as doubles ---------------------------------------------------------------- */

typedef struct vec_wide {
    __m256d low, high;
} vec_wide;

static inline vec_wide wide_of(vec x) {
    return (vec_wide){_mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                      _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
static inline vec_wide wide_floats(const float *p, vec_mask mask) {
    if (!mask.full) return wide_of(vec_load_first(p, mask));
    return (vec_wide){_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))};
}
static inline vec_wide wide_zero(void) {
    return (vec_wide){_mm256_setzero_pd(), _mm256_setzero_pd()};
}
static inline __m256i wide_mask_low(vec_mask mask) {
    return _mm256_cvtepi32_epi64(_mm256_castsi256_si128(mask.bits));
}
static inline __m256i wide_mask_high(vec_mask mask) {
    return _mm256_cvtepi32_epi64(_mm256_extracti128_si256(mask.bits, 1));
}
static inline vec_wide wide_load(const double *p, vec_mask mask) {
    if (mask.full) return (vec_wide){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)};
    return (vec_wide){_mm256_maskload_pd(p, wide_mask_low(mask)),
                      _mm256_maskload_pd(p + 4, wide_mask_high(mask))};
}
static inline void wide_store(double *p, vec_mask mask, vec_wide x) {
    if (mask.full) {
        _mm256_storeu_pd(p, x.low);
        _mm256_storeu_pd(p + 4, x.high);
    } else {
        _mm256_maskstore_pd(p, wide_mask_low(mask), x.low);
        _mm256_maskstore_pd(p + 4, wide_mask_high(mask), x.high);
    }
}
static inline vec_wide wide_add(vec_wide a, vec_wide b) {
    return (vec_wide){_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
}
static inline vec_wide wide_sub(vec_wide a, vec_wide b) {
    return (vec_wide){_mm256_sub_pd(a.low, b.low), _mm256_sub_pd(a.high, b.high)};
}
static inline vec_wide wide_fma(vec_wide a, vec_wide b, vec_wide c) {
    return (vec_wide){_mm256_fmadd_pd(a.low, b.low, c.low),
                      _mm256_fmadd_pd(a.high, b.high, c.high)};
}
static inline double wide_total(vec_wide x) {
    __m256d four = _mm256_add_pd(x.low, x.high);
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

/* --- integers and bytes ------------------------------------------------------------------------
 */

typedef __m256i ivec;

/* The first `lanes` bytes, 0 for the others; nothing behind them is read. */
static inline ivec ivec_bytes(const uint8_t *p, int64_t lanes) {
    if (lanes >= VEC)
        return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    uint64_t bytes = 0;
    for (int64_t i = 0; i < lanes; i++) bytes |= (uint64_t)p[i] << 8 * i;
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
}
/* Stores the first `lanes`, which must be 0 to 255. */
static inline void ivec_store_bytes(uint8_t *p, int64_t lanes, ivec x) {
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    __m128i packed = _mm_packus_epi16(words, words);
    if (lanes >= VEC) {
        _mm_storel_epi64((__m128i *)(void *)p, packed);
        return;
    }
    uint64_t bytes = (uint64_t)_mm_cvtsi128_si64(packed);
    for (int64_t i = 0; i < lanes; i++) p[i] = (uint8_t)(bytes >> 8 * i);
}
static inline ivec ivec_set(int32_t x) {
    return _mm256_set1_epi32(x);
}
/* a * b + c modulo 2^32. */
static inline ivec ivec_mul_add(ivec a, ivec b, ivec c) {
    return _mm256_add_epi32(_mm256_mullo_epi32(a, b), c);
}
/* x / 2^bits, rounded down, between 0 and 255. */
static inline ivec ivec_to_byte(ivec x, int bits) {
    ivec value = _mm256_sra_epi32(x, _mm_cvtsi32_si128(bits));
    return _mm256_min_epi32(_mm256_max_epi32(value, _mm256_setzero_si256()),
                            _mm256_set1_epi32(255));
}
static inline vec vec_of_ints(ivec x) {
    return _mm256_cvtepi32_ps(x);
}
static inline ivec ivec_of_floats(vec x) {
    return _mm256_cvtps_epi32(x);
}

/* VEC / 4 neighbouring pixels of three bytes in four lanes each; 8 bytes are read. The fourth lane
 * of each holds anything. */
enum { PIXELS_BYTES = 8 };
static inline ivec ivec_pixels(const uint8_t *p) {
    const __m128i spread = _mm_setr_epi8(0, 1, 2, 2, 3, 4, 5, 5, -1, -1, -1, -1, -1, -1, -1, -1);
    return _mm256_cvtepu8_epi32(
        _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)(const void *)p), spread));
}
/* A factor for each of these pixels, in all of its lanes. */
static inline ivec ivec_pixel_factors(const int32_t *p) {
    const __m256i spread = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    __m128i factors = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(factors), spread);
}
/* Stores the sum of these pixels as three bytes: each channel plus 1/2 as ivec_to_byte() has it. */
static inline void ivec_pixel_store(uint8_t *p, ivec x, int bits) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    sum =
        _mm_sra_epi32(_mm_add_epi32(sum, _mm_set1_epi32(1 << (bits - 1))), _mm_cvtsi32_si128(bits));
    __m128i words = _mm_packs_epi32(sum, sum);
    int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(p, &bytes, 3);
}

#endif
