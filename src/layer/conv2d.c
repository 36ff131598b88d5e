/* conv2d: convolution of [N, H, W, C] with weights [O, KH, KW, I], I = C / groups. Depthwise
 * convolution is groups = C. Cross-correlation, as in every framework. */
#include <assert.h>

#include "layer/conv_call.h"
#include "layer/window.h"

typedef struct conv2d_attr {
    int32_t filters;
    int32_t kernel[2], stride[2], dilation[2];
    int32_t groups;
    int32_t pad[4];
    int32_t padding;
    int32_t bias;
} conv2d_attr;

enum { MAX_EXTENT = 1024, MAX_CHANNELS = 1 << 24 };

static const tl_attr_spec attrs[] = {{.name = "filters",
                                      .type = TL_ATTR_INT,
                                      .offset = offsetof(conv2d_attr, filters),
                                      .initial = 1,
                                      .min = 1,
                                      .max = MAX_CHANNELS,
                                      .required = true},
                                     {.name = "kernel",
                                      .type = TL_ATTR_PAIR,
                                      .offset = offsetof(conv2d_attr, kernel),
                                      .initial = 1,
                                      .min = 1,
                                      .max = MAX_EXTENT,
                                      .required = true},
                                     {.name = "stride",
                                      .type = TL_ATTR_PAIR,
                                      .offset = offsetof(conv2d_attr, stride),
                                      .initial = 1,
                                      .min = 1,
                                      .max = MAX_EXTENT},
                                     {.name = "dilation",
                                      .type = TL_ATTR_PAIR,
                                      .offset = offsetof(conv2d_attr, dilation),
                                      .initial = 1,
                                      .min = 1,
                                      .max = MAX_EXTENT},
                                     {.name = "groups",
                                      .type = TL_ATTR_INT,
                                      .offset = offsetof(conv2d_attr, groups),
                                      .initial = 1,
                                      .min = 1,
                                      .max = MAX_CHANNELS},
                                     {.name = "pad",
                                      .type = TL_ATTR_PADS,
                                      .offset = offsetof(conv2d_attr, pad),
                                      .max = (double)MAX_EXTENT * MAX_EXTENT},
                                     {.name = "padding",
                                      .type = TL_ATTR_CHOICE,
                                      .offset = offsetof(conv2d_attr, padding),
                                      .choices = tl_padding_choices},
                                     {.name = "bias",
                                      .type = TL_ATTR_BOOL,
                                      .offset = offsetof(conv2d_attr, bias),
                                      .initial = 1,
                                      .max = 1},
                                     {0}};

static tl_status infer_axis(const conv2d_attr *a, const tl_shape *in, int axis, tl_window *window) {
    static const char *const axis_names[2] = {"height", "width"};
    *window = (tl_window){.in = in->dim[1 + axis],
                          .kernel = a->kernel[axis],
                          .stride = a->stride[axis],
                          .dilation = a->dilation[axis],
                          .before = a->pad[axis],
                          .after = a->pad[axis + 2]};
    return tl_window_infer("conv2d", axis_names[axis], (tl_padding)a->padding, false, window);
}

static tl_status check_channels(const conv2d_attr *a, const tl_shape *in) {
    long long channels = in->dim[3];
    TL_CHECK(channels <= MAX_CHANNELS, TL_LIMIT, "conv2d: the input has %lld channels, at most %d",
             channels, MAX_CHANNELS);
    TL_CHECK(channels % a->groups == 0, TL_SHAPE,
             "conv2d: the input's %lld channels cannot be divided into groups=%d", channels,
             a->groups);
    TL_CHECK(a->filters % a->groups == 0, TL_SHAPE,
             "conv2d: filters=%d cannot be divided into groups=%d", a->filters, a->groups);
    return TL_OK;
}

/* What is computed with is of this size, but for constants: nothing overflows from here on. */
static tl_status check_padded(const tl_shape *in, const tl_window *height, const tl_window *width) {
    double rows = (double)height->in + height->before + height->after;
    double columns = (double)width->in + width->before + width->after;
    double elements = (double)in->dim[0] * rows * columns * (double)in->dim[3];
    char text[TL_SHAPE_TEXT];
    TL_CHECK(elements <= (double)TL_MAX_ELEMENTS, TL_LIMIT,
             "conv2d: the input %s, padded to %.0f x %.0f, is too large", tl_shape_text(in, text),
             rows, columns);
    return TL_OK;
}

static void describe_params(const conv2d_attr *a, int64_t inputs, tl_op_shapes *out) {
    int64_t area = (int64_t)a->kernel[0] * a->kernel[1];
    out->param[0] =
        (tl_param_spec){.name = "weight",
                        .shape = tl_shape_make(4, (int64_t)a->filters, (int64_t)a->kernel[0],
                                               (int64_t)a->kernel[1], inputs),
                        .init = TL_INIT_HE_NORMAL,
                        .fan_in = area * inputs,
                        .fan_out = area * a->filters,
                        .learned = true};
    out->param[1] = (tl_param_spec){.name = "bias",
                                    .shape = tl_shape_make(1, (int64_t)a->filters),
                                    .init = TL_INIT_ZERO,
                                    .fan_in = area * inputs,
                                    .fan_out = area * a->filters,
                                    .learned = true};
    out->param_count = a->bias ? 2 : 1;
}

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const conv2d_attr *a = attr;
    char text[TL_SHAPE_TEXT];
    TL_CHECK(in->rank == 4, TL_SHAPE, "conv2d: the input is %s, expected [N, H, W, C]",
             tl_shape_text(in, text));
    bool padded = a->pad[0] || a->pad[1] || a->pad[2] || a->pad[3];
    TL_CHECK(a->padding != TL_PADDING_SAME || !padded, TL_INVALID_ARGUMENT,
             "conv2d: pad is given with padding=same, which determines it");
    TL_TRY(check_channels(a, in));
    tl_window height, width;
    TL_TRY(infer_axis(a, in, 0, &height));
    TL_TRY(infer_axis(a, in, 1, &width));
    TL_TRY(check_padded(in, &height, &width));
    out->out = tl_shape_make(4, in->dim[0], height.out, width.out, (int64_t)a->filters);
    describe_params(a, in->dim[3] / a->groups, out);
    int64_t weights = tl_shape_count(&out->param[0].shape);
    TL_CHECK(weights > 0 && weights <= TL_MAX_ELEMENTS, TL_LIMIT,
             "conv2d: weights of shape %s are too many", tl_shape_text(&out->param[0].shape, text));
    out->flops =
        2.0 * (double)in->dim[0] * (double)height.out * (double)width.out * (double)weights;
    return TL_OK;
}

/* The shapes of a call passed inference, so that nothing can fail here. */
static tl_conv whole_conv(const conv2d_attr *a, const tl_shape *in, tl_dtype dtype) {
    tl_window height, width;
    tl_status status = infer_axis(a, in, 0, &height);
    if (status == TL_OK) status = infer_axis(a, in, 1, &width);
    assert(status == TL_OK);
    (void)status;
    return (tl_conv){.n = in->dim[0],
                     .h = in->dim[1],
                     .w = in->dim[2],
                     .ic = in->dim[3],
                     .oh = height.out,
                     .ow = width.out,
                     .oc = a->filters,
                     .kh = a->kernel[0],
                     .kw = a->kernel[1],
                     .stride_h = a->stride[0],
                     .stride_w = a->stride[1],
                     .dilation_h = a->dilation[0],
                     .dilation_w = a->dilation[1],
                     .pad_top = height.before,
                     .pad_left = width.before,
                     .groups = a->groups,
                     .bf16 = dtype == TL_BF16};
}

static tl_conv conv_of(const tl_op_call *call) {
    tl_shape in = call->in[0].shape;
    if (!call->band) return whole_conv(call->attr, &in, call->in[0].dtype);
    in.dim[1] = call->band->in_height;
    tl_conv whole = whole_conv(call->attr, &in, call->in[0].dtype);
    return tl_conv_band(&whole, call->band->out);
}

static bool rows(const tl_op_call *whole, tl_row_window *window) {
    tl_conv conv = conv_of(whole);
    *window = tl_conv_window(&conv);
    return tl_conv_cuts(whole->ctx, &conv);
}

static bool writes_f32(const tl_op_call *call) {
    tl_conv conv = conv_of(call);
    return tl_conv_writes_f32(call->ctx, &conv);
}

static void memory(const tl_op_call *call, tl_op_memory *out) {
    tl_conv conv = conv_of(call);
    tl_conv_call_memory(call, &conv, out);
}

static void pack(const tl_op_call *call, int64_t begin, int64_t end, const float *scale,
                 float *packed) {
    tl_conv conv = conv_of(call);
    tl_conv_pack_part(call->ctx, &conv, begin, end, call->param[0], scale, packed);
}

static int64_t pack_unit(const tl_op_call *call) {
    tl_conv conv = conv_of(call);
    return tl_conv_pack_unit(call->ctx, &conv);
}

static void forward(const tl_op_call *call) {
    tl_conv conv = conv_of(call);
    tl_conv_call_forward(call, &conv);
}

static void backward(const tl_op_call *call) {
    tl_conv conv = conv_of(call);
    tl_conv_call_backward(call, &conv);
}

const tl_op tl_op_conv2d = {.name = "conv2d",
                            .min_inputs = 1,
                            .max_inputs = 1,
                            .flags =
                                TL_OP_INPUT_TO_TRAIN | TL_OP_EPILOGUE | TL_OP_BF16 | TL_OP_FOLLOWED,
                            .attr_size = sizeof(conv2d_attr),
                            .attrs = attrs,
                            .infer = infer,
                            .memory = memory,
                            .pack = pack,
                            .pack_unit = pack_unit,
                            .forward = forward,
                            .rows = rows,
                            .writes_f32 = writes_f32,
                            .backward = backward};
