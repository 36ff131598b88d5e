/* The context's thread pool: persistent workers or the caller's own threads, one job at a time, a
 * static split of its range. */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/context_struct.h"
#include "base/float_state.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#define CPU_RELAX() _mm_pause()
#elif defined(__aarch64__)
#define CPU_RELAX() __asm__ volatile("yield")
#else
#define CPU_RELAX() ((void)0)
#endif

/* Threads look for the next job, or for the others to finish this one, so long before they sleep:
 * more than the distance between two layers of a network and than what one thread's share of a
 * layer takes longer than another's, so that a pass wakes each worker once. How long a pause takes
 * differs tenfold between processors. */
enum { SPIN_NANOSECONDS = 100000, SPINS_A_LOOK = 32 };

typedef struct tl_worker {
    struct tl_pool *pool;
    pthread_t thread;
    int index; /* 1 .. threads-1; the caller is 0 */
} tl_worker;

struct tl_pool {
    pthread_mutex_t job_lock; /* held by the thread whose job is running */
    pthread_mutex_t lock;     /* guards sleeping and waking */
    pthread_cond_t wake, finished;
    atomic_uint generation; /* counts jobs */
    atomic_int pending;     /* workers that have not finished the current job */
    atomic_bool stop;
    /* the current job */
    tl_task_fn fn;
    void *arg;
    int64_t count;
    int parts;

    tl_parallel_for_fn parallel_for; /* the caller's threads; NULL: workers */
    void *parallel_user;

    pid_t owner; /* after fork() the child has no workers */
    int threads;
    int started;
    tl_worker *worker;
};

static void run_part(const struct tl_pool *pool, int part) {
    if (part >= pool->parts) return;
    int64_t begin = pool->count * part / pool->parts;
    int64_t end = pool->count * (part + 1) / pool->parts;
    if (begin < end) pool->fn(pool->arg, begin, end);
}

typedef bool (*spin_test)(struct tl_pool *pool, unsigned seen);

/* Whether what is waited for has come. */
static bool spin_for(spin_test come, struct tl_pool *pool, unsigned seen) {
    int64_t begin = 0;
    do {
        for (int i = 0; i < SPINS_A_LOOK; i++) {
            if (come(pool, seen)) return true;
            CPU_RELAX();
        }
        if (!begin) begin = tl_nanoseconds();
    } while (tl_nanoseconds() - begin < SPIN_NANOSECONDS);
    return false;
}

static bool job_has_come(struct tl_pool *pool, unsigned seen) {
    return atomic_load(&pool->generation) != seen || atomic_load(&pool->stop);
}

static bool workers_are_done(struct tl_pool *pool, unsigned seen) {
    (void)seen;
    return atomic_load(&pool->pending) == 0;
}

static void finish_part(struct tl_pool *pool) {
    if (atomic_fetch_sub(&pool->pending, 1) != 1) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->finished);
    pthread_mutex_unlock(&pool->lock);
}

static void wait_for_job(struct tl_pool *pool, unsigned seen) {
    if (spin_for(job_has_come, pool, seen)) return;
    pthread_mutex_lock(&pool->lock);
    while (!job_has_come(pool, seen)) pthread_cond_wait(&pool->wake, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg) {
    const tl_worker *worker = arg;
    struct tl_pool *pool = worker->pool;
    tl_float_enter();
    unsigned seen = 0;
    for (;;) {
        wait_for_job(pool, seen);
        if (atomic_load(&pool->stop)) return NULL;
        seen++;
        run_part(pool, worker->index);
        finish_part(pool);
    }
}

static void start_job(struct tl_pool *pool) {
    atomic_store(&pool->pending, pool->threads - 1);
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

static void wait_for_workers(struct tl_pool *pool) {
    if (spin_for(workers_are_done, pool, 0)) return;
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->pending) != 0) pthread_cond_wait(&pool->finished, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

static void run_on_workers(struct tl_pool *pool) {
    start_job(pool);
    run_part(pool, 0);
    wait_for_workers(pool);
}

/* On a thread of the caller's, whose floating-point state is not ours. */
static void run_callers_part(void *arg, int index) {
    tl_float_state saved = tl_float_enter();
    run_part(arg, index);
    tl_float_leave(saved);
}

void tl_parallel(tl_context *ctx, int64_t count, tl_task_fn fn, void *arg) {
    if (count <= 0) return;
    tl_float_state saved = tl_float_enter();
    struct tl_pool *pool = ctx->pool;
    bool shared =
        pool && count > 1 && pool->owner == getpid() && pthread_mutex_trylock(&pool->job_lock) == 0;
    if (!shared) {
        fn(arg, 0, count);
    } else {
        pool->fn = fn;
        pool->arg = arg;
        pool->count = count;
        pool->parts = count < pool->threads ? (int)count : pool->threads;
        if (pool->parallel_for) {
            pool->parallel_for(pool->parallel_user, pool->parts, run_callers_part, pool);
        } else {
            run_on_workers(pool);
        }
        pthread_mutex_unlock(&pool->job_lock);
    }
    tl_float_leave(saved);
}

typedef struct each_job {
    tl_each_fn fn;
    void *arg;
    int64_t count;
    atomic_int_fast64_t next;
    tl_failure failure;
} each_job;

/* The range is a thread and not what it works on. */
static void take_each(void *arg, int64_t begin, int64_t end) {
    (void)begin, (void)end;
    each_job *job = arg;
    for (int64_t i; (i = atomic_fetch_add(&job->next, 1)) < job->count;)
        tl_failure_note(&job->failure, i, job->fn(job->arg, i));
}

tl_status tl_parallel_each(tl_context *ctx, int64_t count, tl_each_fn fn, void *arg) {
    each_job job = {fn, arg, count, 0, TL_FAILURE_NONE};
    tl_parallel(ctx, tl_context_threads(ctx), take_each, &job);
    return tl_failure_raise(&job.failure);
}

static tl_status start_workers(tl_context *ctx, struct tl_pool *pool) {
    pool->worker = tl_alloc_array(ctx, (size_t)pool->threads, sizeof *pool->worker);
    TL_CHECK_MEMORY(pool->worker);
    for (int i = 1; i < pool->threads; i++) {
        tl_worker *worker = &pool->worker[pool->started];
        *worker = (tl_worker){.pool = pool, .index = i};
        int error = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (error) {
            return tl_fail(TL_LIMIT, "thread %d of %d could not be started", i + 1, pool->threads);
        }
        pool->started++;
    }
    return TL_OK;
}

tl_status tl_pool_create(tl_context *ctx, const tl_context_options *options, struct tl_pool **out) {
    struct tl_pool *pool = tl_alloc_zero(ctx, sizeof *pool);
    TL_CHECK_MEMORY(pool);
    pthread_mutex_init(&pool->job_lock, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->owner = getpid();
    pool->threads = ctx->threads;
    pool->parallel_for = options->parallel_for;
    pool->parallel_user = options->parallel_user;
    *out = pool;
    return pool->parallel_for ? TL_OK : start_workers(ctx, pool);
}

static void join_workers(struct tl_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->worker[i].thread, NULL);
}

void tl_pool_free(tl_context *ctx, struct tl_pool *pool) {
    if (!pool) return;
    if (pool->owner == getpid()) {
        join_workers(pool);
        pthread_cond_destroy(&pool->finished);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->lock);
        pthread_mutex_destroy(&pool->job_lock);
    }
    tl_free(ctx, pool->worker);
    tl_free(ctx, pool);
}
