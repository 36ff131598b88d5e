/* Plans: forward, backward, fusion, memory. */
#include "graph_support.h"

/* --- a random network
 * ------------------------------------------------------------------------------ */

typedef struct random_net {
    tl_graph *graph;
    uint64_t state;
    int nodes[64]; /* pictures */
    int count;
} random_net;

static int draw(random_net *net, int count) {
    net->state = net->state * 6364136223846793005u + 1442695040888963407u;
    return (int)((net->state >> 33) % (uint64_t)count);
}

static int pick(random_net *net) {
    /* Mostly the latest: chains fuse and are what a result depends on. */
    int back = draw(net, 6) ? 0 : draw(net, net->count);
    return net->nodes[net->count - 1 - back];
}

/* Another node of the same shape as `node`, or itself. */
static int pick_like(random_net *net, int node) {
    for (int tries = 0; tries < 8; tries++) {
        int other = pick(net);
        if (tl_shape_equal(&net->graph->node[other].shape, &net->graph->node[node].shape)) {
            return other;
        }
    }
    return node;
}

static void grow_net(random_net *net) {
    static const char *const simple[] = {"relu",       "relu6",      "silu",       "sigmoid",
                                         "hard_swish", "batch_norm", "batch_norm", "batch_norm",
                                         "identity",   "dropout",    "batch_norm", "relu"};
    static const char *const convs[] = {"filters=4 kernel=3 pad=1", "filters=6 kernel=1",
                                        "filters=4 kernel=3 pad=1 bias=0"};
    char name[16];
    snprintf(name, sizeof name, "n%d", net->count);
    int input = pick(net), node, kind = draw(net, 8);
    bool after_conv = net->graph->node[input].op->flags & TL_OP_EPILOGUE;
    switch (after_conv && kind < 3 ? 7 : kind) {
    case 0:
    case 1:
    case 2:
        node = add1(net->graph, "conv2d", name, convs[draw(net, 3)], input);
        break;
    case 3:
        node = add2(net->graph, "add", name, input, pick_like(net, input));
        break;
    case 4:
        node = draw(net, 2) ? add2(net->graph, "concat", name, input, pick(net))
                            : add2(net->graph, "multiply", name, input, pick_like(net, input));
        break;
    default:
        node = add1(net->graph, simple[draw(net, 12)], name, NULL, input);
        break;
    }
    net->nodes[net->count++] = node;
}

static tl_graph *random_graph(tl_context *ctx, uint64_t seed) {
    random_net net = {.state = seed * 977 + 3, .count = 1};
    assert_ok(tl_graph_create(ctx, 5, 4, 3, &net.graph));
    int size = 4 + draw(&net, 24);
    while (net.count < size) grow_net(&net);
    then(net.graph, "global_avg_pool", "pool", NULL);
    if (draw(&net, 2)) then(net.graph, "flatten", "flat", NULL);
    if (draw(&net, 2)) then(net.graph, "dropout", "drop", NULL);
    then(net.graph, "dense", "fc", "units=3");
    fill_params(net.graph, seed);
    if (draw(&net, 2)) freeze_to(net.graph, draw(&net, net.graph->node_count - 1));
    return net.graph;
}

static void assert_disjoint(const tl_plan *plan, uint64_t seed) {
    for (int i = 0; i < plan->buffer_count; i++) {
        const tl_buffer *a = &plan->buffer[i];
        assert_true(a->offset % 64 == 0 && a->first <= a->last);
        assert_true(a->offset + a->size <= plan->memory.activations);
        for (int j = 0; j < i; j++) {
            const tl_buffer *b = &plan->buffer[j];
            bool together = a->first <= b->last && b->first <= a->last;
            bool overlap = a->offset < b->offset + b->size && b->offset < a->offset + a->size;
            if (together && overlap) fail_msg("graph %d: buffers %d and %d", (int)seed, i, j);
        }
    }
}

/* Sharing memory changes no bit of outputs and gradients. */
static void test_sharing_is_sound(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    double saved = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        tl_graph *graph = random_graph(ctx, seed);
        tl_plan_options options = plan_options(graph, 2, seed % 4 != 0);
        options.input_gradient = options.training && seed % 3 == 0;
        options.batch_norm_training = seed % 5 < 2;
        float *input = random_input(&options, seed);
        char what[32];
        snprintf(what, sizeof what, "graph %d", (int)seed);

        tl_plan *plan = make_plan(graph, &options);
        assert_disjoint(plan, seed);
        size_t small = tl_plan_memory_of(plan).activations;
        tl_plan_free(plan);
        graph_result shared = run_once(graph, &options, input);
        fill_params(graph, seed); /* batch norms may have moved their statistics */
        options.unshared = true;
        graph_result apart = run_once(graph, &options, input);
        assert_same_result(&shared, &apart, what);
        tl_plan_memory large;
        assert_ok(tl_plan_predict(graph, &options, &large));
        assert_true(small <= large.activations);
        saved += 1 - (double)small / (double)large.activations;
        free_result(&shared);
        free_result(&apart);
        free(input);
        tl_graph_free(graph);
    }
    assert_true(saved / 300 > 0.3);
    tl_context_free(ctx);
}

/* --- fusion
 * ------------------------------------------------------------------------------------------ */

static void test_fusion_agrees(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    int fused = 0, affine = 0, residual = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        tl_graph *graph = random_graph(ctx, seed);
        tl_plan_options options = plan_options(graph, 3, seed % 2 != 0);
        float *input = random_input(&options, seed);
        char what[32];
        snprintf(what, sizeof what, "graph %d", (int)seed);
        tl_plan *plan = make_plan(graph, &options);
        for (int s = 0; s < plan->step_count; s++) {
            fused += plan->step[s].fused;
            affine += plan->step[s].affine >= 0;
            residual += plan->step[s].residual >= 0;
        }
        graph_result merged = run_plan(plan, input, 3, options.training);
        tl_plan_free(plan);
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
    tl_plan *plan = make_plan(graph, &options);
    graph_result before = run_plan(plan, input, 2, false);
    fill_params(graph, 99);
    tl_plan_repack(plan);
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

/* --- gradients
 * ------------------------------------------------------------------------------------------- */

typedef struct loss_probe {
    tl_plan *plan;
    const float *input;
    const float *weights; /* d loss / d output */
    int64_t batch;
} loss_probe;

static double loss_of(const loss_probe *probe) {
    assert_ok(tl_plan_forward(probe->plan, probe->input, probe->batch, 3, true));
    tl_view view = tl_plan_output(probe->plan);
    double loss = 0;
    for (int64_t i = 0; i < tl_shape_count(&view.shape); i++) {
        loss += (double)view.data[i] * (double)probe->weights[i];
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

/* --- batches, threads, parts
 * ------------------------------------------------------------------------------ */

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

/* --- training and not
 * ------------------------------------------------------------------------------------------ */

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

/* --- memory
 * -------------------------------------------------------------------------------------------------------
 */

static void test_views_and_in_place(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 8, 8, 4, &graph));
    size_t one = 8 * 8 * 4 * sizeof(float);
    then(graph, "identity", "id", NULL);
    then(graph, "relu", "r1", NULL);
    then(graph, "dropout", "drop", NULL);
    then(graph, "sigmoid", "r2", NULL);
    then(graph, "flatten", "flat", NULL);
    tl_plan_options options = plan_options(graph, 1, false);
    tl_plan_memory memory;
    assert_ok(tl_plan_predict(graph, &options, &memory));
    assert_int_equal(memory.activations, one);
    assert_int_equal(memory.gradients + memory.packed, 0);
    options.to = 1;
    assert_ok(tl_plan_predict(graph, &options, &memory));
    assert_int_equal(memory.activations, 0);
    /* The input stays whole. */
    options.to = 5;
    float *input = random_input(&options, 1), *copy = random_input(&options, 1);
    graph_result result = run_once(graph, &options, input);
    assert_memory_equal(input, copy, one);
    free_result(&result);
    free(input);
    free(copy);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* A chain needs two values at a time, however long it is. */
static void test_chain_memory(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 8, 8, 4, &graph));
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        then(graph, "max_pool", name, "kernel=3 stride=1 pad=1");
    }
    tl_plan_options options = plan_options(graph, 3, false);
    tl_plan_memory memory;
    assert_ok(tl_plan_predict(graph, &options, &memory));
    size_t one = 3 * 8 * 8 * 4 * sizeof(float);
    assert_true(memory.activations >= 2 * one && memory.activations < 3 * one);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_prediction_and_limit(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    tl_graph *graph = residual_net(ctx, "relu");
    for (int training = 0; training < 2; training++) {
        tl_plan_options options = plan_options(graph, 4, training);
        size_t before = allocator.live;
        tl_plan_memory predicted;
        assert_ok(tl_plan_predict(graph, &options, &predicted));
        assert_int_equal(allocator.live, before);
        tl_plan *plan = make_plan(graph, &options);
        tl_plan_memory made = tl_plan_memory_of(plan);
        assert_memory_equal(&made, &predicted, sizeof made);
        assert_true(made.activations > 0 && made.packed > 0);
        assert_int_equal(made.gradients > 0, training);
        size_t blocks = made.activations + made.gradients + made.packed;
        assert_true(allocator.live - before >= blocks);
        assert_true(allocator.live - before < blocks + 65536);
        tl_plan_free(plan);
        assert_int_equal(allocator.live, before);
    }
    tl_graph_free(graph);
    tl_context_free(ctx);

    tl_context_options limited;
    tl_context_options_init(&limited, sizeof limited);
    limited.threads = 1;
    limited.memory_limit = 8 << 20;
    assert_ok(tl_context_create(&limited, &ctx));
    graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 4, false);
    options.input.dim[1] = options.input.dim[2] = 4000;
    tl_plan *plan = NULL;
    size_t peak_before, peak_after;
    tl_context_memory(ctx, NULL, &peak_before);
    assert_fails(tl_plan_create(graph, &options, &plan), TL_LIMIT, "memory limit");
    tl_context_memory(ctx, NULL, &peak_after);
    assert_true(peak_after < peak_before + 65536);
    assert_null(plan);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_no_allocation_while_running(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    tl_graph *graph = residual_net(ctx, "silu");
    tl_plan_options options = plan_options(graph, 4, true);
    float *input = random_input(&options, 1), *grad = random_floats(4 * 5, 2);
    tl_plan *plan = make_plan(graph, &options);
    size_t calls = allocator.calls;
    for (int64_t batch = 1; batch <= 4; batch++) {
        assert_ok(tl_plan_forward(plan, input, batch, 1, true));
        assert_ok(tl_plan_backward(plan, grad));
        assert_ok(tl_plan_forward(plan, input, batch, 1, false));
        tl_plan_zero_gradients(plan);
        tl_plan_repack(plan);
    }
    assert_int_equal(allocator.calls, calls);
    tl_plan_free(plan);
    free(input);
    free(grad);
    tl_graph_free(graph);
    tl_context_free(ctx);
    assert_int_equal(allocator.live, 0);
}

static void test_no_memory_for_plan(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 3, true);
    float *input = random_input(&options, 1);
    graph_result expected = run_once(graph, &options, input);
    size_t live = allocator.live, tried = 0;
    for (size_t n = 1;; n++, tried++) {
        tl_plan *plan = NULL;
        allocator.fail_at = allocator.calls + n;
        tl_status status = tl_plan_create(graph, &options, &plan);
        bool reached = allocator.calls >= allocator.fail_at;
        allocator.fail_at = 0;
        if (!reached) {
            tl_plan_free(plan);
            break;
        }
        assert_int_equal(status, TL_NO_MEMORY);
        assert_null(plan);
        assert_int_equal(allocator.live, live);
        graph_result again = run_once(graph, &options, input);
        assert_same_result(&again, &expected, "retry");
        free_result(&again);
    }
    assert_true(tried > 10);
    free_result(&expected);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
    assert_int_equal(allocator.live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sharing_is_sound),
        cmocka_unit_test(test_fusion_agrees),
        cmocka_unit_test(test_fused_steps),
        cmocka_unit_test(test_repack),
        cmocka_unit_test(test_gradients_by_differences),
        cmocka_unit_test(test_gradients_above_boundary_only),
        cmocka_unit_test(test_gradients_add_up),
        cmocka_unit_test(test_smaller_batch),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_from_and_to),
        cmocka_unit_test(test_other_input_size),
        cmocka_unit_test(test_wrong_calls),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_batch_norm_statistics),
        cmocka_unit_test(test_views_and_in_place),
        cmocka_unit_test(test_chain_memory),
        cmocka_unit_test(test_prediction_and_limit),
        cmocka_unit_test(test_no_allocation_while_running),
        cmocka_unit_test(test_no_memory_for_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
