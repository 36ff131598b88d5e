/* The context's struct, private to src/base. */
#ifndef TL_BASE_CONTEXT_STRUCT_H
#define TL_BASE_CONTEXT_STRUCT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/context.h"

struct tl_pool;

struct tl_context {
    tl_alloc_fn alloc;
    void *alloc_user;
    size_t memory_limit;
    bool low_memory;
    atomic_size_t memory_current, memory_peak;

    tl_log_fn log;
    void *log_user;
    pthread_mutex_t log_lock;

    int threads;
    struct tl_pool *pool;    /* NULL when threads is 1 */
    struct tl_context *lane; /* itself when threads is 1 */
    const struct tl_isa *isa;
};

/* Threads of its own, or those behind options->parallel_for. */
tl_status tl_pool_create(tl_context *ctx, const tl_context_options *options, struct tl_pool **out);
void tl_pool_free(tl_context *ctx, struct tl_pool *pool);

#endif
