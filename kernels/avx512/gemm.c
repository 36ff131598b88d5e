/* AVX-512 matrix multiplication. */
#include "avx512/avx512.h"

#include <math.h>

#include "avx512/vec.h"
#include "simd/elem_float.h"

enum { TILE_MR = TL_AVX512_MR, TILE_POINTERS = 8, TILE_SHORT = 7, TILE_MASKS = true };
#include "simd/gemm.h"

TILE_ROWS(1)
TILE_ROWS(2)
TILE_ROWS(3)
TILE_ROWS(4)
TILE_ROWS(5)
TILE_ROWS(6)
TILE_ROWS(7)
TILE_ROWS(8)
TILE_ROWS(14)

void tl_avx512_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns) {
    static const tile_kinds kinds = {{tile_rows_1, tile_rows_2, tile_rows_3, tile_rows_4,
                                      tile_rows_5, tile_rows_6, tile_rows_7, tile_rows_8},
                                     tile_rows_14};
    tile_dispatch(tile, rows, columns, &kinds);
}
