/* The gradient of the bias: column sums of dy. */
#include "compute/conv_parts.h"
#include "compute/cut.h"

enum { BIAS_CHANNELS = 64 };

typedef struct bias_task {
    const struct tl_kernels *kernels;
    const void *dy;
    float *db;
    int64_t rows, c;
} bias_task;

static void sum_blocks(void *arg, int64_t begin, int64_t end) {
    const bias_task *task = arg;
    for (int64_t i = begin; i < end; i++) {
        double sum[BIAS_CHANNELS] = {0};
        int64_t first = i * BIAS_CHANNELS, left = task->c - first;
        int64_t count = left < BIAS_CHANNELS ? left : BIAS_CHANNELS;
        const void *dy = tl_element(task->dy, first, task->kernels->element);
        task->kernels->row_sums(dy, task->c, sum, task->rows, count);
        for (int64_t j = 0; j < count; j++) task->db[first + j] += (float)sum[j];
    }
}

void tl_conv_backward_bias(tl_context *ctx, const tl_conv *conv, const void *dy, float *db) {
    bias_task task = {tl_conv_kernels(ctx, conv), dy, db, conv->n * conv->oh * conv->ow, conv->oc};
    tl_parallel(ctx, (conv->oc + BIAS_CHANNELS - 1) / BIAS_CHANNELS, sum_blocks, &task);
}
