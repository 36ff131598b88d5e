#include "model/onnx_import.h"

#include <jansson.h>

#include <stdio.h>
#include <string.h>

#include "model/model.h"

enum { MIN_OPSET = 7, MAX_OPSET = 21 };

/* An operator that we do not have, and the nodes that use it. */
typedef struct missing_operator {
    const tl_onnx_node *first;
    int nodes;
} missing_operator;

enum { MAX_MISSING = 12 }; /* operators in one message */

static void note_missing(const tl_onnx *onnx, const tl_onnx_node *node,
                         missing_operator list[MAX_MISSING]) {
    for (int i = 0; i < MAX_MISSING; i++) {
        if (list[i].first && !tl_onnx_same(onnx, list[i].first->type, node->type)) continue;
        if (!list[i].first) list[i].first = node;
        list[i].nodes++;
        return;
    }
}

static void describe_missing(const tl_onnx *onnx, const missing_operator list[MAX_MISSING],
                             char *text, size_t size) {
    size_t used = 0;
    for (int i = 0; i < MAX_MISSING && list[i].first && used < size; i++) {
        const tl_onnx_node *node = list[i].first;
        char more[32] = "";
        if (list[i].nodes > 1) snprintf(more, sizeof more, " and %d more", list[i].nodes - 1);
        used +=
            (size_t)snprintf(text + used, size - used, "%s%.*s (node '%.*s'%s)", i ? ", " : "",
                             TL_ONNX_TEXT(onnx, node->type), TL_ONNX_TEXT(onnx, node->name), more);
    }
}

/* All operators of the file that we do not have, in one message. */
static tl_status check_operators(const tl_onnx *onnx, const tl_onnx_role *role) {
    char text[800] = "";
    missing_operator list[MAX_MISSING] = {0};
    int missing = 0;
    for (int i = 0; i < onnx->node_count; i++) {
        const tl_onnx_node *node = &onnx->node[i];
        if (!role[i].needed || role[i].pattern || tl_onnx_handler_find(onnx, node)) continue;
        note_missing(onnx, node, list);
        missing++;
    }
    if (missing == 0) return TL_OK;
    describe_missing(onnx, list, text, sizeof text);
    return tl_fail(TL_UNSUPPORTED, "%s: opset %lld: %d nodes use unsupported operators: %s",
                   onnx->name, (long long)onnx->opset, missing, text);
}

/* --- input ------------------------------------------------------------------------------------ */

enum { DEFAULT_SIDE = 224, MAX_SIDE = 65535 }; /* the former of networks exported for any size */

/* The graph's one input that is no initializer. */
static tl_status find_input(tl_onnx_importer *im, const tl_onnx_value **out) {
    *out = NULL;
    for (int i = 0; i < im->onnx->input_count; i++) {
        if (tl_onnx_lookup(&im->values, im->onnx->input[i].name, false)) continue;
        TL_CHECK(!*out, TL_UNSUPPORTED, "%s: the network has several inputs: '%.*s' and '%.*s'",
                 im->onnx->name, TL_ONNX_TEXT(im->onnx, (*out)->name),
                 TL_ONNX_TEXT(im->onnx, im->onnx->input[i].name));
        *out = &im->onnx->input[i];
    }
    TL_CHECK(*out, TL_CORRUPT, "%s: the network has no input", im->onnx->name);
    return TL_OK;
}

static int64_t known_or(int64_t dim, int64_t otherwise) {
    return dim > 0 ? dim : otherwise;
}

/* Pictures come as N C H W or as N H W C: which of both, the number of channels tells. */
static tl_status make_input(tl_onnx_importer *im) {
    const tl_onnx_value *input = NULL;
    TL_TRY(find_input(im, &input));
    TL_CHECK(input->rank == 4, TL_UNSUPPORTED,
             "%s: the input '%.*s' has rank %d, expected pictures", im->onnx->name,
             TL_ONNX_TEXT(im->onnx, input->name), input->rank);
    const int64_t *d = input->dim;
    bool last = d[1] != 3 && (d[3] == 3 || (d[1] > 4 && d[3] > 0 && d[3] <= 4));
    int64_t c = known_or(d[last ? 3 : 1], 3);
    int64_t h = known_or(d[last ? 1 : 2], DEFAULT_SIDE);
    int64_t w = known_or(d[last ? 2 : 3], DEFAULT_SIDE);
    TL_CHECK(h <= MAX_SIDE && w <= MAX_SIDE && c <= 1 << 24, TL_UNSUPPORTED,
             "%s: offset %u: the input is %lld x %lld with %lld channels", im->onnx->name,
             input->offset, (long long)h, (long long)w, (long long)c);
    TL_TRY(tl_graph_create(im->onnx->ctx, h, w, c, &im->graph));
    im->batch = known_or(d[0], 1);
    tl_onnx_entry *entry = tl_onnx_lookup(&im->values, input->name, true);
    entry->kind = TL_ONNX_NODE;
    entry->node = 0;
    entry->layout = last ? TL_ONNX_NHWC : TL_ONNX_NCHW;
    entry->shape =
        last ? tl_shape_make(4, (int64_t)1, h, w, c) : tl_shape_make(4, (int64_t)1, c, h, w);
    return TL_OK;
}

/* --- weights ---------------------------------------------------------------------------------- */

/* What constants spread over channels may add to the weights of the file. */
enum { SPREAD_ELEMENTS = 1 << 20 };

static int64_t float_elements(const tl_onnx_tensor *tensor) {
    bool floats = tensor->dtype == TL_F32 || tensor->dtype == TL_F16 || tensor->dtype == TL_BF16 ||
                  tensor->dtype == TL_F64;
    return floats ? tensor->count : 0;
}

/* Nodes may share weights, but a small file must not become a large network. */
static int64_t weight_limit(const tl_onnx *onnx) {
    int64_t limit = SPREAD_ELEMENTS;
    for (int i = 0; i < onnx->initializer_count; i++)
        limit += float_elements(&onnx->initializer[i]);
    for (int i = 0; i < onnx->node_count; i++) {
        for (int k = 0; k < onnx->node[i].attr_count; k++) {
            const tl_onnx_tensor *tensor = onnx->node[i].attr[k].tensor;
            if (tensor) limit += float_elements(tensor);
        }
    }
    return limit;
}

/* --- nodes ------------------------------------------------------------------------------------ */

/* Every element at its own place: the same activation, where the shape is the same too. */
static tl_status import_as_strided(tl_onnx_importer *im, const tl_onnx_entry *x,
                                   const tl_onnx_tensor *index) {
    tl_shape shape = index->shape;
    if (shape.rank > 0 && (shape.dim[0] == im->batch || shape.dim[0] == 1)) shape.dim[0] = 1;
    if (tl_shape_equal(&shape, &x->shape)) return tl_onnx_define_node(im, x, x->node);
    char from[TL_SHAPE_TEXT], to[TL_SHAPE_TEXT];
    return tl_onnx_fail(im, TL_UNSUPPORTED, "gathering %s as %s", tl_shape_text(&x->shape, from),
                        tl_shape_text(&shape, to));
}

static tl_status import_pattern(tl_onnx_importer *im, const tl_onnx_role *role) {
    const tl_onnx_entry *value = NULL, *gamma = NULL, *beta = NULL;
    tl_onnx_entry x;
    TL_TRY(tl_onnx_value_of(im, role->x, &value));
    TL_TRY(tl_onnx_settle(im, value, &x));
    if (strcmp(role->pattern, "layer_norm") == 0) {
        TL_TRY(tl_onnx_value_of(im, role->gamma, &gamma));
        TL_TRY(tl_onnx_value_of(im, role->beta, &beta));
        return tl_onnx_emit_layer_norm(im, &x, role->axis, role->epsilon, gamma, beta);
    }
    if (role->index) return import_as_strided(im, &x, role->index);
    int node = 0;
    TL_TRY(tl_onnx_emit(im, role->pattern, "", 1, &x.node, &node));
    return tl_onnx_define_node(im, &x, node);
}

static tl_status import_node(tl_onnx_importer *im, int index) {
    bool folded = false;
    im->at = &im->onnx->node[index];
    if (im->role[index].pattern) return import_pattern(im, &im->role[index]);
    TL_TRY(tl_onnx_fold(im, &folded));
    if (folded) return TL_OK;
    return tl_onnx_handler_find(im->onnx, im->at)(im);
}

/* Whatever waits at the very end has nobody to wait for, and the answer must be the last node. */
static tl_status finish_output(tl_onnx_importer *im) {
    tl_onnx_text name = im->onnx->output[0].name;
    const tl_onnx_node output = {.name = name,
                                 .input_count = 1,
                                 .input = &name,
                                 .output_count = 1,
                                 .output = &name,
                                 .offset = im->onnx->output[0].offset};
    tl_onnx_entry x;
    im->at = &output;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    if (x.chw[0] || x.layout > TL_ONNX_POOLED) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "the network ends in the middle of a reshape");
    }
    int node = x.node;
    if (node == tl_graph_output(im->graph)) return TL_OK;
    return tl_onnx_emit(im, "identity", "", 1, &x.node, &node);
}

static tl_status define_constants(tl_onnx_importer *im) {
    tl_onnx *onnx = im->onnx;
    int64_t names = (int64_t)onnx->initializer_count + onnx->input_count;
    for (int i = 0; i < onnx->node_count; i++) names += onnx->node[i].output_count;
    TL_TRY(tl_onnx_table_create(onnx, names, &im->values));
    for (int i = 0; i < onnx->initializer_count; i++) {
        TL_TRY(tl_onnx_define_initializer(im, &onnx->initializer[i]));
    }
    return TL_OK;
}

static tl_status import_nodes(tl_onnx_importer *im) {
    tl_onnx *onnx = im->onnx;
    TL_CHECK(onnx->output_count > 0, TL_CORRUPT, "%s: the network has no output", onnx->name);
    TL_CHECK(onnx->opset >= MIN_OPSET && onnx->opset <= MAX_OPSET, TL_UNSUPPORTED,
             "%s: opset %lld, expected %d to %d", onnx->name, (long long)onnx->opset, MIN_OPSET,
             MAX_OPSET);
    TL_TRY(tl_onnx_allocate(onnx, onnx->node_count, sizeof *im->role, &im->role));
    TL_TRY(tl_onnx_assign_roles(onnx, im->role));
    TL_TRY(check_operators(onnx, im->role));
    TL_TRY(define_constants(im));
    TL_TRY(make_input(im));
    im->graph->param_limit = weight_limit(onnx);
    for (int i = 0; i < onnx->node_count; i++) {
        if (im->role[i].needed) TL_TRY(import_node(im, i));
    }
    TL_TRY(finish_output(im));
    im->graph->param_limit = INT64_MAX;
    return TL_OK;
}

/* --- the model around it ---------------------------------------------------------------------- */

static bool is_map(const tl_graph *graph, int node, int64_t channels) {
    const tl_shape *shape = &graph->node[node].shape;
    return shape->rank == 4 && shape->dim[3] == channels;
}

/* The last picture before the classifier: what a new head is put on. A network without a dense
 * layer, whose last pictures have as many channels as there are classes, ends in a convolutional
 * classifier (SqueezeNet), which is cut as well. */
static int find_features(const tl_graph *graph) {
    int output = tl_graph_output(graph), last = output;
    while (last > 0 && graph->node[last].shape.rank != 4) last--;
    const tl_shape *answer = &graph->node[output].shape;
    bool classifier = answer->rank == 2;
    for (int i = last + 1; i <= output; i++) classifier = classifier && !graph->node[i].param_count;
    while (classifier && last > 0 && is_map(graph, last, answer->dim[1])) last--;
    while (last > 0 && graph->node[last].shape.rank != 4) last--;
    return last;
}

static tl_status check_params(const tl_onnx_importer *im) {
    for (int i = 0; i < im->graph->param_count; i++) {
        const tl_param *param = &im->graph->param[i];
        tl_status status = tl_check_finite(param->name, tl_tensor_const_f32(param->value),
                                           tl_tensor_count(param->value));
        if (status != TL_OK) return tl_fail_in(status, "%s", im->onnx->name);
    }
    return TL_OK;
}

/* One of the metadata that tl_model_export_onnx() writes, or NULL. */
static tl_status find_metadata(const tl_onnx *onnx, const char *key, json_t **out) {
    *out = NULL;
    for (int i = 0; i < onnx->metadata_count; i++) {
        tl_onnx_text value = onnx->metadata[2 * i + 1];
        if (*out || !tl_onnx_is(onnx, onnx->metadata[2 * i], key)) continue;
        json_error_t error;
        *out = json_loadb((const char *)onnx->bytes + value.begin, value.end - value.begin,
                          JSON_REJECT_DUPLICATES, &error);
        TL_CHECK(*out, TL_CORRUPT, "%s: metadata %s: offset %u: %s", onnx->name, key,
                 value.begin + (uint32_t)error.position, error.text);
    }
    return TL_OK;
}

/* Class names and preprocessing, where the file has them as ours do. */
static tl_status read_metadata(const tl_onnx *onnx, tl_model *model) {
    json_t *classes = NULL, *preprocess = NULL;
    tl_status status = find_metadata(onnx, TL_SAVED_KEY_CLASSES, &classes);
    if (status == TL_OK) status = find_metadata(onnx, TL_SAVED_KEY_PREPROCESS, &preprocess);
    if (status == TL_OK && classes) status = tl_model_classes_from_json(model, classes);
    if (status == TL_OK && preprocess) status = tl_model_preprocess_from_json(model, preprocess);
    json_decref(classes);
    json_decref(preprocess);
    return status;
}

static tl_status wrap(tl_onnx_importer *im, tl_model **out) {
    tl_graph *graph = im->graph;
    im->graph = NULL;
    TL_TRY(tl_model_wrap(graph, "onnx", find_features(graph), out));
    (*out)->format = "onnx";
    tl_status status = tl_model_doubt_preprocess(*out, im->onnx->name);
    if (status == TL_OK) status = read_metadata(im->onnx, *out);
    if (status == TL_OK) return TL_OK;
    tl_model_free(*out);
    *out = NULL;
    return status;
}

tl_status tl_model_from_onnx(tl_context *ctx, const tl_source *source, tl_model **out) {
    tl_onnx_importer im = {0};
    *out = NULL;
    TL_TRY(tl_onnx_read(ctx, source, &im.onnx));
    tl_status status = import_nodes(&im);
    if (status == TL_OK) status = check_params(&im);
    if (status == TL_OK) status = wrap(&im, out);
    tl_graph_free(im.graph);
    tl_free(ctx, im.role);
    tl_onnx_table_free(&im.values);
    tl_onnx_free(im.onnx);
    return status;
}
