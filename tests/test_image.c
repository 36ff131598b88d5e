/* Decoding, resampling, preprocessing, augmentation and encoding against Pillow, torchvision,
 * PyTorch and Keras's formulas; the expected values come from golden/make_images.py. */
#include "pictures.h"

#include <jansson.h>

#include "base/crc32.h"
#include "image/window.h"
#include "tensor/tensor.h"

#define GOLDEN "tests/golden/"

static uint32_t image_crc(const tl_image *image) {
    return tl_crc32(0, image->pixels, (size_t)image->width * (size_t)image->height * 3);
}

/* --- decoding -------------------------------------------------------------------------------- */

typedef struct decoded {
    const char *name;
    int most;    /* largest difference of a byte */
    double mean; /* mean difference */
} decoded;

static void compare_with_golden(const tl_image *image, const decoded *expected) {
    char path[256];
    snprintf(path, sizeof path, GOLDEN "images/%s.npy", expected->name);
    tl_tensor *golden;
    assert_ok(tl_tensor_load_npy(ctx, path, &golden));
    assert_int_equal(tl_tensor_shape(golden)[0], image->height);
    assert_int_equal(tl_tensor_shape(golden)[1], image->width);
    const unsigned char *want = tl_tensor_const_data(golden);
    int most = 0;
    double sum = 0;
    for (int64_t i = 0; i < tl_tensor_count(golden); i++) {
        int difference = abs(image->pixels[i] - want[i]);
        most = difference > most ? difference : most;
        sum += difference;
    }
    if (most > expected->most || sum / (double)tl_tensor_count(golden) > expected->mean)
        fail_msg("%s differs by up to %d, %g in the mean", expected->name, most,
                 sum / (double)tl_tensor_count(golden));
    tl_tensor_free(golden);
}

static void pictures_decode_as_in_pillow(void **state) {
    (void)state;
    /* PNG and BMP are exact. JPEG leaves the inverse transform and chroma upsampling to the
     * decoder: a few levels between stb_image and libjpeg. With chroma halved across alone,
     * stb_image 2.27 takes the weights of the last column but one in reverse. */
    static const decoded table[] = {
        {"grey1.png", 0, 0},
        {"grey2.png", 0, 0},
        {"grey4.png", 0, 0},
        {"grey8.png", 0, 0},
        {"grey16.png", 0, 0},
        {"grey_alpha.png", 0, 0},
        {"rgb8.png", 0, 0},
        {"rgb8_interlaced.png", 0, 0},
        {"rgb16.png", 0, 0},
        {"rgba.png", 0, 0},
        {"rgba16_interlaced.png", 0, 0},
        {"rgb_key.png", 0, 0},
        {"palette4.png", 0, 0},
        {"palette8_alpha.png", 0, 0},
        {"palette_short.png", 0, 0},
        {"exif6.png", 0, 0},
        {"rgb24.bmp", 0, 0},
        {"grey8.bmp", 0, 0},
        {"bits1.bmp", 0, 0},
        {"top_down.bmp", 0, 0},
        {"core.bmp", 0, 0},
        {"rgbx32.bmp", 0, 0},
        {"rgb565.bmp", 0, 0},
        {"rgba32.bmp", 0, 0},
        {"palette4.bmp", 0, 0},
        {"rgb444.jpg", 3, 0.5},
        {"rgb420.jpg", 4, 0.5},
        {"rgb422.jpg", 14, 0.5},
        {"progressive.jpg", 4, 0.5},
        {"grey.jpg", 1, 0.1},
        {"cmyk.jpg", 3, 0.6},
        {"restart.jpg", 0, 0},
        {"exif1.jpg", 3, 0.5},
        {"exif2.jpg", 3, 0.5},
        {"exif3.jpg", 3, 0.5},
        {"exif4.jpg", 3, 0.5},
        {"exif5.jpg", 3, 0.5},
        {"exif6.jpg", 3, 0.5},
        {"exif7.jpg", 3, 0.5},
        {"exif8.jpg", 3, 0.5},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char path[256];
        tl_image image;
        snprintf(path, sizeof path, GOLDEN "images/%s", table[i].name);
        assert_ok(decode_file(ctx, path, &image));
        compare_with_golden(&image, &table[i]);
        tl_image_free(ctx, &image);
    }
}

static void the_content_decides_the_format(void **state) {
    (void)state;
    size_t size;
    unsigned char *data = read_bytes(GOLDEN "images/rgb8.png", &size);
    char *folder = make_folder(), path[4200];
    snprintf(path, sizeof path, "%s/named.jpg", folder);
    write_bytes(path, data, size);
    tl_image image;
    assert_ok(decode_file(ctx, path, &image));
    assert_int_equal(image.width, 21);
    tl_image_free(ctx, &image);
    remove_folder(folder);
    free(data);
}

/* --- resampling ------------------------------------------------------------------------------ */

static void resizing_equals_pillow_bit_for_bit(void **state) {
    (void)state;
    FILE *file = fopen(GOLDEN "resize.txt", "r");
    assert_non_null(file);
    int width, height, filter, to_width, to_height, cases = 0;
    unsigned seed, crc;
    float box[4];
    while (fscanf(file, "%d %d %u %f %f %f %f %d %d %d %u", &width, &height, &seed, &box[0],
                  &box[1], &box[2], &box[3], &filter, &to_width, &to_height, &crc) == 11) {
        tl_image in = noise_image(width, height, seed), out;
        assert_ok(tl_image_create(ctx, to_width, to_height, &out));
        assert_ok(tl_image_resample(ctx, &in, box, (tl_filter)filter, true, &out));
        if (image_crc(&out) != crc)
            fail_msg("%d x %d to %d x %d, filter %d, picture %u", width, height, to_width,
                     to_height, filter, seed);
        tl_image_free(ctx, &in);
        tl_image_free(ctx, &out);
        cases++;
    }
    fclose(file);
    assert_int_equal(cases, 360);
}

static void a_window_is_part_of_the_whole(void **state) {
    (void)state;
    const float box[4] = {0, 0, 61, 47};
    for (int filter = TL_FILTER_NEAREST; filter <= TL_FILTER_BICUBIC; filter++) {
        tl_image in = noise_image(61, 47, 5), whole, part;
        assert_ok(tl_image_create(ctx, 40, 90, &whole));
        assert_ok(tl_image_create(ctx, 11, 13, &part));
        const tl_window window = {7, 70, 40, 90};
        assert_ok(tl_image_resample(ctx, &in, box, (tl_filter)filter, true, &whole));
        assert_ok(tl_image_resample_window(ctx, &in, box, (tl_filter)filter, true, &window, &part));
        for (int y = 0; y < 13; y++)
            assert_memory_equal(part.pixels + y * 33, whole.pixels + ((70 + y) * 40 + 7) * 3, 33);
        tl_image_free(ctx, &in);
        tl_image_free(ctx, &whole);
        tl_image_free(ctx, &part);
    }
}

static void without_antialias_it_is_plain_interpolation(void **state) {
    (void)state;
    static const char *const names[] = {"stretch_smaller", "stretch_larger"};
    tl_preprocess p;
    for (int i = 0; i < 2; i++) {
        char path[256];
        tl_tensor *golden;
        tl_image in = noise_image(25, 18, 9), out;
        snprintf(path, sizeof path, GOLDEN "%s.npy", names[i]);
        assert_ok(tl_tensor_load_npy(ctx, path, &golden));
        int height = (int)tl_tensor_shape(golden)[0], width = (int)tl_tensor_shape(golden)[1];
        assert_ok(tl_preprocess_preset("keras-tf", width, height, &p));
        assert_ok(tl_preprocess_fit(ctx, &p, &in, &out));
        /* PyTorch keeps floats; two roundings to 8 bits lie between. */
        const float *want = tl_tensor_const_f32(golden);
        for (int64_t k = 0; k < tl_tensor_count(golden); k++)
            assert_true(fabsf((float)out.pixels[k] - want[k]) <= 1.01f);
        tl_image_free(ctx, &in);
        tl_image_free(ctx, &out);
        tl_tensor_free(golden);
    }
}

static void a_box_must_lie_inside(void **state) {
    (void)state;
    static const float boxes[][4] = {{-1, 0, 4, 4},  {0, 0, 9, 4},       {0, 0, 4, 8.5f},
                                     {3, 0, 3, 4},   {0, 4, 4, 1},       {NAN, 0, 4, 4},
                                     {0, 0, 4, NAN}, {0, 0, INFINITY, 4}};
    tl_image in = noise_image(8, 8, 1), out = noise_image(4, 4, 1);
    for (size_t i = 0; i < sizeof boxes / sizeof *boxes; i++)
        assert_fails(tl_image_resample(ctx, &in, boxes[i], TL_FILTER_BILINEAR, true, &out),
                     TL_INVALID_ARGUMENT, "box");
    tl_image_free(ctx, &in);
    tl_image_free(ctx, &out);
}

/* --- preprocessing --------------------------------------------------------------------------- */

static void geometry_equals_the_references(void **state) {
    (void)state;
    FILE *file = fopen(GOLDEN "fit.txt", "r");
    assert_non_null(file);
    char preset[32];
    int width, height, size, cases = 0;
    unsigned seed, crc;
    while (fscanf(file, "%31s %d %d %u %d %u", preset, &width, &height, &seed, &size, &crc) == 6) {
        tl_image in = noise_image(width, height, seed), out;
        tl_preprocess p;
        assert_ok(tl_preprocess_preset(preset, size, size, &p));
        assert_ok(tl_preprocess_fit(ctx, &p, &in, &out));
        if (image_crc(&out) != crc) fail_msg("%s of %d x %d to %d", preset, width, height, size);
        tl_image_free(ctx, &in);
        tl_image_free(ctx, &out);
        cases++;
    }
    fclose(file);
    assert_int_equal(cases, 80);
}

static void normalisation_follows_each_framework(void **state) {
    (void)state;
    static const struct {
        const char *preset;
        double expected[3]; /* of the pixel (10, 100, 200) */
    } table[] = {
        {"torchvision",
         {(10 / 255.0 - 0.485) / 0.229, (100 / 255.0 - 0.456) / 0.224,
          (200 / 255.0 - 0.406) / 0.225}},
        {"efficientnet-lite", {(10 - 127) / 128.0, (100 - 127) / 128.0, (200 - 127) / 128.0}},
        {"keras-caffe", {200 - 103.939, 100 - 116.779, 10 - 123.68}},
        {"keras-tf", {10 / 127.5 - 1, 100 / 127.5 - 1, 200 / 127.5 - 1}},
    };
    unsigned char pixel[3] = {10, 100, 200};
    tl_image image = {1, 1, pixel};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tl_preprocess p;
        float out[3];
        assert_ok(tl_preprocess_preset(table[i].preset, 1, 1, &p));
        tl_preprocess_normalize(ctx, &p, &image, out);
        for (int c = 0; c < 3; c++)
            assert_true(fabs((double)out[c] - table[i].expected[c]) <= 2e-5);
    }
}

static void presets_are_known_by_name(void **state) {
    (void)state;
    tl_preprocess p;
    assert_fails(tl_preprocess_preset("imagenet", 224, 224, &p), TL_NOT_FOUND, "keras-caffe");
    assert_fails(tl_preprocess_preset("torchvision", 0, 224, &p), TL_INVALID_ARGUMENT, "0 x 224");
    assert_ok(tl_preprocess_preset("torchvision", 299, 299, &p));
    assert_int_equal(p.resize, 342);
    assert_ok(tl_preprocess_preset("torchvision", 224, 224, &p));
    assert_int_equal(p.resize, 256);
}

static void extreme_pictures_are_fitted(void **state) {
    (void)state;
    static const char *const presets[] = {"torchvision", "efficientnet-lite", "keras-tf"};
    static const int sizes[][2] = {{1, 1}, {1, 500}, {500, 1}, {2, 3}, {3000, 5}};
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            tl_image in = noise_image(sizes[k][0], sizes[k][1], 3), out;
            tl_preprocess p;
            assert_ok(tl_preprocess_preset(presets[i], 32, 32, &p));
            assert_ok(tl_preprocess_fit(ctx, &p, &in, &out));
            assert_int_equal(out.width, 32);
            tl_image_free(ctx, &in);
            tl_image_free(ctx, &out);
        }
    }
}

static void settings_survive_json(void **state) {
    (void)state;
    static const char *const presets[] = {"torchvision", "efficientnet-lite", "keras-caffe",
                                          "keras-tf"};
    for (size_t i = 0; i < 4; i++) {
        tl_preprocess p, back;
        assert_ok(tl_preprocess_preset(presets[i], 224, 200, &p));
        json_t *json = tl_preprocess_to_json(&p);
        char *text = json_dumps(json, 0);
        json_decref(json);
        json = json_loads(text, 0, NULL);
        assert_ok(tl_preprocess_from_json(json, &back));
        assert_int_equal(back.width, 224);
        assert_int_equal(back.height, 200);
        assert_int_equal(back.fit, p.fit);
        assert_int_equal(back.resize, p.resize);
        assert_int_equal(back.filter, p.filter);
        assert_int_equal(back.antialias, p.antialias);
        assert_int_equal(back.bgr, p.bgr);
        assert_memory_equal(back.mean, p.mean, sizeof p.mean);
        assert_memory_equal(back.std, p.std, sizeof p.std);
        json_decref(json);
        free(text);
    }
}

static void hostile_json_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *key, *value;
    } table[] = {{"width", "0"},        {"width", "1e9"},         {"height", "-5"},
                 {"fit", "\"none\""},   {"resize", "3"},          {"filter", "7"},
                 {"channels", "null"},  {"mean", "[1, 2]"},       {"std", "[1, 0, 1]"},
                 {"std", "[1, 1, -2]"}, {"antialias", "\"yes\""}, {"mean", "[1, 2, \"3\"]"}};
    tl_preprocess p, back;
    assert_ok(tl_preprocess_preset("torchvision", 224, 224, &p));
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        json_t *json = tl_preprocess_to_json(&p);
        json_object_set_new(json, table[i].key, json_loads(table[i].value, JSON_DECODE_ANY, NULL));
        assert_fails(tl_preprocess_from_json(json, &back), TL_CORRUPT, table[i].key);
        json_object_del(json, table[i].key);
        assert_fails(tl_preprocess_from_json(json, &back), TL_CORRUPT, table[i].key);
        json_decref(json);
    }
    assert_fails(tl_preprocess_from_json(NULL, &back), TL_CORRUPT, "object");
}

/* --- augmentation ---------------------------------------------------------------------------- */

static void specifications_are_parsed(void **state) {
    (void)state;
    tl_augment a;
    assert_ok(tl_augment_parse("flip,rotation:40,shift:0.2,shear:0.2,zoom:0.25,crop:0.08,"
                               "brightness:0.5,contrast:0.125",
                               &a));
    assert_true(a.flip && a.rotation == 40 && a.shift_x == 0.2f && a.shift_y == 0.2f);
    assert_true(a.shear == 0.2f && a.zoom == 0.25f && a.crop == 0.08f);
    assert_true(a.brightness == 0.5f && a.contrast == 0.125f);
    assert_ok(tl_augment_parse("shift_x:0.1", &a));
    assert_true(a.shift_x == 0.1f && a.shift_y == 0 && tl_augment_active(&a));
    assert_ok(tl_augment_parse(NULL, &a));
    assert_false(tl_augment_active(&a));
    assert_ok(tl_augment_parse("", &a));
    assert_false(tl_augment_active(&a));
}

static void bad_specifications_name_the_part(void **state) {
    (void)state;
    static const char *const table[][2] = {{"flop", "flop"},          {"flip,turn:3", "turn:3"},
                                           {"rotation", "rotation:"}, {"rotation:", "rotation:"},
                                           {"rotation:181", "181"},   {"zoom:1", "zoom:1"},
                                           {"zoom:-0.1", "-0.1"},     {"shift:nan", "nan"},
                                           {"flip:1", "flip:1"},      {"flip,,zoom:0.1", "choices"},
                                           {"crop:0.08x", "0.08x"},   {" flip", "choices"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tl_augment a;
        assert_fails(tl_augment_parse(table[i][0], &a), TL_INVALID_ARGUMENT, table[i][1]);
        assert_false(tl_augment_active(&a));
    }
}

/* Augments `in` without resizing it. */
static tl_image augmented(const char *text, const tl_image *in, uint64_t sample) {
    tl_augment a;
    tl_preprocess p;
    tl_image out;
    assert_ok(tl_augment_parse(text, &a));
    assert_ok(tl_preprocess_preset("keras-tf", in->width, in->height, &p));
    p.antialias = true; /* a random crop is then Pillow's resize of a box */
    tl_rng rng = tl_rng_make(11, TL_RNG_AUGMENT, 3, sample);
    assert_ok(tl_augment_apply(ctx, &a, &p, in, &rng, &out));
    return out;
}

static void flipping_mirrors_half_of_the_pictures(void **state) {
    (void)state;
    tl_image in = noise_image(9, 4, 2);
    int flipped = 0;
    for (uint64_t sample = 0; sample < 200; sample++) {
        tl_image out = augmented("flip", &in, sample);
        bool same = memcmp(in.pixels, out.pixels, 9 * 4 * 3) == 0;
        for (int y = 0; !same && y < 4; y++)
            for (int x = 0; x < 9; x++)
                assert_memory_equal(out.pixels + (y * 9 + x) * 3, in.pixels + (y * 9 + 8 - x) * 3,
                                    3);
        flipped += !same;
        tl_image_free(ctx, &out);
    }
    assert_in_range(flipped, 70, 130);
    tl_image_free(ctx, &in);
}

static void affine_maps_equal_keras(void **state) {
    (void)state;
    static const char *const specs[] = {"rotation:40", "shift:0.2", "shear:20", "zoom:0.2",
                                        "rotation:40,shift:0.2,shear:0.2,zoom:0.2"};
    tl_image in;
    assert_ok(tl_image_create(ctx, 28, 20, &in));
    for (int y = 0; y < 20; y++) {
        for (int x = 0; x < 28; x++) {
            unsigned char *p = in.pixels + (y * 28 + x) * 3;
            p[0] = (unsigned char)(255.0 * x / 27);
            p[1] = (unsigned char)(255.0 * y / 19);
            p[2] = (unsigned char)(127 + 100 * sin(x / 5.0 + y / 7.0));
        }
    }
    for (uint64_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        char path[256];
        tl_tensor *golden;
        snprintf(path, sizeof path, GOLDEN "affine%d.npy", (int)i);
        assert_ok(tl_tensor_load_npy(ctx, path, &golden));
        tl_image out = augmented(specs[i], &in, i);
        const float *want = tl_tensor_const_f32(golden);
        for (int k = 0; k < 28 * 20 * 3; k++)
            if (fabsf((float)out.pixels[k] - want[k]) > 0.51f)
                fail_msg("%s: byte %d is %d, Keras has %g", specs[i], k, out.pixels[k],
                         (double)want[k]);
        tl_image_free(ctx, &out);
        tl_tensor_free(golden);
    }
    tl_image_free(ctx, &in);
}

static void colour_and_crop_equal_pillow(void **state) {
    (void)state;
    FILE *file = fopen(GOLDEN "augment.txt", "r");
    assert_non_null(file);
    tl_image in = noise_image(31, 23, 4);
    char spec[64];
    unsigned sample, crc;
    int cases = 0;
    while (fscanf(file, "%63s %u %u", spec, &sample, &crc) == 3) {
        tl_image out = augmented(spec, &in, sample);
        if (image_crc(&out) != crc) fail_msg("%s of sample %u", spec, sample);
        tl_image_free(ctx, &out);
        cases++;
    }
    fclose(file);
    assert_int_equal(cases, 20);
    tl_image_free(ctx, &in);
}

static void augmentation_depends_on_its_key_alone(void **state) {
    (void)state;
    const char *spec = "flip,rotation:40,shift:0.2,shear:0.2,zoom:0.2,crop:0.08,brightness:0.2,"
                       "contrast:0.2";
    tl_image in = noise_image(40, 30, 6);
    tl_image first = augmented(spec, &in, 1), again = augmented(spec, &in, 1);
    tl_image other = augmented(spec, &in, 2);
    assert_memory_equal(first.pixels, again.pixels, 40 * 30 * 3);
    assert_memory_not_equal(first.pixels, other.pixels, 40 * 30 * 3);
    tl_image_free(ctx, &in);
    tl_image_free(ctx, &first);
    tl_image_free(ctx, &again);
    tl_image_free(ctx, &other);
}

static void extreme_pictures_are_augmented(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 400}, {400, 1}, {2, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tl_image in = noise_image(sizes[i][0], sizes[i][1], 6);
        for (uint64_t sample = 0; sample < 50; sample++) {
            tl_image out = augmented("flip,rotation:180,shift:1,shear:89,zoom:0.99,crop:0.01,"
                                     "brightness:10,contrast:10",
                                     &in, sample);
            tl_image_free(ctx, &out);
        }
        tl_image_free(ctx, &in);
    }
}

/* --- encoding -------------------------------------------------------------------------------- */

static void thumbnails_can_be_read_back(void **state) {
    (void)state;
    tl_image in, out;
    unsigned char *data;
    size_t size;
    assert_ok(decode_file(ctx, GOLDEN "images/rgb444.jpg", &in));
    assert_ok(tl_image_encode_jpeg(ctx, &in, 95, &data, &size));
    assert_ok(decode_bytes(data, size, &out));
    assert_int_equal(out.width, in.width);
    assert_int_equal(out.height, in.height);
    double sum = 0;
    const int count = in.width * in.height * 3;
    for (int i = 0; i < count; i++) sum += abs(in.pixels[i] - out.pixels[i]);
    assert_true(sum / count < 3);
    tl_free(ctx, data);
    assert_fails(tl_image_encode_jpeg(ctx, &in, 0, &data, &size), TL_INVALID_ARGUMENT, "quality");
    assert_null(data);
    tl_image_free(ctx, &in);
    tl_image_free(ctx, &out);
}

/* Where the decoder leaves out detail that fitting averages away, little changes; and the picture
 * is upright before its sides are compared. (These pictures are small and full of detail, so that
 * the last row or column of a coarser one weighs much: photographs differ by half a level.) */
static void expect_fitted(const char *name, const tl_preprocess *p, double mean) {
    char path[256];
    snprintf(path, sizeof path, GOLDEN "images/%s", name);
    tl_source source;
    tl_image whole, apart, fitted;
    assert_ok(tl_source_open(ctx, path, &source));
    assert_ok(tl_image_decode(&source, &whole));
    assert_ok(tl_preprocess_fit(ctx, p, &whole, &apart));
    assert_ok(tl_image_decode_fitted(&source, p, &fitted));
    assert_int_equal(fitted.width, p->width);
    assert_int_equal(fitted.height, p->height);
    double sum = 0;
    const int count = p->width * p->height * 3;
    for (int i = 0; i < count; i++) sum += abs(fitted.pixels[i] - apart.pixels[i]);
    if (sum / count > mean) fail_msg("%s differs by %g in the mean", name, sum / count);
    tl_image_free(ctx, &whole);
    tl_image_free(ctx, &apart);
    tl_image_free(ctx, &fitted);
    tl_source_close(&source);
}

static void fitting_while_decoding_changes_little(void **state) {
    (void)state;
    static const char *const names[] = {
        "rgb420.jpg", "rgb422.jpg", "progressive.jpg", "restart.jpg", "grey.jpg",
        "cmyk.jpg",   "exif1.jpg",  "exif6.jpg",       "rgb8.png",    "rgb24.bmp"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (int side = 3; side <= 12; side += 3) {
            tl_preprocess p;
            assert_ok(tl_preprocess_preset("torchvision", side, side, &p));
            expect_fitted(names[i], &p, 10);
            p.antialias = false; /* every pixel counts */
            expect_fitted(names[i], &p, 0);
            p = (tl_preprocess){.width = side,
                                .height = 2 * side,
                                .filter = TL_FILTER_BICUBIC,
                                .antialias = true,
                                .std = {1, 1, 1}};
            expect_fitted(names[i], &p, 10);
        }
    }
}

#define IMAGE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IMAGE_TEST(pictures_decode_as_in_pillow),
        IMAGE_TEST(the_content_decides_the_format),
        IMAGE_TEST(resizing_equals_pillow_bit_for_bit),
        IMAGE_TEST(a_window_is_part_of_the_whole),
        IMAGE_TEST(without_antialias_it_is_plain_interpolation),
        IMAGE_TEST(a_box_must_lie_inside),
        IMAGE_TEST(geometry_equals_the_references),
        IMAGE_TEST(normalisation_follows_each_framework),
        IMAGE_TEST(fitting_while_decoding_changes_little),
        IMAGE_TEST(presets_are_known_by_name),
        IMAGE_TEST(extreme_pictures_are_fitted),
        IMAGE_TEST(settings_survive_json),
        IMAGE_TEST(hostile_json_is_refused),
        IMAGE_TEST(specifications_are_parsed),
        IMAGE_TEST(bad_specifications_name_the_part),
        IMAGE_TEST(flipping_mirrors_half_of_the_pictures),
        IMAGE_TEST(affine_maps_equal_keras),
        IMAGE_TEST(colour_and_crop_equal_pillow),
        IMAGE_TEST(augmentation_depends_on_its_key_alone),
        IMAGE_TEST(extreme_pictures_are_augmented),
        IMAGE_TEST(thumbnails_can_be_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
