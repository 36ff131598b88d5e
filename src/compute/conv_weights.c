/* The gradient with respect to the weights: dw[o][tap][i] sums dy[p][o] * x[p at tap][i] over all
 * output pixels p. To the tile dy is a transposed A (pixels apart in the sum, channels down the
 * rows); the pixels that a tap reads are gathered into a panel of B. Blocks of pixels are
 * outermost: one block of dy and x serves all taps before the next is touched. */
#include <string.h>

#include "compute/conv_parts.h"
#include "compute/cut.h"

enum { BLOCK = 256 }; /* pixels summed before dw is written */

typedef struct weights_plan {
    const struct tl_kernels *kernels;
    const tl_conv *conv;
    tl_taps2 taps;
    int64_t k;      /* inputs a tap */
    int64_t rows;   /* outputs a group */
    int64_t tiles;  /* of mr outputs, a group */
    int64_t panels; /* of nr inputs, a tap */
    int64_t units;  /* groups * taps * panels */
    int64_t pixels, block;
    int64_t x_pixel, x_row, x_image;
    size_t slot_floats;
    tl_cut cut; /* of units x tiles */
    const float *x, *dy;
    float *dw, *slots;
} weights_plan;

static weights_plan make_plan(tl_context *ctx, const tl_conv *c, const tl_joined *joined) {
    weights_plan p = {.kernels = tl_context_kernels(ctx), .conv = c};
    p.taps = joined->used ? joined->taps : tl_taps2_forward(c);
    p.k = joined->used ? joined->k : c->ic / c->groups;
    p.rows = c->oc / c->groups;
    p.tiles = (p.rows + p.kernels->mr - 1) / p.kernels->mr;
    p.panels = (p.k + p.kernels->nr - 1) / p.kernels->nr;
    p.units = c->groups * p.taps.y.count * p.taps.x.count * p.panels;
    p.pixels = c->n * c->oh * c->ow;
    int64_t blocks = (p.pixels + BLOCK - 1) / BLOCK;
    p.block = (p.pixels + blocks - 1) / blocks;
    p.x_pixel = c->ic;
    p.x_row = (joined->used ? joined->width : c->w) * c->ic;
    p.x_image = c->h * p.x_row;
    p.slot_floats = tl_cut_aligned((size_t)(BLOCK * p.kernels->nr)) +
                    tl_cut_aligned((size_t)BLOCK * sizeof(float *) / sizeof(float));
    p.cut = tl_cut_choose(p.units, p.tiles, tl_context_threads(ctx));
    return p;
}

size_t tl_conv_weights_work(tl_context *ctx, const tl_conv *conv) {
    tl_joined joined = tl_conv_joined(conv);
    weights_plan p = make_plan(ctx, conv, &joined);
    return tl_cut_aligned(joined.floats) + p.slot_floats * (size_t)tl_context_threads(ctx);
}

/* Where each pixel of a block reads its input for tap (i, j); NULL for a zero. */
static void find_pixels(const weights_plan *p, int64_t begin, int64_t end, int i, int j,
                        const float **to) {
    const tl_taps *ty = &p->taps.y, *tx = &p->taps.x;
    int64_t x = begin % tx->out, y = begin / tx->out % ty->out, n = begin / tx->out / ty->out;
    for (int64_t pixel = begin; pixel < end; pixel++) {
        int64_t in_y = y * ty->stride + ty->first + i * ty->step;
        int64_t in_x = x * tx->stride + tx->first + j * tx->step;
        bool inside = in_y >= 0 && in_y < ty->in && in_x >= 0 && in_x < tx->in;
        *to++ = inside ? p->x + n * p->x_image + in_y * p->x_row + in_x * p->x_pixel : NULL;
        if (++x < tx->out) continue;
        x = 0;
        if (++y < ty->out) continue;
        y = 0;
        n++;
    }
}

static void pack_pixels(const float *const *from, int64_t count, int64_t offset, int columns,
                        int width, float *to) {
    for (int64_t i = 0; i < count; i++) {
        int used = from[i] ? columns : 0;
        if (used == width) {
            memcpy(to, from[i] + offset, (size_t)width * sizeof(float));
        } else {
            for (int j = 0; j < used; j++) to[j] = from[i][offset + j];
            for (int j = used; j < width; j++) to[j] = 0.0f;
        }
        to += width;
    }
}

/* A rectangle of units and tiles for one block of pixels. */
typedef struct weights_part {
    int64_t unit_begin, unit_end, tile_begin, tile_end;
    const float **from;
    float *panel;
} weights_part;

/* What call number `call` of a block fetches for the next block: lines of dy as long as there
 * are any, then of x where pixels of input and output go together. */
static const float *next_input(const weights_plan *p, int64_t pixel, int64_t count, int64_t call) {
    enum { LINE = 64 / sizeof(float) };
    int64_t next = pixel + count, at = call * count * LINE;
    if (next + count > p->pixels) return NULL;
    if (at < count * p->conv->oc) return p->dy + next * p->conv->oc + at;
    at -= count * p->conv->oc;
    bool together = p->taps.y.stride == 1 && p->taps.x.stride == 1;
    return together && at < count * p->x_pixel ? p->x + next * p->x_pixel + at : NULL;
}

static void run_tiles(const weights_plan *p, const weights_part *part, int64_t pixel, int64_t count,
                      int64_t group, float *dw, int columns, int width, int64_t call) {
    int mr = p->kernels->mr;
    int64_t row_step = p->taps.y.count * p->taps.x.count * p->k;
    for (int64_t tile = part->tile_begin; tile < part->tile_end; tile++) {
        int64_t row = tile * mr;
        int rows = p->rows - row < mr ? (int)(p->rows - row) : mr;
        const void *a[64];
        int64_t c_row[64];
        for (int i = 0; i < rows; i++) {
            a[i] = p->dy + pixel * p->conv->oc + group * p->rows + row + i;
            c_row[i] = i * row_step;
        }
        tl_gemm_tile t = {.taps = 1,
                          .k = count,
                          .a = a,
                          .a_step = p->conv->oc,
                          .b = part->panel,
                          .b_step = width,
                          .c = dw + row * row_step,
                          .c_row = c_row,
                          .accumulate = true,
                          .next = next_input(p, pixel, count, call++)};
        p->kernels->gemm_tile(&t, rows, columns);
    }
}

static void run_units(const weights_plan *p, const weights_part *part, int64_t pixel,
                      int64_t count) {
    int taps = p->taps.y.count * p->taps.x.count;
    int64_t found = -1;
    for (int64_t unit = part->unit_begin; unit < part->unit_end; unit++) {
        int64_t panel = unit % p->panels, tap = unit / p->panels % taps;
        int64_t group = unit / p->panels / taps;
        if (tap != found) {
            find_pixels(p, pixel, pixel + count, (int)tap / p->taps.x.count,
                        (int)tap % p->taps.x.count, part->from);
            found = tap;
        }
        int64_t column = panel * p->kernels->nr, left = p->k - column;
        int width = tl_panel_width(p->kernels, left);
        int columns = left < width ? (int)left : width;
        pack_pixels(part->from, count, group * p->k + column, columns, width, part->panel);
        float *dw = p->dw + (group * p->rows * taps + tap) * p->k + column;
        int64_t call = (unit - part->unit_begin) * (part->tile_end - part->tile_begin);
        run_tiles(p, part, pixel, count, group, dw, columns, width, call);
    }
}

static void run_slots(void *arg, int64_t begin, int64_t end) {
    const weights_plan *p = arg;
    for (int64_t slot = begin; slot < end; slot++) {
        weights_part part = {.panel = p->slots + (size_t)slot * p->slot_floats};
        part.from =
            (const float **)(void *)(part.panel + tl_cut_aligned((size_t)(BLOCK * p->kernels->nr)));
        tl_cut_range(p->units, (int)slot / p->cut.columns, p->cut.rows, &part.unit_begin,
                     &part.unit_end);
        tl_cut_range(p->tiles, (int)slot % p->cut.columns, p->cut.columns, &part.tile_begin,
                     &part.tile_end);
        for (int64_t pixel = 0; pixel < p->pixels; pixel += p->block) {
            int64_t left = p->pixels - pixel;
            run_units(p, &part, pixel, left < p->block ? left : p->block);
        }
    }
}

void tl_conv_backward_weights(tl_context *ctx, const tl_conv *conv, const float *x, const float *dy,
                              float *dw, float *db, float *work) {
    if (db) tl_conv_backward_bias(ctx, conv, dy, db);
    if (tl_conv_is_depthwise(conv)) {
        tl_depthwise_backward_weights(ctx, conv, x, dy, dw, work);
        return;
    }
    tl_joined joined = tl_conv_joined(conv);
    weights_plan p = make_plan(ctx, conv, &joined);
    p.x = tl_conv_pad(ctx, conv, &joined, x, work);
    p.dy = dy;
    p.dw = dw;
    p.slots = work + tl_cut_aligned(joined.floats);
    tl_parallel(ctx, p.cut.rows * p.cut.columns, run_slots, &p);
}
