/* The batch-reduce tile of one instruction set. The file that includes this has included its
 * vec.h and defines TILE_MR, the rows that fit into its registers beside two vectors of B and
 * one of A. Every loop over rows or vectors has constant bounds after inlining, so that the sums
 * stay in registers. */
#ifndef TL_KERNELS_SIMD_GEMM_H
#define TL_KERNELS_SIMD_GEMM_H

#include "kernels.h"
#include "simd/act.h"
#include "simd/unroll.h"

#define TILE_INLINE static inline __attribute__((always_inline))

enum { TILE_VECTORS = 2, TILE_NR = TILE_VECTORS * VEC };

/* Floats of a cache line. */
enum { TILE_LINE = 16 };

/* `fetch` is a constant too: the loop without is a little faster. */
TILE_INLINE void tile_multiply(const tl_gemm_tile *t, const int rows, const int vectors,
                               const bool fetch, vec sum[TILE_MR][TILE_VECTORS]) {
    const float *next = t->next;
    for (int64_t r = 0; r < t->taps; r++) {
        const float *a[TILE_MR];
        UNROLL
        for (int i = 0; i < rows; i++) a[i] = t->a[r * TILE_MR + i] + t->a_offset;
        const float *b = t->b + r * t->b_tap;
        int64_t at = 0;
        for (int64_t k = t->k; k > 0; k--) {
            vec b0 = vec_load(b);
            vec b1 = vectors > 1 ? vec_load(b + VEC) : b0;
            if (fetch) {
                __builtin_prefetch(next, 0, 2);
                next += TILE_LINE;
            }
            UNROLL
            for (int i = 0; i < rows; i++) {
                vec value = vec_set(a[i][at]);
                sum[i][0] = vec_fma(value, b0, sum[i][0]);
                if (vectors > 1) sum[i][1] = vec_fma(value, b1, sum[i][1]);
            }
            at += t->a_step;
            b += t->b_step;
        }
    }
}

/* Adds the same part of C or of the residual to every row. */
TILE_INLINE void tile_add_rows(const tl_gemm_tile *t, const float *from, const int rows,
                               const int vectors, vec_mask last, vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        const float *row = from + t->c_row[i];
        if (vectors > 1) sum[i][0] = vec_add(sum[i][0], vec_load(row));
        vec *end = &sum[i][vectors - 1];
        *end = vec_add(*end, vec_load_first(row + (vectors - 1) * VEC, last));
    }
}

TILE_INLINE void tile_add_bias(const float *bias, const int rows, const int vectors, vec_mask last,
                               vec sum[TILE_MR][TILE_VECTORS]) {
    vec first = vectors > 1 ? vec_load(bias) : vec_set(0.0f);
    vec end = vec_load_first(bias + (vectors - 1) * VEC, last);
    UNROLL
    for (int i = 0; i < rows; i++) {
        if (vectors > 1) sum[i][0] = vec_add(sum[i][0], first);
        sum[i][vectors - 1] = vec_add(sum[i][vectors - 1], end);
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
        float *row = t->c + t->c_row[i];
        if (vectors > 1) vec_store(row, sum[i][0]);
        vec_store_first(row + (vectors - 1) * VEC, last, sum[i][vectors - 1]);
    }
}

/* The costlier activations go over the stored tile: unrolled they would be too much code. */
static void tile_act(const tl_gemm_tile *t, int rows, int vectors, vec_mask last) {
    for (int i = 0; i < rows; i++) {
        float *row = t->c + t->c_row[i];
        if (vectors > 1) vec_store(row, vec_act(t->act, vec_load(row)));
        row += (vectors - 1) * VEC;
        vec_store_first(row, last, vec_act(t->act, vec_load_first(row, last)));
    }
}

TILE_INLINE void tile_run(const tl_gemm_tile *t, const int rows, const int vectors, int columns) {
    vec sum[TILE_MR][TILE_VECTORS];
    UNROLL
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) sum[i][v] = vec_set(0.0f);
    }
    if (t->next)
        tile_multiply(t, rows, vectors, true, sum);
    else
        tile_multiply(t, rows, vectors, false, sum);
    vec_mask last = vec_first(columns - (vectors - 1) * VEC);
    if (t->accumulate) tile_add_rows(t, t->c, rows, vectors, last, sum);
    if (t->bias) tile_add_bias(t->bias, rows, vectors, last, sum);
    if (t->residual) tile_add_rows(t, t->residual, rows, vectors, last, sum);
    if (t->act == TL_ACT_RELU) tile_clamp(rows, vectors, INFINITY, sum);
    if (t->act == TL_ACT_RELU6) tile_clamp(rows, vectors, 6.0f, sum);
    tile_store(t, rows, vectors, last, sum);
    if (t->act > TL_ACT_RELU6) tile_act(t, rows, vectors, last);
}

#define TILE_ROWS(count)                                                                           \
    static void tile_rows_##count(const tl_gemm_tile *t, int columns) {                            \
        if (columns > VEC)                                                                         \
            tile_run(t, count, 2, columns);                                                        \
        else                                                                                       \
            tile_run(t, count, 1, columns);                                                        \
    }

#endif
