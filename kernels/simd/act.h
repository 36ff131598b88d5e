/* Activations on vectors, for whichever vec.h was included before. NaN goes through all of them
 * (the operand order of vec_max and vec_min sees to it), so that a diverged run is noticed. */
#ifndef TL_KERNELS_SIMD_ACT_H
#define TL_KERNELS_SIMD_ACT_H

#include "kernels.h"

static inline vec vec_clamp(vec x, float low, float high) {
    return vec_min(vec_set(high), vec_max(vec_set(low), x));
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2, where the Taylor polynomial of degree 7 is exact to
 * 5e-9. ln 2 is subtracted in two parts, the first of which has few bits: n times it is exact. */
static inline vec vec_exp(vec x) {
    x = vec_clamp(x, -87.0f, 88.0f);
    vec n = vec_round(vec_mul(x, vec_set(1.44269504f)));
    vec r = vec_fma(n, vec_set(-0.693359375f), x);
    r = vec_fma(n, vec_set(2.12194440e-4f), r);
    vec y = vec_set(1.0f / 5040.0f);
    y = vec_fma(y, r, vec_set(1.0f / 720.0f));
    y = vec_fma(y, r, vec_set(1.0f / 120.0f));
    y = vec_fma(y, r, vec_set(1.0f / 24.0f));
    y = vec_fma(y, r, vec_set(1.0f / 6.0f));
    y = vec_fma(y, r, vec_set(0.5f));
    y = vec_fma(y, r, vec_set(1.0f));
    y = vec_fma(y, r, vec_set(1.0f));
    return vec_scale2(y, n);
}

static inline vec vec_sigmoid(vec x) {
    vec one = vec_set(1.0f);
    return vec_div(one, vec_add(one, vec_exp(vec_sub(vec_set(0.0f), x))));
}

/* 0.5 erfc(z) for z >= 0 as 0.5 t e^(p(t) - z^2) with t = 1 / (1 + z / 2). p is a Chebyshev fit of
 * degree 9 to log(erfc(z) e^(z^2) / t) for z up to 10, exact to 1.2e-7. */
static inline vec vec_normal_tail(vec z) {
    vec one = vec_set(1.0f);
    vec t = vec_div(one, vec_fma(z, vec_set(0.5f), one));
    vec p = vec_set(0.136494697f);
    p = vec_fma(p, t, vec_set(-0.635008044f));
    p = vec_fma(p, t, vec_set(1.04925384f));
    p = vec_fma(p, t, vec_set(-0.553756494f));
    p = vec_fma(p, t, vec_set(-0.197577732f));
    p = vec_fma(p, t, vec_set(0.0632250805f));
    p = vec_fma(p, t, vec_set(0.0136783843f));
    p = vec_fma(p, t, vec_set(0.39098154f));
    p = vec_fma(p, t, vec_set(0.998132417f));
    p = vec_fma(p, t, vec_set(-1.26542365f));
    vec tail = vec_exp(vec_fma(vec_sub(vec_set(0.0f), z), z, p));
    return vec_mul(vec_mul(vec_set(0.5f), t), tail);
}

/* x times the standard normal distribution below x: x - x tail above 0, -|x| tail below. */
static inline vec vec_gelu(vec x) {
    vec zero = vec_set(0.0f), positive = vec_max(zero, x);
    vec magnitude = vec_max(vec_sub(zero, x), x);
    vec z = vec_min(vec_set(10.0f), vec_mul(magnitude, vec_set(0.707106781f)));
    return vec_sub(positive, vec_mul(magnitude, vec_normal_tail(z)));
}

static inline vec vec_act(tl_act act, vec x) {
    switch (act) {
    case TL_ACT_NONE:
        return x;
    case TL_ACT_RELU:
        return vec_max(vec_set(0.0f), x);
    case TL_ACT_RELU6:
        return vec_clamp(x, 0.0f, 6.0f);
    case TL_ACT_SIGMOID:
        return vec_sigmoid(x);
    case TL_ACT_SILU:
        return vec_mul(x, vec_sigmoid(x));
    case TL_ACT_HARD_SWISH:
        return vec_mul(
            x, vec_mul(vec_clamp(vec_add(x, vec_set(3.0f)), 0.0f, 6.0f), vec_set(1.0f / 6.0f)));
    case TL_ACT_HARD_SIGMOID:
        return vec_mul(vec_clamp(vec_add(x, vec_set(3.0f)), 0.0f, 6.0f), vec_set(1.0f / 6.0f));
    case TL_ACT_GELU:
        return vec_gelu(x);
    }
    return x;
}

#endif
