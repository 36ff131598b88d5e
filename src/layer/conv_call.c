#include "layer/conv_call.h"

void tl_conv_call_memory(const tl_op_call *call, const tl_conv *conv, tl_op_memory *out) {
    tl_context *ctx = call->ctx;
    size_t data = tl_conv_work_bytes(ctx, conv, TL_CONV_BACKWARD_DATA);
    size_t weights = tl_conv_work_bytes(ctx, conv, TL_CONV_BACKWARD_WEIGHTS);
    *out = (tl_op_memory){.work_forward = tl_conv_work_bytes(ctx, conv, TL_CONV_FORWARD),
                          .work_backward = data > weights ? data : weights,
                          .packed = tl_conv_packed_bytes(ctx, conv)};
}

void tl_conv_call_forward(const tl_op_call *call, const tl_conv *conv) {
    tl_epilogue own = {.bias = call->param_count > 1 ? call->param[1] : NULL};
    tl_epilogue epilogue = call->epilogue ? *call->epilogue : own;
    epilogue.out_f32 = conv->bf16 && call->out.dtype == TL_F32;
    epilogue.follow = call->follow;
    tl_conv_forward(call->ctx, conv, call->in[0].data, call->packed, &epilogue, call->out.data,
                    call->work);
}

void tl_conv_call_backward(const tl_op_call *call, const tl_conv *conv) {
    float *bias = call->param_count > 1 ? call->grad_param[1] : NULL;
    if (call->grad_in[0])
        tl_conv_backward_data(call->ctx, conv, call->grad_out, call->param[0], call->grad_add[0],
                              call->grad_in[0], call->work);
    if (call->grad_param[0])
        tl_conv_backward_weights(call->ctx, conv, call->in[0].data, call->grad_out,
                                 call->grad_param[0], bias, call->work);
    else if (bias)
        tl_conv_backward_bias(call->ctx, conv, call->grad_out, bias);
}
