/* From a picture to a network's input, the way the framework that trained the weights did it. One
 * code path serves training, evaluation and prediction. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/float_state.h"
#include "image/window.h"
#include "kernels.h"

enum { MAX_INPUT = 8192 };

/* --- presets --------------------------------------------------------------------------------- */

typedef struct preset {
    const char *name;
    tl_preprocess settings; /* for an input of 224 x 224 */
} preset;

#define IMAGENET_MEAN 0.485f * 255, 0.456f * 255, 0.406f * 255
#define IMAGENET_STD 0.229f * 255, 0.224f * 255, 0.225f * 255

/* torchvision: references/classification/presets.py; what its InceptionV3 does to its input
 * (transform_input) gives -1 .. 1; its EfficientNets and timm's networks resize with cubics. Keras:
 * keras.applications.imagenet_utils, and image_dataset_from_directory for the geometry.
 * EfficientNet: preprocessing.py of the TPU reference, MEAN_RGB 127, STDDEV_RGB 128,
 * CROP_PADDING 32. */
static const preset presets[] = {
    {"torchvision",
     {.fit = TL_FIT_SHORT_SIDE,
      .filter = TL_FILTER_BILINEAR,
      .antialias = true,
      .mean = {IMAGENET_MEAN},
      .std = {IMAGENET_STD}}},
    {"torchvision-bicubic",
     {.fit = TL_FIT_SHORT_SIDE,
      .filter = TL_FILTER_BICUBIC,
      .antialias = true,
      .mean = {IMAGENET_MEAN},
      .std = {IMAGENET_STD}}},
    {"torchvision-inception",
     {.fit = TL_FIT_SHORT_SIDE,
      .filter = TL_FILTER_BILINEAR,
      .antialias = true,
      .mean = {127.5f, 127.5f, 127.5f},
      .std = {127.5f, 127.5f, 127.5f}}},
    {"torchvision-inception-bicubic",
     {.fit = TL_FIT_SHORT_SIDE,
      .filter = TL_FILTER_BICUBIC,
      .antialias = true,
      .mean = {127.5f, 127.5f, 127.5f},
      .std = {127.5f, 127.5f, 127.5f}}},
    {"efficientnet-lite",
     {.fit = TL_FIT_CENTER_CROP,
      .filter = TL_FILTER_BICUBIC,
      .antialias = true,
      .mean = {127, 127, 127},
      .std = {128, 128, 128}}},
    {"keras-caffe",
     {.fit = TL_FIT_STRETCH,
      .filter = TL_FILTER_BILINEAR,
      .bgr = true,
      .mean = {103.939f, 116.779f, 123.68f},
      .std = {1, 1, 1}}},
    {"keras-tf",
     {.fit = TL_FIT_STRETCH,
      .filter = TL_FILTER_BILINEAR,
      .mean = {127.5f, 127.5f, 127.5f},
      .std = {127.5f, 127.5f, 127.5f}}},
    {"keras-torch",
     {.fit = TL_FIT_STRETCH,
      .filter = TL_FILTER_BILINEAR,
      .mean = {IMAGENET_MEAN},
      .std = {IMAGENET_STD}}},
};
enum { PRESET_COUNT = sizeof presets / sizeof presets[0] };

static int resize_for(tl_fit fit, int size) {
    if (fit == TL_FIT_SHORT_SIDE) return (int)lround(size * 256.0 / 224.0);
    if (fit == TL_FIT_CENTER_CROP) return size + 32;
    return 0;
}

tl_status tl_preprocess_preset(const char *name, int width, int height, tl_preprocess *out) {
    *out = (tl_preprocess){0};
    TL_CHECK(width > 0 && height > 0 && width <= MAX_INPUT && height <= MAX_INPUT,
             TL_INVALID_ARGUMENT, "input size %d x %d, expected 1 to %d a side", width, height,
             MAX_INPUT);
    for (int i = 0; i < PRESET_COUNT; i++) {
        if (strcmp(presets[i].name, name) != 0) continue;
        *out = presets[i].settings;
        out->width = width;
        out->height = height;
        out->resize = resize_for(out->fit, width > height ? width : height);
        return TL_OK;
    }
    return tl_fail(TL_NOT_FOUND,
                   "preprocessing \"%s\" is unknown; there are " TL_PREPROCESS_PRESETS, name);
}

void tl_preprocess_resize(tl_preprocess *p, int width, int height) {
    int old_side = p->width > p->height ? p->width : p->height;
    int side = width > height ? width : height;
    if (p->fit == TL_FIT_SHORT_SIDE && old_side > 0)
        p->resize = (int)lround((double)p->resize * side / old_side);
    if (p->fit == TL_FIT_CENTER_CROP) p->resize += side - old_side;
    p->width = width;
    p->height = height;
}

/* --- geometry -------------------------------------------------------------------------------- */

/* Python's round(): halves go to the even number. */
static int half_to_even(int value) {
    int half = value / 2;
    return value % 2 != 0 && half % 2 != 0 ? half + 1 : half;
}

static tl_status fit_short_side(tl_context *ctx, const tl_preprocess *p, const tl_image *in,
                                tl_image *out) {
    const int64_t shorter = in->width < in->height ? in->width : in->height;
    const int64_t longer = in->width < in->height ? in->height : in->width;
    const int resized = (int)(p->resize * longer / shorter); /* torchvision cuts the fraction off */
    tl_window window = {.width = in->width < in->height ? p->resize : resized,
                        .height = in->width < in->height ? resized : p->resize};
    window.left = half_to_even(window.width - p->width);
    window.top = half_to_even(window.height - p->height);
    const float box[4] = {0, 0, (float)in->width, (float)in->height};
    return tl_image_resample_window(ctx, in, box, p->filter, p->antialias, &window, out);
}

static tl_status fit_centre_crop(tl_context *ctx, const tl_preprocess *p, const tl_image *in,
                                 tl_image *out) {
    const int shorter = in->width < in->height ? in->width : in->height;
    const int larger = p->width > p->height ? p->width : p->height;
    int side = (int)((float)larger / (float)p->resize * (float)shorter); /* as the reference */
    if (side < 1) side = 1;
    const int left = (in->width - side + 1) / 2, top = (in->height - side + 1) / 2;
    const float box[4] = {(float)left, (float)top, (float)(left + side), (float)(top + side)};
    return tl_image_resample(ctx, in, box, p->filter, p->antialias, out);
}

tl_status tl_preprocess_fit(tl_context *ctx, const tl_preprocess *p, const tl_image *in,
                            tl_image *out) {
    TL_FLOAT_SCOPE;
    const float box[4] = {0, 0, (float)in->width, (float)in->height};
    tl_status status = TL_OK;
    TL_TRY(tl_image_create(ctx, p->width, p->height, out));
    switch (p->fit) {
    case TL_FIT_STRETCH:
        status = tl_image_resample(ctx, in, box, p->filter, p->antialias, out);
        break;
    case TL_FIT_SHORT_SIDE:
        status = fit_short_side(ctx, p, in, out);
        break;
    case TL_FIT_CENTER_CROP:
        status = fit_centre_crop(ctx, p, in, out);
        break;
    }
    if (status != TL_OK) tl_image_free(ctx, out);
    return status;
}

/* The centre crop's square is as much larger than the input as the short side is than `resize`. */
bool tl_preprocess_halves(const tl_preprocess *p, int width, int height) {
    if (!p->antialias || p->filter == TL_FILTER_NEAREST) return false;
    if (p->fit == TL_FIT_STRETCH) return width >= 2 * p->width && height >= 2 * p->height;
    return width >= 2 * p->resize && height >= 2 * p->resize;
}

/* --- normalisation --------------------------------------------------------------------------- */

void tl_preprocess_normalize(tl_context *ctx, const tl_preprocess *p, const tl_image *in,
                             float *out) {
    TL_FLOAT_SCOPE;
    tl_context_kernels(ctx)->normalize(in->pixels, p->bgr, p->mean, p->std, out,
                                       (int64_t)in->width * in->height);
}

tl_status tl_preprocess_apply(tl_context *ctx, const tl_preprocess *p, const tl_image *in,
                              float *out) {
    tl_image fitted;
    TL_TRY(tl_preprocess_fit(ctx, p, in, &fitted));
    tl_preprocess_normalize(ctx, p, &fitted, out);
    tl_image_free(ctx, &fitted);
    return TL_OK;
}

/* --- as JSON --------------------------------------------------------------------------------- */

static const char *const fit_names[] = {"stretch", "short_side", "center_crop", NULL};
static const char *const filter_names[] = {"nearest", "bilinear", "bicubic", NULL};
static const char *const order_names[] = {"rgb", "bgr", NULL};

static json_t *numbers_to_json(const float values[3]) {
    return json_pack("[f, f, f]", (double)values[0], (double)values[1], (double)values[2]);
}

json_t *tl_preprocess_to_json(const tl_preprocess *p) {
    return json_pack("{s:i, s:i, s:s, s:i, s:s, s:b, s:s, s:o, s:o}", "width", p->width, "height",
                     p->height, "fit", fit_names[p->fit], "resize", p->resize, "filter",
                     filter_names[p->filter], "antialias", p->antialias, "channels",
                     order_names[p->bgr], "mean", numbers_to_json(p->mean), "std",
                     numbers_to_json(p->std));
}

static tl_status read_int(const json_t *json, const char *key, int low, int *out) {
    const json_t *value = json_object_get(json, key);
    json_int_t number = json_integer_value(value);
    TL_CHECK(json_is_integer(value) && number >= low && number <= MAX_INPUT, TL_CORRUPT,
             "preprocessing: %s is not a whole number from %d to %d", key, low, MAX_INPUT);
    *out = (int)number;
    return TL_OK;
}

static tl_status read_choice(const json_t *json, const char *key, const char *const *names,
                             int *out) {
    const char *text = json_string_value(json_object_get(json, key));
    for (int i = 0; text && names[i]; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *out = i;
        return TL_OK;
    }
    return tl_fail(TL_CORRUPT, "preprocessing: %s is \"%.40s\", which is none of its values", key,
                   text ? text : "(no text)");
}

static tl_status read_numbers(const json_t *json, const char *key, bool positive, float out[3]) {
    const json_t *list = json_object_get(json, key);
    TL_CHECK(json_array_size(list) == 3, TL_CORRUPT, "preprocessing: %s is not a list of 3 numbers",
             key);
    for (size_t i = 0; i < 3; i++) {
        const json_t *item = json_array_get(list, i);
        double value = json_number_value(item);
        TL_CHECK(json_is_number(item) && fabs(value) <= 1e6 && (!positive || value >= 1e-6),
                 TL_CORRUPT, "preprocessing: %s[%zu] is %g, which is out of range", key, i, value);
        out[i] = (float)value;
    }
    return TL_OK;
}

tl_status tl_preprocess_from_json(const json_t *json, tl_preprocess *out) {
    tl_preprocess p = {0};
    int fit = 0, filter = 0, order = 0;
    *out = p;
    TL_CHECK(json_is_object(json), TL_CORRUPT, "preprocessing: is not an object");
    TL_TRY(read_int(json, "width", 1, &p.width));
    TL_TRY(read_int(json, "height", 1, &p.height));
    TL_TRY(read_int(json, "resize", 0, &p.resize));
    TL_TRY(read_choice(json, "fit", fit_names, &fit));
    TL_TRY(read_choice(json, "filter", filter_names, &filter));
    TL_TRY(read_choice(json, "channels", order_names, &order));
    TL_TRY(read_numbers(json, "mean", false, p.mean));
    TL_TRY(read_numbers(json, "std", true, p.std));
    const json_t *antialias = json_object_get(json, "antialias");
    TL_CHECK(json_is_boolean(antialias), TL_CORRUPT, "preprocessing: antialias is no boolean");
    p.fit = (tl_fit)fit;
    p.filter = (tl_filter)filter;
    p.antialias = json_is_true(antialias);
    p.bgr = order == 1;
    TL_CHECK(p.fit == TL_FIT_STRETCH || (p.resize >= p.width && p.resize >= p.height), TL_CORRUPT,
             "preprocessing: resize is %d, below the input size %d x %d", p.resize, p.width,
             p.height);
    *out = p;
    return TL_OK;
}
