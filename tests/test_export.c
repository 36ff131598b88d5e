/* Models written as ONNX and read back. tests/parity/export.py holds the files against ONNX
 * Runtime. */
#include "support.h"

#include "layer/op.h"
#include "model/onnx_export.h"
#include "small_network.h"

static tl_tensor *random_input(tl_context *ctx, int height, int width) {
    tl_tensor *input = NULL;
    uint64_t seed = 3;
    assert_ok(tl_tensor_create(ctx, TL_F32, 4, (int64_t[]){2, height, width, 3}, &input));
    float *data = tl_tensor_data(input);
    for (int64_t i = 0; i < tl_tensor_count(input); i++) data[i] = support_random(&seed);
    return input;
}

/* Exports, reads back, and expects the same answers. */
static void round_trip(const tl_model *model, int height, int width) {
    tl_context *ctx = model->ctx;
    char *folder = make_folder();
    char path[4200];
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    assert_ok(tl_model_export_onnx(model, path));
    tl_model *back = NULL;
    assert_ok(tl_model_load(ctx, path, &back));
    tl_tensor *input = random_input(ctx, height, width), *want = NULL, *got = NULL;
    assert_ok(tl_model_run(model, input, &want));
    assert_ok(tl_model_run(back, input, &got));
    assert_int_equal(tl_tensor_count(got), tl_tensor_count(want));
    const float *a = tl_tensor_const_data(want), *b = tl_tensor_const_data(got);
    float largest = 0;
    for (int64_t i = 0; i < tl_tensor_count(want); i++) largest = fmaxf(largest, fabsf(a[i]));
    for (int64_t i = 0; i < tl_tensor_count(want); i++) {
        if (fabsf(a[i] - b[i]) > 1e-5f * largest)
            fail_msg("answer %d: %g and %g", (int)i, a[i], b[i]);
    }
    assert_int_equal(tl_model_class_count(back), tl_model_class_count(model));
    for (int i = 0; i < tl_model_class_count(model); i++) {
        assert_string_equal(tl_model_class_name(back, i), tl_model_class_name(model, i));
    }
    tl_tensor_free(want);
    tl_tensor_free(got);
    tl_tensor_free(input);
    tl_model_free(back);
    remove_folder(folder);
}

/* Loaded from a file, a model leaves its weights there until they are asked for. */
static void a_loaded_model_is_exported(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = small_network(ctx, 24), *loaded = NULL;
    char *folder = make_folder();
    char path[4200];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(tl_model_set_head(model, "gap", "", "softmax", 3, NULL, 5));
    assert_ok(tl_model_save(model, path));
    assert_ok(tl_model_load(ctx, path, &loaded));
    round_trip(loaded, 24, 24);
    remove_folder(folder);
    tl_model_free(loaded);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void a_fine_tuned_model_comes_back_with_its_classes(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    tl_model *model = small_network(ctx, 33);
    const char *names[] = {"caf\xc3\xa9 \"noir\"", "th\xc3\xa9", "eau"};
    assert_ok(tl_model_set_head(model, "flatten", "24,relu,dropout:0.5", "softmax", 3, names, 5));
    round_trip(model, 33, 33);
    assert_ok(tl_model_set_head(model, "gap", "", "sigmoid", 2, NULL, 5));
    round_trip(model, 33, 33);
    tl_model_free(model);
    tl_context_free(ctx);
}

/* Every operator of ours but those of the test above, on pictures that are not square. */
static void every_operator_comes_back(void **state) {
    (void)state;
    static const struct {
        const char *type, *attributes;
    } layers[] = {
        {"conv2d", "filters=8 kernel=3,5 stride=2 padding=same"},
        {"silu", NULL},
        {"conv2d", "filters=8 kernel=3 pad=1,0,2,1 groups=2 dilation=1,2"},
        {"hard_swish", NULL},
        {"max_pool", "kernel=3 stride=2 pad=1 ceil_mode=1"},
        {"relu6", NULL},
        {"channel_shuffle", "groups=4"},
        {"avg_pool", "kernel=2 stride=1 pad=1 count_include_pad=1"},
        {"scale_shift", NULL},
        {"hard_sigmoid", NULL},
        {"avg_pool", "kernel=3 stride=1 padding=same"},
        {"layer_norm", NULL},
        {"gelu", NULL},
        {"slice", "begin=2 end=7"},
        {"zero_pad", "pad=1,0,2,1"},
        {"identity", NULL},
    };
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = NULL;
    assert_ok(tl_model_create_empty(ctx, 29, 22, 3, &model));
    char name[32];
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        snprintf(name, sizeof name, "layer%zu", i);
        assert_ok(tl_model_add(model, layers[i].type, name, layers[i].attributes, NULL, 0, i));
    }
    const char *last = name;
    assert_ok(tl_model_add(model, "global_max_pool", "gate", NULL, &last, 1, 0));
    assert_ok(tl_model_add(model, "multiply", "gated", NULL, (const char *[]){last, "gate"}, 2, 0));
    assert_ok(tl_model_add(model, "add", "sum", NULL, (const char *[]){last, "gated", last}, 3, 0));
    assert_ok(tl_model_add(model, "concat", "both", NULL, (const char *[]){"sum", last}, 2, 0));
    assert_ok(tl_model_set_head(model, "flatten", "7", "softmax", 4, NULL, 1));
    round_trip(model, 29, 22);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void every_operator_has_an_emitter(void **state) {
    (void)state;
    for (const tl_op *const *op = tl_op_all(); *op; op++) {
        bool input = strcmp((*op)->name, "input") == 0;
        if (!input && !tl_onnx_emitter_find(*op)) fail_msg("%s has none", (*op)->name);
    }
}

static void failures_leave_the_file(void **state) {
    (void)state;
    char *folder = make_folder();
    char path[4200], command[4300];
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    snprintf(command, sizeof command, "test \"$(cat '%s')\" = old && test $(ls '%s' | wc -l) = 1",
             path, folder);
    write_bytes(path, "old", 3);
    for (size_t n = 1;; n++) {
        counting_allocator allocator = {0};
        tl_context *ctx = make_context(1, &allocator);
        tl_model *model = small_network(ctx, 16);
        assert_ok(tl_model_set_head(model, "gap", "", "softmax", 3, NULL, 5));
        size_t live = allocator.live;
        allocator.fail_at = allocator.calls + n;
        tl_status status = tl_model_export_onnx(model, path);
        assert_int_equal(allocator.live, live);
        tl_model_free(model);
        tl_context_free(ctx);
        if (status == TL_OK) break;
        assert_int_equal(status, TL_NO_MEMORY);
        if (n % 16 == 1) assert_int_equal(system(command), 0);
    }
    remove_folder(folder);
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = small_network(ctx, 16);
    assert_fails(tl_model_export_onnx(model, "/nowhere/at/all.onnx"), TL_NOT_FOUND,
                 "/nowhere/at/all.onnx");
    assert_fails(tl_model_export_onnx(NULL, "x"), TL_INVALID_ARGUMENT, "NULL");
    assert_fails(tl_model_export_onnx(model, NULL), TL_INVALID_ARGUMENT, "NULL");
    tl_model_free(model);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fine_tuned_model_comes_back_with_its_classes),
        cmocka_unit_test(a_loaded_model_is_exported),
        cmocka_unit_test(every_operator_comes_back),
        cmocka_unit_test(every_operator_has_an_emitter),
        cmocka_unit_test(failures_leave_the_file),
    };
    return cmocka_run_group_tests_name("export", tests, NULL, NULL);
}
