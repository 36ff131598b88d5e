/* Kernels for AVX-512 (F, BW, DQ, VL). Contracts stand in kernels.h. */
#ifndef TL_KERNELS_AVX512_H
#define TL_KERNELS_AVX512_H

#include "kernels.h"

/* 14 x 2 sums, two vectors of B and one of A fill 31 of 32 registers. */
enum { TL_AVX512_MR = 14, TL_AVX512_NR = 32, TL_AVX512_NR_NARROW = 16 };

void tl_avx512_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns);
void tl_avx512_depthwise_row(const tl_depthwise_row *row);
void tl_avx512_depthwise_grad(const tl_depthwise_grad *grad);

extern const struct tl_kernels tl_kernels_avx512;

#endif
