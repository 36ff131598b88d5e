/* Reads arbitrary bytes as a file of packed weights. The first byte says whether the header is made
 * one that this library could have written, but for its table: without that nearly nothing gets
 * past it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32.h"
#include "io/packed.h"

enum { FIXED = 64, ROW = 32, MOST_ROWS = 7 };

/* The header of a file without blocks. */
static const unsigned char *own_header(tl_context *ctx) {
    static unsigned char header[FIXED];
    if (header[0]) return header;
    char folder[] = "/tmp/fuzz-packed-XXXXXX", path[64];
    tl_source source;
    if (!mkdtemp(folder)) abort();
    strcat(strcpy(path, folder), "/x");
    if (tl_packed_write(ctx, path, "ref", 0, NULL) != TL_OK) abort();
    if (tl_source_open(ctx, path, &source) != TL_OK) abort();
    if (tl_source_read(&source, 0, header, FIXED) != TL_OK) abort();
    tl_source_close(&source);
    unlink(path);
    rmdir(folder);
    return header;
}

static void put(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> (8 * i));
}

static void make_plausible(tl_context *ctx, unsigned char *data, size_t size) {
    if (size < FIXED + 4) return;
    uint32_t count = data[12] & MOST_ROWS;
    size_t summed = FIXED + count * ROW;
    memcpy(data, own_header(ctx), FIXED);
    put(data + 12, count, 4);
    put(data + 16, size, 8);
    if (summed + 4 <= size) put(data + summed, tl_crc32(0, data, summed), 4);
}

static void find_all(const tl_packed *packed, const unsigned char *data) {
    for (uint32_t i = 0; i < packed->count && i < 64; i++) {
        const unsigned char *row = data + FIXED + (size_t)i * ROW;
        const void *block = NULL;
        (void)tl_packed_find(packed, tl_le64(row), (size_t)tl_le64(row + 16), &block);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.memory_limit = (size_t)64 << 20;
    tl_context *ctx = NULL;
    if (size < 2) return 0;
    if (tl_context_create(&options, &ctx) != TL_OK) abort();
    unsigned char *copy = malloc(size - 1); /* so that reading past it is noticed */
    memcpy(copy, data + 1, size - 1);
    if (data[0] & 1) make_plausible(ctx, copy, size - 1);
    tl_source source;
    tl_packed packed;
    if (tl_source_from_memory(ctx, "fuzz", copy, size - 1, &source) == TL_OK &&
        tl_packed_read(&source, "ref", &packed) == TL_OK) {
        find_all(&packed, copy);
        tl_packed_close(&packed);
    }
    free(copy);
    tl_context_free(ctx);
    return 0;
}
