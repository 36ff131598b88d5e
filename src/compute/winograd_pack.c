/* Weights for Winograd's method: each 3 x 3 filter plane becomes (m + 2)^2 values, and point p of
 * all planes is one matrix [ic][oc], packed like any other B. */
#include "compute/gather.h"
#include "compute/winograd.h"

#include <string.h>

/* MAX_WIDTH is the largest nr of any table. */
enum { MAX_SIDE = 6, MAX_WIDTH = 32, CHANNELS = 4 };

/* Row i of the weights' transform, see kernels/winograd_points.h. */
static const double rows_2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};

#define P 0.70710678118654752440
#define Q 1.41421356237309504880
static const double rows_4[6][3] = {{1, 0, 0},
                                    {-2.0 / 3.0, -2.0 / 3.0 * P, -1.0 / 3.0},
                                    {-2.0 / 3.0, 2.0 / 3.0 * P, -1.0 / 3.0},
                                    {1.0 / 6.0, Q / 6.0, 1.0 / 3.0},
                                    {1.0 / 6.0, -Q / 6.0, 1.0 / 3.0},
                                    {0, 0, 1}};

typedef struct winograd_pack {
    const tl_winograd_source *source;
    const struct tl_kernels *kernels;
    float *packed;
    int m;
    int64_t point_size; /* floats of one packed matrix */
} winograd_pack;

size_t tl_winograd_packed_size(tl_context *ctx, const tl_conv *conv, int m) {
    int points = (m + 2) * (m + 2);
    return (size_t)points *
           tl_gather_packed_bytes(tl_context_kernels(ctx), 1, 1, conv->ic, conv->oc) /
           sizeof(float);
}

/* The planes of one filter from channel `first` on, into result[point][channel]. */
static void transform_planes(const winograd_pack *task, int64_t filter, int64_t first, int count,
                             double result[MAX_SIDE * MAX_SIDE][CHANNELS]) {
    const tl_winograd_source *s = task->source;
    const double(*rows)[3] = task->m == 2 ? rows_2 : rows_4;
    int side = task->m + 2;
    double factor = s->scale ? (double)s->scale[filter] : 1.0;
    double plane[9][CHANNELS] = {{0}}, half[MAX_SIDE][3][CHANNELS];
    const float *from = s->weights + filter * s->filter_step + first * s->channel_step;
    for (int t = 0; t < 9; t++) {
        for (int c = 0; c < count; c++)
            plane[t][c] = factor * (double)from[c * s->channel_step + t * s->tap_step];
    }
    for (int i = 0; i < side; i++) {
        for (int j = 0; j < 3; j++) {
            for (int c = 0; c < CHANNELS; c++)
                half[i][j][c] = rows[i][0] * plane[j][c] + rows[i][1] * plane[3 + j][c] +
                                rows[i][2] * plane[6 + j][c];
        }
    }
    for (int p = 0; p < side * side; p++) {
        const double *row = rows[p % side];
        const double(*line)[CHANNELS] = (const double(*)[CHANNELS])half[p / side];
        for (int c = 0; c < CHANNELS; c++)
            result[p][c] = row[0] * line[0][c] + row[1] * line[1][c] + row[2] * line[2][c];
    }
}

/* Some channels of all filters of a panel. They are put in order in a buffer that stays in the
 * first-level cache: written to their places one by one, every value would be a miss. */
static void pack_channels(const winograd_pack *task, int64_t panel, int64_t first) {
    int64_t channels = task->source->channels;
    int points = (task->m + 2) * (task->m + 2);
    int64_t column = panel * task->kernels->nr, left = task->source->filters - column;
    int width = tl_panel_width(task->kernels, left);
    int filters = left < width ? (int)left : width;
    int count = channels - first < CHANNELS ? (int)(channels - first) : CHANNELS;
    float ordered[MAX_SIDE * MAX_SIDE][CHANNELS * MAX_WIDTH] = {{0}};
    for (int o = 0; o < filters; o++) {
        double result[MAX_SIDE * MAX_SIDE][CHANNELS];
        transform_planes(task, column + o, first, count, result);
        for (int p = 0; p < points; p++) {
            for (int i = 0; i < CHANNELS; i++) ordered[p][i * width + o] = (float)result[p][i];
        }
    }
    for (int p = 0; p < points; p++)
        memcpy(task->packed + p * task->point_size + column * channels + first * width, ordered[p],
               (size_t)(count * width) * sizeof(float));
}

static void pack_panels(void *arg, int64_t begin, int64_t end) {
    const winograd_pack *task = arg;
    int64_t chunks = (task->source->channels + CHANNELS - 1) / CHANNELS;
    for (int64_t i = begin; i < end; i++) pack_channels(task, i / chunks, i % chunks * CHANNELS);
}

void tl_winograd_pack(tl_context *ctx, const tl_winograd_source *source, int m, float *packed) {
    const struct tl_kernels *kernels = tl_context_kernels(ctx);
    winograd_pack task = {
        source, kernels, packed, m,
        (int64_t)(tl_gather_packed_bytes(kernels, 1, 1, source->channels, source->filters) /
                  sizeof(float))};
    int64_t panels = (source->filters + kernels->nr - 1) / kernels->nr;
    int64_t chunks = (source->channels + CHANNELS - 1) / CHANNELS;
    tl_parallel(ctx, panels * chunks, pack_panels, &task);
}
