/* Concatenation along the channels (the last dimension). */
#include <string.h>

#include "layer/loop.h"
#include "layer/ops.h"

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)attr;
    out->out = in[0];
    int64_t *channels = &out->out.dim[in[0].rank - 1];
    for (int i = 1; i < input_count; i++) {
        char first[TL_SHAPE_TEXT], other[TL_SHAPE_TEXT];
        tl_shape expected = in[i];
        if (expected.rank == in[0].rank) expected.dim[in[0].rank - 1] = tl_shape_channels(&in[0]);
        TL_CHECK(tl_shape_equal(&expected, &in[0]), TL_SHAPE,
                 "concat: input %d is %s, expected %s like the first in all but the channels", i,
                 tl_shape_text(&in[i], other), tl_shape_text(&in[0], first));
        TL_CHECK(*channels <= TL_MAX_ELEMENTS, TL_LIMIT, "concat: more than %lld channels",
                 (long long)TL_MAX_ELEMENTS);
        *channels += tl_shape_channels(&in[i]);
    }
    return TL_OK;
}

/* Rows of one input that go to, or come from, a slice of the output's channels. */
typedef struct concat_job {
    const struct tl_kernels *kernels;
    const void *from;
    void *to;
    size_t size;
    int64_t from_stride, to_stride, channels;
    bool add;
} concat_job;

static void copy_task(void *arg, int64_t begin, int64_t end) {
    const concat_job *job = arg;
    for (int64_t row = begin; row < end; row++) {
        const void *from = tl_from_at(job->from, job->size, row * job->from_stride);
        void *to = tl_to_at(job->to, job->size, row * job->to_stride);
        if (job->add)
            job->kernels->add(to, from, to, job->channels);
        else
            memcpy(to, from, (size_t)job->channels * job->size);
    }
}

static void forward(const tl_op_call *call) {
    int64_t offset = 0, total = tl_shape_channels(&call->out.shape);
    size_t size = tl_call_size(call);
    for (int i = 0; i < call->input_count; i++) {
        int64_t channels = tl_shape_channels(&call->in[i].shape);
        concat_job job = {.from = call->in[i].data,
                          .to = tl_to_at(call->out.data, size, offset),
                          .size = size,
                          .from_stride = channels,
                          .to_stride = total,
                          .channels = channels};
        tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), copy_task, &job);
        offset += channels;
    }
}

static void backward(const tl_op_call *call) {
    int64_t offset = 0, total = tl_shape_channels(&call->out.shape);
    size_t size = tl_call_size(call);
    for (int i = 0; i < call->input_count; i++) {
        int64_t channels = tl_shape_channels(&call->in[i].shape);
        concat_job job = {.kernels = tl_call_kernels(call),
                          .from = tl_from_at(call->grad_out, size, offset),
                          .to = call->grad_in[i],
                          .size = size,
                          .from_stride = total,
                          .to_stride = channels,
                          .channels = channels,
                          .add = call->grad_add[i]};
        if (job.to) tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), copy_task, &job);
        offset += channels;
    }
}

const tl_op tl_op_concat = {.name = "concat",
                            .min_inputs = 1,
                            .max_inputs = 0,
                            .flags = TL_OP_BF16,
                            .infer = infer,
                            .forward = forward,
                            .backward = backward};
