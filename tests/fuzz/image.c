/* Pictures: JPEG, PNG and BMP, whichever the bytes look like. */
#include <stddef.h>
#include <stdint.h>

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tl_context_options options;
    tl_context *ctx;
    tl_source source;
    tl_image image;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.memory_limit = (size_t)256 << 20; /* below the fuzzer's own */
    if (tl_context_create(&options, &ctx) != TL_OK) return 0;
    if (tl_source_from_memory(ctx, "input", data, size, &source) == TL_OK) {
        if (tl_image_decode(&source, &image) == TL_OK) tl_image_free(ctx, &image);
        tl_source_close(&source);
    }
    tl_context_free(ctx);
    return 0;
}
