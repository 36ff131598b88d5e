/* What conv2d and dense do once they know the convolution that they are: parameter 0 is the
 * weight, parameter 1, if any, the bias. */
#ifndef TL_LAYER_CONV_CALL_H
#define TL_LAYER_CONV_CALL_H

#include "layer/op.h"

void tl_conv_call_memory(const tl_op_call *call, const tl_conv *conv, tl_op_memory *out);
void tl_conv_call_forward(const tl_op_call *call, const tl_conv *conv);
void tl_conv_call_backward(const tl_op_call *call, const tl_conv *conv);

#endif
