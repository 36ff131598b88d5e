/* Making, freezing and asking about models. */
#include "model/model.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* --- making -------------------------------------------------------------------------------- */

bool tl_model_sees_pictures(const tl_model *model) {
    const tl_shape *input = &model->graph->node[0].shape;
    return input->rank == 4 && input->dim[3] == 3;
}

/* Keras's scaling to -1 .. 1 suits a network that nobody has trained yet. */
static tl_status default_preprocess(tl_model *model) {
    model->preprocess_known = true;
    if (!tl_model_sees_pictures(model)) return TL_OK;
    return tl_model_set_preprocess(model, "keras-tf");
}

static tl_status fill_model(tl_model *model, const char *backbone) {
    model->backbone = tl_strdup(model->ctx, backbone);
    TL_CHECK_MEMORY(model->backbone);
    TL_TRY(tl_plan_pool_create(model->ctx, &model->plans));
    TL_TRY(tl_model_set_classes(model, NULL));
    return default_preprocess(model);
}

tl_status tl_model_wrap(tl_graph *graph, const char *backbone, int features, tl_model **out) {
    *out = NULL;
    tl_model *model = tl_alloc_zero(graph->ctx, sizeof *model);
    if (!model) {
        tl_graph_free(graph);
        return TL_NO_MEMORY;
    }
    model->ctx = graph->ctx;
    model->graph = graph;
    model->format = "none";
    model->features = features;
    tl_status status = fill_model(model, backbone);
    if (status != TL_OK) {
        tl_model_free(model);
        return status;
    }
    *out = model;
    return TL_OK;
}

void tl_model_free(tl_model *model) {
    if (!model) return;
    tl_context *ctx = model->ctx;
    tl_plan_pool_free(model->plans);
    tl_graph_free(model->graph);
    tl_free(ctx, model->backbone);
    tl_free(ctx, model->file);
    tl_free(ctx, model->origin);
    tl_free(ctx, model->class_name);
    tl_free(ctx, model->class_text);
    tl_free(ctx, model->training);
    tl_free(ctx, model->golden_input);
    tl_free(ctx, model->golden_output);
    tl_free(ctx, model);
}

tl_status tl_model_create(tl_context *ctx, const char *backbone, int classes, uint64_t seed,
                          tl_model **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    TL_CHECK(ctx && backbone, TL_INVALID_ARGUMENT, "context or backbone is NULL");
    const tl_backbone *found = NULL;
    TL_TRY(tl_backbone_require(backbone, &found));
    TL_CHECK(classes >= 0 && classes <= TL_MAX_CLASSES, TL_INVALID_ARGUMENT,
             "classes is %d, expected 1 to %d, or 0 for the backbone's own", classes,
             TL_MAX_CLASSES);
    tl_graph *graph = NULL;
    int features = 0;
    TL_TRY(tl_backbone_build(ctx, found, found->variant, classes ? classes : found->classes, false,
                             &graph, &features));
    tl_graph_initialize(graph, 0, seed);
    return tl_backbone_wrap(found, found->variant, graph, features, out);
}

tl_status tl_model_create_empty(tl_context *ctx, int height, int width, int channels,
                                tl_model **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    TL_CHECK(ctx, TL_INVALID_ARGUMENT, "context is NULL");
    tl_graph *graph = NULL;
    TL_TRY(tl_graph_create(ctx, height, width, channels, &graph));
    return tl_model_wrap(graph, "custom", 0, out);
}

tl_status tl_model_set_dtype(tl_model *model, tl_dtype dtype) {
    TL_CHECK(model, TL_INVALID_ARGUMENT, "model is NULL");
    TL_TRY(tl_context_check_dtype(model->ctx, dtype));
    model->dtype = dtype;
    return TL_OK;
}

tl_status tl_model_set_preprocess(tl_model *model, const char *preset) {
    TL_CHECK(model && preset, TL_INVALID_ARGUMENT, "model or preset is NULL");
    TL_CHECK(tl_model_sees_pictures(model), TL_INVALID_ARGUMENT,
             "preprocess %s: the model's input is no picture of 3 channels", preset);
    const int64_t *dim = model->graph->node[0].shape.dim;
    tl_preprocess preprocess;
    TL_TRY(tl_preprocess_preset(preset, (int)dim[2], (int)dim[1], &preprocess));
    if (preprocess.width != model->preprocess.width ||
        preprocess.height != model->preprocess.height)
        tl_model_forget_golden(model);
    model->preprocess = preprocess;
    model->preprocess_known = true;
    tl_model_changed(model);
    return TL_OK;
}

tl_status tl_model_doubt_preprocess(tl_model *model, const char *origin) {
    char *copy = tl_strdup(model->ctx, origin);
    TL_CHECK_MEMORY(copy);
    tl_free(model->ctx, model->origin);
    model->origin = copy;
    model->preprocess_known = false;
    return TL_OK;
}

tl_status tl_model_require_preprocess(const tl_model *model) {
    TL_CHECK(model->preprocess_known || !tl_model_sees_pictures(model), TL_INVALID_ARGUMENT,
             "preprocessing of %s is not known: choose one of " TL_PREPROCESS_PRESETS
             " (--preprocess, tl_model_set_preprocess())",
             model->origin);
    return TL_OK;
}

void tl_model_changed(tl_model *model) {
    tl_plan_pool_clear(model->plans);
    tl_graph_changed(model->graph);
    tl_free(model->ctx, model->golden_output);
    model->golden_output = NULL;
}

tl_status tl_model_set_training_summary(tl_model *model, const char *json) {
    json_t *parsed = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    bool object = json_is_object(parsed);
    json_decref(parsed);
    TL_CHECK(object, TL_INVALID_ARGUMENT, "the training summary is no JSON object");
    char *copy = tl_strdup(model->ctx, json);
    TL_CHECK_MEMORY(copy);
    tl_free(model->ctx, model->training);
    model->training = copy;
    return TL_OK;
}

/* --- structure ----------------------------------------------------------------------------- */

void tl_model_input_size(const tl_model *model, int *height, int *width, int *channels) {
    const tl_shape *input = model ? &model->graph->node[0].shape : NULL;
    bool picture = input && input->rank == 4;
    if (height) *height = picture ? (int)input->dim[1] : 0;
    if (width) *width = picture ? (int)input->dim[2] : 0;
    if (channels) *channels = input ? (int)input->dim[input->rank - 1] : 0;
}

int tl_model_layer_count(const tl_model *model) {
    return model ? model->graph->node_count : 0;
}

static const tl_node *layer_at(const tl_model *model, int index) {
    bool inside = model && index >= 0 && index < model->graph->node_count;
    return inside ? &model->graph->node[index] : NULL;
}

const char *tl_model_layer_name(const tl_model *model, int index) {
    const tl_node *node = layer_at(model, index);
    return node ? node->name : NULL;
}

const char *tl_model_layer_type(const tl_model *model, int index) {
    const tl_node *node = layer_at(model, index);
    return node ? node->op->name : NULL;
}

int tl_model_param_count(const tl_model *model) {
    return model ? model->graph->param_count : 0;
}

static tl_param *param_at(const tl_model *model, int index) {
    bool inside = model && index >= 0 && index < model->graph->param_count;
    return inside ? &model->graph->param[index] : NULL;
}

const char *tl_model_param_name(const tl_model *model, int index) {
    const tl_param *param = param_at(model, index);
    return param ? param->name : NULL;
}

tl_tensor *tl_model_param(tl_model *model, int index) {
    tl_param *param = param_at(model, index);
    if (!param || tl_graph_hold_param(model->graph, index) != TL_OK) return NULL;
    if (!param->exposed) {
        /* From now on the caller may write to it at any time. */
        param->exposed = true;
        tl_plan_pool_expose(model->plans);
    }
    return param->value;
}

double tl_model_flops(const tl_model *model) {
    double flops = 0;
    for (int i = 0; model && i < model->graph->node_count; i++)
        flops += model->graph->node[i].flops;
    return flops;
}

tl_status tl_model_set_timing(tl_model *model, bool on) {
    TL_CHECK(model, TL_INVALID_ARGUMENT, "model is NULL");
    tl_graph_set_timing(model->graph, on);
    return TL_OK;
}

/* --- freezing ------------------------------------------------------------------------------ */

static void freeze_node(tl_graph *graph, int node, bool frozen) {
    const tl_node *n = &graph->node[node];
    for (int i = n->first_param; i < n->first_param + n->param_count; i++)
        graph->param[i].trainable = graph->param[i].learned && !frozen;
}

bool tl_layer_prefix_matches(const tl_layer_prefix *prefix, const char *name) {
    size_t length = strlen(prefix->text);
    if (strncmp(name, prefix->text, length) != 0) return false;
    bool ends = length == 0 || strchr("._", prefix->text[length - 1]) || strchr("._", name[length]);
    return ends || !prefix->whole;
}

tl_layer_prefix tl_layer_prefix_make(const tl_graph *graph, int count, const char *text) {
    tl_layer_prefix prefix = {text, true};
    for (int i = 0; i < count; i++)
        if (tl_layer_prefix_matches(&prefix, graph->node[i].name)) return prefix;
    prefix.whole = false;
    return prefix;
}

tl_status tl_model_freeze(tl_model *model, const char *prefix, bool frozen) {
    TL_CHECK(model && prefix, TL_INVALID_ARGUMENT, "model or prefix is NULL");
    tl_graph *graph = model->graph;
    tl_layer_prefix wanted = tl_layer_prefix_make(graph, graph->node_count, prefix);
    int matches = 0;
    for (int i = 0; i < graph->node_count; i++) {
        if (!tl_layer_prefix_matches(&wanted, graph->node[i].name)) continue;
        freeze_node(graph, i, frozen);
        matches++;
    }
    TL_CHECK(matches > 0, TL_NOT_FOUND,
             "freeze: no layer's name begins with '%s'; the first layers are %s, %s, ...", prefix,
             model->graph->node[0].name,
             model->graph->node[tl_graph_output(model->graph) > 0].name);
    tl_plan_pool_clear(model->plans);
    return TL_OK;
}

tl_status tl_model_freeze_first(tl_model *model, int count) {
    TL_CHECK(model, TL_INVALID_ARGUMENT, "model is NULL");
    TL_CHECK(count >= 0 && count <= model->graph->node_count, TL_INVALID_ARGUMENT,
             "freeze: %d layers, but the model has %d", count, model->graph->node_count);
    for (int i = 0; i < model->graph->node_count; i++) freeze_node(model->graph, i, i < count);
    tl_plan_pool_clear(model->plans);
    return TL_OK;
}

void tl_string_free(tl_context *ctx, char *text) {
    if (ctx) tl_free(ctx, text);
}
