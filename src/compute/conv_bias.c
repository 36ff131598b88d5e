/* The gradient of the bias: column sums of dy. */
#include "compute/conv.h"

enum { BIAS_CHANNELS = 64, BIAS_ROWS = 256 };

typedef struct bias_task {
    const float *dy;
    float *db;
    int64_t rows, c;
} bias_task;

/* Column sums: f32 within a few hundred rows, f64 beyond. */
static void sum_channels(const bias_task *task, int64_t first, int count) {
    double total[BIAS_CHANNELS] = {0};
    for (int64_t begin = 0; begin < task->rows; begin += BIAS_ROWS) {
        int64_t end = begin + BIAS_ROWS < task->rows ? begin + BIAS_ROWS : task->rows;
        float sum[BIAS_CHANNELS] = {0};
        for (int64_t row = begin; row < end; row++) {
            const float *dy = task->dy + row * task->c + first;
            for (int j = 0; j < count; j++) sum[j] += dy[j];
        }
        for (int j = 0; j < count; j++) total[j] += (double)sum[j];
    }
    for (int j = 0; j < count; j++) task->db[first + j] += (float)total[j];
}

static void sum_blocks(void *arg, int64_t begin, int64_t end) {
    const bias_task *task = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i * BIAS_CHANNELS, left = task->c - first;
        sum_channels(task, first, left < BIAS_CHANNELS ? (int)left : BIAS_CHANNELS);
    }
}

void tl_conv_backward_bias(tl_context *ctx, const tl_conv *conv, const float *dy, float *db) {
    bias_task task = {dy, db, conv->n * conv->oh * conv->ow, conv->oc};
    tl_parallel(ctx, (conv->oc + BIAS_CHANNELS - 1) / BIAS_CHANNELS, sum_blocks, &task);
}
