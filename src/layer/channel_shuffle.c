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
    const struct tl_kernels *kernels;
    size_t size; /* of an element */
    const void *from;
    void *to;
    int64_t outer, inner; /* to's channels are [inner][outer] of from's [outer][inner] */
    bool add;
} shuffle_job;

enum { BLOCK = 512 /* channels that are brought together before they are stored */ };

/* Channels `first` and on of `to`. */
static void gather(const shuffle_job *job, const void *from, int64_t first, int64_t count,
                   void *to) {
    int64_t o = first % job->outer, i = first / job->outer;
    for (int64_t k = 0; k < count; k++) {
        int64_t at = o * job->inner + i;
        if (job->size == sizeof(uint32_t))
            ((uint32_t *)to)[k] = ((const uint32_t *)from)[at];
        else
            ((uint16_t *)to)[k] = ((const uint16_t *)from)[at];
        if (++o < job->outer) continue;
        o = 0;
        i++;
    }
}

static void task(void *arg, int64_t begin, int64_t end) {
    const shuffle_job *job = arg;
    int64_t channels = job->outer * job->inner;
    uint32_t block[BLOCK];
    for (int64_t row = begin; row < end; row++) {
        const void *from = tl_from_at(job->from, job->size, row * channels);
        for (int64_t first = 0; first < channels; first += BLOCK) {
            int64_t left = channels - first, count = left < BLOCK ? left : BLOCK;
            void *to = tl_to_at(job->to, job->size, row * channels + first);
            gather(job, from, first, count, job->add ? block : to);
            if (job->add) job->kernels->add(to, block, to, count);
        }
    }
}

static void forward(const tl_op_call *call) {
    const shuffle_attr *attr = call->attr;
    shuffle_job job = {.kernels = tl_call_kernels(call),
                       .size = tl_call_size(call),
                       .from = call->in[0].data,
                       .to = call->out.data,
                       .outer = attr->groups,
                       .inner = tl_shape_channels(&call->out.shape) / attr->groups};
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), task, &job);
}

static void backward(const tl_op_call *call) {
    const shuffle_attr *attr = call->attr;
    if (!call->grad_in[0]) return;
    shuffle_job job = {.kernels = tl_call_kernels(call),
                       .size = tl_call_size(call),
                       .from = call->grad_out,
                       .to = call->grad_in[0],
                       .outer = tl_shape_channels(&call->out.shape) / attr->groups,
                       .inner = attr->groups,
                       .add = call->grad_add[0]};
    tl_parallel(call->ctx, tl_shape_rows(&call->out.shape), task, &job);
}

const tl_op tl_op_channel_shuffle = {.name = "channel_shuffle",
                                     .min_inputs = 1,
                                     .max_inputs = 1,
                                     .flags = TL_OP_BF16,
                                     .attr_size = sizeof(shuffle_attr),
                                     .attrs = shuffle_attrs,
                                     .infer = infer,
                                     .forward = forward,
                                     .backward = backward};
