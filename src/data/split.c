/* A stratified split. A picture's place in it follows from its own name and the seed: adding or
 * removing others moves at most those at the border between the two parts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "data/dataset.h"

typedef struct ranked {
    uint64_t key;
    int64_t index;
} ranked;

/* FNV-1a (Fowler, Noll, Vo). */
static uint64_t hash(const char *text) {
    uint64_t value = 0xcbf29ce484222325u;
    for (; *text; text++) value = (value ^ (unsigned char)*text) * 0x100000001b3u;
    return value;
}

static int compare_keys(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* How many of `count` pictures validate: both parts keep at least one. */
static int64_t validation_share(double fraction, int64_t count) {
    int64_t share = (int64_t)llround(fraction * (double)count);
    if (share < 1) share = 1;
    return share < count ? share : count - 1;
}

/* Marks in `chosen` the pictures first .. first + count - 1, one class, that validate. */
static tl_status choose(const tl_dataset *dataset, int64_t first, int64_t count, double fraction,
                        uint64_t seed, bool *chosen) {
    ranked *order = tl_alloc_array(dataset->ctx, (size_t)count, sizeof *order);
    TL_CHECK_MEMORY(order);
    for (int64_t i = 0; i < count; i++) {
        const char *name = dataset->sample[first + i].path + dataset->root_length;
        tl_rng rng = tl_rng_make(seed, TL_RNG_SPLIT, hash(name), 0);
        order[i] = (ranked){tl_rng_next(&rng), first + i};
    }
    qsort(order, (size_t)count, sizeof *order, compare_keys);
    const int64_t share = validation_share(fraction, count);
    for (int64_t i = 0; i < share; i++) chosen[order[i].index] = true;
    tl_free(dataset->ctx, order);
    return TL_OK;
}

static tl_status choose_all(const tl_dataset *dataset, double fraction, uint64_t seed,
                            bool *chosen) {
    for (int64_t first = 0, end; first < dataset->count; first = end) {
        const int label = dataset->sample[first].label;
        for (end = first; end < dataset->count && dataset->sample[end].label == label;) end++;
        TL_CHECK(end - first >= 2, TL_INVALID_ARGUMENT,
                 "class %s has a single picture, which cannot both train and validate",
                 dataset->class_name[label]);
        TL_TRY(choose(dataset, first, end - first, fraction, seed, chosen));
    }
    return TL_OK;
}

/* A dataset of the same classes with the samples whose mark is `wanted`. */
static tl_status copy_marked(const tl_dataset *from, const bool *mark, bool wanted,
                             tl_dataset **out) {
    tl_dataset *part;
    TL_TRY(tl_dataset_create(from->ctx, from->root_length, &part));
    tl_status status = TL_OK;
    for (int i = 0; status == TL_OK && i < from->class_count; i++)
        status = tl_dataset_add_class(part, from->class_name[i]);
    for (int64_t i = 0; status == TL_OK && i < from->count; i++) {
        if (mark[i] != wanted) continue;
        status = tl_dataset_add_sample(part, from->sample[i].path, from->sample[i].label);
    }
    if (status != TL_OK) {
        tl_dataset_free(part);
        return status;
    }
    *out = part;
    return TL_OK;
}

tl_status tl_dataset_split(const tl_dataset *dataset, double fraction, uint64_t seed,
                           tl_dataset **train, tl_dataset **validation) {
    if (train) *train = NULL;
    if (validation) *validation = NULL;
    TL_CHECK(dataset && train && validation, TL_INVALID_ARGUMENT,
             "split: dataset or result is missing");
    TL_CHECK(fraction > 0 && fraction < 1, TL_INVALID_ARGUMENT,
             "split: the fraction is %g, expected one between 0 and 1", fraction);
    bool *chosen = tl_alloc_zero(dataset->ctx, (size_t)dataset->count * sizeof *chosen);
    TL_CHECK_MEMORY(chosen);
    tl_status status = choose_all(dataset, fraction, seed, chosen);
    if (status == TL_OK) status = copy_marked(dataset, chosen, false, train);
    if (status == TL_OK) status = copy_marked(dataset, chosen, true, validation);
    if (status != TL_OK) {
        tl_dataset_free(*train);
        *train = NULL;
    }
    tl_free(dataset->ctx, chosen);
    return status;
}
