/* Every backbone against its reference implementation: recognition of its weights, logits,
 * gradients and running statistics; see golden/make_backbones.py. */
#include <jansson.h>

#include "golden_network.h"

#include "golden/backbones.h"
#include "golden/backbones_keras.h"

/* --- comparisons
 * ---------------------------------------------------------------------------------- */

static double worst_answer; /* of all cases, for the record */

static void check_answers(const char *name, const float *logits, int64_t count, double largest,
                          const double *first, const double *last) {
    double error = 0;
    for (int i = 0; i < GOLDEN_ANSWERS; i++) {
        error = fmax(error, fabs((double)logits[i] - first[i]));
        error = fmax(error, fabs((double)logits[count - GOLDEN_ANSWERS + i] - last[i]));
    }
    error /= largest;
    worst_answer = fmax(worst_answer, error);
    if (!(error <= 1e-4)) fail_msg("%s: logits differ by %g of the largest", name, error);
}

static void check_values(const char *model, const golden_param *golden, const float *value,
                         double tolerance) {
    double error = 0, largest = 0;
    for (int i = 0; i < GOLDEN_GRADIENTS; i++) {
        largest = fmax(largest, fabs(golden->value[i]));
        error = fmax(error, fabs((double)value[i] - golden->value[i]));
    }
    if (!(error <= tolerance * largest))
        fail_msg("%s, %s: off by %g of %g", model, golden->name, error, largest);
}

static void check_training(tl_model *model, const golden_backbone *g, const tl_tensor *input) {
    tl_plan_options options = {.to = tl_graph_logits(model->graph),
                               .input = tl_tensor_get_shape(input),
                               .training = true,
                               .batch_norm_training = g->batch_norm_training};
    tl_plan *plan = NULL;
    assert_ok(tl_plan_create(model->graph, &options, &plan));
    assert_ok(tl_plan_forward(plan, tl_tensor_const_f32(input), g->batch, 0, true));
    tl_view logits = tl_plan_output(plan);
    int64_t count = tl_shape_count(&logits.shape);
    check_answers(g->name, logits.data, count, g->largest, g->first, g->last);
    float *gradient = malloc((size_t)count * sizeof *gradient);
    double loss = cross_entropy(logits.data, g->batch, (int)(count / g->batch), gradient);
    assert_true(fabs(loss - g->loss) <= 1e-4 * fabs(g->loss));
    tl_plan_zero_gradients(plan);
    assert_ok(tl_plan_backward(plan, gradient));
    free(gradient);
    float *gradients = tl_plan_gradients(plan, &count);
    for (const golden_param *p = g->gradient; p->name; p++) {
        int param = tl_graph_find_param(model->graph, p->name);
        assert_true(param >= 0);
        check_values(g->name, p, gradients + tl_plan_gradient_offset(plan, param), 1e-3);
    }
    for (const golden_param *p = g->statistics; p->name; p++) {
        int param = tl_graph_find_param(model->graph, p->name);
        assert_true(param >= 0);
        check_values(g->name, p, tl_tensor_f32(model->graph->param[param].value), 1e-4);
    }
    tl_plan_free(plan);
}

static void check_backbone(const golden_backbone *g) {
    tl_context *ctx = make_context(2, NULL);
    tl_model *model = load_seeded(ctx, g->name, g->scheme, g->classes, g->gamma);
    assert_string_equal(model->backbone, g->name);
    assert_int_equal(tl_model_class_count(model), g->classes);
    if (g->classes)
        assert_string_equal(tl_model_class_name(model, 1), g->classes == 1000 ? "goldfish" : "1");

    tl_tensor *input = make_input(ctx, g->batch, g->height, g->width), *output = NULL;
    if (!g->batch_norm_training) {
        assert_ok(tl_model_run(model, input, &output));
        check_answers(g->name, tl_tensor_const_f32(output), tl_tensor_count(output), g->largest,
                      g->first, g->last);
        tl_tensor_free(output);
    }
    if (g->gradient[0].name) check_training(model, g, input);
    tl_tensor_free(input);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_backbones_agree_with_pytorch(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof golden_pytorch / sizeof golden_pytorch[0]; i++)
        check_backbone(&golden_pytorch[i]);
    print_message("largest relative difference of logits from PyTorch's: %.2g\n", worst_answer);
}

static void test_backbones_agree_with_keras(void **state) {
    (void)state;
    worst_answer = 0;
    for (size_t i = 0; i < sizeof golden_keras / sizeof golden_keras[0]; i++)
        check_backbone(&golden_keras[i]);
    print_message("largest relative difference of logits from Keras's: %.2g\n", worst_answer);
}

/* --- recognition ---------------------------------------------------------------------------------
 */

static void check_refusal(file_options options, tl_status status, const char *text) {
    tl_context *ctx = make_context(1, NULL);
    weights_file file = make_file(ctx, &options);
    tl_model *model = NULL;
    assert_fails(tl_model_load_memory(ctx, file.bytes, file.size, &model), status, text);
    assert_null(model);
    free(file.bytes);
    tl_context_free(ctx);
}

static void test_what_does_not_fit_is_listed(void **state) {
    (void)state;
    const tl_backbone *resnet = tl_backbone_find("resnet18");
    const tl_backbone *lite = tl_backbone_find("efficientnet_lite0");
    file_options r = {.backbone = resnet, .variant = resnet->variant, .classes = 3, .gamma = 1};
    file_options l = {
        .backbone = lite, .variant = find_variant(lite, "timm"), .classes = 3, .gamma = 1};
    file_options o = r;
    o.drop = "layer2.0.bn1.running_mean";
    check_refusal(o, TL_UNSUPPORTED, "missing 1 (layer2.0.bn1.running_mean [128])");
    check_refusal(o, TL_UNSUPPORTED, "not quite resnet18 with torchvision names: 101 tensors fit");
    o.add = "layer2.0.bn1.mean";
    check_refusal(o, TL_UNSUPPORTED, "left over 1 (layer2.0.bn1.mean [2])");
    o = r;
    o.widen = "conv1.weight";
    check_refusal(o, TL_UNSUPPORTED, "conv1.weight is [65, 3, 7, 7], not [64, 3, 7, 7]");
    o = r;
    o.widen = "fc.bias";
    check_refusal(o, TL_UNSUPPORTED, "fc.bias is [4], not [3]");
    o = r;
    o.poison = "bn1.bias";
    check_refusal(o, TL_CORRUPT, "bn1.bias: element 1 is nan");
    o = l;
    o.drop = "blocks.0.0.conv_pw.weight";
    check_refusal(o, TL_UNSUPPORTED, "efficientnet_lite0 with timm names");
    check_refusal(o, TL_UNSUPPORTED, "missing 1 (blocks.0.0.conv_pw.weight [16, 32, 1, 1])");
}

static void test_batch_counters_are_ignored(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    const tl_backbone *resnet = tl_backbone_find("resnet18");
    file_options o = {.backbone = resnet,
                      .variant = resnet->variant,
                      .classes = 5,
                      .gamma = 1,
                      .add = "bn1.num_batches_tracked"};
    weights_file file = make_file(ctx, &o);
    tl_model *model = NULL;
    assert_ok(tl_model_load_memory(ctx, file.bytes, file.size, &model));
    assert_int_equal(tl_model_class_count(model), 5);
    tl_model_free(model);
    free(file.bytes);
    tl_context_free(ctx);
}

static void test_auxiliary_classifiers_are_ignored(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    const tl_backbone *inception = tl_backbone_find("inception_v3");
    file_options o = {.backbone = inception,
                      .variant = inception->variant,
                      .classes = 5,
                      .gamma = 1,
                      .add = "AuxLogits.fc.bias"};
    weights_file file = make_file(ctx, &o);
    tl_model *model = NULL;
    assert_ok(tl_model_load_memory(ctx, file.bytes, file.size, &model));
    tl_model_free(model);
    free(file.bytes);
    tl_context_free(ctx);
}

static void test_foreign_tensors_are_refused(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    const char header[] = "{\"decoder.weight\":{\"dtype\":\"F32\",\"shape\":[1],"
                          "\"data_offsets\":[0,4]}}";
    char bytes[8 + sizeof header - 1 + 4] = {0};
    bytes[0] = (char)(sizeof header - 1);
    memcpy(bytes + 8, header, sizeof header - 1);
    tl_model *model = NULL;
    assert_fails(tl_model_load_memory(ctx, bytes, sizeof bytes, &model), TL_UNSUPPORTED,
                 "none of its 1 tensors (the first is 'decoder.weight') belongs to a known");
    assert_null(model);
    tl_context_free(ctx);
}

/* What the scheme calls a parameter of a backbone, or "". */
static void check_name(tl_context *ctx, const char *backbone, const char *scheme,
                       const char *internal, const char *external) {
    const tl_backbone *b = tl_backbone_find(backbone);
    assert_non_null(b);
    const tl_variant *variant = find_variant(b, scheme);
    tl_graph *graph = NULL;
    int features = 0;
    assert_ok(tl_backbone_build(ctx, b, variant, 10, true, &graph, &features));
    tl_name_walk walk = tl_name_walk_make(variant->naming, graph, NULL);
    char name[TL_NAME_CAPACITY] = "";
    int wanted = tl_graph_find_param(graph, internal);
    assert_true(wanted >= 0);
    for (int i = 0; i <= wanted; i++) assert_true(tl_name_translate(&walk, i, name));
    assert_string_equal(name, external);
    tl_graph_free(graph);
}

static void test_names_are_translated(void **state) {
    (void)state;
    static const struct {
        const char *backbone, *scheme, *internal, *external;
    } names[] = {
        {"efficientnet-lite0", "lukemelas", "blocks.0.0.depthwise_bn.gamma",
         "_blocks.0._bn1.weight"},
        {"efficientnet-lite0", "lukemelas", "blocks.1.0.expand_conv.weight",
         "_blocks.1._expand_conv.weight"},
        {"efficientnet-lite0", "lukemelas", "blocks.1.1.project_bn.variance",
         "_blocks.2._bn2.running_var"},
        {"efficientnet-lite0", "timm", "blocks.0.0.project_bn.beta", "blocks.0.0.bn2.bias"},
        {"efficientnet-lite0", "timm", "blocks.1.0.project_bn.beta", "blocks.1.0.bn3.bias"},
        {"vgg16", "torchvision", "block5_conv3.weight", "features.28.weight"},
        {"vgg16_bn", "torchvision", "block5_bn3.mean", "features.41.running_mean"},
        {"vgg16", "keras", "predictions.bias", "predictions/bias"},
        {"mobilenet_v2", "torchvision", "blocks.6.0.project_bn.beta", "features.17.conv.3.bias"},
        {"mobilenet_v2", "keras", "blocks.6.0.project_bn.beta", "block_16_project_BN/beta"},
        {"inception_v3", "keras", "Mixed_5b.branch1x1.conv.weight", "conv2d_5/kernel"},
    };
    tl_context *ctx = make_context(1, NULL);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_name(ctx, names[i].backbone, names[i].scheme, names[i].internal, names[i].external);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 0, 0, 3, &graph));
    assert_ok(tl_graph_add(graph, "dense", "head.1.dense", "units=2", 1, (const int[]){0}, NULL));
    tl_name_walk walk = tl_name_walk_make(
        find_variant(tl_backbone_find("efficientnet_lite0"), "timm")->naming, graph, NULL);
    char name[TL_NAME_CAPACITY];
    assert_false(tl_name_translate(&walk, 0, name));
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* A file of tensors without any elements that matter, for names alone. The caller frees its bytes.
 */
static char *open_names(tl_context *ctx, int count, const char *const *names, tl_weights **out) {
    char header[1024] = "{", *bytes = calloc(1, sizeof header + 64);
    tl_shape shape = tl_shape_make(1, INT64_C(1));
    size_t used = 1, data = 0;
    for (int i = 0; i < count; i++)
        used = add_tensor(header, used, sizeof header, names[i], &shape, &data);
    header[used++] = '}';
    bytes[0] = (char)used;
    bytes[1] = (char)(used >> 8);
    memcpy(bytes + 8, header, used);
    tl_source source;
    assert_ok(tl_source_from_memory(ctx, "names", bytes, 8 + used + data, &source));
    assert_ok(tl_weights_open(ctx, &source, out));
    return bytes;
}

static void test_other_names_of_keras_variables_are_known(void **state) {
    (void)state;
    static const char *const names[] = {"block1_conv1/block1_conv1_W_1",
                                        "block1_conv1/block1_conv1_b_1",
                                        "conv_dw_1/depthwise_kernel", "fc1/kernel", "fc2/fc1_W_1"};
    tl_context *ctx = make_context(1, NULL);
    tl_weights *weights = NULL;
    char *bytes = open_names(ctx, 5, names, &weights);
    const tl_naming *keras = find_variant(tl_backbone_find("vgg16"), "keras")->naming;
    assert_int_equal(tl_name_find(keras, weights, "block1_conv1/kernel"), 0);
    assert_int_equal(tl_name_find(keras, weights, "block1_conv1/bias"), 1);
    assert_int_equal(tl_name_find(keras, weights, "conv_dw_1/kernel"), 2);
    assert_int_equal(tl_name_find(keras, weights, "fc1/kernel"), 3);
    assert_int_equal(tl_name_find(keras, weights, "fc2/kernel"), -1);
    assert_int_equal(tl_name_find(&tl_naming_torchvision, weights, "conv_dw_1/kernel"), -1);
    tl_weights_free(weights);
    free(bytes);
    tl_context_free(ctx);
}

/* Keras goes on counting where the models made before stopped. */
static void test_automatic_names_start_where_the_file_does(void **state) {
    (void)state;
    static const char *const names[] = {"conv2d_95/kernel", "conv2d_94/kernel", "conv2d_x/kernel",
                                        "batch_normalization/beta"};
    tl_context *ctx = make_context(1, NULL);
    tl_weights *weights = NULL;
    char *bytes = open_names(ctx, 4, names, &weights);
    const tl_backbone *inception = tl_backbone_find("inception_v3");
    const tl_variant *keras = find_variant(inception, "keras");
    tl_graph *graph = NULL;
    int features = 0;
    assert_ok(tl_backbone_build(ctx, inception, keras, 10, true, &graph, &features));
    tl_name_walk walk = tl_name_walk_make(keras->naming, graph, weights);
    static const char *const expected[] = {
        "conv2d_94/kernel",
        "batch_normalization/beta",
        "batch_normalization/moving_mean",
        "batch_normalization/moving_variance",
        "conv2d_95/kernel",
        "batch_normalization_1/beta",
    };
    for (int i = 0; i < 6; i++) {
        char name[TL_NAME_CAPACITY];
        assert_true(tl_name_translate(&walk, i, name));
        assert_string_equal(name, expected[i]);
    }
    tl_graph_free(graph);
    tl_weights_free(weights);
    free(bytes);
    tl_context_free(ctx);
}

/* A tensor of 0, 1, 2, ... in a framework's order must come out so that the element at output o,
 * row y, column x and input i is the one that the framework has there. */
static void check_conversion(tl_layout layout, const tl_graph *graph, const tl_param *param,
                             const int64_t dim[4], const int64_t stride[4]) {
    float from[512], to[512];
    int64_t count = tl_shape_count(&param->shape);
    assert_true(count <= 512);
    for (int64_t i = 0; i < count; i++) from[i] = (float)i;
    memset(to, 0xff, sizeof to);
    tl_layout_map map = tl_layout_map_of(layout, graph, param);
    assert_true(map.differs);
    int64_t half = map.shape.dim[0] / 2;
    tl_layout_convert(&map, from, half, map.shape.dim[0], to);
    tl_layout_convert(&map, from, 0, half, to);
    const float *value = to;
    for (int64_t o = 0; o < dim[0]; o++)
        for (int64_t y = 0; y < dim[1]; y++)
            for (int64_t x = 0; x < dim[2]; x++)
                for (int64_t i = 0; i < dim[3]; i++)
                    assert_int_equal(*value++,
                                     o * stride[0] + y * stride[1] + x * stride[2] + i * stride[3]);
}

static void test_layouts(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 4, 5, 3, &graph));
    int node = 0;
    assert_ok(
        tl_graph_add(graph, "conv2d", "conv", "filters=20 kernel=2,3 bias=0", 1, &node, &node));
    assert_ok(tl_graph_add(graph, "conv2d", "depthwise", "filters=20 kernel=2 groups=20 bias=0", 1,
                           &node, &node));
    assert_ok(tl_graph_add(graph, "conv2d", "point", "filters=2 kernel=1 bias=0", 1, &node, &node));
    assert_ok(tl_graph_add(graph, "flatten", "flatten", "", 1, &node, &node));
    assert_ok(tl_graph_add(graph, "dense", "fc1", "units=17 bias=0", 1, &node, &node));
    assert_ok(tl_graph_add(graph, "dense", "fc2", "units=3 bias=1", 1, &node, &node));
    const tl_param *conv = &graph->param[0], *depthwise = &graph->param[1];
    const tl_param *point = &graph->param[2], *fc1 = &graph->param[3], *fc2 = &graph->param[4];
    const int64_t c[4] = {20, 2, 3, 3}, d[4] = {20, 2, 2, 1}, p[4] = {2, 1, 1, 20};
    const int64_t f1[4] = {17, 2, 2, 2}, f2[4] = {3, 1, 1, 17};
    check_conversion(TL_LAYOUT_PYTORCH, graph, conv, c, (const int64_t[]){18, 3, 1, 6});
    check_conversion(TL_LAYOUT_KERAS, graph, conv, c, (const int64_t[]){1, 180, 60, 20});
    check_conversion(TL_LAYOUT_KERAS, graph, depthwise, d, (const int64_t[]){1, 40, 20, 0});
    check_conversion(TL_LAYOUT_KERAS, graph, point, p, (const int64_t[]){1, 0, 0, 2});
    check_conversion(TL_LAYOUT_PYTORCH, graph, fc1, f1, (const int64_t[]){8, 2, 1, 4});
    check_conversion(TL_LAYOUT_KERAS, graph, fc1, f1, (const int64_t[]){1, 68, 34, 17});
    check_conversion(TL_LAYOUT_KERAS, graph, fc2, f2, (const int64_t[]){1, 0, 0, 3});
    assert_false(tl_layout_map_of(TL_LAYOUT_PYTORCH, graph, depthwise).differs);
    assert_false(tl_layout_map_of(TL_LAYOUT_PYTORCH, graph, point).differs);
    assert_false(tl_layout_map_of(TL_LAYOUT_PYTORCH, graph, fc2).differs);

    const struct {
        const tl_param *param;
        tl_layout layout;
        int rank;
        int64_t dim[4];
        bool fits;
    } shapes[] = {
        {conv, TL_LAYOUT_PYTORCH, 4, {20, 3, 2, 3}, true},
        {conv, TL_LAYOUT_PYTORCH, 4, {2, 3, 3, 20}, false},
        {conv, TL_LAYOUT_KERAS, 4, {2, 3, 3, 20}, true},
        {depthwise, TL_LAYOUT_PYTORCH, 4, {20, 1, 2, 2}, true},
        {depthwise, TL_LAYOUT_KERAS, 4, {2, 2, 20, 1}, true},
        {depthwise, TL_LAYOUT_KERAS, 4, {2, 2, 1, 20}, true},
        {conv, TL_LAYOUT_KERAS, 4, {2, 3, 20, 3}, false},
        {fc1, TL_LAYOUT_PYTORCH, 2, {17, 8, 0, 0}, true},
        {fc1, TL_LAYOUT_PYTORCH, 4, {17, 2, 2, 2}, true},
        {fc1, TL_LAYOUT_PYTORCH, 4, {17, 8, 1, 1}, false},
        {fc1, TL_LAYOUT_KERAS, 2, {8, 17, 0, 0}, true},
        {fc1, TL_LAYOUT_KERAS, 2, {17, 8, 0, 0}, false},
        {fc2, TL_LAYOUT_PYTORCH, 4, {3, 17, 1, 1}, true},
        {fc2, TL_LAYOUT_KERAS, 4, {1, 1, 17, 3}, true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        tl_shape shape = {.rank = shapes[i].rank};
        memcpy(shape.dim, shapes[i].dim, sizeof shapes[i].dim);
        assert_int_equal(tl_layout_fits(shapes[i].layout, graph, shapes[i].param, &shape),
                         shapes[i].fits);
    }
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* --- what is said about backbones
 * ------------------------------------------------------------------- */

/* "torchvision, timm: `torchvision`; keras: `keras-caffe`" */
static void schemes_text(const json_t *schemes, char *text, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(schemes); i++) {
        const json_t *item = json_array_get(schemes, i), *next = json_array_get(schemes, i + 1);
        const json_t *preset = json_object_get(item, "preprocess");
        bool last = !next || !json_equal(json_object_get(next, "preprocess"), preset);
        const char *scheme = json_string_value(json_object_get(item, "scheme"));
        used += (size_t)snprintf(text + used, size - used, "%s", scheme);
        if (last)
            used += (size_t)snprintf(text + used, size - used, ": `%s`%s",
                                     json_string_value(preset), next ? "; " : "");
        else
            used += (size_t)snprintf(text + used, size - used, ", ");
    }
}

static char *read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = calloc(1, 1 << 16);
    assert_true(fread(text, 1, (1 << 16) - 1, file) < (1 << 16) - 1);
    fclose(file);
    return text;
}

static void test_the_table_of_backbones_is_right(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    char *page = read_text("docs/backbones.md"), row[512], schemes[256];
    int rows = 0;
    for (int i = 0; i < tl_backbone_count(); i++) {
        char *text = NULL;
        assert_ok(tl_backbone_describe(ctx, tl_backbone_name(i), &text));
        json_t *json = json_loads(text, 0, NULL);
        assert_non_null(json);
        schemes_text(json_object_get(json, "schemes"), schemes, sizeof schemes);
        snprintf(row, sizeof row, "\n| `%s` | %.1f M | %d | %s | %s |\n", tl_backbone_name(i),
                 (double)json_integer_value(json_object_get(json, "parameters")) / 1e6,
                 (int)json_integer_value(json_object_get(json, "input")), schemes,
                 json_is_true(json_object_get(json, "fetch")) ? "`tl fetch`" : "your own");
        if (!strstr(page, row)) fail_msg("docs/backbones.md lacks the row%s", row);
        json_decref(json);
        tl_string_free(ctx, text);
    }
    for (const char *p = page; (p = strstr(p, " M | ")); p++) rows++;
    assert_int_equal(rows, tl_backbone_count());
    for (int i = 0; i < tl_backbone_count(); i++)
        for (const tl_variant *v = tl_backbone_at(i)->variant; v->naming; v++) {
            tl_preprocess preprocess;
            assert_ok(tl_preprocess_preset(v->preprocess, 224, 224, &preprocess));
            snprintf(row, sizeof row, "\n| `%s` | ", v->preprocess);
            if (!strstr(page, row)) fail_msg("docs/backbones.md says nothing of %s", v->preprocess);
        }
    char *text = NULL;
    assert_fails(tl_backbone_describe(ctx, "resnet99", &text), TL_NOT_FOUND, "resnet101");
    assert_null(text);
    free(page);
    tl_context_free(ctx);
}

/* Preprocessing follows from whose names the file has. */
static void test_preprocessing_follows_the_scheme(void **state) {
    (void)state;
    static const struct {
        const char *backbone, *scheme;
        int width, resize;
        bool bgr;
        float mean;
    } cases[] = {
        {"mobilenet_v2", "torchvision", 224, 256, false, 0.485f * 255},
        {"mobilenet_v2", "keras", 224, 0, false, 127.5f},
        {"efficientnet_b2", "torchvision", 288, 288, false, 0.485f * 255},
        {"efficientnet_b2", "keras", 260, 0, false, 0.485f * 255},
        {"efficientnet_lite3", "timm", 300, 331, false, 127.5f},
        {"resnet50", "keras", 224, 0, true, 103.939f},
        {"inception_v3", "torchvision", 299, 342, false, 127.5f},
    };
    tl_context *ctx = make_context(2, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const tl_backbone *backbone = tl_backbone_find(cases[i].backbone);
        file_options options = {.backbone = backbone,
                                .variant = find_variant(backbone, cases[i].scheme),
                                .classes = 5,
                                .gamma = 1};
        weights_file file = make_file(ctx, &options);
        tl_model *model = NULL;
        assert_ok(tl_model_load_memory(ctx, file.bytes, file.size, &model));
        assert_string_equal(model->backbone, cases[i].backbone);
        assert_int_equal(model->preprocess.width, cases[i].width);
        assert_int_equal(model->preprocess.resize, cases[i].resize);
        assert_int_equal(model->preprocess.bgr, cases[i].bgr);
        assert_true(model->preprocess.mean[0] == cases[i].mean);
        tl_model_free(model);
        free(file.bytes);
    }
    tl_context_free(ctx);
}

/* A file without its classifier is a network that waits for a head. */
static void test_a_file_without_classifier_takes_a_head(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    const tl_backbone *backbone = tl_backbone_find("mobilenet_v2");
    file_options options = {.backbone = backbone, .variant = backbone->variant, .gamma = 0.8};
    weights_file file = make_file(ctx, &options);
    tl_model *model = NULL;
    assert_ok(tl_model_load_memory(ctx, file.bytes, file.size, &model));
    assert_int_equal(tl_model_class_count(model), 0);
    assert_string_equal(tl_model_layer_name(model, tl_model_layer_count(model) - 1), "head_relu6");
    assert_ok(tl_model_set_head(model, "gap", "", "softmax", 3, NULL, 1));
    assert_int_equal(tl_model_class_count(model), 3);
    unsigned char *pixels = calloc(1, 64 * 64 * 3);
    float p[3];
    assert_ok(tl_model_predict_rgb(model, pixels, 64, 64, 64 * 3, p));
    assert_true(fabs((double)(p[0] + p[1] + p[2]) - 1) < 1e-5);
    free(pixels);
    tl_model_free(model);
    free(file.bytes);
    tl_context_free(ctx);
}

/* --- the published weights, where they were fetched
 * --------------------------------------------------- */

static void check_published(size_t index) {
    tl_context *ctx = make_context(2, NULL);
    tl_model *model = NULL;
    tl_status status = tl_model_load(ctx, golden_real[index].name, &model);
    if (status == TL_NOT_FOUND) {
        print_message("%s\n", tl_last_error());
        tl_context_free(ctx);
        skip();
    }
    assert_ok(status);
    assert_string_equal(tl_model_class_name(model, 281), "tabby");
    tl_tensor *input = make_input(ctx, 1, golden_real[index].size, golden_real[index].size),
              *output = NULL;
    assert_ok(tl_model_run(model, input, &output));
    check_answers(golden_real[index].name, tl_tensor_const_f32(output), tl_tensor_count(output),
                  golden_real[index].largest, golden_real[index].first, golden_real[index].last);
    tl_tensor_free(input);
    tl_tensor_free(output);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_published_lite0(void **state) {
    (void)state;
    check_published(0);
}
static void test_published_lite1(void **state) {
    (void)state;
    check_published(1);
}
static void test_published_lite2(void **state) {
    (void)state;
    check_published(2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_translated),
        cmocka_unit_test(test_other_names_of_keras_variables_are_known),
        cmocka_unit_test(test_automatic_names_start_where_the_file_does),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_backbones_agree_with_pytorch),
        cmocka_unit_test(test_backbones_agree_with_keras),
        cmocka_unit_test(test_what_does_not_fit_is_listed),
        cmocka_unit_test(test_batch_counters_are_ignored),
        cmocka_unit_test(test_auxiliary_classifiers_are_ignored),
        cmocka_unit_test(test_foreign_tensors_are_refused),
        cmocka_unit_test(test_the_table_of_backbones_is_right),
        cmocka_unit_test(test_preprocessing_follows_the_scheme),
        cmocka_unit_test(test_a_file_without_classifier_takes_a_head),
        cmocka_unit_test(test_published_lite0),
        cmocka_unit_test(test_published_lite1),
        cmocka_unit_test(test_published_lite2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
