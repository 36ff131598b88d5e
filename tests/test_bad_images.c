/* Damaged and hostile pictures: each gets its error and nothing else happens. Run under the address
 * and undefined-behaviour sanitizers by `make asan` and `make ubsan`. */
#include "pictures.h"

#include <sys/stat.h>
#include <time.h>

#include "base/crc32.h"

#define GOOD "tests/golden/images/"
#define BAD "tests/golden/bad_images/"

typedef struct expectation {
    const char *name;
    tl_status status;
    const char *text; /* part of the message */
} expectation;

static const expectation table[] = {
    {"empty.png", TL_TRUNCATED, "is empty"},
    {"text.jpg", TL_UNSUPPORTED, "unknown format"},
    {"webp.jpg", TL_UNSUPPORTED, "WebP"},
    {"gif.png", TL_UNSUPPORTED, "GIF"},
    {"zero_width.png", TL_CORRUPT, "0 x 5"},
    {"huge.png", TL_LIMIT, "65535 x 65535"},
    {"too_little_data.png", TL_CORRUPT, "cannot hold 30000 x 3000"},
    {"inflated.png", TL_LIMIT, "memory"},
    {"chunk_length.png", TL_CORRUPT, "byte 33: a chunk's length"},
    {"no_plte.png", TL_CORRUPT, "PLTE is missing"},
    {"no_ihdr.png", TL_CORRUPT, "IHDR is missing"},
    {"no_idat.png", TL_CORRUPT, "no IDAT"},
    {"bad_crc.png", TL_CORRUPT, "byte 8: a chunk's checksum"},
    {"few_rows.png", TL_CORRUPT, "not enough pixels"},
    {"bad_filter.png", TL_CORRUPT, "invalid filter"},
    {"bad_zlib.png", TL_CORRUPT, "damaged"},
    {"depth.png", TL_CORRUPT, "pixel format"},
    {"critical.png", TL_CORRUPT, "critical chunk"},
    {"apple.png", TL_UNSUPPORTED, "CgBI"},
    {"twelve_bits.jpg", TL_UNSUPPORTED, "12 bits"},
    {"zero_height.jpg", TL_CORRUPT, "45 x 0"},
    {"huge.jpg", TL_LIMIT, "65535 x 65535"},
    {"too_little_data.jpg", TL_TRUNCATED, "blocks"},
    {"arithmetic.jpg", TL_UNSUPPORTED, "marker c9"},
    {"lossless.jpg", TL_UNSUPPORTED, "marker c3"},
    {"components.jpg", TL_UNSUPPORTED, "2 components"},
    {"second_frame.jpg", TL_CORRUPT, "second frame"},
    {"huffman_overflow.jpg", TL_CORRUPT, "more codes than fit"},
    {"huffman_code.jpg", TL_CORRUPT, "more codes than fit"},
    {"no_huffman.jpg", TL_CORRUPT, "Huffman table that is not defined"},
    {"no_quantisation.jpg", TL_CORRUPT, "quantisation table that is not defined"},
    {"no_scan.jpg", TL_CORRUPT, "no scan"},
    {"cut_scan.jpg", TL_TRUNCATED, "blocks"},
    {"no_restarts.jpg", TL_TRUNCATED, "restart markers"},
    {"progressive_bomb.jpg", TL_LIMIT, "scans"},
    {"unknown_four.jpg", TL_UNSUPPORTED, "four components"},
    {"segment_length.jpg", TL_CORRUPT, "length is below 2"},
    {"run_lengths.bmp", TL_UNSUPPORTED, "run lengths"},
    {"compression.bmp", TL_CORRUPT, "77"},
    {"depth.bmp", TL_CORRUPT, "bits a pixel is 5"},
    {"huge.bmp", TL_LIMIT, "65535 x 65535"},
    {"zero.bmp", TL_CORRUPT, "0 x 2"},
    {"lowest.bmp", TL_LIMIT, "2 x 2147483648"},
    {"masks.bmp", TL_CORRUPT, "mask is 5"},
    {"no_mask.bmp", TL_CORRUPT, "mask is 0"},
    {"header.bmp", TL_CORRUPT, "header is 13"},
    {"offset.bmp", TL_CORRUPT, "offset of the pixels is 20"},
    {"far_offset.bmp", TL_TRUNCATED, "last row"},
};

static void bad_pictures_get_their_error(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char path[256];
        tl_image image = {1, 1, (unsigned char *)path};
        snprintf(path, sizeof path, BAD "%s", table[i].name);
        assert_fails(decode_file(ctx, path, &image), table[i].status, table[i].text);
        assert_non_null(strstr(tl_last_error(), path));
        assert_null(image.pixels);
    }
}

/* Within 16 MiB plus four times the file's size, and 100 ms of the processor's time. */
static void rejecting_is_cheap(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char path[256];
        struct stat info;
        tl_image image;
        tl_context *fresh = make_context(1, NULL);
        snprintf(path, sizeof path, BAD "%s", table[i].name);
        assert_int_equal(stat(path, &info), 0);
        clock_t begin = clock();
        assert_fails(decode_file(fresh, path, &image), table[i].status, NULL);
        double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        if (seconds > 0.1 * slower()) fail_msg("%s: refusing took %.3f s", path, seconds);
        size_t peak;
        tl_context_memory(fresh, NULL, &peak);
        assert_true(peak <= (16u << 20) + 4 * (size_t)info.st_size);
        tl_context_free(fresh);
    }
}

static const char *const whole[] = {
    "rgb8.png",     "rgb8_interlaced.png", "palette8_alpha.png", "rgb420.jpg", "progressive.jpg",
    "grey.jpg",     "restart.jpg",         "cmyk.jpg",           "exif6.jpg",  "rgb24.bmp",
    "palette4.bmp", "rgb565.bmp",          "rgba32.bmp",         "core.bmp"};

static void truncation_at_every_byte_is_noticed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        char path[256];
        size_t size;
        snprintf(path, sizeof path, GOOD "%s", whole[i]);
        unsigned char *data = read_bytes(path, &size);
        for (size_t cut = 0; cut < size; cut++) {
            /* A copy of exact size, so that the sanitizer sees every read beyond. */
            unsigned char *part = malloc(cut ? cut : 1);
            tl_image image;
            memcpy(part, data, cut);
            tl_status status = decode_bytes(part, cut, &image);
            if (status != TL_TRUNCATED)
                fail_msg("%s cut to %zu of %zu bytes gave %s: %s", whole[i], cut, size,
                         tl_status_name(status), tl_last_error());
            free(part);
        }
        free(data);
    }
}

/* A picture that decodes in spite of a flipped bit has the right size and is freed. */
static bool survives(const unsigned char *data, size_t size) {
    tl_image image;
    tl_status status = decode_bytes(data, size, &image);
    if (status == TL_OK) {
        assert_true(image.width > 0 && image.height > 0 && image.pixels);
        tl_image_free(ctx, &image);
        return true;
    }
    assert_true(status == TL_TRUNCATED || status == TL_CORRUPT || status == TL_LIMIT ||
                status == TL_UNSUPPORTED);
    return false;
}

static void every_flipped_bit_is_survived(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        char path[256];
        size_t size;
        snprintf(path, sizeof path, GOOD "%s", whole[i]);
        unsigned char *data = read_bytes(path, &size);
        for (size_t bit = 0; bit < size * 8; bit++) {
            data[bit / 8] ^= (unsigned char)(1 << bit % 8);
            bool decoded = survives(data, size);
            /* PNG protects every byte by a checksum. */
            if (decoded && strstr(whole[i], ".png")) fail_msg("%s: bit %zu", whole[i], bit);
            data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        free(data);
    }
}

/* Several bytes replaced at once, and PNG checksums put right so that the damage gets through. */
static void mend_checksums(unsigned char *data, size_t size) {
    for (size_t at = 8; at + 12 <= size;) {
        uint32_t length = (uint32_t)data[at] << 24 | (uint32_t)data[at + 1] << 16 |
                          (uint32_t)data[at + 2] << 8 | data[at + 3];
        if (length > size - at - 12) return;
        uint32_t crc = tl_crc32(0, data + at + 4, length + 4);
        for (int i = 0; i < 4; i++)
            data[at + 8 + length + (size_t)i] = (unsigned char)(crc >> (24 - 8 * i));
        at += length + 12;
    }
}

static void random_damage_is_survived(void **state) {
    (void)state;
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        char path[256];
        size_t size;
        snprintf(path, sizeof path, GOOD "%s", whole[i]);
        unsigned char *data = read_bytes(path, &size), *damaged = malloc(size);
        for (int round = 0; round < 3000; round++) {
            memcpy(damaged, data, size);
            for (int change = 0; change <= round % 7; change++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                damaged[(random >> 33) % size] = (unsigned char)(random >> 20);
            }
            if (strstr(whole[i], ".png")) mend_checksums(damaged, size);
            survives(damaged, size);
        }
        free(data);
        free(damaged);
    }
}

static void extreme_numbers_are_survived(void **state) {
    (void)state;
    static const char *const names[] = {"overread.jpg", "overflow.jpg"};
    for (size_t i = 0; i < 2; i++) {
        char path[256];
        size_t size;
        snprintf(path, sizeof path, BAD "%s", names[i]);
        unsigned char *data = read_bytes(path, &size);
        survives(data, size);
        free(data);
    }
}

static void lack_of_memory_is_reported(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        char path[256];
        snprintf(path, sizeof path, GOOD "%s", whole[i]);
        for (size_t call = 1;; call++) {
            counting_allocator allocator = {0};
            tl_context *counted = make_context(1, &allocator);
            tl_image image = {0};
            size_t size, live = allocator.live;
            unsigned char *data = read_bytes(path, &size);
            tl_source source;
            assert_ok(tl_source_from_memory(counted, "picture", data, size, &source));
            allocator.fail_at = allocator.calls + call;
            tl_status status = tl_image_decode(&source, &image);
            allocator.fail_at = 0;
            tl_source_close(&source);
            free(data);
            if (status == TL_OK)
                tl_image_free(counted, &image);
            else
                assert_int_equal(status, TL_NO_MEMORY);
            assert_int_equal(allocator.live, live);
            tl_context_free(counted);
            if (status == TL_OK) break;
        }
    }
}

#define BAD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        BAD_TEST(bad_pictures_get_their_error),        BAD_TEST(rejecting_is_cheap),
        BAD_TEST(truncation_at_every_byte_is_noticed), BAD_TEST(every_flipped_bit_is_survived),
        BAD_TEST(random_damage_is_survived),           BAD_TEST(extreme_numbers_are_survived),
        BAD_TEST(lack_of_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
