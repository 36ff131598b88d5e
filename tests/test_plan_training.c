/* Plans: gradients, and what differs between training and inference. */
#include "graph_support.h"

/* --- gradients -------------------------------------------------------------------------------- */

typedef struct loss_probe {
    tl_plan *plan;
    const float *input;
    const float *weights; /* d loss / d output */
    int64_t batch;
} loss_probe;

static double loss_of(const loss_probe *probe) {
    assert_ok(tl_plan_forward(probe->plan, probe->input, probe->batch, 3, true));
    tl_view view = tl_plan_output(probe->plan);
    const float *output = view.data;
    double loss = 0;
    for (int64_t i = 0; i < tl_shape_count(&view.shape); i++) {
        loss += (double)output[i] * (double)probe->weights[i];
    }
    return loss;
}

/* Slope of the loss along `direction`, from two evaluations on either side (error of order h^4). */
static double slope(const loss_probe *probe, float *values, const float *direction, int64_t count) {
    const double h = 0.02;
    const double at[4] = {-2 * h, -h, h, 2 * h}, factor[4] = {1, -8, 8, -1};
    double sum = 0;
    float *kept = malloc((size_t)count * sizeof *kept);
    memcpy(kept, values, (size_t)count * sizeof *kept);
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < count; i++) {
            values[i] = (float)((double)kept[i] + at[k] * (double)direction[i]);
        }
        sum += factor[k] * loss_of(probe);
    }
    memcpy(values, kept, (size_t)count * sizeof *kept);
    free(kept);
    return sum / (12 * h);
}

/* Along random directions of length 1, so that noise stays the same for small and large tensors. */
static void check_slope(const loss_probe *probe, float *values, const float *gradient,
                        int64_t count, const char *what) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        float *direction = random_floats(count, seed * 31);
        double length = 0, expected = 0;
        for (int64_t i = 0; i < count; i++) length += (double)direction[i] * (double)direction[i];
        for (int64_t i = 0; i < count; i++) {
            direction[i] = (float)((double)direction[i] / sqrt(length));
            expected += (double)direction[i] * (double)gradient[i];
        }
        double found = slope(probe, values, direction, count);
        if (fabs(found - expected) > 2e-3 * fmax(0.05, fabs(expected))) {
            fail_msg("%s: gradient %.7g, finite differences %.7g", what, expected, found);
        }
        free(direction);
    }
}

static void check_gradients(tl_graph *graph, bool batch_statistics) {
    tl_plan_options options = plan_options(graph, 3, true);
    options.input_gradient = true;
    options.batch_norm_training = batch_statistics;
    tl_plan *plan = make_plan(graph, &options);
    float *input = random_input(&options, 4), *weights = random_floats(3 * 5, 6);
    loss_probe probe = {plan, input, weights, 3};
    loss_of(&probe);
    tl_plan_zero_gradients(plan);
    assert_ok(tl_plan_backward(plan, weights));

    int64_t count;
    const float *gradients = tl_plan_gradients(plan, &count);
    float *kept = malloc((size_t)count * sizeof *kept);
    memcpy(kept, gradients, (size_t)count * sizeof *kept);
    int64_t inputs = tl_shape_count(&options.input);
    float *kept_input = malloc((size_t)inputs * sizeof *kept_input);
    memcpy(kept_input, tl_plan_input_gradient(plan), (size_t)inputs * sizeof *kept_input);

    check_slope(&probe, input, kept_input, inputs, "input");
    for (int i = 0; i < graph->param_count; i++) {
        const tl_param *param = &graph->param[i];
        int64_t offset = tl_plan_gradient_offset(plan, i);
        assert_int_equal(offset >= 0, param->trainable);
        if (offset < 0) continue;
        check_slope(&probe, tl_tensor_f32(param->value), kept + offset,
                    tl_tensor_count(param->value), param->name);
    }
    free(kept);
    free(kept_input);
    free(input);
    free(weights);
    tl_plan_free(plan);
}

static void test_gradients_by_differences(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    tl_graph *graph = residual_net(ctx, "silu");
    check_gradients(graph, false);
    check_gradients(graph, true);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* Nodes that read one value twice, and a view between others of its input's readers. */
static void test_gradients_of_repeated_inputs(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 4, 3, 2, &graph));
    int x = add1(graph, "conv2d", "conv", "filters=3 kernel=3 pad=1", 0);
    int sum = add2(graph, "add", "twice", x, x);
    int view = add1(graph, "identity", "view", NULL, sum);
    int product = add2(graph, "multiply", "square", view, view);
    int both = add2(graph, "concat", "both", product, product);
    int more = add2(graph, "concat", "more", both, sum);
    add1(graph, "global_avg_pool", "pool", NULL, more);
    then(graph, "dense", "fc", "units=5");
    fill_params(graph, 8);
    check_gradients(graph, false);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* The gradient of an input is never the caller's own memory, even if only views lie between. */
static void test_input_gradient_through_views(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 2, 2, 3, &graph));
    then(graph, "identity", "id", NULL);
    then(graph, "flatten", "flat", NULL);
    tl_plan_options options = plan_options(graph, 2, true);
    options.input_gradient = true;
    tl_plan *plan = make_plan(graph, &options);
    float *input = random_input(&options, 1), *gradient = random_input(&options, 2);
    assert_ok(tl_plan_forward(plan, input, 2, 0, true));
    assert_ptr_equal(tl_plan_output(plan).data, input);
    assert_ok(tl_plan_backward(plan, gradient));
    assert_ptr_not_equal(tl_plan_input_gradient(plan), gradient);
    assert_same_bits(tl_plan_input_gradient(plan), gradient, 24, "gradient");
    tl_plan_free(plan);
    free(input);
    free(gradient);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_gradients_above_boundary_only(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, true);
    float *input = random_input(&options, 2);
    int frozen = tl_graph_find_node(graph, "b1.bn");

    /* Every weight's gradient with all of them trained ... */
    tl_plan *plan = make_plan(graph, &options);
    graph_result all = run_plan(plan, input, 2, true);
    int64_t *offsets = calloc((size_t)graph->param_count, sizeof *offsets);
    for (int i = 0; i < graph->param_count; i++) offsets[i] = tl_plan_gradient_offset(plan, i);
    size_t full = tl_plan_memory_of(plan).activations;
    tl_plan_free(plan);
    /* ... is what the upper ones get when the lower ones are frozen. */
    freeze_to(graph, frozen);
    plan = make_plan(graph, &options);
    graph_result upper = run_plan(plan, input, 2, true);
    int64_t next = 0;
    for (int i = 0; i < graph->param_count; i++) {
        const tl_param *param = &graph->param[i];
        int64_t offset = tl_plan_gradient_offset(plan, i);
        assert_int_equal(offset, param->trainable ? next : -1);
        if (offset < 0) continue;
        int64_t count = tl_tensor_count(param->value);
        assert_close(upper.gradients + offset, all.gradients + offsets[i], count, 1e-4,
                     param->name);
        next += count;
    }
    assert_int_equal(next, upper.gradient_count);
    assert_int_equal(tl_plan_memory_of(plan).gradients, (size_t)next * sizeof(float));
    assert_int_equal((uintptr_t)tl_plan_gradients(plan, NULL) % 64, 0);
    assert_true(tl_plan_memory_of(plan).activations < full);
    for (int s = 0; s < plan->step_count; s++) {
        if (plan->step[s].out <= frozen) assert_false(plan->step[s].backward);
    }
    tl_plan_free(plan);
    free(offsets);
    free_result(&all);
    free_result(&upper);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_gradients_add_up(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, true);
    float *input = random_input(&options, 2), *grad = random_floats(10, 3);
    tl_plan *plan = make_plan(graph, &options);
    int64_t count;
    const float *gradients = tl_plan_gradients(plan, &count);
    for (int64_t i = 0; i < count; i++) assert_true(gradients[i] == 0);
    assert_fails(tl_plan_backward(plan, grad), TL_INVALID_ARGUMENT, "forward");
    float *once = malloc((size_t)count * sizeof *once);
    for (int pass = 0; pass < 2; pass++) {
        assert_ok(tl_plan_forward(plan, input, 2, 3, true));
        assert_ok(tl_plan_backward(plan, grad));
        if (pass == 0) memcpy(once, gradients, (size_t)count * sizeof *once);
    }
    for (int64_t i = 0; i < count; i++) once[i] *= 2;
    assert_close(gradients, once, count, 1e-5, "twice");
    assert_fails(tl_plan_backward(plan, grad), TL_INVALID_ARGUMENT, "forward");
    assert_ok(tl_plan_forward(plan, input, 2, 3, false));
    assert_fails(tl_plan_backward(plan, grad), TL_INVALID_ARGUMENT, "training");
    tl_plan_zero_gradients(plan);
    for (int64_t i = 0; i < count; i++) assert_true(gradients[i] == 0);
    tl_plan_free(plan);
    free(once);
    free(grad);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* --- training and not ------------------------------------------------------------------------- */

static bool same_output(tl_plan *plan, const float *input, uint64_t step_a, bool training_a,
                        uint64_t step_b, bool training_b) {
    float first[64];
    assert_ok(tl_plan_forward(plan, input, 2, step_a, training_a));
    tl_view view = tl_plan_output(plan);
    size_t bytes = (size_t)tl_shape_count(&view.shape) * sizeof(float);
    assert_true(bytes <= sizeof first);
    memcpy(first, view.data, bytes);
    assert_ok(tl_plan_forward(plan, input, 2, step_b, training_b));
    return memcmp(first, tl_plan_output(plan).data, bytes) == 0;
}

/* Dropout drops in front of a trained classifier, differently in every step, and nowhere when
 * validating; inside a frozen backbone it never does. */
static void test_dropout(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 0, 0, 40, &graph));
    then(graph, "dense", "fc1", "units=30");
    then(graph, "dropout", "drop1", NULL);
    then(graph, "dense", "fc2", "units=20");
    then(graph, "dropout", "drop2", NULL);
    then(graph, "dense", "fc3", "units=3");
    fill_params(graph, 1);
    tl_plan_options options = plan_options(graph, 2, true);
    float *input = random_input(&options, 1);

    freeze_to(graph, 3);
    tl_plan *plan = make_plan(graph, &options);
    assert_false(plan->step[plan->value[2].step].live);
    assert_true(plan->step[plan->value[4].step].live);
    assert_true(same_output(plan, input, 1, true, 1, true));
    assert_false(same_output(plan, input, 1, true, 2, true));
    assert_false(same_output(plan, input, 1, true, 1, false));
    assert_true(same_output(plan, input, 1, false, 2, false));

    tl_plan_options inference = plan_options(graph, 2, false);
    graph_result expected = run_once(graph, &inference, input);
    graph_result validated = run_plan(plan, input, 2, false);
    assert_same_bits(validated.output, expected.output, expected.output_count, "validation");
    free_result(&expected);
    free_result(&validated);
    tl_plan_free(plan);

    options.seed = 6;
    tl_plan *other = make_plan(graph, &options);
    options.seed = 5;
    plan = make_plan(graph, &options);
    graph_result a = run_plan(plan, input, 2, true), b = run_plan(other, input, 2, true);
    assert_memory_not_equal(a.output, b.output, 6 * sizeof(float));
    free_result(&a);
    free_result(&b);
    tl_plan_free(plan);
    tl_plan_free(other);

    freeze_to(graph, 5);
    plan = make_plan(graph, &options);
    assert_false(plan->step[plan->value[2].step].live);
    tl_plan_free(plan);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static bool statistics_move(tl_graph *graph, const char *node, const tl_plan_options *options,
                            const float *input, bool training) {
    char name[64];
    snprintf(name, sizeof name, "%s.mean", node);
    const tl_tensor *mean = graph->param[tl_graph_find_param(graph, name)].value;
    float before = tl_tensor_const_f32(mean)[0];
    tl_plan *plan = make_plan(graph, options);
    assert_ok(tl_plan_forward(plan, input, options->input.dim[0], 1, training));
    tl_plan_free(plan);
    return tl_tensor_const_f32(mean)[0] != before;
}

static void test_batch_norm_statistics(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, true);
    float *input = random_input(&options, 1);
    assert_false(statistics_move(graph, "stem.bn", &options, input, true));
    options.batch_norm_training = true;
    assert_true(statistics_move(graph, "stem.bn", &options, input, true));
    assert_false(statistics_move(graph, "stem.bn", &options, input, false));
    /* Frozen itself, but above a trained convolution. */
    graph->param[tl_graph_find_param(graph, "stem.bn.gamma")].trainable = false;
    assert_true(statistics_move(graph, "stem.bn", &options, input, true));
    graph->param[tl_graph_find_param(graph, "stem.bn.beta")].trainable = false;
    assert_false(statistics_move(graph, "stem.bn", &options, input, true));
    assert_true(statistics_move(graph, "b1.bn", &options, input, true));
    freeze_to(graph, tl_graph_find_node(graph, "b1.bn"));
    assert_false(statistics_move(graph, "b1.bn", &options, input, true));
    assert_true(statistics_move(graph, "b2.bn", &options, input, true));
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_by_differences),
        cmocka_unit_test(test_gradients_of_repeated_inputs),
        cmocka_unit_test(test_input_gradient_through_views),
        cmocka_unit_test(test_gradients_above_boundary_only),
        cmocka_unit_test(test_gradients_add_up),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_batch_norm_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
