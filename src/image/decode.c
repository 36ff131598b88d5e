/* From a source of bytes to pixels: recognises the format by its content. */
#include <string.h>

#include "image/codec.h"

enum { MAX_FILE = 256 * 1024 * 1024 };

/* A further decoder for a format goes before the one it replaces. */
static const tl_codec *const codecs[] = {&tl_codec_jpeg, &tl_codec_png, &tl_codec_bmp};
enum { CODEC_COUNT = sizeof codecs / sizeof codecs[0] };

/* Formats that are often found under the name of a supported one. */
static const struct {
    const char *name, *magic;
    size_t offset, size;
} foreign[] = {
    {"a WebP picture", "WEBP", 8, 4},      {"a GIF picture", "GIF8", 0, 4},
    {"a TIFF picture", "II*\0", 0, 4},     {"a TIFF picture", "MM\0*", 0, 4},
    {"an AVIF picture", "ftypavif", 4, 8}, {"a HEIC picture", "ftypheic", 4, 8},
    {"a HEIC picture", "ftypmif1", 4, 8},  {"a JPEG 2000 picture", "\0\0\0\fjP  ", 0, 8},
    {"a JPEG XL picture", "\xff\n", 0, 2}, {"an SVG drawing", "<svg", 0, 4},
    {"an HTML page", "<!DOCTYPE", 0, 9},   {"an HTML page", "<html", 0, 5},
    {"a PDF document", "%PDF", 0, 4},      {"a Photoshop picture", "8BPS", 0, 4},
};

tl_status tl_image_create(tl_context *ctx, int width, int height, tl_image *out) {
    *out = (tl_image){0};
    TL_CHECK(width > 0 && height > 0, TL_INVALID_ARGUMENT, "a picture of %d x %d pixels", width,
             height);
    unsigned char *pixels = tl_alloc_array(ctx, (size_t)width * (size_t)height, 3);
    TL_CHECK_MEMORY(pixels);
    *out = (tl_image){width, height, pixels};
    return TL_OK;
}

void tl_image_free(tl_context *ctx, tl_image *image) {
    if (!image) return;
    tl_free(ctx, image->pixels);
    *image = (tl_image){0};
}

tl_status tl_image_check_size(const tl_encoded *in, int64_t width, int64_t height) {
    TL_CHECK(width > 0 && height > 0, TL_CORRUPT, "%s: is %lld x %lld pixels", in->name,
             (long long)width, (long long)height);
    TL_CHECK(width <= TL_IMAGE_MAX_SIDE && height <= TL_IMAGE_MAX_SIDE &&
                 width * height <= TL_IMAGE_MAX_PIXELS,
             TL_LIMIT, "%s: is %lld x %lld pixels, the limits are %d a side and %lld in all",
             in->name, (long long)width, (long long)height, TL_IMAGE_MAX_SIDE,
             (long long)TL_IMAGE_MAX_PIXELS);
    return TL_OK;
}

/* A file that ends within a format's signature is taken for that format, cut short. */
static const tl_codec *recognise(const tl_encoded *in) {
    for (int i = 0; i < CODEC_COUNT; i++) {
        size_t size = in->size < codecs[i]->magic_size ? in->size : codecs[i]->magic_size;
        if (size > 0 && memcmp(in->data, codecs[i]->magic, size) == 0) return codecs[i];
    }
    return NULL;
}

static tl_status fail_unknown(const tl_encoded *in) {
    const char *what = "of an unknown format";
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        if (in->size >= foreign[i].offset + foreign[i].size &&
            memcmp(in->data + foreign[i].offset, foreign[i].magic, foreign[i].size) == 0) {
            what = foreign[i].name;
            break;
        }
    }
    return tl_fail(TL_UNSUPPORTED, "%s: is %s; JPEG, PNG and BMP can be read", in->name, what);
}

static tl_status decode_bytes(const tl_encoded *in, tl_image *out) {
    TL_CHECK(in->size > 0, TL_TRUNCATED, "%s: is empty", in->name);
    const tl_codec *codec = recognise(in);
    if (!codec) return fail_unknown(in);
    TL_CHECK(in->size >= codec->magic_size, TL_TRUNCATED, "%s: ends within the %s signature",
             in->name, codec->name);
    return codec->decode(in, out);
}

static tl_status decode_source(const tl_source *source, const tl_preprocess *target,
                               tl_image *out) {
    *out = (tl_image){0};
    tl_encoded in = {source->ctx, source->name, source->memory, (size_t)source->size, target};
    TL_CHECK(source->size <= MAX_FILE, TL_LIMIT, "%s: has %llu bytes, the limit is %d",
             source->name, (unsigned long long)source->size, MAX_FILE);
    unsigned char *data = NULL;
    if (!source->memory) {
        TL_TRY(tl_source_read_all(source, MAX_FILE, &data, &in.size));
        in.data = data;
    }
    tl_status status = decode_bytes(&in, out);
    tl_free(source->ctx, data);
    return status;
}

tl_status tl_image_decode(const tl_source *source, tl_image *out) {
    return decode_source(source, NULL, out);
}

tl_status tl_image_decode_fitted(const tl_source *source, const tl_preprocess *p, tl_image *out) {
    tl_image image;
    TL_TRY(decode_source(source, p, &image));
    tl_status status = tl_preprocess_fit(source->ctx, p, &image, out);
    tl_image_free(source->ctx, &image);
    return status;
}
