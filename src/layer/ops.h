/* The descriptors that registry.c lists; each is defined in its operator's file. */
#ifndef TL_LAYER_OPS_H
#define TL_LAYER_OPS_H

#include "layer/op.h"

extern const tl_op tl_op_input;           /* shape.c */
extern const tl_op tl_op_identity;        /* shape.c */
extern const tl_op tl_op_flatten;         /* shape.c */
extern const tl_op tl_op_dropout;         /* dropout.c */
extern const tl_op tl_op_conv2d;          /* conv2d.c */
extern const tl_op tl_op_dense;           /* dense.c */
extern const tl_op tl_op_batch_norm;      /* batch_norm.c */
extern const tl_op tl_op_max_pool;        /* max_pool.c */
extern const tl_op tl_op_avg_pool;        /* avg_pool.c */
extern const tl_op tl_op_global_avg_pool; /* global_pool.c */
extern const tl_op tl_op_global_max_pool; /* global_pool.c */
extern const tl_op tl_op_relu;            /* activation.c */
extern const tl_op tl_op_relu6;
extern const tl_op tl_op_sigmoid;
extern const tl_op tl_op_silu;
extern const tl_op tl_op_hard_swish;
extern const tl_op tl_op_hard_sigmoid;
extern const tl_op tl_op_gelu;
extern const tl_op tl_op_softmax;         /* softmax.c */
extern const tl_op tl_op_add;             /* add.c */
extern const tl_op tl_op_multiply;        /* multiply.c */
extern const tl_op tl_op_concat;          /* concat.c */
extern const tl_op tl_op_leaky_relu;      /* leaky_relu.c */
extern const tl_op tl_op_layer_norm;      /* layer_norm.c */
extern const tl_op tl_op_scale_shift;     /* scale_shift.c */
extern const tl_op tl_op_slice;           /* slice.c */
extern const tl_op tl_op_channel_shuffle; /* channel_shuffle.c */
extern const tl_op tl_op_zero_pad;        /* zero_pad.c */

#endif
