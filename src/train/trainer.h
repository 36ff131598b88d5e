/* The trainer's inside, for the recipe: its network is cut at the freeze boundary, so that what
 * the frozen part gives can be computed once and trained on many times. Training from pictures
 * goes through the same two halves and gives the same bits. */
#ifndef TL_TRAIN_TRAINER_H
#define TL_TRAIN_TRAINER_H

#include <tl/train.h>

#include "model/model.h"
#include "train/loss.h"

/* Called between the layers of every step and evaluation from now on: what it returns other than
 * TL_OK ends them, with the weights as before. */
void tl_trainer_set_poll(tl_trainer *trainer, tl_poll_fn poll, void *user);
/* The node whose value is what the frozen part gives; 0 is the input: nothing to cache. */
int tl_trainer_boundary(const tl_trainer *trainer);
/* Floats of that value, for one picture. */
int64_t tl_trainer_feature_count(const tl_trainer *trainer);
/* The frozen part's value for inputs [n H W C], n at most the trainer's batch. *features
 * belongs to the trainer (or is the inputs' own data) until the next call. Errors: SHAPE. */
tl_status tl_trainer_features(tl_trainer *trainer, const tl_tensor *inputs, const float **features);
/* tl_trainer_step() and tl_trainer_evaluate() from `n` pictures' features. `probabilities`
 * [n classes] may be NULL; result->sum is not divided by n. */
tl_status tl_trainer_step_features(tl_trainer *trainer, const float *features, int64_t n,
                                   const int32_t *labels, tl_loss_result *result);
tl_status tl_trainer_evaluate_features(tl_trainer *trainer, const float *features, int64_t n,
                                       const int32_t *labels, tl_loss_result *result,
                                       float *probabilities);
/* Parameters that steps change, batch statistics included, copied out to and back from one
 * block of tl_trainer_state_count() floats. */
int64_t tl_trainer_state_count(const tl_trainer *trainer);
void tl_trainer_save_state(const tl_trainer *trainer, float *state);
void tl_trainer_restore_state(tl_trainer *trainer, const float *state);

/* Of the optimiser (optimizer.c): floats that it keeps for each weight; memory for those of a slot,
 * so that updates of it need none; and the settings that its options left to it. */
int tl_optimizer_moments(const tl_optimizer *optimizer);
tl_status tl_optimizer_reserve(tl_optimizer *optimizer, int slot, int64_t count);
double tl_optimizer_weight_decay(const tl_optimizer *optimizer);

/* map[i] becomes the model's index of the dataset's class i (tl_dataset_class_count() of them).
 * Errors: INVALID_ARGUMENT naming a class that only one of them has. */
tl_status tl_match_classes(const tl_model *model, const tl_dataset *dataset, int *map);

#endif
