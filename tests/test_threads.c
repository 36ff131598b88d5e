/* A caller's own threads, and threads that have nothing to do. */
#include "graph_support.h"

#include <pthread.h>
#include <time.h>

#include "base/float_state.h"
#include "float_control.h"

/* --- a pool of the caller's: a thread for each part, the last part first ------------------------
 */

typedef struct callers_pool {
    int calls, parts, most;
} callers_pool;

typedef struct callers_part {
    void (*task)(void *arg, int index);
    void *arg;
    int index;
} callers_part;

static void *run_callers_part(void *arg) {
    const callers_part *part = arg;
    tl_float_state before = tl_float_enter();
    tl_float_leave(before);
    part->task(part->arg, part->index);
    tl_float_state after = tl_float_enter();
    tl_float_leave(after);
    return before == after ? NULL : arg;
}

static void callers_parallel_for(void *user, int count, void (*task)(void *arg, int index),
                                 void *arg) {
    callers_pool *pool = user;
    pthread_t threads[8];
    callers_part parts[8];
    pool->calls++;
    pool->parts += count;
    if (count > pool->most) pool->most = count;
    assert_true(count >= 1 && count <= 8);
    for (int i = count - 1; i >= 0; i--) {
        parts[i] = (callers_part){task, arg, i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_callers_part, &parts[i]), 0);
    }
    for (int i = 0; i < count; i++) {
        void *changed = NULL;
        pthread_join(threads[i], &changed);
        assert_null(changed);
    }
}

static tl_context *context_with(callers_pool *pool, int threads) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    assert_null(options.parallel_for);
    options.threads = threads;
    options.parallel_for = callers_parallel_for;
    options.parallel_user = pool;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    assert_int_equal(tl_context_threads(ctx), threads);
    return ctx;
}

static graph_result train_under(tl_context *ctx, uint64_t control) {
    tl_graph *graph = residual_net(ctx, "relu");
    tl_plan_options options = plan_options(graph, 4, true);
    options.batch_norm_training = true;
    float *input = random_input(&options, 1);
    uint64_t original = float_control();
    float_set_control(control);
    graph_result result = run_once(graph, &options, input);
    uint64_t after = float_control();
    float_set_control(original);
    assert_true(after == control);
    free(input);
    tl_graph_free(graph);
    tl_context_free(ctx);
    return result;
}

static graph_result train_once(tl_context *ctx) {
    return train_under(ctx, float_control());
}

static void test_callers_threads_give_the_same_bits(void **state) {
    (void)state;
    graph_result alone = train_once(make_context(1, NULL));
    for (int threads = 1; threads <= 5; threads += 2) {
        callers_pool pool = {0};
        graph_result own = train_once(make_context(threads, NULL));
        graph_result callers = train_once(context_with(&pool, threads));
        assert_same_result(&alone, &own, "own threads");
        assert_same_result(&alone, &callers, "caller's threads");
        assert_int_equal(pool.calls > 0, threads > 1);
        assert_int_equal(pool.most, threads > 1 ? threads : 0);
        free_result(&own);
        free_result(&callers);
    }
    free_result(&alone);
}

/* --- the caller's floating-point state ---------------------------------------------------------
 */

/* Rounding down and keeping denormals, which is neither the default nor the library's. */
static void test_callers_rounding_changes_no_bit(void **state) {
    (void)state;
    for (int threads = 1; threads <= 8; threads *= 2) {
        graph_result usual = train_once(make_context(threads, NULL));
        graph_result unusual = train_under(make_context(threads, NULL), float_unusual_control());
        assert_same_result(&usual, &unusual, "rounding down");
        free_result(&usual);
        free_result(&unusual);
    }
}

/* --- shared and nested ---------------------------------------------------------------------------
 */

typedef struct nested_job {
    tl_context *ctx;
    int hits[4][1000];
} nested_job;

static void count_task(void *arg, int64_t begin, int64_t end) {
    int *hits = arg;
    for (int64_t i = begin; i < end; i++) hits[i]++;
}

static void nested_task(void *arg, int64_t begin, int64_t end) {
    nested_job *job = arg;
    for (int64_t i = begin; i < end; i++) tl_parallel(job->ctx, 1000, count_task, job->hits[i]);
}

/* A task that wants threads gets none: a pool of a fixed size would wait for itself. */
static void test_callers_threads_are_not_nested(void **state) {
    (void)state;
    callers_pool pool = {0};
    nested_job job = {.ctx = context_with(&pool, 4)};
    tl_parallel(job.ctx, 4, nested_task, &job);
    assert_int_equal(pool.calls, 1);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 1000; j++) assert_int_equal(job.hits[i][j], 1);
    tl_context_free(job.ctx);
}

/* A program that was compiled before the hook existed. */
static void test_older_options(void **state) {
    (void)state;
    tl_context_options options;
    size_t older = offsetof(tl_context_options, parallel_for);
    memset(&options, 0x55, sizeof options);
    tl_context_options_init(&options, older);
    options.threads = 2;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    int hits[100] = {0};
    tl_parallel(ctx, 100, count_task, hits);
    for (int i = 0; i < 100; i++) assert_int_equal(hits[i], 1);
    tl_context_free(ctx);
}

/* --- idle ----------------------------------------------------------------------------------------
 */

static double processor_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void test_idle_threads_sleep(void **state) {
    (void)state;
    tl_context *ctx = make_context(4, NULL);
    static int hits[1000];
    tl_parallel(ctx, 1000, count_task, hits);
    const struct timespec settle = {.tv_nsec = 50 * 1000 * 1000}, idle = {.tv_nsec = 300 * 1000000};
    nanosleep(&settle, NULL);
    double before = processor_seconds();
    nanosleep(&idle, NULL);
    /* Three spinning workers would have used 0.9 s, or all that the machine has. */
    assert_true(processor_seconds() - before < 0.01);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_callers_threads_give_the_same_bits),
        cmocka_unit_test(test_callers_rounding_changes_no_bit),
        cmocka_unit_test(test_callers_threads_are_not_nested),
        cmocka_unit_test(test_older_options),
        cmocka_unit_test(test_idle_threads_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
