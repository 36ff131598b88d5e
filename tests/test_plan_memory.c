/* Plans: what shares memory, how much there is, and what happens without. */
#include "graph_support.h"

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

/* An operator may write over its first input, but over no other, and not when both are one. */
static void test_never_over_other_inputs(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 4, 4, 2, &graph));
    int x = add1(graph, "conv2d", "conv", "filters=3 kernel=1", 0);
    int view = add1(graph, "identity", "view", NULL, x);
    int sum = add2(graph, "add", "sum", x, view);
    int twice = add2(graph, "add", "twice", sum, sum);
    add1(graph, "max_pool", "end", "kernel=2", twice);
    tl_plan_options options = plan_options(graph, 1, true);
    tl_plan *plan = make_plan(graph, &options);
    const tl_value *value = plan->value;
    assert_int_equal(value[x].buffer, value[view].buffer);
    assert_int_not_equal(value[sum].buffer, value[x].buffer);
    assert_int_not_equal(value[twice].buffer, value[sum].buffer);
    assert_int_not_equal(value[sum].grad_buffer, value[twice].grad_buffer);
    assert_int_not_equal(value[view].grad_buffer, value[sum].grad_buffer);
    assert_int_equal(value[x].grad_buffer, value[sum].grad_buffer);
    tl_plan_free(plan);
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
        assert_true(made.activations > 0);
        assert_int_equal(made.packed > 0, !training); /* trained weights are packed into scratch */
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

/* Plans of one graph hold one copy of the packed weights, which goes with the last of them. */
static void test_packs_are_shared(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    tl_graph *graph = residual_net(ctx, "relu");
    size_t before = allocator.live;
    tl_plan_options one = plan_options(graph, 1, false), four = plan_options(graph, 4, false);
    tl_plan *first = make_plan(graph, &one), *second = make_plan(graph, &four);
    tl_plan_memory a = tl_plan_memory_of(first), b = tl_plan_memory_of(second);
    assert_true(a.packed > 0 && a.shared == 0);
    assert_true(b.packed == a.packed && b.shared == b.packed && b.scratch == 0);
    for (int s = 0; s < first->step_count; s++)
        assert_ptr_equal(first->step[s].pack, second->step[s].pack);

    /* Another cut of the network folds other things, but shares what is the same. */
    tl_plan_options part = one;
    part.to = tl_graph_find_node(graph, "a.add");
    tl_plan *third = make_plan(graph, &part);
    tl_plan_memory c = tl_plan_memory_of(third);
    assert_true(c.shared > 0 && c.shared <= c.packed);
    tl_plan_free(third);

    /* Changed weights are packed anew; plans made before keep what they have. */
    float *input = random_input(&one, 1);
    graph_result old = run_plan(first, input, 1, false);
    fill_params(graph, 99);
    tl_graph_changed(graph);
    graph_result still = run_plan(first, input, 1, false);
    assert_same_result(&old, &still, "old weights");
    third = make_plan(graph, &one);
    assert_int_equal(tl_plan_memory_of(third).shared, 0);
    graph_result fresh = run_plan(third, input, 1, false);
    assert_true(memcmp(old.output, fresh.output, sizeof(float)) != 0);
    tl_plan_free(first);
    tl_plan_free(second);
    tl_plan_free(third);
    assert_int_equal(allocator.live, before);
    free_result(&old);
    free_result(&still);
    free_result(&fresh);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* Between forward and backward a convolution's result is kept, but not what the step of batch norm
 * and activation makes of it: that is made again. */
static void test_cheap_values_are_made_again(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 2, true);
    tl_plan *plan = make_plan(graph, &options);
    const struct {
        const char *node;
        bool dropped;
    } cases[] = {{"a1.conv", false}, {"a1.bn", false},   {"a1.act", true},
                 {"a2.bn", false},   {"a.act", false},   {"b1.act", true},
                 {"stem.act", true}, {"stem.bn", false}, {"flat", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const tl_value *value = &plan->value[tl_graph_find_node(graph, cases[i].node)];
        if (value->dropped != cases[i].dropped) fail_msg("%s", cases[i].node);
    }
    tl_plan_free(plan);

    /* Batch statistics would move: such a batch norm runs once. A frozen one does not want its
     * input, from which its output could be made. */
    options.batch_norm_training = true;
    plan = make_plan(graph, &options);
    assert_false(plan->value[tl_graph_find_node(graph, "a1.act")].dropped);
    tl_plan_free(plan);
    options.batch_norm_training = false;
    freeze_to(graph, tl_graph_find_node(graph, "a1.bn"));
    graph->param[graph->node[tl_graph_find_node(graph, "stem.conv")].first_param].trainable = true;
    plan = make_plan(graph, &options);
    assert_false(plan->value[tl_graph_find_node(graph, "a1.act")].dropped);
    assert_true(plan->value[tl_graph_find_node(graph, "a1.conv")].buffer ==
                plan->value[tl_graph_find_node(graph, "a1.act")].buffer);
    tl_plan_free(plan);
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
        cmocka_unit_test(test_views_and_in_place),
        cmocka_unit_test(test_never_over_other_inputs),
        cmocka_unit_test(test_chain_memory),
        cmocka_unit_test(test_prediction_and_limit),
        cmocka_unit_test(test_packs_are_shared),
        cmocka_unit_test(test_cheap_values_are_made_again),
        cmocka_unit_test(test_no_allocation_while_running),
        cmocka_unit_test(test_no_memory_for_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
