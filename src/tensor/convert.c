#include <string.h>

#include "tensor/tensor.h"

#include <math.h>

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16, subnormals, infinities and NaN included. */
static float half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t fraction = half & 0x3ffu;
    if (exponent == 0x1fu) return from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

#define CONVERT(type, expression)                                                                  \
    for (int64_t i = 0; i < count; i++) {                                                          \
        type v;                                                                                    \
        memcpy(&v, bytes + (size_t)i * sizeof v, sizeof v);                                        \
        to[i] = (expression);                                                                      \
    }                                                                                              \
    break

void tl_convert_to_f32(tl_dtype dtype, const void *from, float *to, int64_t count) {
    const char *bytes = from;
    switch (dtype) {
    case TL_F32:
        if (count > 0) memcpy(to, from, (size_t)count * sizeof *to);
        break;
    case TL_F64:
        CONVERT(double, (float)v);
    case TL_F16:
        CONVERT(uint16_t, half_to_float(v));
    case TL_BF16:
        CONVERT(uint16_t, from_bits((uint32_t)v << 16));
    case TL_I8:
        CONVERT(int8_t, (float)v);
    case TL_U8:
        CONVERT(uint8_t, (float)v);
    case TL_I16:
        CONVERT(int16_t, (float)v);
    case TL_I32:
        CONVERT(int32_t, (float)v);
    case TL_I64:
        CONVERT(int64_t, (float)v);
    case TL_BOOL:
        CONVERT(uint8_t, v ? 1.0f : 0.0f);
    }
}

void tl_copy_strided(const float *from, int64_t from_step, float *to, int64_t to_step,
                     int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i * to_step] = from[i * from_step];
}

/* The exponent's bits, all of which are set in what is not finite. */
static uint32_t exponent_of(const char *bytes, int64_t i) {
    uint32_t bits;
    memcpy(&bits, bytes + (size_t)i * sizeof bits, sizeof bits);
    return bits & 0x7f800000u;
}

int64_t tl_find_unfinite(const void *floats, int64_t count) {
    enum { BLOCK = 1024 };
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        int64_t end = count - begin < BLOCK ? count : begin + BLOCK;
        uint32_t unfinite = 0;
        for (int64_t i = begin; i < end; i++) unfinite |= exponent_of(floats, i) == 0x7f800000u;
        if (!unfinite) continue;
        while (exponent_of(floats, begin) != 0x7f800000u) begin++;
        return begin;
    }
    return -1;
}

tl_status tl_check_finite(const char *name, const float *values, int64_t count) {
    int64_t at = tl_find_unfinite(values, count);
    TL_CHECK(at < 0, TL_CORRUPT, "%s: element %lld is %g, expected a finite number", name,
             (long long)at, (double)values[at]);
    return TL_OK;
}
