/* Losses, optimisers, measures, single layers and the training step against PyTorch, Keras's
 * formulas and scikit-learn (tests/golden/make_train.py). */
#include "support.h"

#include <float.h>

#include "golden/train.h"
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
        tl_optimizer_set_lr(o, step < GOLDEN_STEPS / 2 ? lr : lr / 2);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax_loss),
        cmocka_unit_test(test_sigmoid_loss),
        cmocka_unit_test(test_optimizers_follow_frameworks),
        cmocka_unit_test(test_optimizer_threads_change_nothing),
        cmocka_unit_test(test_optimizer_refuses),
        cmocka_unit_test(test_measures_equal_scikit_learn),
        cmocka_unit_test(test_measures_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
