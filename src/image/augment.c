/* Random changes of training pictures. What each part means, and where it follows Keras or
 * torchvision, is told in docs/augmentation.md. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "image/image.h"

/* --- the specification ----------------------------------------------------------------------- */

typedef struct part {
    const char *name;
    double low, high; /* of the value */
    size_t offset[2]; /* of the fields it sets; the second may repeat the first */
} part;

#define FIELD(name) offsetof(tl_augment, name)
static const part parts[] = {
    {"rotation", 0, 180, {FIELD(rotation), FIELD(rotation)}},
    {"shift", 0, 1, {FIELD(shift_x), FIELD(shift_y)}},
    {"shift_x", 0, 1, {FIELD(shift_x), FIELD(shift_x)}},
    {"shift_y", 0, 1, {FIELD(shift_y), FIELD(shift_y)}},
    {"shear", 0, 89, {FIELD(shear), FIELD(shear)}},
    {"zoom", 0, 0.99, {FIELD(zoom), FIELD(zoom)}},
    {"crop", 0, 1, {FIELD(crop), FIELD(crop)}},
    {"brightness", 0, 10, {FIELD(brightness), FIELD(brightness)}},
    {"contrast", 0, 10, {FIELD(contrast), FIELD(contrast)}},
};
#undef FIELD
enum { PART_COUNT = sizeof parts / sizeof parts[0] };
static const char choices[] = "flip, rotation:DEGREES, shift:SHARE, shift_x:SHARE, shift_y:SHARE, "
                              "shear:DEGREES, zoom:SHARE, crop:SHARE, brightness:X, contrast:X";

static bool name_is(const char *name, const char *begin, const char *end) {
    size_t size = (size_t)(end - begin);
    return strlen(name) == size && memcmp(name, begin, size) == 0;
}

static tl_status set_part(const part *p, const char *value, const char *end, tl_augment *out) {
    double number;
    TL_CHECK(tl_parse_number(value, end, &number) && number >= p->low && number <= p->high,
             TL_INVALID_ARGUMENT, "augment: %s:%.*s, expected a number from %g to %g", p->name,
             (int)(end - value), value, p->low, p->high);
    for (int i = 0; i < 2; i++) {
        float narrowed = (float)number;
        memcpy((char *)out + p->offset[i], &narrowed, sizeof narrowed);
    }
    return TL_OK;
}

static tl_status parse_part(const char *begin, const char *end, tl_augment *out) {
    const char *colon = memchr(begin, ':', (size_t)(end - begin));
    const char *name_end = colon ? colon : end;
    if (name_is("flip", begin, end)) {
        out->flip = true;
        return TL_OK;
    }
    for (int i = 0; i < PART_COUNT; i++)
        if (name_is(parts[i].name, begin, name_end))
            return set_part(&parts[i], colon ? colon + 1 : end, end, out);
    return tl_fail(TL_INVALID_ARGUMENT, "augment: \"%.*s\" is unknown; the choices are %s",
                   (int)(end - begin), begin, choices);
}

tl_status tl_augment_parse(const char *text, tl_augment *out) {
    *out = (tl_augment){0};
    while (text && *text) {
        const char *end = text + strcspn(text, ",");
        tl_status status = parse_part(text, end, out);
        if (status != TL_OK) {
            *out = (tl_augment){0};
            return status;
        }
        text = *end ? end + 1 : end;
    }
    return TL_OK;
}

static bool moves_pixels(const tl_augment *a) {
    return a->rotation > 0 || a->shift_x > 0 || a->shift_y > 0 || a->shear > 0 || a->zoom > 0;
}

bool tl_augment_active(const tl_augment *a) {
    return a->flip || moves_pixels(a) || a->crop > 0 || a->brightness > 0 || a->contrast > 0;
}

/* --- random resized crop --------------------------------------------------------------------- */

/* The largest centred box whose aspect stays within [narrow, wide]. */
static void central_box(const tl_image *in, double narrow, double wide, float box[4]) {
    double width = in->width, height = in->height;
    if (width / height < narrow)
        height = fmin(height, round(width / narrow));
    else if (width / height > wide)
        width = fmin(width, round(height * wide));
    double left = floor((in->width - width) / 2), top = floor((in->height - height) / 2);
    memcpy(box, (float[]){(float)left, (float)top, (float)(left + width), (float)(top + height)},
           4 * sizeof *box);
}

/* torchvision's RandomResizedCrop.get_params: area uniform, aspect uniform in its logarithm, ten
 * attempts to find a box that fits. */
static void random_box(const tl_image *in, double smallest, tl_rng *rng, float box[4]) {
    const double narrow = 3.0 / 4, wide = 4.0 / 3;
    const double area = (double)in->width * in->height;
    for (int attempt = 0; attempt < 10; attempt++) {
        double target = area * (smallest + (1 - smallest) * (double)tl_rng_uniform(rng));
        double aspect = exp(log(narrow) + (log(wide) - log(narrow)) * (double)tl_rng_uniform(rng));
        int width = (int)lround(sqrt(target * aspect));
        int height = (int)lround(sqrt(target / aspect));
        if (width < 1 || height < 1 || width > in->width || height > in->height) continue;
        int left = (int)tl_rng_below(rng, (uint64_t)(in->width - width) + 1);
        int top = (int)tl_rng_below(rng, (uint64_t)(in->height - height) + 1);
        memcpy(box,
               (float[]){(float)left, (float)top, (float)(left + width), (float)(top + height)},
               4 * sizeof *box);
        return;
    }
    central_box(in, narrow, wide, box);
}

static tl_status crop(tl_context *ctx, const tl_augment *a, const tl_preprocess *p,
                      const tl_image *in, tl_rng *rng, tl_image *out) {
    float box[4];
    random_box(in, (double)a->crop, rng, box);
    TL_TRY(tl_image_create(ctx, p->width, p->height, out));
    tl_status status = tl_image_resample(ctx, in, box, p->filter, p->antialias, out);
    if (status != TL_OK) tl_image_free(ctx, out);
    return status;
}

/* --- one affine map -------------------------------------------------------------------------- */

/* Where output pixel (row, column) comes from: row' = m[0] row + m[1] column + m[2], and so on. */
typedef struct affine {
    double m[2][3];
} affine;

static double uniform(tl_rng *rng, double reach) {
    return reach * (2 * (double)tl_rng_uniform(rng) - 1);
}

/* Rotation, shift, shear and zoom multiplied in this order about the picture's centre, as Keras's
 * apply_affine_transform does: x counts rows there. */
static affine random_affine(const tl_augment *a, int width, int height, tl_rng *rng) {
    const double degree = 3.14159265358979323846 / 180;
    const double theta = uniform(rng, (double)a->rotation) * degree;
    const double shift_row = uniform(rng, (double)a->shift_y) * height;
    const double shift_column = uniform(rng, (double)a->shift_x) * width;
    const double shear = uniform(rng, (double)a->shear) * degree;
    const double zoom_row = 1 + uniform(rng, (double)a->zoom);
    const double zoom_column = 1 + uniform(rng, (double)a->zoom);
    const double c = cos(theta), s = sin(theta), k = cos(shear), h = -sin(shear);
    affine t = {{{c * zoom_row, (c * h - s * k) * zoom_column, c * shift_row - s * shift_column},
                 {s * zoom_row, (s * h + c * k) * zoom_column, s * shift_row + c * shift_column}}};
    const double centre[2] = {height / 2.0 - 0.5, width / 2.0 - 0.5};
    for (int i = 0; i < 2; i++)
        t.m[i][2] += centre[i] - t.m[i][0] * centre[0] - t.m[i][1] * centre[1];
    return t;
}

/* A coordinate between two samples; outside, the nearest sample counts. */
typedef struct between {
    ptrdiff_t low, high;
    float share; /* of the higher one */
} between;

static between locate(double at, int size) {
    if (!(at > 0)) return (between){0, 0, 0};
    if (at >= size - 1) return (between){size - 1, size - 1, 0};
    ptrdiff_t low = (ptrdiff_t)at;
    return (between){low, low + 1, (float)(at - (double)low)};
}

static void sample(const tl_image *in, between row, between column, unsigned char *out) {
    const unsigned char *upper = in->pixels + row.low * in->width * 3;
    const unsigned char *lower = in->pixels + row.high * in->width * 3;
    const ptrdiff_t left = column.low * 3, right = column.high * 3;
    for (int c = 0; c < 3; c++) {
        float a = upper[left + c], b = lower[left + c];
        a += column.share * ((float)upper[right + c] - a);
        b += column.share * ((float)lower[right + c] - b);
        out[c] = (unsigned char)(a + row.share * (b - a) + 0.5f);
    }
}

static tl_status apply_affine(tl_context *ctx, const affine *t, tl_image *image) {
    tl_image moved;
    TL_TRY(tl_image_create(ctx, image->width, image->height, &moved));
    unsigned char *to = moved.pixels;
    for (int row = 0; row < moved.height; row++) {
        for (int column = 0; column < moved.width; column++, to += 3) {
            double y = t->m[0][0] * row + t->m[0][1] * column + t->m[0][2];
            double x = t->m[1][0] * row + t->m[1][1] * column + t->m[1][2];
            sample(image, locate(y, image->height), locate(x, image->width), to);
        }
    }
    tl_image_free(ctx, image);
    *image = moved;
    return TL_OK;
}

/* --- flip and colour ------------------------------------------------------------------------- */

static void flip(tl_image *image) {
    for (int y = 0; y < image->height; y++) {
        unsigned char *left = image->pixels + (ptrdiff_t)y * image->width * 3;
        unsigned char *right = left + (ptrdiff_t)(image->width - 1) * 3;
        for (; left < right; left += 3, right -= 3) {
            unsigned char kept[3];
            memcpy(kept, left, 3);
            memcpy(left, right, 3);
            memcpy(right, kept, 3);
        }
    }
}

/* value = base + factor (value - base), cut to a byte: how Pillow's ImageEnhance blends. */
static void blend_from(tl_image *image, float base, float factor) {
    unsigned char table[256];
    for (int v = 0; v < 256; v++) {
        float blended = base + factor * ((float)v - base);
        table[v] = (unsigned char)(blended <= 0 ? 0 : blended >= 255 ? 255 : blended);
    }
    const size_t count = (size_t)image->width * (size_t)image->height * 3;
    for (size_t i = 0; i < count; i++) image->pixels[i] = table[image->pixels[i]];
}

/* The mean brightness by ITU-R 601 weights, rounded per pixel and at the end as Pillow does. */
static float mean_grey(const tl_image *image) {
    const size_t count = (size_t)image->width * (size_t)image->height;
    const unsigned char *p = image->pixels;
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++, p += 3)
        sum += (p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16;
    return (float)floor((double)sum / (double)count + 0.5);
}

static float random_factor(tl_rng *rng, float reach) {
    return tl_rng_range(rng, reach < 1 ? 1 - reach : 0, 1 + reach);
}

/* --- all together ---------------------------------------------------------------------------- */

tl_status tl_augment_apply(tl_context *ctx, const tl_augment *a, const tl_preprocess *p,
                           const tl_image *in, tl_rng *rng, tl_image *out) {
    if (a->crop > 0)
        TL_TRY(crop(ctx, a, p, in, rng, out));
    else
        TL_TRY(tl_preprocess_fit(ctx, p, in, out));
    if (moves_pixels(a)) {
        affine t = random_affine(a, out->width, out->height, rng);
        tl_status status = apply_affine(ctx, &t, out);
        if (status != TL_OK) {
            tl_image_free(ctx, out);
            return status;
        }
    }
    if (a->flip && tl_rng_uniform(rng) < 0.5f) flip(out);
    if (a->brightness > 0) blend_from(out, 0, random_factor(rng, a->brightness));
    if (a->contrast > 0) blend_from(out, mean_grey(out), random_factor(rng, a->contrast));
    return TL_OK;
}
