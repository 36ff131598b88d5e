/* Where a model keeps its packed weights between processes. */
#include <jansson.h>
#include <string.h>

#include "model/model.h"

tl_status tl_model_set_packed_cache(tl_model *model, const char *path) {
    TL_CHECK(model, TL_INVALID_ARGUMENT, "model is NULL");
    if (!path || strcmp(path, "auto") != 0) return tl_graph_set_pack_cache(model->graph, path);
    TL_CHECK(model->file, TL_INVALID_ARGUMENT,
             "packed cache 'auto': the model is from no file that it could lie beside");
    char *beside = tl_format(model->ctx, "%s.packed", model->file);
    TL_CHECK_MEMORY(beside);
    tl_status status = tl_graph_set_pack_cache(model->graph, beside);
    tl_free(model->ctx, beside);
    return status;
}

tl_status tl_model_packed_cache(const tl_model *model, char **json) {
    TL_CHECK(json, TL_INVALID_ARGUMENT, "json is NULL");
    *json = NULL;
    TL_CHECK(model, TL_INVALID_ARGUMENT, "model is NULL");
    static const char *const states[] = {[TL_PACKS_UNTRIED] = "untried",
                                         [TL_PACKS_USED] = "used",
                                         [TL_PACKS_WRITTEN] = "written",
                                         [TL_PACKS_FAILED] = "failed"};
    tl_pack_cache_report report;
    tl_graph_pack_cache_report(model->graph, &report);
    json_t *object = json_pack("{s:s?, s:s, s:s}", "file", report.path, "state",
                               report.path ? states[report.state] : "off", "reason", report.reason);
    *json = tl_json_text(model->ctx, object, 0);
    return *json ? TL_OK : TL_NO_MEMORY;
}
