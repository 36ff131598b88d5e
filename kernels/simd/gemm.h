/* The batch-reduce tiles of one instruction set. The file that includes this has included its
 * vec.h and elements, and defines TILE_MR, the rows that fit into its registers beside two vectors
 * of B and one of A; TILE_POINTERS, those of which each can have a pointer; TILE_SHORT, the rows of
 * tiles of few products; and TILE_MASKS, whether tiles mask columns that do not fill vectors. Every
 * loop over rows or vectors has constant bounds after inlining, so that the sums stay in registers.
 */
#ifndef TL_KERNELS_SIMD_GEMM_H
#define TL_KERNELS_SIMD_GEMM_H

#include "kernels.h"
#include "simd/act.h"
#include "simd/unroll.h"

#define TILE_INLINE static inline __attribute__((always_inline))

enum { TILE_VECTORS = 2, TILE_NR = TILE_VECTORS * VEC };

enum { TILE_LINE = 64 }; /* bytes of a cache line */

enum { TILE_NARROW = sizeof(elem) < sizeof(float) };

/* Of more rows than TILE_POINTERS only every third has a pointer: they must be evenly spaced. */
enum { TILE_EVERY = 3 };

enum { TILE_FEW = 256 * ELEM_GROUP }; /* products */

enum { TILE_AHEAD = 2048 }; /* bytes */

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

/* One row alone, as a dense layer's of one sample, waits for B, which is read but once: what will
 * soon be wanted of it is fetched into the first-level cache. */
TILE_INLINE void tile_fetch_ahead(const elem *b, const int vectors) {
    UNROLL
    for (int v = 0; v < vectors; v++)
        __builtin_prefetch((const char *)b + TILE_AHEAD + v * TILE_LINE, 0, 3);
}

TILE_INLINE void tile_multiply(const tl_gemm_tile *t, const tile_place *at, const int rows,
                               const int every, const int vectors, vec sum[TILE_MR][TILE_VECTORS]) {
    const char *next = at->next;
    for (int64_t r = 0; r < t->taps; r++) {
        tile_rows a = tile_find_rows(t, at, r, rows, every);
        const elem *b = (const elem *)t->b + r * t->b_tap;
        int64_t k = t->k;
        for (; k >= ELEM_GROUP; k -= ELEM_GROUP) {
            if (rows == 1) {
                tile_fetch_ahead(b, vectors);
            } else {
                __builtin_prefetch(next, 0, 2);
                next += TILE_LINE;
            }
            tile_group(&a, b, rows, every, vectors, 0, sum);
            UNROLL
            for (int i = 0; i < rows; i += every) a.start[i / every] += t->a_step;
            b += t->b_step;
        }
        if (ELEM_GROUP > 1 && k > 0) tile_group(&a, b, rows, every, vectors, k, sum);
    }
}

/* Adds the same part of C or of the residual, of whole vectors, to every row. Vectors that are
 * whole are not masked: AMD's processors make a load wait for a masked store that lies like it in
 * another page of 4 KB, as rows of C do, and tiles that add to C took up to twice the time. */
TILE_INLINE void tile_add_rows(const tile_place *p, const void *from, const int rows,
                               const int vectors, const bool floats,
                               vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        int64_t at = p->c_offset + p->c_row[i];
        UNROLL
        for (int v = 0; v < vectors; v++, at += VEC)
            sum[i][v] = vec_add(sum[i][v], floats ? vec_load((const float *)from + at)
                                                  : elem_load((const elem *)from + at));
    }
}

TILE_INLINE void tile_clamp(const int rows, const int vectors, float high,
                            vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) sum[i][v] = vec_clamp(sum[i][v], 0.0f, high);
    }
}

TILE_INLINE void tile_store(const tile_place *p, void *c, const int rows, const int vectors,
                            const bool floats, vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        int64_t at = p->c_offset + p->c_row[i];
        UNROLL
        for (int v = 0; v < vectors; v++, at += VEC) {
            if (floats)
                vec_store((float *)c + at, sum[i][v]);
            else
                elem_store((elem *)c + at, sum[i][v]);
        }
    }
}

/* Both of elements of which the last vector has only its first. */
TILE_INLINE void tile_add_rows_first(const tile_place *p, const elem *from, const int rows,
                                     const int vectors, vec_mask last,
                                     vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        const elem *row = from + p->c_offset + p->c_row[i];
        if (vectors > 1) sum[i][0] = vec_add(sum[i][0], elem_load(row));
        vec *end = &sum[i][vectors - 1];
        *end = vec_add(*end, elem_load_first(row + (vectors - 1) * VEC, last));
    }
}

TILE_INLINE void tile_store_first(const tile_place *p, elem *c, const int rows, const int vectors,
                                  vec_mask last, vec sum[TILE_MR][TILE_VECTORS]) {
    UNROLL
    for (int i = 0; i < rows; i++) {
        elem *row = c + p->c_offset + p->c_row[i];
        if (vectors > 1) elem_store(row, sum[i][0]);
        elem_store_first(row + (vectors - 1) * VEC, last, sum[i][vectors - 1]);
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
            elem_store_first(c + at, mask, vec_act(act, elem_load_first(c + at, mask)));
        }
    }
}

/* --- sums from memory, for the rare cases of tile_is_rare() -------------------------------------
 */

TILE_INLINE vec tile_load_first(const tl_gemm_tile *t, const void *from, int64_t at,
                                vec_mask mask) {
    return t->c_float ? vec_load_first((const float *)from + at, mask)
                      : elem_load_first((const elem *)from + at, mask);
}

/* What an epilogue makes of sums from column j on. */
static inline vec tile_finish_sums(const tl_gemm_tile *t, int64_t at, int j, vec_mask mask,
                                   vec value) {
    if (t->accumulate) value = vec_add(value, tile_load_first(t, t->c, at, mask));
    if (t->bias) value = vec_add(value, vec_load_first(t->bias + j, mask));
    if (t->residual) value = vec_add(value, tile_load_first(t, t->residual, at, mask));
    if (t->act > TL_ACT_RELU6) value = elem_rounded(value);
    return vec_act(t->act, value);
}

/* Rows of sums are TILE_NR apart. */
static __attribute__((noinline)) void tile_finish(const tl_gemm_tile *tile, const float *sums,
                                                  int rows, int columns) {
    const tl_gemm_tile t = *tile; /* which no store can change */
    for (int j = 0; j < columns; j += VEC) {
        const vec_mask mask = vec_first(columns - j);
        for (int i = 0; i < rows; i++) {
            int64_t at = tl_gemm_place(&t, i) + j;
            vec value = tile_finish_sums(&t, at, j, mask, vec_load(sums + i * TILE_NR + j));
            if (t.c_float)
                vec_store_first((float *)t.c + at, mask, value);
            else
                elem_store_first((elem *)t.c + at, mask, value);
        }
    }
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

/* What is going to be added to a tile's sums is fetched before they are computed, as what is going
 * to be written, which it mostly is. Calls of a function that did this alone would be free of side
 * effects to gcc, and left out. */
TILE_INLINE void tile_fetch(const tl_gemm_tile *t, const tile_place *p, const void *from,
                            const int rows, const int vectors) {
    const int size = t->c_float ? (int)sizeof(float) : (int)sizeof(elem);
    ROLLED
    for (int i = 0; i < rows; i++) {
        const char *row = (const char *)from + (p->c_offset + p->c_row[i]) * size;
        UNROLL
        for (int v = 0; v < vectors; v++) __builtin_prefetch(row + v * VEC * size, 1, 3);
    }
}

TILE_INLINE void tile_one(const tl_gemm_tile *t, const tile_place *p, const int rows,
                          const int vectors, int columns) {
    vec sum[TILE_MR][TILE_VECTORS];
    const bool whole = columns == vectors * VEC;
    const vec_mask last = TILE_MASKS ? vec_first(columns - (vectors - 1) * VEC) : vec_all();
    const void *added[2] = {t->accumulate ? t->c : t->residual, t->residual};
    if (added[0] && t->fetch_added) tile_fetch(t, p, added[1] ? added[1] : added[0], rows, vectors);
    tile_begin(t->bias, rows, vectors, last, sum);
    tile_multiply(t, p, rows, rows > TILE_POINTERS ? TILE_EVERY : 1, vectors, sum);
    if (TILE_NARROW && t->c_float) {
        if (t->accumulate) tile_add_rows(p, t->c, rows, vectors, true, sum);
        tile_store(p, t->c, rows, vectors, true, sum);
        return;
    }
    for (int i = t->accumulate ? 0 : 1; i < 2 && added[i]; i++) {
        if (whole || !TILE_MASKS)
            tile_add_rows(p, added[i], rows, vectors, false, sum);
        else
            tile_add_rows_first(p, added[i], rows, vectors, last, sum);
    }
    if (t->act == TL_ACT_RELU) tile_clamp(rows, vectors, INFINITY, sum);
    if (t->act == TL_ACT_RELU6) tile_clamp(rows, vectors, 6.0f, sum);
    if (whole || !TILE_MASKS)
        tile_store(p, t->c, rows, vectors, false, sum);
    else
        tile_store_first(p, t->c, rows, vectors, last, sum);
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
 * have few. A tall tile alone reads B once. */
static inline bool tile_is_short(const tl_gemm_tile *t, int64_t rows, int columns) {
    return rows > TILE_MR && columns > VEC && t->taps == 1 && t->k <= TILE_FEW;
}

/* How many tiles of TILE_MR rows to begin with. So few rows that would be left over that two
 * smaller tiles can have them and a tall one's are left to these. */
static inline int64_t tile_count_tall(int64_t rows) {
    int64_t left = rows % TILE_MR;
    return rows / TILE_MR - (rows > TILE_MR && left > 0 && left <= 2 * TILE_POINTERS - TILE_MR);
}

/* The tiles of a table, by their rows. */
typedef struct tile_kinds {
    tile_fn *of_rows[TILE_POINTERS];
    tile_fn *tall; /* of TILE_MR rows */
} tile_kinds;

/* Tall tiles, then smaller ones of as many rows as each other, or one more. */
static inline void tile_columns(const tl_gemm_tile *t, int64_t rows, int columns,
                                const tile_kinds *kinds) {
    tile_place at = tile_first(t);
    const bool is_short = tile_is_short(t, rows, columns);
    const bool any_tall = TILE_MR > TILE_POINTERS && t->a_row && !is_short;
    int64_t tall = any_tall ? tile_count_tall(rows) : 0;
    if (tall) kinds->tall(t, &at, tall, columns);
    unsigned left = (unsigned)(rows - tall * TILE_MR);
    if (left == 0) return;
    unsigned most = is_short ? TILE_SHORT : TILE_POINTERS;
    unsigned tiles = (left + most - 1) / most, each = left / tiles, more = left % tiles;
    if (more) kinds->of_rows[each](t, &at, more, columns);
    kinds->of_rows[each - 1](t, &at, tiles - more, columns);
}

/* The same by way of memory. Sums begin with the bias here, too. */
static inline void tile_columns_aside(const tl_gemm_tile *tile, int64_t rows, int columns,
                                      const tile_kinds *kinds) {
    float sums[TILE_MR * TILE_NR], bias[TILE_NR];
    for (int j = 0; tile->bias && j < columns; j += VEC)
        vec_store(bias + j, vec_load_first(tile->bias + j, vec_first(columns - j)));
    tl_gemm_tile rest = *tile;
    rest.bias = NULL;
    for (int count; rows > 0; rows -= count) {
        count = rows < TILE_MR ? (int)rows : TILE_MR;
        tl_gemm_tile part = rest;
        part.c = sums;
        part.c_float = true;
        part.c_row = NULL;
        part.c_apart = TILE_NR;
        part.c_offset = 0;
        part.accumulate = false;
        part.bias = tile->bias ? bias : NULL;
        part.residual = NULL;
        part.act = TL_ACT_NONE;
        part.next = NULL;
        tile_columns(&part, count, (columns + VEC - 1) / VEC * VEC, kinds);
        tile_finish(&rest, sums, count, columns);
        tl_gemm_move(&rest, count);
    }
}

/* What would make every tile longer and is rarely asked for: columns that fill no vector, without
 * masks; of elements narrower than float an epilogue that writes floats. */
static inline bool tile_is_rare(const tl_gemm_tile *t, int columns) {
    bool floats = TILE_NARROW && t->c_float && (t->residual || t->act != TL_ACT_NONE);
    return floats || (!TILE_MASKS && columns % VEC);
}

static inline void tile_dispatch(const tl_gemm_tile *t, int64_t rows, int columns,
                                 const tile_kinds *kinds) {
    if (tile_is_rare(t, columns))
        tile_columns_aside(t, rows, columns, kinds);
    else
        tile_columns(t, rows, columns, kinds);
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
