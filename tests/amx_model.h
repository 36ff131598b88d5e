/* The tile instructions of AMX in plain C, after the operation sections of the Intel 64 and IA-32
 * Software Developer's Manual, volume 2. kernels/amx/gemm.c includes this in place of the
 * compiler's header where a program defines TL_AMX_MODEL, so that its logic is tested on any
 * machine. What the hardware would fault on fails the test: a register used before a configuration
 * was loaded or after its release, a configuration that is not one. Each thread has its own. */
#ifndef TL_TESTS_AMX_MODEL_H
#define TL_TESTS_AMX_MODEL_H

#include "support.h"

#include "ref_bf16.h"

enum { MODEL_TILES = 8, MODEL_ROWS = 16, MODEL_ROW_BYTES = 64 };

static _Thread_local struct amx_model {
    bool configured;
    uint16_t row_bytes[MODEL_TILES];
    uint8_t rows[MODEL_TILES];
    char tile[MODEL_TILES][MODEL_ROWS][MODEL_ROW_BYTES];
    int64_t products; /* of two registers, for tests that count them */
} amx_model;

static inline void amx_model_check(int tile) {
    if (!amx_model.configured) fail_msg("tile %d is used without a configuration", tile);
    if (tile < 0 || tile >= MODEL_TILES) fail_msg("there is no tile %d", tile);
}

static inline void amx_model_loadconfig(const void *from) {
    unsigned char bytes[64];
    memcpy(bytes, from, sizeof bytes);
    if (bytes[0] != 1) fail_msg("palette %d", bytes[0]);
    for (int i = 1; i < 16; i++) assert_int_equal(bytes[i], 0); /* start row and reserved */
    for (int i = 0; i < 16; i++) {
        uint16_t row_bytes;
        memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
        int rows = bytes[48 + i];
        bool used = i < MODEL_TILES;
        if (row_bytes > (used ? MODEL_ROW_BYTES : 0) || rows > (used ? MODEL_ROWS : 0))
            fail_msg("tile %d configured as %d rows of %d bytes", i, rows, row_bytes);
        if (!used) continue;
        amx_model.row_bytes[i] = row_bytes;
        amx_model.rows[i] = (uint8_t)rows;
    }
    memset(amx_model.tile, 0, sizeof amx_model.tile);
    amx_model.configured = true;
}

static inline void amx_model_release(void) {
    amx_model.configured = false;
}

static inline void amx_model_zero(int tile) {
    amx_model_check(tile);
    memset(amx_model.tile[tile], 0, sizeof amx_model.tile[tile]);
}

static inline void amx_model_loadd(int tile, const void *from, size_t stride) {
    amx_model_zero(tile);
    for (int i = 0; i < amx_model.rows[tile]; i++)
        memcpy(amx_model.tile[tile][i], (const char *)from + (ptrdiff_t)stride * i,
               amx_model.row_bytes[tile]);
}

static inline void amx_model_stored(int tile, void *to, size_t stride) {
    amx_model_check(tile);
    for (int i = 0; i < amx_model.rows[tile]; i++)
        memcpy((char *)to + (ptrdiff_t)stride * i, amx_model.tile[tile][i],
               amx_model.row_bytes[tile]);
}

static inline float amx_model_element(int tile, int row, int index) {
    uint16_t bits;
    float value;
    memcpy(&bits, amx_model.tile[tile][row] + 2 * index, sizeof bits);
    tl_ref_widen(&bits, &value, 1);
    return value;
}

/* sums[m][n] += a[m][2 k] b[k][2 n] + a[m][2 k + 1] b[k][2 n + 1] over k */
static inline void amx_model_dpbf16ps(int sums, int a, int b) {
    amx_model_check(sums);
    amx_model_check(a);
    amx_model_check(b);
    assert_int_equal(amx_model.row_bytes[a] / 4, amx_model.rows[b]);
    assert_int_equal(amx_model.rows[sums], amx_model.rows[a]);
    assert_int_equal(amx_model.row_bytes[sums], amx_model.row_bytes[b]);
    amx_model.products++;
    for (int m = 0; m < amx_model.rows[sums]; m++) {
        for (int n = 0; n < amx_model.row_bytes[sums] / 4; n++) {
            float sum;
            memcpy(&sum, amx_model.tile[sums][m] + 4 * n, sizeof sum);
            for (int k = 0; k < amx_model.rows[b]; k++) {
                sum += amx_model_element(a, m, 2 * k) * amx_model_element(b, k, 2 * n);
                sum += amx_model_element(a, m, 2 * k + 1) * amx_model_element(b, k, 2 * n + 1);
            }
            memcpy(amx_model.tile[sums][m] + 4 * n, &sum, sizeof sum);
        }
    }
}

#define _tile_loadconfig amx_model_loadconfig
#define _tile_release amx_model_release
#define _tile_zero amx_model_zero
#define _tile_loadd amx_model_loadd
#define _tile_stored amx_model_stored
#define _tile_dpbf16ps amx_model_dpbf16ps

/* What AVX-512 does with the sums on real hardware. */
static inline void amx_model_finish(const tl_gemm_tile *tile, const float *sums, int rows,
                                    int columns) {
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++)
            ref_bf16_tile_finish(tile, tl_gemm_place(tile, i) + j, j, sums[i * 32 + j]);
    }
}
#define tl_avx512bf16_gemm_finish amx_model_finish

#endif
