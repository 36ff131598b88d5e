/* Plans: fusion, batches, threads, parts of a graph, wrong calls. */
#include "graph_support.h"

#include <pthread.h>

/* --- fusion ----------------------------------------------------------------------------------- */

static void test_fusion_agrees(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    int fused = 0, affine = 0, residual = 0, tails = 0, shortcuts = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        tl_graph *graph = random_graph(ctx, seed);
        tl_plan_options options = plan_options(graph, 3, seed % 2 != 0);
        options.batch_norm_training = seed % 3 == 0;
        float *input = random_input(&options, seed);
        char what[32];
        snprintf(what, sizeof what, "graph %d", (int)seed);
        tl_plan *plan = make_plan(graph, &options);
        for (int s = 0; s < plan->step_count; s++) {
            fused += plan->step[s].fused;
            affine += plan->step[s].affine >= 0;
            residual += plan->step[s].residual >= 0;
            tails += plan->step[s].tail && plan->step[s].backward;
            shortcuts += tl_step_passes_residual(plan, &plan->step[s]);
        }
        graph_result merged = run_plan(plan, input, 3, options.training);
        tl_plan_free(plan);
        fill_params(graph, seed); /* batch norms may have moved their statistics */
        options.unfused = true;
        graph_result plain = run_once(graph, &options, input);
        assert_close(merged.output, plain.output, plain.output_count, 2e-5, what);
        assert_close(merged.gradients, plain.gradients, plain.gradient_count, 1e-4, what);
        free_result(&merged);
        free_result(&plain);
        free(input);
        tl_graph_free(graph);
    }
    assert_true(fused > 250 && affine > 80 && residual > 8);
    assert_true(tails > 20 && shortcuts > 0);
    tl_context_free(ctx);
}

/* What a batch norm takes along has the same bits as by itself, with the batch's statistics and
 * with the running ones; with frozen ones, too, whose input is not kept. */
static void test_batch_norm_takes_along(void **state) {
    (void)state;
    static const char *const acts[] = {"relu", "relu6", "sigmoid", "silu", "hard_swish"};
    tl_context *ctx = make_context(2, NULL);
    for (int i = 0; i < 15; i++) {
        tl_graph *graph = residual_net(ctx, acts[i % 5]);
        tl_plan_options options = plan_options(graph, 3, true);
        options.batch_norm_training = i < 5;
        options.input_gradient = true;
        if (i >= 10) freeze_to(graph, tl_graph_find_node(graph, "fc") - 1);
        fill_params(graph, 1);
        float *input = random_input(&options, 7);
        tl_plan *plan = make_plan(graph, &options);
        int shortcuts = 0;
        for (int s = 0; s < plan->step_count; s++)
            shortcuts += tl_step_passes_residual(plan, &plan->step[s]);
        assert_int_equal(shortcuts, 2);
        graph_result joined = run_plan(plan, input, 3, true);
        tl_plan_free(plan);
        fill_params(graph, 1);
        options.unfused = true;
        graph_result apart = run_once(graph, &options, input);
        assert_same_result(&joined, &apart, acts[i % 5]);
        free_result(&joined);
        free_result(&apart);
        free(input);
        tl_graph_free(graph);
    }
    tl_context_free(ctx);
}

/* conv, bn, act, pool twice, the second time without bn; with `branch` the activations are read by
 * others, too. */
static tl_graph *pooled_net(tl_context *ctx, const char *act, bool branch) {
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 13, 11, 3, &graph));
    then(graph, "conv2d", "c1", "filters=20 kernel=3 padding=same");
    then(graph, "batch_norm", "b1", NULL);
    int last = then(graph, act, "a1", NULL);
    int pool = then(graph, "max_pool", "p1", "kernel=3 stride=1 pad=1");
    if (branch) add2(graph, "add", "both", last, pool);
    then(graph, "conv2d", "c2", "filters=17 kernel=3 padding=same");
    then(graph, act, "a2", NULL);
    then(graph, "max_pool", "p2", "kernel=2");
    then(graph, "flatten", "flat", NULL);
    then(graph, "dense", "fc", "units=4");
    return graph;
}

static int count_postponed(const tl_plan *plan) {
    int count = 0;
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *step = &plan->step[s];
        bool pool = plan->graph->node[step->node].op->flags & TL_OP_MAXIMUM;
        count += pool && step->act != TL_ACT_NONE;
    }
    return count;
}

/* What a maximum does of the activation before it has the same bits as that by itself, and nothing
 * is kept of what lies between the two. */
static void test_maximum_takes_activation(void **state) {
    (void)state;
    static const char *const acts[] = {"relu", "relu6", "sigmoid"};
    tl_context *ctx = make_context(2, NULL);
    for (int i = 0; i < 6; i++) {
        const bool branch = i >= 3;
        tl_graph *graph = pooled_net(ctx, acts[i % 3], branch);
        tl_plan_options options = plan_options(graph, 3, true);
        options.batch_norm_training = options.input_gradient = true;
        fill_params(graph, 1);
        float *input = random_input(&options, 7);
        tl_plan *plan = make_plan(graph, &options);
        assert_int_equal(count_postponed(plan), i % 3 == 2 ? 0 : branch ? 1 : 2);
        size_t merged = plan->memory.activations;
        graph_result joined = run_plan(plan, input, 3, true);
        tl_plan_free(plan);
        fill_params(graph, 1);
        options.unfused = true;
        plan = make_plan(graph, &options);
        assert_int_equal(count_postponed(plan), 0);
        if (i < 2) assert_true(merged < plan->memory.activations);
        graph_result apart = run_plan(plan, input, 3, true);
        tl_plan_free(plan);
        assert_same_result(&joined, &apart, acts[i % 3]);
        free_result(&joined);
        free_result(&apart);
        free(input);
        tl_graph_free(graph);
    }
    tl_context_free(ctx);
}

static void test_fused_steps(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, false);
    tl_plan *plan = make_plan(graph, &options);
    /* stem, a1, down, a2+down+relu, b1, b2+block+relu, pool, flatten, dropout, dense */
    assert_int_equal(plan->step_count, 10);
    const tl_step *sum = &plan->step[plan->value[tl_graph_find_node(graph, "a.act")].step];
    assert_int_equal(sum->node, tl_graph_find_node(graph, "a2.conv"));
    assert_int_equal(sum->affine, tl_graph_find_node(graph, "a2.bn"));
    assert_int_equal(sum->residual, tl_graph_find_node(graph, "down.bn"));
    assert_int_equal(sum->act, TL_ACT_RELU);
    tl_plan_free(plan);

    /* A wanted intermediate value is not swallowed. */
    options.to = tl_graph_find_node(graph, "stem.bn");
    plan = make_plan(graph, &options);
    assert_int_equal(plan->step_count, 1);
    assert_int_equal(plan->step[0].act, TL_ACT_NONE);
    tl_plan_free(plan);

    /* In training only what is below the gradients is fused. */
    options = plan_options(graph, 2, true);
    freeze_to(graph, tl_graph_find_node(graph, "down.bn"));
    plan = make_plan(graph, &options);
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *step = &plan->step[s];
        bool below = step->out <= tl_graph_find_node(graph, "a.act");
        assert_int_equal(step->backward, !below && step->node <= tl_graph_find_node(graph, "fc"));
        assert_int_equal(step->fused, below);
    }
    tl_plan_free(plan);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_repack(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, false);
    float *input = random_input(&options, 1);
    for (int i = 0; i < graph->param_count; i++) graph->param[i].exposed = true;
    tl_plan *plan = make_plan(graph, &options);
    graph_result before = run_plan(plan, input, 2, false);
    fill_params(graph, 99);
    assert_ok(tl_plan_repack(plan));
    graph_result after = run_plan(plan, input, 2, false);
    graph_result fresh = run_once(graph, &options, input);
    assert_same_result(&after, &fresh, "repacked");
    assert_true(memcmp(before.output, after.output, sizeof(float)) != 0);
    free_result(&before);
    free_result(&after);
    free_result(&fresh);
    tl_plan_free(plan);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* --- batches, threads, parts ------------------------------------------------------------------ */

static void test_smaller_batch(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    for (uint64_t seed = 1; seed <= 40; seed++) {
        tl_graph *graph = random_graph(ctx, seed);
        tl_plan_options options = plan_options(graph, 7, seed % 2 != 0);
        float *input = random_input(&options, seed);
        tl_plan *large = make_plan(graph, &options);
        memset(large->arena, 0xff, large->memory.activations);
        graph_result part = run_plan(large, input, 3, options.training);
        options.input.dim[0] = 3;
        graph_result exact = run_once(graph, &options, input);
        assert_int_equal(part.output_count, 3 * 3);
        assert_close(part.output, exact.output, exact.output_count, 1e-5, "output");
        assert_close(part.gradients, exact.gradients, exact.gradient_count, 1e-5, "gradients");
        free_result(&part);
        free_result(&exact);
        tl_plan_free(large);
        free(input);
        tl_graph_free(graph);
    }
    tl_context_free(ctx);
}

static void check_parts(int64_t batch, int fronts) {
    tl_context *ctx = make_context(2, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, batch, false);
    options.input.dim[1] = options.input.dim[2] = 181;
    options.unfused = true; /* no bands, in which large values are never whole */
    float *input = random_input(&options, 8);
    tl_plan *plan = make_plan(graph, &options);
    assert_int_equal(plan->front_count, fronts);
    int64_t part = plan->front[0]->options.input.dim[0];
    assert_true(part < 7 && (fronts > 1 || batch % part != 0));
    tl_plan_memory predicted, planned = tl_plan_memory_of(plan);
    assert_ok(tl_plan_predict(graph, &options, &predicted));
    assert_int_equal(predicted.activations, planned.activations);
    assert_true(planned.activations < 20 << 20);

    memset(plan->arena, 0xff, plan->memory.activations);
    for (int i = 0; i < fronts; i++)
        memset(plan->front[i]->arena, 0xff, plan->front[i]->memory.activations);
    graph_result all = run_plan(plan, input, batch, false), some = run_plan(plan, input, 7, false);
    assert_same_bits(all.output, some.output, some.output_count, "a smaller batch");
    options.input.dim[0] = 1;
    int64_t in = tl_shape_count(&options.input), out = all.output_count / batch;
    for (int64_t i = 0; i < batch; i++) {
        graph_result one = run_once(graph, &options, input + i * in);
        assert_same_bits(all.output + i * out, one.output, out, "a single sample");
        free_result(&one);
    }
    free_result(&all);
    free_result(&some);
    tl_plan_free(plan);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_large_batch_in_parts(void **state) {
    (void)state;
    check_parts(11, 1);
    check_parts(12, 2); /* as many parts as threads at once */
}

static void test_threads_change_nothing(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        graph_result results[3];
        for (int t = 0; t < 3; t++) {
            tl_context *ctx = make_context(1 + t, NULL);
            tl_graph *graph = seed == 1 ? residual_net(ctx, "relu6") : random_graph(ctx, seed);
            tl_plan_options options = plan_options(graph, 6, true);
            options.batch_norm_training = seed % 2 != 0;
            float *input = random_input(&options, seed);
            results[t] = run_once(graph, &options, input);
            free(input);
            tl_graph_free(graph);
            tl_context_free(ctx);
        }
        assert_same_result(&results[0], &results[1], "2 threads");
        assert_same_result(&results[0], &results[2], "3 threads");
        for (int t = 0; t < 3; t++) free_result(&results[t]);
    }
}

typedef struct plan_user {
    tl_plan *plan;
    const float *input;
    graph_result result;
} plan_user;

static void *use_plan(void *arg) {
    plan_user *user = arg;
    for (int i = 0; i < 20; i++) {
        free_result(&user->result);
        user->result = run_plan(user->plan, user->input, 2, true);
    }
    return NULL;
}

/* Plans of one graph in several threads at once. */
static void test_plans_share_a_graph(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, true);
    float *input = random_input(&options, 3);
    plan_user users[3] = {{0}};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        users[i].plan = make_plan(graph, &options);
        users[i].input = input;
        assert_int_equal(pthread_create(&threads[i], NULL, use_plan, &users[i]), 0);
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++) {
        assert_same_result(&users[i].result, &users[0].result, "at once");
        tl_plan_free(users[i].plan);
    }
    for (int i = 0; i < 3; i++) free_result(&users[i].result);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_from_and_to(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    int middle = tl_graph_find_node(graph, "a.act");
    tl_plan_options options = plan_options(graph, 2, false);
    float *input = random_input(&options, 3);
    graph_result whole = run_once(graph, &options, input);
    options.to = middle;
    graph_result lower = run_once(graph, &options, input);
    tl_plan_options upper_options = plan_options(graph, 2, false);
    upper_options.from = middle;
    upper_options.input = graph->node[middle].shape;
    upper_options.input.dim[0] = 2;
    graph_result upper = run_once(graph, &upper_options, lower.output);
    assert_same_bits(upper.output, whole.output, whole.output_count, "in two parts");

    tl_plan *plan = NULL;
    upper_options.from = tl_graph_find_node(graph, "a2.bn"); /* the shortcut goes round it */
    upper_options.input = graph->node[upper_options.from].shape;
    assert_fails(tl_plan_create(graph, &upper_options, &plan), TL_INVALID_ARGUMENT, "stem.act");
    upper_options.from = tl_graph_find_node(graph, "down.conv");
    upper_options.to = tl_graph_find_node(graph, "a2.bn");
    assert_fails(tl_plan_create(graph, &upper_options, &plan), TL_INVALID_ARGUMENT, NULL);
    options.to = 99;
    assert_fails(tl_plan_create(graph, &options, &plan), TL_INVALID_ARGUMENT, "to");
    options = plan_options(graph, 2, false);
    options.from = -1;
    assert_fails(tl_plan_create(graph, &options, &plan), TL_INVALID_ARGUMENT, "from");
    options = plan_options(graph, 2, false);
    options.input_gradient = true;
    assert_fails(tl_plan_create(graph, &options, &plan), TL_INVALID_ARGUMENT, "training");
    assert_null(plan);

    /* Nothing to do: the value is the caller's own. */
    options = plan_options(graph, 2, false);
    options.to = 0;
    plan = make_plan(graph, &options);
    assert_ok(tl_plan_forward(plan, input, 1, 0, false));
    tl_view view = tl_plan_output(plan);
    assert_ptr_equal(view.data, input);
    assert_int_equal(view.shape.dim[0], 1);
    assert_int_equal(tl_plan_memory_of(plan).activations, 0);
    tl_plan_free(plan);
    free_result(&whole);
    free_result(&lower);
    free_result(&upper);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_other_input_size(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 1, false);
    options.input = tl_shape_make(4, INT64_C(2), INT64_C(14), INT64_C(11), INT64_C(3));
    float *input = random_input(&options, 1);
    graph_result result = run_once(graph, &options, input);
    assert_int_equal(result.output_count, 10);
    free_result(&result);
    free(input);

    tl_plan *plan = NULL;
    const struct {
        tl_shape shape;
        tl_status status;
    } bad[] = {
        {tl_shape_make(4, INT64_C(2), INT64_C(9), INT64_C(7), INT64_C(4)), TL_SHAPE},
        {tl_shape_make(2, INT64_C(2), INT64_C(3)), TL_SHAPE},
        {tl_shape_make(4, INT64_C(0), INT64_C(9), INT64_C(7), INT64_C(3)), TL_SHAPE},
        {tl_shape_make(4, INT64_C(-1), INT64_C(9), INT64_C(7), INT64_C(3)), TL_SHAPE},
        {tl_shape_make(4, INT64_C(1) << 40, INT64_C(9), INT64_C(7), INT64_C(3)), TL_LIMIT},
        {tl_shape_make(4, INT64_MAX, INT64_MAX, INT64_C(7), INT64_C(3)), TL_LIMIT},
        {{.rank = 0}, TL_SHAPE},
        {{.rank = -1}, TL_SHAPE},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        options.input = bad[i].shape;
        assert_fails(tl_plan_create(graph, &options, &plan), bad[i].status, "input: ");
        assert_null(plan);
    }
    tl_graph_free(graph);

    /* A dense layer fixes what may come before it. */
    assert_ok(tl_graph_create(ctx, 4, 4, 3, &graph));
    then(graph, "flatten", "flat", NULL);
    then(graph, "dense", "fc", "units=2");
    options = plan_options(graph, 1, false);
    options.input.dim[1] = 5;
    assert_fails(tl_plan_create(graph, &options, &plan), TL_SHAPE, "fc.weight");
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_wrong_calls(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, false);
    float *input = random_input(&options, 1);
    tl_plan *plan = make_plan(graph, &options);
    assert_fails(tl_plan_forward(plan, input, 0, 0, false), TL_INVALID_ARGUMENT, "batch of 0");
    assert_fails(tl_plan_forward(plan, input, 3, 0, false), TL_INVALID_ARGUMENT, "1 to 2");
    assert_fails(tl_plan_forward(plan, input, 1, 0, true), TL_INVALID_ARGUMENT, "training");
    tl_plan_free(plan);
    tl_plan_free(NULL);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fusion_agrees),
        cmocka_unit_test(test_batch_norm_takes_along),
        cmocka_unit_test(test_maximum_takes_activation),
        cmocka_unit_test(test_fused_steps),
        cmocka_unit_test(test_repack),
        cmocka_unit_test(test_smaller_batch),
        cmocka_unit_test(test_large_batch_in_parts),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_plans_share_a_graph),
        cmocka_unit_test(test_from_and_to),
        cmocka_unit_test(test_other_input_size),
        cmocka_unit_test(test_wrong_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
