/* The gradient with respect to the input: dx of pixel (y, x) sums dy * w over the taps that read
 * it. With a stride, inputs fall into stride_h * stride_w parity classes, each of which sees a
 * fixed part of the kernel: as many small stride-1 convolutions of dy, written in between each
 * other. */
#include "compute/conv_parts.h"
#include "compute/cut.h"
#include "compute/winograd.h"

static tl_gather class_gather(const tl_context *ctx, const tl_conv *c, int parity_y, int parity_x) {
    tl_gather g = {.kernels = tl_conv_kernels(ctx, c),
                   .n = c->n,
                   .taps = tl_taps2_backward(c, parity_y, parity_x),
                   .groups = c->groups,
                   .k = c->oc / c->groups,
                   .columns = c->ic / c->groups};
    g.a_pixel = c->oc;
    g.a_row = c->ow * c->oc;
    g.a_image = c->oh * g.a_row;
    g.c_pixel = c->stride_w * c->ic;
    g.c_row = c->stride_h * c->w * c->ic;
    g.c_image = c->h * c->w * c->ic;
    return g;
}

static size_t class_packed_bytes(const tl_gather *g) {
    return tl_cut_bytes(tl_gather_packed_bytes(
        g->kernels, g->groups, g->taps.y.count * g->taps.x.count, g->k, g->columns));
}

/* --- by Winograd's method ----------------------------------------------------------------------
 * With stride 1 this is a convolution of dy with the kernel turned around. Its weights are packed
 * for every call. */

/* That convolution, and its form. */
static tl_winograd turned_conv(const tl_context *ctx, const tl_conv *c, tl_conv *turned) {
    *turned = (tl_conv){.n = c->n,
                        .h = c->oh,
                        .w = c->ow,
                        .ic = c->oc,
                        .oh = c->h,
                        .ow = c->w,
                        .oc = c->ic,
                        .kh = c->kh,
                        .kw = c->kw,
                        .stride_h = c->stride_h,
                        .stride_w = c->stride_w,
                        .dilation_h = c->dilation_h,
                        .dilation_w = c->dilation_w,
                        .pad_top = c->kh - 1 - c->pad_top,
                        .pad_left = c->kw - 1 - c->pad_left,
                        .groups = c->groups,
                        .bf16 = c->bf16};
    return tl_winograd_choose_data(ctx, turned);
}

static size_t turned_packed_bytes(const tl_context *ctx, const tl_conv *turned, tl_winograd f) {
    return tl_cut_bytes(tl_winograd_packed_bytes(tl_conv_kernels(ctx, turned), turned, f));
}

static void run_turned(tl_context *ctx, const tl_conv *turned, tl_winograd f, const void *dy,
                       const float *weights, bool add, void *dx, void *work) {
    int64_t tap = turned->oc, taps = (int64_t)turned->kh * turned->kw;
    tl_winograd_source source = {.weights = weights + (taps - 1) * tap,
                                 .filters = turned->oc,
                                 .channels = turned->ic,
                                 .end = turned->oc,
                                 .filter_step = 1,
                                 .channel_step = taps * tap,
                                 .tap_step = -tap};
    tl_winograd_pack(ctx, tl_conv_kernels(ctx, turned), &source, f, work);
    tl_winograd_run(ctx, turned, f, dy, work, NULL, add, dx,
                    (char *)work + turned_packed_bytes(ctx, turned, f));
}

/* --- as gathered multiplications
 * ------------------------------------------------------------------ */

size_t tl_conv_data_work_bytes(tl_context *ctx, const tl_conv *conv) {
    size_t most = 0;
    tl_conv turned;
    tl_winograd f = turned_conv(ctx, conv, &turned);
    if (f.m) {
        most = turned_packed_bytes(ctx, &turned, f) + tl_winograd_work_bytes(ctx, &turned, f);
    }
    for (int py = 0; py < conv->stride_h; py++) {
        for (int px = 0; px < conv->stride_w; px++) {
            tl_gather g = class_gather(ctx, conv, py, px);
            size_t work = class_packed_bytes(&g) + tl_gather_work_bytes(ctx, &g);
            if (work > most) most = work;
        }
    }
    return most;
}

static void pack_class(tl_context *ctx, const tl_conv *c, const tl_gather *g, const float *weights,
                       void *packed) {
    int64_t icg = g->columns, pixel = icg, row = c->kw * icg, filter = c->kh * row;
    tl_gather_source source = {.b = weights + g->taps.y.kernel_first * row +
                                    g->taps.x.kernel_first * pixel,
                               .group_step = g->k * filter,
                               .column_step = 1,
                               .tap_row = g->taps.y.kernel_step * row,
                               .tap_column = g->taps.x.kernel_step * pixel,
                               .k_step = filter,
                               .end = g->groups * g->columns,
                               .groups = g->groups,
                               .tap_rows = g->taps.y.count,
                               .tap_columns = g->taps.x.count,
                               .k = g->k,
                               .columns = g->columns};
    tl_gather_pack(ctx, g->kernels, &source, packed);
}

static void run_class(tl_context *ctx, const tl_conv *c, int parity_y, int parity_x, const void *dy,
                      const float *weights, bool add, void *dx, char *work) {
    tl_gather g = class_gather(ctx, c, parity_y, parity_x);
    bool empty = g.taps.y.count == 0 || g.taps.x.count == 0;
    if (g.taps.y.out == 0 || g.taps.x.out == 0 || (empty && add)) return;
    if (!empty) pack_class(ctx, c, &g, weights, work);
    g.a = dy;
    g.b = work;
    g.c = tl_element_of(dx, (parity_y * c->w + parity_x) * c->ic, g.kernels->element);
    g.accumulate = add;
    tl_gather_run(ctx, &g, work + class_packed_bytes(&g));
}

void tl_conv_backward_data(tl_context *ctx, const tl_conv *conv, const void *dy,
                           const float *weights, bool add, void *dx, void *work) {
    if (tl_conv_is_depthwise(conv)) {
        tl_depthwise_backward_data(ctx, conv, dy, weights, add, dx, work);
        return;
    }
    tl_conv turned;
    tl_winograd f = turned_conv(ctx, conv, &turned);
    if (f.m && conv->n * conv->h * conv->w >= TL_WINOGRAD_GRADIENT_PIXELS) {
        run_turned(ctx, &turned, f, dy, weights, add, dx, work);
        return;
    }
    for (int py = 0; py < conv->stride_h; py++) {
        for (int px = 0; px < conv->stride_w; px++)
            run_class(ctx, conv, py, px, dy, weights, add, dx, work);
    }
}
