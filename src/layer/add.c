/* Sum of tensors of one shape. */
#include "layer/loop.h"
#include "layer/ops.h"

typedef struct add_job {
    const struct tl_kernels *kernels;
    const tl_view *in;
    int input_count;
    void *out;
    size_t size;
    int64_t n;
} add_job;

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)attr;
    for (int i = 1; i < input_count; i++) {
        char first[TL_SHAPE_TEXT], other[TL_SHAPE_TEXT];
        TL_CHECK(tl_shape_equal(&in[0], &in[i]), TL_SHAPE,
                 "add: input %d is %s, expected %s like the first", i, tl_shape_text(&in[i], other),
                 tl_shape_text(&in[0], first));
    }
    out->out = in[0];
    out->flops = (double)(input_count - 1) * (double)tl_shape_count(&in[0]);
    return TL_OK;
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const add_job *job = arg;
    int64_t count, first = tl_chunk_at(job->n, begin, end, &count);
    void *out = tl_to_at(job->out, job->size, first);
    const void *sum = tl_from_at(job->in[0].data, job->size, first);
    for (int i = 1; i < job->input_count; i++) {
        job->kernels->add(sum, tl_from_at(job->in[i].data, job->size, first), out, count);
        sum = out;
    }
}

static void forward(const tl_op_call *call) {
    add_job job = {.kernels = tl_call_kernels(call),
                   .in = call->in,
                   .input_count = call->input_count,
                   .out = call->out.data,
                   .size = tl_call_size(call),
                   .n = tl_shape_count(&call->out.shape)};
    tl_parallel_chunks(call->ctx, job.n, forward_task, &job);
}

/* The first input's gradient may be grad_out's own memory, and one tensor may be added to itself:
 * then its gradient is written for the first of its inputs and added to for the others. */
static void backward(const tl_op_call *call) {
    int64_t n = tl_shape_count(&call->out.shape);
    for (int i = 0; i < call->input_count; i++)
        if (call->grad_in[i])
            tl_pass_gradient(call, call->grad_out, call->grad_add[i], call->grad_in[i], n);
}

const tl_op tl_op_add = {.name = "add",
                         .min_inputs = 2,
                         .max_inputs = 0,
                         .flags = TL_OP_IN_PLACE | TL_OP_SUM | TL_OP_BF16,
                         .infer = infer,
                         .forward = forward,
                         .rows = tl_op_same_rows,
                         .backward = backward};
