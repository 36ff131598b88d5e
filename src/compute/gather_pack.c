#include "compute/gather.h"

size_t tl_gather_packed_bytes(const struct tl_kernels *kernels, int groups, int taps, int64_t k,
                              int64_t columns) {
    int64_t full = columns / kernels->nr * kernels->nr;
    int64_t width = full;
    if (columns > full) width += tl_panel_width(kernels, columns - full);
    return (size_t)((int64_t)groups * taps * tl_panel_depth(kernels, k) * width * kernels->element);
}

typedef struct pack_task {
    const tl_gather_source *source;
    const struct tl_kernels *kernels;
    char *packed;
    int64_t panels; /* of a group */
    int64_t first;  /* panel of all groups */
} pack_task;

enum { BLOCK = 32, MAX_WIDTH = 64 };

/* The place of one panel of one tap, and where it comes from. */
typedef struct pack_tap {
    const float *from;
    int columns, width;
    const float *scale; /* [columns] or NULL */
    char *to;
} pack_tap;

/* `count` rows of `width` floats, `step` apart, as the kernels want them, from row `first` of the
 * tap on. */
static void put_rows(const pack_task *task, const pack_tap *tap, const float *rows, int64_t step,
                     int64_t first, int64_t count) {
    char *to = tap->to + first * tap->width * task->kernels->element;
    task->kernels->group_floats(rows, step, count, to, tap->width);
}

/* From rows that are contiguous in the columns. */
static void copy_rows(const pack_task *task, const pack_tap *tap) {
    const tl_gather_source *s = task->source;
    const int columns = tap->columns, width = tap->width;
    const float *scale = tap->scale;
    if (!scale && columns == width) {
        put_rows(task, tap, tap->from, s->k_step, 0, s->k);
        return;
    }
    float block[BLOCK * MAX_WIDTH];
    for (int64_t begin = 0; begin < s->k; begin += BLOCK) {
        int64_t count = s->k - begin < BLOCK ? s->k - begin : BLOCK;
        for (int64_t i = 0; i < count; i++) {
            const float *from = tap->from + (begin + i) * s->k_step;
            float *to = block + i * width;
            for (int j = 0; j < columns; j++) to[j] = scale ? from[j] * scale[j] : from[j];
            for (int j = columns; j < width; j++) to[j] = 0.0f;
        }
        put_rows(task, tap, block, width, begin, count);
    }
}

/* Four columns at a time, which any compiler makes a vector of. */
static void transpose_four(const float *restrict from, int64_t column, const float *scale,
                           float *restrict to, int64_t width, int64_t count) {
    const float f0 = scale[0], f1 = scale[1], f2 = scale[2], f3 = scale[3];
    for (int64_t i = 0; i < count; i++, to += width) {
        const float *row = from + i;
        to[0] = row[0] * f0;
        to[1] = row[column] * f1;
        to[2] = row[2 * column] * f2;
        to[3] = row[3 * column] * f3;
    }
}

static const float ones[4] = {1.0f, 1.0f, 1.0f, 1.0f};

/* A block of four columns, of which memory would not see in time that it will be asked for. */
static void fetch_four(const float *from, int64_t column) {
    for (int j = 0; j < 4; j++, from += column)
        for (int i = 0; i < BLOCK; i += TL_LINE / (int)sizeof(float)) __builtin_prefetch(from + i);
}

/* From columns that are contiguous in k: a transposition, in blocks that stay in the first-level
 * cache. */
static void transpose_columns(const pack_task *task, const pack_tap *tap) {
    const tl_gather_source *s = task->source;
    const int width = tap->width;
    float block[BLOCK * MAX_WIDTH];
    for (int64_t begin = 0; begin < s->k; begin += BLOCK) {
        int64_t count = s->k - begin < BLOCK ? s->k - begin : BLOCK;
        int j = 0;
        for (; j + 4 <= tap->columns; j += 4) {
            const float *from = tap->from + j * s->column_step + begin;
            if (begin + 2 * BLOCK <= s->k) fetch_four(from + BLOCK, s->column_step);
            transpose_four(from, s->column_step, tap->scale ? tap->scale + j : ones, block + j,
                           width, count);
        }
        for (int64_t i = 0; j < width && i < count; i++) {
            const float *row = tap->from + begin + i;
            for (int k = j; k < width; k++) block[i * width + k] = 0.0f;
            for (int k = j; k < tap->columns; k++)
                block[i * width + k] =
                    row[k * s->column_step] * (tap->scale ? tap->scale[k] : 1.0f);
        }
        put_rows(task, tap, block, width, begin, count);
    }
}

/* Of the first element of a column. */
static int64_t place_of(const tl_gather_source *s, int64_t column) {
    return column / s->columns * s->group_step + column % s->columns * s->column_step;
}

static void pack_panel(const pack_task *task, int64_t group, int64_t panel) {
    const tl_gather_source *s = task->source;
    const struct tl_kernels *kernels = task->kernels;
    int taps = s->tap_rows * s->tap_columns;
    int64_t column = panel * kernels->nr, left = s->columns - column;
    int64_t depth = tl_panel_depth(kernels, s->k);
    int width = tl_panel_width(kernels, left);
    size_t group_bytes = tl_gather_packed_bytes(kernels, 1, taps, s->k, s->columns);
    pack_tap tap = {.columns = left < width ? (int)left : width,
                    .width = width,
                    .scale = s->scale ? s->scale + group * s->columns + column : NULL,
                    .to = task->packed + (size_t)group * group_bytes +
                          column * taps * depth * kernels->element};
    const float *from = s->b + (place_of(s, group * s->columns + column) - place_of(s, s->begin));
    for (int t = 0; t < taps; t++) {
        tap.from = from + t / s->tap_columns * s->tap_row + t % s->tap_columns * s->tap_column;
        if (s->column_step == 1)
            copy_rows(task, &tap);
        else
            transpose_columns(task, &tap);
        tap.to += depth * width * kernels->element;
    }
}

static void pack_panels(void *arg, int64_t begin, int64_t end) {
    const pack_task *task = arg;
    for (int64_t i = task->first + begin; i < task->first + end; i++)
        pack_panel(task, i / task->panels, i % task->panels);
}

/* Panels of the columns before this one, of all groups. */
static int64_t panels_before(const struct tl_kernels *kernels, int64_t columns, int64_t column) {
    int64_t panels = (columns + kernels->nr - 1) / kernels->nr;
    return column / columns * panels + (column % columns + kernels->nr - 1) / kernels->nr;
}

void tl_gather_pack(tl_context *ctx, const struct tl_kernels *kernels,
                    const tl_gather_source *source, void *packed) {
    int64_t panels = panels_before(kernels, source->columns, source->columns);
    int64_t first = panels_before(kernels, source->columns, source->begin);
    int64_t end = panels_before(kernels, source->columns, source->end);
    pack_task task = {source, kernels, packed, panels, first};
    tl_parallel(ctx, end - first, pack_panels, &task);
}
