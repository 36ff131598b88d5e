/* Weights for Winograd's method: each filter's plane becomes a value for each point, and point p of
 * all planes is one matrix [ic][oc], packed like any other B. */
#include "compute/cut.h"
#include "compute/gather.h"
#include "compute/winograd.h"

#include <string.h>

/* MAX_WIDTH is the largest nr of any table. */
enum { TAPS = 25, MAX_WIDTH = 32, CHANNELS = 16 };

typedef struct winograd_pack {
    const tl_winograd_source *source;
    const struct tl_kernels *kernels;
    char *packed;
    tl_winograd form;
    int taps;
    int64_t point_size; /* elements of one packed matrix */
} winograd_pack;

size_t tl_winograd_packed_bytes(const struct tl_kernels *kernels, const tl_conv *conv,
                                tl_winograd f) {
    return (size_t)tl_winograd_points(f) *
           tl_gather_packed_bytes(kernels, 1, 1, conv->ic, conv->oc);
}

/* Weights of some channels and of a panel's filters, filters side by side. */
typedef struct weights_block {
    float w[TAPS][CHANNELS][MAX_WIDTH];
} weights_block;

static void gather_weights(const tl_winograd_source *s, int taps, int64_t column, int filters,
                           int64_t first, int count, weights_block *block) {
    const float *from = s->weights + (column - s->begin) * s->filter_step + first * s->channel_step;
    for (int i = 0; s->filter_step == 1 && i < taps * count; i++) { /* filters are neighbours */
        const float *row = from + i / count * s->tap_step + i % count * s->channel_step;
        memcpy(block->w[i / count][i % count], row, (size_t)filters * sizeof(float));
    }
    for (int o = 0; s->filter_step != 1 && o < filters; o++, from += s->filter_step) {
        float factor = s->scale ? s->scale[column + o] : 1.0f;
        for (int t = 0; t < taps; t++) {
            const float *tap = from + t * s->tap_step;
            for (int i = 0; i < count; i++) block->w[t][i][o] = factor * tap[i * s->channel_step];
        }
    }
}

/* Some channels of all filters of a panel. */
static void pack_channels(const winograd_pack *task, int64_t panel, int64_t first) {
    const int group = task->kernels->group, element = task->kernels->element;
    int64_t channels = task->source->channels, depth = tl_panel_depth(task->kernels, channels);
    int64_t column = panel * task->kernels->nr, left = task->source->filters - column;
    int width = tl_panel_width(task->kernels, left);
    int filters = left < width ? (int)left : width;
    int count = channels - first < CHANNELS ? (int)(channels - first) : CHANNELS;
    weights_block block;
    if (filters < width) memset(&block, 0, sizeof block);
    gather_weights(task->source, task->taps, column, filters, first, count, &block);
    for (int i = 0; i < count; i++) {
        int64_t at = column * depth + (first + i) / group * group * width;
        tl_winograd_weights call = {.f = task->form,
                                    .w = block.w[0][i],
                                    .w_tap = CHANNELS * MAX_WIDTH,
                                    .v = tl_element_of(task->packed, at, element),
                                    .v_step = task->point_size,
                                    .c = width,
                                    .lane = i % group};
        task->kernels->winograd_weights(&call);
    }
}

static void pack_panels(void *arg, int64_t begin, int64_t end) {
    const winograd_pack *task = arg;
    int64_t chunks = (task->source->channels + CHANNELS - 1) / CHANNELS;
    int64_t panel = task->source->begin / task->kernels->nr;
    for (int64_t i = begin; i < end; i++)
        pack_channels(task, panel + i / chunks, i % chunks * CHANNELS);
}

void tl_winograd_pack(tl_context *ctx, const struct tl_kernels *kernels,
                      const tl_winograd_source *source, tl_winograd f, void *packed) {
    size_t point_bytes = tl_gather_packed_bytes(kernels, 1, 1, source->channels, source->filters);
    winograd_pack task = {source,
                          kernels,
                          packed,
                          f,
                          tl_winograd_area(f, f.r),
                          (int64_t)point_bytes / kernels->element};
    int64_t panels = (source->end - source->begin + kernels->nr - 1) / kernels->nr;
    int64_t chunks = (source->channels + CHANNELS - 1) / CHANNELS;
    tl_parallel(ctx, panels * chunks, pack_panels, &task);
}
