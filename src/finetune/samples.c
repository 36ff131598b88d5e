#include "finetune/samples.h"

#include <string.h>

#include "base/rng.h"

struct tl_samples {
    tl_context *ctx;
    tl_dataset *dataset;
    tl_trainer *trainer;
    tl_loader_options options;
    tl_loader *loader;
    int64_t count; /* of pictures in the dataset */
    size_t width;  /* floats a picture's features take */
    /* Once cached: */
    float *cache;     /* [count width] */
    bool *present;    /* [count]: could be read */
    int64_t *order;   /* [count] */
    int64_t position; /* in order */
    float *features;  /* one batch, gathered */
    int32_t *labels;
    int64_t *indices;
};

tl_status tl_samples_open(tl_dataset *dataset, const tl_model *model, tl_trainer *trainer,
                          const tl_loader_options *options, tl_samples **out) {
    *out = NULL;
    tl_samples *s = tl_alloc_zero(model->ctx, sizeof *s);
    TL_CHECK_MEMORY(s);
    s->ctx = model->ctx;
    s->dataset = dataset;
    s->trainer = trainer;
    s->options = *options;
    s->count = tl_dataset_count(dataset);
    s->width = (size_t)tl_trainer_feature_count(trainer);
    tl_status status = tl_loader_create(dataset, model, options, &s->loader);
    if (status != TL_OK) {
        tl_samples_free(s);
        return status;
    }
    *out = s;
    return TL_OK;
}

void tl_samples_free(tl_samples *s) {
    if (!s) return;
    tl_samples_drop_cache(s);
    tl_loader_free(s->loader);
    tl_free(s->ctx, s);
}

/* --- filling the cache -------------------------------------------------------------------- */

double tl_samples_cache_bytes(const tl_samples *s) {
    return (double)s->count * (double)s->width * sizeof(float);
}

void tl_samples_drop_cache(tl_samples *s) {
    void *blocks[] = {s->cache, s->present, s->order, s->features, s->labels, s->indices};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tl_free(s->ctx, blocks[i]);
    s->cache = s->features = NULL;
    s->present = NULL;
    s->order = s->indices = NULL;
    s->labels = NULL;
}

tl_status tl_samples_reserve_cache(tl_samples *s) {
    size_t count = (size_t)s->count, batch = (size_t)s->options.batch;
    s->cache = tl_alloc_array(s->ctx, count, s->width * sizeof *s->cache);
    TL_CHECK_MEMORY(s->cache);
    s->present = tl_alloc_zero(s->ctx, count * sizeof *s->present);
    TL_CHECK_MEMORY(s->present);
    s->order = tl_alloc_array(s->ctx, count, sizeof *s->order);
    TL_CHECK_MEMORY(s->order);
    s->features = tl_alloc_array(s->ctx, batch, s->width * sizeof *s->features);
    TL_CHECK_MEMORY(s->features);
    s->labels = tl_alloc_array(s->ctx, batch, sizeof *s->labels);
    TL_CHECK_MEMORY(s->labels);
    s->indices = tl_alloc_array(s->ctx, batch, sizeof *s->indices);
    TL_CHECK_MEMORY(s->indices);
    return TL_OK;
}

/* The next batch read from the pictures. */
static tl_status read_batch(tl_samples *s, tl_batch *batch) {
    const tl_tensor *inputs = NULL;
    *batch = (tl_batch){0};
    TL_TRY(tl_loader_next(s->loader, &inputs, &batch->labels, &batch->count));
    if (batch->count == 0) return TL_OK;
    batch->indices = tl_loader_indices(s->loader);
    return tl_trainer_features(s->trainer, inputs, &batch->features);
}

static tl_status fill(tl_samples *s, tl_watch *watch) {
    TL_TRY(tl_loader_start(s->loader, 0));
    for (;;) {
        tl_batch batch;
        TL_TRY(read_batch(s, &batch));
        if (batch.count == 0) return TL_OK;
        for (int64_t i = 0; i < batch.count; i++) {
            size_t index = (size_t)batch.indices[i];
            memcpy(s->cache + index * s->width, batch.features + (size_t)i * s->width,
                   s->width * sizeof *s->cache);
            s->present[index] = true;
        }
        TL_TRY(tl_watch_add(watch, batch.count));
    }
}

tl_status tl_samples_cache(tl_samples *s, tl_watch *watch) {
    TL_TRY(fill(s, watch));
    /* Its threads and buffers are no longer needed. */
    tl_loader_free(s->loader);
    s->loader = NULL;
    return TL_OK;
}

/* --- epochs ------------------------------------------------------------------------------- */

tl_status tl_samples_start(tl_samples *s, int64_t epoch) {
    if (!s->cache) return tl_loader_start(s->loader, epoch);
    for (int64_t i = 0; i < s->count; i++) s->order[i] = i;
    s->position = 0;
    /* The loader's own shuffle: the order must not depend on whether there is a cache. */
    tl_rng rng = tl_rng_make(s->options.seed, TL_RNG_SHUFFLE, (uint64_t)epoch, 0);
    if (s->options.shuffle) tl_rng_shuffle(&rng, s->order, s->count);
    return TL_OK;
}

tl_status tl_samples_next(tl_samples *s, tl_batch *batch) {
    if (!s->cache) return read_batch(s, batch);
    int64_t n = 0;
    for (; s->position < s->count && n < s->options.batch; s->position++) {
        int64_t index = s->order[s->position];
        if (!s->present[index]) continue;
        memcpy(s->features + (size_t)n * s->width, s->cache + (size_t)index * s->width,
               s->width * sizeof *s->features);
        s->labels[n] = tl_dataset_label(s->dataset, index);
        s->indices[n] = index;
        n++;
    }
    *batch =
        (tl_batch){.features = s->features, .labels = s->labels, .indices = s->indices, .count = n};
    return TL_OK;
}
