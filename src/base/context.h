/* The context's inside: memory, threads and messages. Include this to allocate or to run in
 * parallel; the struct itself is private to src/base. */
#ifndef TL_BASE_CONTEXT_H
#define TL_BASE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tl/context.h>

#include "base/error.h"

/* --- memory (alloc.c) --------------------------------------------------------------------
 * Blocks are aligned to 64 bytes and counted against the context's limit. A zero size gives a
 * valid block. Failure records a text and returns NULL; use TL_CHECK_MEMORY or return
 * TL_NO_MEMORY. Thread safe. */
void *tl_alloc(tl_context *ctx, size_t size);
void *tl_alloc_zero(tl_context *ctx, size_t size);
/* count * size with the overflow checked. */
void *tl_alloc_array(tl_context *ctx, size_t count, size_t size);
/* Keeps the content up to the smaller size; on failure the old block is untouched. */
void *tl_realloc(tl_context *ctx, void *block, size_t size);
void tl_free(tl_context *ctx, void *block); /* NULL is allowed */
/* Whether memory is wanted more than speed. */
bool tl_context_low_memory(const tl_context *ctx);
/* Bytes that the context's limit still allows; SIZE_MAX when it has none. */
size_t tl_memory_left(const tl_context *ctx);
char *tl_strdup(tl_context *ctx, const char *text);
/* printf into a new block; NULL when memory is out. */
char *tl_format(tl_context *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define TL_CHECK_MEMORY(pointer)                                                                   \
    do {                                                                                           \
        if (!(pointer)) return TL_NO_MEMORY;                                                       \
    } while (0)

/* --- threads (threads.c) -----------------------------------------------------------------
 * Runs fn(arg, begin, end) over a static split of [0, count) among the context's threads, the
 * caller included, and returns when all are done. Which thread gets which range is unspecified,
 * and the number of ranges depends on the thread count: a task must therefore give the same
 * result however the range is cut. When another thread is already inside tl_parallel() on this
 * context (or a task calls it), the range runs on the calling thread alone.
 * Denormals are flushed in tasks; the caller's floating-point state is restored. */
typedef void (*tl_task_fn)(void *arg, int64_t begin, int64_t end);
void tl_parallel(tl_context *ctx, int64_t count, tl_task_fn fn, void *arg);
/* Runs fn(arg, i) for each i in [0, count), of work that differs in length: a thread takes the next
 * when it has done one. All are run; of those that fail, the first in order is the result. */
typedef tl_status (*tl_each_fn)(void *arg, int64_t i);
tl_status tl_parallel_each(tl_context *ctx, int64_t count, tl_each_fn fn, void *arg);
/* The same context for code inside a task: it has one thread, so that what is computed with it
 * needs scratch for one only. Nothing is allocated with it. */
tl_context *tl_context_lane(tl_context *ctx);

/* --- messages ---------------------------------------------------------------------------- */
void tl_log(tl_context *ctx, tl_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* --- kernels: the tables chosen for this context; see kernels/kernels.h --------------------- */
struct tl_kernels;
const struct tl_kernels *tl_context_kernels(const tl_context *ctx); /* of float */
/* Of bf16; NULL when the instruction set has no arithmetic on it. */
const struct tl_kernels *tl_context_bf16_kernels(const tl_context *ctx);

#endif
