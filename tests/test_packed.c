/* Packed weights kept between processes: used when all that they depend on is the same, packed anew
 * when anything is not, and never trusted. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/crc32.h"
#include "io/packed.h"
#include "small_network.h"

enum { SIDE = 20, CLASSES = 3, ROW = 32, FIXED = 64 };

/* --- a model in a file, and what it answers ----------------------------------------------------
 */

typedef struct fixture {
    tl_context *ctx;
    char *folder;
    char model[4200], cache[4200];
    tl_tensor *input, *expected;
} fixture;

static void save_network(tl_context *ctx, const char *path, uint64_t seed) {
    tl_model *model = small_network(ctx, SIDE);
    assert_ok(tl_model_set_head(model, "gap", "8,relu", "softmax", CLASSES, NULL, seed));
    assert_ok(tl_model_save(model, path));
    tl_model_free(model);
}

static tl_tensor *answer(tl_context *ctx, const char *path, const tl_tensor *input) {
    tl_model *model = NULL;
    tl_tensor *out = NULL;
    assert_ok(tl_model_load(ctx, path, &model));
    assert_ok(tl_model_run(model, input, &out));
    tl_model_free(model);
    return out;
}

static void open_fixture(fixture *f) {
    f->ctx = make_context(2, NULL);
    f->folder = make_folder();
    snprintf(f->model, sizeof f->model, "%s/model", f->folder);
    snprintf(f->cache, sizeof f->cache, "%s/model.packed", f->folder);
    save_network(f->ctx, f->model, 1);
    const int64_t shape[4] = {2, SIDE, SIDE, 3};
    assert_ok(tl_tensor_create(f->ctx, TL_F32, 4, shape, &f->input));
    uint64_t seed = 3;
    for (int64_t i = 0; i < tl_tensor_count(f->input); i++)
        ((float *)tl_tensor_data(f->input))[i] = support_random(&seed);
    f->expected = answer(f->ctx, f->model, f->input);
}

static void close_fixture(fixture *f) {
    tl_tensor_free(f->input);
    tl_tensor_free(f->expected);
    remove_folder(f->folder);
    tl_context_free(f->ctx);
}

static void assert_state(const tl_model *model, tl_context *ctx, const char *state,
                         const char *reason) {
    char *text = NULL;
    assert_ok(tl_model_packed_cache(model, &text));
    json_t *json = json_loads(text, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "state")), state);
    const char *found = json_string_value(json_object_get(json, "reason"));
    if (!strstr(found, reason)) fail_msg("reason \"%s\", expected \"%s\"", found, reason);
    bool fine = strcmp(state, "written") != 0 && strcmp(state, "failed") != 0;
    assert_int_equal(!*found, fine);
    json_decref(json);
    tl_string_free(ctx, text);
}

/* Another process's first answer: the same bits whatever the file holds. */
static void expect_in(tl_context *ctx, const fixture *f, const char *cache, const char *state,
                      const char *reason) {
    tl_model *model = NULL;
    tl_tensor *out = NULL;
    assert_ok(tl_model_load(ctx, f->model, &model));
    assert_ok(tl_model_set_packed_cache(model, cache));
    assert_state(model, ctx, cache ? "untried" : "off", "");
    assert_ok(tl_model_run(model, f->input, &out));
    assert_state(model, ctx, state, reason);
    if (strcmp(tl_context_isa(ctx), tl_context_isa(f->ctx)) == 0)
        assert_memory_equal(tl_tensor_const_data(out), tl_tensor_const_data(f->expected),
                            tl_tensor_bytes(out));
    tl_tensor_free(out);
    tl_model_free(model);
}

static void expect(const fixture *f, const char *state, const char *reason) {
    expect_in(f->ctx, f, "auto", state, reason);
}

/* --- files -------------------------------------------------------------------------------------
 */

typedef struct content {
    unsigned char *data;
    size_t size;
} content;

static content read_file(const char *path) {
    struct stat info;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &info) == 0);
    content c = {malloc((size_t)info.st_size), (size_t)info.st_size};
    assert_int_equal(read(fd, c.data, c.size), info.st_size);
    close(fd);
    return c;
}

/* In place of the old file, which may be mapped. */
static void replace_file(const char *path, const void *data, size_t size) {
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    close(fd);
}

static void set_number(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> (8 * i));
}

static size_t header_size(const content *c) {
    return FIXED + (size_t)(c->data[12] | c->data[13] << 8) * ROW + 4;
}

/* A header that was tampered with by somebody who knows its checksum. */
static void sign_header(content *c) {
    size_t summed = header_size(c) - 4;
    set_number(c->data + summed, tl_crc32(0, c->data, summed), 4);
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void test_used_when_nothing_changed(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    expect_in(f.ctx, &f, NULL, "off", "");
    assert_int_equal(access(f.cache, F_OK), -1);
    expect(&f, "written", "cannot be opened");
    content first = read_file(f.cache);
    expect(&f, "used", "");
    expect_in(f.ctx, &f, f.cache, "used", "");
    content second = read_file(f.cache);
    assert_true(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
    free(first.data);
    free(second.data);
    close_fixture(&f);
}

/* What is not in the file is packed, and what is there already is written to the new one with it.
 */
static void test_weights_that_changed(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    expect(&f, "written", "");
    save_network(f.ctx, f.model, 2);
    tl_tensor_free(f.expected);
    f.expected = answer(f.ctx, f.model, f.input);
    expect(&f, "written", "is not in it with these weights");
    expect(&f, "used", "");
    close_fixture(&f);
}

static void test_memory_is_the_file(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    expect(&f, "written", "");
    size_t without = 0, with = 0;
    for (int i = 0; i < 2; i++) {
        tl_context *ctx = make_context(1, NULL);
        expect_in(ctx, &f, i ? "auto" : NULL, i ? "used" : "off", "");
        tl_context_memory(ctx, NULL, i ? &with : &without);
        tl_context_free(ctx);
    }
    assert_true(with + 100000 < without);
    close_fixture(&f);
}

static void test_other_instruction_set(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    if (strcmp(tl_context_isa(f.ctx), "ref") == 0) {
        close_fixture(&f);
        skip();
    }
    expect(&f, "written", "");
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.isa = "ref";
    tl_context *ref = NULL;
    assert_ok(tl_context_create(&options, &ref));
    expect_in(ref, &f, "auto", "written", "instruction set");
    expect_in(ref, &f, "auto", "used", "");
    tl_context_free(ref);
    expect(&f, "written", "is for instruction set ref");
    close_fixture(&f);
}

/* Cut at every byte of the header, and here and there behind it. */
static void test_truncation(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    expect(&f, "written", "");
    content good = read_file(f.cache);
    size_t step = 1;
    for (size_t size = 0; size < good.size; size += step) {
        replace_file(f.cache, good.data, size);
        expect(&f, "written", f.cache);
        if (size > header_size(&good)) step = good.size / 9;
    }
    free(good.data);
    close_fixture(&f);
}

/* A bit of every byte of the header, and of some behind it; padding may differ. */
static void test_bit_flips(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    expect(&f, "written", "");
    content good = read_file(f.cache);
    size_t header = header_size(&good);
    for (size_t at = 0; at < header; at++) {
        good.data[at] ^= (unsigned char)(1u << at % 8);
        replace_file(f.cache, good.data, good.size);
        good.data[at] ^= (unsigned char)(1u << at % 8);
        expect(&f, "written", f.cache);
    }
    size_t first = (size_t)good.data[FIXED + 8] | (size_t)good.data[FIXED + 9] << 8;
    for (size_t at = first; at < good.size; at += good.size / 11) {
        good.data[at] ^= 0x10;
        replace_file(f.cache, good.data, good.size);
        good.data[at] ^= 0x10;
        expect(&f, "written", "have checksum");
    }
    free(good.data);
    close_fixture(&f);
}

typedef struct forgery {
    size_t at;
    uint64_t value;
    int bytes;
    const char *reason;
} forgery;

/* Headers whose checksum is right. */
static void test_forged_headers(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    expect(&f, "written", "");
    content good = read_file(f.cache);
    const forgery forged[] = {
        {0, 'x', 1, "no file of packed weights"},
        {8, 2, 4, "format 2, expected 1"},
        {16, good.size + 64, 8, "bytes, expected"},
        {24, 12345, 8, "another build"},
        {32, '9', 1, "is for libtl"},
        {48, 'x', 1, "instruction set"},
        {FIXED, 7, 8, "is not in it"},                            /* key */
        {FIXED + 8, 0, 8, "at offset 0"},                         /* into the header */
        {FIXED + 8, 65, 8, "at offset 65"},                       /* not aligned */
        {FIXED + 8, UINT64_MAX / 64 * 64, 8, "but the file has"}, /* past the end */
        {FIXED + 8, good.size, 8, "but the file has"},            /* at the end */
        {FIXED + 16, UINT64_MAX, 8, "but the file has"},          /* offset + size wraps */
        {FIXED + 16, good.size, 8, "but the file has"},           /* too long */
        {FIXED + 16, 0, 8, "is not in it"},                       /* another size */
        {FIXED + 24, 0, 4, "have checksum"},
    };
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        content bad = {malloc(good.size), good.size};
        memcpy(bad.data, good.data, good.size);
        set_number(bad.data + forged[i].at, forged[i].value, forged[i].bytes);
        sign_header(&bad);
        replace_file(f.cache, bad.data, bad.size);
        free(bad.data);
        expect(&f, "written", forged[i].reason);
    }
    for (uint64_t count = 1; count <= UINT32_MAX; count = count * 16 + 15) {
        if (count == (uint64_t)(good.data[12] | good.data[13] << 8)) continue;
        set_number(good.data + 12, count, 4);
        replace_file(f.cache, good.data, good.size);
        expect(&f, "written", f.cache);
    }
    free(good.data);
    close_fixture(&f);
}

static int warnings;

static void count_warning(void *user, tl_log_level level, const char *message) {
    (void)user;
    warnings += level == TL_LOG_WARNING && strstr(message, "packed weights are not kept");
}

/* Folders that are not there, files that are folders, disks that are full: a warning, no more. */
static void test_places_that_cannot_be_written(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.log = count_warning;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    expect_in(ctx, &f, "/nonexistent/folder/x", "failed", "/nonexistent/folder/x");
    expect_in(ctx, &f, f.folder, "failed", "not a regular file");
    assert_int_equal(warnings, 2);

    struct rlimit old, small = {8192, RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    expect_in(ctx, &f, "auto", "failed", "writing");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(warnings, 3);
    assert_int_equal(access(f.cache, F_OK), -1);
    tl_context_free(ctx);
    close_fixture(&f);
}

static void test_auto_needs_a_file(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = small_network(ctx, SIDE);
    assert_int_equal(tl_model_set_packed_cache(model, "auto"), TL_INVALID_ARGUMENT);
    assert_non_null(strstr(tl_last_error(), "from no file"));
    tl_model_free(model);
    tl_context_free(ctx);
}

/* Processes that all find it missing write it at once; none sees half of another's. */
static void test_concurrent_writers(void **state) {
    (void)state;
    enum { PROCESSES = 6, ROUNDS = 5 };
    fixture f;
    open_fixture(&f);
    pid_t child[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        child[i] = fork();
        if (child[i]) continue;
        bool good = true;
        for (int round = 0; round < ROUNDS && good; round++) {
            tl_context *ctx = make_context(1, NULL);
            tl_model *model = NULL;
            tl_tensor *out = NULL;
            unlink(f.cache);
            good = tl_model_load(ctx, f.model, &model) == TL_OK &&
                   tl_model_set_packed_cache(model, "auto") == TL_OK &&
                   tl_model_run(model, f.input, &out) == TL_OK &&
                   memcmp(tl_tensor_const_data(out), tl_tensor_const_data(f.expected),
                          tl_tensor_bytes(out)) == 0;
            tl_tensor_free(out);
            tl_model_free(model);
            tl_context_free(ctx);
        }
        _exit(good ? 0 : 1);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 1;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    tl_context *ctx = make_context(1, NULL);
    tl_packed packed;
    if (access(f.cache, F_OK) == 0) {
        assert_ok(tl_packed_open(ctx, f.cache, tl_context_isa(ctx), &packed));
        tl_packed_close(&packed);
    }
    tl_context_free(ctx);
    expect(&f, access(f.cache, F_OK) == 0 ? "used" : "written", "");
    close_fixture(&f);
}

/* --- memory that runs out ----------------------------------------------------------------------
 */

/* Every allocation fails once: an answer is right, or there is none for want of memory. */
static void test_allocation_faults(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f);
    for (int there = 0; there < 2; there++) {
        for (size_t n = 1;; n++) {
            counting_allocator fault = {0};
            tl_context *ctx = make_context(1, &fault);
            tl_model *model = NULL;
            tl_tensor *out = NULL;
            assert_ok(tl_model_load(ctx, f.model, &model));
            if (!there) unlink(f.cache);
            fault.fail_at = fault.calls + n;
            tl_status status = tl_model_set_packed_cache(model, "auto");
            if (status == TL_OK) status = tl_model_run(model, f.input, &out);
            bool done = fault.calls < fault.fail_at;
            assert_true(status == TL_OK || status == TL_NO_MEMORY);
            if (out)
                assert_memory_equal(tl_tensor_const_data(out), tl_tensor_const_data(f.expected),
                                    tl_tensor_bytes(out));
            tl_tensor_free(out);
            tl_model_free(model);
            tl_context_free(ctx);
            assert_int_equal(fault.live, 0);
            if (done) break;
        }
        expect(&f, "used", "");
    }
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_used_when_nothing_changed),
        cmocka_unit_test(test_weights_that_changed),
        cmocka_unit_test(test_memory_is_the_file),
        cmocka_unit_test(test_other_instruction_set),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_forged_headers),
        cmocka_unit_test(test_places_that_cannot_be_written),
        cmocka_unit_test(test_auto_needs_a_file),
        cmocka_unit_test(test_concurrent_writers),
        cmocka_unit_test(test_allocation_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
