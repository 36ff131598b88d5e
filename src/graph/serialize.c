/* Graphs as JSON. The reading side treats every field as hostile. */
#include <string.h>

#include <jansson.h>

#include "graph/graph.h"
#include "graph/plan.h"

/* --- writing ---------------------------------------------------------------------------------- */

static bool is_frozen(const tl_graph *graph, int node) {
    return tl_node_learns(graph, node) && !tl_node_trainable(graph, node);
}

static json_t *inputs_to_json(const tl_graph *graph, const tl_node *node) {
    json_t *inputs = json_array();
    for (int i = 0; i < node->input_count; i++) {
        if (json_array_append_new(inputs, json_string(graph->node[node->input[i]].name)) != 0) {
            json_decref(inputs);
            return NULL;
        }
    }
    return inputs;
}

static json_t *node_to_json(const tl_graph *graph, int index) {
    const tl_node *node = &graph->node[index];
    char *attrs = tl_attr_print(graph->ctx, node->op, node->attr);
    if (!attrs) return NULL;
    json_t *json =
        json_pack("{s:s, s:s, s:o, s:s, s:b}", "name", node->name, "op", node->op->name, "inputs",
                  inputs_to_json(graph, node), "attrs", attrs, "frozen", is_frozen(graph, index));
    tl_free(graph->ctx, attrs);
    return json;
}

struct json_t *tl_graph_to_json(const tl_graph *graph) {
    const tl_shape *shape = &graph->node[0].shape;
    bool picture = shape->rank == 4;
    json_t *nodes = json_array();
    for (int i = 1; i < graph->node_count; i++) {
        if (json_array_append_new(nodes, node_to_json(graph, i)) != 0) {
            json_decref(nodes);
            return NULL;
        }
    }
    return json_pack("{s:[I,I,I], s:o}", "input", (json_int_t)(picture ? shape->dim[1] : 0),
                     (json_int_t)(picture ? shape->dim[2] : 0),
                     (json_int_t)shape->dim[shape->rank - 1], "nodes", nodes);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* What a call that is fed from a file says of its arguments, it says of the file. */
static tl_status of_file(tl_status status) {
    return status == TL_INVALID_ARGUMENT ? TL_CORRUPT : status;
}

static tl_status read_text(const json_t *object, const char *key, int index, const char **out) {
    const json_t *value = json_object_get(object, key);
    TL_CHECK(json_is_string(value), TL_CORRUPT, "graph: node %d: '%s' is no string", index, key);
    *out = json_string_value(value);
    TL_CHECK(strlen(*out) == json_string_length(value), TL_CORRUPT,
             "graph: node %d: '%s' holds a NUL", index, key);
    return TL_OK;
}

static tl_status read_inputs(const json_t *names, const json_t *index_of, const char *node,
                             int *inputs) {
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name) {
        const json_t *index =
            json_object_get(index_of, json_is_string(name) ? json_string_value(name) : "");
        TL_CHECK(index, TL_CORRUPT, "%s: input %zu is '%s', which is no earlier node", node, i,
                 json_is_string(name) ? json_string_value(name) : "not a name");
        inputs[i] = (int)json_integer_value(index);
    }
    return TL_OK;
}

static void freeze(tl_graph *graph, int index) {
    const tl_node *node = &graph->node[index];
    for (int i = 0; i < node->param_count; i++) {
        graph->param[node->first_param + i].trainable = false;
    }
}

static tl_status read_node(tl_graph *graph, const json_t *json, json_t *index_of) {
    int index = graph->node_count;
    const char *name = NULL, *op = NULL, *attrs = NULL;
    TL_TRY(read_text(json, "name", index, &name));
    TL_TRY(read_text(json, "op", index, &op));
    TL_TRY(read_text(json, "attrs", index, &attrs));
    const json_t *names = json_object_get(json, "inputs");
    const json_t *frozen = json_object_get(json, "frozen");
    TL_CHECK(json_is_array(names), TL_CORRUPT, "%s: 'inputs' is no array", name);
    TL_CHECK(!frozen || json_is_boolean(frozen), TL_CORRUPT, "%s: 'frozen' is no boolean", name);
    TL_CHECK(tl_op_find(op), TL_UNSUPPORTED, "%s: unknown operator '%s'", name, op);
    TL_CHECK(json_array_size(names) <= TL_MAX_NODES, TL_LIMIT,
             "%s: %zu inputs, expected at most %d", name, json_array_size(names), TL_MAX_NODES);

    int *inputs = tl_alloc_array(graph->ctx, json_array_size(names), sizeof *inputs);
    TL_CHECK_MEMORY(inputs);
    tl_status status = read_inputs(names, index_of, name, inputs);
    if (status == TL_OK) {
        status = of_file(
            tl_graph_add(graph, op, name, attrs, (int)json_array_size(names), inputs, NULL));
    }
    tl_free(graph->ctx, inputs);
    TL_TRY(status);
    if (json_is_true(frozen)) freeze(graph, index);
    TL_CHECK(json_object_set_new(index_of, name, json_integer(index)) == 0, TL_NO_MEMORY,
             "%s: out of memory", name);
    return TL_OK;
}

static tl_status read_nodes(tl_graph *graph, const json_t *nodes) {
    TL_CHECK(json_is_array(nodes), TL_CORRUPT, "graph: 'nodes' is no array");
    TL_CHECK(json_array_size(nodes) < TL_MAX_NODES, TL_LIMIT,
             "graph: %zu nodes, expected fewer than %d", json_array_size(nodes), TL_MAX_NODES);
    json_t *index_of = json_pack("{s:i}", graph->node[0].name, 0);
    TL_CHECK(index_of, TL_NO_MEMORY, "graph: out of memory");
    tl_status status = TL_OK;
    size_t i;
    json_t *node;
    json_array_foreach(nodes, i, node) {
        status = read_node(graph, node, index_of);
        if (status != TL_OK) break;
    }
    json_decref(index_of);
    return status;
}

static tl_status read_input(tl_context *ctx, const json_t *input, tl_graph **out) {
    TL_CHECK(json_is_array(input) && json_array_size(input) == 3, TL_CORRUPT,
             "graph: 'input' is not [height, width, channels]");
    int64_t dims[3];
    for (size_t i = 0; i < 3; i++) {
        const json_t *dim = json_array_get(input, i);
        TL_CHECK(json_is_integer(dim), TL_CORRUPT, "graph: dimension %zu of 'input' is no integer",
                 i);
        dims[i] = json_integer_value(dim);
    }
    return of_file(tl_graph_create(ctx, dims[0], dims[1], dims[2], out));
}

tl_status tl_graph_from_json(tl_context *ctx, const struct json_t *json, int64_t max_elements,
                             tl_graph **out) {
    *out = NULL;
    tl_graph *graph;
    TL_TRY(read_input(ctx, json_object_get(json, "input"), &graph));
    graph->param_limit = max_elements;
    graph->hollow = true;
    tl_status status = read_nodes(graph, json_object_get(json, "nodes"));
    if (status != TL_OK) {
        tl_graph_free(graph);
        return status;
    }
    graph->param_limit = INT64_MAX;
    *out = graph;
    return TL_OK;
}
