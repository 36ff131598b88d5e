/* What max_pool and avg_pool share: attributes, shapes, and the walk over windows. */
#ifndef TL_LAYER_POOL_H
#define TL_LAYER_POOL_H

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

/* One output pixel, some of its channels. */
typedef struct tl_pool_pixel {
    const tl_op_call *call;
    const tl_window *axis; /* [2]: height, width */
    tl_pool_span h, w;
    int64_t in_sample; /* offset of the sample in the input, at the first of the channels */
    int64_t out;       /* offset of the pixel in the output, likewise */
    int64_t channels;  /* at most TL_POOL_BLOCK */
} tl_pool_pixel;
enum { TL_POOL_BLOCK = 64 };

/* Offset in the input of the pixel's channels at a place of its window. */
int64_t tl_pool_in_offset(const tl_pool_pixel *pixel, int64_t h, int64_t w);

typedef void (*tl_pool_fn)(const tl_pool_pixel *pixel);
/* Calls fn for every block of every output pixel, in any order. */
void tl_pool_forward(const tl_op_call *call, tl_pool_fn fn);
/* Zeroes grad_in[0] unless it is added to, then calls fn for every block of every output pixel;
 * those that share input elements one after the other, in order. */
void tl_pool_backward(const tl_op_call *call, tl_pool_fn fn);

#endif
