/* Operators that leave the bytes alone: input, identity, flatten. */
#include "layer/loop.h"
#include "layer/ops.h"

typedef struct input_attr {
    int32_t height, width, channels;
} input_attr;

static const tl_attr_spec input_attrs[] = {
    {.name = "height", .type = TL_ATTR_INT, .offset = offsetof(input_attr, height), .max = 65535},
    {.name = "width", .type = TL_ATTR_INT, .offset = offsetof(input_attr, width), .max = 65535},
    {.name = "channels",
     .type = TL_ATTR_INT,
     .offset = offsetof(input_attr, channels),
     .max = 1 << 24},
    {0}};

static tl_status infer_input(const void *attr, int input_count, const tl_shape *in,
                             tl_op_shapes *out) {
    (void)input_count, (void)in;
    const input_attr *a = attr;
    TL_CHECK(a->channels > 0 && (a->height > 0) == (a->width > 0), TL_SHAPE,
             "input: height %d, width %d, channels %d; expected channels above 0 and height and "
             "width both 0 (a vector) or both above 0",
             a->height, a->width, a->channels);
    out->out = a->height ? tl_shape_make(4, (int64_t)1, (int64_t)a->height, (int64_t)a->width,
                                         (int64_t)a->channels)
                         : tl_shape_make(2, (int64_t)1, (int64_t)a->channels);
    return TL_OK;
}

/* The caller of a plan supplies the value. */
static void forward_input(const tl_op_call *call) {
    (void)call;
}

const tl_op tl_op_input = {.name = "input",
                           .attr_size = sizeof(input_attr),
                           .attrs = input_attrs,
                           .infer = infer_input,
                           .forward = forward_input};

static void forward_view(const tl_op_call *call) {
    tl_copy_elements(call, call->in[0].data, call->out.data, tl_shape_count(&call->out.shape));
}

static void backward_view(const tl_op_call *call) {
    if (!call->grad_in[0]) return;
    tl_pass_gradient(call, call->grad_out, call->grad_add[0], call->grad_in[0],
                     tl_shape_count(&call->out.shape));
}

static tl_status infer_identity(const void *attr, int input_count, const tl_shape *in,
                                tl_op_shapes *out) {
    (void)attr, (void)input_count;
    out->out = in[0];
    return TL_OK;
}

const tl_op tl_op_identity = {.name = "identity",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .flags = TL_OP_VIEW | TL_OP_IN_PLACE | TL_OP_BF16,
                              .infer = infer_identity,
                              .forward = forward_view,
                              .backward = backward_view};

/* [N, H, W, C] to [N, H * W * C] in that order, as Keras does; PyTorch's order is C H W. */
static tl_status infer_flatten(const void *attr, int input_count, const tl_shape *in,
                               tl_op_shapes *out) {
    (void)attr, (void)input_count;
    int64_t batch = in[0].dim[0];
    out->out = tl_shape_make(2, batch, tl_shape_count(&in[0]) / batch);
    return TL_OK;
}

const tl_op tl_op_flatten = {.name = "flatten",
                             .min_inputs = 1,
                             .max_inputs = 1,
                             .flags = TL_OP_VIEW | TL_OP_IN_PLACE | TL_OP_BF16,
                             .infer = infer_flatten,
                             .forward = forward_view,
                             .backward = backward_view};
