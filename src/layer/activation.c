/* ReLU, ReLU6, the sigmoids, SiLU (Swish), hard-swish and GELU (Hendrycks and Gimpel 2016): one
 * table over the kernels' activations. */
#include "layer/loop.h"
#include "layer/ops.h"

typedef struct act_job {
    const struct tl_kernels *kernels;
    const void *from;     /* forward: x; backward: what the slope is taken from */
    const void *grad_out; /* backward */
    void *to;
    size_t size;
    int64_t n;
    tl_act act;
    bool add;
} act_job;

static tl_status infer_same(const void *attr, int input_count, const tl_shape *in,
                            tl_op_shapes *out) {
    (void)attr, (void)input_count;
    out->out = in[0];
    out->flops = (double)tl_shape_count(&in[0]);
    return TL_OK;
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const act_job *job = arg;
    int64_t count, first = tl_chunk_at(job->n, begin, end, &count);
    job->kernels->act_forward(job->act, tl_from_at(job->from, job->size, first),
                              tl_to_at(job->to, job->size, first), count);
}

static void forward(const tl_op_call *call, tl_act act) {
    act_job job = {.kernels = tl_call_kernels(call),
                   .from = call->in[0].data,
                   .to = call->out.data,
                   .size = tl_call_size(call),
                   .n = tl_shape_count(&call->out.shape),
                   .act = act};
    tl_parallel_chunks(call->ctx, job.n, forward_task, &job);
}

static void backward_task(void *arg, int64_t begin, int64_t end) {
    const act_job *job = arg;
    int64_t count, first = tl_chunk_at(job->n, begin, end, &count);
    job->kernels->act_backward(job->act, tl_from_at(job->from, job->size, first),
                               tl_from_at(job->grad_out, job->size, first), job->add,
                               tl_to_at(job->to, job->size, first), count);
}

static void backward(const tl_op_call *call, tl_act act, const void *from) {
    if (!call->grad_in[0]) return;
    act_job job = {.kernels = tl_call_kernels(call),
                   .from = from,
                   .grad_out = call->grad_out,
                   .to = call->grad_in[0],
                   .size = tl_call_size(call),
                   .n = tl_shape_count(&call->out.shape),
                   .act = act,
                   .add = call->grad_add[0]};
    tl_parallel_chunks(call->ctx, job.n, backward_task, &job);
}

/* One row per operator. The slope is taken from the output where it can be told from it: the next
 * layer often keeps that anyway, and then the input need not be kept. */
#define ACTIVATION(id, activation, flag, slope_source)                                             \
    static void forward_##id(const tl_op_call *call) {                                             \
        forward(call, activation);                                                                 \
    }                                                                                              \
    static void backward_##id(const tl_op_call *call) {                                            \
        backward(call, activation, (slope_source).data);                                           \
    }                                                                                              \
    const tl_op tl_op_##id = {.name = #id,                                                         \
                              .min_inputs = 1,                                                     \
                              .max_inputs = 1,                                                     \
                              .flags = (flag) | TL_OP_IN_PLACE | TL_OP_CHEAP | TL_OP_BF16,         \
                              .infer = infer_same,                                                 \
                              .forward = forward_##id,                                             \
                              .rows = tl_op_same_rows,                                             \
                              .backward = backward_##id,                                           \
                              .act = activation};

ACTIVATION(relu, TL_ACT_RELU, TL_OP_KEEPS_OUTPUT, call->out)
ACTIVATION(relu6, TL_ACT_RELU6, TL_OP_KEEPS_OUTPUT, call->out)
ACTIVATION(sigmoid, TL_ACT_SIGMOID, TL_OP_KEEPS_OUTPUT | TL_OP_PROBABILITY, call->out)
ACTIVATION(silu, TL_ACT_SILU, TL_OP_KEEPS_INPUT, call->in[0])
ACTIVATION(hard_swish, TL_ACT_HARD_SWISH, TL_OP_KEEPS_INPUT, call->in[0])
ACTIVATION(hard_sigmoid, TL_ACT_HARD_SIGMOID, TL_OP_KEEPS_OUTPUT, call->out)
ACTIVATION(gelu, TL_ACT_GELU, TL_OP_KEEPS_INPUT, call->in[0])
