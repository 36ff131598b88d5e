/* libtl - layers, optimisers, a training step and evaluation, each usable by itself. */
#ifndef TL_TRAIN_H
#define TL_TRAIN_H

#include <tl/data.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- a single layer ---------------------------------------------------------------------- */

typedef struct tl_layer tl_layer;

/* One operator with its parameters for inputs of fixed shapes, to be run by hand. `shapes` holds
 * input_count tensors' dimensions, ranks[i] each, one after the other; dimension 0 is the batch.
 * Errors: NOT_FOUND (type), INVALID_ARGUMENT (attributes), SHAPE, NO_MEMORY. */
TL_API tl_status tl_layer_create(tl_context *ctx, const char *type, const char *attributes,
                                 int input_count, const int *ranks, const int64_t *shapes,
                                 uint64_t seed, tl_layer **out);
TL_API void tl_layer_free(tl_layer *layer); /* NULL is allowed */
/* *output belongs to the layer and is valid until its next forward. */
TL_API tl_status tl_layer_forward(tl_layer *layer, const tl_tensor *const *inputs, bool training,
                                  const tl_tensor **output);
/* After a forward with training set, whose inputs must still be there, unchanged. grad_inputs gets
 * one tensor an input (NULL: none wanted), which belong to the layer and are valid until its next
 * call; gradients of parameters are added up until tl_layer_zero_grad(). */
TL_API tl_status tl_layer_backward(tl_layer *layer, const tl_tensor *grad_output,
                                   const tl_tensor **grad_inputs);
TL_API void tl_layer_zero_grad(tl_layer *layer);
TL_API int tl_layer_param_count(const tl_layer *layer);
TL_API const char *tl_layer_param_name(const tl_layer *layer, int index);
TL_API tl_tensor *tl_layer_param(tl_layer *layer, int index);
/* NULL for parameters without gradient, such as running statistics. */
TL_API const tl_tensor *tl_layer_grad(const tl_layer *layer, int index);

/* --- optimisers ------------------------------------------------------------------------------ */

typedef struct tl_optimizer tl_optimizer;

/* Fields that are negative or NULL take the named framework's default. */
typedef struct tl_optimizer_options {
    size_t size;         /* sizeof(tl_optimizer_options), set by the initialiser */
    const char *name;    /* "sgd", "adam", "adamw", "rmsprop"; default "adam" */
    const char *style;   /* "keras" or "pytorch": whose update rule; default "keras" */
    double lr;           /* learning rate; default 1e-3, SGD and PyTorch's RMSprop 1e-2 */
    double momentum;     /* SGD and RMSprop; default 0 */
    bool nesterov;       /* SGD */
    double beta1, beta2; /* Adam; defaults 0.9, 0.999 */
    double rho;          /* RMSprop's decay; default 0.9 in Keras, 0.99 in PyTorch */
    double epsilon;      /* default 1e-7 in Keras, 1e-8 in PyTorch */
    bool centered;       /* RMSprop */
    double weight_decay; /* default 0 (AdamW: Keras 0.004, PyTorch 0.01); decoupled in Keras and
                            AdamW, else added to the gradient */
} tl_optimizer_options;

TL_API void tl_optimizer_options_init(tl_optimizer_options *options, size_t size);
/* Errors: INVALID_ARGUMENT naming the field and the choices, NO_MEMORY. */
TL_API tl_status tl_optimizer_create(tl_context *ctx, const tl_optimizer_options *options,
                                     tl_optimizer **out);
TL_API void tl_optimizer_free(tl_optimizer *optimizer); /* NULL is allowed */
/* Begins a step: advances the step count that Adam's correction uses. */
TL_API void tl_optimizer_begin_step(tl_optimizer *optimizer);
/* Updates `count` weights with their gradients. `slot` names the range: the optimiser keeps its
 * moments under it, and every call for one slot must have the same count.
 * Errors: INVALID_ARGUMENT, NO_MEMORY. */
TL_API tl_status tl_optimizer_update(tl_optimizer *optimizer, int slot, float *weights,
                                     const float *gradients, int64_t count);
TL_API double tl_optimizer_lr(const tl_optimizer *optimizer);
/* From the next update on. Errors: INVALID_ARGUMENT (not a number from 0: the old one stays). */
TL_API tl_status tl_optimizer_set_lr(tl_optimizer *optimizer, double lr);

/* --- one's own training loop --------------------------------------------------------------- */

typedef struct tl_trainer tl_trainer;

typedef struct tl_trainer_options {
    size_t size;                           /* sizeof(tl_trainer_options), set by the initialiser */
    const tl_optimizer_options *optimizer; /* read by the call alone; NULL = the defaults */
    int batch;                             /* largest batch of a step; default 32 */
    bool batch_norm_training; /* trainable batch norms use and update batch statistics; default
                                 false: they keep the pretrained ones */
    double clip_norm;         /* rescale gradients to this global L2 norm; 0 = off */
    uint64_t seed;            /* of dropout */
    tl_dtype dtype;           /* of activations and their gradients: TL_F32, the default, or TL_BF16
                                 (see tl_context_check_dtype()). Weights, their gradients, the
                                 optimiser's state and statistics are f32 in any case */
} tl_trainer_options;

TL_API void tl_trainer_options_init(tl_trainer_options *options, size_t size);
/* Prepares to train the model's thawed layers with softmax cross-entropy, or binary cross-entropy
 * when the model ends in a single sigmoid unit. The model must outlive the trainer and keep its
 * layers and freezing. All memory is taken here, and steps take none. Errors: INVALID_ARGUMENT (an
 * option; nothing to train), UNSUPPORTED (dtype), SHAPE, LIMIT, NO_MEMORY. */
TL_API tl_status tl_trainer_create(tl_model *model, const tl_trainer_options *options,
                                   tl_trainer **out);
/* What creating the trainer will take, moments of the optimiser included.
 * Errors: as tl_trainer_create(). */
TL_API tl_status tl_trainer_memory(const tl_model *model, const tl_trainer_options *options,
                                   tl_memory *out);
TL_API void tl_trainer_free(tl_trainer *trainer); /* NULL is allowed */
/* One step on inputs [N H W C] and N labels. *loss (mean) and *correct (may be NULL) are those
 * before the update. Errors: SHAPE, INVALID_ARGUMENT (a label out of range), DIVERGED (names step
 * and learning rate; the weights are as before the step). */
TL_API tl_status tl_trainer_step(tl_trainer *trainer, const tl_tensor *inputs,
                                 const int32_t *labels, double *loss, int64_t *correct);
/* Loss (mean) and number of correct answers without training. */
TL_API tl_status tl_trainer_evaluate(tl_trainer *trainer, const tl_tensor *inputs,
                                     const int32_t *labels, double *loss, int64_t *correct);
TL_API tl_optimizer *tl_trainer_optimizer(tl_trainer *trainer);

/* --- evaluation ------------------------------------------------------------------------------ */

typedef struct tl_evaluation tl_evaluation;

/* Runs the model over a dataset whose classes must be the model's, by name.
 * Errors: INVALID_ARGUMENT (classes differ: names them; a model of several sigmoid units), those of
 * reading, NO_MEMORY. */
TL_API tl_status tl_evaluate(const tl_model *model, tl_dataset *dataset, int batch,
                             tl_evaluation **out);
/* The same measures from answers of one's own: count x classes probabilities. The loss is the mean
 * of -log of the truth's probability.
 * Errors: INVALID_ARGUMENT (a label out of range), DIVERGED (a probability is not finite). */
TL_API tl_status tl_evaluation_create(tl_context *ctx, int classes, int64_t count,
                                      const float *probabilities, const int32_t *labels,
                                      tl_evaluation **out);
TL_API void tl_evaluation_free(tl_evaluation *evaluation); /* NULL is allowed */
TL_API int64_t tl_evaluation_count(const tl_evaluation *evaluation);
TL_API double tl_evaluation_loss(const tl_evaluation *evaluation);
TL_API double tl_evaluation_accuracy(const tl_evaluation *evaluation);
/* Pictures of class `truth` answered as `answer`. */
TL_API int64_t tl_evaluation_confusion(const tl_evaluation *evaluation, int truth, int answer);
/* Per class; undefined ratios are 0, as in scikit-learn with labels=range(classes) and
 * zero_division=0: averages count classes that do not occur, too. */
TL_API double tl_evaluation_precision(const tl_evaluation *evaluation, int index);
TL_API double tl_evaluation_recall(const tl_evaluation *evaluation, int index);
TL_API double tl_evaluation_f1(const tl_evaluation *evaluation, int index);
TL_API int64_t tl_evaluation_support(const tl_evaluation *evaluation, int index);
/* Averages over classes: plain, or weighted by support. */
TL_API double tl_evaluation_macro(const tl_evaluation *evaluation, double *precision,
                                  double *recall); /* returns F1; pointers may be NULL */
TL_API double tl_evaluation_weighted(const tl_evaluation *evaluation, double *precision,
                                     double *recall);

#ifdef __cplusplus
}
#endif
#endif
