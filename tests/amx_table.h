/* A table whose matrix multiplication is kernels/amx/gemm.c over the model of its instructions. */
#ifndef TL_TESTS_AMX_TABLE_H
#define TL_TESTS_AMX_TABLE_H

#define TL_AMX_MODEL "amx_model.h"
#define tl_amx_gemm_begin amx_model_gemm_begin
#define tl_amx_gemm_tile amx_model_gemm_tile
#define tl_amx_gemm_end amx_model_gemm_end
#include "amx/gemm.c"

static const struct tl_kernels amx_model_table = {
    REF_BF16_ROWS,
    .name = "model",
    .mr = TL_AMX_MR,
    .nr = TL_AMX_NR,
    .nr_narrow = TL_AMX_NR_NARROW,
    .gemm_begin = tl_amx_gemm_begin,
    .gemm_tile = tl_amx_gemm_tile,
    .gemm_end = tl_amx_gemm_end,
};

#endif
