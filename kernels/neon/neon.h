/* Kernels for NEON as every aarch64 has it. Contracts stand in kernels.h. */
#ifndef TL_KERNELS_NEON_H
#define TL_KERNELS_NEON_H

#include "kernels.h"

/* 10 x 2 sums, two vectors of B and the ten values of A, which gcc loads before it multiplies, fill
 * the 32 registers. */
enum { TL_NEON_MR = 10, TL_NEON_NR = 8, TL_NEON_NR_NARROW = 4 };

void tl_neon_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns);
void tl_neon_depthwise_row(const tl_depthwise_row *row);
void tl_neon_depthwise_grad(const tl_depthwise_grad *grad);

extern const struct tl_kernels tl_kernels_neon;

#endif
