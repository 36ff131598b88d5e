#include "layer/loop.h"

#include <string.h>

void tl_parallel_chunks(tl_context *ctx, int64_t n, tl_task_fn fn, void *arg) {
    tl_parallel(ctx, (n + TL_CHUNK - 1) / TL_CHUNK, fn, arg);
}

int64_t tl_chunk_at(int64_t n, int64_t begin, int64_t end, int64_t *count) {
    int64_t first = begin * TL_CHUNK, last = end * TL_CHUNK;
    *count = (last < n ? last : n) - first;
    return first;
}

const struct tl_kernels *tl_call_kernels(const tl_op_call *call) {
    bool bf16 = call->in[0].dtype == TL_BF16;
    return bf16 ? tl_context_bf16_kernels(call->ctx) : tl_context_kernels(call->ctx);
}

size_t tl_call_size(const tl_op_call *call) {
    return tl_dtype_size(call->in[0].dtype);
}

const void *tl_from_at(const void *data, size_t size, int64_t index) {
    return (const char *)data + (size_t)index * size;
}

void *tl_to_at(void *data, size_t size, int64_t index) {
    return (char *)data + (size_t)index * size;
}

void tl_load_floats(const struct tl_kernels *kernels, const void *from, float *to, int64_t n) {
    if (kernels->element == sizeof *to)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        kernels->widen(from, to, n);
}

void tl_store_floats(const struct tl_kernels *kernels, const float *from, void *to, int64_t n) {
    if (kernels->element == sizeof *from)
        memcpy(to, from, (size_t)n * sizeof *from);
    else
        kernels->narrow(from, to, n);
}

typedef struct transfer {
    const struct tl_kernels *kernels;
    const void *from;
    void *to;
    size_t size;
    int64_t n;
    bool add;
} transfer;

static void transfer_task(void *arg, int64_t begin, int64_t end) {
    const transfer *job = arg;
    int64_t count;
    int64_t first = tl_chunk_at(job->n, begin, end, &count);
    const void *from = tl_from_at(job->from, job->size, first);
    void *to = tl_to_at(job->to, job->size, first);
    if (job->add)
        job->kernels->add(to, from, to, count);
    else
        memcpy(to, from, (size_t)count * job->size);
}

void tl_copy_elements(const tl_op_call *call, const void *from, void *to, int64_t n) {
    tl_pass_gradient(call, from, false, to, n);
}

void tl_pass_gradient(const tl_op_call *call, const void *from, bool add, void *to, int64_t n) {
    if (from == to && !add) return;
    transfer job = {tl_call_kernels(call), from, to, tl_call_size(call), n, add};
    tl_parallel_chunks(call->ctx, n, transfer_task, &job);
}

int64_t tl_shape_channels(const tl_shape *shape) {
    return shape->dim[shape->rank - 1];
}

int64_t tl_shape_rows(const tl_shape *shape) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < shape->rank; i++) rows *= shape->dim[i];
    return rows;
}

tl_parts tl_parts_of(int64_t rows, int64_t channels) {
    int64_t least = (TL_CHUNK + channels - 1) / channels;
    int64_t equal = (rows + TL_MAX_PARTS - 1) / TL_MAX_PARTS;
    tl_parts parts = {equal > least ? equal : least, 0};
    parts.count = (rows + parts.rows - 1) / parts.rows;
    return parts;
}

int64_t tl_part_rows(const tl_parts *parts, int64_t rows, int64_t begin, int64_t end,
                     int64_t *first) {
    int64_t from = begin * parts->rows, to = end * parts->rows;
    *first = from < rows ? from : rows;
    return (to < rows ? to : rows) - *first;
}
