/* A model as one JSON object. */
#include <jansson.h>

#include "model/model.h"

char *tl_json_text(tl_context *ctx, json_t *json, size_t flags) {
    size_t size = json ? json_dumpb(json, NULL, 0, flags) : 0;
    char *text = size > 0 ? tl_alloc(ctx, size + 1) : NULL;
    if (text) {
        json_dumpb(json, text, size, flags);
        text[size] = '\0';
    }
    json_decref(json);
    if (size == 0) tl_fail(TL_NO_MEMORY, "no memory for JSON");
    return text;
}

static json_t *describe_shape(const tl_shape *shape) {
    json_t *dims = json_array();
    for (int i = 1; i < shape->rank; i++) json_array_append_new(dims, json_integer(shape->dim[i]));
    return dims;
}

static void describe_time(json_t *layer, const tl_node *node) {
    double forward = (double)atomic_load(&node->forward_time);
    double backward = (double)atomic_load(&node->backward_time);
    json_object_set_new(layer, "forward_seconds", json_real(1e-9 * forward));
    json_object_set_new(layer, "backward_seconds", json_real(1e-9 * backward));
}

static json_t *describe_layer(const tl_graph *graph, const tl_node *node) {
    int64_t parameters = 0;
    bool trainable = false;
    for (int i = node->first_param; i < node->first_param + node->param_count; i++) {
        parameters += tl_shape_count(&graph->param[i].shape);
        trainable |= graph->param[i].trainable;
    }
    json_t *layer =
        json_pack("{ss ss so sI sb sf}", "name", node->name, "type", node->op->name, "output",
                  describe_shape(&node->shape), "parameters", (json_int_t)parameters, "trainable",
                  (int)trainable, "flops", node->flops);
    if (layer && graph->timed) describe_time(layer, node);
    return layer;
}

static json_t *describe_layers(const tl_graph *graph) {
    json_t *layers = json_array();
    for (int i = 0; i < graph->node_count; i++)
        json_array_append_new(layers, describe_layer(graph, &graph->node[i]));
    return layers;
}

static json_t *describe_input(const tl_model *model) {
    int height, width, channels;
    tl_model_input_size(model, &height, &width, &channels);
    return json_pack("{si si si}", "height", height, "width", width, "channels", channels);
}

static json_t *describe_training(const tl_model *model) {
    return model->training ? json_loads(model->training, 0, NULL) : json_null();
}

json_t *tl_model_classes_json(const tl_model *model) {
    json_t *classes = json_array();
    for (int i = 0; i < model->class_count; i++)
        json_array_append_new(classes, json_string(model->class_name[i]));
    return classes;
}

static json_t *describe_memory(const tl_model *model, tl_status *status) {
    tl_memory memory = {.size = sizeof memory};
    *status = tl_model_memory(model, 1, &memory);
    return json_pack("{sI}", "inference_bytes_batch1", (json_int_t)memory.total);
}

tl_status tl_model_describe(const tl_model *model, char **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "json is NULL");
    *out = NULL;
    TL_CHECK(model, TL_INVALID_ARGUMENT, "model is NULL");
    tl_status status = TL_OK;
    json_t *memory = describe_memory(model, &status);
    if (status != TL_OK) {
        json_decref(memory);
        return status;
    }
    json_t *preprocess = tl_model_sees_pictures(model) && model->preprocess_known
                             ? tl_preprocess_to_json(&model->preprocess)
                             : json_null();
    json_t *json =
        json_pack("{ss ss ss? so so so sI sI sf so so so}", "backbone", model->backbone, "format",
                  model->format, "checkpoint_key", model->wrapper, "input", describe_input(model),
                  "classes", tl_model_classes_json(model), "preprocess", preprocess, "parameters",
                  (json_int_t)tl_graph_param_elements(model->graph, false), "trainable_parameters",
                  (json_int_t)tl_graph_param_elements(model->graph, true), "flops",
                  tl_model_flops(model), "memory", memory, "layers", describe_layers(model->graph),
                  "training", describe_training(model));
    *out = tl_json_text(model->ctx, json, JSON_INDENT(2));
    return *out ? TL_OK : TL_NO_MEMORY;
}
