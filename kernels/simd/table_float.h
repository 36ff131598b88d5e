/* The table of an instruction set over floats: its own tile and depthwise kernels, and the
 * templates of this folder, compiled over the vec.h that was included before. */
#ifndef TL_KERNELS_SIMD_TABLE_FLOAT_H
#define TL_KERNELS_SIMD_TABLE_FLOAT_H

#include "ref/ref.h"
#include "simd/elem_float.h"
#include "simd/group_rows.h"
#include "simd/optimizer.h"
#include "simd/picture.h"
#include "simd/table.h"
#include "simd/winograd.h"

/* `set` and `SET`: the name of the instruction set as functions and as constants bear it. */
#define SIMD_TABLE_FLOAT(set, SET)                                                                 \
    .name = #set, .element = sizeof(float), .mr = TL_##SET##_MR, .nr = TL_##SET##_NR,              \
    .nr_narrow = TL_##SET##_NR_NARROW, .group = 1, .group_rows = simd_group_rows,                  \
    .group_floats = tl_ref_group_floats, .gemm_begin = tl_ref_gemm_nothing,                        \
    .gemm_tile = tl_##set##_gemm_tile, .gemm_end = tl_ref_gemm_nothing,                            \
    .depthwise_row = tl_##set##_depthwise_row, .depthwise_grad = tl_##set##_depthwise_grad,        \
    .widen = tl_ref_widen, .narrow = tl_ref_narrow, SIMD_ROWS, SIMD_WINOGRAD,                      \
    .resample_row = simd_resample_row, .resample_column = simd_resample_column,                    \
    .normalize = simd_normalize, .sgd = simd_sgd, .adam = simd_adam, .rmsprop = simd_rmsprop

#endif
