/* Kernels for AVX2 with FMA. Contracts stand in kernels.h. */
#ifndef TL_KERNELS_AVX2_H
#define TL_KERNELS_AVX2_H

#include "kernels.h"

/* 6 x 2 sums, two vectors of B and one of A fill 15 of 16 registers. */
enum { TL_AVX2_MR = 6, TL_AVX2_NR = 16, TL_AVX2_NR_NARROW = 8 };

void tl_avx2_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns);
void tl_avx2_depthwise_row(const tl_depthwise_row *row);
void tl_avx2_depthwise_grad(const tl_depthwise_grad *grad);

extern const struct tl_kernels tl_kernels_avx2;

#endif
