/* Matrix multiplication of bf16 with sums in float. An instruction adds two products to each of
 * sixteen sums; it is issued as often as one that multiplies and adds floats, so that the tile is
 * that of AVX-512. */
#include "avx512bf16/avx512bf16.h"

#include <math.h>

#include "avx512bf16/elem.h"

enum { TILE_MR = TL_AVX512_MR, TILE_POINTERS = 8 };
#include "simd/gemm.h"

TILE_ROWS(1)
TILE_ROWS(2)
TILE_ROWS(4)
TILE_ROWS(8)
TILE_ROWS(14)

void tl_avx512bf16_gemm_finish(const tl_gemm_tile *tile, const float *sums, int rows, int columns) {
    tile_finish(tile, sums, rows, columns);
}

/* Tiles of fewer rows stand only at the end of a matrix, those whose rows lie anywhere only at the
 * end of a line: they are put together from these. */
void tl_avx512bf16_gemm_tile(const tl_gemm_tile *tile, int rows, int columns) {
    static const struct {
        int rows;
        void (*run)(const tl_gemm_tile *, int);
    } parts[] = {{8, tile_rows_8}, {4, tile_rows_4}, {2, tile_rows_2}, {1, tile_rows_1}};
    if (rows == TILE_MR && tile->a_row) {
        tile_rows_14(tile, columns);
        return;
    }
    tl_gemm_tile part = *tile;
    for (int i = 0; rows > 0; i++) {
        while (rows >= parts[i].rows) {
            parts[i].run(&part, columns);
            if (part.a_row)
                part.a_offset += parts[i].rows * part.a_row;
            else
                part.a += parts[i].rows;
            part.c_row += parts[i].rows;
            rows -= parts[i].rows;
        }
    }
}
