/* Pictures: decoding, resampling, the way from a picture to a network's input, augmentation. */
#ifndef TL_IMAGE_IMAGE_H
#define TL_IMAGE_IMAGE_H

#include "base/context.h"
#include "base/rng.h"
#include "base/source.h"

/* 8-bit RGB, rows top to bottom without padding. */
typedef struct tl_image {
    int width, height;
    unsigned char *pixels; /* height * width * 3, from tl_alloc() */
} tl_image;

enum { TL_IMAGE_MAX_SIDE = 32768 };
#define TL_IMAGE_MAX_PIXELS ((int64_t)100 * 1000 * 1000)

/* --- decode.c ----------------------------------------------------------------------------------
 * Decodes JPEG, PNG or BMP. Alpha is composited on white, grey becomes RGB. Dimensions are
 * checked before decoding; memory goes through the context.
 * Errors: those of reading, CORRUPT, TRUNCATED, LIMIT (dimensions), UNSUPPORTED (another format, or
 * a variant such as 12-bit JPEG). Texts name the source. */
tl_status tl_image_decode(const tl_source *source, tl_image *out);
tl_status tl_image_create(tl_context *ctx, int width, int height, tl_image *out);
void tl_image_free(tl_context *ctx, tl_image *image);

/* --- resample.c ---------------------------------------------------------------------------------
 */
typedef enum tl_filter { TL_FILTER_NEAREST, TL_FILTER_BILINEAR, TL_FILTER_BICUBIC } tl_filter;

/* Resamples box (left, top, right, bottom; in pixels of `in`, fractions allowed) to the size of
 * `out`, which the caller has created. With `antialias` the filter widens when shrinking, and
 * the result equals Pillow's Image.resize(size, filter, box) bit for bit. */
tl_status tl_image_resample(tl_context *ctx, const tl_image *in, const float box[4],
                            tl_filter filter, bool antialias, tl_image *out);

/* --- preprocess.c -------------------------------------------------------------------------------
 */
typedef enum tl_fit {
    TL_FIT_STRETCH,    /* to width x height, ignoring the aspect */
    TL_FIT_SHORT_SIDE, /* resize the short side to `resize`, then cut width x height from the
                          centre (torchvision's Resize + CenterCrop, their rounding) */
    TL_FIT_CENTER_CROP /* cut the centred square of side short * width / resize, then resize it to
                          width x height (EfficientNet's reference, resize = width + 32) */
} tl_fit;

typedef struct tl_preprocess {
    int width, height; /* of the network's input */
    tl_fit fit;
    int resize; /* at least width and height; 0 for TL_FIT_STRETCH */
    tl_filter filter;
    bool antialias;
    bool bgr;              /* channel order of the network's input */
    float mean[3], std[3]; /* of the network's channels: (pixel 0..255 - mean) / std */
} tl_preprocess;

/* The presets' names, for messages. */
#define TL_PREPROCESS_PRESETS                                                                      \
    "torchvision, torchvision-bicubic, torchvision-inception, torchvision-inception-bicubic, "     \
    "efficientnet-lite, keras-caffe, keras-tf, keras-torch"
/* A preset by name for a given input size; NOT_FOUND lists the names. */
tl_status tl_preprocess_preset(const char *name, int width, int height, tl_preprocess *out);
/* The same for an input of another size. A resized short side keeps its ratio to the input, a
 * centre crop its margin, as presets have them at every size. */
void tl_preprocess_resize(tl_preprocess *p, int width, int height);
/* Whether tl_preprocess_fit() averages a picture of that size down to half its sides or less. */
bool tl_preprocess_halves(const tl_preprocess *p, int width, int height);
/* Geometry only: `in` to a picture of width x height. Creates *out. */
tl_status tl_preprocess_fit(tl_context *ctx, const tl_preprocess *p, const tl_image *in,
                            tl_image *out);
/* Normalisation only: pixels to width*height*3 floats. */
void tl_preprocess_normalize(tl_context *ctx, const tl_preprocess *p, const tl_image *in,
                             float *out);
/* Both. */
tl_status tl_preprocess_apply(tl_context *ctx, const tl_preprocess *p, const tl_image *in,
                              float *out);
/* From encoded bytes to a picture of width x height: what training, evaluation and prediction
 * all do. Detail that fitting averages away may be left out of the decoding. Creates *out. Errors:
 * as tl_image_decode(). */
tl_status tl_image_decode_fitted(const tl_source *source, const tl_preprocess *p, tl_image *out);
/* As JSON, for the saved model; and back (hostile input: CORRUPT names the field). */
struct json_t;
struct json_t *tl_preprocess_to_json(const tl_preprocess *p);
tl_status tl_preprocess_from_json(const struct json_t *json, tl_preprocess *out);

/* --- augment.c ----------------------------------------------------------------------------------
 */
/* All zero: nothing is changed. */
typedef struct tl_augment {
    bool flip;              /* left-right, probability 1/2 */
    float rotation;         /* degrees, uniform in +-rotation */
    float shift_x, shift_y; /* share of width and height, uniform in +- */
    float shear;            /* degrees, uniform in +-shear, Keras's shear_range */
    float zoom; /* factor uniform in [1 - zoom, 1 + zoom], each axis by itself, as Keras */
    float crop; /* > 0: random resized crop, smallest share of the area (0.08), aspect 3/4
                   to 4/3, as torchvision's RandomResizedCrop */
    float brightness, contrast; /* factor uniform in [1 - x, 1 + x], as torchvision's ColorJitter */
} tl_augment;

/* Parses "flip,rotation:40,shift:0.2"; NULL or "" is none. INVALID_ARGUMENT names the part and
 * the choices. */
tl_status tl_augment_parse(const char *text, tl_augment *out);
bool tl_augment_active(const tl_augment *a);
/* Picture to network-sized picture with random changes drawn from `rng`; *out is created.
 * Geometric changes are one affine map with bilinear sampling, edges filled with the nearest pixel.
 */
tl_status tl_augment_apply(tl_context *ctx, const tl_augment *a, const tl_preprocess *p,
                           const tl_image *in, tl_rng *rng, tl_image *out);

/* --- encode.c -----------------------------------------------------------------------------------
 */
/* A JPEG (quality 1..100) in a new block, for thumbnails; the caller frees it with tl_free(). */
tl_status tl_image_encode_jpeg(tl_context *ctx, const tl_image *in, int quality,
                               unsigned char **data, size_t *size);

#endif
