/* The gradient with respect to the weights: dw[o][tap][i] sums dy[p][o] * x[p at tap][i] over all
 * output pixels p. To the tile dy is a transposed A (pixels apart in the sum, channels down the
 * rows); the pixels that a tap reads are gathered into a panel of B. Blocks of pixels are
 * outermost: one block of dy and x serves all taps before the next is touched. Where the kernels
 * want values of k, here pixels, in groups, those of dy are brought together first. */
#include <string.h>

#include "compute/conv_parts.h"
#include "compute/cut.h"
#include "compute/winograd.h"

enum { BLOCK = 128 /* pixels summed before dw is written */, MAX_GROUP = 2 };

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
    size_t panel_bytes, from_bytes, dy_bytes, slot_bytes;
    tl_cut cut; /* of units x tiles */
    const void *x, *dy;
    float *dw;
    char *slots;
} weights_plan;

static weights_plan make_plan(tl_context *ctx, const tl_conv *c, const tl_joined *joined) {
    weights_plan p = {.kernels = tl_conv_kernels(ctx, c), .conv = c};
    const int group = p.kernels->group, element = p.kernels->element;
    p.taps = joined->used ? joined->taps : tl_taps2_forward(c);
    p.k = joined->used ? joined->k : c->ic / c->groups;
    p.rows = c->oc / c->groups;
    p.tiles = (p.rows + p.kernels->mr - 1) / p.kernels->mr;
    p.panels = (p.k + p.kernels->nr - 1) / p.kernels->nr;
    p.units = c->groups * p.taps.y.count * p.taps.x.count * p.panels;
    p.pixels = c->n * c->oh * c->ow;
    int64_t blocks = (p.pixels + BLOCK - 1) / BLOCK;
    p.block = ((p.pixels + blocks - 1) / blocks + group - 1) / group * group;
    p.x_pixel = c->ic;
    p.x_row = (joined->used ? joined->width : c->w) * c->ic;
    p.x_image = c->h * p.x_row;
    p.panel_bytes = tl_cut_bytes((size_t)(BLOCK * p.kernels->nr * element));
    p.from_bytes = tl_cut_bytes((BLOCK + MAX_GROUP) * sizeof(void *));
    if (group > 1) p.dy_bytes = tl_cut_bytes((size_t)(BLOCK * c->oc * element));
    p.slot_bytes = p.panel_bytes + p.from_bytes + p.dy_bytes;
    p.cut = tl_cut_choose(p.units, p.tiles, tl_context_threads(ctx));
    return p;
}

size_t tl_conv_weights_work_bytes(tl_context *ctx, const tl_conv *conv) {
    tl_joined joined = tl_conv_joined(conv);
    weights_plan p = make_plan(ctx, conv, &joined);
    size_t direct = tl_cut_bytes(joined.bytes) + p.slot_bytes * (size_t)tl_context_threads(ctx);
    int m = tl_winograd_choose_gradient(ctx, conv);
    size_t winograd = m ? tl_winograd_weights_work_bytes(ctx, conv, m) : 0;
    return winograd > direct ? winograd : direct;
}

/* Where each pixel of a block reads its input for tap (i, j); NULL for a zero. */
static void find_pixels(const weights_plan *p, int64_t begin, int64_t end, int i, int j,
                        const void **to) {
    const tl_taps *ty = &p->taps.y, *tx = &p->taps.x;
    int64_t x = begin % tx->out, y = begin / tx->out % ty->out, n = begin / tx->out / ty->out;
    for (int64_t pixel = begin; pixel < end; pixel++) {
        int64_t in_y = y * ty->stride + ty->first + i * ty->step;
        int64_t in_x = x * tx->stride + tx->first + j * tx->step;
        bool inside = in_y >= 0 && in_y < ty->in && in_x >= 0 && in_x < tx->in;
        int64_t at = n * p->x_image + in_y * p->x_row + in_x * p->x_pixel;
        *to++ = inside ? tl_element(p->x, at, p->kernels->element) : NULL;
        if (++x < tx->out) continue;
        x = 0;
        if (++y < ty->out) continue;
        y = 0;
        n++;
    }
}

/* Rows `from` as a panel of B; the last group is filled up with NULL. */
static void pack_pixels(const struct tl_kernels *kernels, const void *const *from, int64_t count,
                        int64_t offset, int columns, int width, char *to) {
    const int group = kernels->group, element = kernels->element;
    for (int64_t i = 0; i < count; i += group) {
        const void *rows[MAX_GROUP];
        for (int g = 0; g < group; g++)
            rows[g] = from[i + g] ? tl_element(from[i + g], offset, element) : NULL;
        kernels->group_rows(rows, to, columns);
        memset(to + columns * group * element, 0, (size_t)((width - columns) * group * element));
        to += width * group * element;
    }
}

/* A rectangle of units and tiles for one block of pixels. */
typedef struct weights_part {
    int64_t unit_begin, unit_end, tile_begin, tile_end;
    const void **from;
    char *panel;
    char *grouped; /* dy of the block, where the kernels have groups */
    const void *dy;
    int64_t dy_group; /* elements from group to group, channel to channel */
} weights_part;

/* Finds, and where need be brings together, dy of a block of pixels. */
static void find_slopes(const weights_plan *p, weights_part *part, int64_t pixel, int64_t count) {
    const struct tl_kernels *kernels = p->kernels;
    const int group = kernels->group, element = kernels->element;
    const int64_t oc = p->conv->oc;
    part->dy_group = oc * group;
    part->dy = group > 1 ? part->grouped : tl_element(p->dy, pixel * oc, element);
    if (group == 1) return;
    for (int64_t i = 0; i < count; i += group) {
        const void *rows[MAX_GROUP];
        for (int g = 0; g < group; g++)
            rows[g] = i + g < count ? tl_element(p->dy, (pixel + i + g) * oc, element) : NULL;
        kernels->group_rows(rows, part->grouped + i * oc * element, oc);
    }
}

/* What call number `call` of a block fetches for the next block: lines of dy as long as there
 * are any, then of x where pixels of input and output go together. */
static const void *next_input(const weights_plan *p, int64_t pixel, int64_t count, int64_t call) {
    const int element = p->kernels->element, line = 64 / element;
    int64_t next = pixel + count, at = call * (count / p->kernels->group) * line;
    if (next + count > p->pixels) return NULL;
    if (at < count * p->conv->oc) return tl_element(p->dy, next * p->conv->oc + at, element);
    at -= count * p->conv->oc;
    bool together = p->taps.y.stride == 1 && p->taps.x.stride == 1;
    if (!together || at >= count * p->x_pixel) return NULL;
    return tl_element(p->x, next * p->x_pixel + at, element);
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
            int64_t channel = group * p->rows + row + i;
            a[i] = tl_element(part->dy, channel * p->kernels->group, p->kernels->element);
            c_row[i] = i * row_step;
        }
        tl_gemm_tile t = {.taps = 1,
                          .k = count,
                          .a = a,
                          .a_step = part->dy_group,
                          .b = part->panel,
                          .b_step = width * p->kernels->group,
                          .c = dw + row * row_step,
                          .c_float = true,
                          .c_row = c_row,
                          .accumulate = true,
                          .next = next_input(p, pixel, count, call++)};
        p->kernels->gemm_tile(&t, rows, columns);
    }
}

static void run_units(const weights_plan *p, weights_part *part, int64_t pixel, int64_t count) {
    int taps = p->taps.y.count * p->taps.x.count;
    int64_t found = -1;
    find_slopes(p, part, pixel, count);
    for (int64_t unit = part->unit_begin; unit < part->unit_end; unit++) {
        int64_t panel = unit % p->panels, tap = unit / p->panels % taps;
        int64_t group = unit / p->panels / taps;
        if (tap != found) {
            find_pixels(p, pixel, pixel + count, (int)tap / p->taps.x.count,
                        (int)tap % p->taps.x.count, part->from);
            for (int g = 0; g < p->kernels->group - 1; g++) part->from[count + g] = NULL;
            found = tap;
        }
        int64_t column = panel * p->kernels->nr, left = p->k - column;
        int width = tl_panel_width(p->kernels, left);
        int columns = left < width ? (int)left : width;
        pack_pixels(p->kernels, part->from, count, group * p->k + column, columns, width,
                    part->panel);
        float *dw = p->dw + (group * p->rows * taps + tap) * p->k + column;
        int64_t call = (unit - part->unit_begin) * (part->tile_end - part->tile_begin);
        run_tiles(p, part, pixel, count, group, dw, columns, width, call);
    }
}

static void run_slots(void *arg, int64_t begin, int64_t end) {
    const weights_plan *p = arg;
    p->kernels->gemm_begin();
    for (int64_t slot = begin; slot < end; slot++) {
        weights_part part = {.panel = p->slots + (size_t)slot * p->slot_bytes};
        part.from = (const void **)(void *)(part.panel + p->panel_bytes);
        part.grouped = part.panel + p->panel_bytes + p->from_bytes;
        tl_cut_range(p->units, (int)slot / p->cut.columns, p->cut.rows, &part.unit_begin,
                     &part.unit_end);
        tl_cut_range(p->tiles, (int)slot % p->cut.columns, p->cut.columns, &part.tile_begin,
                     &part.tile_end);
        for (int64_t pixel = 0; pixel < p->pixels; pixel += p->block) {
            int64_t left = p->pixels - pixel;
            run_units(p, &part, pixel, left < p->block ? left : p->block);
        }
    }
    p->kernels->gemm_end();
}

void tl_conv_backward_weights(tl_context *ctx, const tl_conv *conv, const void *x, const void *dy,
                              float *dw, float *db, void *work) {
    if (db) tl_conv_backward_bias(ctx, conv, dy, db);
    if (tl_conv_is_depthwise(conv)) {
        tl_depthwise_backward_weights(ctx, conv, x, dy, dw, work);
        return;
    }
    int m = tl_winograd_choose_gradient(ctx, conv);
    if (m && conv->n * conv->oh * conv->ow >= TL_WINOGRAD_GRADIENT_PIXELS) {
        tl_winograd_backward_weights(ctx, conv, m, x, dy, dw, work);
        return;
    }
    tl_joined joined = tl_conv_joined(conv);
    weights_plan p = make_plan(ctx, conv, &joined);
    p.x = tl_conv_pad(ctx, conv, &joined, x, work);
    p.dy = dy;
    p.dw = dw;
    p.slots = (char *)work + tl_cut_bytes(joined.bytes);
    tl_parallel(ctx, p.cut.rows * p.cut.columns, run_slots, &p);
}
