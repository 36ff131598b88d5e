/* Reference conversions between float and bf16. All other kernels of bf16 are specified by
 * tests/ref_bf16.h: users are never offered what the machine would have to emulate. */
#include "ref/ref.h"

#include <string.h>

typedef uint16_t bf16;

static float get(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To nearest, ties to even; a NaN is made quiet so that cutting it makes no infinity of it. */
static bf16 rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (bf16)(bits >> 16 | 0x40u);
    return (bf16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void tl_ref_widen(const void *from, float *y, int64_t n) {
    const bf16 *x = from;
    for (int64_t i = 0; i < n; i++) y[i] = get(x[i]);
}

void tl_ref_narrow(const float *x, void *to, int64_t n) {
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = rounded(x[i]);
}
