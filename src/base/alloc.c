/* The counted, aligned allocator over the context's hook.
 *
 *   raw                                block (aligned to 64)
 *    |  slack  | header {raw, total} |  size bytes  |
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/context_struct.h"

enum { ALIGNMENT = 64 };

typedef struct block_header {
    void *raw;
    size_t total; /* bytes asked from the hook */
    size_t size;  /* bytes the caller asked for */
} block_header;

static const size_t overhead = ALIGNMENT + sizeof(block_header);

static block_header *header_of(void *block) {
    return (block_header *)block - 1;
}

/* Counts `total` bytes unless the limit forbids it. */
static bool reserve(tl_context *ctx, size_t total) {
    size_t current = atomic_load(&ctx->memory_current);
    size_t next;
    do {
        next = current + total;
        if (next < current) return false;
        if (ctx->memory_limit && next > ctx->memory_limit) return false;
    } while (!atomic_compare_exchange_weak(&ctx->memory_current, &current, next));
    size_t peak = atomic_load(&ctx->memory_peak);
    while (next > peak && !atomic_compare_exchange_weak(&ctx->memory_peak, &peak, next)) continue;
    return true;
}

static void *out_of_memory(size_t size) {
    tl_fail(TL_NO_MEMORY, "out of memory: %zu bytes were refused", size);
    return NULL;
}

void *tl_alloc(tl_context *ctx, size_t size) {
    if (size > SIZE_MAX - overhead) return out_of_memory(size);
    size_t total = size + overhead;
    if (!reserve(ctx, total)) return out_of_memory(size);
    char *raw = ctx->alloc(ctx->alloc_user, NULL, 0, total);
    if (!raw) {
        atomic_fetch_sub(&ctx->memory_current, total);
        return out_of_memory(size);
    }
    uintptr_t lowest = (uintptr_t)raw + sizeof(block_header);
    size_t slack = (size_t)(-lowest & (uintptr_t)(ALIGNMENT - 1));
    void *block = raw + sizeof(block_header) + slack;
    *header_of(block) = (block_header){raw, total, size};
    return block;
}

void tl_free(tl_context *ctx, void *block) {
    if (!block) return;
    block_header header = *header_of(block);
    atomic_fetch_sub(&ctx->memory_current, header.total);
    ctx->alloc(ctx->alloc_user, header.raw, header.total, 0);
}

void *tl_alloc_zero(tl_context *ctx, size_t size) {
    void *block = tl_alloc(ctx, size);
    if (block) memset(block, 0, size);
    return block;
}

void *tl_alloc_array(tl_context *ctx, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return out_of_memory(SIZE_MAX);
    return tl_alloc(ctx, count * size);
}

void *tl_realloc(tl_context *ctx, void *block, size_t size) {
    if (!block) return tl_alloc(ctx, size);
    void *moved = tl_alloc(ctx, size);
    if (!moved) return NULL;
    size_t old_size = header_of(block)->size;
    memcpy(moved, block, old_size < size ? old_size : size);
    tl_free(ctx, block);
    return moved;
}

size_t tl_memory_left(const tl_context *ctx) {
    if (!ctx->memory_limit) return SIZE_MAX;
    size_t current = atomic_load(&ctx->memory_current);
    return ctx->memory_limit > current ? ctx->memory_limit - current : 0;
}

char *tl_strdup(tl_context *ctx, const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = tl_alloc(ctx, size);
    if (copy) memcpy(copy, text, size);
    return copy;
}

char *tl_format(tl_context *ctx, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) return out_of_memory(0);
    char *text = tl_alloc(ctx, (size_t)length + 1);
    if (!text) return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)length + 1, format, args);
    va_end(args);
    return text;
}
