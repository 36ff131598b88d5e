/* Shapes that overflow, or exceed memory, are errors before any memory for them is asked for: seen
 * through the context's allocator. */
#include "support.h"

#include <limits.h>

enum { SMALL = 1 << 20 }; /* tables of a plan or graph, and names, are far smaller */

typedef struct watcher {
    size_t calls, largest, live;
} watcher;

static void *watch(void *user, void *ptr, size_t old_size, size_t new_size) {
    watcher *w = user;
    if (ptr) w->live -= old_size;
    w->live += new_size;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    w->calls++;
    if (new_size > w->largest) w->largest = new_size;
    return realloc(ptr, new_size);
}

static tl_context *watched_context(watcher *w, size_t limit) {
    *w = (watcher){0};
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.alloc = watch;
    options.alloc_user = w;
    options.memory_limit = limit;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    return ctx;
}

/* A refusal that asked for nothing large and kept nothing. */
#define assert_refused_early(w, most, call, expected)                                              \
    do {                                                                                           \
        size_t live_before = (w)->live;                                                            \
        (w)->largest = 0;                                                                          \
        assert_fails(call, expected, NULL);                                                        \
        if ((w)->largest > (most)) fail_msg("%s asked for %zu bytes", #call, (w)->largest);        \
        assert_int_equal((w)->live, live_before);                                                  \
    } while (0)

static void test_tensors(void **state) {
    (void)state;
    watcher w;
    tl_context *ctx = watched_context(&w, 0);
    const int64_t wrapping[4] = {INT64_C(1) << 32, INT64_C(1) << 32, 2, 2};
    const int64_t bytes_wrap[2] = {INT64_C(1) << 31, INT64_C(1) << 31}; /* 2^62 floats */
    const int64_t largest[1] = {INT64_MAX};
    tl_tensor *out = NULL;
    assert_refused_early(&w, 0, tl_tensor_create(ctx, TL_F32, 4, wrapping, &out), TL_LIMIT);
    assert_refused_early(&w, 0, tl_tensor_create(ctx, TL_F32, 2, bytes_wrap, &out), TL_LIMIT);
    assert_refused_early(&w, 0, tl_tensor_create(ctx, TL_F64, 1, largest, &out), TL_LIMIT);
    assert_null(out);
    tl_context_free(ctx);
    assert_int_equal(w.live, 0);

    ctx = watched_context(&w, SMALL);
    const int64_t large[2] = {1024, 1024};
    assert_refused_early(&w, 4096, tl_tensor_create(ctx, TL_F32, 2, large, &out), TL_NO_MEMORY);
    tl_context_free(ctx);
}

static void test_layers(void **state) {
    (void)state;
    watcher w;
    tl_context *ctx = watched_context(&w, 0);
    tl_model *model = NULL;
    assert_refused_early(&w, SMALL, tl_model_create_empty(ctx, INT_MAX, INT_MAX, 3, &model),
                         TL_INVALID_ARGUMENT);
    assert_ok(tl_model_create_empty(ctx, 8, 8, 1 << 20, &model));
    const char *huge[] = {"filters=16777216 kernel=1024", "filters=16777216 kernel=1 pad=1000000"};
    for (int i = 0; i < 2; i++) {
        size_t live = w.live;
        w.largest = 0;
        tl_status status = tl_model_add(model, "conv2d", "huge", huge[i], NULL, 0, 1);
        assert_true(status == TL_LIMIT || status == TL_SHAPE);
        assert_true(w.largest < SMALL);
        assert_int_equal(w.live, live);
    }
    tl_model_free(model);
    tl_context_free(ctx);
    assert_int_equal(w.live, 0);
}

/* Batches whose activations do not fit in an address space, or in what the context may hold. */
static void test_batches(void **state) {
    (void)state;
    watcher w;
    tl_context *ctx = watched_context(&w, (size_t)8 << 20);
    tl_model *model = NULL;
    assert_ok(tl_model_create_empty(ctx, 64, 64, 3, &model));
    assert_ok(tl_model_add(model, "conv2d", "wide", "filters=256 kernel=3 pad=1", NULL, 0, 1));
    assert_ok(tl_model_add(model, "conv2d", "again", "filters=256 kernel=3 pad=1", NULL, 0, 1));
    assert_ok(tl_model_set_head(model, "gap", "", "softmax", 2, NULL, 1));
    tl_memory memory = {.size = sizeof memory};
    size_t live = w.live;
    w.largest = 0;
    (void)tl_model_memory(model, INT_MAX, &memory); /* in parts, or LIMIT */
    assert_true(w.largest < SMALL && w.live == live);

    float *values = calloc((size_t)32 * 64 * 64 * 3, sizeof *values);
    const int64_t shape[4] = {32, 64, 64, 3};
    tl_tensor *input = NULL, *out = NULL;
    assert_ok(tl_tensor_wrap(ctx, TL_F32, 4, shape, values, (size_t)32 * 64 * 64 * 3 * 4, &input));
    assert_refused_early(&w, SMALL, tl_model_run(model, input, &out), TL_LIMIT);
    assert_null(out);
    tl_tensor_free(input);
    free(values);
    tl_model_free(model);
    tl_context_free(ctx);
    assert_int_equal(w.live, 0);
}

/* A network of 553 MB for a context of 100. */
static void test_networks(void **state) {
    (void)state;
    watcher w;
    tl_context *ctx = watched_context(&w, (size_t)100 << 20);
    tl_model *model = NULL;
    assert_refused_early(&w, SMALL, tl_model_create(ctx, "vgg16", 0, 1, &model), TL_LIMIT);
    assert_null(model);
    tl_context_free(ctx);
    assert_int_equal(w.live, 0);
}

/* A picture whose header promises more than the limits allow. */
static void test_pictures(void **state) {
    (void)state;
    static const unsigned char header[] = {
        'B', 'M', 0, 0, 0,    0,    0, 0, 0,    0,    54, 0, 0, 0, /* file */
        40,  0,   0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0,  0, 1, 0, 24, 0, 0, 0, 0, 0,
        0,   0,   0, 0, 0,    0,    0, 0, 0,    0,    0,  0, 0, 0, 0,  0, 0, 0, 0, 0};
    watcher w;
    tl_context *ctx = watched_context(&w, 0);
    tl_model *model = NULL;
    assert_ok(tl_model_create_empty(ctx, 8, 8, 3, &model));
    assert_ok(tl_model_set_head(model, "gap", "", "softmax", 2, NULL, 1));
    float p[2];
    w.largest = 0;
    tl_status status = tl_model_predict_encoded(model, header, sizeof header, p);
    assert_true(status == TL_LIMIT || status == TL_TRUNCATED || status == TL_CORRUPT);
    assert_true(w.largest < SMALL);
    tl_model_free(model);
    tl_context_free(ctx);
    assert_int_equal(w.live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),  cmocka_unit_test(test_layers),
        cmocka_unit_test(test_batches),  cmocka_unit_test(test_networks),
        cmocka_unit_test(test_pictures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
