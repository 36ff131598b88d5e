/* Batches of pictures, read ahead of the consumer.
 *
 *   positions of the epoch's order:   ... taken | ready or being read | not begun ...
 *                                               ^ taken               ^ next
 *
 * Reader threads claim positions in order and leave 8-bit pictures in a ring of slots; the
 * consumer takes them in order, normalises them into the batch and names the bad ones. So batches,
 * and the list of skipped files, are the same for any number of threads. */
#include <pthread.h>
#include <string.h>

#include "base/float_state.h"
#include "base/options.h"
#include "data/dataset.h"

enum { MAX_BATCH = 65536, MAX_READERS = 1024 };

typedef struct slot {
    bool full;
    tl_status status; /* TL_OK: `image`; TL_NO_MEMORY: stop; else a bad picture */
    tl_image image;
    char *reason;
} slot;

struct tl_loader {
    tl_context *ctx;
    tl_dataset *dataset;
    tl_preprocess preprocess;
    tl_augment augment;
    int batch;
    bool shuffle;
    uint64_t seed;

    pthread_mutex_t lock; /* guards the fields below, up to the blank line */
    pthread_cond_t work, done;
    int64_t epoch, next, taken, limit;
    int reading; /* threads that hold a claimed position */
    bool stop;
    slot *slot;
    int slot_count;

    int64_t *order;
    pthread_t *thread;
    int thread_count;
    tl_tensor *inputs, *part; /* a whole batch; a view of its beginning, for the last one */
    int32_t *labels;
    int64_t *indices;
    int64_t readable; /* of the epoch so far */
};

void tl_loader_options_init(tl_loader_options *options, size_t size) {
    const tl_loader_options defaults = {.batch = 32};
    tl_options_init(options, size, &defaults, sizeof defaults);
}

/* --- readers --------------------------------------------------------------------------------- */

/* Random geometry may magnify, for which it needs all the detail. */
static tl_status augmented(tl_loader *loader, const tl_source *source, tl_rng *rng, tl_image *out) {
    tl_image decoded;
    TL_TRY(tl_image_decode(source, &decoded));
    tl_status status =
        tl_augment_apply(loader->ctx, &loader->augment, &loader->preprocess, &decoded, rng, out);
    tl_image_free(loader->ctx, &decoded);
    return status;
}

static tl_status read_picture(tl_loader *loader, int64_t index, int64_t epoch, tl_image *out) {
    tl_source source;
    tl_status status;
    TL_TRY(tl_source_open(loader->ctx, loader->dataset->sample[index].path, &source));
    if (tl_augment_active(&loader->augment)) {
        tl_rng rng = tl_rng_make(loader->seed, TL_RNG_AUGMENT, (uint64_t)epoch, (uint64_t)index);
        status = augmented(loader, &source, &rng, out);
    } else {
        status = tl_image_decode_fitted(&source, &loader->preprocess, out);
    }
    tl_source_close(&source);
    return status;
}

static slot read_slot(tl_loader *loader, int64_t index, int64_t epoch) {
    slot s = {.full = true};
    if (tl_dataset_is_bad(loader->dataset, index)) {
        s.status = TL_CORRUPT; /* named before */
        return s;
    }
    s.status = read_picture(loader, index, epoch, &s.image);
    if (s.status == TL_OK) return s;
    s.image = (tl_image){0};
    s.reason = tl_strdup(loader->ctx, tl_last_error());
    if (!s.reason) s.status = TL_NO_MEMORY;
    return s;
}

static void *reader_main(void *arg) {
    tl_loader *loader = arg;
    tl_float_enter(); /* a thread of its own begins with its creator's state */
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop) {
        if (loader->next >= loader->limit || loader->next - loader->taken >= loader->slot_count) {
            pthread_cond_wait(&loader->work, &loader->lock);
            continue;
        }
        const int64_t position = loader->next++, epoch = loader->epoch;
        loader->reading++;
        pthread_mutex_unlock(&loader->lock);
        slot s = read_slot(loader, loader->order[position], epoch);
        pthread_mutex_lock(&loader->lock);
        loader->slot[position % loader->slot_count] = s;
        loader->reading--;
        pthread_cond_broadcast(&loader->done);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static void clear_slot(tl_loader *loader, slot *s) {
    tl_image_free(loader->ctx, &s->image);
    tl_free(loader->ctx, s->reason);
    *s = (slot){0};
}

/* Ends the epoch under way: no position is claimed any more, and what was read is dropped. With
 * the lock held. */
static void drop_epoch(tl_loader *loader) {
    loader->limit = 0;
    while (loader->reading > 0) pthread_cond_wait(&loader->done, &loader->lock);
    for (int i = 0; i < loader->slot_count; i++) clear_slot(loader, &loader->slot[i]);
}

/* --- creation -------------------------------------------------------------------------------- */

static tl_status check_options(tl_context *ctx, const tl_loader_options *given,
                               tl_loader_options *out) {
    tl_loader_options_init(out, sizeof *out);
    TL_TRY(tl_options_read("loader", given, out, sizeof *out));
    TL_CHECK(out->batch >= 1 && out->batch <= MAX_BATCH, TL_INVALID_ARGUMENT,
             "loader: batch is %d, expected 1 to %d", out->batch, MAX_BATCH);
    TL_CHECK(out->threads >= 0 && out->threads <= MAX_READERS, TL_INVALID_ARGUMENT,
             "loader: threads is %d, expected 0 to %d", out->threads, MAX_READERS);
    if (out->threads == 0) out->threads = tl_context_threads(ctx);
    return TL_OK;
}

static tl_status allocate(tl_loader *loader, int threads) {
    tl_context *ctx = loader->ctx;
    const tl_preprocess *p = &loader->preprocess;
    const tl_shape shape =
        tl_shape_make(4, (int64_t)loader->batch, (int64_t)p->height, (int64_t)p->width, (int64_t)3);
    const size_t count = (size_t)loader->dataset->count, batch = (size_t)loader->batch;
    TL_TRY(tl_tensor_new(ctx, TL_F32, &shape, &loader->inputs));
    /* One batch ahead, and a picture in each reader's hands. */
    loader->slot_count = loader->batch + threads;
    loader->slot = tl_alloc_zero(ctx, (size_t)loader->slot_count * sizeof *loader->slot);
    TL_CHECK_MEMORY(loader->slot);
    loader->order = tl_alloc_array(ctx, count, sizeof *loader->order);
    TL_CHECK_MEMORY(loader->order);
    loader->labels = tl_alloc_array(ctx, batch, sizeof *loader->labels);
    TL_CHECK_MEMORY(loader->labels);
    loader->indices = tl_alloc_array(ctx, batch, sizeof *loader->indices);
    TL_CHECK_MEMORY(loader->indices);
    loader->thread = tl_alloc_array(ctx, (size_t)threads, sizeof *loader->thread);
    TL_CHECK_MEMORY(loader->thread);
    return TL_OK;
}

static tl_status start_readers(tl_loader *loader, int threads) {
    for (int i = 0; i < threads; i++) {
        int error = pthread_create(&loader->thread[i], NULL, reader_main, loader);
        TL_CHECK(error == 0, TL_LIMIT, "loader: reader thread %d of %d could not be started", i + 1,
                 threads);
        loader->thread_count++;
    }
    return TL_OK;
}

tl_status tl_loader_open(tl_dataset *dataset, const tl_preprocess *preprocess,
                         const tl_loader_options *options, tl_loader **out) {
    tl_loader_options checked;
    tl_augment augment;
    *out = NULL;
    TL_TRY(check_options(dataset->ctx, options, &checked));
    TL_TRY(tl_augment_parse(checked.augment, &augment));
    tl_loader *loader = tl_alloc_zero(dataset->ctx, sizeof *loader);
    TL_CHECK_MEMORY(loader);
    loader->ctx = dataset->ctx;
    loader->dataset = dataset;
    loader->preprocess = *preprocess;
    loader->augment = augment;
    loader->batch = checked.batch;
    loader->shuffle = checked.shuffle;
    loader->seed = checked.seed;
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->done, NULL);
    loader->epoch = -1;
    tl_status status = allocate(loader, checked.threads);
    if (status == TL_OK) status = start_readers(loader, checked.threads);
    if (status != TL_OK) {
        tl_loader_free(loader);
        return status;
    }
    *out = loader;
    return TL_OK;
}

tl_status tl_loader_create(tl_dataset *dataset, const tl_model *model,
                           const tl_loader_options *options, tl_loader **out) {
    if (out) *out = NULL;
    TL_CHECK(dataset && model && out, TL_INVALID_ARGUMENT,
             "loader: dataset, model or result is missing");
    TL_CHECK(tl_model_sees_pictures(model), TL_INVALID_ARGUMENT,
             "loader: the model's input is no picture of three channels");
    TL_TRY(tl_model_require_preprocess(model));
    return tl_loader_open(dataset, &model->preprocess, options, out);
}

void tl_loader_free(tl_loader *loader) {
    if (!loader) return;
    tl_context *ctx = loader->ctx;
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->thread_count; i++) pthread_join(loader->thread[i], NULL);
    for (int i = 0; loader->slot && i < loader->slot_count; i++)
        clear_slot(loader, &loader->slot[i]);
    tl_tensor_free(loader->part);
    tl_tensor_free(loader->inputs);
    tl_free(ctx, loader->slot);
    tl_free(ctx, loader->order);
    tl_free(ctx, loader->labels);
    tl_free(ctx, loader->indices);
    tl_free(ctx, loader->thread);
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->done);
    pthread_mutex_destroy(&loader->lock);
    tl_free(ctx, loader);
}

/* --- the consumer ---------------------------------------------------------------------------- */

tl_status tl_loader_start(tl_loader *loader, int64_t epoch) {
    TL_CHECK(loader, TL_INVALID_ARGUMENT, "loader: is missing");
    TL_CHECK(epoch >= 0, TL_INVALID_ARGUMENT, "loader: epoch is %lld, expected 0 or more",
             (long long)epoch);
    pthread_mutex_lock(&loader->lock);
    drop_epoch(loader);
    const int64_t count = loader->dataset->count;
    for (int64_t i = 0; i < count; i++) loader->order[i] = i;
    if (loader->shuffle) {
        tl_rng rng = tl_rng_make(loader->seed, TL_RNG_SHUFFLE, (uint64_t)epoch, 0);
        tl_rng_shuffle(&rng, loader->order, count);
    }
    loader->epoch = epoch;
    loader->next = loader->taken = 0;
    loader->limit = count;
    loader->readable = 0;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    return TL_OK;
}

/* Waits for the next position's slot and empties it. False at the end of the epoch. */
static bool take(tl_loader *loader, slot *out, int64_t *index) {
    pthread_mutex_lock(&loader->lock);
    bool more = loader->taken < loader->limit;
    if (more) {
        slot *s = &loader->slot[loader->taken % loader->slot_count];
        while (!s->full) pthread_cond_wait(&loader->done, &loader->lock);
        *out = *s;
        *s = (slot){0};
        *index = loader->order[loader->taken++];
        pthread_cond_signal(&loader->work);
    }
    pthread_mutex_unlock(&loader->lock);
    return more;
}

/* Puts a picture into row `row` of the batch, or names it as bad. */
static tl_status use(tl_loader *loader, const slot *s, int64_t index, int64_t *row) {
    if (s->status == TL_NO_MEMORY)
        return tl_fail(TL_NO_MEMORY, "%s", s->reason ? s->reason : "out of memory");
    if (s->status != TL_OK)
        return s->reason ? tl_dataset_mark_bad(loader->dataset, index, s->reason) : TL_OK;
    const tl_preprocess *p = &loader->preprocess;
    const size_t size = (size_t)p->width * (size_t)p->height * 3;
    tl_preprocess_normalize(loader->ctx, p, &s->image,
                            tl_tensor_f32(loader->inputs) + (size_t)*row * size);
    loader->labels[*row] = loader->dataset->sample[index].label;
    loader->indices[*row] = index;
    ++*row;
    return TL_OK;
}

static tl_status fail_unreadable(const tl_loader *loader) {
    const tl_dataset *dataset = loader->dataset;
    const char *path = tl_dataset_skipped_path(dataset, 0);
    return tl_fail(TL_LIMIT, "none of %lld pictures could be read; the first: %s: %s",
                   (long long)dataset->count, path ? path : "",
                   path ? tl_dataset_skipped_reason(dataset, 0) : "");
}

static tl_status view_of_batch(tl_loader *loader, int64_t rows, const tl_tensor **inputs) {
    *inputs = loader->inputs;
    if (rows == loader->batch) return TL_OK;
    TL_TRY(tl_tensor_slice(loader->inputs, 0, rows, &loader->part));
    *inputs = loader->part;
    return TL_OK;
}

tl_status tl_loader_next(tl_loader *loader, const tl_tensor **inputs, const int32_t **labels,
                         int64_t *count) {
    TL_CHECK(loader && inputs && labels && count, TL_INVALID_ARGUMENT,
             "loader: itself or a result is missing");
    *inputs = NULL;
    *labels = NULL;
    *count = 0;
    TL_CHECK(loader->epoch >= 0, TL_INVALID_ARGUMENT, "loader: tl_loader_start() comes first");
    tl_tensor_free(loader->part);
    loader->part = NULL;
    int64_t rows = 0, index;
    slot s;
    while (rows < loader->batch && take(loader, &s, &index)) {
        tl_status status = use(loader, &s, index, &rows);
        clear_slot(loader, &s);
        TL_TRY(status);
    }
    loader->readable += rows;
    if (loader->readable == 0 && loader->dataset->count > 0) return fail_unreadable(loader);
    TL_TRY(view_of_batch(loader, rows, inputs));
    *labels = loader->labels;
    *count = rows;
    return TL_OK;
}

const int64_t *tl_loader_indices(const tl_loader *loader) {
    return loader ? loader->indices : NULL;
}
