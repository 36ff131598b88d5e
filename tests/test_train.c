/* Losses, optimisers, measures, single layers and the training step against PyTorch, Keras's
 * formulas and scikit-learn (tests/golden/make_train.py). */
#include "support.h"

#include <float.h>

#include "golden/train.h"
#include "model/model.h"
#include "small_network.h"
#include "train/loss.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* --- losses ------------------------------------------------------------------------------- */

static void close_to(double got, double want, double tolerance, const char *what, int index) {
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s[%d] is %.9g, expected %.9g within %g", what, index, got, want, tolerance);
}

static void test_softmax_loss(void **state) {
    (void)state;
    tl_loss loss = {TL_LOSS_SOFTMAX, 3};
    float gradient[COUNT(golden_logits)], p[COUNT(golden_logits)];
    int n = COUNT(golden_labels);
    tl_loss_result r = tl_loss_compute(&loss, golden_logits, golden_labels, n, gradient, p);
    close_to(r.sum / n, golden_softmax_loss, 1e-6 * golden_softmax_loss, "loss", 0);
    assert_int_equal(r.correct, 3);
    for (int i = 0; i < COUNT(golden_logits); i++)
        close_to(gradient[i], golden_softmax_gradient[i], 1e-7, "gradient", i);
    for (int i = 0; i < n; i++) close_to(p[3 * i] + p[3 * i + 1] + p[3 * i + 2], 1, 1e-6, "sum", i);
}

static void test_sigmoid_loss(void **state) {
    (void)state;
    tl_loss loss = {TL_LOSS_SIGMOID, 2};
    float gradient[COUNT(golden_unit_logits)], p[2 * COUNT(golden_unit_logits)];
    int n = COUNT(golden_unit_labels);
    tl_loss_result r =
        tl_loss_compute(&loss, golden_unit_logits, golden_unit_labels, n, gradient, p);
    close_to(r.sum / n, golden_sigmoid_loss, 1e-6 * golden_sigmoid_loss, "loss", 0);
    assert_int_equal(r.correct, 1);
    for (int i = 0; i < n; i++) {
        close_to(gradient[i], golden_sigmoid_gradient[i], 1e-7, "gradient", i);
        close_to(p[2 * i] + p[2 * i + 1], 1, 1e-6, "sum", i);
        assert_int_equal(p[2 * i + 1] > p[2 * i], golden_unit_logits[i] > 0);
    }
    assert_true(p[2 * 3] > 0); /* 1 - sigmoid(80) must not be lost to rounding of 1 - p */
}

/* --- optimisers --------------------------------------------------------------------------- */

static float formula_weight(int64_t i) {
    return (float)((double)(i * 37 % 101) / 101 - 0.5);
}

static float formula_gradient(int step, int64_t i) {
    return (float)((double)((i * 53 + step * 29) % 97) / 97 - 0.5);
}

static void run_steps(tl_optimizer *o, float *w, float *g, int64_t count) {
    double lr = tl_optimizer_lr(o);
    for (int64_t i = 0; i < count; i++) w[i] = formula_weight(i);
    for (int step = 0; step < GOLDEN_STEPS; step++) {
        for (int64_t i = 0; i < count; i++) g[i] = formula_gradient(step, i);
        assert_ok(tl_optimizer_set_lr(o, step < GOLDEN_STEPS / 2 ? lr : lr / 2));
        tl_optimizer_begin_step(o);
        assert_ok(tl_optimizer_update(o, 3, w, g, count));
    }
}

static tl_optimizer *golden_optimizer(tl_context *ctx, int index) {
    tl_optimizer_options options;
    tl_optimizer_options_init(&options, sizeof options);
    options.name = golden_optimizers[index].name;
    options.style = golden_optimizers[index].style;
    options.lr = golden_optimizers[index].lr;
    options.momentum = golden_optimizers[index].momentum;
    options.nesterov = golden_optimizers[index].nesterov;
    options.centered = golden_optimizers[index].centered;
    options.weight_decay = golden_optimizers[index].weight_decay;
    tl_optimizer *o = NULL;
    assert_ok(tl_optimizer_create(ctx, &options, &o));
    return o;
}

static void test_optimizers_follow_frameworks(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    for (int c = 0; c < COUNT(golden_optimizers); c++) {
        tl_optimizer *o = golden_optimizer(ctx, c);
        float w[GOLDEN_WEIGHTS], g[GOLDEN_WEIGHTS];
        run_steps(o, w, g, GOLDEN_WEIGHTS);
        for (int i = 0; i < GOLDEN_WEIGHTS; i++)
            close_to(w[i], golden_optimizers[c].weights[i], 2e-6, golden_optimizers[c].name, i);
        tl_optimizer_free(o);
    }
    tl_context_free(ctx);
}

static void test_optimizer_threads_change_nothing(void **state) {
    (void)state;
    enum { N = 50021 };
    static float w[2][N], g[N];
    for (int c = 0; c < COUNT(golden_optimizers); c++) {
        for (int threads = 1; threads <= 2; threads++) {
            tl_context *ctx = make_context(threads, NULL);
            tl_optimizer *o = golden_optimizer(ctx, c);
            run_steps(o, w[threads - 1], g, N);
            tl_optimizer_free(o);
            tl_context_free(ctx);
        }
        assert_memory_equal(w[0], w[1], sizeof w[0]);
    }
}

/* One field of otherwise default options set wrong. */
static void refuse_optimizer(tl_context *ctx, tl_optimizer_options options, const char *text) {
    tl_optimizer *o = (tl_optimizer *)&options;
    assert_fails(tl_optimizer_create(ctx, &options, &o), TL_INVALID_ARGUMENT, text);
    assert_null(o);
}

static void test_optimizer_refuses(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_optimizer_options good, bad;
    tl_optimizer_options_init(&good, sizeof good);
#define REFUSE(change, text) (bad = good, (change), refuse_optimizer(ctx, bad, text))
    REFUSE(bad.name = "adagrad", "sgd, adam, adamw, rmsprop");
    REFUSE(bad.style = "caffe", "keras, pytorch");
    REFUSE(bad.lr = NAN, "lr");
    REFUSE(bad.lr = INFINITY, "lr");
    REFUSE(bad.beta1 = 1, "beta1");
    REFUSE(bad.beta2 = 1.5, "beta2");
    REFUSE(bad.epsilon = NAN, "epsilon");
    REFUSE(bad.weight_decay = NAN, "weight_decay");
    REFUSE(bad.momentum = 0.9, "momentum is for sgd and rmsprop");
    REFUSE(bad.nesterov = true, "nesterov is for sgd");
    REFUSE(bad.centered = true, "centered is for rmsprop");
    REFUSE((bad.name = "rmsprop", bad.rho = 1), "rho");
    REFUSE((bad.name = "sgd", bad.style = "pytorch", bad.nesterov = true), "momentum above 0");
#undef REFUSE
    tl_optimizer *o = NULL;
    assert_ok(tl_optimizer_create(ctx, NULL, &o));
    assert_true(tl_optimizer_lr(o) == 1e-3);
    float w[4] = {0}, g[4] = {0};
    assert_ok(tl_optimizer_update(o, 0, w, g, 4));
    assert_fails(tl_optimizer_update(o, 0, w, g, 3), TL_INVALID_ARGUMENT, "slot 0 has 4");
    assert_fails(tl_optimizer_set_lr(o, -1e-3), TL_INVALID_ARGUMENT, "lr is -0.001");
    assert_fails(tl_optimizer_set_lr(o, NAN), TL_INVALID_ARGUMENT, "lr is nan");
    assert_fails(tl_optimizer_set_lr(o, INFINITY), TL_INVALID_ARGUMENT, "lr is inf");
    assert_fails(tl_optimizer_set_lr(NULL, 1), TL_INVALID_ARGUMENT, "NULL");
    assert_true(tl_optimizer_lr(o) == 1e-3);
    assert_ok(tl_optimizer_set_lr(o, 0));
    assert_fails(tl_optimizer_update(o, -1, w, g, 4), TL_INVALID_ARGUMENT, "slot is -1");
    assert_fails(tl_optimizer_update(o, 1, w, NULL, 4), TL_INVALID_ARGUMENT, "NULL");
    tl_optimizer_free(o);
    tl_optimizer_free(NULL);
    tl_context_free(ctx);
}

/* --- measures ----------------------------------------------------------------------------- */

static void test_measures_equal_scikit_learn(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    float p[GOLDEN_ANSWERS * GOLDEN_CLASSES];
    double loss = 0;
    int correct = 0;
    for (int i = 0; i < GOLDEN_ANSWERS; i++) {
        for (int c = 0; c < GOLDEN_CLASSES; c++)
            p[i * GOLDEN_CLASSES + c] = c == golden_answer[i] ? 0.6f : 0.1f;
        loss -= log(golden_answer[i] == golden_truth[i] ? 0.6 : 0.1) / GOLDEN_ANSWERS;
        correct += golden_answer[i] == golden_truth[i];
    }
    tl_evaluation *e = NULL;
    assert_ok(tl_evaluation_create(ctx, GOLDEN_CLASSES, GOLDEN_ANSWERS, p, golden_truth, &e));
    assert_int_equal(tl_evaluation_count(e), GOLDEN_ANSWERS);
    close_to(tl_evaluation_loss(e), loss, 1e-6, "loss", 0);
    close_to(tl_evaluation_accuracy(e), (double)correct / GOLDEN_ANSWERS, 1e-15, "accuracy", 0);
    for (int c = 0; c < GOLDEN_CLASSES; c++) {
        close_to(tl_evaluation_precision(e, c), golden_precision[c], 1e-15, "precision", c);
        close_to(tl_evaluation_recall(e, c), golden_recall[c], 1e-15, "recall", c);
        close_to(tl_evaluation_f1(e, c), golden_f1[c], 1e-15, "f1", c);
        assert_int_equal(tl_evaluation_support(e, c), golden_support[c]);
    }
    assert_int_equal(tl_evaluation_confusion(e, 0, 0), 3);
    assert_int_equal(tl_evaluation_confusion(e, 1, 2), 1);
    assert_int_equal(tl_evaluation_confusion(e, 0, 99), 0);
    double precision, recall;
    close_to(tl_evaluation_macro(e, &precision, &recall), golden_macro[2], 1e-15, "macro f1", 0);
    close_to(precision, golden_macro[0], 1e-15, "macro precision", 0);
    close_to(recall, golden_macro[1], 1e-15, "macro recall", 0);
    close_to(tl_evaluation_weighted(e, &precision, &recall), golden_weighted[2], 1e-15,
             "weighted f1", 0);
    close_to(precision, golden_weighted[0], 1e-15, "weighted precision", 0);
    close_to(recall, golden_weighted[1], 1e-15, "weighted recall", 0);
    assert_true(tl_evaluation_macro(e, NULL, NULL) == golden_macro[2]);
    tl_evaluation_free(e);
    tl_evaluation_free(NULL);
    tl_context_free(ctx);
}

static void test_measures_refuse(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    float p[] = {0.5f, 0.5f, 1, 0};
    int32_t labels[] = {0, 1};
    tl_evaluation *e = NULL;
    assert_ok(tl_evaluation_create(ctx, 2, 2, p, labels, &e));
    assert_true(isfinite(tl_evaluation_loss(e))); /* although the truth got probability 0 */
    close_to(tl_evaluation_accuracy(e), 0.5, 0, "first of equals", 0);
    tl_evaluation_free(e);
    assert_fails(tl_evaluation_create(ctx, 2, 0, p, labels, &e), TL_INVALID_ARGUMENT, "count");
    assert_fails(tl_evaluation_create(ctx, 0, 2, p, labels, &e), TL_INVALID_ARGUMENT, "classes");
    labels[1] = 2;
    assert_fails(tl_evaluation_create(ctx, 2, 2, p, labels, &e), TL_INVALID_ARGUMENT,
                 "label 1 is 2");
    labels[1] = 1;
    p[2] = NAN;
    assert_fails(tl_evaluation_create(ctx, 2, 2, p, labels, &e), TL_DIVERGED, "answer 1");
    assert_null(e);
    tl_context_free(ctx);
}

/* --- a layer by itself -------------------------------------------------------------------- */

static tl_tensor *tensor_of(tl_context *ctx, int rank, const int64_t *shape, const float *values) {
    tl_tensor *t = NULL;
    assert_ok(tl_tensor_create(ctx, TL_F32, rank, shape, &t));
    if (values) memcpy(tl_tensor_data(t), values, tl_tensor_bytes(t));
    return t;
}

static const float *values_of(const tl_tensor *t) {
    return tl_tensor_const_data(t);
}

static void test_layer_dense(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_layer *layer = NULL;
    const int rank = 2;
    const int64_t in_shape[] = {2, 3}, out_shape[] = {2, 2};
    assert_ok(tl_layer_create(ctx, "dense", "units=2", 1, &rank, in_shape, 5, &layer));
    assert_int_equal(tl_layer_param_count(layer), 2);
    assert_string_equal(tl_layer_param_name(layer, 0), "weight");
    assert_null(tl_layer_param_name(layer, 2));
    assert_null(tl_layer_param(layer, -1));
    const float w[] = {1, 2, 3, -1, 0, 1}, b[] = {10, 20};
    memcpy(tl_tensor_data(tl_layer_param(layer, 0)), w, sizeof w);
    memcpy(tl_tensor_data(tl_layer_param(layer, 1)), b, sizeof b);
    tl_tensor *x = tensor_of(ctx, 2, in_shape, (const float[]){1, 0, 2, 0, 1, -1});
    tl_tensor *dy = tensor_of(ctx, 2, out_shape, (const float[]){1, 2, 0, -1});
    const tl_tensor *y = NULL, *dx = NULL;
    assert_fails(tl_layer_backward(layer, dy, &dx), TL_INVALID_ARGUMENT, "forward");
    assert_ok(tl_layer_forward(layer, (const tl_tensor *const *)&x, true, &y));
    const float want[] = {17, 21, 9, 19}, want_dx[] = {-1, 2, 5, 1, 0, -1};
    const float want_dw[] = {1, 0, 2, 2, -1, 5}, want_db[] = {1, 1};
    assert_memory_equal(values_of(y), want, sizeof want);
    assert_ok(tl_layer_backward(layer, dy, &dx));
    assert_memory_equal(values_of(dx), want_dx, sizeof want_dx);
    assert_ok(tl_layer_backward(layer, dy, NULL)); /* gradients add up */
    for (int i = 0; i < 6; i++)
        assert_true(values_of(tl_layer_grad(layer, 0))[i] == 2 * want_dw[i]);
    tl_layer_zero_grad(layer);
    assert_ok(tl_layer_backward(layer, dy, NULL));
    assert_memory_equal(values_of(tl_layer_grad(layer, 0)), want_dw, sizeof want_dw);
    assert_memory_equal(values_of(tl_layer_grad(layer, 1)), want_db, sizeof want_db);
    assert_fails(tl_layer_forward(layer, (const tl_tensor *const *)&dy, true, &y), TL_SHAPE,
                 "[2, 2]");
    tl_tensor_free(x);
    tl_tensor_free(dy);
    tl_layer_free(layer);
    tl_context_free(ctx);
}

static void test_layer_with_several_inputs(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    tl_layer *layer = NULL;
    const int ranks[] = {4, 4};
    const int64_t shapes[] = {1, 1, 2, 1, 1, 1, 2, 2}, out_shape[] = {1, 1, 2, 3};
    assert_ok(tl_layer_create(ctx, "concat", NULL, 2, ranks, shapes, 0, &layer));
    tl_tensor *a = tensor_of(ctx, 4, shapes, (const float[]){1, 2});
    tl_tensor *b = tensor_of(ctx, 4, shapes + 4, (const float[]){3, 4, 5, 6});
    tl_tensor *dy = tensor_of(ctx, 4, out_shape, (const float[]){1, 2, 3, 4, 5, 6});
    const tl_tensor *inputs[] = {a, b}, *y = NULL, *grads[2];
    assert_ok(tl_layer_forward(layer, inputs, true, &y));
    assert_memory_equal(values_of(y), ((const float[]){1, 3, 4, 2, 5, 6}), 24);
    assert_ok(tl_layer_backward(layer, dy, grads));
    assert_memory_equal(values_of(grads[0]), ((const float[]){1, 4}), 8);
    assert_memory_equal(values_of(grads[1]), ((const float[]){2, 3, 5, 6}), 16);
    tl_tensor_free(a);
    tl_tensor_free(b);
    tl_tensor_free(dy);
    tl_layer_free(layer);
    tl_context_free(ctx);
}

static void test_layer_modes_and_errors(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_layer *layer = NULL;
    const int rank = 2;
    const int64_t shape[] = {8, 32};
    assert_ok(tl_layer_create(ctx, "dropout", "rate=0.5", 1, &rank, shape, 9, &layer));
    tl_tensor *x = tensor_of(ctx, 2, shape, NULL);
    float *values = tl_tensor_data(x);
    for (int i = 0; i < 256; i++) values[i] = 1;
    const tl_tensor *y = NULL;
    assert_ok(tl_layer_forward(layer, (const tl_tensor *const *)&x, false, &y));
    assert_memory_equal(values_of(y), values, tl_tensor_bytes(x));
    float first[256];
    assert_ok(tl_layer_forward(layer, (const tl_tensor *const *)&x, true, &y));
    memcpy(first, values_of(y), sizeof first);
    int dropped = 0;
    for (int i = 0; i < 256; i++) dropped += first[i] == 0;
    assert_in_range(dropped, 90, 166);
    assert_ok(tl_layer_forward(layer, (const tl_tensor *const *)&x, true, &y));
    assert_memory_not_equal(values_of(y), first, sizeof first); /* a new step, other units */
    tl_tensor_free(x);
    tl_layer_free(layer);
    tl_layer_free(NULL);
    assert_fails(tl_layer_create(ctx, "transformer", "", 1, &rank, shape, 0, &layer), TL_NOT_FOUND,
                 "transformer");
    assert_null(layer);
    assert_fails(tl_layer_create(ctx, "dense", "units=0", 1, &rank, shape, 0, &layer),
                 TL_INVALID_ARGUMENT, "units");
    assert_fails(tl_layer_create(ctx, "dense", "units=4", 2, &rank, shape, 0, &layer),
                 TL_INVALID_ARGUMENT, "at most 1");
    assert_fails(tl_layer_create(ctx, "conv2d", "filters=4 kernel=3", 1, &rank, shape, 0, &layer),
                 TL_SHAPE, NULL);
    const int bad_rank = 9;
    assert_fails(tl_layer_create(ctx, "relu", NULL, 1, &bad_rank, shape, 0, &layer),
                 TL_INVALID_ARGUMENT, "rank");
    tl_context_free(ctx);
}

/* --- training curves ---------------------------------------------------------------------- */

/* As uniform() in make_train.py. */
static void draw(const char *key, float *out, int64_t count) {
    uint32_t seed = 2166136261u;
    for (; *key; key++) seed = (seed ^ (unsigned char)*key) * 16777619u;
    for (int64_t i = 0; i < count; i++) {
        uint32_t x = (uint32_t)i * 0x9E3779B1u + seed;
        x = (x ^ x >> 16) * 0x7FEB352Du;
        x = (x ^ x >> 15) * 0x846CA68Bu;
        x ^= x >> 16;
        out[i] = (float)(x >> 8) * 0x1p-23f - 1.0f;
    }
}

static const char *ending(const char *name) {
    return strrchr(name, '.') + 1;
}

/* As fill() in make_train.py. */
static void draw_param(const char *name, tl_tensor *value) {
    float *w = tl_tensor_data(value);
    int64_t count = tl_tensor_count(value);
    const int64_t *shape = tl_tensor_shape(value);
    double gain = tl_tensor_rank(value) == 2 ? 0.2 : 1, branch = strstr(name, "bn2.") ? 0.25 : 1;
    draw(name, w, count);
    for (int64_t i = 0; i < count; i++) {
        double u = (double)w[i];
        if (tl_tensor_rank(value) > 1)
            u *= gain * sqrt(6.0 / ((double)count / (double)shape[0]));
        else if (strcmp(ending(name), "gamma") == 0)
            u = branch * (1 + 0.2 * u);
        else if (strcmp(ending(name), "variance") == 0)
            u = 1 + 0.5 * u;
        else
            u = 0.1 * u;
        w[i] = (float)u;
    }
}

static void draw_params(tl_model *model) {
    for (int i = 0; i < tl_model_param_count(model); i++)
        draw_param(tl_model_param_name(model, i), tl_model_param(model, i));
}

static tl_model *curve_model(tl_context *ctx, const char *output) {
    tl_model *model = small_network(ctx, CURVE_SIDE);
    add_layer(model, "global_avg_pool", "pool", NULL, NULL);
    add_layer(model, "dense", "fc", output, NULL);
    draw_params(model);
    return model;
}

static tl_model *golden_model(tl_context *ctx, const char *network) {
    if (strcmp(network, "small") == 0) return curve_model(ctx, "units=4");
    tl_model *model = NULL;
    assert_ok(tl_model_create(ctx, network, CURVE_CLASSES, 0, &model));
    assert_ok(tl_model_resize_input(model, 32, 32));
    draw_params(model);
    return model;
}

static void freeze_all_but(tl_model *model, const char *block) {
    assert_ok(tl_model_freeze(model, "", true));
    assert_ok(tl_model_freeze(model, "fc", false));
    if (*block) assert_ok(tl_model_freeze(model, block, false));
}

static void make_batch(int step, tl_tensor *inputs, int32_t *labels) {
    char key[16];
    snprintf(key, sizeof key, "batch%d", step % 3);
    draw(key, tl_tensor_data(inputs), tl_tensor_count(inputs));
    for (int i = 0; i < CURVE_BATCH; i++) labels[i] = (i + step % 3) % CURVE_CLASSES;
}

static tl_trainer *curve_trainer(tl_model *model, int index) {
    tl_optimizer_options optimizer;
    tl_optimizer_options_init(&optimizer, sizeof optimizer);
    optimizer.name = golden_curves[index].optimizer;
    optimizer.style = "pytorch";
    optimizer.lr = golden_curves[index].lr;
    optimizer.momentum = golden_curves[index].momentum;
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    options.optimizer = &optimizer;
    options.batch = CURVE_BATCH;
    options.batch_norm_training = golden_curves[index].statistics;
    tl_trainer *trainer = NULL;
    assert_ok(tl_trainer_create(model, &options, &trainer));
    return trainer;
}

static const int64_t curve_input[] = {CURVE_BATCH, CURVE_SIDE, CURVE_SIDE, 3};

static double compare_curve(tl_context *ctx, int c) {
    tl_model *model = golden_model(ctx, golden_curves[c].network);
    freeze_all_but(model, golden_curves[c].block);
    tl_trainer *trainer = curve_trainer(model, c);
    int side = 0;
    tl_model_input_size(model, &side, NULL, NULL);
    tl_tensor *inputs = tensor_of(ctx, 4, (const int64_t[]){CURVE_BATCH, side, side, 3}, NULL);
    int32_t labels[CURVE_BATCH];
    double largest = 0;
    for (int step = 0; step <= CURVE_STEPS; step++) {
        bool last = step == CURVE_STEPS;
        double loss = 0, want = golden_curves[c].loss[step];
        make_batch(last ? 0 : step, inputs, labels);
        if (last)
            assert_ok(tl_trainer_evaluate(trainer, inputs, labels, &loss, NULL));
        else
            assert_ok(tl_trainer_step(trainer, inputs, labels, &loss, NULL));
        close_to(loss, want, 1e-4, golden_curves[c].optimizer, step);
        largest = fmax(largest, fabs(loss - want));
    }
    tl_tensor_free(inputs);
    tl_trainer_free(trainer);
    tl_model_free(model);
    return largest;
}

static void test_loss_curves_equal_pytorch(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    for (int c = 0; c < COUNT(golden_curves); c++) {
        const char *block = golden_curves[c].block;
        double largest = compare_curve(ctx, c);
        print_message("%s, %s, fc%s%s%s: differs from PyTorch by at most %.2g\n",
                      golden_curves[c].network, golden_curves[c].optimizer, *block ? " and " : "",
                      block, golden_curves[c].statistics ? " with batch statistics" : "", largest);
    }
    tl_context_free(ctx);
}

static void test_training_does_not_depend_on_threads(void **state) {
    (void)state;
    tl_tensor *param[2][64];
    tl_context *ctx[2];
    tl_model *model[2];
    int params = 0;
    for (int threads = 1; threads <= 2; threads++) {
        ctx[threads - 1] = make_context(threads, NULL);
        tl_model *m = model[threads - 1] = curve_model(ctx[threads - 1], "units=4");
        tl_trainer *trainer = curve_trainer(m, 5); /* Adam, everything, batch statistics */
        tl_tensor *inputs = tensor_of(ctx[threads - 1], 4, curve_input, NULL);
        int32_t labels[CURVE_BATCH];
        for (int step = 0; step < 3; step++) {
            make_batch(step, inputs, labels);
            assert_ok(tl_trainer_step(trainer, inputs, labels, NULL, NULL));
        }
        params = tl_model_param_count(m);
        for (int i = 0; i < params; i++) param[threads - 1][i] = tl_model_param(m, i);
        tl_tensor_free(inputs);
        tl_trainer_free(trainer);
    }
    for (int i = 0; i < params; i++)
        assert_memory_equal(tl_tensor_data(param[0][i]), tl_tensor_data(param[1][i]),
                            tl_tensor_bytes(param[0][i]));
    for (int i = 0; i < 2; i++) {
        tl_model_free(model[i]);
        tl_context_free(ctx[i]);
    }
}

/* --- what a trainer refuses --------------------------------------------------------------- */

static void copy_params(tl_model *model, float *out) {
    for (int i = 0; i < tl_model_param_count(model); i++) {
        tl_tensor *value = tl_model_param(model, i);
        memcpy(out, tl_tensor_data(value), tl_tensor_bytes(value));
        out += tl_tensor_count(value);
    }
}

static void test_divergence_leaves_the_weights(void **state) {
    (void)state;
    enum { MOST = 65536 };
    static float before[MOST], after[MOST];
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = curve_model(ctx, "units=4");
    tl_trainer *trainer = curve_trainer(model, 2); /* with batch statistics */
    tl_tensor *inputs = tensor_of(ctx, 4, curve_input, NULL);
    int32_t labels[CURVE_BATCH];
    make_batch(0, inputs, labels);
    assert_ok(tl_trainer_step(trainer, inputs, labels, NULL, NULL));
    copy_params(model, before);
    ((float *)tl_tensor_data(inputs))[7] = NAN;
    double loss = 0;
    assert_fails(tl_trainer_step(trainer, inputs, labels, &loss, NULL), TL_DIVERGED, "step 2");
    assert_non_null(strstr(tl_last_error(), "learning rate 0.02"));
    copy_params(model, after);
    assert_memory_equal(before, after, sizeof before);
    make_batch(1, inputs, labels);
    assert_ok(tl_trainer_step(trainer, inputs, labels, &loss, NULL)); /* and it can go on */
    assert_true(isfinite(loss));
    tl_tensor_free(inputs);
    tl_trainer_free(trainer);
    tl_model_free(model);
    tl_context_free(ctx);
}

/* Memory that runs out at any moment of making a trainer or of its first steps changes no weight.
 */
static void test_scarce_memory_leaves_the_weights(void **state) {
    (void)state;
    enum { MOST = 65536 };
    static float before[MOST], after[MOST];
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    tl_model *model = curve_model(ctx, "units=4");
    tl_tensor *inputs = tensor_of(ctx, 4, curve_input, NULL);
    int32_t labels[CURVE_BATCH];
    make_batch(0, inputs, labels);
    copy_params(model, before);
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    for (bool stepped = false; !stepped; allocator.fail_at++) {
        if (allocator.fail_at == 0) allocator.fail_at = 1;
        tl_trainer *trainer = NULL;
        allocator.calls = 0;
        allocator.keep_failing = true;
        tl_status status = tl_trainer_create(model, &options, &trainer);
        if (status == TL_OK) status = tl_trainer_step(trainer, inputs, labels, NULL, NULL);
        allocator.keep_failing = false;
        stepped = status == TL_OK;
        if (!stepped) {
            assert_int_equal(status, TL_NO_MEMORY);
            assert_null(trainer); /* no step asks for memory */
            copy_params(model, after);
            assert_memory_equal(before, after, sizeof before);
        }
        tl_trainer_free(trainer);
    }
    allocator.fail_at = 0;
    tl_tensor_free(inputs);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_clipping_bounds_the_step(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = curve_model(ctx, "units=4");
    freeze_all_but(model, "");
    tl_optimizer_options sgd;
    tl_optimizer_options_init(&sgd, sizeof sgd);
    sgd.name = "sgd";
    sgd.lr = 1;
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    options.optimizer = &sgd;
    options.clip_norm = 1e-3;
    tl_trainer *trainer = NULL;
    assert_ok(tl_trainer_create(model, &options, &trainer));
    static float before[65536], after[65536];
    copy_params(model, before);
    tl_tensor *inputs = tensor_of(ctx, 4, curve_input, NULL);
    int32_t labels[CURVE_BATCH];
    make_batch(0, inputs, labels);
    assert_ok(tl_trainer_step(trainer, inputs, labels, NULL, NULL));
    copy_params(model, after);
    double sum = 0;
    for (int i = 0; i < 65536; i++) sum += pow((double)before[i] - (double)after[i], 2);
    close_to(sqrt(sum), 1e-3, 1e-6, "step length", 0);
    tl_tensor_free(inputs);
    tl_trainer_free(trainer);
    tl_model_free(model);
    tl_context_free(ctx);
}

static void test_trainer_refuses(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_model *model = curve_model(ctx, "units=4");
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    options.batch = 4;
    tl_trainer *trainer = NULL;
    assert_ok(tl_model_freeze(model, "", true));
    assert_fails(tl_trainer_create(model, &options, &trainer), TL_INVALID_ARGUMENT,
                 "nothing to train");
    freeze_all_but(model, "");
    options.batch = 0;
    assert_fails(tl_trainer_create(model, &options, &trainer), TL_INVALID_ARGUMENT, "batch is 0");
    options.batch = 4;
    options.clip_norm = NAN;
    assert_fails(tl_trainer_create(model, &options, &trainer), TL_INVALID_ARGUMENT, "clip_norm");
    assert_null(trainer);
    options.clip_norm = 0;
    tl_memory memory = {0};
    assert_fails(tl_trainer_memory(model, &options, &memory), TL_INVALID_ARGUMENT, "size is 0");
    tl_optimizer_options optimizer = {.name = "sgd"};
    tl_optimizer *alone = NULL;
    assert_fails(tl_optimizer_create(ctx, &optimizer, &alone), TL_INVALID_ARGUMENT,
                 "optimizer: the options' size is 0");
    options.optimizer = &optimizer;
    assert_fails(tl_trainer_create(model, &options, &trainer), TL_INVALID_ARGUMENT,
                 "optimizer: the options' size is 0");
    options.optimizer = NULL;
    options.size = 7;
    assert_fails(tl_trainer_create(model, &options, &trainer), TL_INVALID_ARGUMENT,
                 "trainer: the options' size is 7");
    options.size = sizeof options;
    assert_ok(tl_trainer_create(model, &options, &trainer));
    int32_t labels[CURVE_BATCH] = {0};
    double loss;
    tl_tensor *inputs = tensor_of(ctx, 4, curve_input, NULL); /* 6 pictures, 4 fit */
    assert_fails(tl_trainer_step(trainer, inputs, labels, &loss, NULL), TL_SHAPE, "[6, 24, 24, 3]");
    tl_tensor *some = NULL;
    assert_ok(tl_tensor_slice(inputs, 0, 3, &some));
    assert_ok(tl_trainer_step(trainer, some, labels, &loss, NULL)); /* fewer are fine */
    labels[2] = 4;
    assert_fails(tl_trainer_step(trainer, some, labels, &loss, NULL), TL_INVALID_ARGUMENT,
                 "label 2 is 4");
    assert_fails(tl_trainer_evaluate(trainer, some, NULL, &loss, NULL), TL_INVALID_ARGUMENT,
                 "labels");
    tl_tensor_free(some);
    tl_tensor_free(inputs);
    tl_trainer_free(trainer);
    tl_model_free(model);
    model = curve_model(ctx, "units=1");
    assert_fails(tl_trainer_create(model, &options, &trainer), TL_INVALID_ARGUMENT, "1 values");
    tl_model_free(model);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax_loss),
        cmocka_unit_test(test_sigmoid_loss),
        cmocka_unit_test(test_optimizers_follow_frameworks),
        cmocka_unit_test(test_optimizer_threads_change_nothing),
        cmocka_unit_test(test_optimizer_refuses),
        cmocka_unit_test(test_measures_equal_scikit_learn),
        cmocka_unit_test(test_measures_refuse),
        cmocka_unit_test(test_layer_dense),
        cmocka_unit_test(test_layer_with_several_inputs),
        cmocka_unit_test(test_layer_modes_and_errors),
        cmocka_unit_test(test_loss_curves_equal_pytorch),
        cmocka_unit_test(test_training_does_not_depend_on_threads),
        cmocka_unit_test(test_divergence_leaves_the_weights),
        cmocka_unit_test(test_scarce_memory_leaves_the_weights),
        cmocka_unit_test(test_clipping_bounds_the_step),
        cmocka_unit_test(test_trainer_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
