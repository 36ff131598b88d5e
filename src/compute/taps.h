/* Which input pixels an output pixel is made of. A forward convolution and each parity class of
 * a backward one are the same thing in these terms, so that one driver serves both. */
#ifndef TL_COMPUTE_TAPS_H
#define TL_COMPUTE_TAPS_H

#include "compute/conv.h"

/* Along one dimension: output o < out reads inputs o * stride + first + t * step for tap
 * t < count; those outside [0, in) are zeros. */
typedef struct tl_taps {
    int64_t out, in;
    int64_t stride, first, step;
    int count;
    /* Tap t is the kernel's tap kernel_first + t * kernel_step. */
    int kernel_first, kernel_step;
} tl_taps;

tl_taps tl_taps_forward(int64_t in, int64_t out, int kernel, int stride, int dilation, int pad);

/* The gradient of inputs parity, parity + stride, ...: they see the output's gradient only
 * through the taps k with (parity + pad - k * dilation) divisible by stride. Here `in` counts
 * the forward output and `out` the inputs of this class. Taps come in ascending input order. */
tl_taps tl_taps_backward(int64_t in, int64_t out, int kernel, int stride, int dilation, int pad,
                         int parity);

/* Whether some tap of some output lies outside the input. */
bool tl_taps_padded(const tl_taps *taps);

/* The part [begin, end) of the outputs all of whose taps lie inside. */
void tl_taps_inside(const tl_taps *taps, int64_t *begin, int64_t *end);

/* The taps [begin, end) of output o that lie inside. */
void tl_taps_of(const tl_taps *taps, int64_t o, int *begin, int *end);

/* Both dimensions. */
typedef struct tl_taps2 {
    tl_taps y, x;
} tl_taps2;

static inline tl_taps2 tl_taps2_forward(const tl_conv *c) {
    return (tl_taps2){tl_taps_forward(c->h, c->oh, c->kh, c->stride_h, c->dilation_h, c->pad_top),
                      tl_taps_forward(c->w, c->ow, c->kw, c->stride_w, c->dilation_w, c->pad_left)};
}

static inline tl_taps2 tl_taps2_backward(const tl_conv *c, int parity_y, int parity_x) {
    return (tl_taps2){
        tl_taps_backward(c->oh, c->h, c->kh, c->stride_h, c->dilation_h, c->pad_top, parity_y),
        tl_taps_backward(c->ow, c->w, c->kw, c->stride_w, c->dilation_w, c->pad_left, parity_x)};
}

#endif
