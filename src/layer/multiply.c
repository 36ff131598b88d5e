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
    size_t size;  /* of an element */
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

static const void *row_of(const multiply_job *job, int input, int64_t row) {
    return tl_from_at(job->call->in[input].data, job->size, row_offset(job, input, row));
}

static multiply_job make_job(const tl_op_call *call) {
    const tl_shape *full = &call->out.shape;
    return (multiply_job){call, tl_call_kernels(call), tl_call_size(call),
                          tl_shape_rows(full) / full->dim[0], tl_shape_channels(full)};
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const multiply_job *job = arg;
    for (int64_t row = begin; row < end; row++) {
        void *out = tl_to_at(job->call->out.data, job->size, row * job->channels);
        job->kernels->mul(row_of(job, 0, row), row_of(job, 1, row), out, job->channels);
        for (int i = 2; i < job->call->input_count; i++)
            job->kernels->mul(out, row_of(job, i, row), out, job->channels);
    }
}

static void forward(const tl_op_call *call) {
    multiply_job job = make_job(call);
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), forward_task, &job);
}

/* Channels that are handled at a time in backward, in floats on the stack. */
enum { BLOCK = 512 };

typedef struct multiply_block {
    int64_t first, count; /* channels */
} multiply_block;

/* dy times all inputs but one, in some channels of a row. */
static void product_of_others(const multiply_job *job, int input, int64_t row,
                              const multiply_block *b, const float *dy, float *product) {
    const struct tl_kernels *floats = tl_context_kernels(job->call->ctx);
    memcpy(product, dy, (size_t)b->count * sizeof *dy);
    for (int i = 0; i < job->call->input_count; i++) {
        float other[BLOCK];
        if (i == input) continue;
        tl_load_floats(job->kernels, tl_from_at(row_of(job, i, row), job->size, b->first), other,
                       b->count);
        floats->mul(product, other, product, b->count);
    }
}

static void load_slopes(const multiply_job *job, int64_t row, const multiply_block *b, float *dy) {
    int64_t at = row * job->channels + b->first;
    tl_load_floats(job->kernels, tl_from_at(job->call->grad_out, job->size, at), dy, b->count);
}

static void put_gradient(const multiply_job *job, int input, int64_t row, const multiply_block *b,
                         float *gradient) {
    const tl_op_call *call = job->call;
    void *to = tl_to_at(call->grad_in[input], job->size, row_offset(job, input, row) + b->first);
    if (call->grad_add[input]) {
        float before[BLOCK];
        tl_load_floats(job->kernels, to, before, b->count);
        tl_context_kernels(call->ctx)->add(before, gradient, gradient, b->count);
    }
    tl_store_floats(job->kernels, gradient, to, b->count);
}

/* A gate's gradient is a sum over the rows of a sample. */
static void backward_gate(const multiply_job *job, int input, int64_t row,
                          const multiply_block *b) {
    float sum[BLOCK] = {0}, dy[BLOCK], product[BLOCK];
    for (int64_t i = row; i < row + job->rows; i++) {
        load_slopes(job, i, b, dy);
        product_of_others(job, input, i, b, dy, product);
        tl_context_kernels(job->call->ctx)->add(sum, product, sum, b->count);
    }
    put_gradient(job, input, row, b, sum);
}

/* The output's gradient is read before the inputs' are written: the first may be the same memory,
 * so that gates come before all others. */
static void backward_block(const multiply_job *job, int64_t row, const multiply_block *b) {
    const tl_op_call *call = job->call;
    for (int i = 0; i < call->input_count; i++)
        if (call->grad_in[i] && repeats(job, i)) backward_gate(job, i, row, b);
    for (int64_t at = row; at < row + job->rows; at++) {
        float dy[BLOCK], product[BLOCK];
        load_slopes(job, at, b, dy);
        for (int i = 0; i < call->input_count; i++) {
            if (!call->grad_in[i] || repeats(job, i)) continue;
            product_of_others(job, i, at, b, dy, product);
            put_gradient(job, i, at, b, product);
        }
    }
}

static void backward_task(void *arg, int64_t begin, int64_t end) {
    const multiply_job *job = arg;
    for (int64_t row = begin * job->rows; row < end * job->rows; row += job->rows) {
        for (int64_t first = 0; first < job->channels; first += BLOCK) {
            int64_t left = job->channels - first;
            multiply_block block = {first, left < BLOCK ? left : BLOCK};
            backward_block(job, row, &block);
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
                              .flags = TL_OP_KEEPS_INPUT | TL_OP_IN_PLACE | TL_OP_BF16,
                              .infer = infer,
                              .forward = forward,
                              .backward = backward};
