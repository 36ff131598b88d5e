/* AVX-512 depthwise convolution. */
#include "avx512/avx512.h"

#include "avx512/vec.h"
#include "simd/elem_float.h"
#include "simd/depthwise.h"

void tl_avx512_depthwise_row(const tl_depthwise_row *row) {
    depthwise_row(row);
}

void tl_avx512_depthwise_grad(const tl_depthwise_grad *grad) {
    depthwise_grad(grad);
}
