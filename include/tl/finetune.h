/* libtl - the recipe: from a backbone and a folder of pictures to a classifier, in one call. */
#ifndef TL_FINETUNE_H
#define TL_FINETUNE_H

#include <tl/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_report tl_report;

/* Features of the frozen layers, computed once; training; the validation pictures after an epoch.
 */
typedef enum tl_phase { TL_PHASE_FEATURES = 0, TL_PHASE_TRAIN = 1, TL_PHASE_EVALUATE = 2 } tl_phase;

/* What a progress callback is told. */
typedef struct tl_progress {
    size_t size; /* of this struct, for callers compiled against an older one */
    tl_phase phase;
    int epoch, epochs;             /* 1-based; TL_PHASE_TRAIN only */
    int64_t done, total;           /* pictures within the phase or epoch */
    double loss, accuracy;         /* running means of this epoch; TL_PHASE_TRAIN only */
    double val_loss, val_accuracy; /* of the last finished epoch; NaN before */
} tl_progress;

/* Called on the caller's thread about ten times a second and at the end of every phase of features
 * and every epoch, validation included: then, and only then, done equals total in these phases.
 * A value other than 0 cancels: the call returns CANCELLED within 100 ms, nothing is saved. */
typedef int (*tl_progress_fn)(void *user, const tl_progress *progress);

/* Every field may be set by name with tl_finetune_options_set(): the key is the field's name. A
 * text that is NULL is the default. */
typedef struct tl_finetune_options {
    size_t size;            /* sizeof(tl_finetune_options), set by the initialiser */
    const char *backbone;   /* file or name, as tl_model_load(); required */
    const char *data;       /* folder of class folders; required */
    const char *val;        /* folder of validation pictures; NULL = split */
    double val_split;       /* share of `data` kept for validation when val is NULL; 0.2 */
    const char *preprocess; /* preset of tl_model_set_preprocess(); NULL = the backbone's own */
    int image_size;         /* side of the network's input in pixels; 0 = the backbone's own. What a
                               crop leaves out follows the preprocessing's rule for that size */
    const char *pool;       /* "gap", "gmp" or "flatten"; default "gap" */
    const char *head;       /* layers before the classifier; default "" (a linear classifier) */
    const char *activation; /* "softmax" or "sigmoid" (two classes); default "softmax" */
    const char *freeze;     /* "all" (the backbone; default), "none", or a layer name prefix, as for
                               tl_model_freeze(): freezes up to and including the last that matches */
    const char *augment;    /* see tl_loader_options */
    const char *optimizer;  /* "sgd", "adam", "adamw", "rmsprop"; default "adam" */
    const char *style;      /* "keras" or "pytorch"; default "keras" */
    double lr;              /* default -1: the optimiser's own, see tl_optimizer_options */
    double momentum;        /* default 0 */
    bool nesterov;
    double weight_decay;      /* default -1: the optimiser's own, which is 0 but for adamw */
    int epochs;               /* most epochs; default 30 */
    int batch;                /* default 32 */
    int patience;             /* epochs without better val_loss before stopping; 0 = never; 5 */
    bool restore_best;        /* end with the weights of the epoch with the best val_loss; true */
    bool batch_norm_training; /* see tl_trainer_options; default false */
    const char *dtype;        /* "f32" (default) or "bf16", see tl_trainer_options */
    uint64_t seed;           /* of split, order, augmentation, dropout and new weights; default 0 */
    const char *out;         /* where to save the model; NULL = nowhere */
    const char *report;      /* where to write the HTML report; NULL = nowhere */
    double max_skipped;      /* largest share of pictures that may be unreadable; default 0.5 */
    tl_progress_fn progress; /* NULL = none */
    void *progress_user;
    void *owner; /* private: NULL, or set by tl_finetune_options_create() */
} tl_finetune_options;

/* Fills a struct of the caller's with defaults. Strings put into it stay the caller's. */
TL_API void tl_finetune_options_init(tl_finetune_options *options, size_t size);

/* For languages that cannot lay out the struct: creates one, to be filled by
 * tl_finetune_options_set() and freed by tl_finetune_options_free(). */
TL_API tl_status tl_finetune_options_create(tl_context *ctx, tl_finetune_options **out);
/* Sets a field by its name from text ("30", "true", "256,relu"). Text is copied; a text field can
 * be set by name only in options made by tl_finetune_options_create(). Errors: NOT_FOUND (the key
 * or the preprocessing: lists them), INVALID_ARGUMENT (names key and expectation; head and augment
 * are read here, too). */
TL_API tl_status tl_finetune_options_set(tl_finetune_options *options, const char *key,
                                         const char *value);
TL_API void tl_finetune_options_set_progress(tl_finetune_options *options, tl_progress_fn progress,
                                             void *user);
TL_API void tl_finetune_options_free(tl_finetune_options *options); /* NULL is allowed */
/* Names of all keys, NULL past the end. */
TL_API const char *tl_finetune_options_key(int index);

/* Loads the backbone, replaces its classifier, trains, evaluates, saves. With a frozen backbone
 * and no augmentation the features are computed once. The same options and pictures give the
 * same model, bit for bit, at any number of threads.
 * *model and *report (either may be NULL) belong to the caller.
 * Errors: those of loading and scanning, INVALID_ARGUMENT (names the option and the choices),
 * NOT_FOUND (the preprocessing: lists them), UNSUPPORTED (a dtype that this machine does not
 * compute in), LIMIT (too many unreadable pictures), DIVERGED, CANCELLED, IO, NO_MEMORY. On failure
 * `out` and `report` are as they were; only when renaming the finished report into place is what
 * fails, the model is already there. */
TL_API tl_status tl_finetune(tl_context *ctx, const tl_finetune_options *options, tl_model **model,
                             tl_report **report);

/* --- the report ------------------------------------------------------------------------------ */

/* The summary as one JSON object: classes, images, skipped, epochs_run, best_epoch, train_loss,
 * train_accuracy, val_loss, val_accuracy, seconds, features_seconds, head_seconds, threads,
 * peak_rss_mb (of the process, from its start), and history (one entry an epoch), per_class,
 * macro_f1, weighted_f1, confusion, skipped_files, settings. train_* are means over the epoch while
 * training (as Keras reports them), val_* are taken after it; both of the epoch whose weights the
 * model has (best_epoch). Lives as long as the report. */
TL_API const char *tl_report_json(const tl_report *report);
/* A number of the summary by its key, such as "val_accuracy". Errors: NOT_FOUND. */
TL_API tl_status tl_report_number(const tl_report *report, const char *key, double *value);
/* The measures over the validation pictures. Lives as long as the report. */
TL_API const tl_evaluation *tl_report_evaluation(const tl_report *report);
/* One self-contained HTML page: curves, confusion matrix, classes, worst mistakes, settings. */
TL_API tl_status tl_report_write_html(const tl_report *report, const char *path);
TL_API void tl_report_free(tl_report *report); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
