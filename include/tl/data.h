/* libtl - labelled pictures: a folder with one subfolder per class, splits and batches. */
#ifndef TL_DATA_H
#define TL_DATA_H

#include <tl/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_dataset tl_dataset;
typedef struct tl_loader tl_loader;

/* Scans root/CLASS/... (subfolders included) for .jpg, .jpeg, .png and .bmp in any case. Classes
 * and pictures are in byte order of their names; names that begin with a dot are left out. Links
 * are followed, folder loops entered once. Entries that are unreadable, dangling or neither file
 * nor folder, and pictures outside the class folders, are skipped, counted and named. Only names
 * are looked at: a file that is no picture shows when it is read. Errors: NOT_FOUND, PERMISSION,
 * INVALID_ARGUMENT (no class folders, an empty class, a class name that is not UTF-8: named), LIMIT
 * (path or class count), NO_MEMORY. */
TL_API tl_status tl_dataset_open(tl_context *ctx, const char *root, tl_dataset **out);

/* Splits by class: round(fraction * count) pictures of each class, at least 1 and at most
 * count - 1, go to *validation, the rest to *train; which ones depends on the seed and the
 * pictures' names below the root. Both belong to the caller and start with nothing skipped.
 * Errors: INVALID_ARGUMENT (fraction outside (0, 1), a class with a single picture: named). */
TL_API tl_status tl_dataset_split(const tl_dataset *dataset, double fraction, uint64_t seed,
                                  tl_dataset **train, tl_dataset **validation);

TL_API void tl_dataset_free(tl_dataset *dataset); /* NULL is allowed */

TL_API int64_t tl_dataset_count(const tl_dataset *dataset);
TL_API const char *tl_dataset_path(const tl_dataset *dataset, int64_t index);
TL_API int tl_dataset_label(const tl_dataset *dataset, int64_t index);
TL_API int tl_dataset_class_count(const tl_dataset *dataset);
TL_API const char *tl_dataset_class_name(const tl_dataset *dataset, int index);

/* Files passed over so far, by the scan or because they could not be decoded. */
TL_API int64_t tl_dataset_skipped_count(const tl_dataset *dataset);
TL_API const char *tl_dataset_skipped_path(const tl_dataset *dataset, int64_t index);
TL_API const char *tl_dataset_skipped_reason(const tl_dataset *dataset, int64_t index);

typedef struct tl_loader_options {
    size_t size;         /* sizeof(tl_loader_options), set by the initialiser */
    int batch;           /* pictures a batch; default 32 */
    bool shuffle;        /* a new order each epoch; default false */
    const char *augment; /* NULL or "" for none; "flip,rotation:40,shift:0.2,shear:0.2,zoom:0.2,
                            crop:0.08,brightness:0.2,contrast:0.2", see docs/augmentation.md */
    uint64_t seed;
    int threads; /* reader threads, which every loader starts for itself, also where the context has
                    a parallel_for; 0 = as many as the context computes with */
} tl_loader_options;

TL_API void tl_loader_options_init(tl_loader_options *options, size_t size);

/* Reads a dataset's pictures as `model` wants them, ahead of the caller. Dataset and model must
 * outlive the loader. `options` may be NULL for defaults. Batches are the same for any number of
 * reader threads. Errors: INVALID_ARGUMENT (an option, or a part of augment: named; a model whose
 * input is no picture), LIMIT (threads), NO_MEMORY. */
TL_API tl_status tl_loader_create(tl_dataset *dataset, const tl_model *model,
                                  const tl_loader_options *options, tl_loader **out);
/* Starts (or restarts) at the first batch of `epoch`, which keys shuffling and augmentation. */
TL_API tl_status tl_loader_start(tl_loader *loader, int64_t epoch);
/* The next batch: *inputs [count H W C] as the model wants them, *labels class indices; both belong
 * to the loader and are valid until its next call. *count is 0 after the last batch. A picture that
 * cannot be decoded is left out and added to the dataset's skipped list. Errors: LIMIT (no picture
 * could be read at all), NO_MEMORY. */
TL_API tl_status tl_loader_next(tl_loader *loader, const tl_tensor **inputs, const int32_t **labels,
                                int64_t *count);
/* The dataset indices of the batch last returned, `count` of them. */
TL_API const int64_t *tl_loader_indices(const tl_loader *loader);
TL_API void tl_loader_free(tl_loader *loader); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
