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

typedef struct transfer {
    const struct tl_kernels *kernels;
    const float *from;
    float *to;
    int64_t n;
    bool add;
} transfer;

static void transfer_task(void *arg, int64_t begin, int64_t end) {
    const transfer *job = arg;
    int64_t count;
    int64_t first = tl_chunk_at(job->n, begin, end, &count);
    if (job->add)
        job->kernels->add(job->to + first, job->from + first, job->to + first, count);
    else
        memcpy(job->to + first, job->from + first, (size_t)count * sizeof(float));
}

void tl_copy_floats(tl_context *ctx, const float *from, float *to, int64_t n) {
    tl_pass_gradient(ctx, from, false, to, n);
}

void tl_pass_gradient(tl_context *ctx, const float *from, bool add, float *to, int64_t n) {
    if (from == to && !add) return;
    transfer job = {tl_context_kernels(ctx), from, to, n, add};
    tl_parallel_chunks(ctx, n, transfer_task, &job);
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
