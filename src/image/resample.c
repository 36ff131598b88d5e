/* Resampling by separable convolution in fixed point, so that every machine gives the same bytes
 * and those bytes are Pillow's.
 *
 * Output sample i stands at `centre` = box begin + (i + 1/2) * scale of the input, and is the sum
 * of the input samples within `support` of it, weighted by the filter and normalised to 1. When
 * shrinking with antialiasing the filter is stretched by the scale. What must agree with Pillow to
 * be equal bit for bit: weights computed in double and rounded to 22 bits after the point, the
 * horizontal pass first, its result rounded to 8 bits. */
#include <math.h>
#include <string.h>

#include "image/image.h"
#include "image/window.h"
#include "kernels.h"

enum { CHANNELS = 3 };

static double bilinear(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2. */
static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static int clamp(double value, int low, int high) {
    return value < low ? low : value > high ? high : (int)value;
}

static int32_t to_fixed(double weight) {
    return (int32_t)(weight * (1 << TL_RESAMPLE_POINT) + (weight < 0 ? -0.5 : 0.5));
}

static void free_taps(tl_context *ctx, tl_resample_axis *t) {
    tl_free(ctx, t->first);
    tl_free(ctx, t->used);
    tl_free(ctx, t->weight);
    *t = (tl_resample_axis){0};
}

static tl_status alloc_taps(tl_context *ctx, int count, int width, tl_resample_axis *out) {
    width = (width + TL_RESAMPLE_ALIGN - 1) / TL_RESAMPLE_ALIGN * TL_RESAMPLE_ALIGN;
    *out = (tl_resample_axis){.count = count, .width = width};
    out->first = tl_alloc_array(ctx, (size_t)count, sizeof *out->first);
    if (out->first) out->used = tl_alloc_array(ctx, (size_t)count, sizeof *out->used);
    if (out->used)
        out->weight = tl_alloc_array(ctx, (size_t)count * (size_t)width, sizeof *out->weight);
    if (out->weight) return TL_OK;
    free_taps(ctx, out);
    return TL_NO_MEMORY;
}

/* One axis: `size` input samples, of which [begin, end) becomes `full` output samples; those from
 * `offset` on, `count` of them, are wanted. */
typedef struct axis {
    int size;
    float begin, end;
    int full, offset, count;
} axis;

static tl_status make_taps(tl_context *ctx, const axis *a, tl_filter filter, bool antialias,
                           tl_resample_axis *out) {
    double (*shape)(double) = filter == TL_FILTER_BICUBIC ? bicubic : bilinear;
    const double scale = (double)(a->end - a->begin) / a->full;
    const double stretch = antialias && scale > 1 ? scale : 1;
    const double support = (filter == TL_FILTER_BICUBIC ? 2 : 1) * stretch;
    TL_TRY(alloc_taps(ctx, a->count, (int)ceil(support) * 2 + 1, out));
    double *weight = tl_alloc_array(ctx, (size_t)out->width, sizeof *weight);
    if (!weight) {
        free_taps(ctx, out);
        return TL_NO_MEMORY;
    }
    for (int i = 0; i < a->count; i++) {
        const double centre = a->begin + (a->offset + i + 0.5) * scale;
        const int first = clamp(centre - support + 0.5, 0, a->size);
        const int used = clamp(centre + support + 0.5, 0, a->size) - first;
        double total = 0;
        for (int k = 0; k < used; k++) {
            weight[k] = shape((k + first - centre + 0.5) * (1 / stretch));
            total += weight[k];
        }
        out->first[i] = first;
        out->used[i] = used;
        int32_t *fixed = out->weight + (size_t)i * (size_t)out->width;
        for (int k = 0; k < out->width; k++) {
            const double share = k < used ? weight[k] : 0;
            fixed[k] = to_fixed(total != 0 ? share / total : share);
        }
    }
    tl_free(ctx, weight);
    return TL_OK;
}

/* Both passes; the first one only over the rows that the second one reads. */
static tl_status convolve(tl_context *ctx, const tl_image *in, const tl_resample_axis *across,
                          const tl_resample_axis *down, tl_image *out) {
    const struct tl_kernels *kernels = tl_context_kernels(ctx);
    const int last = down->count - 1;
    const int top = down->first[0], rows = down->first[last] + down->used[last] - top;
    const size_t stride = (size_t)out->width * CHANNELS;
    const size_t in_stride = (size_t)in->width * CHANNELS;
    unsigned char *middle = tl_alloc_array(ctx, (size_t)rows, stride);
    TL_CHECK_MEMORY(middle);
    for (int y = 0; y < rows; y++)
        kernels->resample_row(across, in->pixels + (size_t)(top + y) * in_stride, in->width,
                              middle + (size_t)y * stride);
    for (int y = 0; y < out->height; y++)
        kernels->resample_column(down, y, middle + (size_t)(down->first[y] - top) * stride,
                                 (int64_t)stride, out->pixels + (size_t)y * stride);
    tl_free(ctx, middle);
    return TL_OK;
}

/* Input samples under the centres of the output samples. The position is summed up step by step,
 * as Pillow does, because the rounding decides between neighbours. */
static void nearest_positions(const axis *a, int *at) {
    const double step = (double)(a->end - a->begin) / a->full;
    double position = a->begin + step * 0.5;
    for (int i = 0; i < a->offset + a->count; i++, position += step)
        if (i >= a->offset) at[i - a->offset] = clamp(position, 0, a->size - 1);
}

static tl_status pick_nearest(tl_context *ctx, const tl_image *in, const axis *across,
                              const axis *down, tl_image *out) {
    int *x_at = tl_alloc_array(ctx, (size_t)out->width + (size_t)out->height, sizeof *x_at);
    TL_CHECK_MEMORY(x_at);
    int *y_at = x_at + out->width;
    nearest_positions(across, x_at);
    nearest_positions(down, y_at);
    unsigned char *to = out->pixels;
    for (int y = 0; y < out->height; y++) {
        const unsigned char *row = in->pixels + (size_t)y_at[y] * (size_t)in->width * CHANNELS;
        for (int x = 0; x < out->width; x++, to += CHANNELS)
            memcpy(to, row + (size_t)x_at[x] * CHANNELS, CHANNELS);
    }
    tl_free(ctx, x_at);
    return TL_OK;
}

static tl_status check_box(const tl_image *in, const float box[4]) {
    bool inside = box[0] >= 0 && box[1] >= 0 && box[2] <= (float)in->width &&
                  box[3] <= (float)in->height && box[0] < box[2] && box[1] < box[3];
    TL_CHECK(inside, TL_INVALID_ARGUMENT,
             "the box (%g, %g, %g, %g) is empty or outside a picture of %d x %d pixels",
             (double)box[0], (double)box[1], (double)box[2], (double)box[3], in->width, in->height);
    return TL_OK;
}

/* Nothing to interpolate: the samples of the axis are input samples, as Pillow also finds. */
static bool axis_is_copy(const axis *a) {
    return a->begin == floorf(a->begin) && a->end - a->begin == (float)a->full;
}

static void copy_window(const tl_image *in, const axis *across, const axis *down, tl_image *out) {
    const size_t stride = (size_t)out->width * CHANNELS;
    const int left = (int)across->begin + across->offset, top = (int)down->begin + down->offset;
    for (int y = 0; y < out->height; y++) {
        size_t from = (size_t)(top + y) * (size_t)in->width + (size_t)left;
        memcpy(out->pixels + (size_t)y * stride, in->pixels + from * CHANNELS, stride);
    }
}

tl_status tl_image_resample_window(tl_context *ctx, const tl_image *in, const float box[4],
                                   tl_filter filter, bool antialias, const tl_window *window,
                                   tl_image *out) {
    TL_TRY(check_box(in, box));
    const axis across = {in->width, box[0], box[2], window->width, window->left, out->width};
    const axis down = {in->height, box[1], box[3], window->height, window->top, out->height};
    if (axis_is_copy(&across) && axis_is_copy(&down)) {
        copy_window(in, &across, &down, out);
        return TL_OK;
    }
    if (filter == TL_FILTER_NEAREST) return pick_nearest(ctx, in, &across, &down, out);
    tl_resample_axis x_taps, y_taps;
    TL_TRY(make_taps(ctx, &across, filter, antialias, &x_taps));
    tl_status status = make_taps(ctx, &down, filter, antialias, &y_taps);
    if (status == TL_OK) {
        status = convolve(ctx, in, &x_taps, &y_taps, out);
        free_taps(ctx, &y_taps);
    }
    free_taps(ctx, &x_taps);
    return status;
}

tl_status tl_image_resample(tl_context *ctx, const tl_image *in, const float box[4],
                            tl_filter filter, bool antialias, tl_image *out) {
    const tl_window whole = {0, 0, out->width, out->height};
    return tl_image_resample_window(ctx, in, box, filter, antialias, &whole, out);
}
