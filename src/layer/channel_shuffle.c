/* Channel shuffle: Zhang et al. 2018, section 3.1. Channels seen as [groups, C / groups] change
 * places with their transpose. */
#include "layer/loop.h"
#include "layer/ops.h"

typedef struct shuffle_attr {
    int32_t groups;
} shuffle_attr;

static const tl_attr_spec shuffle_attrs[] = {{.name = "groups",
                                              .type = TL_ATTR_INT,
                                              .offset = offsetof(shuffle_attr, groups),
                                              .min = 1,
                                              .max = 1 << 24,
                                              .required = true},
                                             {0}};

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const shuffle_attr *a = attr;
    int64_t channels = tl_shape_channels(&in[0]);
    TL_CHECK(channels % a->groups == 0, TL_SHAPE,
             "channel_shuffle: %lld channels in %d groups, expected a divisor", (long long)channels,
             a->groups);
    out->out = in[0];
    return TL_OK;
}

typedef struct shuffle_job {
    const float *from;
    float *to;
    int64_t outer, inner; /* to's channels are [inner][outer] of from's [outer][inner] */
    bool add;
} shuffle_job;

static void task(void *arg, int64_t begin, int64_t end) {
    const shuffle_job *job = arg;
    int64_t channels = job->outer * job->inner;
    for (int64_t row = begin; row < end; row++) {
        const float *from = job->from + row * channels;
        float *to = job->to + row * channels;
        for (int64_t i = 0; i < job->inner; i++) {
            for (int64_t o = 0; o < job->outer; o++, to++) {
                float value = from[o * job->inner + i];
                *to = job->add ? *to + value : value;
            }
        }
    }
}

static void forward(const tl_op_call *call) {
    const shuffle_attr *attr = call->attr;
    shuffle_job job = {.from = call->in[0].data,
                       .to = call->out.data,
                       .outer = attr->groups,
                       .inner = tl_shape_channels(&call->out.shape) / attr->groups};
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), task, &job);
}

static void backward(const tl_op_call *call) {
    const shuffle_attr *attr = call->attr;
    if (!call->grad_in[0]) return;
    shuffle_job job = {.from = call->grad_out,
                       .to = call->grad_in[0],
                       .outer = tl_shape_channels(&call->out.shape) / attr->groups,
                       .inner = attr->groups,
                       .add = call->grad_add[0]};
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), task, &job);
}

const tl_op tl_op_channel_shuffle = {.name = "channel_shuffle",
                                     .min_inputs = 1,
                                     .max_inputs = 1,
                                     .attr_size = sizeof(shuffle_attr),
                                     .attrs = shuffle_attrs,
                                     .infer = infer,
                                     .forward = forward,
                                     .backward = backward};
