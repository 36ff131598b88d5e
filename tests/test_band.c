/* Bands: the same bits as without them, on any number of threads, in less memory. */
#include "graph_support.h"

typedef struct band_net {
    tl_graph *graph;
    uint64_t state;
} band_net;

static int below(band_net *net, int count) {
    net->state = net->state * 6364136223846793005u + 1442695040888963407u;
    return (int)((net->state >> 33) % (uint64_t)count);
}

static const char *fresh_name(const band_net *net, char name[16]) {
    snprintf(name, 16, "n%d", net->graph->node_count);
    return name;
}

/* A convolution, mostly with what its epilogue can do. */
static int layer(band_net *net, const char *attrs, int input) {
    static const char *const acts[] = {"relu", "relu6", "silu", "hard_swish", NULL};
    char name[16];
    fresh_name(net, name);
    if (below(net, 4) == 0) return add1(net->graph, "conv2d", name, attrs, input);
    return conv_bn(net->graph, name, attrs, acts[below(net, 5)], input);
}

static int depthwise(band_net *net, int channels, bool same, int input) {
    int kernel = 1 + below(net, 6), dilation = 1 + below(net, 2), reach = (kernel - 1) * dilation;
    int stride = same ? 1 : 1 + (net->graph->node[input].shape.dim[1] > 40);
    char attrs[96], padding[48] = "padding=same";
    if (!same)
        snprintf(padding, sizeof padding, "pad=%d,%d,%d,%d", below(net, reach + 4),
                 below(net, reach + 1), below(net, reach + 2), reach);
    snprintf(attrs, sizeof attrs, "filters=%d groups=%d kernel=%d dilation=%d stride=%d %s",
             channels, channels, kernel, dilation, stride, padding);
    return layer(net, attrs, input);
}

/* Expand, depthwise, project: an inverted residual block, at times with a step that does not
 * fuse. */
static int block(band_net *net, int input) {
    char attrs[48], name[16];
    bool shortcut = below(net, 2);
    int wide = 24 + below(net, 60);
    int narrow = shortcut ? (int)net->graph->node[input].shape.dim[3] : 4 + below(net, 20);
    snprintf(attrs, sizeof attrs, "filters=%d kernel=%d padding=same", wide, 1 + below(net, 2));
    int node = layer(net, attrs, input);
    if (below(net, 4) == 0) node = add1(net->graph, "gelu", fresh_name(net, name), NULL, node);
    node = depthwise(net, wide, shortcut, node);
    snprintf(attrs, sizeof attrs, "filters=%d kernel=1 bias=%d", narrow, below(net, 2));
    node = layer(net, attrs, node);
    return shortcut ? add2(net->graph, "add", fresh_name(net, name), input, node) : node;
}

static tl_graph *random_blocks(tl_context *ctx, uint64_t seed) {
    band_net net = {.state = seed * 977 + 5};
    int side = 40 + below(&net, 60);
    assert_ok(tl_graph_create(ctx, side, side - below(&net, 30), 3, &net.graph));
    int node = layer(&net,
                     below(&net, 2) ? "filters=8 kernel=3 stride=2 padding=same"
                                    : "filters=12 kernel=3 pad=0,1,2,1",
                     0);
    for (int i = 2 + below(&net, 3); i > 0; i--) node = block(&net, node);
    then(net.graph, "global_avg_pool", "pool", NULL);
    then(net.graph, "dense", "fc", "units=3");
    fill_params(net.graph, seed);
    return net.graph;
}

/* How many steps of the plan are in bands. */
static int banded_steps(tl_graph *graph, const tl_plan_options *options) {
    tl_plan *plan = make_plan(graph, options);
    int count = 0;
    for (int s = 0; s < plan->step_count; s++) count += plan->step[s].band >= 0;
    tl_plan_free(plan);
    return count;
}

static void test_bands_change_nothing(void **state) {
    (void)state;
    int banded = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        graph_result results[4];
        for (int t = 0; t < 4; t++) {
            tl_context *ctx = make_context(t ? t : 1, NULL);
            tl_graph *graph = random_blocks(ctx, seed);
            tl_plan_options options = plan_options(graph, 1 + (int64_t)seed % 3, false);
            options.unshared = t == 0;
            banded += banded_steps(graph, &options);
            float *input = random_input(&options, seed);
            results[t] = run_once(graph, &options, input);
            free(input);
            tl_graph_free(graph);
            tl_context_free(ctx);
        }
        char what[32];
        snprintf(what, sizeof what, "network %d", (int)seed);
        for (int t = 1; t < 4; t++) assert_same_result(&results[0], &results[t], what);
        for (int t = 0; t < 4; t++) free_result(&results[t]);
    }
    assert_true(banded > 60 * 3 * 4);
}

/* A plan for many samples runs few of them, cut among threads in the middle of one. */
static void test_smaller_batch(void **state) {
    (void)state;
    tl_context *ctx = make_context(3, NULL);
    tl_graph *graph = random_blocks(ctx, 3);
    tl_plan_options options = plan_options(graph, 7, false);
    float *input = random_input(&options, 3);
    tl_plan *plan = make_plan(graph, &options);
    assert_true(plan->band_count > 0);
    graph_result whole = run_plan(plan, input, 7, false);
    for (int64_t batch = 1; batch < 7; batch++) {
        graph_result part = run_plan(plan, input, batch, false);
        assert_same_bits(part.output, whole.output, part.output_count, "smaller batch");
        free_result(&part);
    }
    free_result(&whole);
    free(input);
    tl_plan_free(plan);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* In training only what is frozen is in bands, and gradients see the same values. */
static void test_frozen_part(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    for (uint64_t seed = 1; seed <= 10; seed++) {
        tl_graph *graph = random_blocks(ctx, seed);
        freeze_to(graph, graph->node_count / 2);
        tl_plan_options options = plan_options(graph, 2, true);
        float *input = random_input(&options, seed);
        tl_plan *plan = make_plan(graph, &options);
        for (int s = 0; s < plan->step_count; s++)
            assert_true(plan->step[s].band < 0 || !plan->step[s].backward);
        tl_plan_free(plan);
        graph_result shared = run_once(graph, &options, input);
        options.unshared = true;
        graph_result apart = run_once(graph, &options, input);
        assert_same_result(&shared, &apart, "half frozen");
        free_result(&shared);
        free_result(&apart);
        free(input);
        tl_graph_free(graph);
    }
    tl_context_free(ctx);
}

/* The wide values are never there as a whole. */
static void test_memory(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 96, 96, 16, &graph));
    then(graph, "conv2d", "expand", "filters=96 kernel=1");
    then(graph, "conv2d", "spatial", "filters=96 kernel=3 groups=96 pad=1");
    then(graph, "conv2d", "project", "filters=16 kernel=1");
    tl_plan_options options = plan_options(graph, 8, false);
    tl_plan_memory memory;
    assert_ok(tl_plan_predict(graph, &options, &memory));
    size_t output = 8 * 96 * 96 * 16 * sizeof(float);
    assert_in_range(memory.activations, output, output + (2 << 20));
    tl_graph_free(graph);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bands_change_nothing),
        cmocka_unit_test(test_smaller_batch),
        cmocka_unit_test(test_frozen_part),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
