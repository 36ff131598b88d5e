/* Inverted dropout: Srivastava et al. 2014, with the scaling by 1 / (1 - rate) in training, as in
 * every framework. */
#include "base/rng.h"
#include "layer/loop.h"
#include "layer/ops.h"

typedef struct dropout_attr {
    float rate;
} dropout_attr;

static const tl_attr_spec dropout_attrs[] = {{.name = "rate",
                                              .type = TL_ATTR_FLOAT,
                                              .offset = offsetof(dropout_attr, rate),
                                              .initial = 0.5,
                                              .max = 0.999},
                                             {0}};

/* One bit per element, set where it is kept. */
enum { BITS = 64 };

typedef struct dropout_job {
    const struct tl_kernels *kernels;
    const void *from;
    void *to;
    size_t size;
    uint64_t *mask; /* may be NULL in forward */
    int64_t n;
    uint64_t seed, stream;
    double rate;
    bool add;
} dropout_job;

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)attr, (void)input_count;
    out->out = in[0];
    out->flops = (double)tl_shape_count(&in[0]);
    return TL_OK;
}

static int64_t words_of(int64_t n) {
    return (n + BITS - 1) / BITS;
}

static void memory(const tl_op_call *call, tl_op_memory *out) {
    out->saved = (size_t)words_of(tl_shape_count(&call->out.shape)) * sizeof(uint64_t);
}

/* A stream of its own for each word of the mask: no thread depends on another. */
static uint64_t draw_word(const dropout_job *job, int64_t word) {
    uint64_t limit = (uint64_t)(job->rate * 0x1p32);
    tl_rng rng = tl_rng_make(job->seed, TL_RNG_DROPOUT, job->stream, (uint64_t)word);
    uint64_t bits = 0;
    for (int i = 0; i < BITS; i += 2) {
        uint64_t draw = tl_rng_next(&rng);
        bits |= (uint64_t)((draw & 0xffffffffu) >= limit) << i;
        bits |= (uint64_t)((draw >> 32) >= limit) << (i + 1);
    }
    return bits;
}

static void apply_word(const dropout_job *job, int64_t word, uint64_t bits) {
    float scale = (float)(1.0 / (1.0 - job->rate));
    int64_t first = word * BITS;
    int count = (int)(job->n - first < BITS ? job->n - first : BITS);
    float value[BITS], old[BITS];
    void *to = tl_to_at(job->to, job->size, first);
    if (job->add) tl_load_floats(job->kernels, to, old, count);
    tl_load_floats(job->kernels, tl_from_at(job->from, job->size, first), value, count);
    for (int i = 0; i < count; i++) {
        value[i] *= scale * (float)(bits >> i & 1);
        if (job->add) value[i] += old[i];
    }
    tl_store_floats(job->kernels, value, to, count);
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const dropout_job *job = arg;
    for (int64_t word = begin; word < end; word++) {
        uint64_t bits = draw_word(job, word);
        if (job->mask) job->mask[word] = bits;
        apply_word(job, word, bits);
    }
}

static void forward(const tl_op_call *call) {
    const dropout_attr *attr = call->attr;
    int64_t n = tl_shape_count(&call->out.shape);
    if (!call->training) {
        tl_copy_elements(call, call->in[0].data, call->out.data, n);
        return;
    }
    dropout_job job = {.kernels = tl_call_kernels(call),
                       .size = tl_call_size(call),
                       .from = call->in[0].data,
                       .to = call->out.data,
                       .mask = call->backward_follows ? call->saved : NULL,
                       .n = n,
                       .seed = call->seed,
                       .stream = call->stream,
                       .rate = (double)attr->rate};
    tl_parallel(call->ctx, words_of(n), forward_task, &job);
}

static void backward_task(void *arg, int64_t begin, int64_t end) {
    const dropout_job *job = arg;
    for (int64_t word = begin; word < end; word++) apply_word(job, word, job->mask[word]);
}

static void backward(const tl_op_call *call) {
    if (!call->grad_in[0]) return;
    const dropout_attr *attr = call->attr;
    int64_t n = tl_shape_count(&call->out.shape);
    if (!call->training) {
        tl_pass_gradient(call, call->grad_out, call->grad_add[0], call->grad_in[0], n);
        return;
    }
    dropout_job job = {.kernels = tl_call_kernels(call),
                       .size = tl_call_size(call),
                       .from = call->grad_out,
                       .to = call->grad_in[0],
                       .mask = call->saved,
                       .n = n,
                       .rate = (double)attr->rate,
                       .add = call->grad_add[0]};
    tl_parallel(call->ctx, words_of(n), backward_task, &job);
}

const tl_op tl_op_dropout = {.name = "dropout",
                             .min_inputs = 1,
                             .max_inputs = 1,
                             .flags = TL_OP_VIEW | TL_OP_IN_PLACE | TL_OP_RANDOM | TL_OP_BF16,
                             .attr_size = sizeof(dropout_attr),
                             .attrs = dropout_attrs,
                             .infer = infer,
                             .memory = memory,
                             .forward = forward,
                             .backward = backward};
