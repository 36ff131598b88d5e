#include "layer/row_sums.h"

#include <string.h>

#include "layer/loop.h"

size_t tl_row_sums_size(int64_t channels) {
    return TL_MAX_PARTS * 2 * (size_t)channels * sizeof(double);
}

typedef struct sums_job {
    const struct tl_kernels *kernels;
    const void *x, *dy;
    const float *center;
    size_t size;
    double *sums; /* [parts][2][C] */
    int64_t rows, channels;
    tl_parts parts;
} sums_job;

static void sums_task(void *arg, int64_t begin, int64_t end) {
    const sums_job *job = arg;
    int64_t c = job->channels;
    for (int64_t part = begin; part < end; part++) {
        int64_t first, rows = tl_part_rows(&job->parts, job->rows, part, part + 1, &first);
        double *sums = job->sums + part * 2 * c;
        memset(sums, 0, (size_t)c * 2 * sizeof(double));
        const void *x = tl_from_at(job->x, job->size, first * c);
        if (job->dy) {
            const tl_slopes slopes = {.x = x, .dy = tl_from_at(job->dy, job->size, first * c)};
            job->kernels->moments_backward(&slopes, job->center, sums, sums + c, rows, c);
        } else {
            job->kernels->moments(x, sums, sums + c, rows, c);
        }
    }
}

void tl_row_sums(const tl_op_call *call, const void *x, const void *dy, const float *center,
                 int64_t rows, int64_t channels, double *sums) {
    sums_job job = {.kernels = tl_call_kernels(call),
                    .size = tl_call_size(call),
                    .x = x,
                    .dy = dy,
                    .center = center,
                    .sums = sums,
                    .rows = rows,
                    .channels = channels,
                    .parts = tl_parts_of(rows, channels)};
    tl_parallel(call->ctx, job.parts.count, sums_task, &job);
    tl_add_row_sums(sums, job.parts.count, channels);
}

void tl_add_row_sums(double *sums, int64_t parts, int64_t channels) {
    for (int64_t part = 1; part < parts; part++)
        for (int64_t i = 0; i < 2 * channels; i++) sums[i] += sums[part * 2 * channels + i];
}
