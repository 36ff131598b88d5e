/* Leaky ReLU: Maas et al. 2013. */
#include "layer/loop.h"
#include "layer/ops.h"

typedef struct leaky_attr {
    float alpha;
} leaky_attr;

/* PyTorch's and ONNX's default; Keras's is 0.3. */
static const tl_attr_spec leaky_attrs[] = {{.name = "alpha",
                                            .type = TL_ATTR_FLOAT,
                                            .offset = offsetof(leaky_attr, alpha),
                                            .initial = 0.01,
                                            .max = 1},
                                           {0}};

typedef struct leaky_job {
    const float *value; /* whose sign decides: the input, in backward the output */
    const float *from;
    float *to;
    int64_t n;
    float alpha;
    bool add;
} leaky_job;

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)attr, (void)input_count;
    out->out = in[0];
    out->flops = (double)tl_shape_count(&in[0]);
    return TL_OK;
}

static void task(void *arg, int64_t begin, int64_t end) {
    const leaky_job *job = arg;
    int64_t count, first = tl_chunk_at(job->n, begin, end, &count);
    for (int64_t i = first; i < first + count; i++) {
        float result = job->from[i] * (job->value[i] > 0.0f ? 1.0f : job->alpha);
        job->to[i] = job->add ? job->to[i] + result : result;
    }
}

static void forward(const tl_op_call *call) {
    const leaky_attr *attr = call->attr;
    leaky_job job = {.value = call->in[0].data,
                     .from = call->in[0].data,
                     .to = call->out.data,
                     .n = tl_shape_count(&call->out.shape),
                     .alpha = attr->alpha};
    tl_parallel_chunks(call->ctx, job.n, task, &job);
}

/* The output is above 0 where the input was. */
static void backward(const tl_op_call *call) {
    const leaky_attr *attr = call->attr;
    if (!call->grad_in[0]) return;
    leaky_job job = {.value = call->out.data,
                     .from = call->grad_out,
                     .to = call->grad_in[0],
                     .n = tl_shape_count(&call->out.shape),
                     .alpha = attr->alpha,
                     .add = call->grad_add[0]};
    tl_parallel_chunks(call->ctx, job.n, task, &job);
}

const tl_op tl_op_leaky_relu = {.name = "leaky_relu",
                                .min_inputs = 1,
                                .max_inputs = 1,
                                .flags = TL_OP_KEEPS_OUTPUT | TL_OP_IN_PLACE,
                                .attr_size = sizeof(leaky_attr),
                                .attrs = leaky_attrs,
                                .infer = infer,
                                .forward = forward,
                                .rows = tl_op_same_rows,
                                .backward = backward};
