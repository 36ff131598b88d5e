/* Softmax over the channels (the last dimension). */
#include "layer/loop.h"
#include "layer/ops.h"

typedef struct softmax_job {
    const struct tl_kernels *kernels;
    const float *x, *grad_out; /* forward; backward */
    float *y, *grad_in;
    int64_t channels;
    bool add;
} softmax_job;

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)attr, (void)input_count;
    out->out = in[0];
    out->flops = 5.0 * (double)tl_shape_count(&in[0]);
    return TL_OK;
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const softmax_job *job = arg;
    for (int64_t row = begin; row < end; row++)
        job->kernels->softmax(job->x + row * job->channels, job->y + row * job->channels,
                              job->channels);
}

static void forward(const tl_op_call *call) {
    softmax_job job = {.kernels = tl_context_kernels(call->ctx),
                       .x = call->in[0].data,
                       .y = call->out.data,
                       .channels = tl_shape_channels(&call->out.shape)};
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), forward_task, &job);
}

static void backward_task(void *arg, int64_t begin, int64_t end) {
    const softmax_job *job = arg;
    for (int64_t row = begin; row < end; row++) {
        int64_t first = row * job->channels;
        job->kernels->softmax_backward(job->y + first, job->grad_out + first, job->add,
                                       job->grad_in + first, job->channels);
    }
}

static void backward(const tl_op_call *call) {
    if (!call->grad_in[0]) return;
    softmax_job job = {.kernels = tl_context_kernels(call->ctx),
                       .y = call->out.data,
                       .grad_out = call->grad_out,
                       .grad_in = call->grad_in[0],
                       .channels = tl_shape_channels(&call->out.shape),
                       .add = call->grad_add[0]};
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), backward_task, &job);
}

const tl_op tl_op_softmax = {.name = "softmax",
                             .min_inputs = 1,
                             .max_inputs = 1,
                             .flags = TL_OP_KEEPS_OUTPUT | TL_OP_IN_PLACE | TL_OP_PROBABILITY,
                             .infer = infer,
                             .forward = forward,
                             .backward = backward};
