/* Pictures for the tests. */
#ifndef TL_TESTS_PICTURES_H
#define TL_TESTS_PICTURES_H

#include "support.h"

#include "image/image.h"

static tl_context *ctx;

/* For programs whose tests each have a context of their own. */
static inline int set_up(void **state) {
    (void)state;
    ctx = make_context(1, NULL);
    return 0;
}

/* Every test gives back all its memory. */
static inline int tear_down(void **state) {
    (void)state;
    size_t current;
    tl_context_memory(ctx, &current, NULL);
    tl_context_free(ctx);
    return current == 0 ? 0 : 1;
}

/* The same bytes as noise() in golden/make_images.py. */
static inline tl_image noise_image(int width, int height, uint64_t seed) {
    tl_image image;
    assert_ok(tl_image_create(ctx, width, height, &image));
    uint64_t state = seed;
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        image.pixels[i] = (unsigned char)(state >> 56);
    }
    return image;
}

/* The content of a file, to be freed with free(). */
static inline unsigned char *read_bytes(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s is missing", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *data = malloc(*size + 1);
    if (fread(data, 1, *size, file) != *size) fail_msg("%s cannot be read", path);
    fclose(file);
    return data;
}

static inline tl_status decode_bytes(const void *data, size_t size, tl_image *out) {
    tl_source source;
    assert_ok(tl_source_from_memory(ctx, "picture", data, size, &source));
    tl_status status = tl_image_decode(&source, out);
    tl_source_close(&source);
    return status;
}

static inline tl_status decode_file(tl_context *context, const char *path, tl_image *out) {
    tl_source source;
    assert_ok(tl_source_open(context, path, &source));
    tl_status status = tl_image_decode(&source, out);
    tl_source_close(&source);
    return status;
}

/* Writes noise as a BMP with 24 bits a pixel. */
static inline void write_noise_bmp(const char *path, int width, int height, uint64_t seed) {
    tl_image image = noise_image(width, height, seed);
    size_t row = ((size_t)width * 3 + 3) / 4 * 4, size = 54 + row * (size_t)height;
    unsigned char *data = calloc(1, size);
    const uint32_t header[] = {(uint32_t)size, 0, 54, 40, (uint32_t)width, (uint32_t)height,
                               1 | 24u << 16};
    memcpy(data, "BM", 2);
    memcpy(data + 2, header, sizeof header);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const unsigned char *rgb = image.pixels + (y * width + x) * 3;
            unsigned char *to = data + 54 + row * (size_t)(height - 1 - y) + (size_t)x * 3;
            to[0] = rgb[2];
            to[1] = rgb[1];
            to[2] = rgb[0];
        }
    }
    write_bytes(path, data, size);
    free(data);
    tl_image_free(ctx, &image);
}

#endif
