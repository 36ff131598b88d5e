/* Convolutions of stride 1 by Winograd's method: fewer multiplications than any direct way, for
 * packed weights up to four times as large. See kernels.h for sources and points. */
#ifndef TL_COMPUTE_WINOGRAD_H
#define TL_COMPUTE_WINOGRAD_H

#include "compute/conv.h"

/* The form for this shape, whatever the number of images; of m = 0 for a direct way. The epilogue
 * of such a convolution writes what its input is of. */
tl_winograd tl_winograd_choose(const tl_context *ctx, const tl_conv *conv);
/* The same for the gradient of the input, turned into a convolution, whose weights are not kept:
 * memory does not speak against large tiles. */
tl_winograd tl_winograd_choose_data(const tl_context *ctx, const tl_conv *turned);
/* And for the gradient of the weights, which is there for 3 x 3 filters alone. */
tl_winograd tl_winograd_choose_weights(const tl_context *ctx, const tl_conv *conv);

/* Filters, of which begin .. end - 1 are to be packed, begin being a multiple of
 * nr: tap t of a filter's channel lies at
 *     weights + (filter - begin) * filter_step + channel * channel_step + t * tap_step */
typedef struct tl_winograd_source {
    const float *weights;
    int64_t filters, channels, begin, end, filter_step, channel_step, tap_step;
    const float *scale; /* [filters] multiplies each filter, or NULL */
} tl_winograd_source;

size_t tl_winograd_packed_bytes(const struct tl_kernels *kernels, const tl_conv *conv,
                                tl_winograd f);
void tl_winograd_pack(tl_context *ctx, const struct tl_kernels *kernels,
                      const tl_winograd_source *source, tl_winograd f, void *packed);
size_t tl_winograd_work_bytes(tl_context *ctx, const tl_conv *conv, tl_winograd f);
/* y = (or, without an epilogue, += when add) the convolution. */
void tl_winograd_run(tl_context *ctx, const tl_conv *conv, tl_winograd f, const void *x,
                     const void *packed, const tl_epilogue *epilogue, bool add, void *y,
                     void *work);

/* Some images [n h w c], and c zeros that stand for the pixels around them. */
typedef struct tl_winograd_images {
    const void *data, *zero;
    int64_t h, w, c;
    int element; /* bytes */
} tl_winograd_images;
/* Points to the pixels of the tile of `high` lines of `wide` that begins at (y, x) of image n. */
void tl_winograd_find_pixels(const tl_winograd_images *images, int64_t n, int64_t y, int64_t x,
                             int high, int wide, const void **pixels);

/* Fewer pixels than these, in all images, do not pay for the transforms of weights that both
 * gradients take. */
enum { TL_WINOGRAD_GRADIENT_PIXELS = 512 };

/* The gradient of the weights (winograd_weights.c): dw[oc 3 3 ic] += it. */
size_t tl_winograd_weights_work_bytes(tl_context *ctx, const tl_conv *conv, tl_winograd f);
void tl_winograd_backward_weights(tl_context *ctx, const tl_conv *conv, tl_winograd f,
                                  const void *x, const void *dy, float *dw, void *work);

#endif
