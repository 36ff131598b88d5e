/* Depthwise convolution for whichever vec.h was included before. Channels run along the vector;
 * neighbouring pixels are computed together so that each weight, and at stride 1 or 2 each
 * input column, is loaded once for several of them. */
#ifndef TL_KERNELS_SIMD_DEPTHWISE_H
#define TL_KERNELS_SIMD_DEPTHWISE_H

#include "kernels.h"
#include "simd/act.h"
#include "simd/unroll.h"

#define DEPTHWISE_INLINE static inline __attribute__((always_inline))

/* Pixels computed together, and the largest kernel whose loops are unrolled. */
enum { DW_PIXELS = 4, DW_MAX = 5 };

/* Stores the sums of `pixels` pixels of one vector of channels. */
DEPTHWISE_INLINE void depthwise_finish(const tl_depthwise_row *d, int64_t pixel, int64_t channel,
                                       const int pixels, vec_mask mask, vec *sum) {
    vec bias = d->bias ? vec_load_first(d->bias + channel, mask) : vec_set(0.0f);
    UNROLL
    for (int p = 0; p < pixels; p++) {
        int64_t at = (pixel + p) * d->y_step + channel;
        elem *y = (elem *)d->y + at;
        vec value = vec_add(sum[p], bias);
        if (d->accumulate) value = vec_add(value, elem_load_first(y, mask));
        if (d->residual)
            value = vec_add(value, elem_load_first((const elem *)d->residual + at, mask));
        elem_store_first(y, mask, vec_act_straight(d->act, value));
    }
}

/* Any kernel size and step. */
DEPTHWISE_INLINE void depthwise_pixels(const tl_depthwise_row *d, int64_t pixel, int64_t channel,
                                       const int pixels, vec_mask mask) {
    vec sum[DW_PIXELS];
    for (int p = 0; p < pixels; p++) sum[p] = vec_set(0.0f);
    for (int i = 0; i < d->kh; i++) {
        const elem *x = (const elem *)d->x[i] + pixel * d->x_step + channel;
        const float *w = d->w + i * d->w_row + channel;
        for (int j = 0; j < d->kw; j++) {
            vec weight = vec_load_first(w + j * d->w_tap, mask);
            UNROLL
            for (int p = 0; p < pixels; p++)
                sum[p] = vec_fma(elem_load_first(x + p * d->x_step, mask), weight, sum[p]);
            x += d->x_tap;
        }
    }
    depthwise_finish(d, pixel, channel, pixels, mask, sum);
}

static void depthwise_any(const tl_depthwise_row *d, int64_t pixel, int64_t channel,
                          vec_mask mask) {
    for (; pixel + DW_PIXELS <= d->pixels; pixel += DW_PIXELS)
        depthwise_pixels(d, pixel, channel, DW_PIXELS, mask);
    for (; pixel < d->pixels; pixel++) depthwise_pixels(d, pixel, channel, 1, mask);
}

/* A size x size kernel whose pixels are `stride` taps apart: column q of the input serves tap
 * q - p * stride of pixel p. The weights stay in registers where these suffice. */
DEPTHWISE_INLINE void depthwise_square(const tl_depthwise_row *d, int64_t channel, const int size,
                                       const int stride, vec_mask mask) {
    vec weight[DW_MAX][DW_MAX];
    UNROLL
    for (int i = 0; i < size; i++) {
        UNROLL
        for (int j = 0; j < size; j++)
            weight[i][j] = vec_load_first(d->w + i * d->w_row + j * d->w_tap + channel, mask);
    }
    int64_t pixel = 0;
    for (; pixel + DW_PIXELS <= d->pixels; pixel += DW_PIXELS) {
        vec sum[DW_PIXELS];
        UNROLL
        for (int p = 0; p < DW_PIXELS; p++) sum[p] = vec_set(0.0f);
        UNROLL
        for (int i = 0; i < size; i++) {
            const elem *x = (const elem *)d->x[i] + pixel * d->x_step + channel;
            UNROLL
            for (int q = 0; q < (DW_PIXELS - 1) * stride + size; q++) {
                vec column = elem_load_first(x + q * d->x_tap, mask);
                UNROLL
                for (int p = 0; p < DW_PIXELS; p++) {
                    int j = q - p * stride;
                    if (j >= 0 && j < size) sum[p] = vec_fma(column, weight[i][j], sum[p]);
                }
            }
        }
        depthwise_finish(d, pixel, channel, DW_PIXELS, mask, sum);
    }
    depthwise_any(d, pixel, channel, mask);
}

/* Whether `size` and `stride` describe the call. */
static inline bool depthwise_is(const tl_depthwise_row *d, int size, int stride) {
    return d->kh == size && d->kw == size && d->x_step == stride * d->x_tap &&
           d->pixels >= DW_PIXELS;
}

/* A smooth activation follows when the row is finished and still in the cache: in the epilogue it
 * would take the registers that hold the weights. */
static inline void depthwise_smooth(const tl_depthwise_row *d) {
    for (int64_t channel = 0; channel < d->c; channel += VEC) {
        vec_mask mask = vec_first(d->c - channel);
        for (int64_t pixel = 0; pixel < d->pixels; pixel++) {
            elem *y = (elem *)d->y + pixel * d->y_step + channel;
            elem_store_first(y, mask, vec_act_call(d->act, elem_load_first(y, mask)));
        }
    }
}

static inline void depthwise_row(const tl_depthwise_row *d) {
    for (int64_t channel = 0; channel < d->c; channel += VEC) {
        vec_mask mask = vec_first(d->c - channel);
        if (depthwise_is(d, 3, 1))
            depthwise_square(d, channel, 3, 1, mask);
        else if (depthwise_is(d, 3, 2))
            depthwise_square(d, channel, 3, 2, mask);
        else if (depthwise_is(d, 5, 1))
            depthwise_square(d, channel, 5, 1, mask);
        else if (depthwise_is(d, 5, 2))
            depthwise_square(d, channel, 5, 2, mask);
        else
            depthwise_any(d, 0, channel, mask);
    }
    if (act_is_smooth(d->act)) depthwise_smooth(d);
}

/* --- the weights' gradient ------------------------------------------------------------------ */

/* One row of taps: `taps` of them, from tap `first`. */
DEPTHWISE_INLINE void depthwise_grad_taps(const tl_depthwise_grad *g, int i, int first,
                                          const int taps, int64_t channel, vec_mask mask) {
    vec sum[DW_MAX];
    UNROLL
    for (int j = 0; j < taps; j++) sum[j] = vec_set(0.0f);
    const elem *x = (const elem *)g->x[i] + first * g->x_tap + channel;
    const elem *dy = (const elem *)g->dy + channel;
    for (int64_t p = 0; p < g->pixels; p++) {
        vec slope = elem_load_first(dy, mask);
        UNROLL
        for (int j = 0; j < taps; j++)
            sum[j] = vec_fma(slope, elem_load_first(x + j * g->x_tap, mask), sum[j]);
        x += g->x_step;
        dy += g->dy_step;
    }
    float *dw = g->dw + i * g->dw_row + first * g->dw_tap + channel;
    UNROLL
    for (int j = 0; j < taps; j++) {
        float *to = dw + j * g->dw_tap;
        vec_store_first(to, mask, vec_add(vec_load_first(to, mask), sum[j]));
    }
}

/* All nine taps of a 3 x 3 kernel in one walk over the row. */
static void depthwise_grad_3x3(const tl_depthwise_grad *g, int64_t channel, vec_mask mask) {
    vec sum[9];
    UNROLL
    for (int t = 0; t < 9; t++) sum[t] = vec_set(0.0f);
    const elem *dy = (const elem *)g->dy + channel;
    for (int64_t p = 0; p < g->pixels; p++) {
        vec slope = elem_load_first(dy + p * g->dy_step, mask);
        UNROLL
        for (int t = 0; t < 9; t++) {
            const elem *x = (const elem *)g->x[t / 3] + p * g->x_step + t % 3 * g->x_tap + channel;
            sum[t] = vec_fma(slope, elem_load_first(x, mask), sum[t]);
        }
    }
    UNROLL
    for (int t = 0; t < 9; t++) {
        float *to = g->dw + t / 3 * g->dw_row + t % 3 * g->dw_tap + channel;
        vec_store_first(to, mask, vec_add(vec_load_first(to, mask), sum[t]));
    }
}

static void depthwise_grad_any(const tl_depthwise_grad *g, int64_t channel, vec_mask mask) {
    for (int i = 0; i < g->kh; i++) {
        int j = 0;
        for (; j + 5 <= g->kw; j += 5) depthwise_grad_taps(g, i, j, 5, channel, mask);
        for (; j + 2 <= g->kw; j += 2) depthwise_grad_taps(g, i, j, 2, channel, mask);
        for (; j < g->kw; j++) depthwise_grad_taps(g, i, j, 1, channel, mask);
    }
}

static inline void depthwise_grad(const tl_depthwise_grad *g) {
    for (int64_t channel = 0; channel < g->c; channel += VEC) {
        vec_mask mask = vec_first(g->c - channel);
        if (g->kh == 3 && g->kw == 3)
            depthwise_grad_3x3(g, channel, mask);
        else
            depthwise_grad_any(g, channel, mask);
    }
}

#endif
