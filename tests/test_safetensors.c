/* The safetensors reader and writer. */
#include "support.h"

#include "hostile.h"

#include <sys/stat.h>

/* --- building --------------------------------------------------------------------------------- */

/* A file with this header and `data` zero bytes. */
static void build(bytes *b, const char *header, size_t data) {
    put_number(b, strlen(header), 8);
    put_text(b, header);
    for (size_t i = 0; i < data; i++) put_number(b, 0, 1);
}

/* A header that repeats a piece, and no data. */
static void build_repeated(bytes *b, const char *before, const char *piece, size_t times,
                           const char *after) {
    put_number(b, strlen(before) + strlen(piece) * times + strlen(after), 8);
    put_text(b, before);
    put_repeated(b, piece, times);
    put_text(b, after);
}

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"

static void build_good(bytes *b) {
    build(b,
          "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\\u00e4\\\"\\n\"}," TENSOR(
              "weight", "F32", "[2,2]", "0", "16") "," TENSOR("half", "F16", "[2]", "20", "24") //
          "," TENSOR("brain", "BF16", "[2]", "16", "20") "," TENSOR("none", "I64", "[0,3]", "24",
                                                                    "24") "}  ",
          0);
    static const float values[4] = {1, -2.5f, 3e-20f, 4};
    put(b, values, sizeof values);
    put_number(b, 0xc0003f80, 4); /* bf16 1, -2 */
    put_number(b, 0xfbff3c00, 4); /* f16 1, -65504 */
}

/* --- bad files -------------------------------------------------------------------------------- */

static void bad_empty(bytes *b) {
    (void)b;
}
static void bad_seven(bytes *b) {
    put_text(b, "\x01\x02\x03\x04\x05\x06\x07");
}
static void bad_length_huge(bytes *b) {
    put_number(b, UINT64_C(1) << 63, 8);
    put_text(b, "{}");
}
static void bad_length_past(bytes *b) {
    put_number(b, 100, 8);
    put_text(b, "{}");
}
static void bad_length_zero(bytes *b) {
    put_number(b, 0, 8);
    put_number(b, 0, 8);
}
static void bad_utf8(bytes *b) {
    build(b, "{\"\xff\xfe\":1}", 0);
}
static void bad_first(bytes *b) {
    build(b, "[1, 2]", 0);
}
static void bad_deep(bytes *b) {
    put_number(b, 200005, 8);
    put_text(b, "{\"a\":");
    put_repeated(b, "[", 100000);
    put_repeated(b, "]", 100000);
}
static void bad_duplicate(bytes *b) {
    build(b, "{" TENSOR("a", "U8", "[1]", "0", "1") "," TENSOR("a", "U8", "[1]", "1", "2") "}", 2);
}
static void bad_overlap(bytes *b) {
    build(b, "{" TENSOR("a", "U8", "[4]", "0", "4") "," TENSOR("b", "U8", "[4]", "2", "6") "}", 6);
}
static void bad_hole(bytes *b) {
    build(b, "{" TENSOR("a", "U8", "[4]", "0", "4") "," TENSOR("b", "U8", "[4]", "6", "10") "}",
          10);
}
static void bad_hole_first(bytes *b) {
    build(b, "{" TENSOR("a", "U8", "[4]", "1", "5") "}", 5);
}
static void bad_trailing(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[2]", "0", "8") "}", 9);
}
static void bad_short(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[2]", "0", "8") "}", 7);
}
static void bad_backwards(bytes *b) {
    build(b, "{" TENSOR("a", "U8", "[1]", "5", "4") "}", 8);
}
static void bad_span(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[3]", "0", "8") "}", 8);
}
static void bad_product(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 0);
}
static void bad_product_zero(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[18446744073709551615,2,0]", "0", "0") "}", 0);
}
static void bad_product_hidden(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[9223372036854775807,2,0]", "0", "0") "}", 0);
}
static void bad_product_bytes(bytes *b) {
    build(b, "{" TENSOR("a", "F64", "[2305843009213693952]", "0", "0") "}", 0);
}
static void bad_negative(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[-2]", "0", "8") "}", 8);
}
static void bad_fraction(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[2.0]", "0", "8") "}", 8);
}
static void bad_offset_negative(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[2]", "-8", "0") "}", 8);
}
static void bad_offset_three(bytes *b) {
    build(b, "{" TENSOR("a", "F32", "[2]", "0", "4,8") "}", 8);
}
static void bad_rank(bytes *b) {
    build(b, "{" TENSOR("a", "U8", "[1,1,1,1,1,1,1]", "0", "1") "}", 1);
}
static void bad_dtype(bytes *b) {
    build(b, "{" TENSOR("a", "F8_E5M2", "[1]", "0", "1") "}", 1);
}
static void bad_dtype_number(bytes *b) {
    build(b, "{\"a\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
}
static void bad_fields(bytes *b) {
    build(b, "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1);
}
static void bad_entry(bytes *b) {
    build(b, "{\"layer\":[1,2,3]}", 0);
}
static void bad_metadata(bytes *b) {
    build(b, "{\"__metadata__\":[1]}", 0);
}
static void bad_metadata_value(bytes *b) {
    build(b, "{\"__metadata__\":{\"epochs\":7}}", 0);
}
static void bad_nul(bytes *b) {
    build(b, "{\"a\\u0000b\":{}}", 0);
}
static void bad_garbage(bytes *b) {
    build(b, "{}x", 0);
}
static void bad_unended(bytes *b) {
    build(b, "{\"a", 0);
}
static void bad_ten_million(bytes *b) {
    build_repeated(b, "{", "\"a\":0,", 9999999, "\"a\":0}");
}
static void bad_million_dims(bytes *b) {
    build_repeated(b, "{\"a\":{\"dtype\":\"U8\",\"shape\":[", "1,", 480000,
                   "1],\"data_offsets\":[0,1]}}");
}
/* The dearest JSON for its size, of 1 MB. */
static void bad_objects(bytes *b) {
    build_repeated(b, "{\"a\":[", "{},", 330000, "{}]}");
}
static void bad_unknown(bytes *b) {
    put_text(b, "This is no weights file at all.");
}
static void bad_hdf5(bytes *b) {
    put_text(b, "\x89HDF\r\n\x1a\n");
    put_number(b, UINT64_MAX, 8);
}

static const bad_file bad_files[] = {
    {"0 bytes", bad_empty, TL_TRUNCATED, "has 0 bytes"},
    {"7 bytes", bad_seven, TL_TRUNCATED, "has 7 bytes"},
    {"header length 2^63", bad_length_huge, TL_LIMIT, "byte 0: header length 9223372036854775808"},
    {"header length past the file", bad_length_past, TL_TRUNCATED, "byte 0: header length 100"},
    {"header length 0", bad_length_zero, TL_CORRUPT, "byte 8"},
    {"not UTF-8", bad_utf8, TL_CORRUPT, "byte 10"},
    {"first byte not a brace", bad_first, TL_CORRUPT, "byte 8: the header begins with \"[\""},
    {"100,000 levels", bad_deep, TL_LIMIT, "byte 76: the header nests deeper than 64"},
    {"duplicate key", bad_duplicate, TL_CORRUPT, "duplicate"},
    {"overlap", bad_overlap, TL_CORRUPT, "overlap with tensor \"b\""},
    {"hole", bad_hole, TL_CORRUPT, "hole before tensor \"b\""},
    {"hole at the start", bad_hole_first, TL_CORRUPT, "hole before tensor \"a\""},
    {"trailing byte", bad_trailing, TL_CORRUPT, "1 bytes after the last tensor"},
    {"one byte short", bad_short, TL_TRUNCATED, "tensor \"a\": data ends at 8"},
    {"end before begin", bad_backwards, TL_CORRUPT, "data_offsets [5, 4]"},
    {"shape x dtype is not the span", bad_span, TL_CORRUPT, "shape [3] of f32 needs 12 bytes"},
    {"product overflow", bad_product, TL_CORRUPT, "[4294967296, 4294967296] overflows"},
    {"[2^64-1, 2, 0]", bad_product_zero, TL_CORRUPT, "too big integer"},
    {"[2^63-1, 2, 0]", bad_product_hidden, TL_CORRUPT, "overflows"},
    {"byte count overflow", bad_product_bytes, TL_CORRUPT, "overflows"},
    {"negative dimension", bad_negative, TL_CORRUPT, "tensor \"a\": shape: dimension 0"},
    {"fractional dimension", bad_fraction, TL_CORRUPT, "tensor \"a\": shape: dimension 0"},
    {"negative offset", bad_offset_negative, TL_CORRUPT, "tensor \"a\": data_offsets"},
    {"three offsets", bad_offset_three, TL_CORRUPT, "tensor \"a\": data_offsets"},
    {"rank 7", bad_rank, TL_LIMIT, "shape has 7 dimensions, at most 6"},
    {"unknown dtype", bad_dtype, TL_UNSUPPORTED, "dtype \"F8_E5M2\""},
    {"dtype a number", bad_dtype_number, TL_CORRUPT, "tensor \"a\": dtype"},
    {"no shape", bad_fields, TL_CORRUPT, "tensor \"a\": shape is missing"},
    {"entry no object", bad_entry, TL_CORRUPT, "tensor \"layer\": is no JSON object"},
    {"metadata no object", bad_metadata, TL_CORRUPT, "__metadata__ is no JSON object"},
    {"metadata no text", bad_metadata_value, TL_CORRUPT, "__metadata__: value of \"epochs\""},
    {"NUL in a name", bad_nul, TL_CORRUPT, "byte 1"},
    {"garbage after the header", bad_garbage, TL_CORRUPT, "byte 1"},
    {"string without end", bad_unended, TL_CORRUPT, "byte 1"},
    {"10 million entries", bad_ten_million, TL_LIMIT, "more than 1000000 tensors"},
    {"480,000 dimensions", bad_million_dims, TL_LIMIT, "bytes of memory"},
    {"330,000 objects", bad_objects, TL_LIMIT, "bytes of memory"},
    {"text", bad_unknown, TL_UNSUPPORTED, "byte 0: the file is of an unknown format"},
    {"HDF5", bad_hdf5, TL_TRUNCATED, "HDF5"},
};

static void bad_files_are_refused(void **state) {
    (void)state;
    check_bad_files(bad_files, sizeof bad_files / sizeof bad_files[0]);
}

/* Whatever the reader lets through stays within the limit: the estimate must never be below what
 * jansson takes. Kinds of JSON, each just small enough to be let through. */
static void the_memory_estimate_holds(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "{},",          "[],",    "0,",         "1.5,",
        "\"\",",        "[[0]],", "{\"k\":0},", "{\"k\":\"\",\"m\":[0,0]},",
        "\"abcdefgh\","};
    tl_context *ctx = hostile_context();
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t accepted = 0;
        for (size_t times = 256; times <= 256u << 12; times *= 2) {
            bytes b = {0};
            build_repeated(&b, "{\"a\":[", pieces[i], times, "0]}");
            size_t before = hostile.live;
            hostile.peak = before;
            uint64_t sum;
            tl_status status = open_and_read(ctx, b.data, b.size, &sum);
            if (status == TL_CORRUPT) accepted = times;
            if (status != TL_LIMIT) assert_int_equal(status, TL_CORRUPT);
            if (hostile.peak - before > 16 * 1024 * 1024 + 4 * b.size) {
                fail_msg("%zu times %s: %zu bytes for a file of %zu", times, pieces[i],
                         hostile.peak - before, b.size);
            }
            free(b.data);
            if (accepted != times) break;
        }
        assert_true(accepted > 0);
    }
    tl_context_free(ctx);
}

static void small_faults_do_no_harm(void **state) {
    (void)state;
    bytes good = {0};
    build_good(&good);
    check_every_truncation(&good);
    assert_true(check_every_bit_flip(&good) > good.size);
    check_every_allocation(&good);
    free(good.data);
}

/* --- good files ------------------------------------------------------------------------------- */

static void reads_what_is_there(void **state) {
    (void)state;
    bytes good = {0};
    build_good(&good);
    tl_context *ctx = hostile_context();
    tl_weights *weights = NULL;
    assert_ok(open_bytes(ctx, good.data, good.size, &weights));
    assert_string_equal(weights->format, "safetensors");
    assert_int_equal(weights->count, 4);
    assert_string_equal(weights->item[0].name, "weight");
    assert_int_equal(tl_weights_find(weights, "none"), 3);
    assert_int_equal(tl_weights_find(weights, "nothing"), -1);
    assert_string_equal(tl_weights_metadata(weights, "format"), "pt");
    assert_string_equal(tl_weights_metadata(weights, "note"), "\xc3\xa4\"\n");
    assert_null(tl_weights_metadata(weights, "weight"));
    float out[4];
    assert_ok(tl_weights_read(weights, tl_weights_find(weights, "weight"), out));
    assert_true(out[0] == 1 && out[1] == -2.5f && out[2] == 3e-20f && out[3] == 4);
    assert_ok(tl_weights_read(weights, tl_weights_find(weights, "half"), out));
    assert_true(out[0] == 1 && out[1] == -65504);
    assert_ok(tl_weights_read(weights, tl_weights_find(weights, "brain"), out));
    assert_true(out[0] == 1 && out[1] == -2);
    assert_ok(tl_weights_read(weights, 3, out));
    tl_weights_free(weights);
    tl_context_free(ctx);
    free(good.data);
}

/* Also the file that other readers see: header padded, data aligned, tensors in order. */
static void writes_and_reads_back(void **state) {
    (void)state;
    char *folder = make_folder();
    char path[4200];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    tl_context *ctx = hostile_context();
    size_t before = hostile.live;
    float big[70000], scalar = -7;
    uint64_t seed = 1;
    for (int i = 0; i < 70000; i++) big[i] = support_random(&seed);
    static const unsigned char bytes_of_half[2] = {0x00, 0xc1}; /* -2.5 */
    const tl_safetensors_entry entries[] = {
        {"z.big", tl_shape_make(3, INT64_C(7), INT64_C(100), INT64_C(100)), big, TL_F32, NULL,
         NULL},
        {"a \"quoted\"", tl_shape_make(0), &scalar, TL_F32, NULL, NULL},
        {"empty", tl_shape_make(2, INT64_C(0), INT64_C(4)), NULL, TL_F32, NULL, NULL},
        {"half", tl_shape_make(1, INT64_C(1)), bytes_of_half, TL_F16, NULL, NULL}};
    const char *const keys[] = {"arch", "classes"}, *const values[] = {"tiny", "[\"c\xc3\xa4t\"]"};
    assert_ok(tl_safetensors_write(ctx, path, 4, entries, 2, keys, values));
    tl_source source;
    tl_weights *weights = NULL;
    assert_ok(tl_source_open(ctx, path, &source));
    assert_ok(tl_weights_open(ctx, &source, &weights));
    assert_int_equal(weights->count, 4);
    assert_int_equal(weights->item[0].offset % 64, 0);
    assert_string_equal(weights->item[1].name, "a \"quoted\"");
    assert_int_equal(weights->item[1].offset, weights->item[0].offset + sizeof big);
    assert_string_equal(tl_weights_metadata(weights, "classes"), values[1]);
    float *out = malloc(sizeof big);
    assert_ok(tl_weights_read(weights, 0, out));
    assert_memory_equal(out, big, sizeof big);
    assert_ok(tl_weights_read(weights, 1, out));
    assert_true(out[0] == scalar);
    assert_int_equal(weights->item[3].dtype, TL_F16);
    assert_ok(tl_weights_read(weights, 3, out));
    assert_true(out[0] == -2.5f);
    free(out);
    tl_weights_free(weights);
    assert_int_equal(hostile.live, before);
    tl_context_free(ctx);
    remove_folder(folder);
}

static void writing_refuses_what_cannot_be_read(void **state) {
    (void)state;
    char *folder = make_folder();
    char path[4200];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    tl_context *ctx = hostile_context();
    size_t before = hostile.live;
    float value = 1;
    const tl_shape one = tl_shape_make(1, INT64_C(1));
    const char *const key = "k", *const twice[] = {"k", "k"}, *const wrong = "\xff";
    const char *const texts[] = {"a", "b"};
    const tl_safetensors_entry same[] = {{"a", one, &value, TL_F32, NULL, NULL},
                                         {"a", one, &value, TL_F32, NULL, NULL}};
    const tl_safetensors_entry reserved = {"__metadata__", one, &value, TL_F32, NULL, NULL};
    const tl_safetensors_entry no_text = {"\xc3", one, &value, TL_F32, NULL, NULL};
    const tl_safetensors_entry no_data = {"a", one, NULL, TL_F32, NULL, NULL};
    const tl_safetensors_entry no_dtype = {"a", one, &value, (tl_dtype)99, NULL, NULL};
    const tl_safetensors_entry huge = {
        "a", tl_shape_make(2, INT64_MAX, INT64_C(2)), &value, TL_F32, NULL, NULL};
    assert_fails(tl_safetensors_write(ctx, path, 2, same, 0, NULL, NULL), TL_INVALID_ARGUMENT,
                 "\"a\" is given twice");
    assert_fails(tl_safetensors_write(ctx, path, 1, &reserved, 0, NULL, NULL), TL_INVALID_ARGUMENT,
                 "reserved");
    assert_fails(tl_safetensors_write(ctx, path, 1, &no_text, 0, NULL, NULL), TL_INVALID_ARGUMENT,
                 "not UTF-8");
    assert_fails(tl_safetensors_write(ctx, path, 1, &no_data, 0, NULL, NULL), TL_INVALID_ARGUMENT,
                 "NULL");
    assert_fails(tl_safetensors_write(ctx, path, 1, &no_dtype, 0, NULL, NULL), TL_INVALID_ARGUMENT,
                 "99 is no dtype");
    assert_fails(tl_safetensors_write(ctx, path, 1, &huge, 0, NULL, NULL), TL_LIMIT, "overflows");
    assert_fails(tl_safetensors_write(ctx, path, 1, same, 2, twice, texts), TL_INVALID_ARGUMENT,
                 "twice");
    assert_fails(tl_safetensors_write(ctx, path, 1, same, 1, &key, &wrong), TL_INVALID_ARGUMENT,
                 "not UTF-8");
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(hostile.live, before);
    tl_context_free(ctx);
    remove_folder(folder);
}

/* No allocation's failure leaves a temporary, a changed file or a leak. */
static void writing_survives_every_allocation_failure(void **state) {
    (void)state;
    char *folder = make_folder();
    char path[4200], command[4300];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    snprintf(command, sizeof command, "test \"$(ls -A '%s')\" = model.safetensors", folder);
    tl_context *ctx = hostile_context();
    float value = 1;
    const tl_safetensors_entry entries[] = {
        {"a", tl_shape_make(2, INT64_C(1), INT64_C(1)), &value, TL_F32, NULL, NULL},
        {"b", tl_shape_make(0), &value, TL_F32, NULL, NULL}};
    const char *const key = "k", *const text = "v";
    write_bytes(path, "old", 3);
    size_t before = hostile.live, tried = 0;
    for (size_t n = 1; tried < n; n++) {
        hostile.calls = 0;
        hostile.fail_at = n;
        tl_status status = tl_safetensors_write(ctx, path, 2, entries, 1, &key, &text);
        hostile.fail_at = 0;
        assert_int_equal(hostile.live, before);
        assert_int_equal(system(command), 0);
        struct stat info;
        assert_int_equal(stat(path, &info), 0);
        if (hostile.calls < n) break;
        tried = n;
        assert_int_equal(status, TL_NO_MEMORY);
        assert_int_equal(info.st_size, 3);
    }
    assert_true(tried > 20);
    tl_context_free(ctx);
    remove_folder(folder);
}

static void special_files_do_not_block(void **state) {
    (void)state;
    char *folder = make_folder();
    char path[4200];
    snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    tl_context *ctx = hostile_context();
    tl_source source;
    assert_fails(tl_source_open(ctx, path, &source), TL_INVALID_ARGUMENT, "regular file");
    assert_fails(tl_source_open(ctx, folder, &source), TL_INVALID_ARGUMENT, "folder");
    assert_fails(tl_source_open(ctx, "/dev/zero", &source), TL_INVALID_ARGUMENT, "regular file");
    tl_context_free(ctx);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_there),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(the_memory_estimate_holds),
        cmocka_unit_test(small_faults_do_no_harm),
        cmocka_unit_test(writes_and_reads_back),
        cmocka_unit_test(writing_refuses_what_cannot_be_read),
        cmocka_unit_test(writing_survives_every_allocation_failure),
        cmocka_unit_test(special_files_do_not_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
