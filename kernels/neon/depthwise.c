/* NEON depthwise convolution. */
#include "neon/neon.h"

#include "neon/vec.h"
#include "simd/elem_float.h"
#include "simd/depthwise.h"

void tl_neon_depthwise_row(const tl_depthwise_row *row) {
    depthwise_row(row);
}

void tl_neon_depthwise_grad(const tl_depthwise_grad *grad) {
    depthwise_grad(grad);
}
