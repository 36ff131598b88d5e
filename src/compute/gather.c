/* Loops around the tile. From the outside in:
 *   slots    a rectangle of row tiles and column panels for each thread
 *   blocks   of row tiles, so many that their part of A stays in the second-level cache while
 *            all panels pass over it; the pointers to its rows are found once here
 *   depths   of the sums, so deep that a panel's part of B stays in the second-level cache
 *            while all tiles of the block pass over it
 *   panels   of nr columns
 *   tiles    of mr rows: the kernel
 * Depths follow from the shape alone, so every element is summed in the same order whatever the
 * cut. Where C is narrower than a sum there is one depth: C could not hold what is to be added to.
 */
#include "compute/gather.h"

#include <string.h>

#include "compute/cut.h"
#include "compute/follow.h"

enum {
    DEPTH = 1024,          /* products summed before C is written */
    BLOCK_BYTES = 1 << 18, /* of A in a block of tiles */
    BLOCK_TILES = 32,
    BLOCK_POINTERS = 1 << 14,
    COPY_GAP = 64,          /* bytes between copied rows */
    STREAM_BYTES = 1 << 18, /* of B that stay in the second-level cache between blocks */
    FOLLOW_BYTES = 1 << 17  /* of C in a block, where somebody follows */
};

typedef struct gather_plan {
    const tl_gather *g;
    const struct tl_kernels *kernels;
    int taps;
    int depth_taps;  /* taps summed by one call of the kernel */
    int64_t depth_k; /* of each tap; less than k only when depth_taps is 1 */
    int64_t rows, tiles, block;
    int64_t panels;     /* of a group */
    size_t group_bytes; /* of packed B */
    bool padded;
    int64_t distance;  /* of A's rows of neighbouring pixels */
    bool lines_follow; /* lines are followed by the next as pixels are, and so are taps */
    bool even;         /* the same of images: all rows are that far apart */
    int64_t inside_y, inside_y_end, inside_x, inside_x_end;
    bool copies;      /* rows of A are copied together before use */
    int64_t copy_row; /* bytes from one copied row to the next */
    bool streams;     /* B does not stay in the second-level cache */
    size_t zero_bytes, slot_bytes;
    tl_cut cut;
    /* set by run */
    tl_follow_cut follow;
    bool at_once;
    const void *zero;
    char *slots;
} gather_plan;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Rows a multiple of 4 KiB apart share so few sets of the first-level cache that those of a tile
 * push each other out. A copy in which they are not costs little where several panels use it. */
static bool rows_collide(const gather_plan *p) {
    int64_t bytes = p->distance * p->kernels->element;
    return p->taps == 1 && p->g->groups == 1 && p->panels > 1 && bytes % 4096 == 0;
}

/* What a slot's scratch holds, see slot_rows(). */
static size_t slot_bytes(const gather_plan *p) {
    size_t rows = (size_t)(p->block * p->kernels->mr);
    size_t pointers = rows * (size_t)(p->taps + (p->copies ? 1 : 0));
    size_t bytes = pointers * sizeof(void *) + (rows + (size_t)p->block) * sizeof(int64_t);
    return rows * (size_t)p->copy_row + tl_cut_bytes(bytes);
}

static gather_plan make_plan(tl_context *ctx, const tl_gather *g) {
    const struct tl_kernels *kernels = g->kernels;
    const int element = kernels->element;
    gather_plan p = {.g = g, .kernels = kernels};
    p.taps = g->taps.y.count * g->taps.x.count;
    bool cut = element == sizeof(float);
    p.depth_taps = cut ? (int)larger(1, smaller(p.taps, DEPTH / g->k)) : p.taps;
    p.depth_k = cut ? smaller(g->k, DEPTH) : g->k;
    p.rows = g->n * g->taps.y.out * g->taps.x.out;
    p.tiles = (p.rows + kernels->mr - 1) / kernels->mr;
    p.panels = (g->columns + kernels->nr - 1) / kernels->nr;
    p.group_bytes = tl_gather_packed_bytes(kernels, 1, p.taps, g->k, g->columns);
    p.block = smaller(BLOCK_TILES,
                      larger(2, BLOCK_BYTES / (kernels->mr * element * smaller(g->k, DEPTH))));
    p.block = larger(1, smaller(p.block, BLOCK_POINTERS / (kernels->mr * larger(1, p.taps))));
    p.padded = tl_taps_padded(&g->taps.y) || tl_taps_padded(&g->taps.x);
    if (p.padded) p.zero_bytes = tl_cut_bytes((size_t)(g->groups * g->k * element));
    p.distance = g->a_pixel * g->taps.x.stride;
    int64_t line = g->a_row * g->taps.y.stride, image = line * g->taps.y.out;
    p.lines_follow = line == p.distance * g->taps.x.out && !tl_taps_padded(&g->taps.x);
    p.even = p.lines_follow && !p.padded && (g->n == 1 || image == g->a_image);
    tl_taps_inside(&g->taps.y, &p.inside_y, &p.inside_y_end);
    tl_taps_inside(&g->taps.x, &p.inside_x, &p.inside_x_end);
    p.copies = rows_collide(&p);
    if (p.copies) p.copy_row = (int64_t)tl_cut_bytes((size_t)(p.depth_k * element)) + COPY_GAP;
    p.slot_bytes = slot_bytes(&p);
    p.streams = p.group_bytes * (size_t)g->groups > STREAM_BYTES;
    p.cut = tl_cut_choose(p.tiles, p.panels * g->groups, tl_context_threads(ctx));
    return p;
}

static int64_t tile_row(const void *driver, int64_t tile) {
    const gather_plan *p = driver;
    return smaller(tile * p->kernels->mr, p->rows);
}

/* Threads write whole rows, and smaller blocks of them. */
static void plan_follow(tl_context *ctx, gather_plan *p) {
    const int mr = p->kernels->mr;
    p->follow = tl_follow_cut_of(tl_epilogue_follow(p->g->epilogue), p->tiles, mr);
    p->follow.row = tile_row;
    p->follow.driver = p;
    p->at_once = tl_follow_at_once(ctx, &p->follow);
    if (!p->at_once) return;
    int64_t tile_bytes = mr * p->g->groups * p->g->columns * p->kernels->element;
    p->block = larger(1, smaller(p->block, FOLLOW_BYTES / tile_bytes));
    p->cut = (tl_cut){tl_context_threads(ctx), 1};
}

size_t tl_gather_work_bytes(tl_context *ctx, const tl_gather *gather) {
    gather_plan p = make_plan(ctx, gather);
    return p.zero_bytes + p.slot_bytes * (size_t)tl_context_threads(ctx);
}

/* One slot's scratch: the rows of A and C in the current block of tiles. */
typedef struct gather_rows {
    const void **a;      /* [tile][tap][mr] */
    int64_t *apart;      /* [tile]: tl_gemm_tile.a_row */
    int64_t *c;          /* [tile][mr] */
    const void **copied; /* [tile][mr], with plan.copies */
    char *copy;
} gather_rows;

static gather_rows slot_rows(const gather_plan *p, int slot) {
    int64_t rows = p->block * p->kernels->mr;
    gather_rows r = {.copy = p->slots + (size_t)slot * p->slot_bytes};
    r.c = (int64_t *)(void *)(r.copy + rows * p->copy_row);
    r.apart = r.c + rows;
    r.a = (const void **)(void *)(r.apart + p->block);
    r.copied = r.a + rows * p->taps;
    return r;
}

/* A pixel of the grid, and where it is in C. */
typedef struct gather_pixel {
    int64_t n, y, x, c;
} gather_pixel;

static gather_pixel pixel_at(const tl_gather *g, int64_t row) {
    int64_t width = g->taps.x.out, height = g->taps.y.out;
    gather_pixel at = {row / width / height, row / width % height, row % width, 0};
    at.c = at.n * g->c_image + at.y * g->c_row + at.x * g->c_pixel;
    return at;
}

static void next_pixel(const tl_gather *g, gather_pixel *at) {
    at->c += g->c_pixel;
    if (++at->x < g->taps.x.out) return;
    at->c += g->c_row - at->x * g->c_pixel;
    at->x = 0;
    if (++at->y < g->taps.y.out) return;
    at->c += g->c_image - at->y * g->c_row;
    at->y = 0;
    at->n++;
}

/* The pointers of one row, mr apart from tap to tap. */
static void find_taps(const gather_plan *p, const gather_pixel *at, const void **to) {
    const tl_gather *g = p->g;
    const tl_taps *ty = &g->taps.y, *tx = &g->taps.x;
    const int mr = p->kernels->mr, element = p->kernels->element;
    const void *image = tl_element(g->a, at->n * g->a_image, element);
    int64_t in_y = at->y * ty->stride + ty->first;
    for (int i = 0; i < ty->count; i++, in_y += ty->step) {
        bool row_inside = in_y >= 0 && in_y < ty->in;
        int64_t in_x = at->x * tx->stride + tx->first;
        for (int j = 0; j < tx->count; j++, in_x += tx->step) {
            bool inside = row_inside && in_x >= 0 && in_x < tx->in;
            int64_t offset = in_y * g->a_row + in_x * g->a_pixel;
            *to = inside ? tl_element(image, offset, element) : p->zero;
            to += mr;
        }
    }
}

/* Whether the rows of a tile that begins there are equally far apart in every tap. */
static bool is_even(const gather_plan *p, const gather_pixel *at) {
    if (p->copies) return false;
    if (p->even) return true;
    int64_t width = p->g->taps.x.out, end = at->x + p->kernels->mr, lines = (end - 1) / width;
    bool inside = at->x >= p->inside_x && end <= p->inside_x_end;
    return (inside || p->lines_follow) && at->y >= p->inside_y && at->y + lines < p->inside_y_end;
}

/* Of a tile: of A, where its rows are evenly spaced, only the first. Moves on to the next tile. */
static int64_t find_tile(const gather_plan *p, gather_pixel *at, int64_t count, const void **a,
                         int64_t *c) {
    bool even = is_even(p, at);
    for (int64_t lane = 0; lane < count; lane++) {
        if (lane == 0 || !even) find_taps(p, at, a + lane);
        c[lane] = at->c;
        next_pixel(p->g, at);
    }
    return even ? p->distance : 0;
}

static void find_rows(const gather_plan *p, const gather_rows *rows, int64_t begin, int64_t end) {
    const int64_t mr = p->kernels->mr;
    gather_pixel at = pixel_at(p->g, begin);
    for (int64_t row = begin, tile = 0; row < end; row += mr, tile++)
        rows->apart[tile] = find_tile(p, &at, smaller(mr, end - row), rows->a + tile * p->taps * mr,
                                      rows->c + tile * mr);
}

/* The part of the sums that one pass over the panels adds. */
typedef struct gather_depth {
    int tap, taps;
    int64_t from, k; /* of each tap */
    bool first, last;
} gather_depth;

static void copy_rows(const gather_plan *p, const gather_rows *rows, int64_t count,
                      const gather_depth *d) {
    const int element = p->kernels->element;
    for (int64_t i = 0; i < count; i++) {
        char *to = rows->copy + i * p->copy_row;
        memcpy(to, tl_element(rows->a[i], d->from, element), (size_t)(d->k * element));
        rows->copied[i] = to;
    }
}

/* What the next tile reads that this one does not (with copies: what the next block's tile
 * reads): where its last tap begins, if pixels go on as they do here. NULL at an edge. */
static const void *next_input(const gather_plan *p, const gather_rows *rows, int64_t row,
                              int64_t count, const gather_depth *d) {
    const tl_gather *g = p->g;
    int mr = p->kernels->mr;
    if (d->taps == 0) return NULL;
    const void *last = rows->a[row * p->taps + (d->tap + d->taps - 1) * mr];
    if (last == p->zero) return NULL;
    int64_t ahead = p->copies ? count : mr;
    return tl_element(last, d->from * mr + ahead * g->taps.x.stride * g->a_pixel,
                      p->kernels->element);
}

static void fetch_residual(const tl_gemm_tile *tile, int64_t rows, int64_t columns, int size) {
    for (int64_t i = 0; i < rows; i++) {
        const char *row = tl_element(tile->residual, tile->c_row[i], size);
        for (int64_t j = 0; j < columns * size; j += TL_LINE) __builtin_prefetch(row + j, 0, 3);
    }
}

/* B of the panel at that depth. */
static const void *panel_b(const gather_plan *p, const gather_depth *d, int64_t panel, int *width) {
    const tl_gather *g = p->g;
    int64_t group = panel / p->panels, column = panel % p->panels * p->kernels->nr;
    int64_t depth = tl_panel_depth(p->kernels, g->k);
    *width = tl_panel_width(p->kernels, g->columns - column);
    int64_t at = column * p->taps * depth + (d->tap * depth + d->from) * *width;
    const char *b = (const char *)g->b + (size_t)group * p->group_bytes;
    return b + at * p->kernels->element;
}

/* One panel for all tiles of the block. What is not in the second-level cache yet is fetched while
 * tiles compute: the next panel's B by the last tiles, and by the others, with the block's first
 * panel, the next tile's input. */
static void run_panel(const gather_plan *p, const gather_rows *rows, int64_t count,
                      const gather_depth *d, int64_t panel, bool first_panel, bool last_panel) {
    const tl_gather *g = p->g;
    int mr = p->kernels->mr, width, next_width = 0;
    int64_t group = panel / p->panels, column = panel % p->panels * p->kernels->nr;
    int64_t left = g->columns - column;
    const void *b = panel_b(p, d, panel, &width);
    const void *next_b = last_panel || !p->streams ? NULL : panel_b(p, d, panel + 1, &next_width);
    int64_t columns = smaller(width, left);
    const tl_epilogue *e = d->last ? g->epilogue : NULL;
    int64_t at = group * g->columns + column, depth = tl_panel_depth(p->kernels, g->k);
    const int element = p->kernels->element;
    const int c_size = e && e->out_f32 ? (int)sizeof(float) : element;
    tl_gemm_tile tile = {
        .taps = d->taps,
        .k = d->k,
        .a_offset = p->copies ? 0 : group * g->k + d->from,
        .a_step = p->kernels->group,
        .b = b,
        .b_tap = depth * width,
        .b_step = width * p->kernels->group,
        .c = tl_element_of(g->c, at, c_size),
        .c_float = c_size == sizeof(float),
        .accumulate = g->accumulate || !d->first,
        .bias = e && e->bias ? e->bias + at : NULL,
        .residual = e && e->residual ? tl_element(e->residual, at, c_size) : NULL,
        .act = e ? e->act : TL_ACT_NONE,
    };
    int64_t tiles = (count + mr - 1) / mr;
    int64_t groups = d->taps * tl_panel_depth(p->kernels, d->k) / p->kernels->group;
    for (int64_t row = 0; row < count; row += mr) {
        tile.a = p->copies ? rows->copied + row : rows->a + row * p->taps + d->tap * mr;
        tile.a_row = p->copies ? p->copy_row / element : rows->apart[row / mr];
        tile.c_row = rows->c + row;
        int64_t lines = smaller(mr, count - row);
        tile.next = first_panel ? next_input(p, rows, row, count, d) : NULL;
        if (next_b)
            tile.next =
                tl_panel_ahead(p->kernels, next_b, next_width, groups, row / mr, tiles, tile.next);
        if (tile.residual) fetch_residual(&tile, lines, columns, c_size);
        if (tile.accumulate) tl_fetch_output(&tile, lines, columns, c_size);
        p->kernels->gemm_tile(&tile, (int)lines, (int)columns);
    }
}

static void run_block(const gather_plan *p, const gather_rows *rows, int64_t count,
                      int64_t panel_begin, int64_t panel_end) {
    int64_t k = p->g->k;
    int tap = 0;
    do {
        int taps = (int)smaller(p->depth_taps, p->taps - tap);
        for (int64_t from = 0; from < k; from += p->depth_k) {
            gather_depth d = {tap,
                              taps,
                              from,
                              smaller(p->depth_k, k - from),
                              tap == 0 && from == 0,
                              tap + taps >= p->taps && from + p->depth_k >= k};
            if (p->copies) copy_rows(p, rows, count, &d);
            for (int64_t panel = panel_begin; panel < panel_end; panel++)
                run_panel(p, rows, count, &d, panel, panel == panel_begin, panel + 1 == panel_end);
        }
        tap += taps;
    } while (tap < p->taps);
}

static void run_slot(const gather_plan *p, int slot) {
    int mr = p->kernels->mr;
    gather_rows rows = slot_rows(p, slot);
    int64_t tile_begin, tile_end, panel_begin, panel_end;
    if (p->at_once)
        tl_follow_range(&p->follow, slot, p->cut.rows, &tile_begin, &tile_end);
    else
        tl_cut_range(p->tiles, slot / p->cut.columns, p->cut.rows, &tile_begin, &tile_end);
    tl_cut_range(p->panels * p->g->groups, slot % p->cut.columns, p->cut.columns, &panel_begin,
                 &panel_end);
    for (int64_t tile = tile_begin; tile < tile_end; tile += p->block) {
        int64_t begin = tile * mr;
        int64_t end = smaller(smaller(tile + p->block, tile_end) * mr, p->rows);
        find_rows(p, &rows, begin, end);
        run_block(p, &rows, end - begin, panel_begin, panel_end);
        if (p->at_once) tl_follow_units(&p->follow, tile, smaller(tile + p->block, tile_end));
    }
}

static void run_slots(void *arg, int64_t begin, int64_t end) {
    const gather_plan *p = arg;
    p->kernels->gemm_begin();
    for (int64_t slot = begin; slot < end; slot++) run_slot(p, (int)slot);
    p->kernels->gemm_end();
}

void tl_gather_run(tl_context *ctx, const tl_gather *gather, void *work) {
    gather_plan p = make_plan(ctx, gather);
    plan_follow(ctx, &p);
    memset(work, 0, p.zero_bytes);
    p.zero = work;
    p.slots = (char *)work + p.zero_bytes;
    tl_parallel(ctx, p.cut.rows * p.cut.columns, run_slots, &p);
    if (!p.at_once) tl_follow_all(ctx, &p.follow);
}
