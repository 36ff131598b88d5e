/* Matrix multiplication of bf16 by AMX: a tile register holds 16 rows of 64 bytes, an instruction
 * adds the product of 16 x 32 elements of A and 32 x 16 of B, which lie in pairs of k, to 16 x 16
 * sums in float. The configuration never changes: what is left over at the end of rows or of k is
 * copied and filled up with zeros.
 *
 * tests/amx_model.h has the instructions in plain C, so that this file is tested on machines
 * without them; it defines TL_AMX_MODEL. */
#include "amx/amx.h"

#include <string.h>

#if defined(TL_AMX_MODEL)
#include TL_AMX_MODEL
#else
#include "avx512bf16/avx512bf16.h"
#include <immintrin.h>
#endif

enum {
    SIDE = 16,      /* rows and columns of sums of a register */
    ROW_BYTES = 64, /* of a register's row */
    GROUP = 2,
    LINE = 64
};

/* Which register holds what. The intrinsics want constants. */
#define SUMS_00 0
#define SUMS_01 1
#define SUMS_10 2
#define SUMS_11 3
#define A_0 4
#define A_1 5
#define B_0 6
#define B_1 7

/* What LDTILECFG reads (Intel 64 and IA-32 Software Developer's Manual, volume 1, 18.3). */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

void tl_amx_gemm_begin(void) {
    tile_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = ROW_BYTES;
        config.rows[i] = SIDE;
    }
    _tile_loadconfig(&config);
}

void tl_amx_gemm_end(void) {
    _tile_release();
}

/* Where a register's rows are loaded from. */
typedef struct source {
    const void *at;
    int64_t stride; /* bytes */
} source;

typedef char tile_copy[SIDE * ROW_BYTES] __attribute__((aligned(64)));

enum { PAIR_BYTES = GROUP * sizeof(uint16_t) };

/* Bytes from row to row when all `SIDE` of them are that far apart, else 0. */
static int64_t spacing(const void *const *rows) {
    int64_t step = (const char *)rows[1] - (const char *)rows[0];
    for (int i = 2; i < SIDE; i++) {
        if ((const char *)rows[i] - (const char *)rows[i - 1] != step) return 0;
    }
    return step;
}

/* A row of pairs of values. */
typedef uint32_t pairs __attribute__((vector_size(ROW_BYTES)));

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (pairs){__VA_ARGS__})
#endif

/* Of rows i and i + S, squares of S x S pairs change places across the diagonal. */
#define SWAP_LANE(l, s, lower)                                                                     \
    ((l) & (s) ? 16 + (l) - ((lower) ? 0 : (s)) : (l) + ((lower) ? (s) : 0))
#define SWAP_FOUR(l, s, lower)                                                                     \
    SWAP_LANE(l, s, lower), SWAP_LANE(l + 1, s, lower), SWAP_LANE(l + 2, s, lower),                \
        SWAP_LANE(l + 3, s, lower)
#define SWAP_LANES(a, b, s, lower)                                                                 \
    SHUFFLE(a, b, SWAP_FOUR(0, s, lower), SWAP_FOUR(4, s, lower), SWAP_FOUR(8, s, lower),          \
            SWAP_FOUR(12, s, lower))
#define SWAP_SQUARES(rows, s)                                                                      \
    for (int i = 0; i < SIDE; i++) {                                                               \
        if (i & (s)) continue;                                                                     \
        pairs a = rows[i], b = rows[i + (s)];                                                      \
        rows[i] = SWAP_LANES(a, b, s, 0);                                                          \
        rows[i + (s)] = SWAP_LANES(a, b, s, 1);                                                    \
    }

/* All rows of A, which lie side by side: a pair of each, then the next pair of each `group_bytes`
 * on. */
static source transpose_a(const char *from, int64_t group_bytes, tile_copy copy) {
    pairs rows[SIDE];
    for (int i = 0; i < SIDE; i++) memcpy(&rows[i], from + i * group_bytes, ROW_BYTES);
    SWAP_SQUARES(rows, 1)
    SWAP_SQUARES(rows, 2)
    SWAP_SQUARES(rows, 4)
    SWAP_SQUARES(rows, 8)
    memcpy(copy, rows, sizeof rows);
    return (source){copy, ROW_BYTES};
}

/* The same from rows of their own, for all of a register's values. */
static source gather_a(const void *const *rows, int count, int64_t offset, tile_copy copy) {
    for (int i = 0; i < count; i++)
        memcpy(copy + i * ROW_BYTES, (const char *)rows[i] + offset, ROW_BYTES);
    memset(copy + count * ROW_BYTES, 0, (size_t)((SIDE - count) * ROW_BYTES));
    return (source){copy, ROW_BYTES};
}

/* `count` rows of A of `k` values from the byte `offset` of each on, `group_bytes` from group to
 * group. */
static source copy_a(const void *const *rows, int count, int64_t offset, int64_t group_bytes,
                     int64_t k, tile_copy copy) {
    memset(copy, 0, sizeof(tile_copy));
    for (int i = 0; i < count; i++) {
        const char *row = (const char *)rows[i] + offset;
        char *to = copy + i * ROW_BYTES;
        if (group_bytes == PAIR_BYTES) {
            memcpy(to, row, (size_t)k * sizeof(uint16_t));
            continue;
        }
        int64_t left = k * (int64_t)sizeof(uint16_t);
        for (; left >= PAIR_BYTES; left -= PAIR_BYTES, to += PAIR_BYTES, row += group_bytes)
            memcpy(to, row, PAIR_BYTES);
        if (left) memcpy(to, row, sizeof(uint16_t));
    }
    return (source){copy, ROW_BYTES};
}

/* `groups` groups of SIDE columns of B. */
static source copy_b(const char *b, int64_t group_bytes, int64_t groups, tile_copy copy) {
    memset(copy, 0, sizeof(tile_copy));
    for (int64_t i = 0; i < groups; i++)
        memcpy(copy + i * ROW_BYTES, b + i * group_bytes, ROW_BYTES);
    return (source){copy, ROW_BYTES};
}

/* One tap in progress. */
typedef struct tap {
    const void *const *rows;
    int count[2];        /* of rows in the upper and in the lower registers */
    int64_t spacing[2];  /* see spacing() */
    int64_t offset;      /* bytes */
    int64_t group_bytes; /* of A */
    const char *b;
    int64_t b_bytes; /* from group to group of B */
} tap;

static source find_a(const tap *t, int half, int64_t at, int64_t k, tile_copy copy) {
    int64_t offset = t->offset + at / GROUP * t->group_bytes;
    const void *const *rows = t->rows + half * SIDE;
    const char *first = (const char *)rows[0] + offset;
    bool whole = k == GROUP * SIDE, contiguous = t->group_bytes == PAIR_BYTES;
    if (whole && contiguous && t->spacing[half]) return (source){first, t->spacing[half]};
    if (whole && contiguous) return gather_a(rows, t->count[half], offset, copy);
    if (whole && t->spacing[half] == PAIR_BYTES) return transpose_a(first, t->group_bytes, copy);
    return copy_a(rows, t->count[half], offset, t->group_bytes, k, copy);
}

static source find_b(const tap *t, int half, int64_t at, int64_t k, tile_copy copy) {
    const char *b = t->b + at / GROUP * t->b_bytes + half * ROW_BYTES;
    if (k == GROUP * SIDE) return (source){b, t->b_bytes};
    return copy_b(b, t->b_bytes, (k + GROUP - 1) / GROUP, copy);
}

/* Adds the products of `k` values from `at` on; loads that serve two products come once. */
static void multiply(const tap *t, int64_t at, int64_t k, bool low, bool right) {
    tile_copy copy[4];
    source a0 = find_a(t, 0, at, k, copy[0]), b0 = find_b(t, 0, at, k, copy[1]);
    _tile_loadd(A_0, a0.at, (size_t)a0.stride);
    _tile_loadd(B_0, b0.at, (size_t)b0.stride);
    _tile_dpbf16ps(SUMS_00, A_0, B_0);
    if (right) {
        source b1 = find_b(t, 1, at, k, copy[2]);
        _tile_loadd(B_1, b1.at, (size_t)b1.stride);
        _tile_dpbf16ps(SUMS_01, A_0, B_1);
    }
    if (!low) return;
    source a1 = find_a(t, 1, at, k, copy[3]);
    _tile_loadd(A_1, a1.at, (size_t)a1.stride);
    _tile_dpbf16ps(SUMS_10, A_1, B_0);
    if (right) _tile_dpbf16ps(SUMS_11, A_1, B_1);
}

static void fetch(const char *next, int64_t at, int64_t k) {
    for (int64_t i = at / GROUP; i < (at + k) / GROUP; i++)
        __builtin_prefetch(next + i * LINE, 0, 2);
}

static void multiply_tap(const tl_gemm_tile *tile, int64_t r, int rows, bool right) {
    const int64_t size = sizeof(uint16_t);
    const void *const *a = tile->a + r * TL_AMX_MR;
    const void *of[TL_AMX_MR];
    for (int i = 0; i < rows; i++)
        of[i] = tile->a_row ? (const char *)a[0] + i * tile->a_row * size : a[i];
    tap t = {.rows = of,
             .count = {rows < SIDE ? rows : SIDE, rows > SIDE ? rows - SIDE : 0},
             .offset = tile->a_offset * size,
             .group_bytes = tile->a_step * size,
             .b = (const char *)tile->b + r * tile->b_tap * size,
             .b_bytes = tile->b_step * size};
    for (int half = 0; half < 2; half++)
        t.spacing[half] = t.count[half] == SIDE ? spacing(t.rows + half * SIDE) : 0;
    int64_t depth = (tile->k + GROUP - 1) / GROUP * GROUP;
    const char *next = tile->next;
    for (int64_t at = 0; at < tile->k; at += GROUP * SIDE) {
        int64_t left = tile->k - at, k = left < GROUP * SIDE ? left : GROUP * SIDE;
        if (next) fetch(next + r * depth / GROUP * LINE, at, k);
        multiply(&t, at, k, rows > SIDE, right);
    }
}

static void run_tile(const tl_gemm_tile *tile, int rows, int columns) {
    bool low = rows > SIDE, right = columns > SIDE;
    _tile_zero(SUMS_00);
    _tile_zero(SUMS_01);
    _tile_zero(SUMS_10);
    _tile_zero(SUMS_11);
    for (int64_t r = 0; r < tile->taps; r++) multiply_tap(tile, r, rows, right);
    float sums[TL_AMX_MR][TL_AMX_NR] __attribute__((aligned(64)));
    const size_t stride = sizeof sums[0];
    _tile_stored(SUMS_00, &sums[0][0], stride);
    if (right) _tile_stored(SUMS_01, &sums[0][SIDE], stride);
    if (low) _tile_stored(SUMS_10, &sums[SIDE][0], stride);
    if (low && right) _tile_stored(SUMS_11, &sums[SIDE][SIDE], stride);
    tl_avx512bf16_gemm_finish(tile, &sums[0][0], rows, columns);
}

void tl_amx_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns) {
    tl_gemm_tile t = *tile;
    int64_t fetched = tl_gemm_fetched(&t, TL_AMX_MR, GROUP);
    for (; rows > TL_AMX_MR; rows -= TL_AMX_MR) {
        run_tile(&t, TL_AMX_MR, columns);
        tl_gemm_move(&t, TL_AMX_MR);
        if (t.next) t.next = (const char *)t.next + fetched;
    }
    run_tile(&t, (int)rows, columns);
}
