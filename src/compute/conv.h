/* Convolution drivers: cut a convolution into blocks and threads around the kernel table.
 * Activations and their gradients are floats, or bf16 where the convolution says so; weights, bias
 * and their gradients are floats always, sums are taken in float. Activations are N H W C,
 * convolution weights O KH KW I (I = channels per group), dense weights O I. Results never depend
 * on the number of threads. */
#ifndef TL_COMPUTE_CONV_H
#define TL_COMPUTE_CONV_H

#include "base/context.h"
#include "kernels.h"

/* Some of a result's rows, which are the pixels of all images in order. */
typedef struct tl_followed {
    int64_t part, begin, end;
    bool first; /* of the part's */
} tl_followed;

/* What is done to rows once they are final, before they leave the caches where that can be. Rows
 * are cut into parts, and into the ranges that are called for, by shapes alone; those of a part
 * come in order, from one thread at a time. */
enum { TL_FOLLOW_PARTS = 64 };
typedef struct tl_follow {
    void (*rows)(void *arg, const tl_followed *rows);
    void *arg;
    int64_t parts; /* answered: how many there were, at most TL_FOLLOW_PARTS */
} tl_follow;

/* What happens to a result on its way to memory: y = act(acc + bias[channel] + residual). */
typedef struct tl_epilogue {
    const float *bias;    /* [oc], or NULL */
    const void *residual; /* as the output, or NULL */
    tl_act act;
    bool out_f32;      /* the output is of floats although the convolution is of bf16 */
    tl_follow *follow; /* or NULL */
} tl_epilogue;

/* Rows [begin, end) of a map N H W C. */
typedef struct tl_rows {
    int64_t begin, end;
} tl_rows;

/* What a map's rows are made of: row i of `extent` rows of the input from i * stride - before on,
 * as far as these are among its `height`. */
typedef struct tl_row_window {
    int64_t stride, before, extent, height;
} tl_row_window;
/* The input's rows that the output's are made of, one at least. */
tl_rows tl_rows_under(const tl_row_window *window, tl_rows out);

/* A convolution. Dense layers are 1x1 convolutions over n rows with h = w = 1. */
typedef struct tl_conv {
    int64_t n, h, w, ic;
    int64_t oh, ow, oc;
    int kh, kw;
    int stride_h, stride_w;
    int dilation_h, dilation_w;
    int pad_top, pad_left; /* bottom and right follow from oh and ow */
    int groups;            /* divides ic and oc; ic == groups is depthwise */
    bool bf16;             /* the context must have tl_context_bf16_kernels() */
    bool band;             /* some rows of a convolution that tl_conv_cuts() */
} tl_conv;

/* Whether a convolution of bf16 can write floats (tl_epilogue.out_f32): not when it is depthwise,
 * or by Winograd's method. */
bool tl_conv_writes_f32(const tl_context *ctx, const tl_conv *conv);
/* Whether some rows of the output, computed by themselves, have the same bits. */
bool tl_conv_cuts(const tl_context *ctx, const tl_conv *conv);
tl_row_window tl_conv_window(const tl_conv *conv);
/* These rows as a convolution of their own, of an input of just what they are made of. */
tl_conv tl_conv_band(const tl_conv *conv, tl_rows out);

/* Buffers never overlap. `work` holds at least tl_conv_work_bytes() and, like `packed`, begins at a
 * cache line. */

/* Bytes that tl_conv_pack() writes. */
size_t tl_conv_packed_bytes(tl_context *ctx, const tl_conv *conv);
/* Reorders weights for tl_conv_forward(), multiplying output channel o by scale[o] when scale is
 * not NULL (a folded batch norm). */
void tl_conv_pack(tl_context *ctx, const tl_conv *conv, const float *weights, const float *scale,
                  void *packed);
/* Output channels begin .. end - 1 of it alone; `weights` are those of these channels, `scale` and
 * `packed` are of all. Both ends are multiples of tl_conv_pack_unit(), or all channels. */
void tl_conv_pack_part(tl_context *ctx, const tl_conv *conv, int64_t begin, int64_t end,
                       const float *weights, const float *scale, void *packed);
int64_t tl_conv_pack_unit(tl_context *ctx, const tl_conv *conv);

typedef enum tl_conv_pass {
    TL_CONV_FORWARD,
    TL_CONV_BACKWARD_DATA,
    TL_CONV_BACKWARD_WEIGHTS
} tl_conv_pass;
/* Scratch bytes that a pass needs. */
size_t tl_conv_work_bytes(tl_context *ctx, const tl_conv *conv, tl_conv_pass pass);

/* y[n oh ow oc] = epilogue(x[n h w ic] * packed). */
void tl_conv_forward(tl_context *ctx, const tl_conv *conv, const void *x, const void *packed,
                     const tl_epilogue *epilogue, void *y, void *work);
/* dx = (or += when add) the gradient with respect to x. `weights` are not packed. */
void tl_conv_backward_data(tl_context *ctx, const tl_conv *conv, const void *dy,
                           const float *weights, bool add, void *dx, void *work);
/* dw += the gradient with respect to the weights; db[oc] += that of the bias unless NULL. */
void tl_conv_backward_weights(tl_context *ctx, const tl_conv *conv, const void *x, const void *dy,
                              float *dw, float *db, void *work);
/* The second half of the former alone. */
void tl_conv_backward_bias(tl_context *ctx, const tl_conv *conv, const void *dy, float *db);

#endif
