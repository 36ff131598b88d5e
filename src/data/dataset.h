/* The dataset's inside: classes, pictures and what was passed over. */
#ifndef TL_DATA_DATASET_H
#define TL_DATA_DATASET_H

#include <pthread.h>

#include <tl/data.h>

#include "base/context.h"
#include "image/image.h"
#include "model/model.h"

typedef struct tl_sample {
    char *path;
    int label;
    bool bad; /* could not be decoded; guarded by the dataset's lock */
} tl_sample;

typedef struct tl_skip {
    char *path, *reason;
} tl_skip;

struct tl_dataset {
    tl_context *ctx;
    size_t root_length; /* of the part of every path that is the root folder and its '/' */
    int class_count;
    int64_t class_capacity;
    char **class_name;
    int64_t count, capacity;
    tl_sample *sample;
    pthread_mutex_t lock; /* guards what loaders change: skipped and sample[].bad */
    int64_t skipped_count, skipped_capacity;
    tl_skip *skipped;
};

/* --- dataset.c ------------------------------------------------------------------------------- */
tl_status tl_dataset_create(tl_context *ctx, size_t root_length, tl_dataset **out);
/* Text is copied. */
tl_status tl_dataset_add_class(tl_dataset *dataset, const char *name);
tl_status tl_dataset_add_sample(tl_dataset *dataset, const char *path, int label);
/* Names a file that is passed over; thread safe. `reason` may begin with the path and ": ". */
tl_status tl_dataset_skip(tl_dataset *dataset, const char *path, const char *reason);
/* The same for a picture that turned out unreadable; only the first call for it counts. */
tl_status tl_dataset_mark_bad(tl_dataset *dataset, int64_t index, const char *reason);
bool tl_dataset_is_bad(tl_dataset *dataset, int64_t index);

/* --- loader.c -------------------------------------------------------------------------------- */
/* tl_loader_create() for anything that has such a preprocessing. */
tl_status tl_loader_open(tl_dataset *dataset, const tl_preprocess *preprocess,
                         const tl_loader_options *options, tl_loader **out);

#endif
