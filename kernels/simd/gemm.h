/* The batch-reduce tiles of one instruction set. The file that includes this has included its
 * vec.h and elements, and defines TILE_MR, the rows that fit into its registers beside two vectors
 * of B and one of A; TILE_POINTERS, those of which each can have a pointer; and TILE_SHORT, the
 * rows of tiles of few products. Every loop over rows or vectors has constant bounds after
 * inlining, so that the sums stay in registers. */
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

enum { TILE_FEW = 256 * ELEM_GROUP }; /* products */

/* Where a tile is. To begin one takes few instructions: they have to be done while the last tile's
 * products are. */
typedef struct tile_place {
    const void *const *a;
    int64_t a_offset, c_offset;
    const int64_t *a_even, *c_row;
    const char *next;
} tile_place;

/* Those with nothing to fetch look at B, which is there already. */
static inline tile_place tile_first(const tl_gemm_tile *t) {
    return (tile_place){.a = t->a,
                        .a_offset = t->a_offset,
                        .c_offset = t->c_offset,
                        .c_row = t->c_row,
                        .next = t->next ? t->next : t->b};
}

/* Where the rows of one tap are: row i at start[i / every] + i % every * apart. */
typedef struct tile_rows {
    const elem *start[TILE_MR];
    int64_t apart;
} tile_rows;

TILE_INLINE tile_rows tile_find_rows(const tl_gemm_tile *t, const tile_place *at, int64_t tap,
                                     const int rows, const int every) {
    const void *const *a = at->a + tap * TILE_MR;
    tile_rows found = {.apart = t->a_row};
    UNROLL
    for (int i = 0; i < rows; i += every)
        found.start[i / every] =
            (const elem *)(t->a_row ? a[0] : a[i]) + (at->a_offset + at->a_even[i]);
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

TILE_INLINE void tile_multiply(const tl_gemm_tile *t, const tile_place *at, const int rows,
                               const int every, const int vectors, vec sum[TILE_MR][TILE_VECTORS]) {
    const char *next = at->next;
    for (int64_t r = 0; r < t->taps; r++) {
        tile_rows a = tile_find_rows(t, at, r, rows, every);
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

TILE_INLINE void tile_put(void *to, int64_t at, vec_mask mask, vec x) {
    elem_store_first((elem *)to + at, mask, x);
}

/* Adds the same part of C or of the residual to every row. */
TILE_INLINE void tile_add_rows(const tile_place *p, const void *from, const int rows,
                               const int vectors, vec_mask last, vec sum[TILE_MR][TILE_VECTORS]) {
    from = (const elem *)from + p->c_offset;
    UNROLL
    for (int i = 0; i < rows; i++) {
        int64_t at = p->c_row[i];
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

TILE_INLINE void tile_store(const tl_gemm_tile *t, const tile_place *p, const int rows,
                            const int vectors, vec_mask last, vec sum[TILE_MR][TILE_VECTORS]) {
    elem *c = (elem *)t->c + p->c_offset;
    UNROLL
    for (int i = 0; i < rows; i++) {
        int64_t at = p->c_row[i];
        if (vectors > 1) tile_put(c, at, vec_all(), sum[i][0]);
        tile_put(c, at + (vectors - 1) * VEC, last, sum[i][vectors - 1]);
    }
}

/* The costlier activations go over the stored tile: unrolled they would be too much code. They are
 * of sums as they were stored in every other epilogue, too, so that these agree to the bit. */
static __attribute__((noinline)) void tile_act(tl_act act, elem *c, const int64_t *c_row, int rows,
                                               int columns) {
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j += VEC) {
            int64_t at = c_row[i] + j;
            vec_mask mask = vec_first(columns - j);
            tile_put(c, at, mask, vec_act(act, tile_load(c, at, mask)));
        }
    }
}

/* --- what is asked of elements narrower than float: sums as floats, which are stored or added to
 * what is there; rarely, an epilogue that writes floats ------------------------------------------
 */

static inline bool tile_is_sum(const tl_gemm_tile *t) {
    return t->c_float && !t->bias && !t->residual && t->act == TL_ACT_NONE;
}

TILE_INLINE void tile_put_sums(const tl_gemm_tile *t, const tile_place *p, const int rows,
                               const int vectors, vec_mask last, vec sum[TILE_MR][TILE_VECTORS]) {
    /* What is not added to is not read: zeros are added. */
    vec_mask old = vec_first(t->accumulate ? VEC : 0), old_last = vec_first(0);
    if (t->accumulate) old_last = last;
    float *tile = (float *)t->c + p->c_offset;
    UNROLL
    for (int i = 0; i < rows; i++) {
        float *c = tile + p->c_row[i], *end = c + (vectors - 1) * VEC;
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
        int64_t at = tl_gemm_place(t, i) + j;
        vec value = vec_load(sums + j);
        if (t->accumulate) value = vec_add(value, tile_load_either(t, t->c, at, mask));
        if (t->bias) value = vec_add(value, vec_load_first(t->bias + j, mask));
        if (t->residual) value = vec_add(value, tile_load_either(t, t->residual, at, mask));
        if (t->act > TL_ACT_RELU6) value = elem_rounded(value);
        value = vec_act(t->act, value);
        if (t->c_float)
            vec_store_first((float *)t->c + at, mask, value);
        else
            tile_put(t->c, at, mask, value);
    }
}

static __attribute__((noinline, unused)) void tile_finish(const tl_gemm_tile *t, const float *sums,
                                                          int rows, int columns) {
    for (int i = 0; i < rows; i++) tile_finish_row(t, i, sums + i * TILE_NR, columns);
}

TILE_INLINE void tile_finish_slowly(const tl_gemm_tile *t, const tile_place *p, const int rows,
                                    const int vectors, int columns,
                                    vec sum[TILE_MR][TILE_VECTORS]) {
    float memory[TILE_MR * TILE_NR];
    UNROLL
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) vec_store(memory + i * TILE_NR + v * VEC, sum[i][v]);
    }
    tl_gemm_tile rest = *t;
    rest.bias = NULL; /* the sums have it */
    rest.c_row = p->c_row;
    rest.c_offset = p->c_offset;
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

/* What is added to a tile's sums in the end is fetched before they are computed, as what is going
 * to be written, which it mostly is. */
static __attribute__((noinline)) void tile_fetch(const tl_gemm_tile *t, const tile_place *p,
                                                 const void *from, int rows, int columns) {
    const int size = t->c_float ? (int)sizeof(float) : (int)sizeof(elem);
    for (int i = 0; i < rows; i++) {
        const char *row = (const char *)from + (p->c_offset + p->c_row[i]) * size;
        for (int at = 0; at < columns * size; at += TILE_LINE) __builtin_prefetch(row + at, 1, 3);
    }
}

TILE_INLINE void tile_one(const tl_gemm_tile *t, const tile_place *p, const int rows,
                          const int vectors, int columns) {
    vec sum[TILE_MR][TILE_VECTORS];
    vec_mask last = vec_first(columns - (vectors - 1) * VEC);
    if (t->residual) tile_fetch(t, p, t->residual, rows, columns);
    if (t->accumulate) tile_fetch(t, p, t->c, rows, columns);
    tile_begin(t->bias, rows, vectors, last, sum);
    tile_multiply(t, p, rows, rows > TILE_POINTERS ? TILE_EVERY : 1, vectors, sum);
    if (sizeof(elem) < sizeof(float) && t->c_float) {
        if (tile_is_sum(t))
            tile_put_sums(t, p, rows, vectors, last, sum);
        else
            tile_finish_slowly(t, p, rows, vectors, columns, sum);
        return;
    }
    if (t->accumulate) tile_add_rows(p, t->c, rows, vectors, last, sum);
    if (t->residual) tile_add_rows(p, t->residual, rows, vectors, last, sum);
    if (t->act == TL_ACT_RELU) tile_clamp(rows, vectors, INFINITY, sum);
    if (t->act == TL_ACT_RELU6) tile_clamp(rows, vectors, 6.0f, sum);
    tile_store(t, p, rows, vectors, last, sum);
    if (t->act > TL_ACT_RELU6)
        tile_act(t->act, (elem *)t->c + p->c_offset, p->c_row, rows, columns);
}

/* Some tiles, one below the other, from a place on that moves past them. */
TILE_INLINE void tile_run(const tl_gemm_tile *t, tile_place *from, int64_t tiles, const int rows,
                          const int vectors, int columns) {
    tile_place at = *from;
    int64_t a_even[TILE_MR], c_even[TILE_MR];
    UNROLL
    for (int i = 0; i < rows; i++) {
        a_even[i] = i * t->a_row;
        c_even[i] = i * t->c_apart;
    }
    at.a_even = a_even;
    if (!t->c_row) at.c_row = c_even;
    for (; tiles > 0; tiles--) {
        tile_one(t, &at, rows, vectors, columns);
        at.a += t->a_row ? 0 : rows;
        at.a_offset += rows * t->a_row;
        at.c_row += t->c_row ? rows : 0;
        at.c_offset += t->c_row ? 0 : rows * t->c_apart;
        at.next += t->next ? tl_gemm_fetched(t, rows, ELEM_GROUP) : 0;
    }
    if (!t->c_row) at.c_row = NULL;
    *from = at;
}

typedef void tile_fn(const tl_gemm_tile *t, tile_place *from, int64_t tiles, int columns);

/* Sums of few products are done in short tiles: what a tile does before and after them overlaps
 * with the products of the next one the better the fewer sums it has. Of one vector tall tiles
 * have few. What is added to in the end needs the time of a tall tile to be fetched. */
static inline bool tile_is_short(const tl_gemm_tile *t, int columns) {
    return columns > VEC && t->taps == 1 && t->k <= TILE_FEW && !t->accumulate && !t->residual;
}

/* How many tiles of TILE_MR rows to begin with. So few rows that would be left over that two
 * smaller tiles can have them and a tall one's are left to these. */
static inline int64_t tile_count_tall(const tl_gemm_tile *t, int64_t rows, int columns) {
    if (TILE_POINTERS == TILE_MR || !t->a_row || tile_is_short(t, columns)) return 0;
    int64_t left = rows % TILE_MR;
    return rows / TILE_MR - (rows > TILE_MR && left > 0 && left <= 2 * TILE_POINTERS - TILE_MR);
}

/* Tall tiles, then smaller ones of as many rows as each other, or one more. */
static inline void tile_dispatch(const tl_gemm_tile *t, int64_t rows, int columns, tile_fn *tall,
                                 tile_fn *const of_rows[TILE_POINTERS]) {
    tile_place at = tile_first(t);
    int64_t high = tile_count_tall(t, rows, columns);
    if (high) tall(t, &at, high, columns);
    unsigned left = (unsigned)(rows - high * TILE_MR);
    if (left == 0) return;
    unsigned most = tile_is_short(t, columns) ? TILE_SHORT : TILE_POINTERS;
    unsigned tiles = (left + most - 1) / most, each = left / tiles, more = left % tiles;
    if (more) of_rows[each](t, &at, more, columns);
    of_rows[each - 1](t, &at, tiles - more, columns);
}

#define TILE_ROWS(count)                                                                           \
    static void tile_rows_##count(const tl_gemm_tile *t, tile_place *from, int64_t tiles,          \
                                  int columns) {                                                   \
        if (columns > VEC)                                                                         \
            tile_run(t, from, tiles, count, 2, columns);                                           \
        else                                                                                       \
            tile_run(t, from, tiles, count, 1, columns);                                           \
    }

#endif
