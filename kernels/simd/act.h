/* Activations on vectors, for whichever vec.h was included before. NaN goes through all of them
 * (the operand order of vec_max and vec_min sees to it), so that a diverged run is noticed. */
#ifndef TL_KERNELS_SIMD_ACT_H
#define TL_KERNELS_SIMD_ACT_H

#include "kernels.h"

static inline vec vec_clamp(vec x, float low, float high) {
    return vec_min(vec_set(high), vec_max(vec_set(low), x));
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2. There 1 + r + r^2 q(r) with q of degree 4 is within 3.1e-9 of
 * e^r (relative; the coefficients minimise the largest error), so that what remains is rounding:
 * at most 0.9 units in the last place over all floats. ln 2 is subtracted in two
 * parts, the first of which has few bits: n times it is exact. Infinite above 88.72, 0 below
 * -103.97, as expf(). */
static inline vec vec_exp(vec x) {
    x = vec_clamp(x, -104.0f, 89.0f);
    vec n = vec_round(vec_mul(x, vec_set(1.44269504f)));
    vec r = vec_fma(n, vec_set(-0.693359375f), x);
    r = vec_fma(n, vec_set(2.12194440e-4f), r);
    vec y = vec_set(1.381459847e-3f);
    y = vec_fma(y, r, vec_set(8.368716887e-3f));
    y = vec_fma(y, r, vec_set(4.166838805e-2f));
    y = vec_fma(y, r, vec_set(1.666652063e-1f));
    y = vec_fma(y, r, vec_set(4.999999345e-1f));
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

static inline vec vec_magnitude(vec x) {
    return vec_max(vec_sub(vec_set(0.0f), x), x);
}

/* The standard normal distribution beyond |x|. */
static inline vec vec_normal_beyond(vec x) {
    return vec_normal_tail(
        vec_min(vec_set(10.0f), vec_mul(vec_magnitude(x), vec_set(0.707106781f))));
}

/* x times the standard normal distribution below x: x - x tail above 0, -|x| tail below. */
static inline vec vec_gelu(vec x) {
    vec positive = vec_max(vec_set(0.0f), x);
    return vec_sub(positive, vec_mul(vec_magnitude(x), vec_normal_beyond(x)));
}

/* Its slope: the distribution below x, and x times the density there, e^(-x^2 / 2) / sqrt(2 pi). */
static inline vec vec_gelu_slope(vec x) {
    vec beyond = vec_normal_beyond(x);
    vec below = vec_pick(vec_greater(x, vec_set(0.0f)), vec_sub(vec_set(1.0f), beyond), beyond);
    vec density = vec_exp(vec_mul(vec_mul(vec_set(-0.5f), x), x));
    return vec_fma(vec_mul(x, vec_set(0.398942280f)), density, below);
}

/* dy where v is between 0 and high, elsewhere 0. */
static inline vec vec_pass_between(vec v, float high, vec dy) {
    vec zero = vec_set(0.0f);
    dy = vec_pick(vec_greater(vec_set(high), v), dy, zero);
    return vec_pick(vec_greater(v, zero), dy, zero);
}

/* The activations that are built on the exponential: many times as long as the others. */
static inline bool act_is_smooth(tl_act act) {
    return act == TL_ACT_SIGMOID || act == TL_ACT_SILU || act == TL_ACT_GELU;
}

static inline vec vec_act_smooth(tl_act act, vec x) {
    if (act == TL_ACT_SIGMOID) return vec_sigmoid(x);
    if (act == TL_ACT_SILU) return vec_mul(x, vec_sigmoid(x));
    return vec_gelu(x);
}

/* The others, made of straight lines. */
static inline vec vec_act_straight(tl_act act, vec x) {
    if (act == TL_ACT_RELU) return vec_max(vec_set(0.0f), x);
    if (act == TL_ACT_RELU6) return vec_clamp(x, 0.0f, 6.0f);
    if (act != TL_ACT_HARD_SWISH && act != TL_ACT_HARD_SIGMOID) return x;
    vec slope = vec_mul(vec_clamp(vec_add(x, vec_set(3.0f)), 0.0f, 6.0f), vec_set(1.0f / 6.0f));
    return act == TL_ACT_HARD_SWISH ? vec_mul(x, slope) : slope;
}

/* For a loop of which `act` is a constant. */
static inline vec vec_act_inside(tl_act act, vec x) {
    return act_is_smooth(act) ? vec_act_smooth(act, x) : vec_act_straight(act, x);
}

static __attribute__((noinline)) vec vec_act_call(tl_act act, vec x) {
    return vec_act_smooth(act, x);
}

/* For a tile's epilogue, of which there are many. A call empties the registers: not for a loop that
 * keeps its operands there. */
static inline vec vec_act(tl_act act, vec x) {
    return act_is_smooth(act) ? vec_act_call(act, x) : vec_act_straight(act, x);
}

/* dy act'(x) from the output for RELU, RELU6 and the sigmoids, from the input for the others. */
static inline vec vec_act_gradient(tl_act act, vec v, vec dy) {
    vec zero = vec_set(0.0f), one = vec_set(1.0f);
    switch (act) {
    case TL_ACT_NONE:
        return dy;
    case TL_ACT_RELU:
        return vec_pick(vec_greater(v, zero), dy, zero);
    case TL_ACT_RELU6:
        return vec_pass_between(v, 6.0f, dy);
    case TL_ACT_SIGMOID:
        return vec_mul(dy, vec_mul(v, vec_sub(one, v)));
    case TL_ACT_SILU: {
        vec s = vec_sigmoid(v);
        return vec_mul(dy, vec_mul(s, vec_fma(v, vec_sub(one, s), one)));
    }
    case TL_ACT_HARD_SWISH: {
        vec middle = vec_mul(dy, vec_fma(v, vec_set(1.0f / 3.0f), vec_set(0.5f)));
        dy = vec_pick(vec_greater(vec_set(3.0f), v), middle, dy);
        return vec_pick(vec_greater(v, vec_set(-3.0f)), dy, zero);
    }
    case TL_ACT_HARD_SIGMOID:
        return vec_pass_between(v, 1.0f, vec_mul(dy, vec_set(1.0f / 6.0f)));
    case TL_ACT_GELU:
        return vec_mul(dy, vec_gelu_slope(v));
    }
    return dy;
}

#endif
