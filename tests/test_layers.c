#include "gradcheck.h"

#include "layer/ops.h"
#include "layer/window.h"

/* --- finite differences for every operator ------------------------------------------------------
 */

/* tl_shape has its dimensions in an array of its own. */
#define NC(n, c)                                                                                   \
    {                                                                                              \
        .rank = 2, .dim = { n, c }                                                                 \
    }
#define NHWC(n, h, w, c)                                                                           \
    {                                                                                              \
        .rank = 4, .dim = { n, h, w, c }                                                           \
    }

static const gradcheck_case gradient_cases[] = {
    {"conv2d", "filters=5 kernel=1", false, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"conv2d", "filters=3 kernel=3 pad=1 bias=0", false, VALUES_ANY, 1, {NHWC(2, 5, 4, 3)}},
    {"conv2d", "filters=17 kernel=3 stride=2 pad=1", false, VALUES_ANY, 1, {NHWC(1, 7, 6, 3)}},
    {"conv2d",
     "filters=4 kernel=3 stride=2 padding=same",
     false,
     VALUES_ANY,
     1,
     {NHWC(1, 6, 7, 5)}},
    {"conv2d",
     "filters=3 kernel=3,2 stride=1,3 pad=0,2,1,0",
     false,
     VALUES_ANY,
     1,
     {NHWC(2, 5, 7, 3)}},
    {"conv2d", "filters=2 kernel=3 dilation=2 pad=2", false, VALUES_ANY, 1, {NHWC(1, 5, 6, 3)}},
    {"conv2d",
     "filters=3 kernel=2,3 dilation=3,1 stride=2 pad=1,0,2,1",
     false,
     VALUES_ANY,
     1,
     {NHWC(1, 7, 5, 2)}},
    {"conv2d", "filters=6 kernel=3 groups=3 pad=1", false, VALUES_ANY, 1, {NHWC(1, 4, 5, 9)}},
    {"conv2d",
     "filters=4 kernel=2 groups=2 stride=2 bias=0",
     false,
     VALUES_ANY,
     1,
     {NHWC(2, 5, 4, 6)}},
    {"conv2d", "filters=7 kernel=3 groups=7 pad=1", false, VALUES_ANY, 1, {NHWC(2, 4, 5, 7)}},
    {"conv2d",
     "filters=19 kernel=5 groups=19 stride=2 padding=same",
     false,
     VALUES_ANY,
     1,
     {NHWC(1, 5, 6, 19)}},
    {"conv2d",
     "filters=5 kernel=3 groups=5 dilation=2 pad=2,1,0,3",
     false,
     VALUES_ANY,
     1,
     {NHWC(1, 5, 6, 5)}},
    {"conv2d",
     "filters=6 kernel=3 groups=3 pad=1 stride=2",
     false,
     VALUES_ANY,
     1,
     {NHWC(1, 5, 5, 3)}},
    {"conv2d", "filters=3 kernel=1 stride=2", false, VALUES_ANY, 1, {NHWC(1, 5, 6, 4)}},
    {"conv2d", "filters=2 kernel=7 stride=2 pad=3", false, VALUES_ANY, 1, {NHWC(1, 6, 5, 3)}},
    {"conv2d", "filters=2 kernel=1 stride=3 pad=2,1,0,1", false, VALUES_ANY, 1, {NHWC(1, 4, 5, 2)}},
    {"dense", "units=5", false, VALUES_ANY, 1, {NC(3, 7)}},
    {"dense", "units=1", false, VALUES_ANY, 1, {NC(5, 33)}},
    {"dense", "units=35 bias=0", false, VALUES_ANY, 1, {NC(1, 3)}},
    {"relu", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(2, 3, 5, 7)}},
    {"relu6", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(2, 3, 5, 7)}},
    {"sigmoid", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(1, 5, 3, 7)}},
    {"silu", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(1, 5, 3, 7)}},
    {"hard_swish", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(2, 3, 5, 7)}},
    {"softmax", NULL, false, VALUES_ANY, 1, {NC(5, 7)}},
    {"softmax", NULL, false, VALUES_ANY, 1, {NHWC(1, 2, 3, 5)}},
    {"softmax", NULL, false, VALUES_ANY, 1, {NC(3, 1)}},
    {"batch_norm", NULL, false, VALUES_ANY, 1, {NHWC(3, 5, 3, 7)}},
    {"batch_norm", "epsilon=1e-3", true, VALUES_OFF_KINKS, 1, {NHWC(3, 5, 3, 7)}},
    {"batch_norm", "scale=0", true, VALUES_OFF_KINKS, 1, {NHWC(2, 3, 3, 5)}},
    {"batch_norm", "center=0", true, VALUES_OFF_KINKS, 1, {NC(9, 5)}},
    {"batch_norm", "center=0 scale=0", false, VALUES_ANY, 1, {NC(3, 5)}},
    {"batch_norm", "center=0 scale=0", true, VALUES_OFF_KINKS, 1, {NC(7, 3)}},
    {"max_pool", "kernel=2", false, VALUES_DISTINCT, 1, {NHWC(2, 5, 7, 3)}},
    {"max_pool", "kernel=3 stride=2 pad=1", false, VALUES_DISTINCT, 1, {NHWC(2, 7, 6, 5)}},
    {"max_pool", "kernel=3 stride=2 padding=same", false, VALUES_DISTINCT, 1, {NHWC(1, 6, 7, 5)}},
    {"max_pool",
     "kernel=3,2 stride=2,3 pad=2,0,1,1",
     false,
     VALUES_DISTINCT,
     1,
     {NHWC(1, 7, 8, 3)}},
    {"max_pool", "kernel=3 stride=2 ceil_mode=1", false, VALUES_DISTINCT, 1, {NHWC(1, 6, 8, 67)}},
    {"avg_pool", "kernel=2", false, VALUES_ANY, 1, {NHWC(2, 5, 7, 3)}},
    {"avg_pool", "kernel=3 stride=1 padding=same", false, VALUES_ANY, 1, {NHWC(1, 5, 4, 5)}},
    {"avg_pool",
     "kernel=3 stride=2 pad=1 count_include_pad=1",
     false,
     VALUES_ANY,
     1,
     {NHWC(1, 7, 6, 5)}},
    {"avg_pool",
     "kernel=3,2 stride=2 pad=0,1,2,0 ceil_mode=1",
     false,
     VALUES_ANY,
     1,
     {NHWC(1, 6, 7, 66)}},
    {"global_avg_pool", NULL, false, VALUES_ANY, 1, {NHWC(2, 5, 3, 7)}},
    {"global_avg_pool", NULL, false, VALUES_ANY, 1, {NHWC(1, 3, 2, 65)}},
    {"global_max_pool", NULL, false, VALUES_DISTINCT, 1, {NHWC(2, 5, 3, 7)}},
    {"global_max_pool", NULL, false, VALUES_DISTINCT, 1, {NHWC(1, 3, 2, 65)}},
    {"add", NULL, false, VALUES_ANY, 2, {NHWC(1, 3, 5, 7), NHWC(1, 3, 5, 7)}},
    {"add", NULL, false, VALUES_ANY, 4, {NC(3, 5), NC(3, 5), NC(3, 5), NC(3, 5)}},
    {"multiply", NULL, false, VALUES_ANY, 2, {NHWC(2, 3, 5, 7), NHWC(2, 3, 5, 7)}},
    {"multiply", NULL, false, VALUES_ANY, 3, {NC(3, 5), NC(3, 5), NC(3, 5)}},
    {"multiply", NULL, false, VALUES_ANY, 2, {NHWC(2, 3, 5, 7), NHWC(2, 1, 1, 7)}},
    {"multiply", NULL, false, VALUES_ANY, 2, {NHWC(3, 2, 5, 3), NC(3, 3)}},
    {"multiply",
     NULL,
     false,
     VALUES_ANY,
     4,
     {NHWC(2, 3, 2, 3), NC(2, 3), NHWC(2, 3, 2, 3), NHWC(2, 1, 1, 3)}},
    {"multiply", NULL, false, VALUES_ANY, 2, {NHWC(1, 1, 2, 515), NC(1, 515)}},
    {"concat", NULL, false, VALUES_ANY, 3, {NHWC(2, 3, 5, 1), NHWC(2, 3, 5, 4), NHWC(2, 3, 5, 7)}},
    {"concat", NULL, false, VALUES_ANY, 2, {NC(3, 5), NC(3, 2)}},
    {"concat", NULL, false, VALUES_ANY, 1, {NC(3, 5)}},
    {"flatten", NULL, false, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"identity", NULL, false, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"dropout", "rate=0.3", true, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"dropout", "rate=0.3", false, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"dropout", "rate=0", true, VALUES_ANY, 1, {NC(2, 65)}},
    {"hard_sigmoid", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(2, 3, 5, 7)}},
    {"gelu", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(2, 3, 5, 7)}},
    {"leaky_relu", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(2, 3, 5, 7)}},
    {"leaky_relu", "alpha=0.3", false, VALUES_OFF_KINKS, 1, {NC(3, 35)}},
    {"layer_norm", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(2, 3, 5, 7)}},
    {"layer_norm", "epsilon=1e-3", false, VALUES_OFF_KINKS, 1, {NC(5, 33)}},
    {"scale_shift", NULL, false, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"scale_shift", "scale=0", false, VALUES_ANY, 1, {NC(3, 5)}},
    {"scale_shift", "center=0", false, VALUES_ANY, 1, {NHWC(1, 3, 5, 19)}},
    {"scale_shift", "learned=0", false, VALUES_ANY, 1, {NC(2, 7)}},
    {"slice", "end=3", false, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"slice", "begin=2 end=7", false, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"slice", "begin=32 end=33", false, VALUES_ANY, 1, {NC(3, 67)}},
    {"zero_pad", "pad=1,2,0,3", false, VALUES_ANY, 1, {NHWC(2, 3, 5, 7)}},
    {"zero_pad", "pad=-1,0,-2,-3", false, VALUES_ANY, 1, {NHWC(2, 5, 4, 3)}},
    {"zero_pad", "pad=-1,2,3,-4", false, VALUES_ANY, 1, {NHWC(1, 3, 5, 2)}},
    {"channel_shuffle", "groups=2", false, VALUES_ANY, 1, {NHWC(2, 3, 5, 6)}},
    {"channel_shuffle", "groups=5", false, VALUES_ANY, 1, {NC(3, 35)}},
    {"channel_shuffle", "groups=1", false, VALUES_ANY, 1, {NC(1, 3)}},
};
enum { GRADIENT_CASES = (int)(sizeof gradient_cases / sizeof gradient_cases[0]) };

static void gradients_agree_with_finite_differences(void **state) {
    (void)state;
    const char *names[8];
    int count = tl_isa_list(names, 8);
    for (int k = 0; k < count; k++) {
        tl_context_options options;
        tl_context_options_init(&options, sizeof options);
        options.threads = 1;
        options.isa = names[k];
        tl_context *ctx = NULL;
        assert_ok(tl_context_create(&options, &ctx));
        for (int i = 0; i < GRADIENT_CASES; i++) gradcheck(ctx, &gradient_cases[i]);
        tl_context_free(ctx);
    }
}

static bool is_covered(const tl_op *op, bool training) {
    for (int i = 0; i < GRADIENT_CASES; i++)
        if (strcmp(gradient_cases[i].op, op->name) == 0 && gradient_cases[i].training == training)
            return true;
    return false;
}

static void every_operator_has_a_gradient_case(void **state) {
    (void)state;
    for (const tl_op *const *op = tl_op_all(); *op; op++) {
        if (!(*op)->backward) continue;
        if (!is_covered(*op, false)) fail_msg("%s has no gradient case", (*op)->name);
        if (((*op)->flags & (TL_OP_RANDOM | TL_OP_STATISTICS)) && !is_covered(*op, true))
            fail_msg("%s has no gradient case in training", (*op)->name);
    }
}

/* --- threads
 * ------------------------------------------------------------------------------------------- */

/* Large enough to be cut into several pieces in every pass. */
static const gradcheck_case thread_cases[] = {
    {"conv2d", "filters=40 kernel=3 pad=1", false, VALUES_ANY, 1, {NHWC(3, 19, 17, 24)}},
    {"conv2d", "filters=72 kernel=1 stride=2", false, VALUES_ANY, 1, {NHWC(5, 13, 15, 67)}},
    {"conv2d", "filters=67 kernel=3 groups=67 pad=1", false, VALUES_ANY, 1, {NHWC(3, 19, 17, 67)}},
    {"conv2d", "filters=24 kernel=3 groups=4 pad=1", false, VALUES_ANY, 1, {NHWC(3, 19, 17, 32)}},
    {"dense", "units=131", false, VALUES_ANY, 1, {NC(67, 259)}},
    {"relu6", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(3, 17, 19, 33)}},
    {"silu", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(3, 17, 19, 33)}},
    {"softmax", NULL, false, VALUES_ANY, 1, {NC(131, 37)}},
    {"batch_norm", NULL, false, VALUES_ANY, 1, {NHWC(5, 37, 31, 19)}},
    {"batch_norm", NULL, true, VALUES_ANY, 1, {NHWC(5, 37, 31, 19)}},
    {"batch_norm", NULL, true, VALUES_ANY, 1, {NHWC(2, 3, 5, 4099)}},
    {"max_pool", "kernel=3 stride=2 pad=1", false, VALUES_ANY, 1, {NHWC(3, 23, 21, 133)}},
    {"avg_pool", "kernel=3 stride=2 pad=1", false, VALUES_ANY, 1, {NHWC(3, 23, 21, 133)}},
    {"global_avg_pool", NULL, false, VALUES_ANY, 1, {NHWC(3, 7, 7, 333)}},
    {"global_max_pool", NULL, false, VALUES_ANY, 1, {NHWC(3, 7, 7, 333)}},
    {"add", NULL, false, VALUES_ANY, 3, {NC(7, 4097), NC(7, 4097), NC(7, 4097)}},
    {"multiply", NULL, false, VALUES_ANY, 2, {NHWC(5, 13, 11, 67), NC(5, 67)}},
    {"concat", NULL, false, VALUES_ANY, 2, {NC(97, 67), NC(97, 33)}},
    {"flatten", NULL, false, VALUES_ANY, 1, {NHWC(3, 17, 19, 33)}},
    {"dropout", "rate=0.4", true, VALUES_ANY, 1, {NC(7, 4097)}},
    {"gelu", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(3, 17, 19, 33)}},
    {"leaky_relu", NULL, false, VALUES_OFF_KINKS, 1, {NHWC(3, 17, 19, 33)}},
    {"layer_norm", NULL, false, VALUES_ANY, 1, {NHWC(5, 37, 31, 19)}},
    {"scale_shift", NULL, false, VALUES_ANY, 1, {NHWC(5, 37, 31, 19)}},
    {"slice", "begin=3 end=20", false, VALUES_ANY, 1, {NHWC(3, 17, 19, 33)}},
    {"channel_shuffle", "groups=3", false, VALUES_ANY, 1, {NHWC(3, 17, 19, 33)}},
    {"zero_pad", "pad=1,-2,3,2", false, VALUES_ANY, 1, {NHWC(3, 17, 19, 33)}},
};

static void results_do_not_depend_on_threads(void **state) {
    (void)state;
    tl_context *one = make_context(1, NULL), *several = make_context(3, NULL);
    for (size_t i = 0; i < sizeof thread_cases / sizeof thread_cases[0]; i++)
        check_threads(one, several, &thread_cases[i]);
    tl_context_free(one);
    tl_context_free(several);
}

/* --- PyTorch's answers
 * ------------------------------------------------------------------------------------ */

typedef struct golden_layer {
    const char *op, *attrs;
    tl_shape in;
    bool training;
    int64_t out_size;
    const float *out, *grad;
    const float *params; /* d gamma, d beta, and of batch norm mean and variance afterwards */
} golden_layer;

#include "golden/layers.h"

/* The formulas of make_layers.py. */
static float golden_value(int64_t i) {
    return (float)((double)((i * 37 + 11) % 101 - 50) / 7.5);
}

static float golden_slope(int64_t i) {
    return (float)((double)((i * 29 + 7) % 83 - 41) / 32);
}

static void set_golden_inputs(op_run *run) {
    float *in = run->in[0].data;
    for (int64_t i = 0; i < run->in_size[0]; i++) in[i] = golden_value(i);
    for (int64_t i = 0; i < run->out_size; i++) run->grad_out[i] = golden_slope(i);
    for (int64_t i = 0; run->shapes.param_count && i < run->param_size[0]; i++) {
        run->param[0][i] = golden_value(i) / 8 + 1;
        run->param[1][i] = golden_slope(i);
        if (run->shapes.param_count < 4) continue;
        run->param[2][i] = golden_slope(i) / 2;
        run->param[3][i] = fabsf(golden_value(i)) + 0.5f;
    }
    for (int i = 0; i < run->shapes.param_count; i++)
        if (run->grad_param[i]) fill_constant(run->grad_param[i], run->param_size[i], 0);
}

static void layers_answer_as_pytorch_does(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    for (size_t i = 0; i < sizeof golden_layers / sizeof golden_layers[0]; i++) {
        const golden_layer *golden = &golden_layers[i];
        gradcheck_case test = {golden->op, golden->attrs, golden->training, VALUES_ANY,
                               1,          {golden->in}};
        char label[256];
        gradcheck_label(&test, label, sizeof label);
        op_run run;
        run_create(&run, ctx, &test);
        set_golden_inputs(&run);
        run_forward(&run, NULL, NULL, true);
        run_backward(&run, run.grad_in, gradcheck_write, run.grad_param);
        if (run.out_size != golden->out_size) fail_msg("%s: another output size", label);
        expect_near(label, "output", run.out, golden->out, golden->out_size);
        expect_near(label, "gradient", run.grad_in[0], golden->grad, run.in_size[0]);
        for (int k = 0; k < run.shapes.param_count; k++)
            expect_near(label, run.shapes.param[k].name, k < 2 ? run.grad_param[k] : run.param[k],
                        golden->params + k * run.param_size[k], run.param_size[k]);
        run_free(&run);
    }
    tl_context_free(ctx);
}

/* --- single facts
 * ------------------------------------------------------------------------------------------ */

static void run_values(op_run *run, const float *in, const float *grad_out) {
    memcpy(run->in[0].data, in, (size_t)run->in_size[0] * sizeof(float));
    memcpy(run->grad_out, grad_out, (size_t)run->out_size * sizeof(float));
    run_forward(run, NULL, NULL, true);
    run_backward(run, run->grad_in, gradcheck_write, run->grad_param);
}

static void relu6_has_no_slope_at_its_ends(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    gradcheck_case test = {"relu6", NULL, false, VALUES_ANY, 1, {NC(1, 6)}};
    op_run run;
    run_create(&run, ctx, &test);
    run_values(&run, (float[]){-1, 0, 0.5f, 5.5f, 6, 7}, (float[]){1, 1, 1, 1, 1, 1});
    float expected[] = {0, 0, 1, 1, 0, 0};
    assert_memory_equal(run.grad_in[0], expected, sizeof expected);
    run_free(&run);
    tl_context_free(ctx);
}

/* A diverged network must not look healthy. */
static void not_a_number_comes_through(void **state) {
    (void)state;
    static const char *const ops[][2] = {{"relu", NULL},
                                         {"relu6", NULL},
                                         {"hard_swish", NULL},
                                         {"softmax", NULL},
                                         {"global_max_pool", NULL},
                                         {"max_pool", "kernel=2"},
                                         {"hard_sigmoid", NULL},
                                         {"gelu", NULL},
                                         {"leaky_relu", NULL}};
    tl_context *ctx = make_context(1, NULL);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        for (int place = 0; place < 4; place++) {
            gradcheck_case test = {ops[i][0], ops[i][1], false, VALUES_ANY, 1, {NHWC(1, 2, 2, 1)}};
            if (strcmp(ops[i][0], "softmax") == 0) test.in[0] = (tl_shape)NC(1, 4);
            op_run run;
            run_create(&run, ctx, &test);
            ((float *)run.in[0].data)[place] = NAN;
            run_forward(&run, NULL, NULL, false);
            bool found = false;
            for (int64_t k = 0; k < run.out_size; k++) found = found || isnan(run.out[k]);
            if (!found) fail_msg("%s hides a NaN at %d", ops[i][0], place);
            run_free(&run);
        }
    }
    tl_context_free(ctx);
}

static void softmax_survives_large_logits(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    gradcheck_case test = {"softmax", NULL, false, VALUES_ANY, 1, {NC(1, 3)}};
    op_run run;
    run_create(&run, ctx, &test);
    run_values(&run, (float[]){1e30f, -1e30f, 1e30f}, (float[]){1, 0, 0});
    float expected[] = {0.5f, 0, 0.5f};
    assert_memory_equal(run.out, expected, sizeof expected);
    run_free(&run);
    tl_context_free(ctx);
}

/* One row, as in a batch of one after global pooling: variance 0, and nothing to correct. */
static void batch_norm_takes_a_single_row(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    gradcheck_case test = {"batch_norm", "momentum=0.5", true, VALUES_ANY, 1, {NC(1, 1)}};
    op_run run;
    run_create(&run, ctx, &test);
    run.param[0][0] = 2;
    run.param[1][0] = 3;
    run.param[2][0] = 1;
    run.param[3][0] = 1;
    run_values(&run, (float[]){5}, (float[]){1});
    /* 1 / deviation is 316 here, and so is the rounding of x * scale + shift. */
    assert_true(fabsf(run.out[0] - 3) < 1e-3f && run.grad_in[0][0] == 0);
    assert_true(run.param[2][0] == 3 && run.param[3][0] == 0.5f);
    run_free(&run);
    tl_context_free(ctx);
}

/* Keras's running variance is that of the batch, PyTorch's is corrected. */
static void batch_norm_corrects_the_variance_when_asked(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    for (int unbiased = 0; unbiased < 2; unbiased++) {
        char attrs[64];
        snprintf(attrs, sizeof attrs, "momentum=0 unbiased=%d", unbiased);
        gradcheck_case test = {"batch_norm", attrs, true, VALUES_ANY, 1, {NC(3, 1)}};
        op_run run;
        run_create(&run, ctx, &test);
        run_values(&run, (float[]){1, 2, 3}, (float[]){1, 1, 1});
        assert_true(fabsf(run.param[3][0] - (unbiased ? 1.0f : 2.0f / 3)) < 1e-6f);
        run_free(&run);
    }
    tl_context_free(ctx);
}

/* Values far from 0 beside a small spread: the case in which float sums of squares fail. */
static void batch_norm_is_exact_far_from_zero(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    gradcheck_case test = {"batch_norm", "scale=0 center=0 epsilon=1e-12", true, VALUES_ANY, 1,
                           {NC(2, 1)}};
    op_run run;
    run_create(&run, ctx, &test);
    run_values(&run, (float[]){4095, 4097}, (float[]){1, 1});
    assert_true(run.out[0] == -1 && run.out[1] == 1);
    run_free(&run);
    tl_context_free(ctx);
}

static void dropout_drops_its_share_and_keeps_the_mean(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    gradcheck_case test = {"dropout", "rate=0.25", true, VALUES_ANY, 1, {NC(100, 1000)}};
    op_run run;
    run_create(&run, ctx, &test);
    fill_constant(run.in[0].data, run.in_size[0], 3);
    run_forward(&run, NULL, NULL, true);
    int64_t dropped = 0;
    for (int64_t i = 0; i < run.out_size; i++) {
        dropped += run.out[i] == 0;
        assert_true(run.out[i] == 0 || fabsf(run.out[i] - 4) < 1e-6f);
    }
    /* 25,000 expected with a standard deviation of 137. */
    assert_in_range(dropped, 24300, 25700);
    /* Another step draws other elements, the same step the same. */
    float *first = run_floats(&run, run.out_size);
    memcpy(first, run.out, (size_t)run.out_size * sizeof(float));
    run_forward(&run, NULL, NULL, false);
    assert_memory_equal(first, run.out, (size_t)run.out_size * sizeof(float));
    run.call.stream++;
    run_forward(&run, NULL, NULL, false);
    assert_memory_not_equal(first, run.out, (size_t)run.out_size * sizeof(float));
    tl_free(ctx, first);
    run_free(&run);
    tl_context_free(ctx);
}

/* --- windows
 * ---------------------------------------------------------------------------------------------------
 */

static void windows_follow_both_frameworks(void **state) {
    (void)state;
    static const struct {
        int64_t in;
        int kernel, stride, dilation, before, after;
        tl_padding padding;
        bool ceil_mode;
        int64_t out;
        int got_before, got_after;
    } rows[] = {
        /* TensorFlow: an even input with stride 2 is padded after only. */
        {224, 3, 2, 1, 0, 0, TL_PADDING_SAME, false, 112, 0, 1},
        {225, 3, 2, 1, 0, 0, TL_PADDING_SAME, false, 113, 1, 1},
        {7, 3, 1, 2, 0, 0, TL_PADDING_SAME, false, 7, 2, 2},
        {8, 1, 2, 1, 0, 0, TL_PADDING_SAME, false, 4, 0, 0},
        {5, 2, 3, 1, 0, 0, TL_PADDING_SAME, false, 2, 0, 0},
        /* PyTorch. */
        {224, 3, 2, 1, 1, 1, TL_PADDING_EXPLICIT, false, 112, 1, 1},
        {6, 3, 2, 1, 0, 0, TL_PADDING_EXPLICIT, false, 2, 0, 0},
        {6, 3, 2, 1, 0, 0, TL_PADDING_EXPLICIT, true, 3, 0, 0},
        /* The last window would begin in the padding after, so it is dropped. */
        {6, 3, 3, 1, 1, 1, TL_PADDING_EXPLICIT, true, 3, 1, 1},
        {5, 2, 2, 1, 1, 1, TL_PADDING_EXPLICIT, true, 3, 1, 1},
        {9, 3, 1, 4, 0, 0, TL_PADDING_EXPLICIT, false, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tl_window window = {.in = rows[i].in,
                            .kernel = rows[i].kernel,
                            .stride = rows[i].stride,
                            .dilation = rows[i].dilation,
                            .before = rows[i].before,
                            .after = rows[i].after};
        assert_ok(tl_window_infer("op", "height", rows[i].padding, rows[i].ceil_mode, &window));
        if (window.out != rows[i].out || window.before != rows[i].got_before ||
            window.after != rows[i].got_after)
            fail_msg("row %zu: out %lld, padding %d and %d", i, (long long)window.out,
                     window.before, window.after);
    }
    tl_window small = {.in = 2, .kernel = 3, .stride = 1, .dilation = 2, .before = 1, .after = 0};
    assert_fails(
        tl_window_infer("max_pool", "width", TL_PADDING_EXPLICIT, false, &small), TL_SHAPE,
        "max_pool: the kernel spans 5 elements of width, the input with its padding has 3");
}

/* --- shapes that do not fit
 * --------------------------------------------------------------------------------------- */

static tl_status infer(const char *op_name, const char *attrs, int input_count,
                       const tl_shape *in) {
    const tl_op *op = tl_op_find(op_name);
    assert_non_null(op);
    unsigned char attr[256];
    assert_true(op->attr_size <= sizeof attr);
    tl_attr_init(op, attr);
    assert_ok(tl_attr_parse(op, attrs, attr));
    tl_op_shapes shapes;
    return tl_op_infer(op, attr, input_count, in, &shapes);
}

static void shapes_that_do_not_fit_are_named(void **state) {
    (void)state;
    static const struct {
        const char *op, *attrs;
        int input_count;
        tl_shape in[2];
        tl_status status;
        const char *text;
    } rows[] = {
        {"add", NULL, 1, {NC(1, 2)}, TL_INVALID_ARGUMENT, "add: 1 inputs, expected at least 2"},
        {"relu", NULL, 2, {NC(1, 2), NC(1, 2)}, TL_INVALID_ARGUMENT, "relu: 2 inputs, expected 1"},
        {"input", "channels=3", 1, {NC(1, 2)}, TL_INVALID_ARGUMENT, "expected 0"},
        {"input", "height=3 channels=3", 0, {NC(0, 0)}, TL_SHAPE, "height 3, width 0, channels 3"},
        {"add", NULL, 2, {NC(1, 2), NC(1, 3)}, TL_SHAPE, "add: input 1 is [1, 3], expected [1, 2]"},
        {"multiply", NULL, 2, {NC(2, 3), NC(1, 3)}, TL_SHAPE, "multiply: input 1 is [1, 3]"},
        {"multiply", NULL, 2, {NHWC(2, 3, 3, 4), NHWC(2, 1, 3, 4)}, TL_SHAPE, "input 1"},
        {"multiply", NULL, 2, {NC(2, 4), NHWC(2, 3, 3, 4)}, TL_SHAPE, "input 1"},
        {"concat", NULL, 2, {NHWC(1, 2, 3, 4), NHWC(1, 3, 3, 4)}, TL_SHAPE, "[1, 3, 3, 4]"},
        {"concat", NULL, 2, {NHWC(1, 2, 3, 4), NC(1, 4)}, TL_SHAPE, "input 1 is [1, 4]"},
        {"relu", NULL, 1, {{.rank = 1, .dim = {3}}}, TL_SHAPE, "input 0 is [3]"},
        {"relu", NULL, 1, {NC(1, 0)}, TL_SHAPE, "[1, 0], which has no elements"},
        {"relu", NULL, 1, {NC(1 << 30, 1 << 30)}, TL_LIMIT, "more than"},
        {"relu", NULL, 1, {NC(INT64_MAX, 4)}, TL_LIMIT, "more than"},
        {"conv2d",
         "filters=8 kernel=1 stride=1024 pad=0,1048576",
         1,
         {NHWC(1 << 24, 16384, 1, 8)},
         TL_LIMIT,
         "padded"},
        {"max_pool", "kernel=17,16", 1, {NHWC(1, 20, 20, 1)}, TL_LIMIT, "kernel 17,16"},
        {"max_pool",
         "kernel=3 pad=3",
         1,
         {NHWC(1, 9, 9, 1)},
         TL_INVALID_ARGUMENT,
         "pad of height is 3,3"},
        {"max_pool",
         "kernel=3 pad=1 padding=same",
         1,
         {NHWC(1, 9, 9, 1)},
         TL_INVALID_ARGUMENT,
         "padding=same"},
        {"avg_pool", "kernel=3", 1, {NHWC(1, 2, 9, 1)}, TL_SHAPE, "spans 3 elements of height"},
        {"avg_pool", "kernel=3", 1, {NC(1, 9)}, TL_SHAPE, "avg_pool: the input is [1, 9]"},
        {"global_avg_pool", NULL, 1, {NC(1, 9)}, TL_SHAPE, "expected [N, H, W, C]"},
        {"global_max_pool", NULL, 1, {NC(1, 9)}, TL_SHAPE, "expected [N, H, W, C]"},
        {"slice", "begin=3 end=3", 1, {NC(1, 9)}, TL_SHAPE, "slice: channels 3 to 3 of 9"},
        {"slice", "begin=3 end=10", 1, {NC(1, 9)}, TL_SHAPE, "slice: channels 3 to 10 of 9"},
        {"zero_pad", "pad=-5,0,-4,0", 1, {NHWC(1, 9, 9, 1)}, TL_SHAPE, "leaves nothing"},
        {"zero_pad", "pad=-9,0,4,0", 1, {NHWC(1, 9, 9, 1)}, TL_SHAPE, "leaves nothing"},
        {"zero_pad", "pad=1", 1, {NC(1, 9)}, TL_SHAPE, "expected [N, H, W, C]"},
        {"channel_shuffle", "groups=4", 1, {NC(1, 9)}, TL_SHAPE, "9 channels in 4 groups"},
        {"scale_shift",
         "scale=0 center=0",
         1,
         {NC(1, 9)},
         TL_INVALID_ARGUMENT,
         "scale and center are both 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_fails(infer(rows[i].op, rows[i].attrs, rows[i].input_count, rows[i].in),
                     rows[i].status, rows[i].text);
}

/* --- attributes
 * ------------------------------------------------------------------------------------------------------
 */

static void attributes_come_back_from_their_text(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"max_pool", "kernel=3,2 stride=2,1 pad=1,0,0,1 padding=same ceil_mode=1"},
        {"avg_pool", "kernel=7"},
        {"conv2d", "filters=64 kernel=3,5 stride=2 dilation=1,2 groups=4 pad=1,2,3,4 bias=0"},
        {"dense", "units=1000"},
        {"batch_norm", "epsilon=1.001e-5 momentum=0.99 scale=false unbiased=0"},
        {"batch_norm", "epsilon=0.00100000005 momentum=0.333333343"},
        {"dropout", "rate=0.1"},
        {"input", "height=224 width=192 channels=3"},
        {"layer_norm", "epsilon=1e-6"},
        {"zero_pad", "pad=-1,2,-3,4"},
        {"scale_shift", "scale=0 learned=0"},
        {"slice", "begin=3 end=16777216"},
        {"relu", ""},
    };
    tl_context *ctx = make_context(1, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const tl_op *op = tl_op_find(rows[i][0]);
        unsigned char first[256], second[256];
        tl_attr_init(op, first);
        assert_ok(tl_attr_parse(op, rows[i][1], first));
        char *text = tl_attr_print(ctx, op, first);
        assert_non_null(text);
        tl_attr_init(op, second);
        assert_ok(tl_attr_parse(op, text, second));
        if (op->attr_size) assert_memory_equal(first, second, op->attr_size);
        tl_free(ctx, text);
    }
    tl_context_free(ctx);
}

static void short_lists_repeat(void **state) {
    (void)state;
    static const struct {
        const char *text, *printed;
    } rows[] = {
        {"kernel=3", "kernel=3,3 stride=0,0 pad=0,0,0,0 padding=explicit ceil_mode=0"},
        {" kernel=5,3\tpad=2\n", "kernel=5,3 stride=0,0 pad=2,2,2,2 padding=explicit ceil_mode=0"},
        {"pad=2,1 kernel=3", "kernel=3,3 stride=0,0 pad=2,1,2,1 padding=explicit ceil_mode=0"},
        {"pad=1,2,0,1 kernel=3 ceil_mode=true",
         "kernel=3,3 stride=0,0 pad=1,2,0,1 padding=explicit ceil_mode=1"},
    };
    tl_context *ctx = make_context(1, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned char attr[256];
        tl_attr_init(&tl_op_max_pool, attr);
        assert_ok(tl_attr_parse(&tl_op_max_pool, rows[i].text, attr));
        char *text = tl_attr_print(ctx, &tl_op_max_pool, attr);
        assert_string_equal(text, rows[i].printed);
        tl_free(ctx, text);
    }
    tl_context_free(ctx);
}

static void wrong_attributes_are_named(void **state) {
    (void)state;
    static const struct {
        const tl_op *op;
        const char *text, *message;
    } rows[] = {
        {&tl_op_max_pool, "", "max_pool: attribute kernel is required"},
        {&tl_op_max_pool, NULL, "max_pool: attribute kernel is required"},
        {&tl_op_max_pool, "kernel=0", "attribute kernel is \"0\", expected one number or two"},
        {&tl_op_max_pool, "kernel=99999999999", "of 1 to 1024"},
        {&tl_op_max_pool, "kernel=1,2,3", "attribute kernel is \"1,2,3\""},
        {&tl_op_max_pool, "kernel=3,", "attribute kernel is \"3,\""},
        {&tl_op_max_pool, "kernel=", "attribute kernel is \"\""},
        {&tl_op_max_pool, "kernel=2.5", "attribute kernel is \"2.5\""},
        {&tl_op_max_pool, "kernel=3 pad=1,2,3", "four (top,left,bottom,right)"},
        {&tl_op_max_pool, "kernel=3 pad=-1", "attribute pad is \"-1\""},
        {&tl_op_max_pool, "kernel=3 kernel=3", "attribute kernel is given twice"},
        {&tl_op_max_pool, "kernel", "have \"kernel\", expected name=value"},
        {&tl_op_max_pool, "kernel=3 padding=valid", "expected one of explicit, same"},
        {&tl_op_max_pool, "kernel=3 ceil_mode=yes", "expected one of 0, 1, false, true"},
        {&tl_op_max_pool, "kernel=3 size=2",
         "no attribute is called \"size\"; there are: kernel, stride, pad, padding, ceil_mode"},
        {&tl_op_relu, "slope=1", "no attribute is called \"slope\"; there are: none"},
        {&tl_op_dropout, "rate=1", "dropout: attribute rate is \"1\", expected a number of 0 to"},
        {&tl_op_dropout, "rate=nan", "attribute rate is \"nan\""},
        {&tl_op_dropout, "rate=0,5", "attribute rate is \"0,5\""},
        {&tl_op_batch_norm, "epsilon=0", "attribute epsilon is \"0\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned char attr[256];
        tl_attr_init(rows[i].op, attr);
        assert_fails(tl_attr_parse(rows[i].op, rows[i].text, attr), TL_INVALID_ARGUMENT,
                     rows[i].message);
    }
}

/* --- the registry and its documentation
 * --------------------------------------------------------------------------------- */

static void operators_are_found_by_name(void **state) {
    (void)state;
    for (const tl_op *const *op = tl_op_all(); *op; op++)
        assert_ptr_equal(tl_op_find((*op)->name), *op);
    assert_null(tl_op_find("conv3d"));
    assert_null(tl_op_find(""));
}

/* The line of docs/layers.md that begins with the operator's name. */
static const char *doc_row(char *text, const char *name) {
    char start[64];
    snprintf(start, sizeof start, "\n| `%s` |", name);
    char *row = strstr(text, start);
    if (!row) fail_msg("docs/layers.md has no row for %s", name);
    return row + 1;
}

static void expect_in_row(const char *row, const char *op, const char *name) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "`%s`", name);
    const char *found = strstr(row, quoted), *end = strchr(row, '\n');
    if (!found || found > end) fail_msg("docs/layers.md: the row of %s lacks %s", op, quoted);
}

static void the_documentation_names_every_operator_and_attribute(void **state) {
    (void)state;
    enum { CAPACITY = 1 << 16 };
    char *text = calloc(1, CAPACITY);
    FILE *file = fopen("docs/layers.md", "rb");
    assert_non_null(file);
    assert_true(fread(text, 1, CAPACITY - 1, file) > 0);
    fclose(file);
    int rows = 0, ops = 0;
    for (const tl_op *const *op = tl_op_all(); *op; op++, ops++) {
        const char *row = doc_row(text, (*op)->name);
        for (const tl_attr_spec *spec = (*op)->attrs; spec && spec->name; spec++)
            expect_in_row(row, (*op)->name, spec->name);
    }
    for (const char *row = strstr(text, "\n| `"); row; row = strstr(row + 1, "\n| `")) rows++;
    assert_int_equal(rows, ops);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_agree_with_finite_differences),
        cmocka_unit_test(every_operator_has_a_gradient_case),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(layers_answer_as_pytorch_does),
        cmocka_unit_test(relu6_has_no_slope_at_its_ends),
        cmocka_unit_test(not_a_number_comes_through),
        cmocka_unit_test(softmax_survives_large_logits),
        cmocka_unit_test(batch_norm_takes_a_single_row),
        cmocka_unit_test(batch_norm_corrects_the_variance_when_asked),
        cmocka_unit_test(batch_norm_is_exact_far_from_zero),
        cmocka_unit_test(dropout_drops_its_share_and_keeps_the_mean),
        cmocka_unit_test(windows_follow_both_frameworks),
        cmocka_unit_test(shapes_that_do_not_fit_are_named),
        cmocka_unit_test(attributes_come_back_from_their_text),
        cmocka_unit_test(short_lists_repeat),
        cmocka_unit_test(wrong_attributes_are_named),
        cmocka_unit_test(operators_are_found_by_name),
        cmocka_unit_test(the_documentation_names_every_operator_and_attribute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
