/* Writing a model as one safetensors file; the format is described in model.h. Nothing in the file
 * depends on time, place or machine: equal models give equal files. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

/* --- golden vectors --------------------------------------------------------------------------- */

typedef struct golden {
    int count;
    const unsigned char *input; /* the model's, or `drawn` */
    unsigned char *drawn;
    float *output;
} golden;

static void release_golden(tl_context *ctx, golden *g) {
    tl_free(ctx, g->drawn);
    tl_free(ctx, g->output);
}

static tl_status draw_input(const tl_model *model, golden *g) {
    g->count = 1;
    g->drawn = tl_alloc(model->ctx, tl_model_golden_size(model));
    TL_CHECK_MEMORY(g->drawn);
    tl_model_draw_golden(model, g->drawn);
    g->input = g->drawn;
    return TL_OK;
}

static tl_status record_golden(const tl_model *model, golden *g) {
    *g = (golden){.count = model->golden_count, .input = model->golden_input};
    bool possible =
        tl_model_sees_pictures(model) && model->preprocess_known && model->class_count > 0;
    if (!possible) {
        g->count = 0;
        return TL_OK;
    }
    if (g->count == 0) TL_TRY(draw_input(model, g));
    g->output = tl_alloc_array(model->ctx, (size_t)g->count * (size_t)model->class_count,
                               sizeof *g->output);
    TL_CHECK_MEMORY(g->output);
    return tl_model_run_golden(model, g->count, g->input, g->output);
}

/* --- metadata -----------------------------------------------------------------------------------
 */

enum { MAX_KEYS = 8 };
typedef struct metadata {
    int count;
    const char *key[MAX_KEYS];
    char *value[MAX_KEYS];
} metadata;

static void release_metadata(tl_context *ctx, metadata *m) {
    for (int i = 0; i < m->count; i++) tl_free(ctx, m->value[i]);
}

/* Takes over `value`, NULL when memory was out. */
static tl_status add_key(metadata *m, const char *key, char *value) {
    TL_CHECK_MEMORY(value);
    m->key[m->count] = key;
    m->value[m->count++] = value;
    return TL_OK;
}

/* null where it is not known. */
static char *preprocess_text(const tl_model *model) {
    if (!model->preprocess_known) return tl_strdup(model->ctx, "null");
    return tl_json_text(model->ctx, tl_preprocess_to_json(&model->preprocess), JSON_COMPACT);
}

static tl_status add_checksum(const tl_model *model, const golden *g, metadata *m) {
    uint32_t crc = tl_checksum_metadata(m->count, m->key, m->value);
    TL_TRY(tl_checksum_tensors(model, g->count, g->input, g->output, &crc));
    return add_key(m, TL_SAVED_KEY_CHECKSUM, tl_format(model->ctx, "%08x", (unsigned)crc));
}

static tl_status write_metadata(const tl_model *model, const golden *g, metadata *m) {
    tl_context *ctx = model->ctx;
    *m = (metadata){0};
    TL_TRY(add_key(m, TL_SAVED_KEY_VERSION, tl_format(ctx, "%d", TL_SAVED_VERSION)));
    TL_TRY(add_key(m, TL_SAVED_KEY_BACKBONE, tl_strdup(ctx, model->backbone)));
    TL_TRY(add_key(m, TL_SAVED_KEY_GRAPH,
                   tl_json_text(ctx, tl_graph_to_json(model->graph), JSON_COMPACT)));
    TL_TRY(add_key(m, TL_SAVED_KEY_FEATURES,
                   tl_strdup(ctx, model->graph->node[model->features].name)));
    TL_TRY(add_key(m, TL_SAVED_KEY_CLASSES,
                   tl_json_text(ctx, tl_model_classes_json(model), JSON_COMPACT)));
    if (tl_model_sees_pictures(model))
        TL_TRY(add_key(m, TL_SAVED_KEY_PREPROCESS, preprocess_text(model)));
    if (model->training) TL_TRY(add_key(m, TL_SAVED_KEY_TRAINING, tl_strdup(ctx, model->training)));
    return add_checksum(model, g, m);
}

/* --- tensors ------------------------------------------------------------------------------------
 */

static tl_status check_param(void *user, int index, const float *value) {
    const tl_param *param = &((const tl_graph *)user)->param[index];
    tl_status status = tl_check_finite(param->name, value, tl_shape_count(&param->shape));
    return status == TL_OK ? TL_OK : tl_fail_in(TL_DIVERGED, "the model is not worth saving");
}

/* For the file's writer; the entries begin with the parameters. */
static tl_status read_param(void *user, int entry, void *out) {
    return tl_graph_read_param(user, entry, out);
}

static int list_entries(const tl_model *model, const golden *g, tl_safetensors_entry *entries) {
    const tl_graph *graph = model->graph;
    int count = 0;
    for (; count < graph->param_count; count++) {
        const tl_param *param = &graph->param[count];
        entries[count] = (tl_safetensors_entry){.name = param->name,
                                                .dtype = TL_F32,
                                                .shape = param->shape,
                                                .read = read_param,
                                                .user = model->graph};
    }
    if (g->count == 0) return count;
    /* Bytes last: the floats stay aligned. */
    tl_shape output = tl_shape_make(2, (int64_t)g->count, (int64_t)model->class_count);
    entries[count++] = (tl_safetensors_entry){
        .name = TL_SAVED_GOLDEN_OUTPUT, .dtype = TL_F32, .shape = output, .data = g->output};
    tl_shape input = graph->node[0].shape;
    input.dim[0] = g->count;
    entries[count++] = (tl_safetensors_entry){
        .name = TL_SAVED_GOLDEN_INPUT, .dtype = TL_U8, .shape = input, .data = g->input};
    return count;
}

static tl_status write_file(const tl_model *model, const char *path, const golden *g,
                            const metadata *m) {
    size_t capacity = (size_t)model->graph->param_count + 2;
    tl_safetensors_entry *entries = tl_alloc_array(model->ctx, capacity, sizeof *entries);
    TL_CHECK_MEMORY(entries);
    int count = list_entries(model, g, entries);
    tl_status status = tl_safetensors_write(model->ctx, path, count, entries, m->count, m->key,
                                            (const char *const *)m->value);
    tl_free(model->ctx, entries);
    return status;
}

tl_status tl_model_save(const tl_model *model, const char *path) {
    TL_CHECK(model && path, TL_INVALID_ARGUMENT, "model or path is NULL");
    TL_TRY(tl_graph_visit_params(model->graph, check_param, model->graph));
    golden g = {0};
    metadata m = {0};
    tl_status status = record_golden(model, &g);
    if (status == TL_OK) status = write_metadata(model, &g, &m);
    if (status == TL_OK) status = write_file(model, path, &g, &m);
    release_metadata(model->ctx, &m);
    release_golden(model->ctx, &g);
    return status;
}
