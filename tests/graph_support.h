/* Small networks for the tests of graphs. */
#ifndef TL_TESTS_GRAPH_SUPPORT_H
#define TL_TESTS_GRAPH_SUPPORT_H

#include "support.h"

#include "graph/graph.h"
#include "graph/plan.h"

static inline int add1(tl_graph *graph, const char *op, const char *name, const char *attrs,
                       int input) {
    int node = -1;
    assert_ok(tl_graph_add(graph, op, name, attrs, 1, &input, &node));
    return node;
}

static inline int add2(tl_graph *graph, const char *op, const char *name, int a, int b) {
    int node = -1;
    assert_ok(tl_graph_add(graph, op, name, NULL, 2, (int[]){a, b}, &node));
    return node;
}

/* The last node, which most of these builders append to. */
static inline int then(tl_graph *graph, const char *op, const char *name, const char *attrs) {
    return add1(graph, op, name, attrs, graph->node_count - 1);
}

/* Initial values, but batch norms with statistics, and biases, that do something. */
static inline void fill_params(tl_graph *graph, uint64_t seed) {
    tl_graph_initialize(graph, 0, seed);
    for (int i = 0; i < graph->param_count; i++) {
        tl_param *param = &graph->param[i];
        bool constant = param->init == TL_INIT_ZERO || param->init == TL_INIT_ONE;
        float *value = tl_tensor_f32(param->value);
        for (int64_t j = 0; j < tl_tensor_count(param->value) && constant; j++) {
            value[j] += 0.3f * support_random(&seed);
        }
    }
}

/* Freezes every parameter of nodes up to `last`. */
static inline void freeze_to(tl_graph *graph, int last) {
    for (int i = 0; i < graph->param_count; i++) {
        if (graph->param[i].node <= last) graph->param[i].trainable = false;
    }
}

/* conv, batch norm, activation */
static inline int conv_bn(tl_graph *graph, const char *name, const char *attrs, const char *act,
                          int input) {
    char text[64];
    snprintf(text, sizeof text, "%s.conv", name);
    int node = add1(graph, "conv2d", text, attrs, input);
    snprintf(text, sizeof text, "%s.bn", name);
    node = add1(graph, "batch_norm", text, NULL, node);
    if (!act) return node;
    snprintf(text, sizeof text, "%s.act", name);
    return add1(graph, act, text, NULL, node);
}

/* Stem, a residual block with a projection and one without, pooling, classifier. */
static inline tl_graph *residual_net(tl_context *ctx, const char *act) {
    tl_graph *graph = NULL;
    assert_ok(tl_graph_create(ctx, 9, 7, 3, &graph));
    int stem = conv_bn(graph, "stem", "filters=8 kernel=3 pad=1 bias=1", act, 0);
    int main = conv_bn(graph, "a1", "filters=6 kernel=1 bias=0", act, stem);
    main = conv_bn(graph, "a2", "filters=12 kernel=3 stride=2 pad=1 bias=0", NULL, main);
    int shortcut = conv_bn(graph, "down", "filters=12 kernel=1 stride=2 bias=0", NULL, stem);
    int sum = add2(graph, "add", "a.add", main, shortcut);
    int block = add1(graph, act, "a.act", NULL, sum);
    main = conv_bn(graph, "b1", "filters=12 kernel=3 pad=1 groups=12 bias=0", act, block);
    main = conv_bn(graph, "b2", "filters=12 kernel=1 bias=0", NULL, main);
    sum = add2(graph, "add", "b.add", block, main);
    add1(graph, act, "b.act", NULL, sum);
    then(graph, "global_avg_pool", "pool", NULL);
    then(graph, "flatten", "flat", NULL);
    then(graph, "dropout", "drop", "rate=0.25");
    then(graph, "dense", "fc", "units=5");
    then(graph, "softmax", "prob", NULL);
    fill_params(graph, 11);
    return graph;
}

static inline tl_plan_options plan_options(const tl_graph *graph, int64_t batch, bool training) {
    tl_plan_options options = {.to = tl_graph_logits(graph),
                               .input = graph->node[0].shape,
                               .training = training,
                               .seed = 5};
    options.input.dim[0] = batch;
    return options;
}

static inline tl_plan *make_plan(tl_graph *graph, const tl_plan_options *options) {
    tl_plan *plan = NULL;
    assert_ok(tl_plan_create(graph, options, &plan));
    return plan;
}

static inline float *random_floats(int64_t count, uint64_t seed) {
    float *values = malloc((size_t)(count > 0 ? count : 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = support_random(&seed);
    return values;
}

static inline float *random_input(const tl_plan_options *options, uint64_t seed) {
    return random_floats(tl_shape_count(&options->input), seed);
}

/* Output and gradients of one run, copied. */
typedef struct graph_result {
    int64_t output_count, gradient_count;
    float *output, *gradients;
} graph_result;

static inline graph_result run_plan(tl_plan *plan, const float *input, int64_t batch,
                                    bool training) {
    assert_ok(tl_plan_forward(plan, input, batch, 3, training));
    tl_view view = tl_plan_output(plan);
    graph_result result = {.output_count = tl_shape_count(&view.shape)};
    size_t bytes = (size_t)result.output_count * sizeof(float);
    result.output = malloc(bytes);
    memcpy(result.output, view.data, bytes);
    if (!training) return result;
    float *gradient = random_floats(result.output_count, 77);
    tl_plan_zero_gradients(plan);
    assert_ok(tl_plan_backward(plan, gradient));
    free(gradient);
    assert_memory_equal(result.output, view.data, bytes); /* still there */
    const float *gradients = tl_plan_gradients(plan, &result.gradient_count);
    bytes = (size_t)result.gradient_count * sizeof(float);
    result.gradients = malloc(bytes + 1);
    memcpy(result.gradients, gradients, bytes);
    return result;
}

/* The same for a plan of its own. */
static inline graph_result run_once(tl_graph *graph, const tl_plan_options *options,
                                    const float *input) {
    tl_plan *plan = make_plan(graph, options);
    memset(plan->arena, 0xff, plan->memory.activations); /* NaN: nothing may be read unwritten */
    graph_result result = run_plan(plan, input, options->input.dim[0], options->training);
    tl_plan_free(plan);
    return result;
}

static inline void free_result(graph_result *result) {
    free(result->output);
    free(result->gradients);
}

static inline void assert_same_bits(const float *a, const float *b, int64_t count,
                                    const char *what) {
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) != 0 || isnan(a[i])) {
            fail_msg("%s: element %lld is %.9g and %.9g", what, (long long)i, (double)a[i],
                     (double)b[i]);
        }
    }
}

static inline void assert_same_result(const graph_result *a, const graph_result *b,
                                      const char *what) {
    assert_int_equal(a->output_count, b->output_count);
    assert_int_equal(a->gradient_count, b->gradient_count);
    assert_same_bits(a->output, b->output, a->output_count, what);
    assert_same_bits(a->gradients, b->gradients, a->gradient_count, what);
}

/* Differences relative to the largest value: rounding, not another computation. */
static inline void assert_close(const float *a, const float *b, int64_t count, double tolerance,
                                const char *what) {
    double largest = 1e-6, worst = 0;
    for (int64_t i = 0; i < count; i++) {
        if (isnan(a[i]) || isnan(b[i])) fail_msg("%s: NaN at %lld", what, (long long)i);
        largest = fmax(largest, fabs((double)b[i]));
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    }
    if (worst > tolerance * largest) {
        fail_msg("%s: differs by %.3g of %.3g, expected %.3g at most", what, worst / largest,
                 largest, tolerance);
    }
}

/* --- a random network ------------------------------------------------------------------------- */

typedef struct random_net {
    tl_graph *graph;
    uint64_t state;
    int nodes[64]; /* pictures */
    int count;
} random_net;

static inline int random_below(random_net *net, int count) {
    net->state = net->state * 6364136223846793005u + 1442695040888963407u;
    return (int)((net->state >> 33) % (uint64_t)count);
}

static inline int pick(random_net *net) {
    /* Mostly the latest: chains fuse and are what a result depends on. */
    int back = random_below(net, 6) ? 0 : random_below(net, net->count);
    return net->nodes[net->count - 1 - back];
}

/* Another node of the same shape as `node`, or itself. */
static inline int pick_like(random_net *net, int node) {
    for (int tries = 0; tries < 8; tries++) {
        int other = pick(net);
        if (tl_shape_equal(&net->graph->node[other].shape, &net->graph->node[node].shape)) {
            return other;
        }
    }
    return node;
}

static inline void grow_net(random_net *net) {
    static const char *const simple[] = {"relu",       "relu6",      "silu",       "sigmoid",
                                         "hard_swish", "batch_norm", "batch_norm", "batch_norm",
                                         "identity",   "dropout",    "batch_norm", "relu"};
    static const char *const convs[] = {"filters=4 kernel=3 pad=1", "filters=6 kernel=1",
                                        "filters=4 kernel=3 pad=1 bias=0"};
    char name[16];
    snprintf(name, sizeof name, "n%d", net->count);
    int input = pick(net), node, kind = random_below(net, 8);
    bool after_conv = net->graph->node[input].op->flags & TL_OP_EPILOGUE;
    switch (after_conv && kind < 3 ? 7 : kind) {
    case 0:
    case 1:
    case 2:
        node = add1(net->graph, "conv2d", name, convs[random_below(net, 3)], input);
        break;
    case 3:
        node = add2(net->graph, "add", name, input, pick_like(net, input));
        break;
    case 4:
        node = random_below(net, 2)
                   ? add2(net->graph, "concat", name, input, pick(net))
                   : add2(net->graph, "multiply", name, input, pick_like(net, input));
        break;
    default:
        node = add1(net->graph, simple[random_below(net, 12)], name, NULL, input);
        break;
    }
    net->nodes[net->count++] = node;
}

static inline tl_graph *random_graph(tl_context *ctx, uint64_t seed) {
    random_net net = {.state = seed * 977 + 3, .count = 1};
    assert_ok(tl_graph_create(ctx, 5, 4, 3, &net.graph));
    int size = 4 + random_below(&net, 24);
    while (net.count < size) grow_net(&net);
    then(net.graph, "global_avg_pool", "pool", NULL);
    if (random_below(&net, 2)) then(net.graph, "flatten", "flat", NULL);
    if (random_below(&net, 2)) then(net.graph, "dropout", "drop", NULL);
    then(net.graph, "dense", "fc", "units=3");
    fill_params(net.graph, seed);
    if (random_below(&net, 2)) freeze_to(net.graph, random_below(&net, net.graph->node_count - 1));
    return net.graph;
}

#endif
