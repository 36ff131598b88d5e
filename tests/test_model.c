/* Models: heads, freezing, prediction, saving, hostile saved files, threads. */
#include "support.h"

#include <pthread.h>

#include <jansson.h>

#include "model/model.h"

/* A network small enough to be saved, cut and bent thousands of times. */
static tl_model *make_small(tl_context *ctx) {
    tl_model *model = NULL;
    const char *const sum[] = {"relu", "conv2"};
    const char *const names[] = {"cat", "dog", "h\303\251ron"};
    assert_ok(tl_model_create_empty(ctx, 12, 10, 3, &model));
    assert_ok(
        tl_model_add(model, "conv2d", "conv1", "filters=4 kernel=3 stride=2 pad=1", NULL, 0, 1));
    assert_ok(tl_model_add(model, "batch_norm", "bn1", NULL, NULL, 0, 1));
    assert_ok(tl_model_add(model, "relu", "relu", NULL, NULL, 0, 1));
    assert_ok(tl_model_add(model, "conv2d", "conv2", "filters=4 kernel=3 pad=1", NULL, 0, 2));
    assert_ok(tl_model_add(model, "add", "sum", NULL, sum, 2, 0));
    assert_ok(tl_model_set_head(model, "gap", "5,relu", "softmax", 3, names, 7));
    return model;
}

static void draw_pixels(unsigned char *pixels, size_t count, uint64_t seed) {
    for (size_t i = 0; i < count; i++)
        pixels[i] = (unsigned char)(127 + 127 * support_random(&seed));
}

static char *path_in(const char *folder, const char *name) {
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static double sum_of(const float *values, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += (double)values[i];
    return sum;
}

/* --- structure ------------------------------------------------------------------------------- */

static void test_backbones_are_listed(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    assert_int_equal(tl_backbone_count(), 43);
    assert_string_equal(tl_backbone_name(0), "efficientnet_lite0");
    assert_null(tl_backbone_name(43));
    assert_null(tl_backbone_name(-1));
    tl_model *model = NULL;
    assert_fails(tl_model_create(ctx, "resnet19", 0, 0, &model), TL_NOT_FOUND,
                 "unknown backbone 'resnet19'; there are efficientnet_lite0, ");
    assert_fails(tl_model_create(ctx, "resnet18", -1, 0, &model), TL_INVALID_ARGUMENT,
                 "classes is -1");
    assert_null(model);
    tl_context_free(ctx);
}

static void test_created_backbone(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = NULL, *again = NULL;
    assert_ok(tl_model_create(ctx, "efficientnet-lite0", 0, 5, &model));
    assert_ok(tl_model_create(ctx, "efficientnet_lite0", 0, 5, &again));
    int height, width, channels;
    tl_model_input_size(model, &height, &width, &channels);
    assert_int_equal(height, 224);
    assert_int_equal(width, 224);
    assert_int_equal(channels, 3);
    assert_int_equal(tl_model_class_count(model), 1000);
    assert_int_equal(tl_model_feature_count(model), 1280);
    assert_string_equal(tl_model_layer_type(model, 0), "input");
    /* Published: 4.65 million parameters and 0.39 billion multiply-adds. */
    int64_t learned = 0;
    for (int i = 0; i < model->graph->param_count; i++)
        if (model->graph->param[i].learned)
            learned += tl_tensor_count(model->graph->param[i].value);
    assert_int_equal(learned, 4652008);
    assert_true(fabs(tl_model_flops(model) / 2 - 0.385e9) < 0.02e9);
    for (int i = 0; i < tl_model_param_count(model); i++) {
        const tl_tensor *a = model->graph->param[i].value, *b = again->graph->param[i].value;
        assert_memory_equal(tl_tensor_const_data(a), tl_tensor_const_data(b), tl_tensor_bytes(a));
    }
    tl_model_free(model);
    tl_model_free(again);
    tl_context_free(ctx);
}

static int trainable_layers(const tl_model *model) {
    int count = 0;
    const tl_graph *graph = model->graph;
    for (int i = 0; i < graph->node_count; i++)
        for (int p = 0; p < graph->node[i].param_count; p++)
            if (graph->param[graph->node[i].first_param + p].trainable) {
                count++;
                break;
            }
    return count;
}

static void test_freezing(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx); /* conv1 bn1 conv2, then two dense layers of the head */
    assert_int_equal(trainable_layers(model), 5);
    assert_ok(tl_model_freeze(model, "", true));
    assert_int_equal(trainable_layers(model), 0);
    assert_ok(tl_model_freeze(model, "head.", false));
    assert_int_equal(trainable_layers(model), 2);
    assert_ok(tl_model_freeze(model, "conv", false));
    assert_int_equal(trainable_layers(model), 4);
    assert_ok(tl_model_freeze(model, "conv2", true));
    assert_int_equal(trainable_layers(model), 3);
    /* Running statistics are not trained by gradient, thawed or not. */
    assert_ok(tl_model_freeze(model, "", false));
    assert_false(model->graph->param[tl_graph_find_param(model->graph, "bn1.mean")].trainable);
    assert_fails(tl_model_freeze(model, "layer9", true), TL_NOT_FOUND,
                 "no layer's name begins with 'layer9'");
    assert_ok(tl_model_freeze_first(model, 3)); /* input, conv1, bn1 */
    assert_int_equal(trainable_layers(model), 3);
    assert_ok(tl_model_freeze_first(model, 0));
    assert_int_equal(trainable_layers(model), 5);
    assert_ok(tl_model_freeze_first(model, tl_model_layer_count(model)));
    assert_int_equal(trainable_layers(model), 0);
    assert_fails(tl_model_freeze_first(model, 100), TL_INVALID_ARGUMENT, "100 layers");
    assert_fails(tl_model_freeze_first(model, -1), TL_INVALID_ARGUMENT, "-1 layers");
    tl_model_free(model);
    tl_context_free(ctx);
}

/* part.1.fc .. part.12.fc */
static tl_model *make_siblings(tl_context *ctx) {
    tl_model *model = NULL;
    char name[32];
    assert_ok(tl_model_create_empty(ctx, 0, 0, 4, &model));
    for (int i = 1; i <= 12; i++) {
        snprintf(name, sizeof name, "part.%d.fc", i);
        assert_ok(tl_model_add(model, "dense", name, "units=4", NULL, 0, 1));
    }
    return model;
}

static void test_a_prefix_ends_where_a_part_does(void **state) {
    (void)state;
    static const struct {
        const char *prefix;
        int frozen;
    } cases[] = {{"part.1", 1}, {"part.1.", 1}, {"part.12", 1}, {"part.11.fc", 1}, {"part.1.fc", 1},
                 {"part", 12},  {"part.", 12},  {"pa", 12},     {"part.10.f", 1}};
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_siblings(ctx);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ok(tl_model_freeze(model, "", false));
        assert_ok(tl_model_freeze(model, cases[i].prefix, true));
        assert_int_equal(trainable_layers(model), 12 - cases[i].frozen);
    }
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_heads(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx);
    assert_string_equal(tl_model_class_name(model, 2), "h\303\251ron");
    assert_null(tl_model_class_name(model, 3));
    assert_null(tl_model_class_name(model, -1));
    assert_ok(tl_model_remove_head(model));
    assert_int_equal(tl_model_class_count(model), 0);
    assert_string_equal(tl_model_layer_name(model, tl_model_layer_count(model) - 1), "sum");
    assert_fails(tl_model_remove_head(model), TL_INVALID_ARGUMENT, "sum");
    assert_ok(tl_model_set_head(model, "flatten", "8, relu6 ,dropout:0.25,batch_norm,silu",
                                "sigmoid", 2, NULL, 1));
    assert_int_equal(tl_model_class_count(model), 2);
    assert_string_equal(tl_model_class_name(model, 1), "1");
    int last = tl_model_layer_count(model) - 1;
    assert_string_equal(tl_model_layer_name(model, last), "head.sigmoid");
    assert_string_equal(tl_model_layer_name(model, last - 1), "head.classifier");
    assert_string_equal(tl_model_layer_name(model, last - 4), "head.3.dropout");
    assert_ok(tl_model_set_head(model, "gmp", "", "softmax", 4, NULL, 1));
    assert_int_equal(tl_model_class_count(model), 4);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_wrong_heads_change_nothing(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx);
    const char *const bad[] = {"a", "\377"}, *const null[] = {"a", NULL};
    const struct {
        const char *pool, *layers, *activation;
        int classes;
        const char *const *names;
        const char *text;
    } cases[] = {
        {"avg", "", "softmax", 2, NULL, "pool is 'avg', expected gap, gmp or flatten"},
        {"gap", "", "tanh", 2, NULL, "activation is 'tanh', expected softmax or sigmoid"},
        {"gap", "", "sigmoid", 3, NULL, "sigmoid is for 2 classes, got 3"},
        {"gap", "", "softmax", 1, NULL, "1 classes, expected 2"},
        {"gap", "0", "softmax", 2, NULL, "a dense layer of 0 units"},
        {"gap", "99999999999999999999", "softmax", 2, NULL, "99999999999999999999 units"},
        {"gap", "12,", "softmax", 2, NULL, "'' is unknown"},
        {"gap", "-3", "softmax", 2, NULL, "'-3' is unknown"},
        {"gap", "8,swish", "softmax", 2, NULL, "'swish' is unknown; a part is"},
        {"gap", "conv2d", "softmax", 2, NULL, "'conv2d' is unknown"},
        {"gap", "dropout:2", "softmax", 2, NULL, "rate"},
        {"gap", "dropout:", "softmax", 2, NULL, "rate"},
        {"gap", "dropout:0.5 units=3", "softmax", 2, NULL, "dropout"},
        {"gap", "", "softmax", 2, bad, "the name of class 1 is not UTF-8"},
        {"gap", "", "softmax", 2, null, "the name of class 1 is NULL"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_fails(tl_model_set_head(model, cases[i].pool, cases[i].layers, cases[i].activation,
                                       cases[i].classes, cases[i].names, 0),
                     TL_INVALID_ARGUMENT, cases[i].text);
        assert_int_equal(tl_model_class_count(model), 3);
        assert_string_equal(tl_model_class_name(model, 0), "cat");
    }
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_vector_networks(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = NULL;
    assert_ok(tl_model_create_empty(ctx, 0, 0, 5, &model));
    assert_int_equal(tl_model_class_count(model), 0);
    assert_ok(tl_model_add(model, "dense", "hidden", "units=6", NULL, 0, 1));
    assert_fails(tl_model_set_head(model, "gap", "", "softmax", 3, NULL, 1), TL_INVALID_ARGUMENT,
                 "use flatten");
    assert_ok(tl_model_set_head(model, "flatten", "", "softmax", 3, NULL, 1));
    tl_tensor *input = NULL, *output = NULL;
    assert_ok(tl_tensor_create(ctx, TL_F32, 2, (int64_t[]){70, 5}, &input)); /* several parts */
    uint64_t seed = 3;
    for (int i = 0; i < 350; i++) tl_tensor_f32(input)[i] = support_random(&seed);
    assert_ok(tl_model_run(model, input, &output));
    assert_int_equal(tl_tensor_shape(output)[0], 70);
    tl_tensor *row = NULL, *alone = NULL;
    assert_ok(tl_tensor_slice(input, 69, 70, &row));
    assert_ok(tl_model_run(model, row, &alone));
    assert_memory_equal(tl_tensor_const_f32(alone), tl_tensor_const_f32(output) + 69 * 3, 12);
    float probabilities[3];
    assert_fails(tl_model_predict_file(model, "x.png", probabilities), TL_INVALID_ARGUMENT,
                 "no picture");
    assert_fails(tl_model_set_preprocess(model, "torchvision"), TL_INVALID_ARGUMENT, "no picture");
    assert_fails(tl_model_resize_input(model, 4, 4), TL_INVALID_ARGUMENT, "no picture");
    tl_tensor_free(input);
    tl_tensor_free(output);
    tl_tensor_free(row);
    tl_tensor_free(alone);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_adding_layers(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = NULL;
    const char *const missing[] = {"nowhere"};
    assert_ok(tl_model_create_empty(ctx, 8, 8, 1, &model));
    assert_fails(tl_model_add(model, "conv3d", "a", "", NULL, 0, 0), TL_INVALID_ARGUMENT, "conv3d");
    assert_fails(tl_model_add(model, "relu", "a", "", missing, 1, 0), TL_NOT_FOUND,
                 "there is no layer 'nowhere'");
    assert_fails(tl_model_add(model, "conv2d", "a", "filters=2", NULL, 0, 0), TL_INVALID_ARGUMENT,
                 "kernel");
    assert_int_equal(tl_model_layer_count(model), 1);
    assert_ok(tl_model_add(model, "flatten", "flat", "", NULL, 0, 0));
    assert_int_equal(tl_model_class_count(model), 64);
    assert_string_equal(tl_model_class_name(model, 63), "63");
    assert_fails(tl_model_add(model, "relu", "flat", "", NULL, 0, 0), TL_INVALID_ARGUMENT, "flat");
    tl_model_free(model);
    assert_fails(tl_model_create_empty(ctx, 8, 0, 3, &model), TL_SHAPE, "height 8, width 0");
    assert_null(model);
    tl_context_free(ctx);
}

static void test_other_input_sizes(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx);
    assert_ok(tl_model_freeze(model, "conv1", true));
    assert_ok(tl_model_resize_input(model, 20, 24));
    int height, width;
    tl_model_input_size(model, &height, &width, NULL);
    assert_int_equal(height, 20);
    assert_int_equal(width, 24);
    assert_int_equal(model->preprocess.width, 24);
    assert_false(model->graph->param[0].trainable);
    unsigned char pixels[20 * 24 * 3];
    float probabilities[3];
    draw_pixels(pixels, sizeof pixels, 1);
    assert_ok(tl_model_predict_rgb(model, pixels, 24, 20, 72, probabilities));
    assert_true(fabs(sum_of(probabilities, 3) - 1) < 1e-6);
    assert_ok(tl_model_set_head(model, "flatten", "", "softmax", 3, NULL, 1));
    assert_fails(tl_model_resize_input(model, 40, 24), TL_SHAPE, "head.classifier.weight");
    assert_ok(tl_model_predict_rgb(model, pixels, 24, 20, 72, probabilities));
    tl_model_free(model);

    assert_ok(tl_model_create(ctx, "resnet18", 2, 0, &model));
    assert_int_equal(model->preprocess.resize, 256);
    assert_ok(tl_model_resize_input(model, 112, 112));
    assert_int_equal(model->preprocess.resize, 128);
    tl_model_free(model);
    tl_context_free(ctx);
}

/* --- prediction
 * ------------------------------------------------------------------------------------ */

static void test_predictions(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx);
    unsigned char pixels[40 * 30 * 3];
    float a[3], b[3];
    draw_pixels(pixels, sizeof pixels, 9);
    assert_ok(tl_model_predict_rgb(model, pixels, 30, 40, 90, a));
    assert_true(fabs(sum_of(a, 3) - 1) < 1e-6);
    /* The same picture as a file, decoded. */
    char header[] = "BM";
    unsigned char bmp[54 + 40 * 92] = {0};
    memcpy(bmp, header, 2);
    bmp[10] = 54;
    bmp[14] = 40;
    bmp[18] = 30;
    bmp[22] = 40;
    bmp[26] = 1;
    bmp[28] = 24;
    for (int y = 0; y < 40; y++)
        for (int x = 0; x < 30; x++)
            for (int c = 0; c < 3; c++)
                bmp[54 + (39 - y) * 92 + x * 3 + c] = pixels[(y * 30 + x) * 3 + 2 - c];
    assert_ok(tl_model_predict_encoded(model, bmp, sizeof bmp, b));
    assert_memory_equal(a, b, sizeof a);
    char *folder = make_folder();
    write_bytes(path_in(folder, "x.bmp"), bmp, sizeof bmp);
    assert_ok(tl_model_predict_file(model, path_in(folder, "x.bmp"), b));
    assert_memory_equal(a, b, sizeof a);
    float features[4];
    assert_int_equal(tl_model_feature_count(model), 4);
    assert_ok(tl_model_features_file(model, path_in(folder, "x.bmp"), features));
    /* The head on top of the features gives the same answer. */
    const tl_graph *graph = model->graph;
    const float *w1 =
        tl_tensor_const_f32(graph->param[tl_graph_find_param(graph, "head.1.dense.weight")].value);
    const float *w2 = tl_tensor_const_f32(
        graph->param[tl_graph_find_param(graph, "head.classifier.weight")].value);
    double hidden[5], logit[3], sum = 0;
    for (int i = 0; i < 5; i++) {
        hidden[i] = 0;
        for (int c = 0; c < 4; c++) hidden[i] += (double)w1[i * 4 + c] * (double)features[c];
        if (hidden[i] < 0) hidden[i] = 0;
    }
    for (int i = 0; i < 3; i++) {
        logit[i] = 0;
        for (int c = 0; c < 5; c++) logit[i] += (double)w2[i * 5 + c] * hidden[c];
        sum += exp(logit[i]);
    }
    for (int i = 0; i < 3; i++) assert_true(fabs(exp(logit[i]) / sum - (double)a[i]) < 1e-5);

    assert_fails(tl_model_predict_file(model, path_in(folder, "none"), b), TL_NOT_FOUND, "none");
    assert_fails(tl_model_predict_rgb(model, pixels, 30, 40, 89, b), TL_INVALID_ARGUMENT, "stride");
    assert_fails(tl_model_predict_rgb(model, pixels, 0, 40, 90, b), TL_INVALID_ARGUMENT, "0 x 40");
    assert_ok(tl_model_remove_head(model));
    assert_fails(tl_model_predict_rgb(model, pixels, 30, 40, 90, b), TL_INVALID_ARGUMENT,
                 "no classifier");
    remove_folder(folder);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_sigmoid_answers_two_classes(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx);
    assert_ok(tl_model_set_head(model, "gap", "", "sigmoid", 2, NULL, 1));
    unsigned char pixels[12 * 10 * 3];
    float p[2];
    draw_pixels(pixels, sizeof pixels, 4);
    assert_ok(tl_model_predict_rgb(model, pixels, 10, 12, 30, p));
    assert_true(p[1] > 0 && p[1] < 1 && fabs((double)p[0] + (double)p[1] - 1) < 1e-6);
    tl_model_free(model);
    tl_context_free(ctx);
}

/* Weights written through tl_model_param() take effect at once, however often one has predicted. */
static void test_written_weights_take_effect(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx);
    unsigned char pixels[12 * 10 * 3];
    float before[3], after[3];
    draw_pixels(pixels, sizeof pixels, 4);
    assert_ok(tl_model_freeze(model, "", true));
    tl_tensor *weight = NULL;
    for (int i = 0; i < tl_model_param_count(model); i++)
        if (strcmp(tl_model_param_name(model, i), "conv2.weight") == 0)
            weight = tl_model_param(model, i);
    assert_non_null(weight);
    assert_ok(tl_model_predict_rgb(model, pixels, 10, 12, 30, before));
    for (int i = 0; i < tl_tensor_count(weight); i++) tl_tensor_f32(weight)[i] *= -3;
    assert_ok(tl_model_predict_rgb(model, pixels, 10, 12, 30, after));
    assert_memory_not_equal(before, after, sizeof before);
    assert_null(tl_model_param(model, -1));
    assert_null(tl_model_param_name(model, 1000));
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_wrong_runs(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx);
    tl_tensor *input = NULL, *output = NULL;
    const struct {
        tl_dtype dtype;
        int rank;
        int64_t shape[4];
        tl_status status;
    } cases[] = {{TL_F32, 4, {1, 12, 10, 4}, TL_SHAPE},
                 {TL_F32, 4, {0, 12, 10, 3}, TL_SHAPE},
                 {TL_F32, 2, {1, 3}, TL_SHAPE},
                 {TL_U8, 4, {1, 12, 10, 3}, TL_INVALID_ARGUMENT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ok(tl_tensor_create(ctx, cases[i].dtype, cases[i].rank, cases[i].shape, &input));
        assert_fails(tl_model_run(model, input, &output), cases[i].status, "the input is");
        assert_null(output);
        tl_tensor_free(input);
    }
    tl_memory memory = {.size = sizeof memory};
    assert_fails(tl_model_memory(model, 0, &memory), TL_INVALID_ARGUMENT, "batch is 0");
    tl_model_free(model);
    tl_context_free(ctx);
}

/* --- eight threads, one model
 * -------------------------------------------------------------------------- */

enum { THREADS = 8, PICTURES = 40, SIDE = 16 };
typedef struct crowd {
    const tl_model *model;
    unsigned char pixels[PICTURES][SIDE * SIDE * 3];
    float expected[PICTURES][3];
} crowd;

static void *predict_all(void *arg) {
    crowd *c = arg;
    for (int i = 0; i < PICTURES; i++) {
        float p[3];
        if (tl_model_predict_rgb(c->model, c->pixels[i], SIDE, SIDE, SIDE * 3, p) != TL_OK ||
            memcmp(p, c->expected[i], sizeof p) != 0)
            return c;
    }
    return NULL;
}

static void test_threads_share_a_model(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    tl_model *model = make_small(ctx);
    static crowd c;
    c.model = model;
    for (int i = 0; i < PICTURES; i++) {
        draw_pixels(c.pixels[i], sizeof c.pixels[i], (uint64_t)i);
        assert_ok(tl_model_predict_rgb(model, c.pixels[i], SIDE, SIDE, SIDE * 3, c.expected[i]));
    }
    tl_model_changed(model); /* no idle plan: the threads make theirs at the same time */
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, predict_all, &c), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed = NULL;
        pthread_join(thread[i], &failed);
        assert_null(failed);
    }
    tl_model_free(model);
    tl_context_free(ctx);
}

/* --- saving
 * ------------------------------------------------------------------------------------------------
 */

static void test_saving_and_loading(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL), *other = make_context(2, NULL);
    tl_model *model = make_small(ctx), *copy = NULL;
    char *folder = make_folder();
    unsigned char golden[2 * 12 * 10 * 3];
    draw_pixels(golden, sizeof golden, 5);
    assert_ok(tl_model_set_golden(model, 2, golden));
    assert_ok(tl_model_set_training_summary(model, "{\"epochs\": 3, \"loss\": 0.25}"));
    assert_fails(tl_model_set_training_summary(model, "[1]"), TL_INVALID_ARGUMENT,
                 "no JSON object");
    assert_ok(tl_model_freeze(model, "conv1", true));
    assert_fails(tl_model_verify(model, NULL), TL_NOT_FOUND, "no golden vectors");
    assert_ok(tl_model_save(model, path_in(folder, "a")));
    assert_ok(tl_model_load(other, path_in(folder, "a"), &copy));

    assert_string_equal(copy->backbone, "custom");
    assert_string_equal(copy->format, "libtl");
    assert_int_equal(copy->features, model->features);
    assert_string_equal(tl_model_class_name(copy, 2), "h\303\251ron");
    assert_string_equal(copy->training, "{\"epochs\": 3, \"loss\": 0.25}");
    assert_false(copy->graph->param[0].trainable);
    assert_true(copy->graph->param[tl_graph_find_param(copy->graph, "conv2.weight")].trainable);
    assert_int_equal(copy->golden_count, 2);
    assert_memory_equal(copy->golden_input, golden, sizeof golden);
    assert_memory_equal(&copy->preprocess, &model->preprocess, sizeof copy->preprocess);
    double error = 1;
    assert_ok(tl_model_verify(copy, &error));
    assert_true(error < 1e-6);

    /* Equal models give equal files, whichever thread count computed the golden answers. */
    assert_ok(tl_model_save(copy, path_in(folder, "b")));
    size_t size_a, size_b;
    unsigned char *a = read_file(path_in(folder, "a"), &size_a);
    unsigned char *b = read_file(path_in(folder, "b"), &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(a, b, size_a);
    free(a);
    free(b);
    remove_folder(folder);
    tl_model_free(model);
    tl_model_free(copy);
    tl_context_free(ctx);
    tl_context_free(other);
}

static void test_a_changed_copy_does_not_verify(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx), *copy = NULL;
    char *folder = make_folder();
    assert_ok(tl_model_save(model, path_in(folder, "a"))); /* golden input made by formula */
    assert_ok(tl_model_load(ctx, path_in(folder, "a"), &copy));
    assert_int_equal(copy->golden_count, 1);
    assert_ok(tl_model_verify(copy, NULL));
    int bias = tl_graph_find_param(copy->graph, "head.classifier.bias");
    tl_tensor_f32(tl_model_param(copy, bias))[0] += 0.1f;
    double error = 0;
    assert_fails(tl_model_verify(copy, &error), TL_CORRUPT, "golden vectors");
    assert_true(error > 1e-3 && error < 0.1);
    tl_tensor_f32(tl_model_param(copy, bias))[0] = NAN;
    assert_fails(tl_model_verify(copy, &error), TL_CORRUPT, "nan");
    assert_fails(tl_model_save(copy, path_in(folder, "c")), TL_DIVERGED, "head.classifier.bias");
    assert_int_equal(access(path_in(folder, "c"), F_OK), -1);
    assert_fails(tl_model_save(model, path_in(folder, "no/such/folder")), TL_NOT_FOUND, "no/such");
    tl_model_free(copy);
    /* A feature extractor has no answers to record. */
    assert_ok(tl_model_remove_head(model));
    assert_ok(tl_model_save(model, path_in(folder, "d")));
    assert_ok(tl_model_load(ctx, path_in(folder, "d"), &copy));
    assert_fails(tl_model_verify(copy, NULL), TL_NOT_FOUND, "no golden vectors");
    remove_folder(folder);
    tl_model_free(copy);
    tl_model_free(model);
    tl_context_free(ctx);
}

/* --- hostile saved models
 * ------------------------------------------------------------------------------------ */

typedef struct saved {
    tl_context *ctx;
    char *folder;
    unsigned char *bytes;
    size_t size;
} saved;

static saved save_small(void) {
    saved s = {.ctx = make_context(1, NULL), .folder = make_folder()};
    tl_model *model = make_small(s.ctx);
    assert_ok(tl_model_save(model, path_in(s.folder, "m")));
    s.bytes = read_file(path_in(s.folder, "m"), &s.size);
    tl_model_free(model);
    return s;
}

static void free_saved(saved *s) {
    free(s->bytes);
    remove_folder(s->folder);
    tl_context_free(s->ctx);
}

/* Loads `size` bytes from a block of exactly that size, so that a sanitizer sees any read past it.
 */
static tl_status load_bytes(const saved *s, const unsigned char *bytes, size_t size) {
    unsigned char *exact = malloc(size ? size : 1);
    memcpy(exact, bytes, size);
    tl_model *model = NULL;
    tl_status status = tl_model_load_memory(s->ctx, exact, size, &model);
    assert_true((status == TL_OK) == (model != NULL));
    if (model) { /* whatever loads, runs */
        double error;
        (void)tl_model_verify(model, &error);
    }
    tl_model_free(model);
    free(exact);
    return status;
}

static void test_every_truncation_is_refused(void **state) {
    (void)state;
    saved s = save_small();
    for (size_t size = 0; size < s.size; size += size < 2000 || size > s.size - 64 ? 1 : 13)
        assert_int_not_equal(load_bytes(&s, s.bytes, size), TL_OK);
    assert_ok(load_bytes(&s, s.bytes, s.size));
    free_saved(&s);
}

static void test_bit_flips_never_crash(void **state) {
    (void)state;
    saved s = save_small();
    size_t current = 0;
    tl_context_memory(s.ctx, &current, NULL);
    int refused = 0;
    for (size_t bit = 0; bit < s.size * 8; bit += bit < 8 * 4000 ? 3 : 97) {
        s.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        refused += load_bytes(&s, s.bytes, s.size) != TL_OK;
        s.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_true(refused > 1000);
    size_t after = 0;
    tl_context_memory(s.ctx, &after, NULL);
    assert_int_equal(after, current);
    free_saved(&s);
}

/* What verify promises: no bit of a copy can change unnoticed. Left out is what carries no meaning:
 * the header's padding (a space that becomes a tab, say). */
static void test_no_bit_flip_verifies(void **state) {
    (void)state;
    saved s = save_small();
    size_t header = 0;
    for (size_t i = 0; i < 8; i++) header |= (size_t)s.bytes[i] << 8 * i;
    for (size_t bit = 0; bit < s.size * 8; bit += bit < (8 + header) * 8 ? 7 : 61) {
        tl_model *copy = NULL;
        if (bit / 8 >= 8 && bit / 8 < 8 + header && s.bytes[bit / 8] == ' ') continue;
        s.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        tl_status status = tl_model_load_memory(s.ctx, s.bytes, s.size, &copy);
        if (status == TL_OK) status = tl_model_verify(copy, NULL);
        if (status == TL_OK) fail_msg("bit %zu of byte %zu changed unnoticed", bit % 8, bit / 8);
        s.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        tl_model_free(copy);
    }
    free_saved(&s);
}

/* A saved model whose metadata is edited: the text of `key` is replaced (NULL: removed), tensors
 * may be edited through `change`. Written anew as a correct safetensors file. */
static tl_status load_edited(const saved *s, const char *key, const char *value,
                             void (*change)(tl_safetensors_entry *entries, int *count)) {
    tl_source source;
    tl_weights *weights = NULL;
    assert_ok(tl_source_from_memory(s->ctx, "m", s->bytes, s->size, &source));
    assert_ok(tl_weights_open(s->ctx, &source, &weights));
    tl_safetensors_entry entries[64];
    float *data[64];
    int count = weights->count, loaded = count;
    for (int i = 0; i < count; i++) {
        data[i] = malloc((size_t)tl_shape_count(&weights->item[i].shape) * sizeof(float) + 64);
        assert_ok(tl_weights_read(weights, i, data[i]));
        entries[i] = (tl_safetensors_entry){.name = weights->item[i].name,
                                            .dtype = TL_F32,
                                            .shape = weights->item[i].shape,
                                            .data = data[i]};
    }
    if (change) change(entries, &count);
    const char *keys[16], *values[16];
    int pairs = 0;
    for (int i = 0; i < weights->metadata_count; i++) {
        bool edited = key && strcmp(weights->metadata_key[i], key) == 0;
        if (edited && !value) continue;
        keys[pairs] = weights->metadata_key[i];
        values[pairs++] = edited ? value : weights->metadata_value[i];
    }
    assert_ok(
        tl_safetensors_write(s->ctx, path_in(s->folder, "e"), count, entries, pairs, keys, values));
    for (int i = 0; i < loaded; i++) free(data[i]);
    tl_weights_free(weights);
    tl_model *model = NULL;
    tl_status status = tl_model_load(s->ctx, path_in(s->folder, "e"), &model);
    tl_model_free(model);
    return status;
}

static tl_safetensors_entry *entry_of(tl_safetensors_entry *entries, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(entries[i].name, name) == 0) return &entries[i];
    fail_msg("no tensor %s", name);
    return NULL;
}
static void poison(tl_safetensors_entry *entries, int *count) {
    float *data = (float *)entry_of(entries, *count, "conv2.weight")->data;
    data[7] = INFINITY;
}
static void lose(tl_safetensors_entry *entries, int *count) {
    *entry_of(entries, *count, "bn1.mean") = entries[*count - 1];
    --*count;
}
static void gain(tl_safetensors_entry *entries, int *count) {
    entries[*count] = *entry_of(entries, *count, "bn1.mean");
    entries[(*count)++].name = "bn1.spare";
}
static void widen(tl_safetensors_entry *entries, int *count) {
    entry_of(entries, *count, "bn1.mean")->shape = tl_shape_make(1, INT64_C(5));
}
static void half_pixel(tl_safetensors_entry *entries, int *count) {
    float *data = (float *)entry_of(entries, *count, TL_SAVED_GOLDEN_INPUT)->data;
    data[3] = 0.5f;
}
static void lose_answers(tl_safetensors_entry *entries, int *count) {
    *entry_of(entries, *count, TL_SAVED_GOLDEN_OUTPUT) = entries[*count - 1];
    --*count;
}

static void test_named_bad_models(void **state) {
    (void)state;
    saved s = save_small();
    const struct {
        const char *key, *value;
        void (*change)(tl_safetensors_entry *entries, int *count);
        tl_status status;
        const char *text;
    } cases[] = {
        {TL_SAVED_KEY_VERSION, "2", NULL, TL_UNSUPPORTED, "version 2 is newer"},
        {TL_SAVED_KEY_VERSION, "10000", NULL, TL_UNSUPPORTED, "version 10000 is newer"},
        {TL_SAVED_KEY_VERSION, "0", NULL, TL_CORRUPT, "libtl.version is '0'"},
        {TL_SAVED_KEY_VERSION, "", NULL, TL_CORRUPT, "libtl.version is ''"},
        {TL_SAVED_KEY_VERSION, "-1", NULL, TL_CORRUPT, "libtl.version is '-1'"},
        {TL_SAVED_KEY_BACKBONE, NULL, NULL, TL_CORRUPT, "no libtl.backbone"},
        {TL_SAVED_KEY_GRAPH, NULL, NULL, TL_CORRUPT, "no libtl.graph"},
        {TL_SAVED_KEY_GRAPH, "{\"input\":", NULL, TL_CORRUPT, "libtl.graph at byte"},
        {TL_SAVED_KEY_GRAPH, "{}", NULL, TL_CORRUPT, "libtl.graph"},
        {TL_SAVED_KEY_GRAPH,
         "{\"input\":[12,10,3],\"nodes\":[{\"name\":\"a\",\"op\":\"shell\",\"inputs\":[\"input\"],"
         "\"attrs\":\"\",\"frozen\":false}]}",
         NULL, TL_UNSUPPORTED, "shell"},
        {TL_SAVED_KEY_GRAPH,
         "{\"input\":[12,10,3],\"nodes\":[{\"name\":\"a\",\"op\":\"flatten\",\"inputs\":[\"input\"]"
         ","
         "\"attrs\":\"\",\"frozen\":false},{\"name\":\"b\",\"op\":\"dense\",\"inputs\":[\"a\"],"
         "\"attrs\":\"units=1000000\",\"frozen\":false}]}",
         NULL, TL_LIMIT, "b"},
        {TL_SAVED_KEY_FEATURES, "nowhere", NULL, TL_CORRUPT, "libtl.features is 'nowhere'"},
        {TL_SAVED_KEY_FEATURES, NULL, NULL, TL_CORRUPT, "no libtl.features"},
        {TL_SAVED_KEY_CLASSES, "[\"a\",\"b\"]", NULL, TL_CORRUPT,
         "2 names, but the graph answers 3"},
        {TL_SAVED_KEY_CLASSES, "[\"a\",\"b\",3]", NULL, TL_CORRUPT, "entry 2 is no string"},
        {TL_SAVED_KEY_CLASSES, "{}", NULL, TL_CORRUPT, "libtl.classes"},
        {TL_SAVED_KEY_PREPROCESS, NULL, NULL, TL_CORRUPT, "no libtl.preprocess"},
        {TL_SAVED_KEY_PREPROCESS, "{}", NULL, TL_CORRUPT, "libtl.preprocess"},
        {TL_SAVED_KEY_TRAINING, NULL, NULL, TL_OK, ""},
        {NULL, NULL, poison, TL_CORRUPT, "conv2.weight: element 7 is inf"},
        {NULL, NULL, lose, TL_CORRUPT, "tensor bn1.mean is missing"},
        {NULL, NULL, gain, TL_CORRUPT, "tensors, but the graph has"},
        {NULL, NULL, widen, TL_CORRUPT, "tensor bn1.mean is [5], expected [4]"},
        {NULL, NULL, half_pixel, TL_CORRUPT, "golden.input: element 3 is 0.5"},
        {NULL, NULL, lose_answers, TL_CORRUPT, "tensor golden.output is missing"},
        {NULL, NULL, NULL, TL_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_status status = load_edited(&s, cases[i].key, cases[i].value, cases[i].change);
        if (status != cases[i].status || (status && !strstr(tl_last_error(), cases[i].text)))
            fail_msg("case %zu (%s) gave %s: %s", i, cases[i].text, tl_status_name(status),
                     tl_last_error());
    }
    free_saved(&s);
}

/* --- other input sizes --------------------------------------------------------------------- */

/* An input of another size is cut as a preset of that size does it. */
static void test_resizing_follows_the_preset(void **state) {
    (void)state;
    static const struct {
        const char *backbone, *preset;
        int resize;
    } cases[] = {{"efficientnet_lite0", "efficientnet-lite", 160},
                 {"resnet18", "torchvision", 146}};
    tl_context *ctx = make_context(1, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_model *model = NULL;
        tl_preprocess preset;
        assert_ok(tl_model_create(ctx, cases[i].backbone, 2, 1, &model));
        assert_ok(tl_model_resize_input(model, 128, 128));
        assert_int_equal(model->preprocess.resize, cases[i].resize);
        assert_ok(tl_preprocess_preset(cases[i].preset, 128, 128, &preset));
        assert_int_equal(preset.resize, cases[i].resize);
        assert_ok(tl_model_resize_input(model, 224, 224));
        assert_int_equal(model->preprocess.resize, 256);
        tl_model_free(model);
    }
    tl_context_free(ctx);
}

/* --- loading by name
 * --------------------------------------------------------------------------------------------- */

static void test_loading_by_name(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    char *folder = make_folder();
    char *before = getenv("TL_WEIGHTS_DIR") ? strdup(getenv("TL_WEIGHTS_DIR")) : NULL;
    setenv("TL_WEIGHTS_DIR", folder, 1);
    tl_model *model = NULL, *copy = NULL;
    assert_fails(tl_model_load(ctx, "efficientnet_lite0", &model), TL_NOT_FOUND,
                 "`tl fetch efficientnet_lite0` gets them");
    assert_fails(tl_model_load(ctx, "resnet50", &model), TL_NOT_FOUND, "resnet50.safetensors");
    assert_fails(tl_model_load(ctx, "resnet99", &model), TL_NOT_FOUND, "the backbones are");
    assert_fails(tl_model_load(ctx, "./resnet50", &model), TL_NOT_FOUND, "./resnet50");
    assert_fails(tl_model_load(ctx, folder, &model), TL_INVALID_ARGUMENT, NULL);
    assert_ok(tl_model_create(ctx, "resnet18", 2, 1, &model));
    assert_ok(tl_model_export_onnx(model, path_in(folder, "resnet18.onnx"))); /* no name's file */
    assert_fails(tl_model_load(ctx, "resnet18", &copy), TL_NOT_FOUND, "no resnet18.safetensors");
    assert_ok(tl_model_save(model, path_in(folder, "resnet18.safetensors")));
    assert_ok(tl_model_save(model, path_in(folder, "resnet34.safetensors")));
    assert_ok(tl_model_load(ctx, "resnet18", &copy));
    assert_string_equal(copy->backbone, "resnet18");
    assert_ok(tl_model_verify(copy, NULL));
    tl_model_free(copy);
    assert_fails(tl_model_load(ctx, "resnet34", &copy), TL_CORRUPT,
                 path_in(folder, "resnet34.safetensors: the file holds resnet18, not resnet34"));
    assert_null(copy);
    if (before) {
        setenv("TL_WEIGHTS_DIR", before, 1);
    } else {
        unsetenv("TL_WEIGHTS_DIR");
    }
    free(before);
    tl_model_free(model);
    remove_folder(folder);
    tl_context_free(ctx);
}

static void test_description(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx);
    assert_ok(tl_model_set_training_summary(model, "{\"epochs\": 3}"));
    assert_ok(tl_model_freeze(model, "conv1", true));
    char *text = NULL;
    assert_ok(tl_model_describe(model, &text));
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    json_int_t height, parameters, trainable, inference, epochs, layer_parameters;
    const char *backbone, *type;
    json_t *classes, *layers, *preprocess, *output;
    int is_trainable;
    assert_int_equal(json_unpack(json, "{s:s s:{s:I} s:o s:o s:I s:I s:{s:I} s:o s:{s:I}}",
                                 "backbone", &backbone, "input", "height", &height, "classes",
                                 &classes, "preprocess", &preprocess, "parameters", &parameters,
                                 "trainable_parameters", &trainable, "memory",
                                 "inference_bytes_batch1", &inference, "layers", &layers,
                                 "training", "epochs", &epochs),
                     0);
    assert_string_equal(backbone, "custom");
    assert_int_equal(height, 12);
    assert_int_equal(json_array_size(classes), 3);
    assert_int_equal(json_array_size(layers), tl_model_layer_count(model));
    assert_int_equal(json_unpack(json_array_get(layers, 1), "{s:s s:I s:b s:o}", "type", &type,
                                 "parameters", &layer_parameters, "trainable", &is_trainable,
                                 "output", &output),
                     0);
    assert_string_equal(type, "conv2d");
    assert_int_equal(layer_parameters, 4 * 27 + 4);
    assert_false(is_trainable);
    assert_int_equal(json_integer_value(json_array_get(output, 1)), 5);
    assert_int_equal(parameters, 4 * 27 + 4 + 16 + 4 * 36 + 4 + 5 * 4 + 5 + 3 * 5 + 3);
    assert_int_equal(trainable, parameters - (4 * 27 + 4) - 8);
    assert_int_equal(epochs, 3);
    json_decref(json);
    tl_string_free(ctx, text);
    tl_model_free(model);
    tl_context_free(ctx);
}

/* --- faults
 * ------------------------------------------------------------------------------------------------
 */

/* Makes, trains nothing, saves, loads, asks, resizes, predicts. Frees all it made. */
static tl_status live(tl_context *ctx, const char *path, float answer[3]) {
    tl_model *model = NULL, *copy = NULL;
    char *text = NULL;
    unsigned char pixels[12 * 10 * 3];
    draw_pixels(pixels, sizeof pixels, 8);
    tl_status status = tl_model_create_empty(ctx, 12, 10, 3, &model);
    if (!status) status = tl_model_add(model, "conv2d", "c", "filters=4 kernel=3", NULL, 0, 1);
    if (!status) status = tl_model_add(model, "batch_norm", "b", NULL, NULL, 0, 1);
    if (!status)
        status = tl_model_set_head(model, "gap", "4,relu,dropout:0.5", "softmax", 3, NULL, 1);
    if (!status) status = tl_model_set_golden(model, 1, pixels);
    if (!status) status = tl_model_set_training_summary(model, "{}");
    if (!status) status = tl_model_save(model, path);
    if (!status) status = tl_model_load(ctx, path, &copy);
    if (!status) status = tl_model_verify(copy, NULL);
    if (!status) status = tl_model_resize_input(copy, 14, 14);
    if (!status) status = tl_model_describe(copy, &text);
    if (!status) status = tl_model_predict_rgb(copy, pixels, 10, 12, 30, answer);
    tl_string_free(ctx, text);
    tl_model_free(model);
    tl_model_free(copy);
    return status;
}

static void test_every_allocation_may_fail(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    char *folder = make_folder();
    float expected[3], answer[3];
    assert_ok(live(ctx, path_in(folder, "m"), expected));
    size_t before = allocator.live, first = allocator.calls;
    assert_ok(live(ctx, path_in(folder, "m"), expected));
    size_t count = allocator.calls - first;
    assert_true(count > 100);
    for (int keep = 0; keep < 2; keep++)
        for (size_t i = 1; i <= count; i++) {
            allocator.calls = 0;
            allocator.fail_at = i;
            allocator.keep_failing = keep;
            assert_fails(live(ctx, path_in(folder, "m"), answer), TL_NO_MEMORY, NULL);
            assert_int_equal(allocator.live, before);
        }
    allocator.fail_at = 0;
    assert_ok(live(ctx, path_in(folder, "m"), answer));
    assert_memory_equal(answer, expected, sizeof answer);
    remove_folder(folder);
    tl_context_free(ctx);
    assert_int_equal(allocator.live, 0);
    print_message("%zu allocations, each failed once and from then on\n", count);
}

static void test_missing_arguments(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = make_small(ctx), *out = NULL;
    tl_tensor *tensor = NULL;
    char *text = NULL;
    float p[3];
    tl_memory memory = {.size = sizeof memory};
    int h = 1, w = 1, c = 1;
    const struct {
        tl_status status;
        const char *call;
    } calls[] = {
        {tl_model_load(NULL, "a", &out), "load"},
        {tl_model_load(ctx, NULL, &out), "load"},
        {tl_model_load(ctx, "a", NULL), "load"},
        {tl_model_load_memory(NULL, "a", 1, &out), "load_memory"},
        {tl_model_load_memory(ctx, NULL, 1, &out), "load_memory"},
        {tl_model_load_memory(ctx, "a", 1, NULL), "load_memory"},
        {tl_model_create(NULL, "resnet18", 2, 0, &out), "create"},
        {tl_model_create(ctx, NULL, 2, 0, &out), "create"},
        {tl_model_create(ctx, "resnet18", 2, 0, NULL), "create"},
        {tl_model_create_empty(NULL, 1, 1, 1, &out), "create_empty"},
        {tl_model_create_empty(ctx, 1, 1, 1, NULL), "create_empty"},
        {tl_model_save(NULL, "a"), "save"},
        {tl_model_save(model, NULL), "save"},
        {tl_model_verify(NULL, NULL), "verify"},
        {tl_model_set_preprocess(NULL, "torchvision"), "set_preprocess"},
        {tl_model_set_preprocess(model, NULL), "set_preprocess"},
        {tl_model_predict_file(NULL, "a", p), "predict_file"},
        {tl_model_predict_file(model, NULL, p), "predict_file"},
        {tl_model_predict_file(model, "a", NULL), "predict_file"},
        {tl_model_predict_encoded(NULL, "a", 1, p), "predict_encoded"},
        {tl_model_predict_encoded(model, NULL, 1, p), "predict_encoded"},
        {tl_model_predict_encoded(model, "a", 1, NULL), "predict_encoded"},
        {tl_model_predict_rgb(model, NULL, 1, 1, 3, p), "predict_rgb"},
        {tl_model_run(NULL, NULL, &tensor), "run"},
        {tl_model_run(model, NULL, &tensor), "run"},
        {tl_model_run(model, NULL, NULL), "run"},
        {tl_model_features_file(NULL, "a", p), "features_file"},
        {tl_model_features_file(model, "a", NULL), "features_file"},
        {tl_model_freeze(NULL, "", true), "freeze"},
        {tl_model_freeze(model, NULL, true), "freeze"},
        {tl_model_freeze_first(NULL, 1), "freeze_first"},
        {tl_model_remove_head(NULL), "remove_head"},
        {tl_model_set_head(NULL, "gap", "", "softmax", 2, NULL, 0), "set_head"},
        {tl_model_set_head(model, NULL, "", "softmax", 2, NULL, 0), "set_head"},
        {tl_model_set_head(model, "gap", "", NULL, 2, NULL, 0), "set_head"},
        {tl_model_add(NULL, "relu", "x", NULL, NULL, 0, 0), "add"},
        {tl_model_add(model, NULL, "x", NULL, NULL, 0, 0), "add"},
        {tl_model_add(model, "relu", NULL, NULL, NULL, 0, 0), "add"},
        {tl_model_add(model, "relu", "x", NULL, NULL, 2, 0), "add"},
        {tl_model_add(model, "relu", "x", NULL, NULL, -1, 0), "add"},
        {tl_model_memory(NULL, 1, &memory), "memory"},
        {tl_model_memory(model, 1, NULL), "memory"},
        {tl_model_describe(NULL, &text), "describe"},
        {tl_model_describe(model, NULL), "describe"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (calls[i].status != TL_INVALID_ARGUMENT)
            fail_msg("call %zu, %s, gave %s", i, calls[i].call, tl_status_name(calls[i].status));
    assert_true(!out && !tensor && !text);
    assert_int_equal(tl_model_class_count(NULL), 0);
    assert_null(tl_model_class_name(NULL, 0));
    assert_int_equal(tl_model_layer_count(NULL), 0);
    assert_null(tl_model_layer_name(NULL, 0));
    assert_null(tl_model_layer_type(model, 99));
    assert_int_equal(tl_model_param_count(NULL), 0);
    assert_null(tl_model_param_name(NULL, 0));
    assert_null(tl_model_param(NULL, 0));
    assert_int_equal(tl_model_feature_count(NULL), 0);
    assert_true(tl_model_flops(NULL) == 0);
    tl_model_input_size(NULL, &h, &w, &c);
    assert_true(h == 0 && w == 0 && c == 0);
    tl_model_free(NULL);
    tl_string_free(ctx, NULL);
    tl_string_free(NULL, NULL);
    tl_model_free(model);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backbones_are_listed),
        cmocka_unit_test(test_created_backbone),
        cmocka_unit_test(test_freezing),
        cmocka_unit_test(test_a_prefix_ends_where_a_part_does),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_wrong_heads_change_nothing),
        cmocka_unit_test(test_vector_networks),
        cmocka_unit_test(test_adding_layers),
        cmocka_unit_test(test_other_input_sizes),
        cmocka_unit_test(test_predictions),
        cmocka_unit_test(test_sigmoid_answers_two_classes),
        cmocka_unit_test(test_written_weights_take_effect),
        cmocka_unit_test(test_wrong_runs),
        cmocka_unit_test(test_threads_share_a_model),
        cmocka_unit_test(test_saving_and_loading),
        cmocka_unit_test(test_a_changed_copy_does_not_verify),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_bit_flips_never_crash),
        cmocka_unit_test(test_no_bit_flip_verifies),
        cmocka_unit_test(test_named_bad_models),
        cmocka_unit_test(test_resizing_follows_the_preset),
        cmocka_unit_test(test_loading_by_name),
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_missing_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
