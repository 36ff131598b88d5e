/* dense: y = x W^T + b for rows [N, C] with weights [O, C]. A 1 x 1 convolution of N pixels. */
#include "layer/conv_call.h"

typedef struct dense_attr {
    int32_t units;
    int32_t bias;
} dense_attr;

static const tl_attr_spec attrs[] = {{.name = "units",
                                      .type = TL_ATTR_INT,
                                      .offset = offsetof(dense_attr, units),
                                      .initial = 1,
                                      .min = 1,
                                      .max = 1 << 24,
                                      .required = true},
                                     {.name = "bias",
                                      .type = TL_ATTR_BOOL,
                                      .offset = offsetof(dense_attr, bias),
                                      .initial = 1,
                                      .max = 1},
                                     {0}};

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const dense_attr *a = attr;
    char text[TL_SHAPE_TEXT];
    TL_CHECK(in->rank != 4, TL_SHAPE,
             "dense: the input is %s, expected [N, C]: put flatten or a global pooling before it",
             tl_shape_text(in, text));
    TL_CHECK(in->rank == 2, TL_SHAPE, "dense: the input is %s, expected [N, C]",
             tl_shape_text(in, text));
    int64_t inputs = in->dim[1], units = a->units;
    TL_CHECK(inputs <= TL_MAX_ELEMENTS / units, TL_LIMIT,
             "dense: weights of shape [%lld, %lld] are too many", (long long)units,
             (long long)inputs);
    out->out = tl_shape_make(2, in->dim[0], units);
    out->param[0] = (tl_param_spec){.name = "weight",
                                    .shape = tl_shape_make(2, units, inputs),
                                    .init = TL_INIT_GLOROT_UNIFORM,
                                    .fan_in = inputs,
                                    .fan_out = units,
                                    .learned = true};
    out->param[1] = (tl_param_spec){.name = "bias",
                                    .shape = tl_shape_make(1, units),
                                    .init = TL_INIT_ZERO,
                                    .fan_in = inputs,
                                    .fan_out = units,
                                    .learned = true};
    out->param_count = a->bias ? 2 : 1;
    out->flops = 2.0 * (double)in->dim[0] * (double)inputs * (double)units;
    return TL_OK;
}

/* The rows are the width of one image: the driver spreads pixels over threads. */
static tl_conv conv_of(const tl_op_call *call) {
    int64_t rows = call->in[0].shape.dim[0];
    return (tl_conv){.n = 1,
                     .h = 1,
                     .w = rows,
                     .ic = call->in[0].shape.dim[1],
                     .oh = 1,
                     .ow = rows,
                     .oc = ((const dense_attr *)call->attr)->units,
                     .kh = 1,
                     .kw = 1,
                     .stride_h = 1,
                     .stride_w = 1,
                     .dilation_h = 1,
                     .dilation_w = 1,
                     .groups = 1,
                     .bf16 = call->in[0].dtype == TL_BF16};
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

const tl_op tl_op_dense = {.name = "dense",
                           .min_inputs = 1,
                           .max_inputs = 1,
                           .flags =
                               TL_OP_INPUT_TO_TRAIN | TL_OP_EPILOGUE | TL_OP_BF16 | TL_OP_FOLLOWED,
                           .attr_size = sizeof(dense_attr),
                           .attrs = attrs,
                           .infer = infer,
                           .memory = memory,
                           .pack = pack,
                           .pack_unit = pack_unit,
                           .forward = forward,
                           .writes_f32 = writes_f32,
                           .backward = backward};
