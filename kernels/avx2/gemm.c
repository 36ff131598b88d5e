/* AVX2 matrix multiplication. */
#include "avx2/avx2.h"

#include <math.h>

#include "avx2/vec.h"
#include "simd/elem_float.h"

enum { TILE_MR = TL_AVX2_MR, TILE_POINTERS = TILE_MR, TILE_SHORT = TILE_MR, TILE_MASKS = false };
#include "simd/gemm.h"

TILE_ROWS(1)
TILE_ROWS(2)
TILE_ROWS(3)
TILE_ROWS(4)
TILE_ROWS(5)
TILE_ROWS(6)

void tl_avx2_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns) {
    static const tile_kinds kinds = {
        {tile_rows_1, tile_rows_2, tile_rows_3, tile_rows_4, tile_rows_5, tile_rows_6},
        tile_rows_6};
    tile_dispatch(tile, rows, columns, &kinds);
}
