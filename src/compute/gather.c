/* Loops around the tile. From the outside in:
 *   slots    a rectangle of row tiles and column panels for each thread
 *   blocks   of row tiles, so many that their part of A stays in the second-level cache while
 *            all panels pass over it; the pointers to its rows are found once here
 *   depths   of the sums, so deep that a panel's part of B stays in the second-level cache
 *            while all tiles of the block pass over it
 *   panels   of nr columns
 *   runs     of evenly spaced rows, or a tile of mr rows: one call of the kernel
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
    STREAM_BYTES = 1 << 18, /* of A or B that stay in the second-level cache */
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
    bool c_even;       /* and C's */
    int64_t inside_y, inside_y_end, inside_x, inside_x_end;
    bool copies;      /* rows of A are copied together before use */
    int64_t copy_row; /* bytes from one copied row to the next */
    bool streams;     /* B does not stay in the second-level cache */
    bool a_streams;   /* A was not there before */
    size_t zero_bytes, slot_bytes;
    tl_cut cut;
    /* set by run */
    tl_follow_cut follow;
    bool at_once;
    const void *zero;
    char *slots;
} gather_plan;

/* Neighbouring tiles of a block: rows [begin, end), that are evenly spaced in every tap. */
typedef struct gather_run {
    int64_t begin, end;
    int64_t apart; /* tl_gemm_tile.a_row: 0 of a single tile whose rows lie anywhere */
} gather_run;

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
    size_t pointers = rows * (size_t)p->taps, places = p->c_even ? 0 : rows;
    size_t bytes = pointers * sizeof(void *) + places * sizeof(int64_t);
    bytes += (size_t)p->block * sizeof(gather_run);
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
    int64_t c_line = g->c_pixel * g->taps.x.out, c_image = c_line * g->taps.y.out;
    p.c_even = g->c_row == c_line && (g->n == 1 || g->c_image == c_image);
    tl_taps_inside(&g->taps.y, &p.inside_y, &p.inside_y_end);
    tl_taps_inside(&g->taps.x, &p.inside_x, &p.inside_x_end);
    p.copies = rows_collide(&p);
    if (p.copies) p.copy_row = (int64_t)tl_cut_bytes((size_t)(p.depth_k * element)) + COPY_GAP;
    p.slot_bytes = slot_bytes(&p);
    p.streams = p.group_bytes * (size_t)g->groups > STREAM_BYTES;
    p.a_streams = p.rows * g->a_pixel * element > STREAM_BYTES;
    p.cut = tl_cut_choose(p.rows, kernels->mr, p.panels * g->groups, tl_context_threads(ctx));
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
    int64_t first;   /* of the block */
    gather_run *run; /* [run_count] */
    int64_t run_count;
    const void **a; /* [tile][tap][mr]; of a run of evenly spaced rows only the first */
    int64_t *c;     /* [tile][mr], unless C is even */
    char *copy;
} gather_rows;

static gather_rows slot_rows(const gather_plan *p, int slot) {
    int64_t rows = p->block * p->kernels->mr;
    gather_rows r = {.copy = p->slots + (size_t)slot * p->slot_bytes};
    r.run = (gather_run *)(void *)(r.copy + rows * p->copy_row);
    r.a = (const void **)(void *)(r.run + p->block);
    r.c = (int64_t *)(void *)(r.a + rows * p->taps);
    return r;
}

/* A pixel of the grid. */
typedef struct gather_pixel {
    int64_t n, y, x;
} gather_pixel;

static gather_pixel pixel_at(const tl_gather *g, int64_t row) {
    int64_t width = g->taps.x.out, height = g->taps.y.out;
    return (gather_pixel){row / width / height, row / width % height, row % width};
}

static void move_on(const tl_gather *g, gather_pixel *at, int64_t pixels) {
    at->x += pixels;
    for (; at->x >= g->taps.x.out; at->x -= g->taps.x.out) {
        if (++at->y < g->taps.y.out) continue;
        at->y = 0;
        at->n++;
    }
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
    if (p->even) return true;
    int64_t width = p->g->taps.x.out, end = at->x + p->kernels->mr, lines = (end - 1) / width;
    bool inside = at->x >= p->inside_x && end <= p->inside_x_end;
    return (inside || p->lines_follow) && at->y >= p->inside_y && at->y + lines < p->inside_y_end;
}

/* Whether an even tile that begins there goes on as the even tile before it did. */
static bool goes_on(const gather_plan *p, const gather_pixel *at) {
    return p->even || at->x > 0 || (p->lines_follow && at->y > 0);
}

/* Every row of a tile: of A, of C, either of which may be NULL. */
static void find_tile(const gather_plan *p, gather_pixel at, int64_t count, const void **a,
                      int64_t *c) {
    const tl_gather *g = p->g;
    for (int64_t lane = 0; lane < count; lane++) {
        if (a) find_taps(p, &at, a + lane);
        if (c) c[lane] = at.n * g->c_image + at.y * g->c_row + at.x * g->c_pixel;
        move_on(g, &at, 1);
    }
}

/* Cuts the block's rows into tiles and joins neighbours that one call of the kernel can take. */
static void find_rows(const gather_plan *p, gather_rows *rows, int64_t count) {
    const int64_t mr = p->kernels->mr;
    gather_pixel at = pixel_at(p->g, rows->first);
    gather_run run = {0, 0, 0};
    rows->run_count = 0;
    for (int64_t row = 0; row < count; row = run.end) {
        bool even = is_even(p, &at), same = even && run.apart && goes_on(p, &at);
        const void **a = rows->a + row * p->taps;
        if (!same) run = (gather_run){.begin = row, .apart = even ? p->distance : 0};
        run.end = smaller(row + mr, count);
        if (even && !same) find_taps(p, &at, a);
        if (!even || !p->c_even)
            find_tile(p, at, run.end - row, even ? NULL : a, p->c_even ? NULL : rows->c + row);
        if (!same) rows->run_count++;
        rows->run[rows->run_count - 1] = run;
        move_on(p->g, &at, run.end - row);
    }
}

/* The part of the sums that one pass over the panels adds. */
typedef struct gather_depth {
    int tap, taps;
    int64_t from, k; /* of each tap */
    bool first, last;
} gather_depth;

/* Copies the rows of A together. */
static void copy_rows(const gather_plan *p, const gather_rows *rows, const gather_depth *d) {
    const int element = p->kernels->element;
    for (int64_t r = 0; r < rows->run_count; r++) {
        const gather_run *run = &rows->run[r];
        for (int64_t i = run->begin; i < run->end; i++) {
            const void *from = rows->a[run->apart ? run->begin : i];
            int64_t at = d->from + (i - run->begin) * run->apart;
            memcpy(rows->copy + i * p->copy_row, tl_element(from, at, element),
                   (size_t)(d->k * element));
        }
    }
}

/* What a tile that begins with the run's first row could fetch: what the next tile reads that this
 * one does not (with copies: what the next block's tile reads), where its last tap begins, if
 * pixels go on as they do here. NULL at an edge. */
static const void *next_input(const gather_plan *p, const gather_rows *rows, const gather_run *run,
                              const gather_depth *d) {
    int mr = p->kernels->mr;
    if (d->taps == 0) return NULL;
    const void *last = rows->a[run->begin * p->taps + (d->tap + d->taps - 1) * mr];
    if (last == p->zero) return NULL;
    int64_t ahead = p->copies ? rows->run[rows->run_count - 1].end : mr;
    return tl_element(last, d->from * mr + ahead * p->distance, p->kernels->element);
}

/* A panel of a group; `column` is its first of the group's. */
typedef struct gather_panel {
    int64_t group, column;
    int width;
} gather_panel;

static gather_panel panel_of(const gather_plan *p, int64_t group, int64_t column) {
    return (gather_panel){group, column, tl_panel_width(p->kernels, p->g->columns - column)};
}

static gather_panel next_panel(const gather_plan *p, const gather_panel *panel) {
    int64_t column = panel->column + p->kernels->nr;
    return column < p->g->columns ? panel_of(p, panel->group, column)
                                  : panel_of(p, panel->group + 1, 0);
}

/* B of the panel at that depth. */
static const void *panel_b(const gather_plan *p, const gather_depth *d, const gather_panel *panel) {
    int64_t depth = tl_panel_depth(p->kernels, p->g->k);
    int64_t at = panel->column * p->taps * depth + (d->tap * depth + d->from) * panel->width;
    const char *b = (const char *)p->g->b + (size_t)panel->group * p->group_bytes;
    return b + at * p->kernels->element;
}

/* What is the same for all panels at that depth. */
static tl_gemm_tile depth_tile(const gather_plan *p, const gather_depth *d) {
    const tl_gather *g = p->g;
    const tl_epilogue *e = d->last ? g->epilogue : NULL;
    return (tl_gemm_tile){.taps = d->taps,
                          .k = d->k,
                          .a_step = p->kernels->group,
                          .c = g->c,
                          .c_float = (e && e->out_f32) || p->kernels->element == sizeof(float),
                          .c_apart = g->c_pixel,
                          .accumulate = g->accumulate || !d->first,
                          .residual = e ? e->residual : NULL,
                          .act = e ? e->act : TL_ACT_NONE,
                          .fetch_added = true};
}

static void place_panel(const gather_plan *p, const gather_depth *d, const gather_panel *panel,
                        tl_gemm_tile *tile) {
    const tl_epilogue *e = d->last ? p->g->epilogue : NULL;
    tile->b = panel_b(p, d, panel);
    tile->b_tap = tl_panel_depth(p->kernels, p->g->k) * panel->width;
    tile->b_step = panel->width * p->kernels->group;
    tile->bias = e && e->bias ? e->bias + panel->group * p->g->columns + panel->column : NULL;
}

/* Sets where A and C have the rows of a run from `row` on. */
static void place_rows(const gather_plan *p, const gather_rows *rows, const gather_depth *d,
                       const gather_panel *panel, const gather_run *run, int64_t row,
                       tl_gemm_tile *tile) {
    tile->c_offset = panel->group * p->g->columns + panel->column;
    if (p->copies) {
        tile->a = (const void *const *)&rows->copy;
        tile->a_row = p->copy_row / p->kernels->element;
        tile->a_offset = row * tile->a_row;
    } else {
        tile->a = rows->a + run->begin * p->taps + d->tap * p->kernels->mr;
        tile->a_row = run->apart;
        tile->a_offset = panel->group * p->g->k + d->from + (row - run->begin) * run->apart;
    }
    if (p->c_even)
        tile->c_offset += (rows->first + row) * tile->c_apart;
    else
        tile->c_row = rows->c + row;
}

/* What is not in the second-level cache yet is fetched while tiles compute: the next panel's B by
 * those from row `from` on, the next tile's input by the others. */
typedef struct gather_fetch {
    int64_t from;
    const void *b;
    bool input;
} gather_fetch;

static gather_fetch plan_fetch(const gather_plan *p, const gather_depth *d, int64_t count,
                               const gather_panel *panel, bool first, bool last) {
    gather_fetch f = {.from = count, .input = first && p->a_streams};
    if (last || !p->streams) return f;
    gather_panel next = next_panel(p, panel);
    f.b = panel_b(p, d, &next);
    f.from = tl_panel_fetch_from(p->kernels, next.width, count);
    f.from = (f.from + p->kernels->mr - 1) / p->kernels->mr * p->kernels->mr;
    return f;
}

/* Sets what tiles of a run fetch from row `row` of the block on. */
static void place_fetch(const gather_plan *p, const gather_rows *rows, const gather_depth *d,
                        const gather_fetch *f, const gather_run *run, int64_t row,
                        tl_gemm_tile *tile) {
    if (row < f->from) {
        tile->next = f->input ? next_input(p, rows, run, d) : NULL;
        tile->next_row = p->distance * p->kernels->element;
        return;
    }
    int64_t groups = d->taps * tl_panel_depth(p->kernels, d->k) / p->kernels->group;
    tile->next = (const char *)f->b + (row - f->from) / p->kernels->mr * groups * TL_LINE;
    tile->next_row = 0;
}

/* One panel for all rows of the block. */
static void run_panel(const gather_plan *p, const gather_rows *rows, const gather_depth *d,
                      const gather_panel *panel, const gather_fetch *fetch, tl_gemm_tile *tile) {
    const int columns = (int)smaller(panel->width, p->g->columns - panel->column);
    int64_t count = rows->run[rows->run_count - 1].end, end;
    const gather_run copied = {.end = count};
    place_panel(p, d, panel, tile);
    for (int64_t row = 0, r = 0; row < count; row = end) {
        const gather_run *run = p->copies && !fetch->input ? &copied : &rows->run[r];
        end = row < fetch->from && fetch->from < run->end ? fetch->from : run->end;
        place_rows(p, rows, d, panel, run, row, tile);
        place_fetch(p, rows, d, fetch, run, row, tile);
        p->kernels->gemm_tile(tile, end - row, columns);
        if (end == run->end) r++;
    }
}

static void run_depth(const gather_plan *p, const gather_rows *rows, const gather_depth *d,
                      int64_t begin, int64_t end) {
    int64_t count = rows->run[rows->run_count - 1].end;
    gather_panel panel = panel_of(p, begin / p->panels, begin % p->panels * p->kernels->nr);
    tl_gemm_tile tile = depth_tile(p, d);
    if (p->copies) copy_rows(p, rows, d);
    for (int64_t i = begin; i < end; i++, panel = next_panel(p, &panel)) {
        gather_fetch fetch = plan_fetch(p, d, count, &panel, i == begin, i + 1 == end);
        run_panel(p, rows, d, &panel, &fetch, &tile);
    }
}

static void run_block(const gather_plan *p, const gather_rows *rows, int64_t panel_begin,
                      int64_t panel_end) {
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
            run_depth(p, rows, &d, panel_begin, panel_end);
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
        rows.first = tile * mr;
        int64_t end = smaller(smaller(tile + p->block, tile_end) * mr, p->rows);
        find_rows(p, &rows, end - rows.first);
        run_block(p, &rows, panel_begin, panel_end);
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
