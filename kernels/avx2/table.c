/* The AVX2 table. */
#include "avx2/avx2.h"
#include "avx2/vec.h"
#include "simd/table_float.h"

const struct tl_kernels tl_kernels_avx2 = {SIMD_TABLE_FLOAT(avx2, AVX2)};
