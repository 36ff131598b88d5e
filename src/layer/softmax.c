/* Softmax over the channels (the last dimension). */
#include <math.h>

#include "layer/loop.h"
#include "layer/ops.h"

typedef struct softmax_job {
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

/* The largest value is subtracted first, so that exp() cannot overflow. */
static void forward_row(const float *x, float *y, int64_t channels) {
    float largest = x[0];
    for (int64_t i = 1; i < channels; i++) largest = x[i] > largest ? x[i] : largest;
    double sum = 0;
    for (int64_t i = 0; i < channels; i++) {
        y[i] = expf(x[i] - largest);
        sum += (double)y[i];
    }
    float scale = (float)(1.0 / sum);
    for (int64_t i = 0; i < channels; i++) y[i] *= scale;
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const softmax_job *job = arg;
    for (int64_t row = begin; row < end; row++)
        forward_row(job->x + row * job->channels, job->y + row * job->channels, job->channels);
}

static void forward(const tl_op_call *call) {
    softmax_job job = {.x = call->in[0].data,
                       .y = call->out.data,
                       .channels = tl_shape_channels(&call->out.shape)};
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), forward_task, &job);
}

/* dx = y (dy - sum of dy y). */
static void backward_row(const softmax_job *job, int64_t row) {
    int64_t first = row * job->channels;
    const float *y = job->y + first, *dy = job->grad_out + first;
    float *dx = job->grad_in + first;
    double dot = 0;
    for (int64_t i = 0; i < job->channels; i++) dot += (double)dy[i] * (double)y[i];
    for (int64_t i = 0; i < job->channels; i++) {
        float value = y[i] * (dy[i] - (float)dot);
        dx[i] = job->add ? dx[i] + value : value;
    }
}

static void backward_task(void *arg, int64_t begin, int64_t end) {
    const softmax_job *job = arg;
    for (int64_t row = begin; row < end; row++) backward_row(job, row);
}

static void backward(const tl_op_call *call) {
    if (!call->grad_in[0]) return;
    softmax_job job = {.y = call->out.data,
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
