/* JPEG thumbnails, for reports. The only place where stb_image_write is compiled. */
#include <string.h>

#include "image/image.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
/* Only its PNG writer allocates, which is not used. */
#define STBIW_MALLOC(size) NULL
#define STBIW_REALLOC(block, size) NULL
#define STBIW_FREE(block) ((void)(block))
#define STBIW_ASSERT(condition) ((void)0)
/* It declares functions that this selection of formats does not have; gcc says so at the end. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image_write.h>

typedef struct buffer {
    tl_context *ctx;
    unsigned char *data;
    size_t size, capacity;
    bool failed;
} buffer;

static void append(void *user, void *data, int size) {
    buffer *b = user;
    if (b->failed) return;
    if (b->capacity - b->size < (size_t)size) {
        size_t capacity = 2 * b->capacity + (size_t)size + 4096;
        unsigned char *grown = tl_realloc(b->ctx, b->data, capacity);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size, data, (size_t)size);
    b->size += (size_t)size;
}

tl_status tl_image_encode_jpeg(tl_context *ctx, const tl_image *in, int quality,
                               unsigned char **data, size_t *size) {
    buffer b = {.ctx = ctx};
    *data = NULL;
    *size = 0;
    TL_CHECK(quality >= 1 && quality <= 100, TL_INVALID_ARGUMENT,
             "JPEG quality %d, expected 1 to 100", quality);
    TL_CHECK(in->width <= UINT16_MAX && in->height <= UINT16_MAX, TL_LIMIT,
             "a JPEG has at most 65535 pixels a side, not %d x %d", in->width, in->height);
    bool written =
        stbi_write_jpg_to_func(append, &b, in->width, in->height, 3, in->pixels, quality);
    if (!written || b.failed) {
        tl_free(ctx, b.data);
        return b.failed ? TL_NO_MEMORY : tl_fail(TL_INVALID_ARGUMENT, "the picture is empty");
    }
    *data = b.data;
    *size = b.size;
    return TL_OK;
}
