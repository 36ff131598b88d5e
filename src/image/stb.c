/* The only place where stb_image is compiled. All its functions are static, its memory comes from
 * the context and is limited by a budget.
 *
 * The Makefile gives this file two flags of its own: -fwrapv, because stb_image 2.27 lets the DC
 * prediction of a hostile JPEG overflow an int, and -fno-sanitize=shift, because its bit reader
 * shifts a zero by more than 31 once a scan has run out of data. Neither touches memory. */
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "image/codec.h"
#include "image/inflate.h"

/* One decode at a time per thread; set only while stb_image runs. */
typedef struct decode_scope {
    tl_context *ctx;
    size_t left; /* of the budget; what is freed is not given back */
    bool over_budget, out_of_memory;
} decode_scope;

static _Thread_local decode_scope *scope;

/* Zeroed, so that damaged input never shows what the memory held before. */
static void *scoped_realloc(void *block, size_t old_size, size_t size) {
    size_t growth = size > old_size ? size - old_size : 0;
    if (growth > scope->left) {
        scope->over_budget = true;
        return NULL;
    }
    unsigned char *moved = tl_realloc(scope->ctx, block, size);
    if (!moved) {
        scope->out_of_memory = true;
        return NULL;
    }
    scope->left -= growth;
    memset(moved + old_size, 0, growth);
    return moved;
}

static void *scoped_alloc(size_t size) {
    return scoped_realloc(NULL, 0, size);
}

static void scoped_free(void *block) {
    tl_free(scope->ctx, block);
}

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_ASSERT(condition) ((void)0)
#define STBI_MAX_DIMENSIONS TL_IMAGE_MAX_SIDE
#define STBI_MALLOC(size) scoped_alloc(size)
#define STBI_REALLOC_SIZED(block, old_size, size) scoped_realloc(block, old_size, size)
#define STBI_FREE(block) scoped_free(block)
/* It declares functions that this selection of formats does not have; gcc says so at the end. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>

static tl_status fail_reason(const tl_encoded *in, const decode_scope *used) {
    const char *reason = stbi_failure_reason();
    if (used->over_budget)
        return tl_fail(TL_LIMIT, "%s: decoding needs more memory than its size allows", in->name);
    if (used->out_of_memory)
        return tl_fail(TL_NO_MEMORY, "%s: out of memory while decoding", in->name);
    return tl_fail(TL_CORRUPT, "%s: its picture data is damaged (%s)", in->name,
                   reason ? reason : "unreadable");
}

tl_status tl_stb_decode(const tl_encoded *in, int width, int height, int channels, size_t budget,
                        unsigned char **pixels) {
    decode_scope here = {.ctx = in->ctx, .left = budget};
    scope = &here;
    int decoded_width = 0, decoded_height = 0, found = 0;
    stbi__g_failure_reason = NULL;
    unsigned char *result = stbi_load_from_memory(in->data, (int)in->size, &decoded_width,
                                                  &decoded_height, &found, channels);
    scope = NULL;
    *pixels = NULL;
    if (!result) return fail_reason(in, &here);
    if (decoded_width != width || decoded_height != height) {
        tl_free(in->ctx, result);
        return tl_fail(TL_CORRUPT, "%s: decodes to %d x %d pixels, its header says %d x %d",
                       in->name, decoded_width, decoded_height, width, height);
    }
    *pixels = result;
    return TL_OK;
}

/* Planes (and coefficients of two bytes), the result, tables and rows. */
size_t tl_stb_jpeg_budget(const tl_jpeg_frame *f) {
    int64_t pixels = (int64_t)f->width * f->height;
    return (size_t)(pixels * 3 + 6 * f->width + (256 << 10) +
                    f->blocks * 64 * (f->coefficients ? 3 : 1));
}

static uint32_t adler32(const unsigned char *data, size_t size) {
    enum { MODULUS = 65521, FITS = 5552 /* bytes whose sums stay below 2^32 */ };
    uint32_t a = 1, b = 0;
    while (size > 0) {
        size_t part = size < FITS ? size : FITS;
        for (size_t i = 0; i < part; i++) {
            a += data[i];
            b += a;
        }
        a %= MODULUS;
        b %= MODULUS;
        data += part;
        size -= part;
    }
    return b << 16 | a;
}

/* stb_image leaves the checksum, a stream's last four bytes, unread. */
bool tl_inflate(const unsigned char *data, size_t size, unsigned char *out, size_t capacity,
                size_t *written) {
    enum { SUM = 4 };
    if (size < SUM || size > INT_MAX || capacity > INT_MAX) return false;
    int got = stbi_zlib_decode_buffer((char *)out, (int)capacity, (const char *)data, (int)size);
    if (got < 0) return false;
    uint32_t sum = 0;
    for (size_t i = size - SUM; i < size; i++) sum = sum << 8 | data[i];
    *written = (size_t)got;
    return adler32(out, *written) == sum;
}
