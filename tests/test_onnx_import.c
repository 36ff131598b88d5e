/* What ONNX networks become: the same answers as PyTorch's, and models that fine-tune and are
 * saved. Hostile files are in test_onnx.c. */
#include "support.h"

#include "hostile.h"
#include "model/model.h"
#include "onnx_writer.h"

typedef struct golden_network {
    const char *name;
    int height, width, outputs;
    const double *answer; /* to two pictures */
} golden_network;

#include "golden/onnx.h"

enum { NETWORKS = (int)(sizeof golden_networks / sizeof golden_networks[0]), PICTURES = 2 };

static tl_model *load_golden(tl_context *ctx, const golden_network *network) {
    char path[128];
    tl_model *model = NULL;
    snprintf(path, sizeof path, "tests/golden/onnx/%s.onnx", network->name);
    assert_ok(tl_model_load(ctx, path, &model));
    return model;
}

/* The formula of make_onnx.py. */
static tl_tensor *make_pictures(tl_context *ctx, int height, int width) {
    tl_tensor *x = NULL;
    assert_ok(tl_tensor_create(ctx, TL_F32, 4, (int64_t[]){PICTURES, height, width, 3}, &x));
    float *values = tl_tensor_data(x);
    for (int64_t i = 0; i < tl_tensor_count(x); i++) {
        values[i] = (float)((double)((i * 37 + 11) % 101 - 50) / 25);
    }
    return x;
}

static tl_tensor *run_golden(tl_context *ctx, const tl_model *model,
                             const golden_network *network) {
    tl_tensor *x = make_pictures(ctx, network->height, network->width), *y = NULL;
    assert_ok(tl_model_run(model, x, &y));
    assert_int_equal(tl_tensor_count(y), PICTURES * network->outputs);
    tl_tensor_free(x);
    return y;
}

static void check_answer(const golden_network *network, const tl_tensor *y) {
    const float *got = tl_tensor_const_data(y);
    double largest = 0;
    int count = PICTURES * network->outputs;
    for (int i = 0; i < count; i++) largest = fmax(largest, fabs(network->answer[i]));
    for (int i = 0; i < count; i++) {
        if (!(fabs((double)got[i] - network->answer[i]) <= 1e-5 * largest)) {
            fail_msg("%s: element %d is %g, expected %g", network->name, i, (double)got[i],
                     network->answer[i]);
        }
    }
}

static void networks_answer_as_pytorch_does(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    for (int i = 0; i < NETWORKS; i++) {
        tl_model *model = load_golden(ctx, &golden_networks[i]);
        tl_tensor *y = run_golden(ctx, model, &golden_networks[i]);
        check_answer(&golden_networks[i], y);
        assert_int_equal(tl_model_class_count(model), golden_networks[i].outputs);
        tl_tensor_free(y);
        tl_model_free(model);
    }
    tl_context_free(ctx);
}

/* --- saved and loaded again ------------------------------------------------------------------- */

static void saved_networks_answer_the_same(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    char *folder = make_folder(), path[4200];
    snprintf(path, sizeof path, "%s/m.safetensors", folder);
    for (int i = 0; i < NETWORKS; i++) {
        tl_model *model = load_golden(ctx, &golden_networks[i]), *copy = NULL;
        tl_tensor *y = run_golden(ctx, model, &golden_networks[i]), *again = NULL;
        assert_ok(tl_model_save(model, path));
        assert_ok(tl_model_load(ctx, path, &copy));
        again = run_golden(ctx, copy, &golden_networks[i]);
        assert_memory_equal(tl_tensor_const_data(y), tl_tensor_const_data(again),
                            (size_t)tl_tensor_count(y) * sizeof(float));
        assert_int_equal(tl_model_feature_count(model), tl_model_feature_count(copy));
        tl_tensor_free(y);
        tl_tensor_free(again);
        tl_model_free(model);
        tl_model_free(copy);
    }
    remove_folder(folder);
    tl_context_free(ctx);
}

/* --- preprocessing is asked for --------------------------------------------------------------- */

static tl_status predict(const tl_model *model) {
    static const unsigned char pixels[4 * 4 * 3];
    float probabilities[16];
    return tl_model_predict_rgb(model, pixels, 4, 4, 12, probabilities);
}

static void preprocessing_is_asked_for_and_kept(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = load_golden(ctx, &golden_networks[0]), *copy = NULL;
    char *folder = make_folder(), path[4200], *json = NULL;
    snprintf(path, sizeof path, "%s/m.safetensors", folder);
    assert_fails(predict(model), TL_INVALID_ARGUMENT,
                 "residual_unfolded.onnx is not known: choose one of torchvision, ");
    assert_ok(tl_model_describe(model, &json));
    assert_non_null(strstr(json, "\"preprocess\": null"));
    tl_string_free(ctx, json);
    /* Saving does not make it known. */
    assert_ok(tl_model_save(model, path));
    assert_ok(tl_model_load(ctx, path, &copy));
    assert_fails(predict(copy), TL_INVALID_ARGUMENT, "m.safetensors is not known: choose one of");
    assert_fails(tl_model_verify(copy, NULL), TL_NOT_FOUND, "no golden vectors");
    tl_model_free(copy);
    assert_ok(tl_model_set_preprocess(model, "keras-caffe"));
    assert_ok(predict(model));
    assert_ok(tl_model_save(model, path));
    assert_ok(tl_model_load(ctx, path, &copy));
    assert_ok(predict(copy));
    assert_ok(tl_model_verify(copy, NULL));
    tl_model_free(copy);
    tl_model_free(model);
    remove_folder(folder);
    tl_context_free(ctx);
}

/* --- as a backbone ---------------------------------------------------------------------------- */

static double sum_of_squares(const float *values, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)values[i] * (double)values[i];
    return sum;
}

/* One step of gradient descent on a loss that is the sum of the logits of class 0. */
static double logit_after_step(tl_model *model, const tl_tensor *x, float rate) {
    tl_graph *graph = model->graph;
    tl_plan_options options = {.to = tl_graph_logits(graph), .training = true};
    options.input = tl_tensor_get_shape(x);
    tl_plan *plan = NULL;
    float grad[PICTURES * 3] = {0};
    double logit = 0;
    assert_ok(tl_plan_create(graph, &options, &plan));
    assert_ok(tl_plan_forward(plan, tl_tensor_const_data(x), PICTURES, 0, true));
    for (int i = 0; i < PICTURES; i++) {
        logit += (double)((const float *)tl_plan_output(plan).data)[3 * i];
        grad[3 * i] = 1;
    }
    assert_ok(tl_plan_backward(plan, grad));
    int64_t count = 0;
    float *gradients = tl_plan_gradients(plan, &count);
    for (int p = 0; p < graph->param_count; p++) {
        int64_t offset = tl_plan_gradient_offset(plan, p);
        const tl_param *param = &graph->param[p];
        assert_true((offset >= 0) == param->learned);
        if (offset < 0) continue;
        int64_t size = tl_shape_count(&param->shape);
        /* A bias before a normalisation has none; weights do. */
        if (strstr(param->name, "weight") && !(sum_of_squares(gradients + offset, size) > 0)) {
            fail_msg("%s has no gradient", param->name);
        }
        float *value = tl_tensor_f32(param->value);
        for (int64_t i = 0; i < size; i++) value[i] -= rate * gradients[offset + i];
    }
    tl_plan_free(plan);
    return logit;
}

static void imported_networks_fine_tune(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    for (int i = 0; i < NETWORKS; i++) {
        const golden_network *network = &golden_networks[i];
        tl_model *model = load_golden(ctx, network);
        tl_tensor *x = make_pictures(ctx, network->height, network->width);
        assert_int_equal(model->graph->node[model->features].shape.rank, 4);
        assert_ok(tl_model_set_head(model, "gap", "", "softmax", 3, NULL, 7));
        double before = logit_after_step(model, x, 1e-3f);
        double after = logit_after_step(model, x, 0);
        if (!(after < before)) {
            fail_msg("%s: the loss went from %g to %g", network->name, before, after);
        }
        tl_tensor_free(x);
        tl_model_free(model);
    }
    tl_context_free(ctx);
}

/* Layers bear their weights' names, so that a prefix freezes what it says. */
static void layers_are_named_after_their_weights(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = load_golden(ctx, &golden_networks[0]);
    const tl_graph *graph = model->graph;
    static const char *const names[] = {"conv1", "bn1", "conv2", "bn2", "fc"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (tl_graph_find_node(graph, names[i]) < 0) fail_msg("no layer is called %s", names[i]);
    }
    assert_ok(tl_model_freeze(model, "conv", true));
    assert_false(graph->param[tl_graph_find_param(graph, "conv1.weight")].trainable);
    assert_true(graph->param[tl_graph_find_param(graph, "bn1.gamma")].trainable);
    tl_model_free(model);
    tl_context_free(ctx);
}

/* SqueezeNet's classifier is a convolution, which a new head replaces too. */
static void convolutional_classifiers_are_cut(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    for (int i = 0; i < NETWORKS; i++) {
        if (strcmp(golden_networks[i].name, "squeeze") != 0) continue;
        tl_model *model = load_golden(ctx, &golden_networks[i]);
        assert_int_equal(tl_model_feature_count(model), 8);
        assert_ok(tl_model_remove_head(model));
        assert_string_equal(tl_model_layer_type(model, tl_model_layer_count(model) - 1), "concat");
        tl_model_free(model);
    }
    tl_context_free(ctx);
}

/* --- single operators ------------------------------------------------------------------------- */

/* Runs x [1, 3, 4, 4] -> nodes -> "y" on the pictures' values; the answer's element count. */
static tl_status run_built(tl_context *ctx, bytes *graph, int64_t opset, tl_tensor **y) {
    bytes b = {0};
    tl_model *model = NULL;
    tl_tensor *x = NULL;
    put_output(graph, "y");
    finish_model(&b, graph, opset);
    tl_status status = tl_model_load_memory(ctx, b.data, b.size, &model);
    free(b.data);
    if (status != TL_OK) return status;
    x = make_pictures(ctx, 4, 4);
    status = tl_model_run(model, x, y);
    tl_tensor_free(x);
    tl_model_free(model);
    return status;
}

static void half_precision_weights_are_read(void **state) {
    (void)state;
    static const uint16_t halves[3] = {0x3c00, 0xc000, 0x3800}; /* 1, -2, 0.5 */
    tl_context *ctx = make_context(1, NULL);
    bytes graph = {0}, tensor = begin_tensor("w", 10, 4, (int64_t[]){1, 3, 1, 1});
    tl_tensor *x = make_pictures(ctx, 4, 4), *y = NULL;
    pb_data(&tensor, 9, halves, sizeof halves);
    pb_message(&graph, 5, &tensor);
    put_input(&graph, "x", 4, (int64_t[]){0, 3, 4, 4});
    put_node(&graph, "Conv", "x w", "y");
    assert_ok(run_built(ctx, &graph, 13, &y));
    const float *in = tl_tensor_const_data(x), *out = tl_tensor_const_data(y);
    for (int i = 0; i < 32; i++) {
        float expected = in[3 * i] - 2 * in[3 * i + 1] + 0.5f * in[3 * i + 2];
        assert_true(fabsf(out[i] - expected) < 1e-6f);
    }
    tl_tensor_free(x);
    tl_tensor_free(y);
    tl_context_free(ctx);
}

/* The window slides over what ONNX calls height and width, never over N H W C. */
static void windows_need_their_order(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    bytes graph = {0}, turn = begin_node("Transpose", "x", "t");
    tl_tensor *y = NULL;
    put_input(&graph, "x", 4, (int64_t[]){0, 3, 4, 4});
    put_attr_ints(&turn, "perm", 4, (int64_t[]){0, 2, 3, 1});
    pb_message(&graph, 1, &turn);
    put_node(&graph, "GlobalAveragePool", "t", "y");
    assert_fails(run_built(ctx, &graph, 13, &y), TL_UNSUPPORTED, "something else than N C H W");
    tl_context_free(ctx);
}

/* A network that was exported for two pictures has the 2 in its shapes. */
static void a_fixed_batch_is_no_limit(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    bytes graph = {0}, b = {0};
    put_input(&graph, "x", 4, (int64_t[]){2, 3, 4, 4});
    put_ints(&graph, "shape", 2, (int64_t[]){2, 48});
    put_node(&graph, "Reshape", "x shape", "f");
    put_floats(&graph, "w", 2, (int64_t[]){48, 5});
    put_node(&graph, "MatMul", "f w", "y");
    put_output(&graph, "y");
    finish_model(&b, &graph, 13);
    tl_model *model = NULL;
    assert_ok(tl_model_load_memory(ctx, b.data, b.size, &model));
    for (int64_t count = 1; count <= 3; count++) {
        tl_tensor *x = NULL, *y = NULL;
        assert_ok(tl_tensor_create(ctx, TL_F32, 4, (int64_t[]){count, 4, 4, 3}, &x));
        assert_ok(tl_model_run(model, x, &y));
        assert_int_equal(tl_tensor_count(y), 5 * count);
        assert_int_equal(tl_tensor_shape(y)[0], count);
        tl_tensor_free(x);
        tl_tensor_free(y);
    }
    tl_model_free(model);
    tl_context_free(ctx);
    free(b.data);
}

/* x, its mean, and a gather of all its elements by the indices "i", which the caller adds. */
static tl_status run_strided(tl_context *ctx, bytes *graph, tl_tensor **y) {
    put_ints(graph, "row", 1, (int64_t[]){-1});
    put_node(graph, "GlobalAveragePool", "x", "p");
    put_node(graph, "Reshape", "p row", "r");
    put_node(graph, "Gather", "r i", "g");
    put_node(graph, "Flatten", "g", "y");
    return run_built(ctx, graph, 18, y);
}

/* What PyTorch's newer exporter writes for a change of memory order: indices for two pictures. */
static tl_status run_fixed_gather(tl_context *ctx, const int64_t *indices, const int64_t *dims,
                                  tl_tensor **y) {
    bytes graph = {0};
    put_input(&graph, "x", 4, (int64_t[]){2, 3, 4, 4});
    put_ints_shaped(&graph, "i", 4, dims, indices);
    return run_strided(ctx, &graph, y);
}

/* The same for any number of pictures, `row` elements each. */
static tl_status run_dynamic_gather(tl_context *ctx, int64_t row, tl_tensor **y) {
    bytes graph = {0};
    put_input(&graph, "x", 4, (int64_t[]){0, 3, 4, 4});
    put_ints_shaped(&graph, "zero", 0, NULL, (int64_t[]){0});
    put_ints_shaped(&graph, "one", 0, NULL, (int64_t[]){1});
    put_ints_shaped(&graph, "rows", 0, NULL, &row);
    put_ints_shaped(&graph, "within", 4, (int64_t[]){1, 3, 1, 1}, (int64_t[]){0, 1, 2});
    put_ints_shaped(&graph, "none", 4, (int64_t[]){1, 1, 1, 1}, (int64_t[]){0});
    put_ints(&graph, "axes", 3, (int64_t[]){1, 2, 3});
    bytes shape = begin_node("Shape", "x", "s");
    put_attr_int(&shape, "end", 1);
    pb_message(&graph, 1, &shape);
    put_node(&graph, "Squeeze", "s", "n");
    put_node(&graph, "Range", "zero n one", "pictures");
    put_node(&graph, "Mul", "pictures rows", "firsts");
    put_node(&graph, "Unsqueeze", "firsts axes", "column");
    put_node(&graph, "Add", "column within", "i0");
    put_node(&graph, "Add", "i0 none", "i1");
    put_node(&graph, "Add", "i1 none", "i");
    return run_strided(ctx, &graph, y);
}

static void gathers_of_everything_in_place_are_nothing(void **state) {
    (void)state;
    static const int64_t up[] = {0, 1, 2, 3, 4, 5}, turned[] = {1, 0, 2, 3, 4, 5};
    static const int64_t same[] = {2, 3, 1, 1}, other[] = {2, 1, 3, 1};
    tl_context *ctx = make_context(1, NULL);
    tl_tensor *plain = NULL, *fixed = NULL, *any = NULL;
    bytes graph = {0};
    put_input(&graph, "x", 4, (int64_t[]){0, 3, 4, 4});
    put_node(&graph, "GlobalAveragePool", "x", "p");
    put_node(&graph, "Flatten", "p", "y");
    assert_ok(run_built(ctx, &graph, 18, &plain));
    assert_ok(run_fixed_gather(ctx, up, same, &fixed));
    assert_ok(run_dynamic_gather(ctx, 3, &any));
    assert_memory_equal(tl_tensor_const_data(plain), tl_tensor_const_data(fixed),
                        6 * sizeof(float));
    assert_memory_equal(tl_tensor_const_data(plain), tl_tensor_const_data(any), 6 * sizeof(float));
    tl_tensor_free(plain);
    tl_tensor_free(fixed);
    tl_tensor_free(any);
    assert_fails(run_fixed_gather(ctx, turned, same, &fixed), TL_UNSUPPORTED, "");
    assert_fails(run_fixed_gather(ctx, up, other, &fixed), TL_UNSUPPORTED, "gathering");
    assert_fails(run_dynamic_gather(ctx, 2, &any), TL_UNSUPPORTED, "Range");
    tl_context_free(ctx);
}

static void constants_meet_channels_only(void **state) {
    (void)state;
    static const struct {
        const char *type, *inputs;
        int rank;
        int64_t dims[4];
        tl_status status;
    } rows[] = {
        {"Add", "x k", 3, {3, 1, 1}, TL_OK},
        {"Sub", "k x", 4, {1, 3, 1, 1}, TL_OK},
        {"Mul", "k x", 0, {0}, TL_OK},
        {"Add", "x k", 1, {4}, TL_UNSUPPORTED},
        {"Mul", "x k", 2, {4, 4}, TL_UNSUPPORTED},
        {"Div", "k x", 0, {0}, TL_UNSUPPORTED},
        {"Sub", "x x", 0, {0}, TL_UNSUPPORTED},
    };
    tl_context *ctx = make_context(1, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bytes graph = {0};
        tl_tensor *y = NULL;
        put_input(&graph, "x", 4, (int64_t[]){0, 3, 4, 4});
        put_floats(&graph, "k", rows[i].rank, rows[i].dims);
        put_node(&graph, rows[i].type, rows[i].inputs, "y");
        tl_status status = run_built(ctx, &graph, 13, &y);
        if (status != rows[i].status) fail_msg("row %zu: %s", i, tl_last_error());
        tl_tensor_free(y);
    }
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_answer_as_pytorch_does),
        cmocka_unit_test(saved_networks_answer_the_same),
        cmocka_unit_test(preprocessing_is_asked_for_and_kept),
        cmocka_unit_test(imported_networks_fine_tune),
        cmocka_unit_test(layers_are_named_after_their_weights),
        cmocka_unit_test(convolutional_classifiers_are_cut),
        cmocka_unit_test(half_precision_weights_are_read),
        cmocka_unit_test(windows_need_their_order),
        cmocka_unit_test(a_fixed_batch_is_no_limit),
        cmocka_unit_test(gathers_of_everything_in_place_are_nothing),
        cmocka_unit_test(constants_meet_channels_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
