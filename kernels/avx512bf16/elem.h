/* Activations are bf16, for the vec.h of AVX-512: widened when loaded, rounded to nearest even when
 * stored, multiplied in pairs. These instructions take subnormal numbers for 0. */
#ifndef TL_KERNELS_AVX512BF16_ELEM_H
#define TL_KERNELS_AVX512BF16_ELEM_H

#include "avx512/vec.h"

typedef uint16_t elem;
enum { ELEM_GROUP = 2 };

static inline vec elem_widened(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
static inline vec elem_load(const elem *p) {
    return elem_widened(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vec elem_load_first(const elem *p, vec_mask mask) {
    return elem_widened(_mm256_maskz_loadu_epi16(mask, p));
}
static inline void elem_store(elem *p, vec x) {
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(x));
}
static inline void elem_store_first(elem *p, vec_mask mask, vec x) {
    _mm256_mask_storeu_epi16(p, mask, (__m256i)_mm512_cvtneps_pbh(x));
}
static inline void elem_store_lane(elem *p, int lane, vec_mask mask, vec x) {
    __m512i pairs = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
    if (lane == 1)
        pairs = _mm512_or_si512(_mm512_slli_epi32(pairs, 16), _mm512_maskz_loadu_epi32(mask, p));
    _mm512_mask_storeu_epi32(p, mask, pairs);
}
static inline vec elem_rounded(vec x) {
    return elem_widened((__m256i)_mm512_cvtneps_pbh(x));
}
static inline vec_wide wide_elems(const elem *p, vec_mask mask) {
    return wide_of(elem_load_first(p, mask));
}

/* --- multiplication: see simd/elem_float.h -----------------------------------------------------
 */

typedef __m512bh elem_factors;

static inline elem_factors elem_groups(const elem *b) {
    return (__m512bh)_mm512_loadu_si512(b);
}
static inline elem_factors elem_spread(const elem *a) {
    int pair;
    memcpy(&pair, a, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}
static inline elem_factors elem_spread_first(const elem *a, int64_t count) {
    (void)count;
    return (__m512bh)_mm512_set1_epi32(*a);
}
static inline vec elem_multiply_add(elem_factors a, elem_factors b, vec sum) {
    return _mm512_dpbf16_ps(sum, a, b);
}

#endif
