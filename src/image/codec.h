/* What the picture decoders share. A decoder checks its container completely before any pixel is
 * decoded: sizes, checksums, tables and the presence of the end. Only then does a decoder that
 * trusts much of this get to see the bytes (docs/decisions/images.md). */
#ifndef TL_IMAGE_CODEC_H
#define TL_IMAGE_CODEC_H

#include "image/image.h"

/* A whole encoded picture in memory. */
typedef struct tl_encoded {
    tl_context *ctx;
    const char *name; /* for messages */
    const unsigned char *data;
    size_t size;
    const tl_preprocess *target; /* what the picture will be fitted by; NULL: all pixels matter */
} tl_encoded;

typedef struct tl_codec {
    const char *name;
    const char *magic; /* the first bytes of every such file */
    size_t magic_size;
    /* Creates *out, upright; errors as tl_image_decode(). With a target, it may have fewer pixels
     * than the file, as long as fitting still halves it. */
    tl_status (*decode)(const tl_encoded *in, tl_image *out);
} tl_codec;

extern const tl_codec tl_codec_jpeg, tl_codec_png, tl_codec_bmp;

/* Refuses empty pictures (CORRUPT) and pictures over the limits (LIMIT). */
tl_status tl_image_check_size(const tl_encoded *in, int64_t width, int64_t height);

/* Composites 8-bit `value` with `alpha` on white. */
static inline unsigned char tl_on_white(unsigned value, unsigned alpha) {
    return (unsigned char)((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

/* --- jpeg_libjpeg.c or jpeg_stb.c: the build takes one -----------------------------------------
 * The pixels of a JPEG whose container jpeg.c has checked. */
typedef struct tl_jpeg_frame {
    const tl_encoded *in;
    int width, height, components;
    bool coefficients; /* all of them are needed before the first pixel: several scans */
    int64_t blocks;    /* of 64 samples, in all components */
    int reduction;     /* 1, 2, 4 or 8: sides may be divided by it, rounded up */
} tl_jpeg_frame;
/* Creates *out as the file has it, with full or reduced sides. Errors: CORRUPT, LIMIT (memory),
 * NO_MEMORY. */
tl_status tl_jpeg_pixels(const tl_jpeg_frame *frame, tl_image *out);
/* What decoding with stb_image takes at most, in bytes. */
size_t tl_stb_jpeg_budget(const tl_jpeg_frame *frame);

/* --- stb.c ------------------------------------------------------------------------------------
 * Decodes a checked JPEG or PNG of known size with stb_image to `channels` (3 or 4) bytes a pixel
 * in a block from tl_alloc(). Takes at most `budget` bytes. Errors: CORRUPT, LIMIT, NO_MEMORY. */
tl_status tl_stb_decode(const tl_encoded *in, int width, int height, int channels, size_t budget,
                        unsigned char **pixels);

/* --- exif.c ------------------------------------------------------------------------------------
 * The orientation (1..8) of an Exif block that begins with its TIFF header; 1 when there is none
 * or the block is damaged: pixels are worth more than their description. */
int tl_exif_orientation(const unsigned char *data, size_t size);
/* Turns and mirrors *image as its orientation asks. Errors: NO_MEMORY (the image is unchanged). */
tl_status tl_image_orient(tl_context *ctx, tl_image *image, int orientation);

#endif
