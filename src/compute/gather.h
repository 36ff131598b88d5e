/* The driver around the batch-reduce tile: a matrix multiplication whose rows are the pixels of
 * a grid and whose sums run over the taps of each pixel. Convolutions forward and backward with
 * respect to data, and dense layers, are calls of this. */
#ifndef TL_COMPUTE_GATHER_H
#define TL_COMPUTE_GATHER_H

#include "compute/taps.h"

typedef struct tl_gather {
    const struct tl_kernels *kernels; /* for the type of a and c */
    int64_t n;
    tl_taps2 taps;
    int groups;

    const void *a; /* pixel (i, y, x) at a + i * a_image + y * a_row + x * a_pixel */
    int64_t a_image, a_row, a_pixel;
    int64_t k; /* values a tap and group: group g reads them from g * k on */

    const void *b; /* packed, see tl_gather_pack */

    void *c; /* pixel (i, y, x) at c + i * c_image + y * c_row + x * c_pixel */
    int64_t c_image, c_row, c_pixel;
    int64_t columns; /* a group: group g writes them from g * columns on */
    bool accumulate;
    const tl_epilogue *epilogue; /* NULL = nothing; residual is laid out as c */
} tl_gather;

/* Only shapes are read for the work size. */
size_t tl_gather_work_bytes(tl_context *ctx, const tl_gather *gather);
void tl_gather_run(tl_context *ctx, const tl_gather *gather, void *work);

enum { TL_LINE = 64 }; /* bytes that caches fetch at a time */

/* Packed B is [group][panel][tap][k / kernels->group][width][kernels->group]: panels of the table's
 * nr columns, the last of a group of nr_narrow when that is enough; unused columns, and an
 * unfinished last group of k, are filled up with zeros. */
size_t tl_gather_packed_bytes(const struct tl_kernels *kernels, int groups, int taps, int64_t k,
                              int64_t columns);
/* The width of the panel that begins with `columns` columns still to come. */
static inline int tl_panel_width(const struct tl_kernels *kernels, int64_t columns) {
    return columns > kernels->nr_narrow ? kernels->nr : kernels->nr_narrow;
}

/* Values of k with those that fill up the last group. */
static inline int64_t tl_panel_depth(const struct tl_kernels *kernels, int64_t k) {
    return (k + kernels->group - 1) / kernels->group * kernels->group;
}

/* So that a panel is in the second-level cache when its turn comes, the last tiles of the panel
 * before it fetch it (tl_gemm_tile.next), a line of each group of k every mr rows: those from this
 * one of `rows` rows on. */
static inline int64_t tl_panel_fetch_from(const struct tl_kernels *kernels, int width,
                                          int64_t rows) {
    int64_t lines = (width * kernels->group * kernels->element + TL_LINE - 1) / TL_LINE;
    int64_t from = rows - lines * kernels->mr;
    return from > 0 ? from : 0;
}

/* Where B comes from: element (group, column, tap row i, tap column j, k) lies at
 *     b + group * group_step + column * column_step + i * tap_row + j * tap_column + k * k_step
 * but that the first that is to be packed is the first at b. Columns are counted through all
 * groups; begin is a multiple of nr in its group. */
typedef struct tl_gather_source {
    const float *b;
    int64_t group_step, column_step, tap_row, tap_column, k_step;
    const float *scale; /* [groups * columns] multiplies each column, or NULL */
    int64_t begin, end; /* the columns to be packed */
    int groups, tap_rows, tap_columns;
    int64_t k, columns;
} tl_gather_source;

void tl_gather_pack(tl_context *ctx, const struct tl_kernels *kernels,
                    const tl_gather_source *source, void *packed);

#endif
