/* Sharded safetensors: an index and the files beside it. */
#include "support.h"

#include "hostile.h"

#include <sys/stat.h>

/* The folder of the test that runs. */
static char *folder;

static const char *in_folder(const char *name) {
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* --- building --------------------------------------------------------------------------------- */

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"

static void write_shard(const char *name, const char *header, const void *data, size_t size) {
    bytes b = {0};
    put_number(&b, strlen(header), 8);
    put_text(&b, header);
    put(&b, data, size);
    write_bytes(in_folder(name), b.data, b.size);
    free(b.data);
}

static const float singles[] = {1, -2.5f};
static const double doubles[] = {3, 0x1p-20};
static const unsigned char halves[] = {0x00, 0x3c, 0xff, 0xfb}; /* 1, -65504 */
static const unsigned char brains[] = {0x80, 0x3f, 0x00, 0xc0}; /* 1, -2 */

static void write_good_shards(void) {
    bytes first = {0}, second = {0};
    put(&first, singles, sizeof singles);
    put(&first, halves, sizeof halves);
    put(&second, doubles, sizeof doubles);
    put(&second, brains, sizeof brains);
    write_shard("m-1.safetensors",
                "{" TENSOR("single", "F32", "[2]", "0", "8") "," TENSOR("half", "F16", "[2]", "8",
                                                                        "12") "}",
                first.data, first.size);
    write_shard("m-2.safetensors",
                "{" TENSOR("double", "F64", "[2]", "0", "16") "," TENSOR("brain", "BF16", "[2]",
                                                                         "16", "20") "}",
                second.data, second.size);
    free(first.data);
    free(second.data);
}

#define GOOD_MAP                                                                                   \
    "\"double\":\"m-2.safetensors\",\"half\":\"m-1.safetensors\","                                 \
    "\"brain\":\"m-2.safetensors\",\"single\":\"m-1.safetensors\""

static void build_good(bytes *b) {
    put_text(b, "{\n  \"metadata\": {\"total_size\": 32},\n  \"weight_map\": {" GOOD_MAP "}}\n");
}

static const char index_name[] = "hostile.safetensors.index.json";

/* Opens the bytes as a file of the folder; the table's checks call it. */
static tl_status open_index(tl_context *ctx, const void *data, size_t size, uint64_t *sum) {
    write_bytes(in_folder(index_name), data, size);
    tl_source source;
    tl_weights *weights = NULL;
    tl_status status = tl_source_open(ctx, in_folder(index_name), &source);
    if (status == TL_OK) status = tl_weights_open(ctx, &source, &weights);
    if (status == TL_OK) status = read_tensors(weights, sum);
    tl_weights_free(weights);
    return status;
}

/* --- bad files -------------------------------------------------------------------------------- */

/* The good map with one more entry. */
static void build_with(bytes *b, const char *entry) {
    put_text(b, "{\"weight_map\":{" GOOD_MAP ",");
    put_text(b, entry);
    put_text(b, "}}");
}

#define BAD_ENTRY(function, entry)                                                                 \
    static void function(bytes *b) {                                                               \
        build_with(b, entry);                                                                      \
    }

BAD_ENTRY(bad_parent, "\"x\":\"../m-1.safetensors\"")
BAD_ENTRY(bad_absolute, "\"x\":\"/etc/m.safetensors\"")
BAD_ENTRY(bad_below, "\"x\":\"sub/m.safetensors\"")
BAD_ENTRY(bad_empty_name, "\"x\":\"\"")
BAD_ENTRY(bad_dots, "\"x\":\"..\"")
BAD_ENTRY(bad_other_format, "\"x\":\"pytorch_model-1.bin\"")
BAD_ENTRY(bad_nul, "\"x\":\"m\\u0000.safetensors\"")
BAD_ENTRY(bad_number, "\"x\":7")
BAD_ENTRY(bad_missing_shard, "\"x\":\"m-3.safetensors\"")
BAD_ENTRY(bad_missing_tensor, "\"x\":\"m-1.safetensors\"")
BAD_ENTRY(bad_twice, "\"half\":\"m-2.safetensors\"")

static void bad_extra_tensor(bytes *b) {
    put_text(b, "{\"weight_map\":{\"double\":\"m-2.safetensors\",\"half\":\"m-1.safetensors\","
                "\"single\":\"m-1.safetensors\"}}");
}
static void bad_other_place(bytes *b) {
    put_text(b, "{\"weight_map\":{\"double\":\"m-2.safetensors\",\"half\":\"m-2.safetensors\","
                "\"brain\":\"m-2.safetensors\",\"single\":\"m-1.safetensors\"}}");
}
static void bad_no_map(bytes *b) {
    put_text(b, "{\"metadata\": {}}");
}
static void bad_map_list(bytes *b) {
    put_text(b, "{\"weight_map\": [1]}");
}
static void bad_json(bytes *b) {
    put_text(b, "{\"weight_map\": {");
}
static void bad_deep(bytes *b) {
    put_text(b, "{\"weight_map\":");
    put_repeated(b, "{\"a\":", 100000);
}
static void bad_many_shards(bytes *b) {
    put_text(b, "{\"weight_map\":{");
    for (int i = 0; i < 300; i++) {
        char entry[64];
        snprintf(entry, sizeof entry, "%s\"t%d\":\"s%d.safetensors\"", i ? "," : "", i, i);
        put_text(b, entry);
    }
    put_text(b, "}}");
}
/* 990 kB of short names. */
static void bad_many_tensors(bytes *b) {
    put_text(b, "{\"weight_map\":{");
    for (int i = 0; i < 90000; i++) {
        char entry[64];
        snprintf(entry, sizeof entry, "%s\"%05x\":\"\"", i ? "," : "", i);
        put_text(b, entry);
    }
    put_text(b, "}}");
}
static void bad_link(bytes *b) {
    if (symlink("/etc/passwd", in_folder("link.safetensors")) != 0) fail_msg("no link");
    build_with(b, "\"x\":\"link.safetensors\"");
}
static void bad_fifo(bytes *b) {
    if (mkfifo(in_folder("fifo.safetensors"), 0600) != 0) fail_msg("no FIFO");
    build_with(b, "\"x\":\"fifo.safetensors\"");
}
static void bad_folder(bytes *b) {
    if (mkdir(in_folder("dir.safetensors"), 0700) != 0) fail_msg("no folder");
    build_with(b, "\"x\":\"dir.safetensors\"");
}
static void bad_short_shard(bytes *b) {
    write_shard("short.safetensors", "{" TENSOR("x", "F32", "[2]", "0", "8") "}", singles, 7);
    build_with(b, "\"x\":\"short.safetensors\"");
}
static void bad_nested(bytes *b) {
    write_bytes(in_folder("nested.safetensors"), "{\"weight_map\":{\"x\":\"nested\"}}", 29);
    build_with(b, "\"x\":\"nested.safetensors\"");
}
static void bad_text_shard(bytes *b) {
    write_bytes(in_folder("text.safetensors"), "no weights", 10);
    build_with(b, "\"x\":\"text.safetensors\"");
}

static const bad_file bad_files[] = {
    {"../ in a shard's name", bad_parent, TL_UNSAFE,
     "\"x\" is in \"../m-1.safetensors\", which is not a file name beside the index"},
    {"absolute shard", bad_absolute, TL_UNSAFE, "\"/etc/m.safetensors\""},
    {"shard in a folder below", bad_below, TL_UNSAFE, "\"sub/m.safetensors\""},
    {"shard without a name", bad_empty_name, TL_UNSAFE, "\"x\" is in \"\""},
    {"shard ..", bad_dots, TL_UNSUPPORTED, "\"..\", expected a .safetensors file"},
    {"shard of another format", bad_other_format, TL_UNSUPPORTED, "\"pytorch_model-1.bin\""},
    {"NUL in a name", bad_nul, TL_CORRUPT, "byte 1"},
    {"shard a number", bad_number, TL_CORRUPT, "the file of tensor \"x\" is no text"},
    {"shard is not there", bad_missing_shard, TL_NOT_FOUND, "m-3.safetensors"},
    {"tensor is not there", bad_missing_tensor, TL_CORRUPT,
     "1 of the 5 tensors of weight_map are missing, the first is \"x\" of m-1.safetensors"},
    {"tensor listed twice", bad_twice, TL_CORRUPT, "duplicate"},
    {"tensor not listed", bad_extra_tensor, TL_CORRUPT,
     "tensor \"brain\" is in m-2.safetensors, but weight_map does not list it"},
    {"tensor in another shard", bad_other_place, TL_CORRUPT,
     "tensor \"half\" is in m-1.safetensors, but weight_map says m-2.safetensors"},
    {"no weight_map", bad_no_map, TL_CORRUPT, "weight_map is missing"},
    {"weight_map a list", bad_map_list, TL_CORRUPT, "weight_map is missing or no JSON object"},
    {"no JSON", bad_json, TL_CORRUPT, "byte 16: the index is no valid JSON"},
    {"100,000 levels", bad_deep, TL_LIMIT, "the index nests deeper than 64"},
    {"300 shards", bad_many_shards, TL_LIMIT, "names more than 256 files"},
    {"90,000 tensors", bad_many_tensors, TL_LIMIT, "bytes of memory"},
    {"shard is a link", bad_link, TL_UNSAFE, "link.safetensors: is a link"},
    {"shard is a FIFO", bad_fifo, TL_UNSAFE, "a special file"},
    {"shard is a folder", bad_folder, TL_UNSAFE, "a folder"},
    {"shard one byte short", bad_short_shard, TL_TRUNCATED,
     "short.safetensors: tensor \"x\": data ends at 8"},
    {"shard is an index", bad_nested, TL_LIMIT, "nested.safetensors: byte 0: header length"},
    {"shard is text", bad_text_shard, TL_LIMIT, "text.safetensors: byte 0: header length"},
};

static void bad_files_are_refused(void **state) {
    (void)state;
    check_bad_files(bad_files, sizeof bad_files / sizeof bad_files[0]);
}

static void an_index_in_memory_has_no_folder(void **state) {
    (void)state;
    bytes good = {0};
    build_good(&good);
    tl_context *ctx = hostile_context();
    tl_weights *weights = NULL;
    assert_fails(open_bytes(ctx, good.data, good.size, &weights), TL_UNSUPPORTED,
                 "beside an index in memory");
    tl_context_free(ctx);
    free(good.data);
}

static void small_faults_do_no_harm(void **state) {
    (void)state;
    bytes good = {0};
    build_good(&good);
    good.size -= 1; /* the last line's end is not needed */
    check_every_truncation(&good);
    assert_true(check_every_bit_flip(&good) > good.size);
    check_every_allocation(&good);
    free(good.data);
}

/* --- good files ------------------------------------------------------------------------------- */

static void check_values(const tl_weights *weights, const char *name, float first, float second) {
    float out[2];
    int index = tl_weights_find(weights, name);
    assert_true(index >= 0);
    assert_ok(tl_weights_read(weights, index, out));
    assert_true(out[0] == first && out[1] == second);
    assert_ok(tl_weights_check(weights, index));
    assert_true(tl_weights_divisible(weights, index));
    assert_ok(tl_weights_read_part(weights, index, 1, 1, out));
    assert_true(out[0] == second);
    assert_ok(tl_weights_unchanged(weights, index));
}

static void reads_all_shards(void **state) {
    (void)state;
    bytes good = {0};
    build_good(&good);
    write_bytes(in_folder(index_name), good.data, good.size);
    free(good.data);
    tl_context *ctx = hostile_context();
    size_t before = hostile.live;
    tl_source source;
    tl_weights *weights = NULL;
    assert_ok(tl_source_open(ctx, in_folder(index_name), &source));
    assert_ok(tl_weights_open(ctx, &source, &weights));
    assert_string_equal(weights->format, "safetensors-index");
    assert_int_equal(weights->count, 4);
    check_values(weights, "single", 1, -2.5f);
    check_values(weights, "half", 1, -65504);
    check_values(weights, "double", 3, 0x1p-20f);
    check_values(weights, "brain", 1, -2);
    /* A shard that is written to is noticed by its own tensors. */
    write_bytes(in_folder("m-2.safetensors"), "short", 5);
    assert_ok(tl_weights_unchanged(weights, tl_weights_find(weights, "single")));
    assert_fails(tl_weights_unchanged(weights, tl_weights_find(weights, "brain")), TL_CORRUPT,
                 "m-2.safetensors: was written to");
    tl_weights_free(weights);
    assert_int_equal(hostile.live, before);
    tl_context_free(ctx);
}

static int make_place(void **state) {
    (void)state;
    folder = make_folder();
    write_good_shards();
    return 0;
}

static int remove_place(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

#define PLACED(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void) {
    const struct CMUnitTest tests[] = {
        PLACED(reads_all_shards),
        PLACED(bad_files_are_refused),
        PLACED(an_index_in_memory_has_no_folder),
        PLACED(small_faults_do_no_harm),
    };
    hostile_read = open_index;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
