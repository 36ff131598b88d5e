/* The gradient of the weights of few input channels, as conv_joined.c has them. Blocks of dy, some
 * neighbouring pixels of all outputs, stay in the first-level cache and are B as they lie in
 * memory. A is x, transposed, where it lies: of as many pixels some neighbouring values of a tap.
 * Nothing is packed, which so few products would not pay for; what comes out is dw transposed. */
#include <string.h>

#include "compute/conv_parts.h"
#include "compute/cut.h"

enum {
    OUTPUTS = 64, /* at most */
    LINE = 32,    /* pixels, at least */
    BLOCK = 128   /* of them, summed before the sums are written */
};

typedef struct joined_plan {
    const struct tl_kernels *kernels;
    const tl_conv *conv;
    tl_joined joined;
    int64_t tiles; /* of a tap */
    const float *x, *dy;
    float *sums; /* [tap][k][oc] */
    float *dw;
} joined_plan;

/* Sums of some values of one tap with all outputs. */
typedef struct joined_tile {
    int64_t tap, from, row; /* `row` in the sums */
    int rows;
} joined_tile;

bool tl_conv_weights_joined(const tl_context *ctx, const tl_conv *c) {
    const struct tl_kernels *kernels = tl_conv_kernels(ctx, c);
    bool few = c->oc <= OUTPUTS && c->oc % kernels->nr_narrow == 0 && c->ow >= LINE;
    return few && kernels->group == 1 && tl_conv_joined(c).used;
}

size_t tl_conv_weights_joined_bytes(const tl_conv *c) {
    tl_joined joined = tl_conv_joined(c);
    size_t sums = (size_t)(joined.taps.y.count * joined.k * c->oc) * sizeof(float);
    return tl_cut_bytes(joined.bytes) + tl_cut_bytes(sums);
}

static joined_tile tile_at(const joined_plan *p, int64_t unit) {
    int64_t tap = unit / p->tiles, index = unit % p->tiles, k = p->joined.k;
    int64_t from = k * index / p->tiles, end = k * (index + 1) / p->tiles;
    return (joined_tile){tap, from, tap * k + from, (int)(end - from)};
}

/* x of the tile's first value of a line's first pixel, or NULL where the tap is outside. */
static const float *find_line(const joined_plan *p, const joined_tile *tile, int64_t line) {
    const tl_conv *c = p->conv;
    const tl_taps *taps = &p->joined.taps.y;
    int64_t y = line % c->oh * taps->stride + taps->first + tile->tap * taps->step;
    if (y < 0 || y >= c->h) return NULL;
    int64_t width = p->joined.copied ? p->joined.width : c->w;
    return p->x + (line / c->oh * c->h + y) * width * c->ic + tile->from;
}

static void run_tile(const joined_plan *p, const joined_tile *tile, int64_t line, int64_t pixel,
                     int64_t pixels) {
    const tl_conv *c = p->conv;
    const float *x = find_line(p, tile, line);
    if (!x) return;
    const void *a = x + pixel * c->stride_w * c->ic;
    const int64_t nr = p->kernels->nr;
    for (int64_t column = 0; column < c->oc; column += nr) {
        tl_gemm_tile t = {.taps = 1,
                          .k = pixels,
                          .a = &a,
                          .a_row = 1,
                          .a_step = c->stride_w * c->ic,
                          .b = p->dy + (line * c->ow + pixel) * c->oc + column,
                          .b_step = c->oc,
                          .c = p->sums + tile->row * c->oc + column,
                          .c_float = true,
                          .c_apart = c->oc,
                          .accumulate = true};
        p->kernels->gemm_tile(&t, tile->rows, (int)(c->oc - column < nr ? c->oc - column : nr));
    }
}

static void add_transposed(const joined_plan *p, const joined_tile *tile) {
    int64_t oc = p->conv->oc, columns = p->joined.taps.y.count * p->joined.k;
    for (int64_t o = 0; o < oc; o++)
        for (int64_t row = tile->row; row < tile->row + tile->rows; row++)
            p->dw[o * columns + row] += p->sums[row * oc + o];
}

static void run_units(void *arg, int64_t begin, int64_t end) {
    const joined_plan *p = arg;
    const tl_conv *c = p->conv;
    joined_tile first = tile_at(p, begin), last = tile_at(p, end - 1);
    int64_t rows = last.row + last.rows - first.row;
    memset(p->sums + first.row * c->oc, 0, (size_t)(rows * c->oc) * sizeof(float));
    p->kernels->gemm_begin();
    for (int64_t line = 0; line < c->n * c->oh; line++) {
        for (int64_t pixel = 0; pixel < c->ow; pixel += BLOCK) {
            int64_t pixels = c->ow - pixel < BLOCK ? c->ow - pixel : BLOCK;
            for (int64_t unit = begin; unit < end; unit++) {
                joined_tile tile = tile_at(p, unit);
                run_tile(p, &tile, line, pixel, pixels);
            }
        }
    }
    p->kernels->gemm_end();
    for (int64_t unit = begin; unit < end; unit++) {
        joined_tile tile = tile_at(p, unit);
        add_transposed(p, &tile);
    }
}

void tl_conv_backward_weights_joined(tl_context *ctx, const tl_conv *conv, const void *x,
                                     const void *dy, float *dw, void *work) {
    joined_plan p = {.kernels = tl_conv_kernels(ctx, conv), .conv = conv, .dy = dy, .dw = dw};
    p.joined = tl_conv_joined(conv);
    p.tiles = (p.joined.k + p.kernels->mr - 1) / p.kernels->mr;
    p.x = tl_conv_pad(ctx, conv, &p.joined, x, work);
    p.sums = (float *)(void *)((char *)work + tl_cut_bytes(p.joined.bytes));
    tl_parallel(ctx, p.joined.taps.y.count * p.tiles, run_units, &p);
}
