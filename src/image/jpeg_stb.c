/* JPEG pixels by stb_image, which decodes at full size only. */
#include "image/codec.h"

tl_status tl_jpeg_pixels(const tl_jpeg_frame *frame, tl_image *out) {
    unsigned char *pixels;
    TL_TRY(tl_stb_decode(frame->in, frame->width, frame->height, 3, tl_stb_jpeg_budget(frame),
                         &pixels));
    *out = (tl_image){frame->width, frame->height, pixels};
    return TL_OK;
}
