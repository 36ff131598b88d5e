/* AVX2 depthwise convolution. */
#include "avx2/avx2.h"

#include "avx2/vec.h"
#include "simd/elem_float.h"
#include "simd/depthwise.h"

void tl_avx2_depthwise_row(const tl_depthwise_row *row) {
    depthwise_row(row);
}

void tl_avx2_depthwise_grad(const tl_depthwise_grad *grad) {
    depthwise_grad(grad);
}
