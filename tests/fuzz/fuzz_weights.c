/* libFuzzer program over the weights readers. `make fuzz FUZZ_SECONDS=120` runs it from the seeds
 * in tests/fuzz/corpus/fuzz_weights, which tests/golden/make_pth.py and make_keras.py write.
 *
 * The first byte says what the others are, so that lengths and checksums around them do not keep
 * the fuzzer out: a whole file, a pickle in a ZIP archive, a pickle in the older form, a
 * safetensors header, or the two parts of a .keras archive. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32.h"
#include "io/weights.h"

typedef struct buffer {
    unsigned char *data;
    size_t size;
} buffer;

static void put(buffer *b, const void *data, size_t size) {
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_number(buffer *b, uint64_t number, size_t size) {
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)(number >> (8 * i));
        put(b, &byte, 1);
    }
}

static const char zeros[64];

static void put_zip_header(buffer *b, const char *name, const void *data, size_t size,
                           const uint64_t *directory_offset) {
    put(b, directory_offset ? "PK\x01\x02\x00\x00" : "PK\x03\x04", directory_offset ? 6 : 4);
    put_number(b, 0, 6);
    put_number(b, 0, 4);
    put_number(b, tl_crc32(0, data, size), 4);
    put_number(b, size, 4);
    put_number(b, size, 4);
    put_number(b, strlen(name), 2);
    put_number(b, 0, 2);
    if (directory_offset) {
        put(b, zeros, 10);
        put_number(b, *directory_offset, 4);
    }
    put(b, name, strlen(name));
}

typedef struct part {
    const char *name;
    const void *data;
    size_t size;
} part;

static void put_archive(buffer *b, const part parts[2]) {
    uint64_t at[2];
    for (int i = 0; i < 2; i++) {
        at[i] = b->size;
        put_zip_header(b, parts[i].name, parts[i].data, parts[i].size, NULL);
        put(b, parts[i].data, parts[i].size);
    }
    const uint64_t directory = b->size;
    for (int i = 0; i < 2; i++) {
        put_zip_header(b, parts[i].name, parts[i].data, parts[i].size, &at[i]);
    }
    const uint64_t length = b->size - directory;
    put(b, "PK\x05\x06\x00\x00\x00\x00\x02\x00\x02\x00", 12);
    put_number(b, length, 4);
    put_number(b, directory, 4);
    put_number(b, 0, 2);
}

/* An archive of the pickle and a storage "0" of 64 zero bytes. */
static void wrap_in_zip(buffer *b, const uint8_t *data, size_t size) {
    put_archive(b, (const part[]){{"m/data.pkl", data, size}, {"m/data/0", zeros, sizeof zeros}});
}

/* The config up to the first zero byte, then the weights. */
static void wrap_in_keras(buffer *b, const uint8_t *data, size_t size) {
    size_t config = strnlen((const char *)data, size), rest = config < size ? config + 1 : size;
    put_archive(b, (const part[]){{"config.json", data, config},
                                  {"model.weights.h5", data + rest, size - rest}});
}

/* The older form: the preamble, then all pickles and storages are the fuzzer's. */
static void wrap_in_legacy(buffer *b, const uint8_t *data, size_t size) {
    static const char preamble[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
                                   "\x80\x02M\xe9\x03.\x80\x02}.";
    put(b, preamble, sizeof preamble - 1);
    put(b, data, size);
}

/* A header and 64 zero bytes of data. */
static void wrap_in_safetensors(buffer *b, const uint8_t *data, size_t size) {
    put_number(b, size, 8);
    put(b, data, size);
    put(b, zeros, sizeof zeros);
}

static void read_all(const tl_weights *weights) {
    for (int i = 0; i < weights->count && i < 64; i++) {
        size_t count = (size_t)tl_shape_count(&weights->item[i].shape);
        if (count > 1 << 16) continue;
        float *out = malloc((count + 1) * sizeof *out);
        if (out) (void)tl_weights_read(weights, i, out);
        free(out);
        if (tl_weights_find(weights, weights->item[i].name) != i) abort();
    }
}

static void open_file(const unsigned char *data, size_t size) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    /* What the readers promise to stay below; what they give back comes on top. */
    tl_context *ctx = NULL;
    if (tl_context_create(&options, &ctx) != TL_OK) return;
    size_t before, peak;
    tl_context_memory(ctx, &before, NULL);
    tl_source source;
    tl_weights *weights = NULL;
    if (tl_source_from_memory(ctx, "fuzz", data, size, &source) != TL_OK) abort();
    tl_status status = tl_weights_open(ctx, &source, &weights);
    tl_context_memory(ctx, NULL, &peak);
    if (peak - before > 16 * 1024 * 1024 + 4 * size) abort();
    if (status == TL_OK) read_all(weights);
    tl_weights_free(weights);
    size_t after;
    tl_context_memory(ctx, &after, NULL);
    if (after != before) abort();
    tl_context_free(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    static void (*const wrappers[])(buffer *, const uint8_t *,
                                    size_t) = {['z'] = wrap_in_zip,
                                               ['l'] = wrap_in_legacy,
                                               ['s'] = wrap_in_safetensors,
                                               ['k'] = wrap_in_keras};
    const size_t kinds = sizeof wrappers / sizeof wrappers[0];
    if (data[0] >= kinds || !wrappers[data[0]]) {
        open_file(data, size);
        return 0;
    }
    buffer b = {.data = malloc(size + 1024)};
    if (!b.data) return 0;
    wrappers[data[0]](&b, data + 1, size - 1);
    unsigned char *exact = realloc(b.data, b.size);
    open_file(exact, b.size);
    free(exact);
    return 0;
}
