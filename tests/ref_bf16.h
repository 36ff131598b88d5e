/* The reference for activations in bf16, of which tl_ref_widen() and tl_ref_narrow() are in the
 * library: operands are widened, computed with in float as kernels/ref does, and rounded when they
 * are stored. It is a specification, not offered to users: emulated bf16 is slower than float and
 * no better in any way. */
#ifndef TL_TESTS_REF_BF16_H
#define TL_TESTS_REF_BF16_H

#include <math.h>
#include <string.h>

#include "ref/ref.h"

typedef uint16_t bf16;

static inline float ref_bf16_get(bf16 x) {
    float value;
    tl_ref_widen(&x, &value, 1);
    return value;
}

static inline bf16 ref_bf16_rounded(float x) {
    bf16 value;
    tl_ref_narrow(&x, &value, 1);
    return value;
}

static inline void ref_bf16_put(bf16 *to, bool add, float x) {
    *to = ref_bf16_rounded(add ? ref_bf16_get(*to) + x : x);
}

/* --- sums of products ------------------------------------------------------------------------- */

enum { REF_BF16_GROUP = 2 };

static inline void ref_bf16_group_rows(const void *const *rows, int64_t from, int64_t groups,
                                       int64_t n, void *to, int64_t y_step) {
    bf16 *y = to;
    for (int64_t g = 0; g < groups; g++, rows += REF_BF16_GROUP, y += y_step) {
        for (int64_t j = 0; j < n * REF_BF16_GROUP; j++) {
            const bf16 *row = rows[j % REF_BF16_GROUP];
            y[j] = row ? row[from + j / REF_BF16_GROUP] : 0;
        }
    }
}

static inline void ref_bf16_group_floats(const float *x, int64_t x_step, int64_t count, void *to,
                                         int64_t n) {
    bf16 *y = to;
    for (int64_t i = 0; i < count; i += REF_BF16_GROUP, y += n * REF_BF16_GROUP) {
        for (int64_t j = 0; j < n * REF_BF16_GROUP; j++) {
            int64_t row = i + j % REF_BF16_GROUP;
            y[j] = row < count ? ref_bf16_rounded(x[row * x_step + j / REF_BF16_GROUP]) : 0;
        }
    }
}

static inline float ref_bf16_tile_sum(const tl_gemm_tile *t, int64_t row, int column) {
    float sum = 0.0f;
    for (int64_t r = 0; r < t->taps; r++) {
        const void *first = t->a[r * TL_REF_MR + (t->a_row ? 0 : row)];
        const bf16 *a = (const bf16 *)first + t->a_offset + row * t->a_row;
        const bf16 *b = (const bf16 *)t->b + r * t->b_tap + column * REF_BF16_GROUP;
        for (int64_t k = 0; k < t->k; k++)
            sum += ref_bf16_get(a[k / REF_BF16_GROUP * t->a_step + k % REF_BF16_GROUP]) *
                   ref_bf16_get(b[k / REF_BF16_GROUP * t->b_step + k % REF_BF16_GROUP]);
    }
    return sum;
}

/* In an epilogue: all but clamps are of the sum as it would be stored. */
static inline float ref_bf16_act(tl_act act, float sum) {
    return tl_ref_act(act, act > TL_ACT_RELU6 ? ref_bf16_get(ref_bf16_rounded(sum)) : sum);
}

static inline float ref_bf16_tile_get(const tl_gemm_tile *t, const void *from, int64_t at) {
    return t->c_float ? ((const float *)from)[at] : ref_bf16_get(((const bf16 *)from)[at]);
}

static inline void ref_bf16_tile_finish(const tl_gemm_tile *t, int64_t at, int column,
                                        float value) {
    if (t->accumulate) value += ref_bf16_tile_get(t, t->c, at);
    if (t->bias) value += t->bias[column];
    if (t->residual) value += ref_bf16_tile_get(t, t->residual, at);
    value = ref_bf16_act(t->act, value);
    if (t->c_float)
        ((float *)t->c)[at] = value;
    else
        ((bf16 *)t->c)[at] = ref_bf16_rounded(value);
}

static inline void ref_bf16_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns) {
    for (int64_t i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++)
            ref_bf16_tile_finish(tile, tl_gemm_place(tile, i) + j, j,
                                 ref_bf16_tile_sum(tile, i, j));
    }
}

static inline float ref_bf16_depthwise_sum(const tl_depthwise_row *d, int row, int64_t pixel,
                                           int64_t channel) {
    float sum = 0.0f;
    for (int i = 0; i < d->kh; i++) {
        const bf16 *x = d->x[row * d->row_step + i];
        for (int j = 0; j < d->kw; j++) {
            int64_t column = d->first + pixel * d->step + j * d->tap;
            if (!x || column < 0 || column >= d->width) continue;
            sum += ref_bf16_get(x[column * d->x_pixel + channel]) *
                   d->w[i * d->w_row + j * d->w_tap + channel];
        }
    }
    return sum;
}

static inline void ref_bf16_depthwise_row(const tl_depthwise_row *d) {
    const bf16 *residual = d->residual;
    for (int64_t i = 0; i < d->rows * d->pixels; i++) {
        int row = (int)(i / d->pixels);
        for (int64_t c = 0; c < d->c; c++) {
            int64_t at = row * d->y_row + i % d->pixels * d->y_pixel + c;
            bf16 *y = (bf16 *)d->y + at;
            float value = ref_bf16_depthwise_sum(d, row, i % d->pixels, c);
            if (d->accumulate) value += ref_bf16_get(*y);
            if (d->bias) value += d->bias[c];
            if (residual) value += ref_bf16_get(residual[at]);
            *y = ref_bf16_rounded(ref_bf16_act(d->act, value));
        }
    }
}

static inline void ref_bf16_depthwise_tap(const tl_depthwise_grad *g, const bf16 *x, float *dw) {
    const bf16 *dy = g->dy;
    for (int64_t c = 0; c < g->c; c++) {
        float sum = 0.0f;
        for (int64_t p = 0; p < g->pixels; p++)
            sum += ref_bf16_get(dy[p * g->dy_step + c]) * ref_bf16_get(x[p * g->x_step + c]);
        dw[c] += sum;
    }
}

static inline void ref_bf16_depthwise_grad(const tl_depthwise_grad *g) {
    for (int i = 0; i < g->kh; i++) {
        for (int j = 0; j < g->kw; j++)
            ref_bf16_depthwise_tap(g, (const bf16 *)g->x[i] + j * g->x_tap,
                                   g->dw + i * g->dw_row + j * g->dw_tap);
    }
}

/* --- element by element ----------------------------------------------------------------------- */

static inline void ref_bf16_act_forward(tl_act act, const void *from, void *to, int64_t n) {
    const bf16 *x = from;
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = ref_bf16_rounded(tl_ref_act(act, ref_bf16_get(x[i])));
}

static inline void ref_bf16_act_backward(tl_act act, const void *values, const void *slopes,
                                         bool ref_bf16_add, void *to, int64_t n) {
    const bf16 *v = values, *dy = slopes;
    bf16 *dx = to;
    for (int64_t i = 0; i < n; i++) {
        float value = ref_bf16_get(v[i]), slope = ref_bf16_get(dy[i]), result;
        tl_ref_act_backward(act, &value, &slope, false, &result, 1);
        ref_bf16_put(&dx[i], ref_bf16_add, result);
    }
}

static inline void ref_bf16_add(const void *left, const void *right, void *to, int64_t n) {
    const bf16 *a = left, *b = right;
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++)
        y[i] = ref_bf16_rounded(ref_bf16_get(a[i]) + ref_bf16_get(b[i]));
}

static inline void ref_bf16_mul(const void *left, const void *right, void *to, int64_t n) {
    const bf16 *a = left, *b = right;
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++)
        y[i] = ref_bf16_rounded(ref_bf16_get(a[i]) * ref_bf16_get(b[i]));
}

static inline void ref_bf16_scale_shift(const void *from, const float *scale, const float *shift,
                                        const void *more, tl_act act, void *to, int64_t rows,
                                        int64_t c) {
    const bf16 *x = from, *residual = more;
    bf16 *y = to;
    for (int64_t i = 0; i < rows * c; i++) {
        float value = ref_bf16_get(x[i]) * scale[i % c] + shift[i % c];
        if (residual) value += ref_bf16_get(residual[i]);
        y[i] = ref_bf16_rounded(tl_ref_act(act, value));
    }
}

static inline float ref_bf16_slope(const tl_slopes *s, int64_t i, int64_t c) {
    const bf16 *x = s->x, *v = s->v;
    bf16 slope = ((const bf16 *)s->dy)[i];
    if (s->act != TL_ACT_NONE) {
        float value = v ? ref_bf16_get(v[i])
                        : ref_bf16_get(ref_bf16_rounded(ref_bf16_get(x[i]) * s->scale[i % c] +
                                                        s->shift[i % c]));
        if (!(value > 0.0f) || (s->act == TL_ACT_RELU6 && !(value < 6.0f))) slope = 0;
    }
    if (s->dz) ((bf16 *)s->dz)[i] = slope;
    return ref_bf16_get(slope);
}

static inline void ref_bf16_affine3(const tl_slopes *s, const float *a, const float *b,
                                    const float *d, bool more, void *to, int64_t rows, int64_t c) {
    const bf16 *x = s->x;
    bf16 *dx = to;
    for (int64_t i = 0; i < rows * c; i++)
        ref_bf16_put(&dx[i], more,
                     ref_bf16_slope(s, i, c) * a[i % c] + ref_bf16_get(x[i]) * b[i % c] + d[i % c]);
}

/* --- sums over rows --------------------------------------------------------------------------- */

static inline void ref_bf16_moments(const void *from, double *sum, double *sum2, int64_t rows,
                                    int64_t c) {
    const bf16 *x = from;
    for (int64_t i = 0; i < rows * c; i++) {
        double value = (double)ref_bf16_get(x[i]);
        sum[i % c] += value;
        sum2[i % c] += value * value;
    }
}

static inline void ref_bf16_moments_backward(const tl_slopes *s, const float *center, double *sum,
                                             double *sum_x, int64_t rows, int64_t c) {
    const bf16 *x = s->x;
    for (int64_t i = 0; i < rows * c; i++) {
        double slope = (double)ref_bf16_slope(s, i, c);
        sum[i % c] += slope;
        sum_x[i % c] += slope * ((double)ref_bf16_get(x[i]) - (double)center[i % c]);
    }
}

static inline void ref_bf16_row_sums(const void *from, int64_t x_step, double *sum, int64_t rows,
                                     int64_t c) {
    const bf16 *x = from;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < c; i++) sum[i] += (double)ref_bf16_get(x[r * x_step + i]);
    }
}

/* --- Winograd's method, of small tiles: one channel at a time by the reference of floats
 * ----------
 */

static inline void ref_bf16_winograd_put(void *to, int64_t v_step, int64_t channel, int group,
                                         int lane, const float *points) {
    bf16 *v = (bf16 *)to + channel * group;
    for (int p = 0; p < 16; p++) {
        for (int i = 0; lane == 0 && i < group; i++) v[p * v_step + i] = 0;
        v[p * v_step + lane] = ref_bf16_rounded(points[p]);
    }
}

static inline void ref_bf16_winograd_factor(const tl_winograd_input *t, int pixels,
                                            void (*transform)(const tl_winograd_input *)) {
    for (int64_t c = 0; c < t->c; c++) {
        float x[16], v[16];
        const void *of[16];
        for (int i = 0; i < pixels; i++) {
            x[i] = ref_bf16_get(((const bf16 *)t->x[i])[t->first + c]);
            of[i] = &x[i];
        }
        tl_winograd_input call = {.f = t->f, .x = of, .v = v, .v_step = 1, .c = 1};
        transform(&call);
        int group = t->grouped ? REF_BF16_GROUP : 1;
        ref_bf16_winograd_put(t->v, t->v_step, c, group, t->lane, v);
    }
}

static inline void ref_bf16_winograd_input(const tl_winograd_input *t) {
    ref_bf16_winograd_factor(t, 16, tl_ref_winograd_input);
}

static inline void ref_bf16_winograd_gradient(const tl_winograd_input *t) {
    ref_bf16_winograd_factor(t, 4, tl_ref_winograd_gradient);
}

static inline void ref_bf16_winograd_weights(const tl_winograd_weights *t) {
    for (int64_t c = 0; c < t->c; c++) {
        float v[16];
        tl_winograd_weights call = {
            .f = t->f, .w = t->w + c, .w_tap = t->w_tap, .v = v, .v_step = 1, .c = 1};
        tl_ref_winograd_weights(&call);
        ref_bf16_winograd_put(t->v, t->v_step, c, REF_BF16_GROUP, t->lane, v);
    }
}

static inline void ref_bf16_winograd_output(const tl_winograd_output *t) {
    for (int64_t c = 0; c < t->c; c++) {
        float y[4], residual[4];
        int64_t y_at[4];
        for (int i = 0; i < 4; i++) {
            y_at[i] = t->y_at[i] < 0 ? -1 : i;
            if (y_at[i] < 0) continue;
            y[i] = ref_bf16_get(((const bf16 *)t->y)[t->y_at[i] + c]);
            if (t->residual)
                residual[i] = ref_bf16_get(((const bf16 *)t->residual)[t->y_at[i] + c]);
        }
        tl_winograd_output call = *t;
        call.act = TL_ACT_NONE;
        call.t += c;
        call.c = 1;
        call.y = y;
        call.y_at = y_at;
        if (t->bias) call.bias += c;
        if (t->residual) call.residual = residual;
        tl_ref_winograd_output(&call);
        for (int i = 0; i < 4; i++)
            if (y_at[i] >= 0)
                ((bf16 *)t->y)[t->y_at[i] + c] = ref_bf16_rounded(ref_bf16_act(t->act, y[i]));
    }
}

/* --- pooling ---------------------------------------------------------------------------------- */

/* Where place number `i` of a window of pixel p lies. */
static inline int64_t ref_bf16_place_at(const tl_pool_row *row, int64_t p, int i) {
    return p * row->x_step + i / row->kw * row->x_row + i % row->kw * row->x_tap;
}

static inline int ref_bf16_place_of(const tl_pool_row *row, int i) {
    return row->first_place + i / row->kw * row->place_row + i % row->kw;
}

static inline void ref_bf16_max_pool(const tl_pool_row *row, const void *in, void *out,
                                     uint8_t *winner) {
    const bf16 *x = in;
    bf16 *y = out;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int64_t c = 0; c < row->c; c++) {
            bf16 best = x[ref_bf16_place_at(row, p, 0) + c];
            int place = row->first_place;
            for (int i = 0; i < row->kh * row->kw; i++) {
                bf16 value = x[ref_bf16_place_at(row, p, i) + c];
                if (!(ref_bf16_get(value) > ref_bf16_get(best)) &&
                    ref_bf16_get(value) == ref_bf16_get(value))
                    continue;
                best = value;
                place = ref_bf16_place_of(row, i);
            }
            float largest = ref_bf16_get(best), high = row->act == TL_ACT_RELU6 ? 6.0f : INFINITY;
            if (row->act != TL_ACT_NONE && !(largest > 0.0f && largest < high)) {
                place = TL_NO_PLACE;
                if (largest <= 0.0f) best = 0;
                if (largest >= high) ref_bf16_put(&best, false, high);
            }
            y[p * row->y_step + c] = best;
            if (winner) winner[p * row->y_step + c] = (uint8_t)place;
        }
    }
}

static inline void ref_bf16_max_pool_backward(const tl_pool_row *row, const uint8_t *winner,
                                              const void *slopes, void *result) {
    const bf16 *dy = slopes;
    bf16 *dx = result;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int i = 0; i < row->kh * row->kw; i++) {
            for (int64_t c = 0; c < row->c; c++) {
                int64_t at = p * row->y_step + c;
                bool wins = winner[at] == ref_bf16_place_of(row, i);
                ref_bf16_put(&dx[ref_bf16_place_at(row, p, i) + c], true,
                             wins ? ref_bf16_get(dy[at]) : 0.0f);
            }
        }
    }
}

static inline void ref_bf16_avg_pool(const tl_pool_row *row, const void *in, void *out) {
    const bf16 *x = in;
    bf16 *y = out;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int64_t c = 0; c < row->c; c++) {
            float sum = 0.0f;
            for (int i = 0; i < row->kh * row->kw; i++)
                sum += ref_bf16_get(x[ref_bf16_place_at(row, p, i) + c]);
            y[p * row->y_step + c] = ref_bf16_rounded(sum * row->weight);
        }
    }
}

static inline void ref_bf16_avg_pool_backward(const tl_pool_row *row, const void *slopes,
                                              void *result) {
    const bf16 *dy = slopes;
    bf16 *dx = result;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int i = 0; i < row->kh * row->kw; i++) {
            for (int64_t c = 0; c < row->c; c++)
                ref_bf16_put(&dx[ref_bf16_place_at(row, p, i) + c], true,
                             ref_bf16_get(dy[p * row->y_step + c]) * row->weight);
        }
    }
}

/* --- softmax ---------------------------------------------------------------------------------- */

static inline void ref_bf16_softmax(const void *in, void *out, int64_t n) {
    const bf16 *x = in;
    bf16 *y = out;
    float largest = ref_bf16_get(x[0]);
    for (int64_t i = 1; i < n; i++)
        largest = ref_bf16_get(x[i]) > largest ? ref_bf16_get(x[i]) : largest;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)expf(ref_bf16_get(x[i]) - largest);
    float scale = (float)(1.0 / sum);
    for (int64_t i = 0; i < n; i++)
        y[i] = ref_bf16_rounded(expf(ref_bf16_get(x[i]) - largest) * scale);
}

static inline void ref_bf16_softmax_backward(const void *out, const void *slopes, bool add_to,
                                             void *result, int64_t n) {
    const bf16 *y = out, *dy = slopes;
    bf16 *dx = result;
    double dot = 0;
    for (int64_t i = 0; i < n; i++) dot += (double)ref_bf16_get(dy[i]) * (double)ref_bf16_get(y[i]);
    for (int64_t i = 0; i < n; i++)
        ref_bf16_put(&dx[i], add_to, ref_bf16_get(y[i]) * (ref_bf16_get(dy[i]) - (float)dot));
}

/* All of a table but its name, the tile and Winograd's method. */
#define REF_BF16_ROWS                                                                              \
    .element = sizeof(bf16), .group = REF_BF16_GROUP, .group_rows = ref_bf16_group_rows,           \
    .group_floats = ref_bf16_group_floats, .depthwise_row = ref_bf16_depthwise_row,                \
    .depthwise_grad = ref_bf16_depthwise_grad, .widen = tl_ref_widen, .narrow = tl_ref_narrow,     \
    .act_forward = ref_bf16_act_forward, .act_backward = ref_bf16_act_backward,                    \
    .add = ref_bf16_add, .mul = ref_bf16_mul, .scale_shift = ref_bf16_scale_shift,                 \
    .moments = ref_bf16_moments, .moments_backward = ref_bf16_moments_backward,                    \
    .affine3 = ref_bf16_affine3, .row_sums = ref_bf16_row_sums, .max_pool = ref_bf16_max_pool,     \
    .max_pool_backward = ref_bf16_max_pool_backward, .avg_pool = ref_bf16_avg_pool,                \
    .avg_pool_backward = ref_bf16_avg_pool_backward, .softmax = ref_bf16_softmax,                  \
    .softmax_backward = ref_bf16_softmax_backward

static const struct tl_kernels ref_bf16 = {
    REF_BF16_ROWS,
    .winograd_input = ref_bf16_winograd_input,
    .winograd_output = ref_bf16_winograd_output,
    .winograd_weights = ref_bf16_winograd_weights,
    .winograd_gradient = ref_bf16_winograd_gradient,
    .winograd_filter = tl_ref_winograd_filter,
    .name = "ref",
    .mr = TL_REF_MR,
    .nr = TL_REF_NR,
    .nr_narrow = TL_REF_NR_NARROW,
    .gemm_begin = tl_ref_gemm_nothing,
    .gemm_tile = ref_bf16_gemm_tile,
    .gemm_end = tl_ref_gemm_nothing,
};

#endif
