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
    }
    return x;
}

#endif
