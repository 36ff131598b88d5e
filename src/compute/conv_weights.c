/* The gradient with respect to the weights: dw[o][tap][i] sums dy[p][o] * x[p at tap][i] over all
 * output pixels p. To the tile dy is a transposed A (pixels apart in the sum, channels down the
 * rows); what pixels read is gathered into panels of B, whose columns run through all taps as dw's
 * do. Blocks of pixels are outermost: one block of dy and x serves all taps before the next is
 * touched. Some panels are packed together, which reads whole pixels, and stay in the second-level
 * cache while a tile's rows, which come from far apart, meet all of them. Where the kernels want
 * values of k, here pixels, in groups, those of dy are brought together first. Of a 1x1 convolution
 * of all pixels x is B as it lies, and a block can be longer. */
#include <string.h>

#include "compute/conv_parts.h"
#include "compute/cut.h"
#include "compute/winograd.h"

enum {
    BLOCK_BYTES = 784,   /* of a channel's pixels, summed before dw is written */
    DIRECT_BYTES = 1024, /* the same where B is not packed */
    PANELS = 8, /* of B that stay in the second-level cache while all tiles pass over them */
    STRIP = 16, /* pixels that are brought into all these panels together */
    MAX_GROUP = 2
};

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

typedef struct weights_plan {
    const struct tl_kernels *kernels;
    const tl_conv *conv;
    tl_taps2 taps;
    int64_t k;       /* inputs a tap */
    int64_t rows;    /* outputs a group */
    int64_t tiles;   /* of mr outputs, a group */
    int64_t columns; /* taps * k */
    int64_t panels;  /* of nr columns, a group */
    int64_t units;   /* groups * panels */
    int64_t pixels, block;
    int64_t dy_step; /* from group to group of pixels, of dy as the kernels want it */
    int64_t x_pixel, x_row, x_image;
    bool direct; /* B is read where x lies */
    size_t panel_bytes, dy_bytes, slot_bytes;
    tl_cut cut; /* of units x tiles */
    const void *x, *dy;
    float *dw;
    char *slots;
} weights_plan;

/* Whether pixels of x follow each other as those of dy do, and no panel ends inside of a vector. */
static bool is_direct(const weights_plan *p) {
    const tl_taps *ty = &p->taps.y, *tx = &p->taps.x;
    bool all = ty->count * tx->count == 1 && ty->out == ty->in && tx->out == tx->in;
    return all && ty->first == 0 && tx->first == 0 && ty->stride == 1 && tx->stride == 1 &&
           p->kernels->group == 1 && p->k % p->kernels->nr_narrow == 0;
}

static weights_plan make_plan(tl_context *ctx, const tl_conv *c, const tl_joined *joined) {
    weights_plan p = {.kernels = tl_conv_kernels(ctx, c), .conv = c};
    const int group = p.kernels->group, element = p.kernels->element;
    p.taps = joined->used ? joined->taps : tl_taps2_forward(c);
    p.k = joined->used ? joined->k : c->ic / c->groups;
    p.rows = c->oc / c->groups;
    p.tiles = (p.rows + p.kernels->mr - 1) / p.kernels->mr;
    p.columns = p.taps.y.count * p.taps.x.count * p.k;
    p.panels = (p.columns + p.kernels->nr - 1) / p.kernels->nr;
    p.units = c->groups * p.panels;
    p.pixels = c->n * c->oh * c->ow;
    p.direct = is_direct(&p);
    const int64_t most = (p.direct ? DIRECT_BYTES : BLOCK_BYTES) / element;
    const int64_t blocks = (p.pixels + most - 1) / most;
    p.block = ((p.pixels + blocks - 1) / blocks + group - 1) / group * group;
    p.x_pixel = c->ic;
    p.x_row = (joined->used ? joined->width : c->w) * c->ic;
    p.x_image = c->h * p.x_row;
    if (!p.direct) p.panel_bytes = tl_cut_bytes((size_t)(most * p.kernels->nr * element));
    /* Groups a power of 2 apart would share cache sets. */
    p.dy_step = group > 1 ? c->oc * group + TL_LINE / element : c->oc;
    if (group > 1) p.dy_bytes = tl_cut_bytes((size_t)(most / group * p.dy_step * element));
    p.slot_bytes = PANELS * p.panel_bytes + p.dy_bytes +
                   tl_cut_bytes((size_t)(most + MAX_GROUP) * sizeof(void *));
    p.cut = tl_cut_choose(p.units, 1, p.tiles, tl_context_threads(ctx));
    return p;
}

static size_t direct_work_bytes(tl_context *ctx, const tl_conv *conv) {
    if (tl_conv_weights_joined(ctx, conv)) return tl_conv_weights_joined_bytes(conv);
    tl_joined joined = tl_conv_joined(conv);
    weights_plan p = make_plan(ctx, conv, &joined);
    return tl_cut_bytes(joined.bytes) + p.slot_bytes * (size_t)tl_context_threads(ctx);
}

size_t tl_conv_weights_work_bytes(tl_context *ctx, const tl_conv *conv) {
    size_t direct = direct_work_bytes(ctx, conv);
    tl_winograd f = tl_winograd_choose_weights(ctx, conv);
    size_t winograd = f.m ? tl_winograd_weights_work_bytes(ctx, conv, f) : 0;
    return winograd > direct ? winograd : direct;
}

/* Where each of `count` pixels reads its input for a tap; NULL for a zero, and as many more as
 * fill the last group. */
static void find_pixels(const weights_plan *p, int64_t pixel, int64_t count, int64_t tap,
                        const void **to) {
    const tl_taps *ty = &p->taps.y, *tx = &p->taps.x;
    int64_t first_y = ty->first + tap / tx->count * ty->step;
    int64_t first_x = tx->first + tap % tx->count * tx->step;
    int64_t x = pixel % tx->out, y = pixel / tx->out % ty->out, n = pixel / tx->out / ty->out;
    for (int64_t i = 0; i < count; i++) {
        int64_t in_y = y * ty->stride + first_y, in_x = x * tx->stride + first_x;
        bool inside = in_y >= 0 && in_y < ty->in && in_x >= 0 && in_x < tx->in;
        int64_t at = n * p->x_image + in_y * p->x_row + in_x * p->x_pixel;
        *to++ = inside ? tl_element(p->x, at, p->kernels->element) : NULL;
        if (++x < tx->out) continue;
        x = 0;
        if (++y < ty->out) continue;
        y = 0;
        n++;
    }
    for (int i = 1; i < p->kernels->group; i++) *to++ = NULL;
}

/* A rectangle of units and tiles for one block of pixels. */
typedef struct weights_part {
    int64_t unit_begin, unit_end, tile_begin, tile_end;
    int64_t pixel, count; /* the block's */
    const void **from;    /* [the largest block + MAX_GROUP] */
    char *panels;         /* [PANELS] of B */
    char *grouped;        /* dy, where the kernels have groups */
    const void *dy;
    int64_t calls; /* of the kernel, so far */
} weights_part;

/* Some neighbouring panels of a group. */
typedef struct weights_chunk {
    int64_t group, panels;
    int64_t column, columns; /* of the group */
} weights_chunk;

static int64_t groups_of(const weights_plan *p, int64_t pixels) {
    return (pixels + p->kernels->group - 1) / p->kernels->group;
}

static weights_chunk chunk_at(const weights_plan *p, int64_t unit, int64_t end) {
    int64_t group = unit / p->panels, first = unit % p->panels;
    int64_t panels = smaller(smaller(PANELS, end - unit), p->panels - first);
    int64_t column = first * p->kernels->nr;
    return (weights_chunk){group, panels, column,
                           smaller(panels * p->kernels->nr, p->columns - column)};
}

/* Columns [begin, end) of the chunk, of one tap, whose first is column `from` of x: some pixels
 * after the other, as they lie in memory. */
static void pack_tap(const weights_plan *p, const weights_part *part, const weights_chunk *chunk,
                     int64_t begin, int64_t end, int64_t from) {
    const int together = p->kernels->group, element = p->kernels->element, nr = p->kernels->nr;
    for (int64_t pixel = 0; pixel < part->count; pixel += STRIP) {
        int64_t groups = groups_of(p, smaller(STRIP, part->count - pixel));
        for (int64_t at = begin, piece; at < end; at += piece) {
            int64_t panel = at / nr, inside = at % nr;
            int width = tl_panel_width(p->kernels, chunk->columns - panel * nr);
            piece = smaller(nr - inside, end - at);
            char *to = part->panels + (size_t)panel * p->panel_bytes;
            to += (pixel * width + inside * together) * element;
            p->kernels->group_rows(part->from + pixel, from + at - begin, groups, piece, to,
                                   width * together);
        }
    }
}

static void pack_panels(const weights_plan *p, const weights_part *part,
                        const weights_chunk *chunk) {
    if (chunk->columns % p->kernels->nr)
        memset(part->panels + (size_t)(chunk->panels - 1) * p->panel_bytes, 0, p->panel_bytes);
    for (int64_t at = 0, piece; at < chunk->columns; at += piece) {
        int64_t tap = (chunk->column + at) / p->k, from = (chunk->column + at) % p->k;
        piece = smaller(p->k - from, chunk->columns - at);
        find_pixels(p, part->pixel, part->count, tap, part->from);
        pack_tap(p, part, chunk, at, at + piece, chunk->group * p->k + from);
    }
}

/* Finds, and where need be brings together, dy of the block's pixels. */
static void find_slopes(const weights_plan *p, weights_part *part) {
    const struct tl_kernels *kernels = p->kernels;
    const int group = kernels->group, element = kernels->element;
    const int64_t oc = p->conv->oc;
    part->dy = tl_element(p->dy, part->pixel * oc, element);
    if (group == 1) return;
    for (int64_t i = 0; i < part->count; i++) part->from[i] = tl_element(part->dy, i * oc, element);
    for (int64_t i = part->count; i % group; i++) part->from[i] = NULL;
    kernels->group_rows(part->from, 0, groups_of(p, part->count), oc, part->grouped, p->dy_step);
    part->dy = part->grouped;
}

/* Elements of x for each pixel of dy where an image's are all read, and in the same order; else 0.
 */
static int64_t inputs_of_pixel(const weights_plan *p) {
    const tl_taps *ty = &p->taps.y, *tx = &p->taps.x;
    int64_t each = ty->stride * tx->stride * p->x_pixel;
    bool all = ty->count >= ty->stride && tx->count >= tx->stride;
    return all && p->x_image == ty->out * tx->out * each ? each : 0;
}

/* What call number `call` of a block fetches for the next block: lines of dy as long as there
 * are any, then of x. */
static const void *next_input(const weights_plan *p, const weights_part *part, int64_t call) {
    const int element = p->kernels->element, line = TL_LINE / element;
    int64_t next = part->pixel + part->count, oc = p->conv->oc;
    int64_t at = call * (part->count / p->kernels->group) * line;
    if (next + part->count > p->pixels) return NULL;
    if (at < part->count * oc) return tl_element(p->dy, next * oc + at, element);
    at -= part->count * oc;
    int64_t inputs = inputs_of_pixel(p);
    if (at >= part->count * inputs) return NULL;
    return tl_element(p->x, next * inputs + at, element);
}

/* B of a panel of `width` columns. */
static void place_panel(const weights_plan *p, const weights_part *part, const weights_chunk *chunk,
                        int64_t panel, int width, tl_gemm_tile *tile) {
    int64_t column = chunk->group * p->k + chunk->column + panel * p->kernels->nr;
    if (p->direct) {
        tile->b = tl_element(p->x, part->pixel * p->x_pixel + column, p->kernels->element);
        tile->b_step = p->x_pixel;
    } else {
        tile->b = part->panels + (size_t)panel * p->panel_bytes;
        tile->b_step = width * p->kernels->group;
    }
}

/* One tile's rows for all panels of the chunk. */
static void run_tile(const weights_plan *p, weights_part *part, const weights_chunk *chunk,
                     int64_t tile) {
    const struct tl_kernels *kernels = p->kernels;
    int64_t row = chunk->group * p->rows + tile * kernels->mr;
    int rows = (int)smaller(p->rows - tile * kernels->mr, kernels->mr);
    const void *a = tl_element(part->dy, row * kernels->group, kernels->element);
    for (int64_t panel = 0; panel < chunk->panels; panel++) {
        int64_t left = chunk->columns - panel * kernels->nr;
        int width = tl_panel_width(kernels, left);
        int columns = (int)smaller(width, left);
        tl_gemm_tile t = {
            .taps = 1,
            .k = part->count,
            .a = &a,
            .a_row = kernels->group,
            .a_step = p->dy_step,
            .c = p->dw + row * p->columns + chunk->column + panel * kernels->nr,
            .c_float = true,
            .c_apart = p->columns,
            .accumulate = true,
            .next = next_input(p, part, part->calls++),
        };
        place_panel(p, part, chunk, panel, width, &t);
        kernels->gemm_tile(&t, rows, columns);
    }
}

static void run_block(const weights_plan *p, weights_part *part) {
    weights_chunk chunk;
    find_slopes(p, part);
    part->calls = 0;
    for (int64_t unit = part->unit_begin; unit < part->unit_end; unit += chunk.panels) {
        chunk = chunk_at(p, unit, part->unit_end);
        if (!p->direct) pack_panels(p, part, &chunk);
        for (int64_t tile = part->tile_begin; tile < part->tile_end; tile++)
            run_tile(p, part, &chunk, tile);
    }
}

static void run_slots(void *arg, int64_t begin, int64_t end) {
    const weights_plan *p = arg;
    p->kernels->gemm_begin();
    for (int64_t slot = begin; slot < end; slot++) {
        weights_part part = {.panels = p->slots + (size_t)slot * p->slot_bytes};
        part.grouped = part.panels + PANELS * p->panel_bytes;
        part.from = (const void **)(void *)(part.grouped + p->dy_bytes);
        tl_cut_range(p->units, (int)slot / p->cut.columns, p->cut.rows, &part.unit_begin,
                     &part.unit_end);
        tl_cut_range(p->tiles, (int)slot % p->cut.columns, p->cut.columns, &part.tile_begin,
                     &part.tile_end);
        for (part.pixel = 0; part.pixel < p->pixels; part.pixel += p->block) {
            part.count = smaller(p->block, p->pixels - part.pixel);
            run_block(p, &part);
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
    tl_winograd f = tl_winograd_choose_weights(ctx, conv);
    if (f.m && conv->n * conv->oh * conv->ow >= TL_WINOGRAD_GRADIENT_PIXELS) {
        tl_winograd_backward_weights(ctx, conv, f, x, dy, dw, work);
        return;
    }
    if (tl_conv_weights_joined(ctx, conv)) {
        tl_conv_backward_weights_joined(ctx, conv, x, dy, dw, work);
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
