/* Plans for inference, kept between calls and lent to one thread at a time. */
#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "model/model.h"

typedef struct entry {
    tl_plan *plan;
    tl_dtype dtype;
    int to;
    tl_shape input; /* dim[0]: largest batch */
    bool busy;
    int generation; /* the pool's when it was made */
    struct entry *next;
} entry;

struct tl_plan_pool {
    tl_context *ctx;
    pthread_mutex_t lock;
    entry *entries;
    int idle;
    int generation; /* how many parameters are exposed, which their plans have to know */
};

/* Enough for one plan a thread of a busy server; more idle plans than that are dropped. */
enum { MOST_IDLE = 16 };

tl_status tl_plan_pool_create(tl_context *ctx, tl_plan_pool **out) {
    *out = NULL;
    tl_plan_pool *pool = tl_alloc_zero(ctx, sizeof *pool);
    TL_CHECK_MEMORY(pool);
    pool->ctx = ctx;
    int error = pthread_mutex_init(&pool->lock, NULL);
    if (error != 0) {
        tl_free(ctx, pool);
        return tl_fail_errno(error, "creating a lock");
    }
    *out = pool;
    return TL_OK;
}

static void drop(tl_plan_pool *pool, entry *e) {
    tl_plan_free(e->plan);
    tl_free(pool->ctx, e);
}

void tl_plan_pool_clear(tl_plan_pool *pool) {
    while (pool->entries) {
        entry *e = pool->entries;
        assert(!e->busy);
        pool->entries = e->next;
        drop(pool, e);
    }
    pool->idle = 0;
}

void tl_plan_pool_free(tl_plan_pool *pool) {
    if (!pool) return;
    tl_plan_pool_clear(pool);
    pthread_mutex_destroy(&pool->lock);
    tl_free(pool->ctx, pool);
}

void tl_plan_pool_expose(tl_plan_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->generation++;
    for (entry **link = &pool->entries; *link;) {
        entry *e = *link;
        if (e->busy) {
            link = &e->next;
            continue;
        }
        *link = e->next;
        drop(pool, e);
    }
    pool->idle = 0;
    pthread_mutex_unlock(&pool->lock);
}

static entry *take_idle(tl_plan_pool *pool, tl_dtype dtype, int to, const tl_shape *input) {
    entry *found = NULL;
    pthread_mutex_lock(&pool->lock);
    for (entry *e = pool->entries; e && !found; e = e->next)
        if (!e->busy && e->dtype == dtype && e->to == to && tl_shape_equal(&e->input, input))
            found = e;
    if (found) {
        found->busy = true;
        pool->idle--;
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

static tl_status make_entry(const tl_model *model, tl_dtype dtype, int to, const tl_shape *input,
                            entry **out) {
    tl_plan_pool *pool = model->plans;
    entry *e = tl_alloc_zero(pool->ctx, sizeof *e);
    TL_CHECK_MEMORY(e);
    *e = (entry){
        .dtype = dtype, .to = to, .input = *input, .busy = true, .generation = pool->generation};
    tl_plan_options options = {.from = 0, .to = to, .input = *input, .dtype = dtype};
    tl_status status = tl_plan_create(model->graph, &options, &e->plan);
    if (status != TL_OK) {
        tl_free(pool->ctx, e);
        return status;
    }
    pthread_mutex_lock(&pool->lock);
    e->next = pool->entries;
    pool->entries = e;
    pthread_mutex_unlock(&pool->lock);
    *out = e;
    return TL_OK;
}

tl_status tl_model_borrow_plan(const tl_model *model, tl_dtype dtype, int to, int64_t batch,
                               const tl_shape *input, tl_plan **out) {
    *out = NULL;
    tl_shape shape = input ? *input : model->graph->node[0].shape;
    shape.dim[0] = batch;
    entry *e = take_idle(model->plans, dtype, to, &shape);
    tl_status status = TL_OK;
    if (!e) {
        TL_TRY(make_entry(model, dtype, to, &shape, &e));
    } else if (e->generation > 0) {
        status = tl_plan_repack(e->plan);
    }
    if (status != TL_OK) {
        tl_model_return_plan(model, e->plan);
        return status;
    }
    *out = e->plan;
    return TL_OK;
}

void tl_model_return_plan(const tl_model *model, tl_plan *plan) {
    tl_plan_pool *pool = model->plans;
    pthread_mutex_lock(&pool->lock);
    entry **link = &pool->entries;
    while (*link && (*link)->plan != plan) link = &(*link)->next;
    entry *e = *link;
    assert(e && e->busy);
    bool keep = pool->idle < MOST_IDLE && e->generation == pool->generation;
    e->busy = false;
    if (keep)
        pool->idle++;
    else
        *link = e->next;
    pthread_mutex_unlock(&pool->lock);
    if (!keep) drop(pool, e);
}
