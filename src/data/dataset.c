/* Classes, pictures and skipped files: storage and access. */
#include "data/dataset.h"

#include <string.h>

/* Makes room for one more item in a growing array. */
static tl_status reserve(tl_context *ctx, void **items, int64_t *capacity, int64_t count,
                         size_t size) {
    if (count < *capacity) return TL_OK;
    int64_t larger = *capacity ? *capacity * 2 : 16;
    void *moved = tl_realloc(ctx, *items, (size_t)larger * size);
    TL_CHECK_MEMORY(moved);
    *items = moved;
    *capacity = larger;
    return TL_OK;
}

tl_status tl_dataset_create(tl_context *ctx, size_t root_length, tl_dataset **out) {
    *out = NULL;
    tl_dataset *dataset = tl_alloc_zero(ctx, sizeof *dataset);
    TL_CHECK_MEMORY(dataset);
    dataset->ctx = ctx;
    dataset->root_length = root_length;
    pthread_mutex_init(&dataset->lock, NULL);
    *out = dataset;
    return TL_OK;
}

void tl_dataset_free(tl_dataset *dataset) {
    if (!dataset) return;
    tl_context *ctx = dataset->ctx;
    for (int i = 0; i < dataset->class_count; i++) tl_free(ctx, dataset->class_name[i]);
    for (int64_t i = 0; i < dataset->count; i++) tl_free(ctx, dataset->sample[i].path);
    for (int64_t i = 0; i < dataset->skipped_count; i++) {
        tl_free(ctx, dataset->skipped[i].path);
        tl_free(ctx, dataset->skipped[i].reason);
    }
    tl_free(ctx, dataset->class_name);
    tl_free(ctx, dataset->sample);
    tl_free(ctx, dataset->skipped);
    pthread_mutex_destroy(&dataset->lock);
    tl_free(ctx, dataset);
}

tl_status tl_dataset_add_class(tl_dataset *dataset, const char *name) {
    TL_CHECK(dataset->class_count < TL_MAX_CLASSES, TL_LIMIT, "more than %d class folders",
             TL_MAX_CLASSES);
    void *names = dataset->class_name;
    TL_TRY(reserve(dataset->ctx, &names, &dataset->class_capacity, dataset->class_count,
                   sizeof *dataset->class_name));
    dataset->class_name = names;
    char *copy = tl_strdup(dataset->ctx, name);
    TL_CHECK_MEMORY(copy);
    dataset->class_name[dataset->class_count++] = copy;
    return TL_OK;
}

tl_status tl_dataset_add_sample(tl_dataset *dataset, const char *path, int label) {
    void *samples = dataset->sample;
    TL_TRY(reserve(dataset->ctx, &samples, &dataset->capacity, dataset->count,
                   sizeof *dataset->sample));
    dataset->sample = samples;
    char *copy = tl_strdup(dataset->ctx, path);
    TL_CHECK_MEMORY(copy);
    dataset->sample[dataset->count++] = (tl_sample){copy, label, false};
    return TL_OK;
}

static const char *without_path(const char *reason, const char *path) {
    size_t length = strlen(path);
    bool named = strncmp(reason, path, length) == 0 && strncmp(reason + length, ": ", 2) == 0;
    return named ? reason + length + 2 : reason;
}

/* With the lock held. */
static tl_status append_skip(tl_dataset *dataset, const char *path, const char *reason,
                             tl_skip *out) {
    tl_context *ctx = dataset->ctx;
    void *skipped = dataset->skipped;
    TL_TRY(reserve(ctx, &skipped, &dataset->skipped_capacity, dataset->skipped_count,
                   sizeof *dataset->skipped));
    dataset->skipped = skipped;
    tl_skip skip = {tl_strdup(ctx, path), tl_strdup(ctx, without_path(reason, path))};
    if (!skip.path || !skip.reason) {
        tl_free(ctx, skip.path);
        tl_free(ctx, skip.reason);
        return TL_NO_MEMORY;
    }
    *out = dataset->skipped[dataset->skipped_count++] = skip;
    return TL_OK;
}

/* Without the lock: the callback may look at the dataset. Texts live as long as that. */
static void log_skip(const tl_dataset *dataset, const tl_skip *skip) {
    if (skip->path)
        tl_log(dataset->ctx, TL_LOG_WARNING, "skipped %s: %s", skip->path, skip->reason);
}

tl_status tl_dataset_skip(tl_dataset *dataset, const char *path, const char *reason) {
    tl_skip added = {0};
    pthread_mutex_lock(&dataset->lock);
    tl_status status = append_skip(dataset, path, reason, &added);
    pthread_mutex_unlock(&dataset->lock);
    log_skip(dataset, &added);
    return status;
}

tl_status tl_dataset_mark_bad(tl_dataset *dataset, int64_t index, const char *reason) {
    tl_sample *sample = &dataset->sample[index];
    tl_status status = TL_OK;
    tl_skip added = {0};
    pthread_mutex_lock(&dataset->lock);
    if (!sample->bad) status = append_skip(dataset, sample->path, reason, &added);
    if (status == TL_OK) sample->bad = true;
    pthread_mutex_unlock(&dataset->lock);
    log_skip(dataset, &added);
    return status;
}

bool tl_dataset_is_bad(tl_dataset *dataset, int64_t index) {
    pthread_mutex_lock(&dataset->lock);
    bool bad = dataset->sample[index].bad;
    pthread_mutex_unlock(&dataset->lock);
    return bad;
}

int64_t tl_dataset_count(const tl_dataset *dataset) {
    return dataset ? dataset->count : 0;
}

static const tl_sample *sample_at(const tl_dataset *dataset, int64_t index) {
    return dataset && index >= 0 && index < dataset->count ? &dataset->sample[index] : NULL;
}

const char *tl_dataset_path(const tl_dataset *dataset, int64_t index) {
    const tl_sample *sample = sample_at(dataset, index);
    return sample ? sample->path : NULL;
}

int tl_dataset_label(const tl_dataset *dataset, int64_t index) {
    const tl_sample *sample = sample_at(dataset, index);
    return sample ? sample->label : -1;
}

int tl_dataset_class_count(const tl_dataset *dataset) {
    return dataset ? dataset->class_count : 0;
}

const char *tl_dataset_class_name(const tl_dataset *dataset, int index) {
    return dataset && index >= 0 && index < dataset->class_count ? dataset->class_name[index]
                                                                 : NULL;
}

/* Loaders may be adding skips meanwhile; a lock is no change that a const caller could see. */
static tl_skip skip_at(const tl_dataset *dataset, int64_t index, int64_t *count) {
    pthread_mutex_t *lock = (pthread_mutex_t *)&dataset->lock;
    tl_skip skip = {0};
    pthread_mutex_lock(lock);
    if (index >= 0 && index < dataset->skipped_count) skip = dataset->skipped[index];
    *count = dataset->skipped_count;
    pthread_mutex_unlock(lock);
    return skip;
}

int64_t tl_dataset_skipped_count(const tl_dataset *dataset) {
    int64_t count = 0;
    if (dataset) skip_at(dataset, -1, &count);
    return count;
}

const char *tl_dataset_skipped_path(const tl_dataset *dataset, int64_t index) {
    int64_t count;
    return dataset ? skip_at(dataset, index, &count).path : NULL;
}

const char *tl_dataset_skipped_reason(const tl_dataset *dataset, int64_t index) {
    int64_t count;
    return dataset ? skip_at(dataset, index, &count).reason : NULL;
}
