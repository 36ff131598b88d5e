/* libFuzzer program over the ONNX reader and importer. `make fuzz FUZZ_SECONDS=120` runs it from
 * the seeds in tests/fuzz/corpus/fuzz_onnx: the networks that tests/golden/make_onnx.py writes.
 * What is imported also runs, once and on few pixels, because a graph may be well formed and still
 * wrong. */
#include <stdint.h>
#include <stdlib.h>

#include "model/model.h"

enum { MOST_ELEMENTS = 1 << 16 }; /* of a value worth computing here */
static const double MOST_FLOPS = 1e7;

static void run(tl_context *ctx, tl_model *model) {
    const tl_graph *graph = model->graph;
    if (tl_model_flops(model) > MOST_FLOPS) return;
    for (int i = 0; i < graph->node_count; i++) {
        if (tl_shape_count(&graph->node[i].shape) > MOST_ELEMENTS) return;
    }
    tl_tensor *input = NULL, *output = NULL;
    if (tl_tensor_new(ctx, TL_F32, &graph->node[0].shape, &input) == TL_OK) {
        (void)tl_model_run(model, input, &output);
    }
    tl_tensor_free(output);
    tl_tensor_free(input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.memory_limit = 256u << 20;
    tl_context *ctx = NULL;
    tl_source source;
    tl_model *model = NULL;
    if (tl_context_create(&options, &ctx) != TL_OK) abort();
    if (tl_source_from_memory(ctx, "fuzz", data, size, &source) == TL_OK) {
        if (tl_model_from_onnx(ctx, &source, &model) == TL_OK) {
            run(ctx, model);
            if (tl_model_set_head(model, "gap", "", "softmax", 3, NULL, 0) == TL_OK)
                run(ctx, model);
        }
        tl_model_free(model);
        tl_source_close(&source);
    }
    size_t current = 0;
    tl_context_memory(ctx, &current, NULL);
    if (current != 0) abort();
    tl_context_free(ctx);
    return 0;
}
