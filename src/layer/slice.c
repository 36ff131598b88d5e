/* Some neighbouring channels of all: the halves of ShuffleNetV2's blocks. */
#include <string.h>

#include "layer/loop.h"
#include "layer/ops.h"

typedef struct slice_attr {
    int32_t begin, end;
} slice_attr;

static const tl_attr_spec slice_attrs[] = {{.name = "begin",
                                            .type = TL_ATTR_INT,
                                            .offset = offsetof(slice_attr, begin),
                                            .max = (1 << 24) - 1},
                                           {.name = "end",
                                            .type = TL_ATTR_INT,
                                            .offset = offsetof(slice_attr, end),
                                            .min = 1,
                                            .max = 1 << 24,
                                            .required = true},
                                           {0}};

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const slice_attr *a = attr;
    int64_t channels = tl_shape_channels(&in[0]);
    TL_CHECK(a->begin < a->end && a->end <= channels, TL_SHAPE,
             "slice: channels %d to %d of %lld, expected begin < end, and end at most %lld",
             a->begin, a->end, (long long)channels, (long long)channels);
    out->out = in[0];
    out->out.dim[in[0].rank - 1] = a->end - a->begin;
    return TL_OK;
}

typedef struct slice_job {
    const struct tl_kernels *kernels;
    const void *from;
    void *to;
    size_t size;
    int64_t begin, channels, total; /* of the slice; of its input */
    bool add;
} slice_job;

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const slice_job *job = arg;
    for (int64_t row = begin; row < end; row++)
        memcpy(tl_to_at(job->to, job->size, row * job->channels),
               tl_from_at(job->from, job->size, row * job->total + job->begin),
               (size_t)job->channels * job->size);
}

static slice_job make_job(const tl_op_call *call) {
    const slice_attr *attr = call->attr;
    return (slice_job){.kernels = tl_call_kernels(call),
                       .size = tl_call_size(call),
                       .begin = attr->begin,
                       .channels = tl_shape_channels(&call->out.shape),
                       .total = tl_shape_channels(&call->in[0].shape)};
}

static void forward(const tl_op_call *call) {
    slice_job job = make_job(call);
    job.from = call->in[0].data;
    job.to = call->out.data;
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), forward_task, &job);
}

static void backward_task(void *arg, int64_t begin, int64_t end) {
    const slice_job *job = arg;
    for (int64_t row = begin; row < end; row++) {
        const void *from = tl_from_at(job->from, job->size, row * job->channels);
        void *all = tl_to_at(job->to, job->size, row * job->total);
        void *to = tl_to_at(all, job->size, job->begin);
        if (job->add) {
            job->kernels->add(to, from, to, job->channels);
            continue;
        }
        memset(all, 0, (size_t)job->total * job->size);
        memcpy(to, from, (size_t)job->channels * job->size);
    }
}

static void backward(const tl_op_call *call) {
    if (!call->grad_in[0]) return;
    slice_job job = make_job(call);
    job.from = call->grad_out;
    job.to = call->grad_in[0];
    job.add = call->grad_add[0];
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), backward_task, &job);
}

const tl_op tl_op_slice = {.name = "slice",
                           .min_inputs = 1,
                           .max_inputs = 1,
                           .flags = TL_OP_BF16,
                           .attr_size = sizeof(slice_attr),
                           .attrs = slice_attrs,
                           .infer = infer,
                           .forward = forward,
                           .backward = backward};
