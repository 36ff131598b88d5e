/* Plans of bf16: close to those of f32, the same bits however memory is shared, batches are cut and
 * threads are counted, and in half the memory. */
#include "graph_support.h"

#include "model/model.h"

/* NULL, and the test skipped by name, on machines without bf16. */
static tl_context *bf16_context(int threads) {
    tl_context *ctx = make_context(threads, NULL);
    tl_status status = tl_context_check_dtype(ctx, TL_BF16);
    if (status == TL_OK) return ctx;
    assert_int_equal(status, TL_UNSUPPORTED);
    print_message("%s\n", tl_last_error());
    tl_context_free(ctx);
    skip();
    return NULL;
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* Distance and length of two vectors, as Euclid has them. */
static double relative_distance(const float *a, const float *b, int64_t count) {
    double distance = 0, length = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        distance += d * d;
        length += (double)b[i] * (double)b[i];
    }
    return length > 0 ? sqrt(distance / length) : sqrt(distance);
}

/* Every value that a step writes is rounded by at most 2^-9 of itself, and so are the weights it
 * reads; the errors of n steps that do not amplify add up to n times as much in the worst case, to
 * about sqrt(n) times if they are independent. Backward passes through twice as many. */
static double bound_of(int steps, bool backward) {
    double roundings = 2.0 * steps * (backward ? 2 : 1);
    return 2 * sqrt(roundings) * 0x1p-9;
}

static void check_close(tl_graph *graph, tl_plan_options options, const char *what) {
    int64_t batch = options.input.dim[0];
    float *input = random_input(&options, 5);
    graph_result exact = run_once(graph, &options, input);
    options.dtype = TL_BF16;
    tl_plan *plan = make_plan(graph, &options);
    memset(plan->arena, 0xff, plan->memory.activations);
    graph_result rounded = run_plan(plan, input, batch, options.training);
    double distance = relative_distance(rounded.output, exact.output, exact.output_count);
    if (!(distance <= bound_of(plan->step_count, false)))
        fail_msg("%s: outputs differ by %.3g, expected %.3g", what, distance,
                 bound_of(plan->step_count, false));
    distance = relative_distance(rounded.gradients, exact.gradients, exact.gradient_count);
    if (!(distance <= bound_of(plan->step_count, true)))
        fail_msg("%s: gradients differ by %.3g, expected %.3g", what, distance,
                 bound_of(plan->step_count, true));
    tl_plan_free(plan);
    free_result(&exact);
    free_result(&rounded);
    free(input);
}

static void test_close_to_f32(void **state) {
    (void)state;
    tl_context *ctx = bf16_context(2);
    /* Smooth activations: where a ReLU bends, a rounding may change a gradient by all of it. */
    static const char *const activations[] = {"silu", "sigmoid", "gelu", "relu", "hard_swish"};
    for (int i = 0; i < 5; i++) {
        tl_graph *graph = residual_net(ctx, activations[i]);
        tl_plan_options options = plan_options(graph, 3, false);
        check_close(graph, options, activations[i]);
        options.to = graph->node_count - 1; /* the softmax */
        check_close(graph, options, activations[i]);
        if (i < 3) {
            options = plan_options(graph, 3, true);
            check_close(graph, options, activations[i]);
            options.batch_norm_training = true;
            check_close(graph, options, activations[i]);
        }
        tl_graph_free(graph);
    }
    tl_context_free(ctx);
}

/* A gate, and operators that move or choose values. */
static tl_graph *gated_net(tl_context *ctx, const char *pool) {
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 9, 7, 3, &graph));
    int stem = conv_bn(graph, "stem", "filters=12 kernel=3 pad=1 bias=1", "silu", 0);
    int wide = add1(graph, "zero_pad", "pad", "pad=1,0,-2,3", stem);
    wide = add1(graph, "channel_shuffle", "shuffle", "groups=3", wide);
    add1(graph, "global_avg_pool", "squeeze", NULL, wide);
    then(graph, "dense", "excite", "units=12");
    int gate = then(graph, "sigmoid", "gate", NULL);
    add2(graph, "multiply", "scale", wide, gate);
    then(graph, pool, "pool", NULL);
    then(graph, "dense", "fc", "units=5");
    fill_params(graph, 12);
    return graph;
}

/* A maximum's gradient may go to another pixel for a rounding. */
static void test_gates_close_to_f32(void **state) {
    (void)state;
    tl_context *ctx = bf16_context(2);
    for (int i = 0; i < 2; i++) {
        tl_graph *graph = gated_net(ctx, i ? "global_max_pool" : "global_avg_pool");
        tl_plan_options options = plan_options(graph, 3, i == 0);
        check_close(graph, options, i ? "maximum" : "gates");
        tl_graph_free(graph);
    }
    tl_context_free(ctx);
}

/* Whole networks in their own size: every kind of layer and driver. */
static void test_backbones(void **state) {
    (void)state;
    tl_context *ctx = bf16_context(2);
    static const char *const names[] = {
        "resnet18",           "vgg11",         "inception_v3",       "densenet121",
        "squeezenet1_1",      "mobilenet_v2",  "mobilenet_v3_small", "efficientnet_b0",
        "shufflenet_v2_x0_5", "convnext_tiny", "resnext50_32x4d"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tl_model *model = NULL;
        assert_ok(tl_model_create(ctx, names[i], 0, 1, &model));
        tl_tensor *input = NULL, *output[2];
        assert_ok(tl_tensor_new(ctx, TL_F32, &model->graph->node[0].shape, &input));
        float *pixels = random_floats(tl_tensor_count(input), 9);
        memcpy(tl_tensor_f32(input), pixels, tl_tensor_bytes(input));
        assert_ok(tl_model_run(model, input, &output[0]));
        assert_ok(tl_model_set_dtype(model, TL_BF16));
        assert_ok(tl_model_run(model, input, &output[1]));
        double distance =
            relative_distance(tl_tensor_const_f32(output[1]), tl_tensor_const_f32(output[0]),
                              tl_tensor_count(output[0]));
        double bound = bound_of(model->graph->node_count, false);
        print_message("%s: %.2g of at most %.2g\n", names[i], distance, bound);
        if (!(distance > 0 && distance <= bound)) fail_msg("%s: too far from f32", names[i]);
        for (int k = 0; k < 2; k++) tl_tensor_free(output[k]);
        tl_tensor_free(input);
        free(pixels);
        tl_model_free(model);
    }
    tl_context_free(ctx);
}

/* What training keeps between forward and backward is mostly activations. */
static void test_half_the_memory(void **state) {
    (void)state;
    tl_context *ctx = bf16_context(1);
    tl_model *model = NULL;
    assert_ok(tl_model_create(ctx, "resnet18", 0, 1, &model));
    tl_plan_options options = plan_options(model->graph, 8, true);
    tl_plan_memory f32, bf16;
    options.batch_norm_training = true;
    assert_ok(tl_plan_predict(model->graph, &options, &f32));
    options.dtype = TL_BF16;
    assert_ok(tl_plan_predict(model->graph, &options, &bf16));
    double ratio = (double)bf16.activations / (double)f32.activations;
    print_message("activations: %.2f of those of f32\n", ratio);
    assert_true(ratio < 0.6);
    assert_int_equal(bf16.gradients, f32.gradients);
    tl_model_free(model);
    tl_context_free(ctx);
}

/* --- the same bits ---------------------------------------------------------------------------- */

static void test_sharing_memory_changes_nothing(void **state) {
    (void)state;
    tl_context *ctx = bf16_context(1);
    int copies[3] = {0};
    for (uint64_t seed = 1; seed <= 300; seed++) {
        tl_graph *graph = random_graph(ctx, seed);
        tl_plan_options options = plan_options(graph, 3, seed % 3 != 0);
        options.dtype = TL_BF16;
        options.batch_norm_training = seed % 2 != 0;
        options.input_gradient = options.training && seed % 5 == 0;
        float *input = random_input(&options, seed);
        char what[32];
        snprintf(what, sizeof what, "graph %d", (int)seed);
        tl_plan *plan = make_plan(graph, &options);
        for (int s = 0; s < plan->step_count; s++)
            for (int pass = 0; pass < 2; pass++)
                copies[pass] += tl_plan_copy_bytes(plan, s, (tl_pass)pass) > 0;
        tl_plan_free(plan);
        graph_result shared = run_once(graph, &options, input);
        options.unshared = true;
        graph_result plain = run_once(graph, &options, input);
        assert_same_result(&shared, &plain, what);
        free_result(&shared);
        free_result(&plain);
        free(input);
        tl_graph_free(graph);
    }
    assert_true(copies[TL_PASS_FORWARD] > 300 && copies[TL_PASS_BACKWARD] > 100);
    tl_context_free(ctx);
}

static void test_threads_and_batches_change_nothing(void **state) {
    (void)state;
    tl_context *ctx[2] = {bf16_context(1), bf16_context(3)};
    graph_result result[2];
    for (int i = 0; i < 2; i++) {
        tl_graph *graph = residual_net(ctx[i], "relu");
        tl_plan_options options = plan_options(graph, i == 0 ? 4 : 7, true);
        options.batch_norm_training = true;
        options.dtype = TL_BF16;
        float *input = random_input(&options, 5);
        tl_plan *plan = make_plan(graph, &options);
        result[i] = run_plan(plan, input, 4, true);
        tl_plan_free(plan);
        free(input);
        tl_graph_free(graph);
        tl_context_free(ctx[i]);
    }
    assert_same_result(&result[0], &result[1], "1 and 3 threads");
    free_result(&result[0]);
    free_result(&result[1]);
}

/* Values large enough for batches to be sent through in parts, and one at the seams that operators
 * of both types read. */
static tl_graph *wide_net(tl_context *ctx, const char *act) {
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 128, 128, 16, &graph));
    then(graph, "conv2d", "c1", "filters=80 kernel=1");
    then(graph, "max_pool", "p1", "kernel=2 stride=2");
    then(graph, "conv2d", "c2", "filters=64 kernel=3 stride=2 pad=1");
    int seam = then(graph, act, "act", NULL);
    int rounded = add1(graph, "conv2d", "c3", "filters=64 kernel=1", seam);
    int exact = add1(graph, "leaky_relu", "leaky", NULL, seam);
    add2(graph, "add", "sum", rounded, exact);
    then(graph, "global_avg_pool", "pool", NULL);
    fill_params(graph, 7);
    return graph;
}

static void test_parts_change_nothing(void **state) {
    (void)state;
    const char *const acts[] = {"relu", "silu", "hard_swish", "hard_sigmoid", "gelu"};
    bool cut = false;
    for (int a = 0; a < 5; a++) {
        graph_result result[4];
        for (int i = 0; i < 4; i++) {
            tl_context *ctx = bf16_context(1 + i % 2);
            tl_graph *graph = wide_net(ctx, acts[a]);
            tl_plan_options options = plan_options(graph, 8, false);
            options.dtype = TL_BF16;
            options.unshared = i >= 2; /* never in parts */
            float *input = random_input(&options, 5);
            tl_plan *plan = make_plan(graph, &options);
            cut = cut || plan->front_count > 0;
            result[i] = run_plan(plan, input, 8, false);
            tl_plan_free(plan);
            free(input);
            tl_graph_free(graph);
            tl_context_free(ctx);
        }
        for (int i = 1; i < 4; i++) assert_same_result(&result[0], &result[i], acts[a]);
        for (int i = 0; i < 4; i++) free_result(&result[i]);
    }
    assert_true(cut);
}

/* --- the border ------------------------------------------------------------------------------- */

static void test_border_is_f32(void **state) {
    (void)state;
    tl_context *ctx = bf16_context(1);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, true);
    options.dtype = TL_BF16;
    options.input_gradient = true;
    float *input = random_input(&options, 5), *grad = random_floats(10, 3);
    tl_plan *plan = make_plan(graph, &options);
    assert_ok(tl_plan_forward(plan, input, 2, 0, true));
    tl_view view = tl_plan_output(plan);
    assert_int_equal(view.dtype, TL_F32);
    assert_ok(tl_plan_backward(plan, grad));
    const float *gradient = tl_plan_input_gradient(plan);
    for (int64_t i = 0; i < tl_shape_count(&options.input); i++) assert_true(isfinite(gradient[i]));
    tl_plan_free(plan);
    free(input);
    free(grad);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_refused_types(void **state) {
    (void)state;
    tl_context_options least;
    tl_context_options_init(&least, sizeof least);
    least.isa = "ref";
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&least, &ctx));
    assert_ok(tl_context_check_dtype(ctx, TL_F32));
    assert_fails(tl_context_check_dtype(ctx, TL_BF16), TL_UNSUPPORTED, "AVX512-BF16");
    assert_fails(tl_context_check_dtype(ctx, TL_BF16), TL_UNSUPPORTED, "(ref)");
    assert_fails(tl_context_check_dtype(ctx, TL_I8), TL_INVALID_ARGUMENT, "f32 or bf16");
    tl_dtype dtype;
    assert_fails(tl_dtype_parse("f16", &dtype), TL_INVALID_ARGUMENT, "f32 or bf16");
    assert_ok(tl_dtype_parse("bf16", &dtype));
    assert_int_equal(dtype, TL_BF16);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, false);
    options.dtype = TL_BF16;
    tl_plan *plan = NULL;
    assert_fails(tl_plan_create(graph, &options, &plan), TL_UNSUPPORTED, "bf16");
    assert_null(plan);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_to_f32),
        cmocka_unit_test(test_gates_close_to_f32),
        cmocka_unit_test(test_backbones),
        cmocka_unit_test(test_half_the_memory),
        cmocka_unit_test(test_sharing_memory_changes_nothing),
        cmocka_unit_test(test_threads_and_batches_change_nothing),
        cmocka_unit_test(test_parts_change_nothing),
        cmocka_unit_test(test_border_is_f32),
        cmocka_unit_test(test_refused_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
