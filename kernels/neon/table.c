/* The NEON table. Kernels that every instruction set writes the same way, over its own vec.h, are
 * compiled into it here. */
#include "neon/neon.h"
#include "neon/vec.h"
#include "ref/ref.h"
#include "simd/elem_float.h"
#include "simd/elementwise.h"
#include "simd/optimizer.h"
#include "simd/picture.h"
#include "simd/pool.h"
#include "simd/softmax.h"
#include "simd/sums.h"
#include "simd/winograd.h"

const struct tl_kernels tl_kernels_neon = {
    .name = "neon",
    .element = sizeof(float),
    .mr = TL_NEON_MR,
    .nr = TL_NEON_NR,
    .nr_narrow = TL_NEON_NR_NARROW,
    .group = 1,
    .group_rows = tl_ref_group_row,
    .group_floats = tl_ref_group_float,
    .gemm_begin = tl_ref_gemm_nothing,
    .gemm_tile = tl_neon_gemm_tile,
    .gemm_end = tl_ref_gemm_nothing,
    .depthwise_row = tl_neon_depthwise_row,
    .depthwise_grad = tl_neon_depthwise_grad,
    .winograd_input = simd_winograd_input,
    .winograd_output = simd_winograd_output,
    .winograd_weights = simd_winograd_weights,
    .winograd_gradient = simd_winograd_gradient,
    .winograd_filter = simd_winograd_filter,
    .widen = tl_ref_widen,
    .narrow = tl_ref_narrow,
    .act_forward = simd_act_forward,
    .act_backward = simd_act_backward,
    .add = simd_add,
    .mul = simd_mul,
    .mul_add = simd_mul_add,
    .scale_shift = simd_scale_shift,
    .moments = simd_moments,
    .moments_backward = simd_moments_backward,
    .affine3 = simd_affine3,
    .row_sums = simd_row_sums,
    .max_pool = simd_max_pool,
    .max_pool_backward = simd_max_pool_backward,
    .avg_pool = simd_avg_pool,
    .avg_pool_backward = simd_avg_pool_backward,
    .softmax = simd_softmax,
    .softmax_backward = simd_softmax_backward,
    .resample_row = simd_resample_row,
    .resample_column = simd_resample_column,
    .normalize = simd_normalize,
    .sgd = simd_sgd,
    .adam = simd_adam,
    .rmsprop = simd_rmsprop,
};
