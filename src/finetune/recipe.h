/* A run of the recipe: what its stages (recipe.c, fit.c, outcome.c) share. */
#ifndef TL_FINETUNE_RECIPE_H
#define TL_FINETUNE_RECIPE_H

#include "finetune/options.h"
#include "finetune/progress.h"
#include "finetune/report.h"
#include "finetune/samples.h"

/* The answers to the validation pictures after an epoch. */
typedef struct tl_answers {
    int64_t count;
    float *probabilities; /* [pictures in the dataset][classes]; the first `count` are filled */
    int32_t *labels;
    int64_t *indices; /* in the dataset */
} tl_answers;

typedef struct tl_run {
    tl_context *ctx;
    tl_finetune_options options;
    tl_watch watch;
    tl_model *model;
    tl_dataset *scanned[2];  /* folders as scanned: data, and val when given */
    tl_dataset *train, *val; /* one of them, or a split; see owns_split */
    bool owns_split;
    int64_t files; /* found in the folders, unusable ones included */
    tl_trainer *trainer;
    tl_samples *train_samples, *val_samples;
    /* fit.c */
    int64_t train_images;
    tl_epoch *epoch; /* [options.epochs] */
    int epochs_run, best_epoch;
    float *best_state; /* of the trainer, at best_epoch */
    tl_answers answers, best_answers;
    double started, features_seconds, head_seconds;
} tl_run;

/* Trains until the epochs are over or patience is, and leaves the model with the weights, and
 * run->best_answers with the answers, of run->best_epoch. Errors: DIVERGED, CANCELLED, LIMIT. */
tl_status tl_run_fit(tl_run *run);
void tl_run_free_fit(tl_run *run);
/* The datasets that hold skipped files of their own; returns how many of the three there are. */
int tl_run_sources(const tl_run *run, const tl_dataset *sources[3]);
/* LIMIT when more pictures than options.max_skipped allows could not be read. */
tl_status tl_run_check_skipped(const tl_run *run);
/* What came out. The report is complete but for its finish. */
tl_status tl_run_report(const tl_run *run, tl_report **out);

#endif
