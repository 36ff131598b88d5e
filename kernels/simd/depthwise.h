/* Depthwise convolution for whichever vec.h was included before. Channels run along the vector;
 * pixels that are neighbours in a row, or in two, are computed together so that each weight, and
 * with neighbouring taps each input column, is loaded once for several of them. */
#ifndef TL_KERNELS_SIMD_DEPTHWISE_H
#define TL_KERNELS_SIMD_DEPTHWISE_H

#include <math.h>

#include "kernels.h"
#include "simd/act.h"
#include "simd/unroll.h"

#define DEPTHWISE_INLINE static inline __attribute__((always_inline))

/* Pixels of a row computed together: with 32 registers 7, which divide the widths of most networks'
 * maps; the largest kernel that is done in blocks of them; channels in which rows of pixels are
 * walked along, so that the columns that the next pixels share, and the weights, stay in the
 * first-level cache. */
enum {
    DW_PIXELS = VEC == 16 ? 7 : 4,
    DW_ROWS = TL_DEPTHWISE_ROWS,
    DW_MAX = 5,
    DW_CHANNELS = 8 * VEC,
    DW_VECTORS = 4
};

/* Activations that are y = min(high, max(low, x)) are done in registers; the others follow when
 * the rows are finished and still in the cache: they would take the registers that hold weights. */
typedef struct depthwise_clamp {
    float low, high;
} depthwise_clamp;

static inline depthwise_clamp depthwise_clamp_of(tl_act act) {
    depthwise_clamp clamp = {-INFINITY, INFINITY};
    if (act == TL_ACT_RELU || act == TL_ACT_RELU6) clamp.low = 0.0f;
    if (act == TL_ACT_RELU6) clamp.high = 6.0f;
    return clamp;
}

static inline void depthwise_act(const tl_depthwise_row *d) {
    if (d->act <= TL_ACT_RELU6) return;
    for (int64_t i = 0; i < d->rows * d->pixels; i++) {
        elem *y = (elem *)d->y + i / d->pixels * d->y_row + i % d->pixels * d->y_pixel;
        for (int64_t channel = 0; channel < d->c; channel += VEC) {
            vec_mask mask = vec_first(d->c - channel);
            vec value = elem_load_first(y + channel, mask);
            elem_store_first(y + channel, mask, vec_act(d->act, value));
        }
    }
}

/* Adds what lies at y, or the residual, to the sums of some pixels. */
static __attribute__((noinline)) void depthwise_add(const tl_depthwise_row *d, int64_t at,
                                                    int pixels, vec_mask mask, vec *sum) {
    const elem *from[2] = {d->accumulate ? d->y : NULL, d->residual};
    for (int i = 0; i < 2; i++) {
        for (int p = 0; p < pixels && from[i]; p++)
            sum[p] = vec_add(sum[p], elem_load_first(from[i] + (at + p * d->y_pixel), mask));
    }
}

/* Stores the sums of `pixels` pixels of one vector of channels. */
DEPTHWISE_INLINE void depthwise_finish(const tl_depthwise_row *d, int row, int64_t pixel,
                                       int64_t channel, const int pixels, vec_mask mask, vec *sum) {
    vec bias = d->bias ? vec_load_first(d->bias + channel, mask) : vec_set(0.0f);
    int64_t step = d->y_pixel, at = row * d->y_row + pixel * step + channel;
    depthwise_clamp clamp = depthwise_clamp_of(d->act);
    UNROLL
    for (int p = 0; p < pixels; p++) sum[p] = vec_add(sum[p], bias);
    if (d->accumulate || d->residual) {
        vec more[DW_PIXELS];
        for (int p = 0; p < pixels; p++) more[p] = sum[p];
        depthwise_add(d, at, pixels, mask, more);
        for (int p = 0; p < pixels; p++) sum[p] = more[p];
    }
    elem *y = (elem *)d->y + at;
    UNROLL
    for (int p = 0; p < pixels; p++)
        elem_store_first(y + p * step, mask, vec_clamp(sum[p], clamp.low, clamp.high));
}

/* --- any kernel, any step --------------------------------------------------------------------- */

/* Taps [begin, end) of all these pixels lie inside the input. */
DEPTHWISE_INLINE void depthwise_pixels(const tl_depthwise_row *d, int row, int64_t pixel,
                                       int64_t channel, int begin, int end, const int pixels,
                                       vec_mask mask) {
    vec sum[DW_PIXELS];
    int64_t x_step = d->step * d->x_pixel;
    int64_t at = (d->first + pixel * d->step) * d->x_pixel + channel;
    for (int p = 0; p < pixels; p++) sum[p] = vec_set(0.0f);
    for (int i = 0; i < d->kh; i++) {
        const elem *x = d->x[row * d->row_step + i];
        if (!x) continue;
        for (int j = begin; j < end; j++) {
            const elem *tap = x + (at + j * d->tap * d->x_pixel);
            vec weight = vec_load_first(d->w + i * d->w_row + j * d->w_tap + channel, mask);
            UNROLL
            for (int p = 0; p < pixels; p++)
                sum[p] = vec_fma(elem_load_first(tap + p * x_step, mask), weight, sum[p]);
        }
    }
    depthwise_finish(d, row, pixel, channel, pixels, mask, sum);
}

/* One pixel at an edge, DW_VECTORS whole vectors of channels, with taps [begin, end): sums that do
 * not wait for each other, as those of several pixels. */
static void depthwise_pixel(const tl_depthwise_row *d, int row, int64_t pixel, int64_t channel,
                            int begin, int end) {
    vec sum[DW_VECTORS];
    int64_t at = (d->first + pixel * d->step) * d->x_pixel + channel;
    int64_t x_tap = d->tap * d->x_pixel;
    for (int v = 0; v < DW_VECTORS; v++) sum[v] = vec_set(0.0f);
    for (int i = 0; i < d->kh; i++) {
        const elem *x = d->x[row * d->row_step + i];
        if (!x) continue;
        x += at + begin * x_tap;
        const float *w = d->w + i * d->w_row + begin * d->w_tap + channel;
        for (int j = begin; j < end; j++, x += x_tap, w += d->w_tap) {
            UNROLL
            for (int v = 0; v < DW_VECTORS; v++)
                sum[v] = vec_fma(elem_load(x + v * VEC), vec_load(w + v * VEC), sum[v]);
        }
    }
    for (int v = 0; v < DW_VECTORS; v++)
        depthwise_finish(d, row, pixel, channel + v * VEC, 1, vec_all(), &sum[v]);
}

/* The taps [*begin, *end) of a pixel that lie inside; whether these are all. */
static inline bool depthwise_inside(const tl_depthwise_row *d, int64_t pixel, int *begin,
                                    int *end) {
    int64_t column = d->first + pixel * d->step;
    *begin = 0;
    while (*begin < d->kw && column + *begin * d->tap < 0) ++*begin;
    *end = d->kw;
    while (*end > *begin && column + (*end - 1) * d->tap >= d->width) --*end;
    return *begin == 0 && *end == d->kw;
}

/* Pixels [pixel, end), and of these the channels from `from` on. */
static void depthwise_any(const tl_depthwise_row *d, int row, int64_t pixel, int64_t end,
                          int64_t from) {
    while (pixel < end && from < d->c) {
        int first_tap, end_tap, last = end - pixel < DW_PIXELS ? 0 : DW_PIXELS - 1;
        bool inside = depthwise_inside(d, pixel + last, &first_tap, &end_tap);
        bool several = depthwise_inside(d, pixel, &first_tap, &end_tap) && inside && last > 0;
        int64_t channel = from;
        for (; !several && channel + DW_VECTORS * VEC <= d->c; channel += DW_VECTORS * VEC)
            depthwise_pixel(d, row, pixel, channel, first_tap, end_tap);
        for (; channel < d->c; channel += VEC) {
            vec_mask mask = vec_first(d->c - channel);
            if (several)
                depthwise_pixels(d, row, pixel, channel, 0, d->kw, DW_PIXELS, mask);
            else
                depthwise_pixels(d, row, pixel, channel, first_tap, end_tap, 1, mask);
        }
        pixel += several ? DW_PIXELS : 1;
    }
}

/* --- square kernels of neighbouring taps ------------------------------------------------------ */

/* A vector of channels of neighbouring pixels: the input's column under the first of them, which
 * may be negative, how many there are from it on, and where it is in a row. */
typedef struct depthwise_place {
    const elem *const *rows;
    int64_t channel, first, end, at;
} depthwise_place;

/* The weights of a row of taps. */
DEPTHWISE_INLINE void depthwise_weights(const tl_depthwise_row *d, int64_t channel, int row,
                                        const int size, vec *weight) {
    const float *w = d->w + row * d->w_row + channel;
    UNROLL
    for (int j = 0; j < size; j++) weight[j] = vec_load(w + j * d->w_tap);
}

/* Adds the products of input row i with DW_PIXELS pixels of each of the output rows [from, to),
 * which it is under. Column q serves tap q - p * stride of pixel p. */
DEPTHWISE_INLINE void depthwise_taps(const tl_depthwise_row *d, const depthwise_place *place, int i,
                                     const vec *all, const int size, const int stride,
                                     const int from, const int to, vec sum[DW_ROWS][DW_PIXELS]) {
    if (!place->rows[i]) return;
    const elem *x = place->rows[i] + place->at;
    const int columns = (DW_PIXELS - 1) * stride + size;
    vec weight[DW_ROWS][DW_MAX];
    UNROLL
    for (int r = from; r < to; r++) {
        int row = i - r * stride;
        if (!all) depthwise_weights(d, place->channel, row, size, weight[r]);
        UNROLL
        for (int j = 0; all && j < size; j++) weight[r][j] = all[row * size + j];
    }
    UNROLL
    for (int q = 0; q < columns; q++, x += d->x_pixel) {
        if (q < size / 2 && q < -place->first) continue;
        if (q >= columns - size / 2 && q >= place->end) continue;
        vec column = elem_load(x);
        UNROLL
        for (int p = 0; p < DW_PIXELS; p++) {
            int j = q - p * stride;
            if (j < 0 || j >= size) continue;
            UNROLL
            for (int r = from; r < to; r++) sum[r][p] = vec_fma(column, weight[r][j], sum[r][p]);
        }
    }
}

DEPTHWISE_INLINE void depthwise_input(const tl_depthwise_row *d, const depthwise_place *place,
                                      int i, const vec *all, const int size, const int stride,
                                      vec sum[DW_ROWS][DW_PIXELS]) {
    if (i < stride)
        depthwise_taps(d, place, i, all, size, stride, 0, 1, sum);
    else if (i < size)
        depthwise_taps(d, place, i, all, size, stride, 0, 2, sum);
    else
        depthwise_taps(d, place, i, all, size, stride, 1, 2, sum);
}

/* All input rows. The weights of a small kernel are held in registers; the loops of a larger one
 * are not unrolled whole: that would be much code for little. */
DEPTHWISE_INLINE void depthwise_inputs(const tl_depthwise_row *d, const depthwise_place *place,
                                       const int size, const int stride,
                                       vec sum[DW_ROWS][DW_PIXELS]) {
    const int inputs = size + (DW_ROWS - 1) * stride;
    if (size > 3) {
        ROLLED
        for (int i = 0; i < inputs; i++) depthwise_input(d, place, i, NULL, size, stride, sum);
        return;
    }
    vec weight[9];
    UNROLL
    for (int i = 0; i < size; i++) depthwise_weights(d, place->channel, i, size, weight + i * size);
    UNROLL
    for (int i = 0; i < inputs; i++) depthwise_input(d, place, i, weight, size, stride, sum);
}

/* DW_PIXELS pixels of DW_ROWS rows and a whole vector of channels. Only the first and the last
 * size / 2 columns may lie outside. */
DEPTHWISE_INLINE void depthwise_block(const tl_depthwise_row *d, const elem *const *rows,
                                      int64_t pixel, int64_t channel, const int size,
                                      const int stride) {
    const int64_t first = d->first + pixel * stride;
    const depthwise_place place = {rows, channel, first, d->width - first,
                                   first * d->x_pixel + channel};
    vec sum[DW_ROWS][DW_PIXELS];
    UNROLL
    for (int r = 0; r < DW_ROWS; r++) {
        UNROLL
        for (int p = 0; p < DW_PIXELS; p++) sum[r][p] = vec_set(0.0f);
    }
    depthwise_inputs(d, &place, size, stride, sum);
    UNROLL
    for (int r = 0; r < DW_ROWS; r++)
        if (r < d->rows) depthwise_finish(d, r, pixel, channel, DW_PIXELS, vec_all(), sum[r]);
}

typedef struct depthwise_span {
    int64_t begin, end;
} depthwise_span;

/* The pixels of which at most size / 2 columns lie outside on either side; of these, where they are
 * added to, as many as fill blocks: otherwise a last block begins inside the one before, whose
 * pixels get the same values again. */
static depthwise_span depthwise_span_of(const tl_depthwise_row *d, int size, int stride) {
    int64_t begin = -d->first - size / 2, room = d->width + size / 2 - d->first - size;
    if (begin < 0) begin = 0;
    depthwise_span span = {(begin + stride - 1) / stride, room < 0 ? 0 : room / stride + 1};
    if (span.end > d->pixels) span.end = d->pixels;
    int64_t count = span.end - span.begin;
    if (count < DW_PIXELS) return (depthwise_span){0, 0};
    if (d->accumulate) span.end -= count % DW_PIXELS;
    return span;
}

/* The pixels that this has done, of all whole vectors of channels. */
DEPTHWISE_INLINE depthwise_span depthwise_square(const tl_depthwise_row *d, const int size,
                                                 const int stride) {
    depthwise_span span = depthwise_span_of(d, size, stride);
    const elem *rows[DW_MAX + 2 * (DW_ROWS - 1)];
    for (int i = 0; i < size + (DW_ROWS - 1) * stride; i++)
        rows[i] = i < size + (d->rows - 1) * stride ? d->x[i] : NULL;
    int64_t whole = span.end > 0 ? d->c / VEC * VEC : 0;
    for (int64_t from = 0; from < whole; from += DW_CHANNELS) {
        int64_t to = from + DW_CHANNELS < whole ? from + DW_CHANNELS : whole;
        for (int64_t next = span.begin; next < span.end; next += DW_PIXELS) {
            int64_t pixel = next + DW_PIXELS < span.end ? next : span.end - DW_PIXELS;
            for (int64_t at = from; at < to; at += VEC)
                depthwise_block(d, rows, pixel, at, size, stride);
        }
    }
    return span;
}

/* Whether `size` and `stride` describe the call. */
static inline bool depthwise_is(const tl_depthwise_row *d, int size, int stride) {
    return d->kh == size && d->kw == size && d->tap == 1 && d->step == stride &&
           (d->rows == 1 || d->row_step == stride);
}

static depthwise_span depthwise_blocks(const tl_depthwise_row *d) {
    if (depthwise_is(d, 3, 1)) return depthwise_square(d, 3, 1);
    if (depthwise_is(d, 3, 2)) return depthwise_square(d, 3, 2);
    if (depthwise_is(d, 5, 1)) return depthwise_square(d, 5, 1);
    if (depthwise_is(d, 5, 2)) return depthwise_square(d, 5, 2);
    return (depthwise_span){0, 0};
}

static inline void depthwise_row(const tl_depthwise_row *d) {
    depthwise_span done = depthwise_blocks(d);
    for (int r = 0; r < d->rows; r++) {
        depthwise_any(d, r, 0, done.begin, 0);
        depthwise_any(d, r, done.begin, done.end, d->c / VEC * VEC);
        depthwise_any(d, r, done.end, d->pixels, 0);
    }
    depthwise_act(d);
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
