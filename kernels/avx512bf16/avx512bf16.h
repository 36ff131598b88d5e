/* Kernels for activations in bf16 by AVX512-BF16. Contracts stand in kernels.h. */
#ifndef TL_KERNELS_AVX512BF16_H
#define TL_KERNELS_AVX512BF16_H

#include "avx512/avx512.h"

void tl_avx512bf16_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns);
/* What follows the sums of a tile: those of row i lie at sums + i * TL_AVX512_NR. */
void tl_avx512bf16_gemm_finish(const tl_gemm_tile *tile, const float *sums, int rows, int columns);
void tl_avx512bf16_depthwise_row(const tl_depthwise_row *row);
void tl_avx512bf16_depthwise_grad(const tl_depthwise_grad *grad);

extern const struct tl_kernels tl_kernels_avx512bf16;

#endif
