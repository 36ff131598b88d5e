/* What is known about a backbone without its weights, as JSON. */
#include <jansson.h>

#include "model/model.h"

static tl_status count_learned(tl_context *ctx, const tl_backbone *backbone, int64_t *out) {
    tl_graph *graph = NULL;
    int features = 0;
    *out = 0;
    TL_TRY(tl_backbone_build(ctx, backbone, backbone->variant, backbone->classes, true, &graph,
                             &features));
    for (int i = 0; i < graph->param_count; i++)
        if (graph->param[i].learned) *out += tl_shape_count(&graph->param[i].shape);
    tl_graph_free(graph);
    return TL_OK;
}

static json_t *describe_schemes(const tl_backbone *backbone) {
    json_t *schemes = json_array();
    for (const tl_variant *v = backbone->variant; v->naming; v++)
        json_array_append_new(schemes,
                              json_pack("{ss ss si}", "scheme", v->naming->scheme, "preprocess",
                                        v->preprocess, "input",
                                        v->input_size ? v->input_size : backbone->input_size));
    return schemes;
}

tl_status tl_backbone_describe(tl_context *ctx, const char *name, char **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "json is NULL");
    *out = NULL;
    TL_CHECK(ctx && name, TL_INVALID_ARGUMENT, "context or name is NULL");
    const tl_backbone *backbone = NULL;
    int64_t parameters = 0;
    char *path = NULL;
    TL_TRY(tl_backbone_require(name, &backbone));
    TL_TRY(count_learned(ctx, backbone, &parameters));
    /* A folder that cannot be read is as good as none here; loading says why. */
    tl_status status = tl_backbone_weights_path(ctx, backbone, &path);
    if (status == TL_NO_MEMORY) return status;
    json_t *json =
        json_pack("{ss sI si so ss? sb}", "name", backbone->name, "parameters",
                  (json_int_t)parameters, "input", backbone->input_size, "schemes",
                  describe_schemes(backbone), "weights", path, "fetch", backbone->weights != NULL);
    tl_free(ctx, path);
    *out = tl_json_text(ctx, json, JSON_COMPACT);
    return *out ? TL_OK : TL_NO_MEMORY;
}
