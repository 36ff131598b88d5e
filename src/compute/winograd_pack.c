/* Weights for Winograd's method: each 3 x 3 filter plane becomes (m + 2)^2 values, and point p of
 * all planes is one matrix [ic][oc], packed like any other B. */
#include "compute/gather.h"
#include "compute/winograd.h"

#include <string.h>

/* MAX_WIDTH is the largest nr of any table. */
enum { MAX_SIDE = 6, MAX_WIDTH = 32, CHANNELS = 8 };

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
    const tl_conv *conv;
    const struct tl_kernels *kernels;
    const float *weights, *scale;
    float *packed;
    int m;
    int64_t point_size; /* floats of one packed matrix */
} winograd_pack;

size_t tl_winograd_packed_size(tl_context *ctx, const tl_conv *conv, int m) {
    int points = (m + 2) * (m + 2);
    return (size_t)points *
           tl_gather_packed_size(tl_context_kernels(ctx), 1, 1, conv->ic, conv->oc);
}

/* `count` planes [3][3][ic] of one filter from channel `first` on, into result[point][channel]. */
static void transform_planes(const winograd_pack *task, const float *filter, int64_t first,
                             int count, double factor,
                             double result[MAX_SIDE * MAX_SIDE][CHANNELS]) {
    const double(*rows)[3] = task->m == 2 ? rows_2 : rows_4;
    int side = task->m + 2;
    double half[MAX_SIDE][3][CHANNELS];
    int64_t ic = task->conv->ic;
    for (int i = 0; i < side; i++) {
        for (int j = 0; j < 3; j++) {
            const float *w = filter + j * ic + first;
            for (int c = 0; c < count; c++)
                half[i][j][c] =
                    factor * (rows[i][0] * (double)w[c] + rows[i][1] * (double)w[3 * ic + c] +
                              rows[i][2] * (double)w[6 * ic + c]);
        }
    }
    for (int p = 0; p < side * side; p++) {
        const double *row = rows[p % side];
        const double(*from)[CHANNELS] = (const double(*)[CHANNELS])half[p / side];
        for (int c = 0; c < count; c++)
            result[p][c] = row[0] * from[0][c] + row[1] * from[1][c] + row[2] * from[2][c];
    }
}

/* Some channels of all filters of a panel. They are put in order in a buffer that stays in the
 * first-level cache: written to their places one by one, every value would be a miss. */
static void pack_channels(const winograd_pack *task, int64_t panel, int64_t first) {
    const tl_conv *c = task->conv;
    int points = (task->m + 2) * (task->m + 2);
    int64_t column = panel * task->kernels->nr, left = c->oc - column;
    int width = tl_panel_width(task->kernels, left);
    int filters = left < width ? (int)left : width;
    int count = c->ic - first < CHANNELS ? (int)(c->ic - first) : CHANNELS;
    float ordered[MAX_SIDE * MAX_SIDE][CHANNELS * MAX_WIDTH] = {{0}};
    for (int o = 0; o < filters; o++) {
        double factor = task->scale ? (double)task->scale[column + o] : 1.0;
        double result[MAX_SIDE * MAX_SIDE][CHANNELS];
        transform_planes(task, task->weights + (column + o) * 9 * c->ic, first, count, factor,
                         result);
        for (int p = 0; p < points; p++) {
            for (int i = 0; i < count; i++) ordered[p][i * width + o] = (float)result[p][i];
        }
    }
    for (int p = 0; p < points; p++)
        memcpy(task->packed + p * task->point_size + column * c->ic + first * width, ordered[p],
               (size_t)(count * width) * sizeof(float));
}

static void pack_panels(void *arg, int64_t begin, int64_t end) {
    const winograd_pack *task = arg;
    int64_t chunks = (task->conv->ic + CHANNELS - 1) / CHANNELS;
    for (int64_t i = begin; i < end; i++) pack_channels(task, i / chunks, i % chunks * CHANNELS);
}

void tl_winograd_pack(tl_context *ctx, const tl_conv *conv, int m, const float *weights,
                      const float *scale, float *packed) {
    const struct tl_kernels *kernels = tl_context_kernels(ctx);
    winograd_pack task = {conv,
                          kernels,
                          weights,
                          scale,
                          packed,
                          m,
                          (int64_t)tl_gather_packed_size(kernels, 1, 1, conv->ic, conv->oc)};
    int64_t panels = (conv->oc + kernels->nr - 1) / kernels->nr;
    tl_parallel(ctx, panels * ((conv->ic + CHANNELS - 1) / CHANNELS), pack_panels, &task);
}
