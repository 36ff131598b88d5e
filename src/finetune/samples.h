/* A dataset as batches of what enters the trained part of the network. Either every epoch reads
 * the pictures and runs them through the frozen part, or that was done once and the values are
 * kept. Order and values are the same in both cases, bit for bit. */
#ifndef TL_FINETUNE_SAMPLES_H
#define TL_FINETUNE_SAMPLES_H

#include "finetune/progress.h"
#include "train/trainer.h"

typedef struct tl_samples tl_samples;

typedef struct tl_batch {
    const float *features; /* [count] values at the trainer's boundary */
    const int32_t *labels;
    const int64_t *indices; /* in the dataset */
    int64_t count;          /* 0 after the last batch */
} tl_batch;

/* Trainer and dataset must outlive the samples. options->augment must be empty to call
 * tl_samples_cache(). */
tl_status tl_samples_open(tl_dataset *dataset, const tl_model *model, tl_trainer *trainer,
                          const tl_loader_options *options, tl_samples **out);
void tl_samples_free(tl_samples *samples); /* NULL is allowed */
/* Bytes that the cache will keep. */
double tl_samples_cache_bytes(const tl_samples *samples);
/* Takes the cache's memory. After NO_MEMORY, as at any time before tl_samples_cache(), it can be
 * dropped: the samples are computed in every epoch then. */
tl_status tl_samples_reserve_cache(tl_samples *samples);
void tl_samples_drop_cache(tl_samples *samples);
/* Fills it: computes every picture's features once. Errors: those of reading, CANCELLED, NO_MEMORY.
 */
tl_status tl_samples_cache(tl_samples *samples, tl_watch *watch);
/* Goes to the first batch of an epoch, which keys order and augmentation. */
tl_status tl_samples_start(tl_samples *samples, int64_t epoch);
/* The content of *batch is valid until the next call. */
tl_status tl_samples_next(tl_samples *samples, tl_batch *batch);

#endif
