/* The epochs: training, validation, early stopping. */
#include <math.h>
#include <string.h>

#include "finetune/recipe.h"

/* --- buffers ------------------------------------------------------------------------------ */

static tl_status allocate_answers(tl_run *run, tl_answers *answers) {
    size_t count = (size_t)tl_dataset_count(run->val);
    size_t classes = (size_t)tl_model_class_count(run->model);
    answers->probabilities = tl_alloc_array(run->ctx, count, classes * sizeof(float));
    TL_CHECK_MEMORY(answers->probabilities);
    answers->labels = tl_alloc_array(run->ctx, count, sizeof *answers->labels);
    TL_CHECK_MEMORY(answers->labels);
    answers->indices = tl_alloc_array(run->ctx, count, sizeof *answers->indices);
    TL_CHECK_MEMORY(answers->indices);
    return TL_OK;
}

static tl_status allocate(tl_run *run) {
    run->epoch = tl_alloc_array(run->ctx, (size_t)run->options.epochs, sizeof *run->epoch);
    TL_CHECK_MEMORY(run->epoch);
    size_t state = (size_t)tl_trainer_state_count(run->trainer);
    run->best_state = tl_alloc_array(run->ctx, state, sizeof *run->best_state);
    TL_CHECK_MEMORY(run->best_state);
    TL_TRY(allocate_answers(run, &run->answers));
    return allocate_answers(run, &run->best_answers);
}

static void free_answers(tl_context *ctx, tl_answers *answers) {
    tl_free(ctx, answers->probabilities);
    tl_free(ctx, answers->labels);
    tl_free(ctx, answers->indices);
}

void tl_run_free_fit(tl_run *run) {
    tl_free(run->ctx, run->epoch);
    tl_free(run->ctx, run->best_state);
    free_answers(run->ctx, &run->answers);
    free_answers(run->ctx, &run->best_answers);
}

/* --- one epoch ---------------------------------------------------------------------------- */

int tl_run_sources(const tl_run *run, const tl_dataset *sources[3]) {
    sources[0] = run->train;
    sources[1] = run->val;
    sources[2] = run->scanned[0];
    return run->owns_split ? 3 : 2;
}

tl_status tl_run_check_skipped(const tl_run *run) {
    const tl_dataset *sources[3];
    int64_t skipped = 0;
    for (int i = tl_run_sources(run, sources) - 1; i >= 0; i--)
        skipped += tl_dataset_skipped_count(sources[i]);
    TL_CHECK((double)skipped <= run->options.max_skipped * (double)run->files, TL_LIMIT,
             "%lld of %lld pictures cannot be read, more than the share of %g that max_skipped "
             "allows",
             (long long)skipped, (long long)run->files, run->options.max_skipped);
    return TL_OK;
}

/* Names the pictures of the batch in which training went wrong. */
static tl_status step_failed(const tl_run *run, tl_status status, const tl_batch *batch) {
    if (status != TL_DIVERGED) return status;
    return tl_fail_in(status, "epoch %d, batch of %lld pictures beginning with %s",
                      run->epochs_run + 1, (long long)batch->count,
                      tl_dataset_path(run->train, batch->indices[0]));
}

static tl_status train_epoch(tl_run *run, tl_epoch *epoch) {
    double loss = 0;
    int64_t correct = 0, seen = 0;
    TL_TRY(tl_samples_start(run->train_samples, run->epochs_run));
    for (;;) {
        tl_batch batch;
        tl_loss_result result;
        TL_TRY(tl_samples_next(run->train_samples, &batch));
        if (batch.count == 0) break;
        tl_status status = tl_trainer_step_features(run->trainer, batch.features, batch.count,
                                                    batch.labels, &result);
        if (status != TL_OK) return step_failed(run, status, &batch);
        loss += result.sum;
        correct += result.correct;
        seen += batch.count;
        run->watch.progress.loss = epoch->train_loss = loss / (double)seen;
        run->watch.progress.accuracy = epoch->train_accuracy = (double)correct / (double)seen;
        TL_TRY(tl_watch_add(&run->watch, batch.count));
    }
    TL_CHECK(seen > 0, TL_LIMIT, "none of the training pictures could be read");
    run->train_images = seen;
    return TL_OK;
}

static void keep_answers(tl_answers *answers, const tl_batch *batch) {
    size_t n = (size_t)batch->count;
    memcpy(answers->labels + answers->count, batch->labels, n * sizeof *answers->labels);
    memcpy(answers->indices + answers->count, batch->indices, n * sizeof *answers->indices);
    answers->count += batch->count;
}

static tl_status validate(tl_run *run, tl_epoch *epoch) {
    tl_answers *answers = &run->answers;
    int classes = tl_model_class_count(run->model);
    double loss = 0;
    int64_t correct = 0;
    answers->count = 0;
    tl_watch_phase(&run->watch, TL_PHASE_EVALUATE, tl_dataset_count(run->val));
    TL_TRY(tl_samples_start(run->val_samples, 0));
    for (;;) {
        tl_batch batch;
        tl_loss_result result;
        TL_TRY(tl_samples_next(run->val_samples, &batch));
        if (batch.count == 0) break;
        TL_TRY(tl_trainer_evaluate_features(run->trainer, batch.features, batch.count, batch.labels,
                                            &result,
                                            answers->probabilities + answers->count * classes));
        keep_answers(answers, &batch);
        loss += result.sum;
        correct += result.correct;
        TL_TRY(tl_watch_add(&run->watch, batch.count));
    }
    TL_CHECK(answers->count > 0, TL_LIMIT, "none of the validation pictures could be read");
    epoch->val_loss = loss / (double)answers->count;
    epoch->val_accuracy = (double)correct / (double)answers->count;
    TL_CHECK(isfinite(epoch->val_loss), TL_DIVERGED,
             "epoch %d: the validation loss is not finite (learning rate %g)", run->epochs_run + 1,
             tl_optimizer_lr(tl_trainer_optimizer(run->trainer)));
    return TL_OK;
}

static tl_status run_epoch(tl_run *run) {
    tl_epoch *epoch = &run->epoch[run->epochs_run];
    tl_watch *watch = &run->watch;
    watch->progress.epoch = run->epochs_run + 1;
    tl_watch_phase(watch, TL_PHASE_TRAIN, tl_dataset_count(run->train));
    TL_TRY(train_epoch(run, epoch));
    TL_TRY(validate(run, epoch));
    TL_TRY(tl_run_check_skipped(run));
    tl_watch_phase(watch, TL_PHASE_TRAIN, tl_dataset_count(run->train));
    watch->progress.val_loss = epoch->val_loss;
    watch->progress.val_accuracy = epoch->val_accuracy;
    run->epochs_run++;
    return tl_watch_finish(watch);
}

/* --- all epochs --------------------------------------------------------------------------- */

static void keep_best(tl_run *run) {
    tl_answers last = run->answers;
    run->answers = run->best_answers;
    run->best_answers = last;
    run->best_epoch = run->epochs_run;
    if (run->options.restore_best) tl_trainer_save_state(run->trainer, run->best_state);
}

tl_status tl_run_fit(tl_run *run) {
    TL_TRY(allocate(run));
    run->watch.progress.epochs = run->options.epochs;
    run->watch.progress.val_loss = run->watch.progress.val_accuracy = NAN;
    double began = tl_seconds();
    double best_loss = INFINITY;
    int waited = 0; /* epochs since val_loss was last better, as Keras's EarlyStopping counts */
    while (run->epochs_run < run->options.epochs) {
        TL_TRY(run_epoch(run));
        bool better = run->epoch[run->epochs_run - 1].val_loss < best_loss;
        if (better) best_loss = run->epoch[run->epochs_run - 1].val_loss;
        waited = better ? 0 : waited + 1;
        /* Without restore_best the model ends with the last weights, so their answers count. */
        if (better || !run->options.restore_best) keep_best(run);
        if (run->options.patience > 0 && waited >= run->options.patience) break;
    }
    if (run->options.restore_best) tl_trainer_restore_state(run->trainer, run->best_state);
    run->head_seconds = tl_seconds() - began;
    return TL_OK;
}
