/* The table of AVX512-BF16: what kernels/simd holds, compiled for elements of bf16; and that of
 * AMX, whose matrix multiplication alone is another. */
#include "amx/amx.h"
#include "avx512bf16/avx512bf16.h"
#include "avx512bf16/elem.h"
#include "ref/ref.h"
#include "simd/table.h"
#include "simd/winograd.h"

static void widen(const void *from, float *y, int64_t n) {
    const elem *x = from;
#define BODY(i, mask) vec_store_first(y + (i), mask, elem_load_first(x + (i), mask))
    FOR_VECTORS(n, BODY);
#undef BODY
}

static void narrow(const float *x, void *to, int64_t n) {
    elem *y = to;
#define BODY(i, mask) elem_store_first(y + (i), mask, vec_load_first(x + (i), mask))
    FOR_VECTORS(n, BODY);
#undef BODY
}

/* Lane i holds low[i] in its lower half and high[i] in its upper one. */
static __m512i pairs_of(__m256i low, __m256i high) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}

/* n elements of two rows by turns, two vectors at a time. */
static void take_turns(const elem *even, const elem *odd, elem *y, int64_t n) {
    static const uint16_t turns[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                       37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                       11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i low = _mm512_loadu_si512(turns);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(VEC));
    for (int64_t i = 0; i < n; i += 2 * VEC) {
        vec_mask first = vec_first(n - i), second = n - i > VEC ? vec_first(n - i - VEC) : 0;
        __mmask32 both = (__mmask32)second << VEC | first;
        __m512i a = even ? _mm512_maskz_loadu_epi16(both, even + i) : _mm512_setzero_si512();
        __m512i b = odd ? _mm512_maskz_loadu_epi16(both, odd + i) : _mm512_setzero_si512();
        _mm512_mask_storeu_epi32(y + 2 * i, first, _mm512_permutex2var_epi16(a, low, b));
        _mm512_mask_storeu_epi32(y + 2 * (i + VEC), second, _mm512_permutex2var_epi16(a, high, b));
    }
}

static void group_rows(const void *const *rows, int64_t from, int64_t groups, int64_t n, void *to,
                       int64_t y_step) {
    elem *y = to;
    for (int64_t g = 0; g < groups; g++, rows += 2, y += y_step) {
        const elem *even = rows[0], *odd = rows[1];
        take_turns(even ? even + from : NULL, odd ? odd + from : NULL, y, n);
    }
}

static __m256i rounded(const float *x, vec_mask mask) {
    return (__m256i)_mm512_cvtneps_pbh(vec_load_first(x, mask));
}

static void group_floats(const float *x, int64_t x_step, int64_t count, void *to, int64_t n) {
    elem *y = to;
    for (int64_t i = 0; i < count; i += 2, x += 2 * x_step, y += 2 * n) {
        bool pair = i + 1 < count;
#define BODY(j, mask)                                                                              \
    _mm512_mask_storeu_epi32(                                                                      \
        y + 2 * (j), mask,                                                                         \
        pairs_of(rounded(x + (j), mask),                                                           \
                 pair ? rounded(x + x_step + (j), mask) : _mm256_setzero_si256()))
        FOR_VECTORS(n, BODY);
#undef BODY
    }
}

/* All of a table but its name and the tile. */
#define COMMON                                                                                     \
    .element = sizeof(elem), .group = ELEM_GROUP, .group_rows = group_rows,                        \
    .group_floats = group_floats, .depthwise_row = tl_avx512bf16_depthwise_row,                    \
    .depthwise_grad = tl_avx512bf16_depthwise_grad, .widen = widen, .narrow = narrow, SIMD_ROWS

const struct tl_kernels tl_kernels_avx512bf16 = {
    COMMON,
    SIMD_WINOGRAD,
    .name = "avx512bf16",
    .mr = TL_AVX512_MR,
    .nr = TL_AVX512_NR,
    .nr_narrow = TL_AVX512_NR_NARROW,
    .gemm_begin = tl_ref_gemm_nothing,
    .gemm_tile = tl_avx512bf16_gemm_tile,
    .gemm_end = tl_ref_gemm_nothing,
};

/* Without Winograd's method: these tiles multiply sixteen times as fast as AVX-512 does, the
 * transforms would take longer than what they save. */
const struct tl_kernels tl_kernels_amx = {
    COMMON,
    .name = "amx",
    .mr = TL_AMX_MR,
    .nr = TL_AMX_NR,
    .nr_narrow = TL_AMX_NR_NARROW,
    .gemm_begin = tl_amx_gemm_begin,
    .gemm_tile = tl_amx_gemm_tile,
    .gemm_end = tl_amx_gemm_end,
};
