/* How much memory a model will take, told before any of it is asked for. */
#include "base/options.h"
#include "model/model.h"

static size_t param_bytes(const tl_graph *graph) {
    size_t bytes = 0;
    for (int i = 0; i < graph->param_count; i++) {
        const tl_tensor *value = graph->param[i].value;
        if (value) bytes += tl_tensor_bytes(value);
    }
    return bytes;
}

void tl_forecast_begin(const tl_model *model, tl_forecast *forecast) {
    *forecast = (tl_forecast){.memory.parameters = param_bytes(model->graph)};
    tl_context_memory(model->ctx, &forecast->held, NULL);
    forecast->memory.total = forecast->held;
}

void tl_forecast_hold(tl_forecast *forecast, size_t bytes) {
    forecast->held += bytes;
    if (forecast->memory.total < forecast->held) forecast->memory.total = forecast->held;
}

/* Packing comes before the arena, and its scratch is gone by then. */
tl_status tl_forecast_plan(tl_forecast *forecast, tl_graph *graph, const tl_plan_options *options) {
    tl_plan_memory plan;
    TL_TRY(tl_plan_predict(graph, options, &plan));
    tl_memory *sum = &forecast->memory;
    sum->parameters += plan.loaded;
    sum->packed += plan.packed;
    sum->activations += plan.activations;
    sum->gradients += plan.gradients;
    if (sum->packing < plan.scratch) sum->packing = plan.scratch;
    tl_forecast_hold(forecast, plan.loaded + plan.packed - plan.shared);
    tl_forecast_hold(forecast, plan.scratch);
    forecast->held -= plan.scratch;
    tl_forecast_hold(forecast, plan.activations + plan.gradients);
    return TL_OK;
}

tl_status tl_forecast_end(const tl_forecast *forecast, tl_memory *out) {
    size_t size = out->size;
    TL_CHECK(size >= sizeof size, TL_INVALID_ARGUMENT,
             "memory: the result's size is %zu, it was not set", size);
    tl_options_init(out, size, &forecast->memory, sizeof forecast->memory);
    return TL_OK;
}

tl_status tl_model_memory(const tl_model *model, int batch, tl_memory *out) {
    TL_CHECK(model && out, TL_INVALID_ARGUMENT, "model or memory is NULL");
    TL_CHECK(batch >= 1, TL_INVALID_ARGUMENT, "batch is %d, expected at least 1", batch);
    tl_graph *graph = model->graph;
    tl_plan_options options = {
        .to = tl_graph_output(graph), .input = graph->node[0].shape, .dtype = model->dtype};
    options.input.dim[0] = batch < TL_RUN_BATCH ? batch : TL_RUN_BATCH;
    tl_forecast forecast;
    tl_forecast_begin(model, &forecast);
    TL_TRY(tl_forecast_plan(&forecast, graph, &options));
    return tl_forecast_end(&forecast, out);
}
