/* The batch-reduce tile of one instruction set. The file that includes this has included its
 * vec.h and elements, and defines TILE_MR, the rows that fit into its registers beside two vectors
 * of B and one of A, and TILE_POINTERS, those of which each can have a pointer. Every loop over
 * rows or vectors has constant bounds after inlining, so that the sums stay in registers. */
#ifndef TL_KERNELS_SIMD_GEMM_H
#define TL_KERNELS_SIMD_GEMM_H

#include "kernels.h"
#include "simd/act.h"
#include "simd/unroll.h"

#define TILE_INLINE static inline __attribute__((always_inline))

enum { TILE_VECTORS = 2, TILE_NR = TILE_VECTORS * VEC };

enum { TILE_LINE = 64 }; /* bytes of a cache line */

/* Of more rows than TILE_POINTERS only every third has a pointer: they must be evenly spaced. */
enum { TILE_EVERY = 3 };

/* Where the rows of one tap are: row i at start[i / every] + i % every * apart. */
typedef struct tile_rows {
    const elem *start[TILE_MR];
    int64_t apart;
} tile_rows;

TILE_INLINE tile_rows tile_find_rows(const tl_gemm_tile *t, int64_t tap, const int rows,
                                     const int every) {
    const void *const *a = t->a + tap * TILE_MR;
    tile_rows found = {.apart = t->a_row};
    UNROLL
    for (int i = 0; i < rows; i += every)
        found.start[i / every] =
            (const elem *)(t->a_row ? a[0] : a[i]) + (t->a_offset + i * t->a_row);
    return found;
}

/* Adds the products of one group of k; `rest` of them when the last one is not whole, else 0. */
TILE_INLINE void tile_group(const tile_rows *a, const elem *b, const int rows, const int every,
                            const int vectors, int64_t rest, vec sum[TILE_MR][TILE_VECTORS]) {
    elem_factors b0 = elem_groups(b);
    elem_factors b1 = vectors > 1 ? elem_groups(b + VEC * ELEM_GROUP) : b0;
    UNROLL
    for (int i = 0; i < rows; i++) {
        const elem *row = a->start[i / every] + i % every * a->apart;
        elem_factors value = rest ? elem_spread_first(row, rest) : elem_spread(row);
        sum[i][0] = elem_multiply_add(value, b0, sum[i][0]);
        if (vectors > 1) sum[i][1] = elem_multiply_add(value, b1, sum[i][1]);
    }
}

/* Those with nothing to fetch look at B, which is there already. */
TILE_INLINE void tile_multiply(const tl_gemm_tile *t, const int rows, const int every,
                               const int vectors, vec sum[TILE_MR][TILE_VECTORS]) {
    const char *next = t->next ? t->next : t->b;
    for (int64_t r = 0; r < t->taps; r++) {
        tile_rows a = tile_find_rows(t, r, rows, every);
        const elem *b = (const elem *)t->b + r * t->b_tap;
        int64_t k = t->k;
        for (; k >= ELEM_GROUP; k -= ELEM_GROUP) {
            __builtin_prefetch(next, 0, 2);
            next += TILE_LINE;
            tile_group(&a, b, rows, every, vectors, 0, sum);
            UNROLL
            for (int i = 0; i < rows; i += every) a.start[i / every] += t->a_step;
            b += t->b_step;
        }
        if (ELEM_GROUP > 1 && k > 0) tile_group(&a, b, rows, every, vectors, k, sum);
    }
}

TILE_INLINE vec tile_load(const void *from, int64_t at, vec_mask mask) {
    return elem_load_first((const elem *)from + at, mask);
}

TILE_INLINE void tile_put(const tl_gemm_tile *t, int64_t at, vec_mask mask, vec x) {
    elem_store_first((elem *)t->c + at, mask, x);
}

/* Adds the same part of C or of the residual to every row. */
TILE_INLINE void tile_add_rows(const tl_gemm_tile *t, const void *from, const int rows,
                               const int vectors, vec_mask last, vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        int64_t at = t->c_row[i];
        if (vectors > 1) sum[i][0] = vec_add(sum[i][0], tile_load(from, at, vec_all()));
        vec *end = &sum[i][vectors - 1];
        *end = vec_add(*end, tile_load(from, at + (vectors - 1) * VEC, last));
    }
}

TILE_INLINE void tile_clamp(const int rows, const int vectors, float high,
                            vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) sum[i][v] = vec_clamp(sum[i][v], 0.0f, high);
    }
}

TILE_INLINE void tile_store(const tl_gemm_tile *t, const int rows, const int vectors, vec_mask last,
                            vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        int64_t at = t->c_row[i];
        if (vectors > 1) tile_put(t, at, vec_all(), sum[i][0]);
        tile_put(t, at + (vectors - 1) * VEC, last, sum[i][vectors - 1]);
    }
}

/* The costlier activations go over the stored tile: unrolled they would be too much code. They are
 * of sums as they were stored in every other epilogue, too, so that these agree to the bit. */
static void tile_act(const tl_gemm_tile *t, int rows, int vectors, vec_mask last) {
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) {
            int64_t at = t->c_row[i] + v * VEC;
            vec_mask mask = v + 1 < vectors ? vec_all() : last;
            tile_put(t, at, mask, vec_act(t->act, tile_load(t->c, at, mask)));
        }
    }
}

/* --- what is asked of elements narrower than float: sums as floats, which are stored or added to
 * what is there; rarely, an epilogue that writes floats ------------------------------------------
 */

static inline bool tile_is_sum(const tl_gemm_tile *t) {
    return t->c_float && !t->bias && !t->residual && t->act == TL_ACT_NONE;
}

TILE_INLINE void tile_put_sums(const tl_gemm_tile *t, const int rows, const int vectors,
                               vec_mask last, vec sum[TILE_MR][TILE_VECTORS]) {
    /* What is not added to is not read: zeros are added. */
    vec_mask old = vec_first(t->accumulate ? VEC : 0), old_last = vec_first(0);
    if (t->accumulate) old_last = last;
    UNROLL
    for (int i = 0; i < rows; i++) {
        float *c = (float *)t->c + t->c_row[i], *end = c + (vectors - 1) * VEC;
        if (vectors > 1) vec_store(c, vec_add(sum[i][0], vec_load_first(c, old)));
        vec_store_first(end, last, vec_add(sum[i][vectors - 1], vec_load_first(end, old_last)));
    }
}

TILE_INLINE vec tile_load_either(const tl_gemm_tile *t, const void *from, int64_t at,
                                 vec_mask mask) {
    return t->c_float ? vec_load_first((const float *)from + at, mask) : tile_load(from, at, mask);
}

/* Row i of sums from memory, of a multiple of VEC columns. */
static inline void tile_finish_row(const tl_gemm_tile *t, int i, const float *sums, int columns) {
    for (int j = 0; j < columns; j += VEC) {
        vec_mask mask = vec_first(columns - j);
        int64_t at = t->c_row[i] + j;
        vec value = vec_load(sums + j);
        if (t->accumulate) value = vec_add(value, tile_load_either(t, t->c, at, mask));
        if (t->bias) value = vec_add(value, vec_load_first(t->bias + j, mask));
        if (t->residual) value = vec_add(value, tile_load_either(t, t->residual, at, mask));
        if (t->act > TL_ACT_RELU6) value = elem_rounded(value);
        value = vec_act(t->act, value);
        if (t->c_float)
            vec_store_first((float *)t->c + at, mask, value);
        else
            tile_put(t, at, mask, value);
    }
}

static __attribute__((noinline, unused)) void tile_finish(const tl_gemm_tile *t, const float *sums,
                                                          int rows, int columns) {
    for (int i = 0; i < rows; i++) tile_finish_row(t, i, sums + i * TILE_NR, columns);
}

TILE_INLINE void tile_finish_slowly(const tl_gemm_tile *t, const int rows, const int vectors,
                                    int columns, vec sum[TILE_MR][TILE_VECTORS]) {
    float memory[TILE_MR * TILE_NR];
    UNROLL
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) vec_store(memory + i * TILE_NR + v * VEC, sum[i][v]);
    }
    tl_gemm_tile rest = *t;
    rest.bias = NULL; /* the sums have it */
    tile_finish(&rest, memory, rows, columns);
}

/* The sums begin with the bias, or zeros. */
TILE_INLINE void tile_begin(const float *bias, const int rows, const int vectors, vec_mask last,
                            vec sum[TILE_MR][TILE_VECTORS]) {
    vec end = bias ? vec_load_first(bias + (vectors - 1) * VEC, last) : vec_set(0.0f);
    vec first = bias && vectors > 1 ? vec_load(bias) : vec_set(0.0f);
    UNROLL
    for (int i = 0; i < rows; i++) {
        if (vectors > 1) sum[i][0] = first;
        sum[i][vectors - 1] = end;
    }
}

TILE_INLINE void tile_run(const tl_gemm_tile *t, const int rows, const int vectors, int columns) {
    vec sum[TILE_MR][TILE_VECTORS];
    vec_mask last = vec_first(columns - (vectors - 1) * VEC);
    tile_begin(t->bias, rows, vectors, last, sum);
    tile_multiply(t, rows, rows > TILE_POINTERS ? TILE_EVERY : 1, vectors, sum);
    if (sizeof(elem) < sizeof(float) && t->c_float) {
        if (tile_is_sum(t))
            tile_put_sums(t, rows, vectors, last, sum);
        else
            tile_finish_slowly(t, rows, vectors, columns, sum);
        return;
    }
    if (t->accumulate) tile_add_rows(t, t->c, rows, vectors, last, sum);
    if (t->residual) tile_add_rows(t, t->residual, rows, vectors, last, sum);
    if (t->act == TL_ACT_RELU) tile_clamp(rows, vectors, INFINITY, sum);
    if (t->act == TL_ACT_RELU6) tile_clamp(rows, vectors, 6.0f, sum);
    tile_store(t, rows, vectors, last, sum);
    if (t->act > TL_ACT_RELU6) tile_act(t, rows, vectors, last);
}

/* Rows that lie anywhere are done in halves when they are too many for a pointer each. */
TILE_INLINE void tile_dispatch(const tl_gemm_tile *t, int rows, int columns,
                               void (*const run[TILE_MR])(const tl_gemm_tile *, int)) {
    int first = t->a_row || rows <= TILE_POINTERS ? rows : rows / 2;
    run[first - 1](t, columns);
    if (first == rows) return;
    tl_gemm_tile rest = *t;
    rest.a += first;
    rest.c_row += first;
    run[rows - first - 1](&rest, columns);
}

#define TILE_ROWS(count)                                                                           \
    static void tile_rows_##count(const tl_gemm_tile *t, int columns) {                            \
        if (columns > VEC)                                                                         \
            tile_run(t, count, 2, columns);                                                        \
        else                                                                                       \
            tile_run(t, count, 1, columns);                                                        \
    }

#endif
