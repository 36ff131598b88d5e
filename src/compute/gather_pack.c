#include "compute/gather.h"

#include <string.h>

size_t tl_gather_packed_size(const struct tl_kernels *kernels, int groups, int taps, int64_t k,
                             int64_t columns) {
    int64_t full = columns / kernels->nr * kernels->nr;
    int64_t width = full;
    if (columns > full) width += tl_panel_width(kernels, columns - full);
    return (size_t)(groups * taps * k * width);
}

typedef struct pack_task {
    const tl_gather_source *source;
    const struct tl_kernels *kernels;
    float *packed;
    int64_t panels; /* of a group */
} pack_task;

/* One tap of one panel from rows that are contiguous in the columns. */
static void copy_rows(const float *from, int64_t k_step, int64_t k, int columns, int width,
                      const float *scale, float *to) {
    for (int64_t i = 0; i < k; i++) {
        for (int j = 0; j < columns; j++) to[j] = scale ? from[j] * scale[j] : from[j];
        for (int j = columns; j < width; j++) to[j] = 0.0f;
        from += k_step;
        to += width;
    }
}

/* One tap of one panel from columns that are contiguous in k: a transposition, in blocks whose
 * destination stays in the first-level cache. */
static void transpose_columns(const float *from, int64_t column_step, int64_t k, int columns,
                              int width, const float *scale, float *to) {
    enum { BLOCK = 32 };
    for (int64_t begin = 0; begin < k; begin += BLOCK) {
        int64_t count = k - begin < BLOCK ? k - begin : BLOCK;
        float *block = to + begin * width;
        for (int j = 0; j < columns; j++) {
            const float *column = from + j * column_step + begin;
            float factor = scale ? scale[j] : 1.0f;
            for (int64_t i = 0; i < count; i++) block[i * width + j] = column[i] * factor;
        }
        for (int j = columns; j < width; j++) {
            for (int64_t i = 0; i < count; i++) block[i * width + j] = 0.0f;
        }
    }
}

static void pack_panel(const pack_task *task, int64_t group, int64_t panel) {
    const tl_gather_source *s = task->source;
    int nr = task->kernels->nr;
    int taps = s->tap_rows * s->tap_columns;
    int64_t column = panel * nr;
    int64_t left = s->columns - column;
    int width = tl_panel_width(task->kernels, left);
    int columns = left < width ? (int)left : width;
    float *to = task->packed + column * taps * s->k +
                group * (int64_t)tl_gather_packed_size(task->kernels, 1, taps, s->k, s->columns);
    const float *scale = s->scale ? s->scale + group * s->columns + column : NULL;
    const float *from = s->b + group * s->group_step + column * s->column_step;
    for (int t = 0; t < taps; t++) {
        const float *tap =
            from + t / s->tap_columns * s->tap_row + t % s->tap_columns * s->tap_column;
        if (s->column_step == 1)
            copy_rows(tap, s->k_step, s->k, columns, width, scale, to);
        else
            transpose_columns(tap, s->column_step, s->k, columns, width, scale, to);
        to += s->k * width;
    }
}

static void pack_panels(void *arg, int64_t begin, int64_t end) {
    const pack_task *task = arg;
    for (int64_t i = begin; i < end; i++) pack_panel(task, i / task->panels, i % task->panels);
}

void tl_gather_pack(tl_context *ctx, const tl_gather_source *source, float *packed) {
    const struct tl_kernels *kernels = tl_context_kernels(ctx);
    int64_t panels = (source->columns + kernels->nr - 1) / kernels->nr;
    pack_task task = {source, kernels, packed, panels};
    tl_parallel(ctx, source->groups * panels, pack_panels, &task);
}
