/* The AVX-512 table. */
#include "avx512/avx512.h"
#include "avx512/vec.h"
#include "simd/table_float.h"

const struct tl_kernels tl_kernels_avx512 = {SIMD_TABLE_FLOAT(avx512, AVX512)};
