/* Graphs: building and searching, freeze boundary, JSON. */
#include "graph_support.h"

#include <jansson.h>

/* --- building --------------------------------------------------------------------------------- */

static void test_build_and_find(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    assert_int_equal(tl_graph_find_node(graph, "input"), 0);
    int fc = tl_graph_find_node(graph, "fc");
    assert_int_equal(fc, graph->node_count - 2);
    assert_int_equal(tl_graph_output(graph), graph->node_count - 1);
    assert_int_equal(tl_graph_logits(graph), fc);
    assert_int_equal(tl_graph_find_node(graph, "none"), -1);
    int weight = tl_graph_find_param(graph, "fc.weight");
    assert_int_equal(graph->param[weight].node, fc);
    assert_int_equal(tl_graph_find_param(graph, "fc"), -1);
    assert_int_equal(graph->node[fc].shape.dim[1], 5);
    int64_t all = tl_graph_param_elements(graph, false);
    int64_t trained = tl_graph_param_elements(graph, true);
    assert_int_equal(all - trained, 2 * (8 + 6 + 12 + 12 + 12 + 12)); /* running statistics */
    freeze_to(graph, fc);
    assert_int_equal(tl_graph_param_elements(graph, true), 0);

    int params = graph->param_count;
    tl_graph_truncate(graph, fc - 1);
    assert_int_equal(graph->node_count, fc);
    assert_int_equal(graph->param_count, params - 2);
    assert_int_equal(tl_graph_find_param(graph, "fc.weight"), -1);
    assert_int_equal(tl_graph_param_elements(graph, false), all - 5 * 12 - 5);
    tl_graph_free(graph);
    tl_graph_free(NULL);
    tl_context_free(ctx);
}

static void test_refused_nodes(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL;
    assert_fails(tl_graph_create(ctx, 8, 0, 3, &graph), TL_SHAPE, NULL);
    assert_fails(tl_graph_create(ctx, 8, 8, 0, &graph), TL_SHAPE, NULL);
    assert_fails(tl_graph_create(ctx, -8, 8, 3, &graph), TL_INVALID_ARGUMENT, "height");
    assert_null(graph);
    assert_ok(tl_graph_create(ctx, 8, 8, 3, &graph));
    int zero = 0, one = 1, two[2] = {0, 0};
    char longest[400];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    const struct {
        const char *op, *name, *attrs;
        int input_count;
        const int *inputs;
        tl_status status;
        const char *text;
    } bad[] = {
        {"relu", "", NULL, 1, &zero, TL_INVALID_ARGUMENT, "name"},
        {"relu", NULL, NULL, 1, &zero, TL_INVALID_ARGUMENT, "name"},
        {"relu", longest, NULL, 1, &zero, TL_INVALID_ARGUMENT, "255"},
        {"relu", "a\nb", NULL, 1, &zero, TL_INVALID_ARGUMENT, "control"},
        {"relu", "input", NULL, 1, &zero, TL_INVALID_ARGUMENT, "input"},
        {"relu7", "x", NULL, 1, &zero, TL_INVALID_ARGUMENT, "relu7"},
        {"input", "x", NULL, 0, NULL, TL_INVALID_ARGUMENT, "only one"},
        {"relu", "x", NULL, 2, two, TL_INVALID_ARGUMENT, "x"},
        {"relu", "x", NULL, 0, NULL, TL_INVALID_ARGUMENT, "x"},
        {"relu", "x", NULL, 1, &one, TL_INVALID_ARGUMENT, "x"},
        {"relu", "x", "slope=1", 1, &zero, TL_INVALID_ARGUMENT, "slope"},
        {"conv2d", "x", NULL, 1, &zero, TL_INVALID_ARGUMENT, "required"},
        {"conv2d", "x", "filters=4 kernel=99", 1, &zero, TL_SHAPE, "x: "},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int node = 123;
        assert_fails(tl_graph_add(graph, bad[i].op, bad[i].name, bad[i].attrs, bad[i].input_count,
                                  bad[i].inputs, &node),
                     bad[i].status, bad[i].text);
        assert_int_equal(node, 123);
        assert_int_equal(graph->node_count, 1);
        assert_int_equal(graph->param_count, 0);
    }
    tl_graph_free(graph);
    tl_context_free(ctx);
}

static void test_initialize(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = NULL, *longer = NULL;
    assert_ok(tl_graph_create(ctx, 8, 8, 16, &graph));
    assert_ok(tl_graph_create(ctx, 8, 8, 16, &longer));
    const char *conv = "filters=64 kernel=3 pad=1";
    add1(graph, "conv2d", "conv", conv, 0);
    add1(longer, "conv2d", "conv", conv, 0);
    then(longer, "global_avg_pool", "pool", NULL);
    then(longer, "dense", "fc", "units=100");
    tl_graph_initialize(graph, 0, 9);
    tl_graph_initialize(longer, 0, 9);
    const tl_tensor *weight = graph->param[0].value;
    const float *w = tl_tensor_const_f32(weight);
    int64_t count = tl_tensor_count(weight);
    assert_same_bits(w, tl_tensor_const_f32(longer->param[0].value), count, "one more node");
    double sum = 0, square = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += (double)w[i];
        square += (double)w[i] * (double)w[i];
    }
    assert_true(fabs(sum / (double)count) < 0.003);
    assert_true(fabs(sqrt(square / (double)count) / sqrt(2.0 / (64 * 9)) - 1) < 0.03);
    const tl_tensor *dense = longer->param[tl_graph_find_param(longer, "fc.weight")].value;
    const float *d = tl_tensor_const_f32(dense);
    double bound = sqrt(6.0 / 164), largest = 0;
    for (int64_t i = 0; i < tl_tensor_count(dense); i++)
        largest = fmax(largest, fabs((double)d[i]));
    assert_true(largest <= bound * 1.000001 && largest > bound * 0.99);
    float first = d[0], kept = w[0];
    tl_graph_initialize(longer, 2, 10);
    assert_true(d[0] != first);
    assert_true(tl_tensor_const_f32(longer->param[0].value)[0] == kept);
    tl_graph_free(graph);
    tl_graph_free(longer);
    tl_context_free(ctx);
}

/* --- freeze boundary -------------------------------------------------------------------------- */

static void test_boundary(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "relu");
    assert_int_equal(tl_graph_boundary(graph), 0);
    /* A frozen prefix that ends inside a block can be cached up to the block only. */
    const struct {
        const char *frozen, *boundary;
    } cuts[] = {
        {"stem.conv", "stem.conv"},
        {"stem.bn", "stem.act"},
        {"a1.bn", "stem.act"},
        {"a2.bn", "stem.act"},
        {"down.bn", "a.act"},
        {"b1.bn", "a.act"},
        {"b2.bn", "flat"}, /* not `drop`: it drops in front of the trained classifier */
        {"fc", "prob"},
    };
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        freeze_to(graph, tl_graph_find_node(graph, cuts[i].frozen));
        assert_string_equal(graph->node[tl_graph_boundary(graph)].name, cuts[i].boundary);
    }
    tl_graph_free(graph);

    /* Dropout between frozen layers belongs to them. */
    assert_ok(tl_graph_create(ctx, 0, 0, 6, &graph));
    then(graph, "dropout", "first", NULL);
    then(graph, "dense", "fc1", "units=6");
    then(graph, "dropout", "second", NULL);
    then(graph, "dense", "fc2", "units=3");
    assert_int_equal(tl_graph_boundary(graph), 0);
    freeze_to(graph, 2);
    assert_int_equal(tl_graph_boundary(graph), 2);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

/* --- JSON
 * --------------------------------------------------------------------------------------------------
 */

static void copy_params(const tl_graph *from, tl_graph *to) {
    assert_int_equal(from->param_count, to->param_count);
    for (int i = 0; i < from->param_count; i++) {
        assert_string_equal(from->param[i].name, to->param[i].name);
        assert_int_equal(from->param[i].trainable, to->param[i].trainable);
        memcpy(tl_tensor_data(to->param[i].value), tl_tensor_data(from->param[i].value),
               tl_tensor_bytes(from->param[i].value));
    }
}

static void test_json_round_trip(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_graph *graph = residual_net(ctx, "silu"), *copy = NULL;
    freeze_to(graph, tl_graph_find_node(graph, "a.act"));
    json_t *json = tl_graph_to_json(graph);
    assert_non_null(json);
    char *text = json_dumps(json, 0);
    json_t *parsed = json_loads(text, 0, NULL);
    assert_ok(tl_graph_from_json(ctx, parsed, tl_graph_param_elements(graph, false), &copy));
    assert_true(copy->hollow);
    assert_ok(tl_graph_allocate(copy));
    copy_params(graph, copy);
    json_t *again = tl_graph_to_json(copy);
    assert_true(json_equal(json, again));

    tl_plan_options options = plan_options(graph, 2, true);
    float *input = random_input(&options, 1);
    graph_result a = run_once(graph, &options, input), b = run_once(copy, &options, input);
    assert_same_result(&a, &b, "round trip");
    free_result(&a);
    free_result(&b);
    free(input);
    tl_graph_free(copy);
    assert_fails(tl_graph_from_json(ctx, json, tl_graph_param_elements(graph, false) - 1, &copy),
                 TL_LIMIT, "fc");
    assert_null(copy);
    json_decref(json);
    json_decref(parsed);
    json_decref(again);
    free(text);
    tl_graph_free(graph);
    tl_context_free(ctx);
}

#define NODE(name, op, inputs, attrs)                                                              \
    "{\"name\":" name ",\"op\":" op ",\"inputs\":" inputs ",\"attrs\":" attrs "}"
#define GRAPH(nodes) "{\"input\":[4,4,3],\"nodes\":[" nodes "]}"

static void test_hostile_json(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    const struct {
        const char *json;
        tl_status status;
        const char *text;
    } bad[] = {
        {"[]", TL_CORRUPT, "input"},
        {"{}", TL_CORRUPT, "input"},
        {"{\"input\":[4,4]}", TL_CORRUPT, "input"},
        {"{\"input\":[4,4,3.5],\"nodes\":[]}", TL_CORRUPT, "dimension 2"},
        {"{\"input\":[4,-4,3],\"nodes\":[]}", TL_CORRUPT, "width"},
        {"{\"input\":[9223372036854775807,4,3],\"nodes\":[]}", TL_CORRUPT, "height"},
        {"{\"input\":[4,4,3]}", TL_CORRUPT, "nodes"},
        {"{\"input\":[4,4,3],\"nodes\":{}}", TL_CORRUPT, "nodes"},
        {GRAPH("7"), TL_CORRUPT, "name"},
        {GRAPH(NODE("7", "\"relu\"", "[\"input\"]", "\"\"")), TL_CORRUPT, "name"},
        {GRAPH(NODE("\"\"", "\"relu\"", "[\"input\"]", "\"\"")), TL_CORRUPT, "name"},
        {GRAPH(NODE("\"a\"", "null", "[\"input\"]", "\"\"")), TL_CORRUPT, "op"},
        {GRAPH(NODE("\"a\"", "\"exec\"", "[\"input\"]", "\"\"")), TL_UNSUPPORTED, "a: "},
        {GRAPH(NODE("\"a\"", "\"input\"", "[]", "\"channels=3\"")), TL_CORRUPT, "a: "},
        {GRAPH(NODE("\"a\"", "\"relu\"", "[]", "\"\"")), TL_CORRUPT, "a: "},
        {GRAPH(NODE("\"a\"", "\"relu\"", "\"input\"", "\"\"")), TL_CORRUPT, "inputs"},
        {GRAPH(NODE("\"a\"", "\"relu\"", "[0]", "\"\"")), TL_CORRUPT, "input 0"},
        {GRAPH(NODE("\"a\"", "\"relu\"", "[\"a\"]", "\"\"")), TL_CORRUPT, "earlier"},
        {GRAPH(NODE("\"a\"", "\"relu\"", "[\"\"]", "\"\"")), TL_CORRUPT, "earlier"},
        {GRAPH(NODE("\"a\"", "\"relu\"", "[\"input\"]", "\"x=1\"")), TL_CORRUPT, "x"},
        {GRAPH(NODE("\"a\"", "\"relu\"", "[\"input\"]", "[]")), TL_CORRUPT, "attrs"},
        {GRAPH(NODE("\"a\"", "\"relu\"", "[\"input\"]", "\"\"") "," NODE("\"a\"", "\"relu\"",
                                                                         "[\"input\"]", "\"\"")),
         TL_CORRUPT, "a: "},
        {GRAPH(NODE("\"a\\u0000b\"", "\"relu\"", "[\"input\"]", "\"\"")), TL_CORRUPT, "NUL"},
        {GRAPH(NODE("\"a\"", "\"flatten\"", "[\"input\"]",
                    "\"\"") "," NODE("\"b\"", "\"dense\"", "[\"a\"]", "\"units=16777216\"")),
         TL_LIMIT, "b: "},
        {"{\"input\":[4,4,3],\"nodes\":[{\"name\":\"a\",\"op\":\"relu\",\"inputs\":[\"input\"],"
         "\"attrs\":\"\",\"frozen\":1}]}",
         TL_CORRUPT, "frozen"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_t *json = json_loads(bad[i].json, JSON_ALLOW_NUL, NULL);
        if (!json) fail_msg("row %zu is no JSON: %s", i, bad[i].json);
        size_t before = allocator.live;
        tl_graph *graph = NULL;
        assert_fails(tl_graph_from_json(ctx, json, 1 << 20, &graph), bad[i].status, bad[i].text);
        assert_null(graph);
        assert_int_equal(allocator.live, before);
        json_decref(json);
    }
    tl_context_free(ctx);
}

static void test_json_limits(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    json_t *nodes = json_array();
    for (int i = 0; i < TL_MAX_NODES; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        json_array_append_new(nodes, json_pack("{s:s,s:s,s:[s],s:s}", "name", name, "op", "relu",
                                               "inputs", "input", "attrs", ""));
    }
    json_t *json = json_pack("{s:[i,i,i],s:o}", "input", 1, 1, 1, "nodes", nodes);
    tl_graph *graph = NULL;
    assert_fails(tl_graph_from_json(ctx, json, 1, &graph), TL_LIMIT, "nodes");
    json_array_remove(nodes, 0);
    assert_ok(tl_graph_from_json(ctx, json, 0, &graph));
    assert_int_equal(graph->node_count, TL_MAX_NODES);
    int zero = 0;
    assert_fails(tl_graph_add(graph, "relu", "more", NULL, 1, &zero, NULL), TL_LIMIT, "more");
    tl_graph_free(graph);
    json_decref(json);
    tl_context_free(ctx);
}

/* --- failing memory --------------------------------------------------------------------------- */

static void test_no_memory_for_graph(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    tl_graph *graph = residual_net(ctx, "relu"), *copy = NULL;
    json_t *json = tl_graph_to_json(graph);
    size_t live = allocator.live, tried = 0;
    for (size_t n = 1;; n++, tried++) {
        allocator.fail_at = allocator.calls + n;
        tl_status status = tl_graph_from_json(ctx, json, 1 << 20, &copy);
        bool reached = allocator.calls >= allocator.fail_at;
        allocator.fail_at = 0;
        if (!reached) {
            assert_int_equal(status, TL_OK);
            break;
        }
        assert_int_equal(status, TL_NO_MEMORY);
        assert_null(copy);
        assert_int_equal(allocator.live, live);
    }
    assert_true(tried > 100);
    json_t *again = tl_graph_to_json(copy);
    assert_true(json_equal(json, again));
    json_decref(again);
    json_decref(json);
    tl_graph_free(copy);
    tl_graph_free(graph);
    tl_context_free(ctx);
    assert_int_equal(allocator.live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_and_find),  cmocka_unit_test(test_refused_nodes),
        cmocka_unit_test(test_initialize),      cmocka_unit_test(test_boundary),
        cmocka_unit_test(test_json_round_trip), cmocka_unit_test(test_hostile_json),
        cmocka_unit_test(test_json_limits),     cmocka_unit_test(test_no_memory_for_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
