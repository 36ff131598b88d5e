/* Cutting a network behind its backbone, putting heads on, adding layers, other input sizes. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/build.h"
#include "model/model.h"

/* --- heads ----------------------------------------------------------------------------------- */

static tl_status cut(tl_model *model) {
    tl_graph_truncate(model->graph, model->features);
    tl_model_changed(model);
    return tl_model_set_classes(model, NULL);
}

tl_status tl_model_remove_head(tl_model *model) {
    TL_CHECK(model, TL_INVALID_ARGUMENT, "model is NULL");
    TL_CHECK(tl_graph_output(model->graph) > model->features, TL_INVALID_ARGUMENT,
             "the model has no head: its last layer %s gives the features",
             model->graph->node[model->features].name);
    return cut(model);
}

/* One part of "256,relu,dropout:0.5". */
typedef struct head_part {
    const char *op;
    char attributes[48];
} head_part;

static const char *const head_activations[] = {"relu", "relu6", "sigmoid", "silu", "hard_swish"};

static const char *find_activation(const char *text) {
    for (size_t i = 0; i < sizeof head_activations / sizeof head_activations[0]; i++)
        if (strcmp(text, head_activations[i]) == 0) return head_activations[i];
    return NULL;
}

static tl_status parse_part(const char *text, head_part *out) {
    *out = (head_part){0};
    size_t digits = strspn(text, "0123456789");
    if (digits > 0 && !text[digits]) {
        long units = digits < 8 ? strtol(text, NULL, 10) : 0;
        TL_CHECK(units >= 1 && units <= TL_MAX_CLASSES, TL_INVALID_ARGUMENT,
                 "head: a dense layer of %s units, expected 1 to %d", text, TL_MAX_CLASSES);
        out->op = "dense";
        snprintf(out->attributes, sizeof out->attributes, "units=%ld", units);
    } else if (strncmp(text, "dropout:", 8) == 0) {
        out->op = "dropout";
        snprintf(out->attributes, sizeof out->attributes, "rate=%.32s", text + 8);
    } else {
        out->op = strcmp(text, "batch_norm") == 0 ? "batch_norm" : find_activation(text);
    }
    TL_CHECK(out->op, TL_INVALID_ARGUMENT,
             "head: '%s' is unknown; a part is a number of units, relu, relu6, sigmoid, silu, "
             "hard_swish, batch_norm or dropout:RATE",
             text);
    return TL_OK;
}

/* The next part of a list, up to a comma, without blanks around it. Advances *list, to NULL
 * behind the last. */
static tl_status next_part(const char **list, head_part *out) {
    char text[64];
    const char *begin = *list + strspn(*list, " ");
    size_t length = strcspn(begin, ",");
    *list = begin[length] ? begin + length + 1 : NULL;
    while (length > 0 && begin[length - 1] == ' ') length--;
    TL_CHECK(length < sizeof text, TL_INVALID_ARGUMENT, "head: '%.40s...' is unknown", begin);
    memcpy(text, begin, length);
    text[length] = '\0';
    return parse_part(text, out);
}

static tl_status check_attributes(tl_context *ctx, const head_part *part) {
    const tl_op *op = tl_op_find(part->op);
    void *attr = tl_alloc_zero(ctx, op->attr_size);
    TL_CHECK_MEMORY(attr);
    tl_attr_init(op, attr);
    tl_status status = tl_attr_parse(op, part->attributes, attr);
    tl_free(ctx, attr);
    return status == TL_OK ? TL_OK : tl_fail_in(status, "head");
}

tl_status tl_head_check(tl_context *ctx, const char *layers) {
    if (layers && !*layers) return TL_OK;
    while (layers) {
        head_part part;
        TL_TRY(next_part(&layers, &part));
        TL_TRY(check_attributes(ctx, &part));
    }
    return TL_OK;
}

static const char *pool_operator(const char *pool) {
    if (strcmp(pool, "gap") == 0) return "global_avg_pool";
    if (strcmp(pool, "gmp") == 0) return "global_max_pool";
    return strcmp(pool, "flatten") == 0 ? "flatten" : NULL;
}

static tl_status check_names(int classes, const char *const *names) {
    for (int i = 0; names && i < classes; i++) {
        TL_CHECK(names[i], TL_INVALID_ARGUMENT, "the name of class %d is NULL", i);
        TL_CHECK(tl_utf8_valid(names[i], strlen(names[i])), TL_INVALID_ARGUMENT,
                 "the name of class %d is not UTF-8", i);
    }
    return TL_OK;
}

static tl_status check_head(const tl_model *model, const char *pool, const char *layers,
                            const char *activation, int classes, const char *const *names) {
    TL_CHECK(model && pool && activation, TL_INVALID_ARGUMENT, "model, pool or activation is NULL");
    TL_CHECK(pool_operator(pool), TL_INVALID_ARGUMENT,
             "head: pool is '%s', expected gap, gmp or flatten", pool);
    int rank = model->graph->node[model->features].shape.rank;
    TL_CHECK(rank == 4 || strcmp(pool, "flatten") == 0, TL_INVALID_ARGUMENT,
             "head: pool is '%s', but layer %s gives no map to pool over; use flatten", pool,
             model->graph->node[model->features].name);
    bool sigmoid = strcmp(activation, "sigmoid") == 0;
    TL_CHECK(sigmoid || strcmp(activation, "softmax") == 0, TL_INVALID_ARGUMENT,
             "head: activation is '%s', expected softmax or sigmoid", activation);
    TL_CHECK(!sigmoid || classes == 2, TL_INVALID_ARGUMENT,
             "head: sigmoid is for 2 classes, got %d; use softmax", classes);
    TL_CHECK(classes >= 2 && classes <= TL_MAX_CLASSES, TL_INVALID_ARGUMENT,
             "head: %d classes, expected 2 to %d", classes, TL_MAX_CLASSES);
    TL_TRY(check_names(classes, names));
    return tl_head_check(model->ctx, layers);
}

static tl_status build_layers(tl_builder *b, const char *layers) {
    for (int i = 1; layers && b->status == TL_OK; i++) {
        head_part part;
        char name[32];
        TL_TRY(next_part(&layers, &part));
        snprintf(name, sizeof name, "%d.%s", i, part.op);
        tl_build_with(b, part.op, name, "%s", part.attributes);
    }
    return b->status;
}

static tl_status build_head(tl_model *model, const char *pool, const char *layers,
                            const char *activation, int classes, uint64_t seed) {
    tl_graph *graph = model->graph;
    tl_builder b = tl_builder_make(graph);
    bool sigmoid = strcmp(activation, "sigmoid") == 0;
    tl_build_scope(&b, "head.");
    tl_build(&b, pool_operator(pool), "pool");
    if (layers && *layers) TL_TRY(build_layers(&b, layers));
    tl_build_with(&b, "dense", "classifier", "units=%d", sigmoid ? 1 : classes);
    tl_build(&b, activation, activation);
    TL_TRY(b.status);
    tl_graph_initialize(graph, model->features + 1, seed);
    return TL_OK;
}

tl_status tl_model_set_head(tl_model *model, const char *pool, const char *layers,
                            const char *activation, int classes, const char *const *names,
                            uint64_t seed) {
    TL_TRY(check_head(model, pool, layers, activation, classes, names));
    TL_TRY(cut(model));
    tl_status status = build_head(model, pool, layers, activation, classes, seed);
    if (status == TL_OK) status = tl_model_set_classes(model, names);
    /* What failed past the checks, for want of memory, leaves a model without head. */
    if (status != TL_OK) tl_graph_truncate(model->graph, model->features);
    return status;
}

/* --- layers of one's own ------------------------------------------------------------------------
 */

static tl_status find_inputs(const tl_model *model, const char *name, const char *const *inputs,
                             int count, int *found) {
    for (int i = 0; i < count; i++) {
        TL_CHECK(inputs[i], TL_INVALID_ARGUMENT, "%s: the name of input %d is NULL", name, i);
        found[i] = tl_graph_find_node(model->graph, inputs[i]);
        TL_CHECK(found[i] >= 0, TL_NOT_FOUND, "%s: there is no layer '%s' to read", name,
                 inputs[i]);
    }
    return TL_OK;
}

static tl_status add_node(tl_model *model, const char *type, const char *name,
                          const char *attributes, const char *const *inputs, int input_count,
                          int *node) {
    int last = tl_graph_output(model->graph);
    if (input_count == 0) return tl_graph_add(model->graph, type, name, attributes, 1, &last, node);
    int *found = tl_alloc_array(model->ctx, (size_t)input_count, sizeof *found);
    TL_CHECK_MEMORY(found);
    tl_status status = find_inputs(model, name, inputs, input_count, found);
    if (status == TL_OK)
        status = tl_graph_add(model->graph, type, name, attributes, input_count, found, node);
    tl_free(model->ctx, found);
    return status;
}

tl_status tl_model_add(tl_model *model, const char *type, const char *name, const char *attributes,
                       const char *const *inputs, int input_count, uint64_t seed) {
    TL_CHECK(model && type && name, TL_INVALID_ARGUMENT, "model, type or name is NULL");
    TL_CHECK(input_count >= 0 && (inputs || input_count == 0), TL_INVALID_ARGUMENT,
             "%s: %d inputs without names", name, input_count);
    bool headless = tl_graph_output(model->graph) == model->features;
    int node = 0;
    TL_TRY(add_node(model, type, name, attributes, inputs, input_count, &node));
    tl_graph_initialize(model->graph, node, seed);
    tl_model_changed(model);
    tl_status status = tl_model_set_classes(model, NULL);
    if (status != TL_OK) {
        tl_graph_truncate(model->graph, node - 1);
        return status;
    }
    /* A network of one's own is all backbone until it gets a head. */
    if (headless && strcmp(model->backbone, "custom") == 0) model->features = node;
    return TL_OK;
}

/* --- another input size
 * --------------------------------------------------------------------------- */

static tl_status graph_for_size(const tl_graph *graph, int height, int width, tl_graph **out) {
    json_t *json = tl_graph_to_json(graph);
    TL_CHECK_MEMORY(json);
    const tl_shape *input = &graph->node[0].shape;
    int failed =
        json_object_set_new(json, "input", json_pack("[iii]", height, width, (int)input->dim[3]));
    tl_status status = failed ? TL_NO_MEMORY : tl_graph_from_json(graph->ctx, json, INT64_MAX, out);
    json_decref(json);
    return status;
}

static tl_status check_same_params(const tl_graph *from, const tl_graph *to) {
    for (int i = 0; i < from->param_count; i++) {
        const tl_shape *old = &from->param[i].shape, *new = &to->param[i].shape;
        char is[TL_SHAPE_TEXT], was[TL_SHAPE_TEXT];
        TL_CHECK(tl_shape_equal(old, new), TL_SHAPE,
                 "%s would become %s, but is %s: this network has one input size only",
                 from->param[i].name, tl_shape_text(new, is), tl_shape_text(old, was));
    }
    return TL_OK;
}

tl_status tl_model_resize_input(tl_model *model, int height, int width) {
    const tl_shape *input = &model->graph->node[0].shape;
    TL_CHECK(input->rank == 4, TL_INVALID_ARGUMENT, "the model's input is no picture");
    TL_CHECK(height >= 1 && width >= 1 && height <= TL_IMAGE_MAX_SIDE && width <= TL_IMAGE_MAX_SIDE,
             TL_INVALID_ARGUMENT, "an input of %d x %d pixels, expected 1 to %d each", height,
             width, (int)TL_IMAGE_MAX_SIDE);
    if (input->dim[1] == height && input->dim[2] == width) return TL_OK;
    tl_graph *graph = NULL;
    TL_TRY(graph_for_size(model->graph, height, width, &graph));
    tl_status status = check_same_params(model->graph, graph);
    if (status == TL_OK) {
        tl_graph_move_values(model->graph, graph);
        tl_graph *old = model->graph;
        model->graph = graph;
        graph = old;
        tl_preprocess_resize(&model->preprocess, width, height);
        tl_model_forget_golden(model);
        tl_model_changed(model);
    }
    tl_graph_free(graph);
    return status;
}
