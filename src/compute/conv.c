/* Forward convolution, and the choice of a way for each pass. */
#include "compute/conv.h"

#include "compute/conv_parts.h"
#include "compute/cut.h"
#include "compute/follow.h"
#include "compute/winograd.h"

/* The multiplication that a forward pass is; data pointers are still to be set. */
static tl_gather forward_gather(const tl_context *ctx, const tl_conv *c, const tl_joined *joined) {
    tl_gather g = {.kernels = tl_conv_kernels(ctx, c),
                   .n = c->n,
                   .taps = joined->used ? joined->taps : tl_taps2_forward(c),
                   .groups = c->groups,
                   .k = joined->used ? joined->k : c->ic / c->groups,
                   .columns = c->oc / c->groups};
    g.a_pixel = c->ic;
    g.a_row = (joined->used ? joined->width : c->w) * c->ic;
    g.a_image = c->h * g.a_row;
    g.c_pixel = c->oc;
    g.c_row = c->ow * c->oc;
    g.c_image = c->oh * g.c_row;
    return g;
}

bool tl_conv_writes_f32(const tl_context *ctx, const tl_conv *conv) {
    return !tl_conv_is_depthwise(conv) && !tl_winograd_choose(ctx, conv).m;
}

bool tl_conv_cuts(const tl_context *ctx, const tl_conv *conv) {
    return tl_conv_is_depthwise(conv) || !tl_winograd_choose(ctx, conv).m;
}

tl_rows tl_rows_under(const tl_row_window *w, tl_rows out) {
    int64_t first = out.begin * w->stride - w->before;
    int64_t last = (out.end - 1) * w->stride - w->before + w->extent;
    tl_rows in = {first < 0 ? 0 : first < w->height ? first : w->height - 1, w->height};
    if (last < in.end) in.end = last > in.begin ? last : in.begin + 1;
    return in;
}

tl_row_window tl_conv_window(const tl_conv *conv) {
    return (tl_row_window){.stride = conv->stride_h,
                           .before = conv->pad_top,
                           .extent = (int64_t)(conv->kh - 1) * conv->dilation_h + 1,
                           .height = conv->h};
}

tl_conv tl_conv_band(const tl_conv *conv, tl_rows out) {
    tl_conv band = *conv;
    tl_row_window window = tl_conv_window(conv);
    tl_rows in = tl_rows_under(&window, out);
    band.band = true;
    band.h = in.end - in.begin;
    band.oh = out.end - out.begin;
    band.pad_top = (int)(conv->pad_top + in.begin - out.begin * conv->stride_h);
    return band;
}

size_t tl_conv_packed_bytes(tl_context *ctx, const tl_conv *conv) {
    if (tl_conv_is_depthwise(conv)) return tl_depthwise_packed_bytes(conv);
    tl_winograd f = tl_winograd_choose(ctx, conv);
    if (f.m) return tl_winograd_packed_bytes(tl_conv_kernels(ctx, conv), conv, f);
    tl_joined joined = tl_conv_joined(conv);
    tl_gather g = forward_gather(ctx, conv, &joined);
    return tl_gather_packed_bytes(g.kernels, g.groups, g.taps.y.count * g.taps.x.count, g.k,
                                  g.columns);
}

int64_t tl_conv_pack_unit(tl_context *ctx, const tl_conv *conv) {
    if (tl_conv_is_depthwise(conv)) return conv->oc;
    return conv->groups > 1 ? conv->oc / conv->groups : tl_conv_kernels(ctx, conv)->nr;
}

void tl_conv_pack(tl_context *ctx, const tl_conv *conv, const float *weights, const float *scale,
                  void *packed) {
    tl_conv_pack_part(ctx, conv, 0, conv->oc, weights, scale, packed);
}

void tl_conv_pack_part(tl_context *ctx, const tl_conv *conv, int64_t begin, int64_t end,
                       const float *weights, const float *scale, void *packed) {
    if (tl_conv_is_depthwise(conv)) {
        tl_depthwise_pack(conv, weights, scale, packed);
        return;
    }
    tl_winograd f = tl_winograd_choose(ctx, conv);
    if (f.m) {
        tl_winograd_source source = {.weights = weights,
                                     .filters = conv->oc,
                                     .channels = conv->ic,
                                     .begin = begin,
                                     .end = end,
                                     .filter_step = (int64_t)conv->kh * conv->kw * conv->ic,
                                     .channel_step = 1,
                                     .tap_step = conv->ic,
                                     .scale = scale};
        tl_winograd_pack(ctx, tl_conv_kernels(ctx, conv), &source, f, packed);
        return;
    }
    tl_joined joined = tl_conv_joined(conv);
    tl_gather g = forward_gather(ctx, conv, &joined);
    int64_t taps = g.taps.y.count * g.taps.x.count;
    tl_gather_source source = {.b = weights,
                               .group_step = g.columns * taps * g.k,
                               .column_step = taps * g.k,
                               .tap_row = g.taps.x.count * g.k,
                               .tap_column = g.k,
                               .k_step = 1,
                               .scale = scale,
                               .begin = begin,
                               .end = end,
                               .groups = g.groups,
                               .tap_rows = g.taps.y.count,
                               .tap_columns = g.taps.x.count,
                               .k = g.k,
                               .columns = g.columns};
    tl_gather_pack(ctx, g.kernels, &source, packed);
}

static size_t forward_work_bytes(tl_context *ctx, const tl_conv *conv) {
    tl_winograd f = tl_winograd_choose(ctx, conv);
    if (f.m) return tl_winograd_work_bytes(ctx, conv, f);
    tl_joined joined = tl_conv_joined(conv);
    tl_gather g = forward_gather(ctx, conv, &joined);
    return tl_cut_bytes(joined.bytes) + tl_gather_work_bytes(ctx, &g);
}

size_t tl_conv_work_bytes(tl_context *ctx, const tl_conv *conv, tl_conv_pass pass) {
    if (tl_conv_is_depthwise(conv)) return tl_depthwise_work_bytes(conv, pass);
    if (pass == TL_CONV_FORWARD) return forward_work_bytes(ctx, conv);
    if (pass == TL_CONV_BACKWARD_DATA) return tl_conv_data_work_bytes(ctx, conv);
    return tl_conv_weights_work_bytes(ctx, conv);
}

void tl_conv_forward(tl_context *ctx, const tl_conv *conv, const void *x, const void *packed,
                     const tl_epilogue *epilogue, void *y, void *work) {
    if (tl_conv_is_depthwise(conv)) {
        tl_depthwise_forward(ctx, conv, x, packed, epilogue, y);
        tl_follow_lines(ctx, epilogue->follow, conv->n * conv->oh, conv->ow);
        return;
    }
    tl_winograd f = tl_winograd_choose(ctx, conv);
    if (f.m) {
        tl_winograd_run(ctx, conv, f, x, packed, epilogue, false, y, work);
        return;
    }
    tl_joined joined = tl_conv_joined(conv);
    tl_gather g = forward_gather(ctx, conv, &joined);
    g.a = tl_conv_pad(ctx, conv, &joined, x, work);
    g.b = packed;
    g.c = y;
    g.epilogue = epilogue;
    tl_gather_run(ctx, &g, (char *)work + tl_cut_bytes(joined.bytes));
}
