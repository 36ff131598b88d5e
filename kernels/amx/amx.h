/* Matrix multiplication of bf16 by AMX. Contracts stand in kernels.h. All other kernels of this
 * instruction set are those of AVX512-BF16, whose folder has the table too. */
#ifndef TL_KERNELS_AMX_H
#define TL_KERNELS_AMX_H

#include "kernels.h"

/* 2 x 2 tiles of sums, two of A and two of B: all eight there are. */
enum { TL_AMX_MR = 32, TL_AMX_NR = 32, TL_AMX_NR_NARROW = 16 };

void tl_amx_gemm_begin(void);
void tl_amx_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns);
void tl_amx_gemm_end(void);

/* Whether the processor has AMX for bf16 and the system lets this process use it, which has to be
 * asked for: the registers are larger than signal frames used to be. */
bool tl_amx_offered(void);

extern const struct tl_kernels tl_kernels_amx;

#endif
