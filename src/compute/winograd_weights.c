/* The gradient of a 3 x 3 convolution's weights by Winograd's method. With the forward pass as
 *     Y = A' [(G g G') * (B' d B)] A        (* element by element, ' transposed)
 * it is G' [sum over tiles of (A dY A') * (B' d B)] G: for each of the (m + 2)^2 points a matrix
 * [oc][ic] is summed over all tiles of all images. Tiles are taken in blocks, whose transforms
 * lie in the order in which the kernel reads them. Blocks follow from the shape alone and every
 * element is summed in their order, whatever the number of threads. */
#include "compute/winograd.h"

#include <string.h>

#include "compute/conv_parts.h"
#include "compute/cut.h"

enum { BLOCK_BYTES = 512 }; /* of a channel's tiles, summed before they are written */

typedef struct weights_plan {
    const struct tl_kernels *kernels;
    const tl_conv *conv;
    tl_winograd form;
    int points;
    int64_t tiles_y, tiles_x, tiles, block;
    int64_t rows, panels;              /* tiles of mr filters, panels of nr channels */
    int64_t u_row, v_panel;            /* elements of one of these in a block */
    int64_t u_point, v_point, s_point; /* from point to point */
    size_t zero_bytes;
    /* set by run */
    tl_winograd_images x, dy;
    float *dw;
    void *u;              /* transformed dy [point][row tile][tile][mr], in groups of tiles */
    void *v;              /* transformed x [point][panel][tile][nr], too */
    float *sums;          /* [point][oc][ic] */
    int64_t first, count; /* the block's tiles */
} weights_plan;

static weights_plan make_plan(tl_context *ctx, const tl_conv *c, tl_winograd f) {
    weights_plan p = {.kernels = tl_conv_kernels(ctx, c), .conv = c, .form = f};
    const int mr = p.kernels->mr, nr = p.kernels->nr, element = p.kernels->element;
    p.points = tl_winograd_points(f);
    p.tiles_y = (c->oh + f.m - 1) / f.m;
    p.tiles_x = (c->ow + f.m - 1) / f.m;
    p.tiles = c->n * p.tiles_y * p.tiles_x;
    int64_t most = BLOCK_BYTES / element, blocks = (p.tiles + most - 1) / most;
    p.block = (p.tiles + blocks - 1) / blocks;
    p.rows = (c->oc + mr - 1) / mr;
    p.panels = (c->ic + nr - 1) / nr;
    p.u_row = most * mr;
    p.v_panel = most * nr;
    /* Points 4 KiB apart would share cache sets. */
    p.u_point = p.rows * p.u_row + 64 / element;
    p.v_point = p.panels * p.v_panel + 64 / element;
    p.s_point = (int64_t)tl_cut_aligned((size_t)(c->oc * c->ic)) + 16;
    p.zero_bytes = tl_cut_bytes((size_t)((c->ic > c->oc ? c->ic : c->oc) * element));
    return p;
}

static size_t factor_bytes(const weights_plan *p, int64_t point) {
    return (size_t)(p->points * point * p->kernels->element);
}

size_t tl_winograd_weights_work_bytes(tl_context *ctx, const tl_conv *conv, tl_winograd f) {
    weights_plan p = make_plan(ctx, conv, f);
    return p.zero_bytes + factor_bytes(&p, p.u_point) + factor_bytes(&p, p.v_point) +
           (size_t)(p.points * p.s_point) * sizeof(float);
}

typedef struct tile_pixels {
    const void *dy[TL_WINOGRAD_POINTS], *x[TL_WINOGRAD_POINTS];
} tile_pixels;

static void find_pixels(const weights_plan *p, int64_t tile, tile_pixels *pixels) {
    const tl_conv *c = p->conv;
    int64_t x = tile % p->tiles_x * p->form.m, y = tile / p->tiles_x % p->tiles_y * p->form.m;
    int64_t n = tile / p->tiles_x / p->tiles_y;
    const int side = p->form.m, in_side = side + 2;
    tl_winograd_find_pixels(&p->dy, n, y, x, side, side, pixels->dy);
    tl_winograd_find_pixels(&p->x, n, y - c->pad_top, x - c->pad_left, in_side, in_side, pixels->x);
}

/* Transforms the call's pixels `width` of `channels` at a time, as value number `tile` of the sum;
 * these are `step` elements apart in `to`. */
static void transform(const weights_plan *p, void (*kernel)(const tl_winograd_input *),
                      tl_winograd_input call, int64_t channels, int width, void *to, int64_t tile,
                      int64_t step) {
    const int element = p->kernels->element, group = p->kernels->group;
    int64_t at = tile / group * group * width;
    call.f = p->form;
    call.grouped = true;
    call.lane = (int)(tile % group);
    for (; call.first < channels; call.first += width, at += step) {
        int64_t left = channels - call.first;
        call.c = left < width ? left : width;
        call.v = tl_element_of(to, at, element);
        kernel(&call);
    }
}

static void transform_tile(const weights_plan *p, int64_t i, const tile_pixels *tile,
                           const tile_pixels *next) {
    const struct tl_kernels *k = p->kernels;
    tl_winograd_input dy = {.x = tile->dy, .next = next->dy, .v_step = p->u_point};
    transform(p, k->winograd_gradient, dy, p->conv->oc, k->mr, p->u, i, p->u_row);
    tl_winograd_input x = {.x = tile->x, .next = next->x, .v_step = p->v_point};
    transform(p, k->winograd_input, x, p->conv->ic, k->nr, p->v, i, p->v_panel);
}

/* Tiles of a group are written by one thread, in order. */
static void transform_groups(void *arg, int64_t begin, int64_t end) {
    const weights_plan *p = arg;
    const int group = p->kernels->group;
    tile_pixels pixels[2];
    int64_t i = begin * group, last = end * group < p->count ? end * group : p->count;
    find_pixels(p, p->first + i, &pixels[i % 2]);
    for (; i < last; i++) {
        bool more = i + 1 < last;
        if (more) find_pixels(p, p->first + i + 1, &pixels[(i + 1) % 2]);
        transform_tile(p, i, &pixels[i % 2], &pixels[(i + more) % 2]);
    }
}

static void multiply_panels(void *arg, int64_t begin, int64_t end) {
    const weights_plan *p = arg;
    const int mr = p->kernels->mr, nr = p->kernels->nr;
    const int group = p->kernels->group, element = p->kernels->element;
    int64_t ic = p->conv->ic, oc = p->conv->oc;
    p->kernels->gemm_begin();
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t point = unit / p->panels, panel = unit % p->panels;
        int64_t left = ic - panel * nr;
        for (int64_t row = 0; row < p->rows; row++) {
            const void *a = tl_element(p->u, point * p->u_point + row * p->u_row, element);
            tl_gemm_tile tile = {
                .taps = 1,
                .k = p->count,
                .a = &a,
                .a_row = group,
                .a_step = mr * group,
                .b = tl_element(p->v, point * p->v_point + panel * p->v_panel, element),
                .b_step = nr * group,
                .c = p->sums + point * p->s_point + row * mr * ic + panel * nr,
                .c_float = true,
                .c_apart = ic,
                .accumulate = p->first > 0};
            int64_t rows = oc - row * mr;
            p->kernels->gemm_tile(&tile, rows < mr ? rows : mr, (int)(left < nr ? left : nr));
        }
    }
    p->kernels->gemm_end();
}

static void transform_filters(void *arg, int64_t begin, int64_t end) {
    const weights_plan *p = arg;
    int64_t ic = p->conv->ic;
    for (int64_t filter = begin; filter < end; filter++) {
        tl_winograd_filter call = {.f = p->form,
                                   .t = p->sums + filter * ic,
                                   .t_step = p->s_point,
                                   .c = ic,
                                   .dw = p->dw + filter * 9 * ic,
                                   .dw_tap = ic};
        p->kernels->winograd_filter(&call);
    }
}

void tl_winograd_backward_weights(tl_context *ctx, const tl_conv *conv, tl_winograd f,
                                  const void *x, const void *dy, float *dw, void *work) {
    weights_plan p = make_plan(ctx, conv, f);
    const int group = p.kernels->group;
    memset(work, 0, p.zero_bytes);
    p.x = (tl_winograd_images){x, work, conv->h, conv->w, conv->ic, p.kernels->element};
    p.dy = (tl_winograd_images){dy, work, conv->oh, conv->ow, conv->oc, p.kernels->element};
    p.dw = dw;
    p.u = (char *)work + p.zero_bytes;
    p.v = (char *)p.u + factor_bytes(&p, p.u_point);
    p.sums = (float *)(void *)((char *)p.v + factor_bytes(&p, p.v_point));
    for (p.first = 0; p.first < p.tiles; p.first += p.block) {
        p.count = p.tiles - p.first < p.block ? p.tiles - p.first : p.block;
        tl_parallel(ctx, (p.count + group - 1) / group, transform_groups, &p);
        tl_parallel(ctx, p.points * p.panels, multiply_panels, &p);
    }
    tl_parallel(ctx, conv->oc, transform_filters, &p);
}
