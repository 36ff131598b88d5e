/* Product of tensors. Inputs after the first may have one value per sample and channel, [N, C] or
 * [N, 1, 1, C] beside [N, H, W, C]: the gate of squeeze-and-excite (Hu et al. 2018). */
#include <string.h>

#include "layer/loop.h"
#include "layer/ops.h"

/* The output is seen as samples of rows of channels; an input advances with the rows, or is the
 * same in all of a sample's rows (a gate). */
typedef struct multiply_job {
    const tl_op_call *call;
    const struct tl_kernels *kernels;
    int64_t rows; /* per sample */
    int64_t channels;
} multiply_job;

static bool is_gate(const tl_shape *shape, const tl_shape *full) {
    if (full->rank != 4 || tl_shape_channels(shape) != full->dim[3] ||
        shape->dim[0] != full->dim[0])
        return false;
    return shape->rank == 2 || (shape->rank == 4 && shape->dim[1] == 1 && shape->dim[2] == 1);
}

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)attr;
    for (int i = 1; i < input_count; i++) {
        char first[TL_SHAPE_TEXT], other[TL_SHAPE_TEXT];
        TL_CHECK(tl_shape_equal(&in[0], &in[i]) || is_gate(&in[i], &in[0]), TL_SHAPE,
                 "multiply: input %d is %s, expected %s like the first, or one value per sample "
                 "and channel",
                 i, tl_shape_text(&in[i], other), tl_shape_text(&in[0], first));
    }
    out->out = in[0];
    out->flops = (double)(input_count - 1) * (double)tl_shape_count(&in[0]);
    return TL_OK;
}

/* Whether an input has fewer rows than the output. Shapes of one row need no distinction. */
static bool repeats(const multiply_job *job, int input) {
    return !tl_shape_equal(&job->call->in[input].shape, &job->call->out.shape);
}

static int64_t row_offset(const multiply_job *job, int input, int64_t row) {
    return (repeats(job, input) ? row / job->rows : row) * job->channels;
}

static const float *row_of(const multiply_job *job, int input, int64_t row) {
    return (const float *)job->call->in[input].data + row_offset(job, input, row);
}

static multiply_job make_job(const tl_op_call *call) {
    const tl_shape *full = &call->out.shape;
    return (multiply_job){call, tl_context_kernels(call->ctx), tl_shape_rows(full) / full->dim[0],
                          tl_shape_channels(full)};
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const multiply_job *job = arg;
    for (int64_t row = begin; row < end; row++) {
        float *out = (float *)job->call->out.data + row * job->channels;
        job->kernels->mul(row_of(job, 0, row), row_of(job, 1, row), out, job->channels);
        for (int i = 2; i < job->call->input_count; i++)
            job->kernels->mul(out, row_of(job, i, row), out, job->channels);
    }
}

static void forward(const tl_op_call *call) {
    multiply_job job = make_job(call);
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), forward_task, &job);
}

/* Channels that are handled at a time in backward, in buffers on the stack. */
enum { BLOCK = 512 };

/* The gradient of one input in channels [first, first + count) of a row: dy times all others. */
static void backward_block(const multiply_job *job, int input, int64_t row, int64_t first,
                           int64_t count, const float *dy) {
    const tl_op_call *call = job->call;
    float product[BLOCK];
    memcpy(product, dy, (size_t)count * sizeof(float));
    for (int i = 0; i < call->input_count; i++)
        if (i != input) job->kernels->mul(product, row_of(job, i, row) + first, product, count);
    float *to = (float *)call->grad_in[input] + row_offset(job, input, row) + first;
    bool started = repeats(job, input) && row % job->rows > 0;
    if (call->grad_add[input] || started)
        job->kernels->add(to, product, to, count);
    else
        memcpy(to, product, (size_t)count * sizeof(float));
}

/* Samples, because a gate's gradient is a sum over the rows of one. The output's gradient is read
 * before the inputs' are written: the first may be the same memory. */
static void backward_task(void *arg, int64_t begin, int64_t end) {
    const multiply_job *job = arg;
    const tl_op_call *call = job->call;
    for (int64_t row = begin * job->rows; row < end * job->rows; row++) {
        for (int64_t first = 0; first < job->channels; first += BLOCK) {
            int64_t left = job->channels - first, count = left < BLOCK ? left : BLOCK;
            float dy[BLOCK];
            memcpy(dy, (const float *)call->grad_out + row * job->channels + first,
                   (size_t)count * sizeof(float));
            for (int i = 0; i < call->input_count; i++)
                if (call->grad_in[i]) backward_block(job, i, row, first, count, dy);
        }
    }
}

static void backward(const tl_op_call *call) {
    multiply_job job = make_job(call);
    tl_parallel(call->ctx, call->out.shape.dim[0], backward_task, &job);
}

const tl_op tl_op_multiply = {.name = "multiply",
                              .min_inputs = 2,
                              .max_inputs = 0,
                              .flags = TL_OP_KEEPS_INPUT | TL_OP_IN_PLACE,
                              .infer = infer,
                              .forward = forward,
                              .backward = backward};
