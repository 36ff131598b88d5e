/* Building, searching and cutting graphs. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "graph/graph.h"
#include "graph/plan.h"

enum { MAX_NAME = 255 };

tl_status tl_node_infer(const tl_node *node, const tl_shape *in, tl_op_shapes *out) {
    tl_status status = tl_op_infer(node->op, node->attr, node->input_count, in, out);
    if (status != TL_OK) return tl_fail_in(status, "%s", node->name);
    int64_t batch = node->input_count ? in[0].dim[0] : 1;
    TL_CHECK(out->out.dim[0] == batch, TL_SHAPE,
             "%s: %s makes a batch of %lld out of one of %lld, which a graph cannot run",
             node->name, node->op->name, (long long)out->out.dim[0], (long long)batch);
    return TL_OK;
}

/* --- creation and removal --------------------------------------------------------------------- */

static tl_status grow(tl_context *ctx, void **array, int needed, int *capacity, size_t size) {
    if (needed <= *capacity) return TL_OK;
    int wanted = *capacity * 2 > 16 ? *capacity * 2 : 16;
    if (wanted < needed) wanted = needed;
    void *grown = tl_realloc(ctx, *array, (size_t)wanted * size);
    TL_CHECK_MEMORY(grown);
    *array = grown;
    *capacity = wanted;
    return TL_OK;
}

static void release_param(tl_context *ctx, tl_param *param) {
    tl_free(ctx, param->name);
    tl_tensor_free(param->value);
}

static void release_node(tl_context *ctx, tl_node *node) {
    tl_free(ctx, node->name);
    tl_free(ctx, node->attr);
    tl_free(ctx, node->input);
}

static void truncate_params(tl_graph *graph, int count) {
    while (graph->param_count > count) {
        tl_param *param = &graph->param[--graph->param_count];
        graph->param_elements -= tl_shape_count(&param->shape);
        release_param(graph->ctx, param);
    }
}

void tl_graph_truncate(tl_graph *graph, int last) {
    tl_graph_forget_packs(graph, last);
    while (graph->node_count > last + 1) {
        tl_node *node = &graph->node[--graph->node_count];
        truncate_params(graph, node->first_param);
        release_node(graph->ctx, node);
    }
}

void tl_graph_free(tl_graph *graph) {
    if (!graph) return;
    tl_graph_truncate(graph, -1);
    (void)tl_graph_set_pack_cache(graph, NULL);
    if (graph->store.close) graph->store.close(graph->store.user);
    pthread_mutex_destroy(&graph->lock);
    tl_free(graph->ctx, graph->node);
    tl_free(graph->ctx, graph->param);
    tl_free(graph->ctx, graph);
}

/* --- adding a node ---------------------------------------------------------------------------- */

static tl_status check_name(const tl_graph *graph, const char *name) {
    size_t length = name ? strlen(name) : 0;
    TL_CHECK(length > 0 && length <= MAX_NAME, TL_INVALID_ARGUMENT,
             "a node's name must have 1 to %d bytes, not %zu", MAX_NAME, length);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)name[i];
        TL_CHECK(byte >= 0x20 && byte != 0x7f, TL_INVALID_ARGUMENT,
                 "a node's name holds the control character 0x%02x", byte);
    }
    TL_CHECK(tl_graph_find_node(graph, name) < 0, TL_INVALID_ARGUMENT,
             "%s: another node has this name", name);
    return TL_OK;
}

/* That each is there; how many there may be, infer knows. */
static tl_status check_inputs(const tl_graph *graph, const char *name, int input_count,
                              const int *inputs) {
    for (int i = 0; i < input_count; i++) {
        TL_CHECK(inputs[i] >= 0 && inputs[i] < graph->node_count, TL_INVALID_ARGUMENT,
                 "%s: input %d is node %d, but the graph has %d", name, i, inputs[i],
                 graph->node_count);
    }
    return TL_OK;
}

/* Fills in the shapes of a node on its nominal input. */
static tl_status infer_nominal(const tl_graph *graph, const tl_node *node, tl_op_shapes *shapes) {
    tl_shape *in = tl_alloc_array(graph->ctx, (size_t)node->input_count, sizeof *in);
    TL_CHECK_MEMORY(in);
    for (int i = 0; i < node->input_count; i++) in[i] = graph->node[node->input[i]].shape;
    tl_status status = tl_node_infer(node, in, shapes);
    tl_free(graph->ctx, in);
    return status;
}

static tl_status check_param_limit(const tl_graph *graph, const tl_node *node,
                                   const tl_op_shapes *shapes) {
    int64_t elements = graph->param_elements;
    for (int i = 0; i < shapes->param_count; i++) {
        int64_t count = tl_shape_count(&shapes->param[i].shape);
        TL_CHECK(count > 0 && !__builtin_add_overflow(elements, count, &elements), TL_LIMIT,
                 "%s: the size of %s overflows", node->name, shapes->param[i].name);
    }
    TL_CHECK(elements <= graph->param_limit, TL_LIMIT,
             "%s: %lld parameters so far, expected at most %lld", node->name, (long long)elements,
             (long long)graph->param_limit);
    return TL_OK;
}

static tl_status allocate_param(tl_context *ctx, tl_param *param) {
    tl_status status = tl_tensor_new(ctx, TL_F32, &param->shape, &param->value);
    return status == TL_OK ? TL_OK : tl_fail_in(status, "%s", param->name);
}

static tl_status add_param(tl_graph *graph, const tl_node *node, const tl_param_spec *spec) {
    tl_context *ctx = graph->ctx;
    TL_TRY(grow(ctx, (void **)&graph->param, graph->param_count + 1, &graph->param_capacity,
                sizeof(tl_param)));
    tl_param param = {.shape = spec->shape,
                      .stored = -1,
                      .node = graph->node_count,
                      .learned = spec->learned,
                      .trainable = spec->learned,
                      .fan_in = spec->fan_in,
                      .fan_out = spec->fan_out,
                      .init = spec->init};
    param.name = tl_format(ctx, "%s.%s", node->name, spec->name);
    TL_CHECK_MEMORY(param.name);
    tl_status status = graph->hollow ? TL_OK : allocate_param(ctx, &param);
    if (status != TL_OK) {
        release_param(ctx, &param);
        return status;
    }
    graph->param[graph->param_count++] = param;
    graph->param_elements += tl_shape_count(&param.shape);
    return TL_OK;
}

static tl_status fill_node(tl_graph *graph, tl_node *node, const char *name, const char *attrs,
                           const int *inputs) {
    tl_context *ctx = graph->ctx;
    size_t input_bytes = (size_t)node->input_count * sizeof *inputs;
    node->name = tl_strdup(ctx, name);
    node->attr = tl_alloc_zero(ctx, node->op->attr_size);
    node->input = tl_alloc(ctx, input_bytes);
    if (!node->name || !node->attr || !node->input) return TL_NO_MEMORY;
    if (input_bytes) memcpy(node->input, inputs, input_bytes);

    tl_attr_init(node->op, node->attr);
    tl_status status = tl_attr_parse(node->op, attrs, node->attr);
    if (status != TL_OK) return tl_fail_in(status, "%s", name);
    tl_op_shapes shapes;
    TL_TRY(infer_nominal(graph, node, &shapes));
    TL_TRY(check_param_limit(graph, node, &shapes));
    node->shape = shapes.out;
    node->flops = shapes.flops;
    node->first_param = graph->param_count;
    node->param_count = shapes.param_count;
    for (int i = 0; i < shapes.param_count; i++) TL_TRY(add_param(graph, node, &shapes.param[i]));
    return TL_OK;
}

static tl_status append(tl_graph *graph, const tl_op *op, const char *name, const char *attrs,
                        int input_count, const int *inputs) {
    tl_node node = {.op = op, .input_count = input_count};
    TL_TRY(grow(graph->ctx, (void **)&graph->node, graph->node_count + 1, &graph->node_capacity,
                sizeof node));
    int params = graph->param_count;
    tl_status status = fill_node(graph, &node, name, attrs, inputs);
    if (status != TL_OK) {
        truncate_params(graph, params);
        release_node(graph->ctx, &node);
        return status;
    }
    graph->node[graph->node_count++] = node;
    return TL_OK;
}

tl_status tl_graph_add(tl_graph *graph, const char *op, const char *name, const char *attrs,
                       int input_count, const int *inputs, int *node) {
    TL_TRY(check_name(graph, name));
    const tl_op *found = tl_op_find(op);
    TL_CHECK(found, TL_INVALID_ARGUMENT, "%s: unknown operator '%s'", name, op);
    TL_CHECK(found->min_inputs > 0, TL_INVALID_ARGUMENT,
             "%s: a graph has only one %s, its first node", name, op);
    TL_TRY(check_inputs(graph, name, input_count, inputs));
    TL_CHECK(graph->node_count < TL_MAX_NODES, TL_LIMIT, "%s: a graph has at most %d nodes", name,
             TL_MAX_NODES);
    TL_TRY(append(graph, found, name, attrs, input_count, inputs));
    if (node) *node = graph->node_count - 1;
    return TL_OK;
}

tl_status tl_graph_create(tl_context *ctx, int64_t height, int64_t width, int64_t channels,
                          tl_graph **out) {
    *out = NULL;
    tl_graph *graph = tl_alloc_zero(ctx, sizeof *graph);
    TL_CHECK_MEMORY(graph);
    graph->ctx = ctx;
    graph->param_limit = INT64_MAX;
    int error = pthread_mutex_init(&graph->lock, NULL);
    if (error) {
        tl_free(ctx, graph);
        return tl_fail_errno(error, "creating a lock");
    }
    char attrs[96];
    snprintf(attrs, sizeof attrs, "height=%" PRId64 " width=%" PRId64 " channels=%" PRId64, height,
             width, channels);
    tl_status status = append(graph, tl_op_find("input"), "input", attrs, 0, NULL);
    if (status != TL_OK) {
        tl_graph_free(graph);
        return status;
    }
    *out = graph;
    return TL_OK;
}

tl_status tl_graph_allocate(tl_graph *graph) {
    size_t bytes = (size_t)graph->param_elements * sizeof(float), left = tl_memory_left(graph->ctx);
    TL_CHECK(bytes <= left, TL_LIMIT,
             "%zu bytes of parameters exceed the %zu that the memory limit leaves", bytes, left);
    for (int i = 0; i < graph->param_count; i++) {
        if (!graph->param[i].value) TL_TRY(allocate_param(graph->ctx, &graph->param[i]));
    }
    graph->hollow = false;
    return TL_OK;
}

void tl_graph_set_store(tl_graph *graph, const tl_param_store *store) {
    graph->store = *store;
    graph->hollow = false;
}

/* --- values in memory and in the store -------------------------------------------------------- */

tl_status tl_graph_load_param(tl_graph *graph, int index, float *out) {
    const tl_param *param = &graph->param[index];
    if (!param->value) {
        return graph->store.read(graph->store.user, param->stored, &param->shape, 0,
                                 param->shape.dim[0], out);
    }
    memcpy(out, tl_tensor_const_f32(param->value), tl_tensor_bytes(param->value));
    return TL_OK;
}

tl_status tl_graph_read_param(tl_graph *graph, int param, float *out) {
    pthread_mutex_lock(&graph->lock);
    tl_status status = tl_graph_load_param(graph, param, out);
    pthread_mutex_unlock(&graph->lock);
    return status;
}

tl_status tl_graph_settle_param(tl_graph *graph, int index) {
    tl_param *param = &graph->param[index];
    if (param->value) return TL_OK;
    tl_tensor *value = NULL;
    TL_TRY(tl_tensor_new(graph->ctx, TL_F32, &param->shape, &value));
    tl_status status = tl_graph_load_param(graph, index, tl_tensor_f32(value));
    if (status == TL_OK) {
        param->value = value;
    } else {
        tl_tensor_free(value);
    }
    return status;
}

tl_status tl_graph_hold_param(tl_graph *graph, int param) {
    pthread_mutex_lock(&graph->lock);
    tl_status status = tl_graph_settle_param(graph, param);
    pthread_mutex_unlock(&graph->lock);
    return status;
}

void tl_graph_move_values(tl_graph *from, tl_graph *to) {
    for (int i = 0; i < from->param_count; i++) {
        to->param[i].value = from->param[i].value;
        to->param[i].stored = from->param[i].stored;
        to->param[i].exposed = from->param[i].exposed;
        from->param[i].value = NULL;
    }
    tl_graph_set_store(to, &from->store);
    from->store = (tl_param_store){0};
    to->cache = from->cache;
    from->cache = NULL;
}

static tl_status visit_param(tl_graph *graph, int index, tl_param_fn visit, void *user) {
    const tl_param *param = &graph->param[index];
    if (param->value) return visit(user, index, tl_tensor_const_f32(param->value));
    size_t count = (size_t)tl_shape_count(&param->shape);
    float *value = tl_alloc_array(graph->ctx, count, sizeof *value);
    TL_CHECK_MEMORY(value);
    tl_status status = tl_graph_load_param(graph, index, value);
    if (status == TL_OK) status = visit(user, index, value);
    tl_free(graph->ctx, value);
    return status;
}

tl_status tl_graph_visit_params(tl_graph *graph, tl_param_fn visit, void *user) {
    tl_status status = TL_OK;
    pthread_mutex_lock(&graph->lock);
    for (int i = 0; i < graph->param_count && status == TL_OK; i++) {
        status = visit_param(graph, i, visit, user);
    }
    pthread_mutex_unlock(&graph->lock);
    return status;
}

/* --- initial values --------------------------------------------------------------------------- */

void tl_param_draw(const tl_param *param, tl_rng rng) {
    float *value = tl_tensor_f32(param->value);
    int64_t count = tl_tensor_count(param->value);
    double fan_in = (double)param->fan_in, fan_out = (double)param->fan_out;
    float deviation = (float)sqrt(2.0 / fmax(fan_out, 1.0));
    float bound = (float)sqrt(6.0 / fmax(fan_in + fan_out, 1.0));
    for (int64_t i = 0; i < count; i++) {
        switch (param->init) {
        case TL_INIT_ZERO:
            value[i] = 0;
            break;
        case TL_INIT_ONE:
            value[i] = 1;
            break;
        case TL_INIT_HE_NORMAL:
            value[i] = deviation * tl_rng_normal(&rng);
            break;
        case TL_INIT_GLOROT_UNIFORM:
            value[i] = tl_rng_range(&rng, -bound, bound);
            break;
        }
    }
}

void tl_graph_initialize(tl_graph *graph, int first, uint64_t seed) {
    for (int i = 0; i < graph->param_count; i++) {
        const tl_param *param = &graph->param[i];
        if (param->node < first) continue;
        uint64_t position = (uint64_t)(i - graph->node[param->node].first_param);
        tl_rng rng = tl_rng_make(seed, TL_RNG_INIT, (uint64_t)param->node, position);
        tl_param_draw(param, rng);
    }
}

/* --- questions -------------------------------------------------------------------------------- */

int tl_graph_find_node(const tl_graph *graph, const char *name) {
    for (int i = 0; i < graph->node_count; i++) {
        if (strcmp(graph->node[i].name, name) == 0) return i;
    }
    return -1;
}

int tl_graph_find_param(const tl_graph *graph, const char *name) {
    for (int i = 0; i < graph->param_count; i++) {
        if (strcmp(graph->param[i].name, name) == 0) return i;
    }
    return -1;
}

int tl_graph_output(const tl_graph *graph) {
    return graph->node_count - 1;
}

int tl_graph_logits(const tl_graph *graph) {
    int output = tl_graph_output(graph);
    const tl_node *node = &graph->node[output];
    return node->op->flags & TL_OP_PROBABILITY ? node->input[0] : output;
}

int64_t tl_graph_param_elements(const tl_graph *graph, bool trainable_only) {
    if (!trainable_only) return graph->param_elements;
    int64_t elements = 0;
    for (int i = 0; i < graph->param_count; i++) {
        if (graph->param[i].trainable) elements += tl_shape_count(&graph->param[i].shape);
    }
    return elements;
}

bool tl_node_trainable(const tl_graph *graph, int node) {
    const tl_node *n = &graph->node[node];
    for (int i = 0; i < n->param_count; i++) {
        if (graph->param[n->first_param + i].trainable) return true;
    }
    return false;
}

bool tl_node_learns(const tl_graph *graph, int node) {
    const tl_node *n = &graph->node[node];
    for (int i = 0; i < n->param_count; i++) {
        if (graph->param[n->first_param + i].learned) return true;
    }
    return false;
}

int tl_graph_first_live(const tl_graph *graph) {
    int after_frozen = 1;
    int node = 1;
    for (; node < graph->node_count && !tl_node_trainable(graph, node); node++) {
        if (tl_node_learns(graph, node)) after_frozen = node + 1;
    }
    for (int i = after_frozen; i < node; i++) {
        if (graph->node[i].op->flags & TL_OP_RANDOM) return i;
    }
    return node;
}

int tl_graph_boundary(const tl_graph *graph) {
    int live = tl_graph_first_live(graph);
    int earliest = graph->node_count; /* node that any node after `node` reads */
    for (int node = graph->node_count - 1; node > 0; node--) {
        if (node < live && earliest >= node) return node;
        const tl_node *n = &graph->node[node];
        for (int i = 0; i < n->input_count; i++) {
            if (n->input[i] < earliest) earliest = n->input[i];
        }
    }
    return 0;
}
