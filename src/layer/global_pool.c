/* Average and maximum over all of a picture: [N, H, W, C] to [N, C]. */
#include <string.h>

#include "kernels.h"
#include "layer/loop.h"
#include "layer/ops.h"

enum { BLOCK = 64 }; /* channels at a time */

typedef struct global_job {
    const tl_op_call *call;
    const struct tl_kernels *kernels;
    int64_t pixels, channels, blocks;
} global_job;

/* One sample's block of channels. */
typedef struct global_block {
    int64_t in, out, count; /* offsets of its first channel; number of channels */
} global_block;

static tl_status infer(const char *op, const tl_shape *in, tl_op_shapes *out) {
    char text[TL_SHAPE_TEXT];
    TL_CHECK(in->rank == 4, TL_SHAPE, "%s: the input is %s, expected [N, H, W, C]", op,
             tl_shape_text(in, text));
    out->out = tl_shape_make(2, in->dim[0], in->dim[3]);
    out->flops = (double)tl_shape_count(in);
    return TL_OK;
}

static void run(const tl_op_call *call, tl_task_fn fn) {
    const tl_shape *in = &call->in[0].shape;
    int64_t channels = in->dim[3], blocks = (channels + BLOCK - 1) / BLOCK;
    global_job job = {call, tl_call_kernels(call), in->dim[1] * in->dim[2], channels, blocks};
    tl_parallel(call->ctx, in->dim[0] * blocks, fn, &job);
}

static global_block block_at(const global_job *job, int64_t index) {
    int64_t sample = index / job->blocks, first = index % job->blocks * BLOCK;
    int64_t left = job->channels - first;
    return (global_block){sample * job->pixels * job->channels + first,
                          sample * job->channels + first, left < BLOCK ? left : BLOCK};
}

/* --- average
 * --------------------------------------------------------------------------------------- */

static tl_status infer_avg(const void *attr, int input_count, const tl_shape *in,
                           tl_op_shapes *out) {
    (void)attr, (void)input_count;
    return infer("global_avg_pool", &in[0], out);
}

static void store_floats(const global_job *job, const float *value, const global_block *block) {
    const tl_view *out = &job->call->out;
    void *y = tl_to_at(out->data, tl_dtype_size(out->dtype), block->out);
    if (out->dtype == TL_F32)
        memcpy(y, value, (size_t)block->count * sizeof *value);
    else
        job->kernels->narrow(value, y, block->count);
}

static void avg_forward_task(void *arg, int64_t begin, int64_t end) {
    const global_job *job = arg;
    for (int64_t index = begin; index < end; index++) {
        global_block block = block_at(job, index);
        const void *x = tl_from_at(job->call->in[0].data, tl_call_size(job->call), block.in);
        double sum[BLOCK] = {0};
        job->kernels->row_sums(x, job->channels, sum, job->pixels, block.count);
        float mean[BLOCK];
        for (int64_t i = 0; i < block.count; i++) mean[i] = (float)(sum[i] / (double)job->pixels);
        store_floats(job, mean, &block);
    }
}

static void avg_backward_task(void *arg, int64_t begin, int64_t end) {
    const global_job *job = arg;
    float weight = 1.0f / (float)job->pixels;
    bool add = job->call->grad_add[0];
    size_t size = tl_call_size(job->call);
    for (int64_t index = begin; index < end; index++) {
        global_block block = block_at(job, index);
        float share[BLOCK], stored[BLOCK]; /* the latter in the type of dx */
        tl_load_floats(job->kernels, tl_from_at(job->call->grad_out, size, block.out), share,
                       block.count);
        for (int64_t i = 0; i < block.count; i++) share[i] *= weight;
        tl_store_floats(job->kernels, share, stored, block.count);
        for (int64_t p = 0; p < job->pixels; p++) {
            void *dx = tl_to_at(job->call->grad_in[0], size, block.in + p * job->channels);
            if (add)
                job->kernels->add(dx, stored, dx, block.count);
            else
                memcpy(dx, stored, (size_t)block.count * size);
        }
    }
}

static bool writes_f32(const tl_op_call *call) {
    (void)call;
    return true;
}

static void forward_avg(const tl_op_call *call) {
    run(call, avg_forward_task);
}

static void backward_avg(const tl_op_call *call) {
    if (call->grad_in[0]) run(call, avg_backward_task);
}

const tl_op tl_op_global_avg_pool = {.name = "global_avg_pool",
                                     .min_inputs = 1,
                                     .max_inputs = 1,
                                     .flags = TL_OP_BF16,
                                     .infer = infer_avg,
                                     .forward = forward_avg,
                                     .writes_f32 = writes_f32,
                                     .backward = backward_avg};

/* --- maximum: the first of equal values wins
 * ---------------------------------------------------------- */

static tl_status infer_max(const void *attr, int input_count, const tl_shape *in,
                           tl_op_shapes *out) {
    (void)attr, (void)input_count;
    TL_TRY(infer("global_max_pool", &in[0], out));
    TL_CHECK(in[0].dim[1] * in[0].dim[2] <= INT32_MAX, TL_LIMIT,
             "global_max_pool: a picture of more than %d pixels", INT32_MAX);
    return TL_OK;
}

/* The winning pixel of each output. */
static void memory_max(const tl_op_call *call, tl_op_memory *out) {
    out->saved = (size_t)tl_shape_count(&call->out.shape) * sizeof(int32_t);
}

static void max_forward_task(void *arg, int64_t begin, int64_t end) {
    const global_job *job = arg;
    for (int64_t index = begin; index < end; index++) {
        global_block block = block_at(job, index);
        size_t size = tl_call_size(job->call);
        float best[BLOCK], x[BLOCK];
        int32_t winner[BLOCK] = {0};
        for (int32_t p = 0; p < job->pixels; p++) {
            int64_t at = block.in + p * job->channels;
            tl_load_floats(job->kernels, tl_from_at(job->call->in[0].data, size, at), x,
                           block.count);
            for (int64_t i = 0; i < block.count; i++) {
                bool wins = (p == 0) | (x[i] > best[i]) | (x[i] != x[i]);
                best[i] = wins ? x[i] : best[i];
                winner[i] = wins ? p : winner[i];
            }
        }
        store_floats(job, best, &block);
        if (job->call->backward_follows)
            memcpy((int32_t *)job->call->saved + block.out, winner,
                   (size_t)block.count * sizeof(int32_t));
    }
}

static void max_backward_task(void *arg, int64_t begin, int64_t end) {
    const global_job *job = arg;
    for (int64_t index = begin; index < end; index++) {
        global_block block = block_at(job, index);
        size_t size = tl_call_size(job->call);
        const int32_t *winner = (const int32_t *)job->call->saved + block.out;
        for (int64_t p = 0; p < job->pixels && !job->call->grad_add[0]; p++)
            memset(tl_to_at(job->call->grad_in[0], size, block.in + p * job->channels), 0,
                   (size_t)block.count * size);
        for (int64_t i = 0; i < block.count; i++) {
            int64_t at = block.in + winner[i] * job->channels + i;
            void *dx = tl_to_at(job->call->grad_in[0], size, at);
            job->kernels->add(dx, tl_from_at(job->call->grad_out, size, block.out + i), dx, 1);
        }
    }
}

static void forward_max(const tl_op_call *call) {
    run(call, max_forward_task);
}

static void backward_max(const tl_op_call *call) {
    if (call->grad_in[0]) run(call, max_backward_task);
}

const tl_op tl_op_global_max_pool = {.name = "global_max_pool",
                                     .min_inputs = 1,
                                     .max_inputs = 1,
                                     .flags = TL_OP_BF16,
                                     .infer = infer_max,
                                     .memory = memory_max,
                                     .forward = forward_max,
                                     .writes_f32 = writes_f32,
                                     .backward = backward_max};
