/* Context, allocator, threads, random numbers, files. */
#include "support.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/context.h"
#include "base/crc32.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/source.h"
#include "float_control.h"

static void context_options_are_checked(void **state) {
    (void)state;
    tl_context_options options;
    tl_context *ctx = NULL;
    tl_context_options_init(&options, sizeof options);
    options.threads = -1;
    assert_fails(tl_context_create(&options, &ctx), TL_INVALID_ARGUMENT, "threads is -1");
    options.threads = 1;
    options.isa = "mmx";
    assert_fails(tl_context_create(&options, &ctx), TL_INVALID_ARGUMENT, "ref");
    assert_null(ctx);
    assert_fails(tl_context_create(NULL, NULL), TL_INVALID_ARGUMENT, "out");
    assert_ok(tl_context_create(NULL, &ctx));
    assert_true(tl_context_threads(ctx) >= 1);
    tl_context_free(ctx);
    tl_context_free(NULL);
}

typedef struct newer_options { /* of a header with one more field than the library's */
    tl_loader_options known;
    char *added;
} newer_options;

static void options_of_any_size(void **state) {
    (void)state;
    newer_options newer;
    memset(&newer, 0xff, sizeof newer);
    tl_loader_options_init(&newer.known, sizeof newer);
    assert_int_equal(newer.known.size, sizeof newer);
    assert_int_equal(newer.known.batch, 32);
    assert_null(newer.added);
    unsigned char small[4] = {1, 2, 3, 4}, same[4] = {1, 2, 3, 4};
    tl_loader_options_init((tl_loader_options *)(void *)small, sizeof small);
    assert_memory_equal(small, same, sizeof small);
    tl_context_options none = {.threads = 1};
    tl_context *ctx = NULL;
    assert_fails(tl_context_create(&none, &ctx), TL_INVALID_ARGUMENT,
                 "context: the options' size is 0, they were not initialised");
    assert_null(ctx);
    none.size = offsetof(tl_context_options, alloc); /* an older caller's */
    assert_ok(tl_context_create(&none, &ctx));
    assert_int_equal(tl_context_threads(ctx), 1);
    tl_context_free(ctx);
}

static void every_instruction_set_can_be_chosen(void **state) {
    (void)state;
    const char *names[16];
    int count = tl_isa_list(names, 16);
    assert_true(count >= 1);
    assert_string_equal(names[0], "ref");
    for (int i = 0; i < count; i++) {
        tl_context_options options;
        tl_context_options_init(&options, sizeof options);
        options.isa = names[i];
        tl_context *ctx = NULL;
        assert_ok(tl_context_create(&options, &ctx));
        assert_string_equal(tl_context_isa(ctx), names[i]);
        tl_context_free(ctx);
    }
}

static void an_unknown_instruction_set_is_refused(void **state) {
    (void)state;
    const char *before = getenv("TL_ISA");
    char *kept = before ? strdup(before) : NULL;
    tl_context *ctx = NULL;
    setenv("TL_ISA", "mmx", 1);
    assert_fails(tl_context_create(NULL, &ctx), TL_INVALID_ARGUMENT, "'mmx' (TL_ISA)");
    assert_fails(tl_context_create(NULL, &ctx), TL_INVALID_ARGUMENT, "offer: ref");
    setenv("TL_ISA", "ref", 1);
    assert_ok(tl_context_create(NULL, &ctx));
    assert_string_equal(tl_context_isa(ctx), "ref");
    tl_context_free(ctx);
    if (kept)
        setenv("TL_ISA", kept, 1);
    else
        unsetenv("TL_ISA");
    free(kept);
}

static void keep_text(void *user, tl_log_level level, const char *text) {
    if (level == TL_LOG_WARNING) snprintf(user, 256, "%s", text);
}

static void threads_are_no_more_than_of_use(void **state) {
    (void)state;
    char warning[256] = "";
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1024;
    options.log = keep_text;
    options.log_user = warning;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 128) {
        assert_in_range(tl_context_threads(ctx), 8, 8 * cores);
        assert_non_null(strstr(warning, "1024 threads"));
    }
    tl_context_free(ctx);
}

static void memory_is_counted_aligned_and_limited(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.alloc = counting_alloc;
    options.alloc_user = &allocator;
    options.memory_limit = 1 << 20;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));

    unsigned char *block = tl_alloc(ctx, 1000);
    assert_int_equal((uintptr_t)block % 64, 0);
    memset(block, 7, 1000);
    block = tl_realloc(ctx, block, 5000);
    assert_int_equal(block[999], 7);
    size_t current = 0, peak = 0;
    tl_context_memory(ctx, &current, &peak);
    assert_true(current >= 5000 && current < 6000 && peak >= current);
    assert_null(tl_alloc(ctx, 1 << 20));
    assert_non_null(strstr(tl_last_error(), "out of memory"));
    assert_null(tl_alloc_array(ctx, SIZE_MAX / 2, 3));
    assert_null(tl_alloc(ctx, SIZE_MAX));
    tl_free(ctx, block);
    tl_context_memory(ctx, &current, NULL);
    assert_int_equal(current, 0);
    tl_context_free(ctx);
    assert_int_equal(allocator.live, 0);
}

static void creating_a_context_survives_lack_of_memory(void **state) {
    (void)state;
    for (size_t n = 1;; n++) {
        counting_allocator allocator = {.fail_at = n};
        tl_context_options options;
        tl_context_options_init(&options, sizeof options);
        options.threads = 2;
        options.alloc = counting_alloc;
        options.alloc_user = &allocator;
        tl_context *ctx = NULL;
        tl_status status = tl_context_create(&options, &ctx);
        if (status == TL_OK) {
            tl_context_free(ctx);
            assert_int_equal(allocator.live, 0);
            assert_true(n > 1);
            return;
        }
        assert_int_equal(status, TL_NO_MEMORY);
        assert_null(ctx);
        assert_int_equal(allocator.live, 0);
    }
}

static void add_index(void *arg, int64_t begin, int64_t end) {
    int *hits = arg;
    for (int64_t i = begin; i < end; i++) hits[i]++;
}

static void parallel_covers_the_range_once(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 3, 7};
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        tl_context *ctx = make_context(threads[t], NULL);
        for (int count = 0; count < 50; count++) {
            int hits[50] = {0};
            tl_parallel(ctx, count, add_index, hits);
            for (int i = 0; i < 50; i++) assert_int_equal(hits[i], i < count);
        }
        tl_context_free(ctx);
    }
}

typedef struct nested_job {
    tl_context *ctx;
    int hits[64];
} nested_job;

static void run_nested(void *arg, int64_t begin, int64_t end) {
    nested_job *job = arg;
    for (int64_t i = begin; i < end; i++) tl_parallel(job->ctx, 8, add_index, &job->hits[8 * i]);
}

static void *run_many_jobs(void *arg) {
    nested_job job = {.ctx = arg};
    for (int i = 0; i < 200; i++) tl_parallel(job.ctx, 8, run_nested, &job);
    for (int i = 0; i < 64; i++) {
        if (job.hits[i] != 200) return NULL;
    }
    return arg;
}

static void parallel_may_be_nested_and_shared(void **state) {
    (void)state;
    tl_context *ctx = make_context(3, NULL);
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, run_many_jobs, ctx);
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(thread[i], &result);
        assert_ptr_equal(result, ctx);
    }
    tl_context_free(ctx);
}

typedef struct each_seen {
    atomic_int times[100];
    int fails[2];
} each_seen;

static tl_status see_one(void *arg, int64_t i) {
    each_seen *seen = arg;
    atomic_fetch_add(&seen->times[i], 1);
    for (int f = 0; f < 2; f++) TL_CHECK(i != seen->fails[f], TL_CORRUPT, "item %d", (int)i);
    return TL_OK;
}

/* Whatever threads take them in which order, all are run and the first failure is told. */
static void each_is_run_once(void **state) {
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        tl_context *ctx = make_context(threads, NULL);
        each_seen seen = {.fails = {90, 17}};
        assert_int_equal(tl_parallel_each(ctx, 100, see_one, &seen), TL_CORRUPT);
        assert_string_equal(tl_last_error(), "item 17");
        for (int i = 0; i < 100; i++) assert_int_equal(seen.times[i], 1);
        seen.fails[0] = seen.fails[1] = -1;
        assert_int_equal(tl_parallel_each(ctx, 100, see_one, &seen), TL_OK);
        assert_int_equal(tl_parallel_each(ctx, 0, see_one, &seen), TL_OK);
        assert_int_equal(seen.times[99], 2);
        tl_context_free(ctx);
    }
}

static void denormal_task(void *arg, int64_t begin, int64_t end) {
    volatile float *values = arg;
    for (int64_t i = begin; i < end; i++) {
        volatile float small = 1e-30f;
        values[i] = small * 1e-10f;
    }
}

static void denormals_are_flushed_and_the_state_restored(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    uint64_t original = float_control(), before = float_unusual_control();
    float_set_control(before);
    float values[64];
    tl_parallel(ctx, 64, denormal_task, values);
    uint64_t after = float_control();
    float_set_control(original);
    assert_true(after == before);
    for (int i = 0; i < 64; i++) assert_true(values[i] == 0.0f);
    tl_context_free(ctx);
}

static void a_forked_child_can_compute(void **state) {
    (void)state;
    tl_context *ctx = make_context(3, NULL);
    pid_t child = fork();
    if (child == 0) {
        int hits[20] = {0};
        tl_parallel(ctx, 20, add_index, hits);
        int bad = 0;
        for (int i = 0; i < 20; i++) bad |= hits[i] != 1;
        _exit(bad);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    tl_context_free(ctx);
}

static void random_streams_depend_on_their_key_alone(void **state) {
    (void)state;
    tl_rng a = tl_rng_make(1, TL_RNG_AUGMENT, 2, 3), b = tl_rng_make(1, TL_RNG_AUGMENT, 2, 3);
    tl_rng c = tl_rng_make(1, TL_RNG_AUGMENT, 3, 2);
    assert_true(tl_rng_next(&a) == tl_rng_next(&b));
    assert_true(tl_rng_next(&a) != tl_rng_next(&c));
    double sum = 0, sum2 = 0;
    for (int i = 0; i < 100000; i++) {
        float u = tl_rng_uniform(&a), n = tl_rng_normal(&b);
        assert_true(u >= 0.0f && u < 1.0f);
        sum += (double)u;
        sum2 += (double)n * (double)n;
        assert_true(tl_rng_below(&c, 7) < 7);
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.01);
    assert_true(fabs(sum2 / 100000 - 1.0) < 0.03);
    int64_t items[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    tl_rng_shuffle(&a, items, 10);
    int seen = 0;
    for (int i = 0; i < 10; i++) seen |= 1 << items[i];
    assert_int_equal(seen, 1023);
}

static void sources_read_regular_files_only(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    char *folder = make_folder();
    char path[4200];
    tl_source source;
    snprintf(path, sizeof path, "%s/absent", folder);
    assert_fails(tl_source_open(ctx, path, &source), TL_NOT_FOUND, "absent");
    assert_fails(tl_source_open(ctx, folder, &source), TL_INVALID_ARGUMENT, "folder");
    snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_fails(tl_source_open(ctx, path, &source), TL_INVALID_ARGUMENT, "special");
    assert_fails(tl_source_open(ctx, "/dev/zero", &source), TL_INVALID_ARGUMENT, "special");

    snprintf(path, sizeof path, "%s/file", folder);
    write_bytes(path, "hello", 5);
    assert_ok(tl_source_open(ctx, path, &source));
    char buffer[8] = "";
    assert_ok(tl_source_read(&source, 1, buffer, 4));
    assert_string_equal(buffer, "ello");
    assert_fails(tl_source_read(&source, 2, buffer, 4), TL_TRUNCATED, "offset 2");
    assert_fails(tl_source_read(&source, UINT64_MAX, buffer, 4), TL_TRUNCATED, NULL);
    unsigned char *all = NULL;
    size_t size = 0;
    assert_fails(tl_source_read_all(&source, 4, &all, &size), TL_LIMIT, "5 bytes");
    assert_ok(tl_source_read_all(&source, 5, &all, &size));
    assert_memory_equal(all, "hello", 5);
    tl_free(ctx, all);
    /* The file shrinks while it is open. */
    assert_int_equal(truncate(path, 2), 0);
    assert_fails(tl_source_read(&source, 0, buffer, 5), TL_TRUNCATED, "offset 2");
    tl_source_close(&source);
    tl_source_close(&source);
    remove_folder(folder);
    tl_context_free(ctx);
}

static void writing_replaces_a_file_or_leaves_it(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    char *folder = make_folder();
    char path[4200];
    snprintf(path, sizeof path, "%s/out", folder);
    assert_ok(tl_write_file(ctx, path, "first", 5));
    tl_writer writer;
    assert_ok(tl_writer_open(ctx, path, &writer));
    assert_ok(tl_writer_write(&writer, "second", 6));
    tl_writer_abandon(&writer);
    tl_source source;
    assert_ok(tl_source_open(ctx, path, &source));
    assert_int_equal(source.size, 5);
    tl_source_close(&source);
    assert_ok(tl_write_file(ctx, path, "second", 6));
    assert_ok(tl_source_open(ctx, path, &source));
    assert_int_equal(source.size, 6);
    tl_source_close(&source);
    assert_fails(tl_write_file(ctx, folder, "x", 1), TL_INVALID_ARGUMENT, "not a regular file");
    snprintf(path, sizeof path, "%s/none/out", folder);
    assert_fails(tl_write_file(ctx, path, "x", 1), TL_NOT_FOUND, "none/out");
    /* No temporary is left behind: the folder holds the one file. */
    snprintf(path, sizeof path, "test \"$(ls '%s')\" = out", folder);
    assert_int_equal(system(path), 0);
    remove_folder(folder);
    tl_context_free(ctx);
}

/* Bit by bit, as ISO 3309 has it. */
static uint32_t slow_crc(uint32_t crc, const unsigned char *data, size_t size) {
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static void checksums_are_right(void **state) {
    (void)state;
    assert_int_equal(tl_crc32(0, "123456789", 9), 0xcbf43926u);
    static unsigned char data[5000];
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(127 * support_random(&seed));
    tl_crc32_fold_fn ways[] = {NULL, tl_kernels_crc32_fold()};
    for (int way = 0; way < 2; way++)
        for (size_t size = 0; size < sizeof data - 16; size += size < 700 ? 1 : 97) {
            size_t from = size % 17;
            uint32_t begin = (uint32_t)size * 2654435761u;
            assert_int_equal(tl_crc32_with(ways[way], begin, data + from, size),
                             slow_crc(begin, data + from, size));
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(context_options_are_checked),
        cmocka_unit_test(options_of_any_size),
        cmocka_unit_test(every_instruction_set_can_be_chosen),
        cmocka_unit_test(an_unknown_instruction_set_is_refused),
        cmocka_unit_test(threads_are_no_more_than_of_use),
        cmocka_unit_test(memory_is_counted_aligned_and_limited),
        cmocka_unit_test(creating_a_context_survives_lack_of_memory),
        cmocka_unit_test(parallel_covers_the_range_once),
        cmocka_unit_test(parallel_may_be_nested_and_shared),
        cmocka_unit_test(each_is_run_once),
        cmocka_unit_test(denormals_are_flushed_and_the_state_restored),
        cmocka_unit_test(a_forked_child_can_compute),
        cmocka_unit_test(checksums_are_right),
        cmocka_unit_test(random_streams_depend_on_their_key_alone),
        cmocka_unit_test(sources_read_regular_files_only),
        cmocka_unit_test(writing_replaces_a_file_or_leaves_it),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
