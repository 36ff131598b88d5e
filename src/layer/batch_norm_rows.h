/* Batch normalisation's passes over the rows of a map, with what the plan lets it do on the way:
 * the sum with a shortcut and an activation. All of it costs one trip to memory: what one kernel
 * cannot do alone is done in pieces that stay in the first-level cache. */
#ifndef TL_LAYER_BATCH_NORM_ROWS_H
#define TL_LAYER_BATCH_NORM_ROWS_H

#include "layer/loop.h"

/* y = act(x * scale + shift + residual), and with dz = dy act'(y) or, for an activation whose slope
 * is taken from its input, of what it is made of:
 *   residual_grad (+)= dz, dx (+)= dz * a + x * b + d. */
typedef struct tl_norm_rows {
    const struct tl_kernels *kernels;
    size_t size; /* of an element */
    int64_t rows, channels;
    tl_parts parts;
    const float *scale, *shift; /* [C] */
    tl_act act;

    const void *x; /* NULL in backward when it is not kept; then y is, if there is an activation */
    const void *residual;
    void *y; /* NULL in backward: made again from x */

    const void *dy;
    const float *a, *b, *d; /* [C] */
    const float *center;    /* [C] */
    void *dz;               /* where it is stored, or NULL; may be dy */
    bool stored;            /* an earlier pass did */
    void *residual_grad;    /* to add dz to; NULL when it is dz's place, or done */
    void *dx;
    bool add;
    double *sums; /* [parts][2][C] */
} tl_norm_rows;

/* Sets the first block's fields and the operands from the call. */
tl_norm_rows tl_norm_rows_of(const tl_op_call *call);
void tl_norm_forward(tl_context *ctx, tl_norm_rows *rows);
/* Into sums: of dz, and of dz (x - center), for each channel. */
void tl_norm_sums(tl_context *ctx, tl_norm_rows *rows);
void tl_norm_backward(tl_context *ctx, tl_norm_rows *rows);

#endif
