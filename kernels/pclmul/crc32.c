/* CRC-32 by folding: Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
 * Instruction", Intel 2009. 128 bits that stand n bits before another 128 may be replaced by their
 * product with x^n modulo the polynomial, added to these; the two halves have factors of their own.
 * All in the reflected order of bits. */
#include "pclmul/pclmul.h"

#include <immintrin.h>

/* x^(n + 64) and x^n modulo the polynomial for n = 512 and 128, as the paper's appendix has them.
 */
static const uint64_t across_four[2] = {0x154442bd4, 0x1c6e41596};
static const uint64_t across_one[2] = {0x1751997d0, 0x0ccaa009e};

static inline __m128i load(const void *from) {
    return _mm_loadu_si128(from);
}

static inline __m128i fold(__m128i x, __m128i factors, __m128i onto) {
    __m128i low = _mm_clmulepi64_si128(x, factors, 0x00);
    __m128i high = _mm_clmulepi64_si128(x, factors, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

void tl_crc32_fold_pclmul(uint32_t state, const unsigned char *data, size_t size,
                          unsigned char residue[16]) {
    __m128i factors = load(across_four);
    __m128i x[4];
    for (int i = 0; i < 4; i++) x[i] = load(data + 16 * i);
    x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128((int)state));
    for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
        for (int i = 0; i < 4; i++) x[i] = fold(x[i], factors, load(data + 16 * i));
    }
    factors = load(across_one);
    __m128i sum = fold(fold(fold(x[0], factors, x[1]), factors, x[2]), factors, x[3]);
    for (; size >= 16; data += 16, size -= 16) sum = fold(sum, factors, load(data));
    _mm_storeu_si128((__m128i *)(void *)residue, sum);
}
