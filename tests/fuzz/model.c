/* Loads arbitrary bytes as a model; what loads is verified and described. */
#include <stdint.h>
#include <stdlib.h>

#include <tl/tl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.memory_limit = (size_t)64 << 20;
    tl_context *ctx = NULL;
    if (tl_context_create(&options, &ctx) != TL_OK) abort();
    tl_model *model = NULL;
    if (tl_model_load_memory(ctx, data, size, &model) == TL_OK) {
        char *json = NULL;
        (void)tl_model_verify(model, NULL);
        (void)tl_model_describe(model, &json);
        tl_string_free(ctx, json);
    }
    tl_model_free(model);
    tl_context_free(ctx);
    return 0;
}
