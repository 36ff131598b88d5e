/* The AVX2 table. */
#include "avx2/avx2.h"
#include "ref/ref.h"

const struct tl_kernels tl_kernels_avx2 = {
    .name = "avx2",
    .mr = TL_AVX2_MR,
    .nr = TL_AVX2_NR,
    .nr_narrow = TL_AVX2_NR_NARROW,
    .gemm_tile = tl_avx2_gemm_tile,
    .depthwise_row = tl_avx2_depthwise_row,
    .depthwise_grad = tl_avx2_depthwise_grad,
    .act_forward = tl_ref_act_forward,
    .act_backward = tl_ref_act_backward,
    .add = tl_ref_add,
    .mul = tl_ref_mul,
    .mul_add = tl_ref_mul_add,
    .scale_shift = tl_ref_scale_shift,
    .moments = tl_ref_moments,
    .moments_backward = tl_ref_moments_backward,
    .affine3 = tl_ref_affine3,
    .sgd = tl_ref_sgd,
    .adam = tl_ref_adam,
    .rmsprop = tl_ref_rmsprop,
};
