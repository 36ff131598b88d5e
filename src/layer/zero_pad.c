/* Zeros around pictures, for what no window can pad by itself: a maximum over values below 0, a
 * crop. Negative padding cuts off, as in ONNX. */
#include <string.h>

#include "layer/loop.h"
#include "layer/ops.h"

typedef struct zero_pad_attr {
    int32_t pad[4];
} zero_pad_attr;

static const tl_attr_spec zero_pad_attrs[] = {{.name = "pad",
                                               .type = TL_ATTR_PADS,
                                               .offset = offsetof(zero_pad_attr, pad),
                                               .min = -65535,
                                               .max = 4096,
                                               .required = true},
                                              {0}};

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const zero_pad_attr *a = attr;
    char text[TL_SHAPE_TEXT];
    TL_CHECK(in[0].rank == 4, TL_SHAPE, "zero_pad: the input is %s, expected [N, H, W, C]",
             tl_shape_text(&in[0], text));
    out->out = in[0];
    for (int axis = 0; axis < 2; axis++) {
        int64_t *size = &out->out.dim[1 + axis], before = a->pad[axis], after = a->pad[axis + 2];
        TL_CHECK(*size + before + after > 0 && *size + before > 0 && *size + after > 0, TL_SHAPE,
                 "zero_pad: padding of %d and %d leaves nothing of %s", a->pad[axis],
                 a->pad[axis + 2], tl_shape_text(&in[0], text));
        *size += before + after;
    }
    return TL_OK;
}

/* Moves rows of the smaller picture, that which both share, from one of both to the other. */
typedef struct zero_pad_job {
    const struct tl_kernels *kernels;
    size_t size; /* of an element */
    const void *from;
    void *to;
    const int64_t *from_dim, *to_dim; /* [N, H, W, C] */
    int64_t top, left;                /* from's first row and column, in to's */
    bool add;
} zero_pad_job;

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* One row of `to`, of all pictures counted through. */
static void move_row(const zero_pad_job *job, int64_t row) {
    const int64_t *from_dim = job->from_dim, *to_dim = job->to_dim, c = to_dim[3];
    int64_t y = row % to_dim[1] - job->top, picture = row / to_dim[1];
    void *to = tl_to_at(job->to, job->size, row * to_dim[2] * c);
    if (!job->add) memset(to, 0, (size_t)(to_dim[2] * c) * job->size);
    if (y < 0 || y >= from_dim[1]) return;
    int64_t begin = most(0, -job->left), end = least(from_dim[2], to_dim[2] - job->left);
    int64_t at = ((picture * from_dim[1] + y) * from_dim[2] + begin) * c;
    const void *from = tl_from_at(job->from, job->size, at);
    to = tl_to_at(to, job->size, (begin + job->left) * c);
    if (job->add)
        job->kernels->add(to, from, to, (end - begin) * c);
    else
        memcpy(to, from, (size_t)((end - begin) * c) * job->size);
}

static void task(void *arg, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) move_row(arg, row);
}

static void forward(const tl_op_call *call) {
    const zero_pad_attr *attr = call->attr;
    zero_pad_job job = {.size = tl_call_size(call),
                        .from = call->in[0].data,
                        .to = call->out.data,
                        .from_dim = call->in[0].shape.dim,
                        .to_dim = call->out.shape.dim,
                        .top = attr->pad[0],
                        .left = attr->pad[1]};
    tl_parallel(call->ctx, job.to_dim[0] * job.to_dim[1], task, &job);
}

static void backward(const tl_op_call *call) {
    const zero_pad_attr *attr = call->attr;
    if (!call->grad_in[0]) return;
    zero_pad_job job = {.kernels = tl_call_kernels(call),
                        .size = tl_call_size(call),
                        .from = call->grad_out,
                        .to = call->grad_in[0],
                        .from_dim = call->out.shape.dim,
                        .to_dim = call->in[0].shape.dim,
                        .top = -attr->pad[0],
                        .left = -attr->pad[1],
                        .add = call->grad_add[0]};
    tl_parallel(call->ctx, job.to_dim[0] * job.to_dim[1], task, &job);
}

const tl_op tl_op_zero_pad = {.name = "zero_pad",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .flags = TL_OP_BF16,
                              .attr_size = sizeof(zero_pad_attr),
                              .attrs = zero_pad_attrs,
                              .infer = infer,
                              .forward = forward,
                              .backward = backward};
