/* The reference for activations in bf16: operands are widened, computed with in float as the other
 * files of this folder do, and rounded when they are stored. It is a specification for tests, not
 * offered to users: emulated bf16 is slower than float and no better in any way. */
#include "ref/ref.h"

#include <math.h>
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

static void put(bf16 *to, bool add, float x) {
    *to = rounded(add ? get(*to) + x : x);
}

void tl_ref_widen(const void *from, float *y, int64_t n) {
    const bf16 *x = from;
    for (int64_t i = 0; i < n; i++) y[i] = get(x[i]);
}

void tl_ref_narrow(const float *x, void *to, int64_t n) {
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = rounded(x[i]);
}

/* --- sums of products ------------------------------------------------------------------------- */

enum { GROUP = 2 };

static void group_rows(const void *const *rows, void *to, int64_t n) {
    bf16 *y = to;
    for (int64_t j = 0; j < n * GROUP; j++) {
        const bf16 *row = rows[j % GROUP];
        y[j] = row ? row[j / GROUP] : 0;
    }
}

static void group_floats(const float *const *rows, void *to, int64_t n) {
    bf16 *y = to;
    for (int64_t j = 0; j < n * GROUP; j++) {
        const float *row = rows[j % GROUP];
        y[j] = row ? rounded(row[j / GROUP]) : 0;
    }
}

static float tile_sum(const tl_gemm_tile *t, int row, int column) {
    float sum = 0.0f;
    for (int64_t r = 0; r < t->taps; r++) {
        const bf16 *a = (const bf16 *)t->a[r * TL_REF_MR + row] + t->a_offset;
        const bf16 *b = (const bf16 *)t->b + r * t->b_tap + column * GROUP;
        for (int64_t k = 0; k < t->k; k++)
            sum += get(a[k / GROUP * t->a_step + k % GROUP]) *
                   get(b[k / GROUP * t->b_step + k % GROUP]);
    }
    return sum;
}

static float tile_get(const tl_gemm_tile *t, const void *from, int64_t at) {
    return t->c_float ? ((const float *)from)[at] : get(((const bf16 *)from)[at]);
}

static void tile_finish(const tl_gemm_tile *t, int64_t at, int column, float value) {
    if (t->accumulate) value += tile_get(t, t->c, at);
    if (t->bias) value += t->bias[column];
    if (t->residual) value += tile_get(t, t->residual, at);
    value = tl_ref_act(t->act, value);
    if (t->c_float)
        ((float *)t->c)[at] = value;
    else
        ((bf16 *)t->c)[at] = rounded(value);
}

static void gemm_tile(const tl_gemm_tile *tile, int rows, int columns) {
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++)
            tile_finish(tile, tile->c_row[i] + j, j, tile_sum(tile, i, j));
    }
}

static float depthwise_sum(const tl_depthwise_row *d, int64_t at, int64_t channel) {
    float sum = 0.0f;
    for (int i = 0; i < d->kh; i++) {
        const bf16 *x = (const bf16 *)d->x[i] + at + channel;
        for (int j = 0; j < d->kw; j++)
            sum += get(x[j * d->x_tap]) * d->w[i * d->w_row + j * d->w_tap + channel];
    }
    return sum;
}

static void depthwise_row(const tl_depthwise_row *d) {
    const bf16 *residual = d->residual;
    for (int64_t p = 0; p < d->pixels; p++) {
        for (int64_t c = 0; c < d->c; c++) {
            int64_t at = p * d->y_step + c;
            bf16 *y = (bf16 *)d->y + at;
            float value = depthwise_sum(d, p * d->x_step, c);
            if (d->accumulate) value += get(*y);
            if (d->bias) value += d->bias[c];
            if (residual) value += get(residual[at]);
            *y = rounded(tl_ref_act(d->act, value));
        }
    }
}

static void depthwise_tap(const tl_depthwise_grad *g, const bf16 *x, float *dw) {
    const bf16 *dy = g->dy;
    for (int64_t c = 0; c < g->c; c++) {
        float sum = 0.0f;
        for (int64_t p = 0; p < g->pixels; p++)
            sum += get(dy[p * g->dy_step + c]) * get(x[p * g->x_step + c]);
        dw[c] += sum;
    }
}

static void depthwise_grad(const tl_depthwise_grad *g) {
    for (int i = 0; i < g->kh; i++) {
        for (int j = 0; j < g->kw; j++)
            depthwise_tap(g, (const bf16 *)g->x[i] + j * g->x_tap,
                          g->dw + i * g->dw_row + j * g->dw_tap);
    }
}

/* --- element by element ----------------------------------------------------------------------- */

static void act_forward(tl_act act, const void *from, void *to, int64_t n) {
    const bf16 *x = from;
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = rounded(tl_ref_act(act, get(x[i])));
}

static void act_backward(tl_act act, const void *values, const void *slopes, bool add, void *to,
                         int64_t n) {
    const bf16 *v = values, *dy = slopes;
    bf16 *dx = to;
    for (int64_t i = 0; i < n; i++) {
        float value = get(v[i]), slope = get(dy[i]), result;
        tl_ref_act_backward(act, &value, &slope, false, &result, 1);
        put(&dx[i], add, result);
    }
}

static void add(const void *left, const void *right, void *to, int64_t n) {
    const bf16 *a = left, *b = right;
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = rounded(get(a[i]) + get(b[i]));
}

static void mul(const void *left, const void *right, void *to, int64_t n) {
    const bf16 *a = left, *b = right;
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = rounded(get(a[i]) * get(b[i]));
}

static void mul_add(const void *left, const void *right, void *to, int64_t n) {
    const bf16 *a = left, *b = right;
    bf16 *y = to;
    for (int64_t i = 0; i < n; i++) put(&y[i], true, get(a[i]) * get(b[i]));
}

static void scale_shift(const void *from, const float *scale, const float *shift, tl_act act,
                        void *to, int64_t rows, int64_t c) {
    const bf16 *x = from;
    bf16 *y = to;
    for (int64_t i = 0; i < rows * c; i++)
        y[i] = rounded(tl_ref_act(act, get(x[i]) * scale[i % c] + shift[i % c]));
}

static void affine3(const void *slopes, const void *values, const float *a, const float *b,
                    const float *d, bool more, void *to, int64_t rows, int64_t c) {
    const bf16 *dy = slopes, *x = values;
    bf16 *dx = to;
    for (int64_t i = 0; i < rows * c; i++)
        put(&dx[i], more, get(dy[i]) * a[i % c] + get(x[i]) * b[i % c] + d[i % c]);
}

/* --- sums over rows --------------------------------------------------------------------------- */

static void moments(const void *from, const float *center, double *sum, double *sum2, int64_t rows,
                    int64_t c) {
    const bf16 *x = from;
    for (int64_t i = 0; i < rows * c; i++) {
        double value = (double)get(x[i]);
        double centered = center ? value - (double)center[i % c] : value;
        sum[i % c] += value;
        sum2[i % c] += centered * centered;
    }
}

static void moments_backward(const void *values, const void *slopes, const float *center,
                             double *sum_dy, double *sum_dy_x, int64_t rows, int64_t c) {
    const bf16 *x = values, *dy = slopes;
    for (int64_t i = 0; i < rows * c; i++) {
        double slope = (double)get(dy[i]);
        sum_dy[i % c] += slope;
        sum_dy_x[i % c] += slope * ((double)get(x[i]) - (double)center[i % c]);
    }
}

static void row_sums(const void *from, int64_t x_step, double *sum, int64_t rows, int64_t c) {
    const bf16 *x = from;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < c; i++) sum[i] += (double)get(x[r * x_step + i]);
    }
}

/* --- pooling ---------------------------------------------------------------------------------- */

/* Where place number `i` of a window of pixel p lies. */
static int64_t place_at(const tl_pool_row *row, int64_t p, int i) {
    return p * row->x_step + i / row->kw * row->x_row + i % row->kw * row->x_tap;
}

static int place_of(const tl_pool_row *row, int i) {
    return row->first_place + i / row->kw * row->place_row + i % row->kw;
}

static void max_pool(const tl_pool_row *row, const void *in, void *out, uint8_t *winner) {
    const bf16 *x = in;
    bf16 *y = out;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int64_t c = 0; c < row->c; c++) {
            bf16 best = x[place_at(row, p, 0) + c];
            int place = row->first_place;
            for (int i = 0; i < row->kh * row->kw; i++) {
                bf16 value = x[place_at(row, p, i) + c];
                if (!(get(value) > get(best)) && get(value) == get(value)) continue;
                best = value;
                place = place_of(row, i);
            }
            y[p * row->y_step + c] = best;
            if (winner) winner[p * row->y_step + c] = (uint8_t)place;
        }
    }
}

static void max_pool_backward(const tl_pool_row *row, const uint8_t *winner, const void *slopes,
                              void *result) {
    const bf16 *dy = slopes;
    bf16 *dx = result;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int i = 0; i < row->kh * row->kw; i++) {
            for (int64_t c = 0; c < row->c; c++) {
                int64_t at = p * row->y_step + c;
                bool wins = winner[at] == place_of(row, i);
                put(&dx[place_at(row, p, i) + c], true, wins ? get(dy[at]) : 0.0f);
            }
        }
    }
}

static void avg_pool(const tl_pool_row *row, const void *in, void *out) {
    const bf16 *x = in;
    bf16 *y = out;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int64_t c = 0; c < row->c; c++) {
            float sum = 0.0f;
            for (int i = 0; i < row->kh * row->kw; i++) sum += get(x[place_at(row, p, i) + c]);
            y[p * row->y_step + c] = rounded(sum * row->weight);
        }
    }
}

static void avg_pool_backward(const tl_pool_row *row, const void *slopes, void *result) {
    const bf16 *dy = slopes;
    bf16 *dx = result;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int i = 0; i < row->kh * row->kw; i++) {
            for (int64_t c = 0; c < row->c; c++)
                put(&dx[place_at(row, p, i) + c], true, get(dy[p * row->y_step + c]) * row->weight);
        }
    }
}

/* --- softmax ---------------------------------------------------------------------------------- */

static void softmax(const void *in, void *out, int64_t n) {
    const bf16 *x = in;
    bf16 *y = out;
    float largest = get(x[0]);
    for (int64_t i = 1; i < n; i++) largest = get(x[i]) > largest ? get(x[i]) : largest;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)expf(get(x[i]) - largest);
    float scale = (float)(1.0 / sum);
    for (int64_t i = 0; i < n; i++) y[i] = rounded(expf(get(x[i]) - largest) * scale);
}

static void softmax_backward(const void *out, const void *slopes, bool add_to, void *result,
                             int64_t n) {
    const bf16 *y = out, *dy = slopes;
    bf16 *dx = result;
    double dot = 0;
    for (int64_t i = 0; i < n; i++) dot += (double)get(dy[i]) * (double)get(y[i]);
    for (int64_t i = 0; i < n; i++) put(&dx[i], add_to, get(y[i]) * (get(dy[i]) - (float)dot));
}

const struct tl_kernels tl_kernels_ref_bf16 = {
    .name = "ref",
    .element = sizeof(bf16),
    .mr = TL_REF_MR,
    .nr = TL_REF_NR,
    .nr_narrow = TL_REF_NR_NARROW,
    .group = GROUP,
    .group_rows = group_rows,
    .group_floats = group_floats,
    .gemm_begin = tl_ref_gemm_nothing,
    .gemm_tile = gemm_tile,
    .gemm_end = tl_ref_gemm_nothing,
    .depthwise_row = depthwise_row,
    .depthwise_grad = depthwise_grad,
    .widen = tl_ref_widen,
    .narrow = tl_ref_narrow,
    .act_forward = act_forward,
    .act_backward = act_backward,
    .add = add,
    .mul = mul,
    .mul_add = mul_add,
    .scale_shift = scale_shift,
    .moments = moments,
    .moments_backward = moments_backward,
    .affine3 = affine3,
    .row_sums = row_sums,
    .max_pool = max_pool,
    .max_pool_backward = max_pool_backward,
    .avg_pool = avg_pool,
    .avg_pool_backward = avg_pool_backward,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
};
