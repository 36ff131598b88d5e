#include "base/context_struct.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/options.h"
#include "kernels.h"

enum { TL_MAX_THREADS = 1024, TL_MAX_ISA = 16 };

/* More threads than this on a core only wait for each other. */
enum { THREADS_PER_CORE = 8 };

const char *tl_version(void) {
    return TL_VERSION;
}

void tl_context_options_init(tl_context_options *options, size_t size) {
    const tl_context_options defaults = {0};
    tl_options_init(options, size, &defaults, sizeof defaults);
}

int tl_isa_list(const char **names, int capacity) {
    const tl_isa *found[TL_MAX_ISA];
    int count = tl_isa_available(found, TL_MAX_ISA);
    for (int i = 0; i < count && i < capacity && names; i++) names[i] = found[i]->name;
    return count;
}

static tl_status choose_isa(const char *isa, const tl_isa **out) {
    const tl_isa *found[TL_MAX_ISA];
    int count = tl_isa_available(found, TL_MAX_ISA);
    bool from_environment = !isa || !*isa;
    if (from_environment) isa = getenv("TL_ISA");
    if (!isa || !*isa) {
        *out = found[count - 1];
        return TL_OK;
    }
    *out = tl_isa_find(isa);
    if (*out) return TL_OK;
    char choices[256] = "";
    for (int i = 0; i < count; i++) {
        size_t used = strlen(choices);
        snprintf(choices + used, sizeof choices - used, "%s%s", i ? ", " : "", found[i]->name);
    }
    return tl_fail(TL_INVALID_ARGUMENT,
                   "instruction set '%s'%s is not available; this build and machine offer: %s", isa,
                   from_environment ? " (TL_ISA)" : "", choices);
}

static int available_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count;
}

/* How many threads work: the caller's own are as many as it says. */
static int useful_threads(const tl_context_options *o) {
    int cores = available_cores();
    if (o->threads == 0) return cores;
    bool too_many = !o->parallel_for && o->threads / THREADS_PER_CORE >= cores;
    return too_many ? cores * THREADS_PER_CORE : o->threads;
}

enum { HUGE_PAGE = 1 << 21 };

/* The first touch of a page of 4 KB costs about half a microsecond, which for the packed weights of
 * a ResNet50 is more time than the network takes. Only whole huge pages are asked for, so that no
 * more memory becomes resident than the block has. */
static void *large_alloc(size_t size) {
    void *block = NULL;
    if (posix_memalign(&block, HUGE_PAGE, size) != 0) return NULL;
    (void)madvise(block, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return block;
}

/* The C library's allocator in the hook's form. */
static void *default_alloc(void *user, void *ptr, size_t old_size, size_t new_size) {
    (void)user;
    (void)old_size;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return !ptr && new_size >= HUGE_PAGE ? large_alloc(new_size) : realloc(ptr, new_size);
}

static tl_status create_lane(tl_context *ctx) {
    tl_context *lane = tl_alloc_zero(ctx, sizeof *lane);
    TL_CHECK_MEMORY(lane);
    lane->threads = 1;
    lane->lane = lane;
    lane->isa = ctx->isa;
    lane->low_memory = ctx->low_memory;
    ctx->lane = lane;
    return TL_OK;
}

tl_status tl_context_create(const tl_context_options *options, tl_context **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_context_create: out is NULL");
    *out = NULL;
    tl_context_options o;
    tl_context_options_init(&o, sizeof o);
    TL_TRY(tl_options_read("context", options, &o, sizeof o));
    if (!o.alloc) o.alloc = default_alloc;
    TL_CHECK(o.threads >= 0 && o.threads <= TL_MAX_THREADS, TL_INVALID_ARGUMENT,
             "threads is %d, expected 0 to %d", o.threads, TL_MAX_THREADS);
    const tl_isa *isa = NULL;
    TL_TRY(choose_isa(o.isa, &isa));

    tl_context *ctx = o.alloc(o.alloc_user, NULL, 0, sizeof *ctx);
    TL_CHECK(ctx, TL_NO_MEMORY, "out of memory: %zu bytes for a context", sizeof *ctx);
    memset(ctx, 0, sizeof *ctx);
    ctx->alloc = o.alloc;
    ctx->alloc_user = o.alloc_user;
    ctx->memory_limit = o.memory_limit;
    ctx->low_memory = o.low_memory != 0;
    ctx->log = o.log;
    ctx->log_user = o.log_user;
    ctx->isa = isa;
    ctx->threads = useful_threads(&o);
    pthread_mutex_init(&ctx->log_lock, NULL);

    ctx->lane = ctx;
    if (ctx->threads > 1) {
        tl_status status = create_lane(ctx);
        if (status == TL_OK) status = tl_pool_create(ctx, &o, &ctx->pool);
        if (status != TL_OK) {
            tl_context_free(ctx);
            return status;
        }
    }
    if (ctx->threads < o.threads)
        tl_log(ctx, TL_LOG_WARNING, "%d threads are too many for this machine: %d are used",
               o.threads, ctx->threads);
    *out = ctx;
    return TL_OK;
}

void tl_context_free(tl_context *ctx) {
    if (!ctx) return;
    tl_pool_free(ctx, ctx->pool);
    if (ctx->lane != ctx) tl_free(ctx, ctx->lane);
    pthread_mutex_destroy(&ctx->log_lock);
    ctx->alloc(ctx->alloc_user, ctx, sizeof *ctx, 0);
}

int tl_context_threads(const tl_context *ctx) {
    return ctx ? ctx->threads : 0;
}

const char *tl_context_isa(const tl_context *ctx) {
    return ctx ? ctx->isa->name : NULL;
}

tl_context *tl_context_lane(tl_context *ctx) {
    return ctx->lane;
}

const struct tl_kernels *tl_context_kernels(const tl_context *ctx) {
    return ctx->isa->f32;
}

const struct tl_kernels *tl_context_bf16_kernels(const tl_context *ctx) {
    return ctx->isa->bf16;
}

bool tl_context_low_memory(const tl_context *ctx) {
    return ctx->low_memory;
}

void tl_context_memory(const tl_context *ctx, size_t *current, size_t *peak) {
    if (current) *current = ctx ? atomic_load(&ctx->memory_current) : 0;
    if (peak) *peak = ctx ? atomic_load(&ctx->memory_peak) : 0;
}

void tl_log(tl_context *ctx, tl_log_level level, const char *format, ...) {
    if (!ctx->log) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&ctx->log_lock);
    ctx->log(ctx->log_user, level, text);
    pthread_mutex_unlock(&ctx->log_lock);
}
