/* Element-wise kernels and per-channel sums. Plain loops that a compiler vectorises: the
 * activation is a constant inside each of them, and the result may be the operand's own memory. */
#include "for_act.h"
#include "ref/ref.h"

#include <math.h>
#include <string.h>

/* Element i depends on element i alone, so that y == x is no obstacle to vectorising. (clang has
 * no such promise without a demand, which it answers with a warning for loops that call expf.) */
#if defined(__clang__)
#define EACH_BY_ITSELF
#else
#define EACH_BY_ITSELF _Pragma("GCC ivdep")
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

static ALWAYS_INLINE float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

/* Comparisons are such that NaN comes through: a diverged network must not look healthy. */
static ALWAYS_INLINE float clip_below(float x) {
    return x < 0.0f ? 0.0f : x;
}

static ALWAYS_INLINE float clip6(float x) {
    float positive = clip_below(x);
    return positive > 6.0f ? 6.0f : positive;
}

/* The standard normal distribution below x. */
static ALWAYS_INLINE float normal_share(float x) {
    return 0.5f * erfcf(-0.707106781f * x);
}

static ALWAYS_INLINE float act_value(tl_act act, float x) {
    switch (act) {
    case TL_ACT_NONE:
        break;
    case TL_ACT_RELU:
        return clip_below(x);
    case TL_ACT_RELU6:
        return clip6(x);
    case TL_ACT_SIGMOID:
        return sigmoid(x);
    case TL_ACT_SILU:
        return x * sigmoid(x);
    case TL_ACT_HARD_SWISH:
        return x * clip6(x + 3.0f) * (1.0f / 6.0f);
    case TL_ACT_HARD_SIGMOID:
        return clip6(x + 3.0f) * (1.0f / 6.0f);
    case TL_ACT_GELU:
        return x * normal_share(x);
    }
    return x;
}

/* x or 0 without a branch, also where x is NaN: activations are random, a branch on them is
 * mispredicted half of the time, and gcc makes one of `v > 0 ? dy : 0`. */
static ALWAYS_INLINE float x_or_zero(bool keep, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0u - (uint32_t)keep;
    memcpy(&x, &bits, sizeof bits);
    return x;
}

/* dy act'(x) from the output for RELU, RELU6 and the sigmoids, from the input for the others.
 * ReLU6's slope is zero at 6 as in every framework. */
static ALWAYS_INLINE float act_gradient(tl_act act, float v, float dy) {
    switch (act) {
    case TL_ACT_NONE:
        break;
    case TL_ACT_RELU:
        return x_or_zero(v > 0.0f, dy);
    case TL_ACT_RELU6:
        return ((v > 0.0f) & (v < 6.0f)) ? dy : 0.0f;
    case TL_ACT_SIGMOID:
        return dy * (v * (1.0f - v));
    case TL_ACT_SILU: {
        float s = sigmoid(v);
        return dy * (s * (1.0f + v * (1.0f - s)));
    }
    case TL_ACT_HARD_SWISH: {
        float middle = dy * (v * (1.0f / 3.0f) + 0.5f);
        return x_or_zero(v > -3.0f, v < 3.0f ? middle : dy);
    }
    case TL_ACT_HARD_SIGMOID:
        return ((v > 0.0f) & (v < 1.0f)) ? dy * (1.0f / 6.0f) : 0.0f;
    case TL_ACT_GELU: /* 0.3989... = 1 / sqrt(2 pi) */
        return dy * (normal_share(v) + v * 0.398942280f * expf(-0.5f * v * v));
    }
    return dy;
}

float tl_ref_act(tl_act act, float x) {
    return act_value(act, x);
}

static ALWAYS_INLINE void forward_loop(tl_act act, const float *x, float *y, int64_t n) {
    EACH_BY_ITSELF
    for (int64_t i = 0; i < n; i++) y[i] = act_value(act, x[i]);
}

void tl_ref_act_forward(tl_act act, const void *x, void *y, int64_t n) {
#define LOOP(constant) forward_loop(constant, x, y, n)
    FOR_ACT(act, LOOP)
#undef LOOP
}

static ALWAYS_INLINE void backward_loop(tl_act act, const float *v, const float *dy, bool add,
                                        float *dx, int64_t n) {
    if (add) {
        EACH_BY_ITSELF
        for (int64_t i = 0; i < n; i++) dx[i] += act_gradient(act, v[i], dy[i]);
    } else {
        EACH_BY_ITSELF
        for (int64_t i = 0; i < n; i++) dx[i] = act_gradient(act, v[i], dy[i]);
    }
}

void tl_ref_act_backward(tl_act act, const void *v, const void *dy, bool add, void *dx, int64_t n) {
#define LOOP(constant) backward_loop(constant, v, dy, add, dx, n)
    FOR_ACT(act, LOOP)
#undef LOOP
}

void tl_ref_add(const void *left, const void *right, void *result, int64_t n) {
    const float *a = left, *b = right;
    float *y = result;
    EACH_BY_ITSELF
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

void tl_ref_mul(const void *left, const void *right, void *result, int64_t n) {
    const float *a = left, *b = right;
    float *y = result;
    EACH_BY_ITSELF
    for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

static ALWAYS_INLINE void scale_shift_loop(tl_act act, const float *x, const float *scale,
                                           const float *shift, const float *residual, float *y,
                                           int64_t rows, int64_t c) {
    for (int64_t r = 0; r < rows; r++) {
        EACH_BY_ITSELF
        for (int64_t i = 0; i < c; i++) {
            float value = x[r * c + i] * scale[i] + shift[i];
            y[r * c + i] = act_value(act, residual ? value + residual[r * c + i] : value);
        }
    }
}

void tl_ref_scale_shift(const void *x, const float *scale, const float *shift, const void *residual,
                        tl_act act, void *y, int64_t rows, int64_t c) {
#define LOOP(constant) scale_shift_loop(constant, x, scale, shift, residual, y, rows, c)
    FOR_ACT(act, LOOP)
#undef LOOP
}

void tl_ref_moments(const void *from, double *sum, double *sum2, int64_t rows, int64_t c) {
    const float *x = from;
    for (int64_t r = 0; r < rows; r++, x += c) {
        EACH_BY_ITSELF
        for (int64_t i = 0; i < c; i++) {
            double value = (double)x[i];
            sum[i] += value;
            sum2[i] += value * value;
        }
    }
}

/* Of element `at`, of channel i. */
static ALWAYS_INLINE float slope_at(const tl_slopes *s, int64_t at, int64_t i) {
    const float *x = s->x, *dy = s->dy, *v = s->v;
    float *dz = s->dz, slope = dy[at];
    if (s->act != TL_ACT_NONE) {
        float value = v ? v[at] : x[at] * s->scale[i] + s->shift[i];
        slope = act_gradient(s->act == TL_ACT_RELU ? TL_ACT_RELU : TL_ACT_RELU6, value, slope);
    }
    if (dz) dz[at] = slope;
    return slope;
}

void tl_ref_moments_backward(const tl_slopes *slopes, const float *center, double *sum,
                             double *sum_x, int64_t rows, int64_t c) {
    const float *x = slopes->x;
    for (int64_t at = 0; at < rows * c;) {
        for (int64_t i = 0; i < c; i++, at++) {
            double slope = (double)slope_at(slopes, at, i);
            sum[i] += slope;
            sum_x[i] += slope * ((double)x[at] - (double)center[i]);
        }
    }
}

void tl_ref_affine3(const tl_slopes *slopes, const float *a, const float *b, const float *d,
                    bool add, void *result, int64_t rows, int64_t c) {
    const float *x = slopes->x;
    float *dx = result;
    for (int64_t at = 0; at < rows * c;) {
        for (int64_t i = 0; i < c; i++, at++) {
            float value = slope_at(slopes, at, i) * a[i] + x[at] * b[i] + d[i];
            dx[at] = add ? dx[at] + value : value;
        }
    }
}

void tl_ref_row_sums(const void *from, int64_t x_step, double *sum, int64_t rows, int64_t c) {
    const float *x = from;
    for (int64_t r = 0; r < rows; r++, x += x_step) {
        EACH_BY_ITSELF
        for (int64_t i = 0; i < c; i++) sum[i] += (double)x[i];
    }
}
