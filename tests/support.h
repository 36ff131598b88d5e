/* What every test program shares. Include it first. */
#ifndef TL_TESTS_SUPPORT_H
#define TL_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tl/tl.h>

/* Fails with the library's own text. */
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        tl_status support_status = (call);                                                         \
        if (support_status != TL_OK) {                                                             \
            fail_msg("%s gave %s: %s", #call, tl_status_name(support_status), tl_last_error());    \
        }                                                                                          \
    } while (0)

/* Expects a failure and, unless `text` is NULL, that its text contains `text`. */
#define assert_fails(call, expected, text)                                                         \
    do {                                                                                           \
        tl_status support_status = (call);                                                         \
        const char *support_text = (text);                                                         \
        if (support_status != (expected)) {                                                        \
            fail_msg("%s gave %s (%s), expected %s", #call, tl_status_name(support_status),        \
                     tl_last_error(), tl_status_name(expected));                                   \
        }                                                                                          \
        if (support_text && !strstr(tl_last_error(), support_text)) {                              \
            fail_msg("%s: \"%s\" does not mention \"%s\"", #call, tl_last_error(), support_text);  \
        }                                                                                          \
    } while (0)

/* An allocator that counts live bytes and calls, and can fail call number `fail_at` (1-based; 0
 * never), once or from then on. Not thread safe: use it with one thread. */
typedef struct counting_allocator {
    size_t live, calls, fail_at;
    bool keep_failing;
} counting_allocator;

static inline void *counting_alloc(void *user, void *ptr, size_t old_size, size_t new_size) {
    counting_allocator *a = user;
    if (new_size == 0) {
        if (ptr) a->live -= old_size;
        free(ptr);
        return NULL;
    }
    a->calls++;
    if (a->fail_at && (a->calls == a->fail_at || (a->keep_failing && a->calls > a->fail_at))) {
        return NULL;
    }
    void *moved = realloc(ptr, new_size);
    if (moved) a->live += new_size - (ptr ? old_size : 0);
    return moved;
}

/* A context with `threads` threads, and `allocator` unless NULL. */
static inline tl_context *make_context(int threads, counting_allocator *allocator) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = threads;
    if (allocator) {
        options.alloc = counting_alloc;
        options.alloc_user = allocator;
    }
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    return ctx;
}

/* A new folder below the system's temporary one; remove_folder() deletes it with its content. */
static inline char *make_folder(void) {
    const char *base = getenv("TMPDIR");
    char *path = malloc(4096);
    snprintf(path, 4096, "%s/tl-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(path)) fail_msg("no temporary folder");
    return path;
}

static inline void remove_folder(char *path) {
    char command[4200];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) fail_msg("%s was not removed", path);
    free(path);
}

static inline void write_bytes(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        fail_msg("%s was not written", path);
    }
}

/* Uniform in [-1, 1), the same on every machine. */
static inline float support_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) * 0x1p-23f - 1.0f;
}

/* --- time ------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZER_SLOWER = 20 };
#else
enum { SANITIZER_SLOWER = 1 };
#endif

/* How much longer things may take here; an emulator says so in the environment. */
static inline int slower(void) {
    const char *emulator = getenv("TL_TEST_SLOWER");
    return SANITIZER_SLOWER * (emulator ? atoi(emulator) : 1);
}

#endif
