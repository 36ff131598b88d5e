/* What a table takes from the templates of this folder, compiled over the vec.h and the elements
 * that were included before. */
#ifndef TL_KERNELS_SIMD_TABLE_H
#define TL_KERNELS_SIMD_TABLE_H

#include "simd/elementwise.h"
#include "simd/pool.h"
#include "simd/softmax.h"
#include "simd/sums.h"

/* The slots that work on elements of any type. */
#define SIMD_ROWS                                                                                  \
    .act_forward = simd_act_forward, .act_backward = simd_act_backward, .add = simd_add,           \
    .mul = simd_mul, .scale_shift = simd_scale_shift, .moments = simd_moments,                     \
    .moments_backward = simd_moments_backward, .affine3 = simd_affine3, .row_sums = simd_row_sums, \
    .max_pool = simd_max_pool, .max_pool_backward = simd_max_pool_backward,                        \
    .avg_pool = simd_avg_pool, .avg_pool_backward = simd_avg_pool_backward,                        \
    .softmax = simd_softmax, .softmax_backward = simd_softmax_backward

#endif
