/* What max_pool and avg_pool share: attributes, shapes, and the walk over windows. */
#ifndef TL_LAYER_POOL_H
#define TL_LAYER_POOL_H

#include "kernels.h"
#include "layer/op.h"
#include "layer/window.h"

typedef struct tl_pool_attr {
    int32_t kernel[2], stride[2], pad[4];
    int32_t padding, ceil_mode, count_include_pad;
} tl_pool_attr;

/* avg_pool's attributes; max_pool's are those from index 1 on, all but count_include_pad. */
extern const tl_attr_spec tl_pool_attrs[];

/* Errors: SHAPE (not N H W C, no window fits), INVALID_ARGUMENT (padding of a whole kernel or
 * together with "same"). */
tl_status tl_pool_infer(const char *op, const tl_pool_attr *attr, const tl_shape *in,
                        tl_op_shapes *out);

/* Part of a window that lies in the input: elements [begin, end) along one axis, never empty. */
typedef struct tl_pool_span {
    int64_t start;      /* where the window begins, negative in the padding before */
    int64_t begin, end; /* inside the input */
} tl_pool_span;

/* Neighbouring output pixels whose windows have the same places in the input, some of their
 * channels. */
typedef struct tl_pool_run {
    const tl_op_call *call;
    const struct tl_kernels *kernels;
    size_t size;           /* of one element */
    const tl_window *axis; /* [2]: height, width */
    tl_pool_span h, w;     /* of the first pixel */
    int64_t in, out;       /* offsets of the first place in the input, of the pixel in the output */
    tl_pool_row row;       /* for the kernels; all but weight */
} tl_pool_run;

typedef void (*tl_pool_fn)(tl_pool_run *run);
/* Calls fn for every block of channels of every output pixel, in any order. */
void tl_pool_forward(const tl_op_call *call, tl_pool_fn fn);
/* Zeroes grad_in[0] unless it is added to, then calls fn as above;
 * runs that share input elements one after the other, in order. */
void tl_pool_backward(const tl_op_call *call, tl_pool_fn fn);

#endif
