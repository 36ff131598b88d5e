/* Resampling to a larger picture of which only a window is wanted. */
#ifndef TL_IMAGE_WINDOW_H
#define TL_IMAGE_WINDOW_H

#include "image/image.h"

/* The whole resampled picture has width x height pixels; the window begins at (left, top) and has
 * the size of the output picture. */
typedef struct tl_window {
    int left, top, width, height;
} tl_window;

/* tl_image_resample() to window->width x window->height followed by cutting the window out, but
 * without computing the rest. */
tl_status tl_image_resample_window(tl_context *ctx, const tl_image *in, const float box[4],
                                   tl_filter filter, bool antialias, const tl_window *window,
                                   tl_image *out);

#endif
