/* For tests of readers of hostile bytes: a buffer to build files in, and what must hold for every
 * file, good or bad. Include "support.h" first. */
#ifndef TL_TESTS_HOSTILE_H
#define TL_TESTS_HOSTILE_H

#include <time.h>

#include <jansson.h>

#include "io/weights.h"

/* --- building --------------------------------------------------------------------------------- */

typedef struct bytes {
    unsigned char *data;
    size_t size, capacity;
} bytes;

static inline void put(bytes *b, const void *data, size_t size) {
    if (b->size + size > b->capacity) {
        b->capacity = 2 * (b->size + size) + 64;
        b->data = realloc(b->data, b->capacity);
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

static inline void put_text(bytes *b, const char *text) {
    put(b, text, strlen(text));
}

/* `size` bytes of a number, little endian. */
static inline void put_number(bytes *b, uint64_t number, int size) {
    for (int i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)(number >> (8 * i));
        put(b, &byte, 1);
    }
}

static inline void put_repeated(bytes *b, const char *text, size_t times) {
    for (size_t i = 0; i < times; i++) put_text(b, text);
}

static inline void set_number(bytes *b, size_t at, uint64_t number, int size) {
    for (int i = 0; i < size; i++) b->data[at + (size_t)i] = (unsigned char)(number >> (8 * i));
}

/* --- memory: the context's and jansson's together --------------------------------------------- */

typedef struct hostile_memory {
    size_t live, peak, calls, fail_at; /* call number `fail_at` fails; 0 = none */
    bool json_failed;                  /* that call was jansson's */
} hostile_memory;

static hostile_memory hostile;

static inline void *hostile_alloc(void *user, void *ptr, size_t old_size, size_t new_size) {
    (void)user;
    if (new_size == 0) {
        if (ptr) hostile.live -= old_size;
        free(ptr);
        return NULL;
    }
    if (++hostile.calls == hostile.fail_at) return NULL;
    void *moved = realloc(ptr, new_size);
    if (!moved) return NULL;
    hostile.live += new_size - (ptr ? old_size : 0);
    if (hostile.live > hostile.peak) hostile.peak = hostile.live;
    return moved;
}

/* jansson frees without a size: keep it in front, with malloc's own overhead counted. */
enum { HOSTILE_HEADER = 16 };

static inline void *hostile_json_malloc(size_t size) {
    char *block = hostile_alloc(NULL, NULL, 0, size + HOSTILE_HEADER);
    if (!block) {
        hostile.json_failed = true;
        return NULL;
    }
    memcpy(block, &size, sizeof size);
    return block + HOSTILE_HEADER;
}

static inline void hostile_json_free(void *ptr) {
    if (!ptr) return;
    char *block = (char *)ptr - HOSTILE_HEADER;
    size_t size;
    memcpy(&size, block, sizeof size);
    hostile_alloc(NULL, block, size + HOSTILE_HEADER, 0);
}

/* A single-threaded context whose memory, and all of jansson's, is counted in `hostile`. */
static inline tl_context *hostile_context(void) {
    json_set_alloc_funcs(hostile_json_malloc, hostile_json_free);
    hostile = (hostile_memory){0};
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.alloc = hostile_alloc;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    return ctx;
}

/* --- reading ---------------------------------------------------------------------------------- */

static inline tl_status open_bytes(tl_context *ctx, const void *data, size_t size,
                                   tl_weights **out) {
    *out = NULL;
    tl_source source;
    tl_status status = tl_source_from_memory(ctx, "hostile", data, size, &source);
    return status == TL_OK ? tl_weights_open(ctx, &source, out) : status;
}

/* Reads all tensors; *sum is a checksum of names and bits. */
static inline tl_status read_tensors(const tl_weights *weights, uint64_t *sum) {
    *sum = (uint64_t)weights->count;
    for (int i = 0; i < weights->count; i++) {
        size_t count = (size_t)tl_shape_count(&weights->item[i].shape);
        float *out = malloc((count ? count : 1) * sizeof *out);
        tl_status status = tl_weights_read(weights, i, out);
        for (const char *c = weights->item[i].name; *c; c++) *sum = *sum * 31 + (uint64_t)*c;
        for (size_t k = 0; k < count && status == TL_OK; k++) {
            uint32_t bits;
            memcpy(&bits, &out[k], sizeof bits);
            *sum = *sum * 1099511628211u + bits;
        }
        free(out);
        if (status != TL_OK) return status;
    }
    return TL_OK;
}

static inline tl_status open_and_read(tl_context *ctx, const void *data, size_t size,
                                      uint64_t *sum) {
    tl_weights *weights = NULL;
    tl_status status = open_bytes(ctx, data, size, &weights);
    if (status == TL_OK) status = read_tensors(weights, sum);
    tl_weights_free(weights);
    return status;
}

/* What the checks below read a file with; a program for another format sets it. *sum is a checksum
 * of what was read. */
static tl_status (*hostile_read)(tl_context *ctx, const void *data, size_t size,
                                 uint64_t *sum) = open_and_read;

/* --- tables of bad files ---------------------------------------------------------------------- */

typedef struct bad_file {
    const char *name;
    void (*build)(bytes *b);
    tl_status status;
    const char *text; /* that the message must contain: an offset or a field */
} bad_file;

/* A file is refused with the right code and text, in time, within the memory limit, without a
 * leak. Returns whether it was, and says what was not. */
static inline bool check_bad_file(tl_context *ctx, const bad_file *bad) {
    bytes b = {0};
    bad->build(&b);
    size_t before = hostile.live;
    hostile.peak = before;
    uint64_t sum;
    clock_t begin = clock();
    tl_status status = hostile_read(ctx, b.data, b.size, &sum);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    bool good = true;
    if (status != bad->status || (status != TL_OK && !strstr(tl_last_error(), bad->text))) {
        print_error("%s: got %s \"%s\", expected %s \"%s\"\n", bad->name, tl_status_name(status),
                    status == TL_OK ? "" : tl_last_error(), tl_status_name(bad->status), bad->text);
        good = false;
    }
    if (status != TL_OK && status != TL_NO_MEMORY && !strstr(tl_last_error(), "hostile")) {
        print_error("%s: \"%s\" does not name the file\n", bad->name, tl_last_error());
        good = false;
    }
    if (hostile.live != before) {
        print_error("%s: %zu bytes leaked\n", bad->name, hostile.live - before);
        good = false;
    }
    if (hostile.peak - before > 16 * 1024 * 1024 + 4 * b.size) {
        print_error("%s: %zu bytes of memory for a file of %zu\n", bad->name, hostile.peak - before,
                    b.size);
        good = false;
    }
    if (b.size <= 1000 * 1000 && seconds > 0.1 * slower()) {
        print_error("%s: refusing took %.0f ms\n", bad->name, 1e3 * seconds);
        good = false;
    }
    free(b.data);
    return good;
}

static inline void check_bad_files(const bad_file *files, size_t count) {
    tl_context *ctx = hostile_context();
    int failures = 0;
    for (size_t i = 0; i < count; i++) failures += !check_bad_file(ctx, &files[i]);
    tl_context_free(ctx);
    assert_int_equal(failures, 0);
}

/* --- what must hold for a good file ----------------------------------------------------------- */

/* Every shorter file is refused. */
static inline void check_every_truncation(const bytes *good) {
    tl_context *ctx = hostile_context();
    size_t before = hostile.live;
    for (size_t size = 0; size < good->size; size++) {
        /* A block of its own, so that the address sanitizer sees a read past its end. */
        unsigned char *part = malloc(size ? size : 1);
        memcpy(part, good->data, size);
        uint64_t sum;
        tl_status status = hostile_read(ctx, part, size, &sum);
        free(part);
        if (status == TL_OK) fail_msg("%zu of %zu bytes were accepted", size, good->size);
        if (status == TL_NO_MEMORY || status == TL_IO) fail_msg("%zu: %s", size, tl_last_error());
    }
    assert_int_equal(hostile.live, before);
    tl_context_free(ctx);
}

/* No flipped bit does harm; returns how many were noticed. */
static inline size_t check_every_bit_flip(const bytes *good) {
    tl_context *ctx = hostile_context();
    size_t before = hostile.live, noticed = 0;
    unsigned char *copy = malloc(good->size);
    memcpy(copy, good->data, good->size);
    for (size_t bit = 0; bit < 8 * good->size; bit++) {
        copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
        uint64_t sum;
        noticed += hostile_read(ctx, copy, good->size, &sum) != TL_OK;
        copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    free(copy);
    assert_int_equal(hostile.live, before);
    tl_context_free(ctx);
    return noticed;
}

/* Every allocation fails once: the code is NO_MEMORY, nothing leaks, and the retry gives the
 * same. jansson 2.14 takes some of its own failed allocations for syntax errors, and at others cuts
 * a string short, which is refused for what it then says. */
static inline void check_every_allocation(const bytes *good) {
    tl_context *ctx = hostile_context();
    size_t before = hostile.live;
    uint64_t expected, sum;
    hostile.calls = 0;
    assert_ok(hostile_read(ctx, good->data, good->size, &expected));
    size_t calls = hostile.calls;
    assert_true(calls > 5);
    for (size_t n = 1; n <= calls; n++) {
        hostile.calls = 0;
        hostile.fail_at = n;
        hostile.json_failed = false;
        tl_status status = hostile_read(ctx, good->data, good->size, &sum);
        hostile.fail_at = 0;
        if (status != TL_NO_MEMORY && !(hostile.json_failed && status != TL_OK)) {
            fail_msg("call %zu of %zu: %s %s", n, calls, tl_status_name(status), tl_last_error());
        }
        assert_int_equal(hostile.live, before);
        assert_ok(hostile_read(ctx, good->data, good->size, &sum));
        assert_true(sum == expected);
    }
    tl_context_free(ctx);
}

#endif
