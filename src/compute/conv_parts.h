/* What the files behind conv.h share. */
#ifndef TL_COMPUTE_CONV_PARTS_H
#define TL_COMPUTE_CONV_PARTS_H

#include "compute/gather.h"

/* The table for a convolution's activations. */
static inline const struct tl_kernels *tl_conv_kernels(const tl_context *ctx, const tl_conv *c) {
    return c->bf16 ? tl_context_bf16_kernels(ctx) : tl_context_kernels(ctx);
}

static inline bool tl_conv_is_depthwise(const tl_conv *c) {
    return c->groups == c->ic && c->oc == c->ic;
}

/* --- few input channels (conv_joined.c) ---------------------------------------------------------
 * With the 3 channels of a picture a tap is too short a sum. But in N H W C all channels of a
 * kernel row's taps are neighbours: kw * ic values are taken as one tap, for which the input must
 * be padded to the left and right in memory. */
typedef struct tl_joined {
    bool used;
    int64_t width; /* pixels of a padded row */
    bool copied;   /* false when the input needs no padding and is read where it is */
    size_t bytes;  /* of the padded copy */
    tl_taps2 taps; /* one tap column */
    int64_t k;     /* kw * ic */
} tl_joined;

tl_joined tl_conv_joined(const tl_conv *conv);
/* Copies x into `padded` (when `copied`) and returns what to read: rows of `width` pixels, or
 * of conv->w when not copied. */
const void *tl_conv_pad(tl_context *ctx, const tl_conv *conv, const tl_joined *joined,
                        const void *x, void *padded);

/* --- depthwise (depthwise.c) --------------------------------------------------------------------
 */
size_t tl_depthwise_packed_bytes(const tl_conv *conv);
void tl_depthwise_pack(const tl_conv *conv, const float *weights, const float *scale,
                       float *packed);
size_t tl_depthwise_work_bytes(const tl_conv *conv, tl_conv_pass pass);
void tl_depthwise_forward(tl_context *ctx, const tl_conv *conv, const void *x, const float *packed,
                          const tl_epilogue *epilogue, void *y);
void tl_depthwise_backward_data(tl_context *ctx, const tl_conv *conv, const void *dy,
                                const float *weights, bool add, void *dx, float *work);
void tl_depthwise_backward_weights(tl_context *ctx, const tl_conv *conv, const void *x,
                                   const void *dy, float *dw, float *work);

/* --- passes over the gather driver (conv_data.c, conv_weights.c) ---------------------------------
 */
size_t tl_conv_data_work_bytes(tl_context *ctx, const tl_conv *conv);
size_t tl_conv_weights_work_bytes(tl_context *ctx, const tl_conv *conv);
/* Few inputs and outputs (conv_weights_joined.c): whether this way is taken. */
bool tl_conv_weights_joined(const tl_context *ctx, const tl_conv *conv);
size_t tl_conv_weights_joined_bytes(const tl_conv *conv);
void tl_conv_backward_weights_joined(tl_context *ctx, const tl_conv *conv, const void *x,
                                     const void *dy, float *dw, void *work);

#endif
