/* Reading a saved model. The file is hostile input: whatever it says is checked against the graph
 * it describes before it is used, and a graph may not want more weights than the file holds. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "model/model.h"

bool tl_weights_is_saved_model(const tl_weights *weights) {
    return tl_weights_metadata(weights, TL_SAVED_KEY_VERSION) != NULL;
}

/* --- metadata
 * ------------------------------------------------------------------------------------- */

static tl_status require_key(const tl_weights *weights, const char *key, const char **value) {
    *value = tl_weights_metadata(weights, key);
    TL_CHECK(*value, TL_CORRUPT, "metadata has no %s", key);
    return TL_OK;
}

static tl_status read_json(const tl_weights *weights, const char *key, json_t **out) {
    const char *text = NULL;
    TL_TRY(require_key(weights, key, &text));
    json_error_t error;
    *out = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    TL_CHECK(*out, TL_CORRUPT, "%s at byte %d: %s", key, error.position, error.text);
    return TL_OK;
}

static tl_status check_version(const tl_weights *weights) {
    const char *text = NULL;
    TL_TRY(require_key(weights, TL_SAVED_KEY_VERSION, &text));
    size_t length = strlen(text);
    TL_CHECK(length > 0 && length <= 8 && strspn(text, "0123456789") == length && text[0] != '0',
             TL_CORRUPT, "%s is '%.40s', expected a number", TL_SAVED_KEY_VERSION, text);
    TL_CHECK(length == 1 && text[0] - '0' <= TL_SAVED_VERSION, TL_UNSUPPORTED,
             "format version %s is newer than this library's, %d", text, TL_SAVED_VERSION);
    return TL_OK;
}

/* --- the graph and its weights
 * ----------------------------------------------------------------------- */

static int64_t count_elements(const tl_weights *weights) {
    int64_t count = 0;
    for (int i = 0; i < weights->count; i++) count += tl_shape_count(&weights->item[i].shape);
    return count;
}

static tl_status read_graph(const tl_weights *weights, tl_graph **out) {
    json_t *json = NULL;
    TL_TRY(read_json(weights, TL_SAVED_KEY_GRAPH, &json));
    tl_status status = tl_graph_from_json(weights->ctx, json, count_elements(weights), out);
    json_decref(json);
    if (status == TL_INVALID_ARGUMENT || status == TL_SHAPE) status = TL_CORRUPT;
    return status == TL_OK ? TL_OK : tl_fail_in(status, TL_SAVED_KEY_GRAPH);
}

static tl_status find_tensor(const tl_weights *weights, const char *name, const tl_shape *expected,
                             int *index) {
    *index = tl_weights_find(weights, name);
    TL_CHECK(*index >= 0, TL_CORRUPT, "tensor %s is missing", name);
    const tl_shape *shape = &weights->item[*index].shape;
    char is[TL_SHAPE_TEXT], wanted[TL_SHAPE_TEXT];
    TL_CHECK(tl_shape_equal(shape, expected), TL_CORRUPT, "tensor %s is %s, expected %s", name,
             tl_shape_text(shape, is), tl_shape_text(expected, wanted));
    return TL_OK;
}

static tl_status find_and_fill(tl_weights *weights, tl_graph *graph, int *index) {
    for (int i = 0; i < graph->param_count; i++) {
        const tl_param *param = &graph->param[i];
        TL_TRY(find_tensor(weights, param->name, &param->shape, &index[i]));
    }
    return tl_model_fill_graph(graph, weights, index, NULL);
}

static tl_status read_params(tl_weights *weights, tl_graph *graph) {
    int *index = tl_alloc_array(weights->ctx, (size_t)graph->param_count, sizeof *index);
    TL_CHECK_MEMORY(index);
    tl_status status = find_and_fill(weights, graph, index);
    tl_free(weights->ctx, index);
    return status;
}

/* Names are unique in the file and in the graph, so that counting finds what is left over. */
static tl_status check_left_over(const tl_weights *weights, const tl_model *model) {
    int expected = model->graph->param_count + (model->golden_count > 0 ? 2 : 0);
    TL_CHECK(weights->count == expected, TL_CORRUPT, "%d tensors, but the graph has %d",
             weights->count, expected);
    return TL_OK;
}

/* --- classes and preprocessing
 * ------------------------------------------------------------------------ */

tl_status tl_model_classes_from_json(tl_model *model, const json_t *json) {
    int count = model->class_count;
    TL_CHECK(json_is_array(json) && json_array_size(json) == (size_t)count, TL_CORRUPT,
             "%s has %zu names, but the graph answers %d classes", TL_SAVED_KEY_CLASSES,
             json_array_size(json), count);
    const char **names = tl_alloc_array(model->ctx, (size_t)count, sizeof *names);
    TL_CHECK_MEMORY(names);
    tl_status status = TL_OK;
    for (int i = 0; i < count && status == TL_OK; i++) {
        names[i] = json_string_value(json_array_get(json, (size_t)i));
        if (!names[i])
            status = tl_fail(TL_CORRUPT, "%s: entry %d is no string", TL_SAVED_KEY_CLASSES, i);
    }
    if (status == TL_OK) status = tl_model_set_classes(model, names);
    tl_free(model->ctx, names);
    return status;
}

static tl_status read_classes(const tl_weights *weights, tl_model *model) {
    json_t *json = NULL;
    TL_TRY(read_json(weights, TL_SAVED_KEY_CLASSES, &json));
    tl_status status = tl_model_classes_from_json(model, json);
    json_decref(json);
    return status;
}

tl_status tl_model_preprocess_from_json(tl_model *model, const json_t *json) {
    tl_preprocess p;
    tl_status status = tl_preprocess_from_json(json, &p);
    if (status != TL_OK) return tl_fail_in(status, TL_SAVED_KEY_PREPROCESS);
    const int64_t *dim = model->graph->node[0].shape.dim;
    TL_CHECK(p.height == dim[1] && p.width == dim[2], TL_CORRUPT,
             "%s gives pictures of %d x %d, but the graph takes %lld x %lld",
             TL_SAVED_KEY_PREPROCESS, p.height, p.width, (long long)dim[1], (long long)dim[2]);
    model->preprocess = p;
    model->preprocess_known = true;
    return TL_OK;
}

static tl_status read_preprocess(const tl_weights *weights, tl_model *model) {
    if (!tl_model_sees_pictures(model)) return TL_OK;
    json_t *json = NULL;
    TL_TRY(read_json(weights, TL_SAVED_KEY_PREPROCESS, &json));
    tl_status status = json_is_null(json) ? tl_model_doubt_preprocess(model, weights->source.name)
                                          : tl_model_preprocess_from_json(model, json);
    json_decref(json);
    return status;
}

static tl_status read_training(const tl_weights *weights, tl_model *model) {
    const char *text = tl_weights_metadata(weights, TL_SAVED_KEY_TRAINING);
    if (!text) return TL_OK;
    tl_status status = tl_model_set_training_summary(model, text);
    return status == TL_INVALID_ARGUMENT ? tl_fail_in(TL_CORRUPT, TL_SAVED_KEY_TRAINING) : status;
}

/* --- golden vectors
 * -------------------------------------------------------------------------------------- */

static tl_status to_pixels(const float *values, int64_t count, unsigned char *pixels) {
    for (int64_t i = 0; i < count; i++) {
        float value = values[i];
        TL_CHECK(value >= 0 && value <= 255 && value == floorf(value), TL_CORRUPT,
                 "%s: element %lld is %g, expected a pixel, 0 to 255", TL_SAVED_GOLDEN_INPUT,
                 (long long)i, (double)value);
        pixels[i] = (unsigned char)value;
    }
    return TL_OK;
}

static tl_status read_golden_input(const tl_weights *weights, int index, tl_model *model) {
    int64_t count = tl_shape_count(&weights->item[index].shape);
    float *values = tl_alloc_array(model->ctx, (size_t)count, sizeof *values);
    model->golden_input = tl_alloc(model->ctx, (size_t)count);
    tl_status status = values && model->golden_input ? TL_OK : TL_NO_MEMORY;
    if (status == TL_OK) status = tl_weights_read(weights, index, values);
    if (status == TL_OK) status = to_pixels(values, count, model->golden_input);
    tl_free(model->ctx, values);
    return status;
}

static tl_status read_golden_output(const tl_weights *weights, tl_model *model) {
    tl_shape shape = tl_shape_make(2, (int64_t)model->golden_count, (int64_t)model->class_count);
    int index = 0;
    TL_TRY(find_tensor(weights, TL_SAVED_GOLDEN_OUTPUT, &shape, &index));
    int64_t count = tl_shape_count(&shape);
    model->golden_output = tl_alloc_array(model->ctx, (size_t)count, sizeof(float));
    TL_CHECK_MEMORY(model->golden_output);
    TL_TRY(tl_weights_read(weights, index, model->golden_output));
    return tl_check_finite(TL_SAVED_GOLDEN_OUTPUT, model->golden_output, count);
}

static tl_status read_golden(const tl_weights *weights, tl_model *model) {
    int index = tl_weights_find(weights, TL_SAVED_GOLDEN_INPUT);
    if (index < 0) return TL_OK;
    TL_CHECK(tl_model_sees_pictures(model) && model->class_count > 0, TL_CORRUPT,
             "%s for a model that classifies no pictures", TL_SAVED_GOLDEN_INPUT);
    const tl_shape *shape = &weights->item[index].shape;
    int64_t count = shape->rank == 4 ? shape->dim[0] : 0;
    TL_CHECK(count >= 1 && count <= TL_MAX_GOLDEN, TL_CORRUPT,
             "%s holds %lld pictures, expected 1 to %d", TL_SAVED_GOLDEN_INPUT, (long long)count,
             TL_MAX_GOLDEN);
    tl_shape expected = model->graph->node[0].shape;
    expected.dim[0] = count;
    TL_TRY(find_tensor(weights, TL_SAVED_GOLDEN_INPUT, &expected, &index));
    model->golden_count = (int)count;
    TL_TRY(read_golden_input(weights, index, model));
    return read_golden_output(weights, model);
}

/* --- all of it
 * ---------------------------------------------------------------------------------------------- */

static tl_status find_features(const tl_weights *weights, const tl_graph *graph, int *features) {
    const char *name = NULL;
    TL_TRY(require_key(weights, TL_SAVED_KEY_FEATURES, &name));
    *features = tl_graph_find_node(graph, name);
    TL_CHECK(*features >= 0, TL_CORRUPT, "%s is '%.64s', which the graph has not",
             TL_SAVED_KEY_FEATURES, name);
    return TL_OK;
}

/* Kept for tl_model_verify(): a file whose weights another program has edited still loads. */
static tl_status read_checksum(const tl_weights *weights, tl_model *model) {
    const char *text = tl_weights_metadata(weights, TL_SAVED_KEY_CHECKSUM);
    if (!text) return TL_OK;
    size_t length = strlen(text);
    TL_CHECK(length == TL_CHECKSUM_TEXT - 1 && strspn(text, "0123456789abcdef") == length,
             TL_CORRUPT, "%s is '%.40s', expected %d hexadecimal digits", TL_SAVED_KEY_CHECKSUM,
             text, TL_CHECKSUM_TEXT - 1);
    memcpy(model->checksum, text, TL_CHECKSUM_TEXT);
    model->metadata_checksum =
        tl_checksum_metadata(weights->metadata_count, (const char *const *)weights->metadata_key,
                             weights->metadata_value);
    return TL_OK;
}

static tl_status read_model(tl_weights *weights, tl_model **out) {
    tl_graph *graph = NULL;
    const char *backbone = NULL;
    int features = 0;
    TL_TRY(check_version(weights));
    TL_TRY(require_key(weights, TL_SAVED_KEY_BACKBONE, &backbone));
    TL_TRY(read_graph(weights, &graph));
    tl_status status = find_features(weights, graph, &features);
    if (status != TL_OK) {
        tl_graph_free(graph);
        return status;
    }
    TL_TRY(tl_model_wrap(graph, backbone, features, out));
    (*out)->format = "libtl";
    TL_TRY(read_classes(weights, *out));
    TL_TRY(read_preprocess(weights, *out));
    TL_TRY(read_training(weights, *out));
    TL_TRY(read_checksum(weights, *out));
    TL_TRY(read_golden(weights, *out));
    TL_TRY(read_params(weights, graph));
    return check_left_over(weights, *out);
}

tl_status tl_model_from_saved(tl_weights *weights, tl_model **out) {
    *out = NULL;
    tl_status status = read_model(weights, out);
    if (status == TL_OK) return TL_OK;
    tl_model_free(*out);
    *out = NULL;
    return tl_fail_in(status, "%s", weights->source.name);
}
