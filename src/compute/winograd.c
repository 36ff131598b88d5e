/* Tiles of outputs in blocks. For each block: inputs are transformed, a matrix for each point is
 * multiplied, products transformed back with the epilogue. With many tiles every thread has
 * blocks of its own; with few, one block is shared and threads divide each of the three steps,
 * so that no two read the same weights. */
#include "compute/winograd.h"

#include <string.h>

#include "compute/conv_parts.h"
#include "compute/cut.h"
#include "compute/follow.h"

enum { BLOCK_TILES = 56, STREAM_BYTES = 1 << 18 };
enum { FETCH_BYTES = 16 << 10 }; /* a tile of outputs that is fetched: part of the first cache */

typedef struct winograd_plan {
    const struct tl_kernels *kernels;
    const tl_conv *conv;
    tl_winograd form;
    int points;
    int tile_h, tile_w, in_h, in_w; /* pixels of a tile, of outputs and of inputs */
    int64_t tiles_y, tiles_x, tiles;
    int64_t block;          /* tiles of a thread's block */
    int64_t v_row, v_point; /* elements from tile to tile and point to point, of inputs */
    int64_t t_point;        /* floats, of products; tiles are oc apart */
    int64_t panels;
    size_t point_bytes; /* of packed weights */
    int threads;
    bool streams; /* packed weights do not stay in the second-level cache */
    size_t zero_bytes, v_bytes, block_bytes;
    /* set by run */
    tl_winograd_images x;
    const char *packed;
    const tl_epilogue *epilogue;
    bool add;
    void *y;
    tl_follow_cut follow; /* its units are lines of tiles */
    bool at_once;
    char *blocks;
} winograd_plan;

/* One block in progress. */
typedef struct winograd_block {
    const winograd_plan *plan;
    int64_t first, count; /* tiles */
    void *v;
    float *t;
} winograd_block;

/* Small images gain little from large tiles: those at the edge are mostly empty. And their weights
 * are the largest of a network, so that four times of them cost more than is saved. In between,
 * many channels decide for large tiles: products are then most of the work. (14 x 14 images of 256
 * channels take as long either way, and small tiles less than half the memory.) */
enum { LARGE_IMAGE = 16, FAIR_IMAGE = 12, SMALL_IMAGE = 4, MANY_CHANNELS = 512, MIN_CHANNELS = 32 };

static bool image_reaches(const tl_conv *c, int side) {
    return c->oh >= side && c->ow >= side;
}

static bool suits(const tl_context *ctx, const tl_conv *c) {
    if (c->band || tl_context_low_memory(ctx)) return false;
    if (!tl_conv_kernels(ctx, c)->winograd_input) return false;
    bool plain = c->stride_h == 1 && c->stride_w == 1 && c->dilation_h == 1 && c->dilation_w == 1 &&
                 c->groups == 1;
    return plain && c->ic >= MIN_CHANNELS && c->oc >= MIN_CHANNELS;
}

static bool is_square(const tl_conv *c, int side) {
    return c->kh == side && c->kw == side;
}

/* Filters that are a line, and larger ones, whose form does not depend on the image. */
static tl_winograd choose_other(const tl_conv *c) {
    int length = c->kh > c->kw ? c->kh : c->kw;
    int64_t image = c->kh > c->kw ? c->oh : c->ow;
    bool line = c->kh == 1 || c->kw == 1;
    if (c->bf16 || image < SMALL_IMAGE) return (tl_winograd){0};
    if (line && length == 3) return (tl_winograd){4, 3, 1};
    if (line && length == 7) return (tl_winograd){3, 7, 1};
    if (is_square(c, 5) && image_reaches(c, SMALL_IMAGE)) return (tl_winograd){2, 5, 2};
    return (tl_winograd){0};
}

static tl_winograd choose_square(const tl_conv *c, int large) {
    if (!image_reaches(c, SMALL_IMAGE)) return (tl_winograd){0};
    return (tl_winograd){!c->bf16 && image_reaches(c, large) ? 4 : 2, 3, 2};
}

tl_winograd tl_winograd_choose(const tl_context *ctx, const tl_conv *c) {
    if (!suits(ctx, c)) return (tl_winograd){0};
    bool many = c->ic >= MANY_CHANNELS && c->oc >= MANY_CHANNELS;
    return is_square(c, 3) ? choose_square(c, many ? FAIR_IMAGE : LARGE_IMAGE) : choose_other(c);
}

tl_winograd tl_winograd_choose_data(const tl_context *ctx, const tl_conv *c) {
    if (!suits(ctx, c)) return (tl_winograd){0};
    return is_square(c, 3) ? choose_square(c, FAIR_IMAGE) : choose_other(c);
}

tl_winograd tl_winograd_choose_weights(const tl_context *ctx, const tl_conv *c) {
    return is_square(c, 3) ? tl_winograd_choose_data(ctx, c) : (tl_winograd){0};
}

static winograd_plan make_plan(tl_context *ctx, const tl_conv *c, tl_winograd f) {
    winograd_plan p = {.kernels = tl_conv_kernels(ctx, c), .conv = c, .form = f};
    const size_t element = (size_t)p.kernels->element;
    p.tile_h = c->kh > 1 ? f.m : 1;
    p.tile_w = c->kw > 1 ? f.m : 1;
    p.in_h = p.tile_h + c->kh - 1;
    p.in_w = p.tile_w + c->kw - 1;
    p.points = tl_winograd_points(f);
    p.tiles_y = (c->oh + p.tile_h - 1) / p.tile_h;
    p.tiles_x = (c->ow + p.tile_w - 1) / p.tile_w;
    p.tiles = c->n * p.tiles_y * p.tiles_x;
    int mr = p.kernels->mr;
    p.block = BLOCK_TILES / mr * mr;
    /* Rows 4 KiB apart would share cache sets, and so would points. */
    const int64_t line = 64 / p.kernels->element;
    p.zero_bytes = tl_cut_bytes((size_t)c->ic * element);
    p.v_row = (int64_t)(p.zero_bytes / element);
    if (p.zero_bytes % 4096 == 0) p.v_row += line;
    p.threads = tl_context_threads(ctx);
    p.panels = (c->oc + p.kernels->nr - 1) / p.kernels->nr;
    p.point_bytes = tl_gather_packed_bytes(p.kernels, 1, 1, c->ic, c->oc);
    p.streams = p.point_bytes * (size_t)p.points > STREAM_BYTES;
    p.v_point = p.block * p.v_row + line;
    p.t_point = (int64_t)tl_cut_aligned((size_t)(p.block * c->oc)) + 16;
    p.v_bytes = (size_t)(p.points * p.v_point) * element;
    p.block_bytes = p.v_bytes + (size_t)(p.points * p.t_point) * sizeof(float);
    return p;
}

size_t tl_winograd_work_bytes(tl_context *ctx, const tl_conv *conv, tl_winograd f) {
    winograd_plan p = make_plan(ctx, conv, f);
    return p.zero_bytes + p.block_bytes * (size_t)p.threads;
}

/* --- the three steps; ranges are of tiles, of matrix panels, of tiles ------------------------- */

/* Image, and first output pixel, of a tile. */
static void place_tile(const winograd_plan *p, int64_t tile, int64_t *n, int64_t *y, int64_t *x) {
    *x = tile % p->tiles_x * p->tile_w;
    *y = tile / p->tiles_x % p->tiles_y * p->tile_h;
    *n = tile / p->tiles_x / p->tiles_y;
}

void tl_winograd_find_pixels(const tl_winograd_images *images, int64_t n, int64_t y, int64_t x,
                             int high, int wide, const void **pixels) {
    const int64_t h = images->h, w = images->w;
    for (int64_t at_y = y; at_y < y + high; at_y++) {
        for (int64_t at_x = x; at_x < x + wide; at_x++) {
            bool inside = at_y >= 0 && at_y < h && at_x >= 0 && at_x < w;
            int64_t at = ((n * h + at_y) * w + at_x) * images->c;
            *pixels++ = inside ? tl_element(images->data, at, images->element) : images->zero;
        }
    }
}

static void find_inputs(const winograd_plan *p, int64_t tile, const void **pixels) {
    const tl_conv *c = p->conv;
    int64_t n, y, x;
    place_tile(p, tile, &n, &y, &x);
    tl_winograd_find_pixels(&p->x, n, y - c->pad_top, x - c->pad_left, p->in_h, p->in_w, pixels);
}

static void transform_inputs(void *arg, int64_t begin, int64_t end) {
    const winograd_block *b = arg;
    const winograd_plan *p = b->plan;
    const tl_conv *c = p->conv;
    const int element = p->kernels->element;
    const void *pixels[2][TL_WINOGRAD_POINTS];
    find_inputs(p, b->first + begin, pixels[begin % 2]);
    for (int64_t tile = begin; tile < end; tile++) {
        bool more = tile + 1 < end;
        if (more) find_inputs(p, b->first + tile + 1, pixels[(tile + 1) % 2]);
        tl_winograd_input call = {.f = p->form,
                                  .x = pixels[tile % 2],
                                  .next = pixels[(tile + more) % 2],
                                  .v = tl_element_of(b->v, tile * p->v_row, element),
                                  .v_step = p->v_point,
                                  .c = c->ic};
        p->kernels->winograd_input(&call);
    }
}

static void multiply_panels(void *arg, int64_t begin, int64_t end) {
    const winograd_block *b = arg;
    const winograd_plan *p = b->plan;
    const int nr = p->kernels->nr;
    const int group = p->kernels->group, element = p->kernels->element;
    int64_t ic = p->conv->ic, oc = p->conv->oc, depth = tl_panel_depth(p->kernels, ic);
    p->kernels->gemm_begin();
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t point = unit / p->panels, column = unit % p->panels * nr, left = oc - column;
        int width = tl_panel_width(p->kernels, left);
        const char *panel = p->packed + (size_t)point * p->point_bytes + column * depth * element;
        const void *a = tl_element(b->v, point * p->v_point, element);
        tl_gemm_tile tile = {.taps = 1,
                             .k = ic,
                             .a = &a,
                             .a_row = p->v_row,
                             .a_step = group,
                             .b = panel,
                             .b_step = width * group,
                             .c = b->t + point * p->t_point + column,
                             .c_float = true,
                             .c_apart = oc};
        int columns = left < width ? (int)left : width;
        bool ahead = p->streams && unit + 1 < end;
        int64_t from = ahead ? tl_panel_fetch_from(p->kernels, nr, b->count) : b->count;
        if (from > 0) p->kernels->gemm_tile(&tile, from, columns);
        if (!ahead) continue;
        tl_gemm_move(&tile, from);
        tile.next = panel + depth * width * element;
        p->kernels->gemm_tile(&tile, b->count - from, columns);
    }
    p->kernels->gemm_end();
}

static void find_outputs(const winograd_plan *p, int64_t tile, int64_t *y_at) {
    const tl_conv *c = p->conv;
    int64_t n, y, x;
    place_tile(p, tile, &n, &y, &x);
    for (int i = 0; i < p->tile_h * p->tile_w; i++) {
        int64_t out_y = y + i / p->tile_w, out_x = x + i % p->tile_w;
        bool inside = out_y < c->oh && out_x < c->ow;
        y_at[i] = inside ? ((n * c->oh + out_y) * c->ow + out_x) * c->oc : -1;
    }
}

static void transform_outputs(void *arg, int64_t begin, int64_t end) {
    const winograd_block *b = arg;
    const winograd_plan *p = b->plan;
    const tl_conv *c = p->conv;
    const tl_epilogue *e = p->epilogue;
    const bool fetches = p->tile_h * p->tile_w * c->oc * p->kernels->element <= FETCH_BYTES;
    int64_t y_at[2][TL_WINOGRAD_POINTS];
    find_outputs(p, b->first + begin, y_at[begin % 2]);
    for (int64_t tile = begin; tile < end; tile++) {
        bool more = tile + 1 < end;
        if (more) find_outputs(p, b->first + tile + 1, y_at[(tile + 1) % 2]);
        tl_winograd_output call = {.f = p->form,
                                   .t = b->t + tile * c->oc,
                                   .t_step = p->t_point,
                                   .c = c->oc,
                                   .y = p->y,
                                   .y_at = y_at[tile % 2],
                                   .next = y_at[(tile + (more && fetches)) % 2],
                                   .accumulate = p->add,
                                   .bias = e ? e->bias : NULL,
                                   .residual = e ? e->residual : NULL,
                                   .act = e ? e->act : TL_ACT_NONE};
        p->kernels->winograd_output(&call);
    }
}

/* --- blocks ---------------------------------------------------------------------------------- */

static winograd_block slot_block(const winograd_plan *p, int slot) {
    char *memory = p->blocks + (size_t)slot * p->block_bytes;
    return (winograd_block){.plan = p, .v = memory, .t = (float *)(void *)(memory + p->v_bytes)};
}

static void run_block(winograd_block *b, int64_t tile, int64_t end) {
    const winograd_plan *p = b->plan;
    b->first = tile;
    b->count = end - tile < p->block ? end - tile : p->block;
    transform_inputs(b, 0, b->count);
    multiply_panels(b, 0, p->points * p->panels);
    transform_outputs(b, 0, b->count);
}

static int64_t line_row(const void *driver, int64_t line) {
    const winograd_plan *p = driver;
    return (line / p->tiles_y * p->conv->oh + line % p->tiles_y * p->tile_h) * p->conv->ow;
}

/* Lines of tiles are followed when their last tile is done. */
static void run_followed(winograd_block *b, int slot) {
    const winograd_plan *p = b->plan;
    int64_t line, line_end, done;
    tl_follow_range(&p->follow, slot, p->threads, &line, &line_end);
    int64_t tile = line * p->tiles_x, end = line_end * p->tiles_x;
    for (; tile < end; tile += p->block, line = done) {
        run_block(b, tile, end);
        done = (tile + b->count) / p->tiles_x;
        tl_follow_units(&p->follow, line, done);
    }
}

static void run_slots(void *arg, int64_t begin, int64_t end) {
    const winograd_plan *p = arg;
    for (int64_t slot = begin; slot < end; slot++) {
        winograd_block b = slot_block(p, (int)slot);
        if (p->at_once) {
            run_followed(&b, (int)slot);
            continue;
        }
        int64_t tile, tile_end;
        tl_cut_range(p->tiles, (int)slot, p->threads, &tile, &tile_end);
        for (; tile < tile_end; tile += p->block) run_block(&b, tile, tile_end);
    }
}

static void run_shared(tl_context *ctx, const winograd_plan *p) {
    winograd_block b = slot_block(p, 0);
    for (b.first = 0; b.first < p->tiles; b.first += p->block) {
        b.count = p->tiles - b.first < p->block ? p->tiles - b.first : p->block;
        tl_parallel(ctx, b.count, transform_inputs, &b);
        tl_parallel(ctx, p->points * p->panels, multiply_panels, &b);
        tl_parallel(ctx, b.count, transform_outputs, &b);
    }
}

void tl_winograd_run(tl_context *ctx, const tl_conv *conv, tl_winograd f, const void *x,
                     const void *packed, const tl_epilogue *epilogue, bool add, void *y,
                     void *work) {
    winograd_plan p = make_plan(ctx, conv, f);
    memset(work, 0, p.zero_bytes);
    p.x = (tl_winograd_images){x, work, conv->h, conv->w, conv->ic, p.kernels->element};
    p.packed = packed;
    p.epilogue = epilogue;
    p.add = add;
    p.y = y;
    p.blocks = (char *)work + p.zero_bytes;
    bool shared = p.tiles < p.block * p.threads;
    p.follow =
        tl_follow_cut_of(tl_epilogue_follow(epilogue), p.conv->n * p.tiles_y, p.tile_h * conv->ow);
    p.follow.row = line_row;
    p.follow.driver = &p;
    p.at_once = !shared && tl_follow_at_once(ctx, &p.follow);
    if (shared)
        run_shared(ctx, &p);
    else
        tl_parallel(ctx, p.threads, run_slots, &p);
    if (!p.at_once) tl_follow_all(ctx, &p.follow);
}
