/* Depthwise convolution of bf16; weights and their gradients are float. */
#include "avx512bf16/avx512bf16.h"

#include "avx512bf16/elem.h"
#include "simd/depthwise.h"

void tl_avx512bf16_depthwise_row(const tl_depthwise_row *row) {
    depthwise_row(row);
}

void tl_avx512bf16_depthwise_grad(const tl_depthwise_grad *grad) {
    depthwise_grad(grad);
}
