/* Losses from logits, with their gradient and the answers they imply. */
#ifndef TL_TRAIN_LOSS_H
#define TL_TRAIN_LOSS_H

#include <stdint.h>

typedef enum tl_loss_kind {
    TL_LOSS_SOFTMAX, /* cross-entropy of softmax over the classes */
    TL_LOSS_SIGMOID  /* binary cross-entropy of one unit; class 1 is the positive one */
} tl_loss_kind;

typedef struct tl_loss {
    tl_loss_kind kind;
    int classes;
} tl_loss;

/* What a batch gives. */
typedef struct tl_loss_result {
    double sum;      /* of the pictures' losses, natural logarithm */
    int64_t correct; /* pictures whose likeliest class (the first of equals) is their label */
} tl_loss_result;

/* Floats a picture's logits take: `classes`, or 1 for TL_LOSS_SIGMOID. */
int tl_loss_units(const tl_loss *loss);

/* logits [n units], labels [n] in 0..classes-1. `gradient` [n units] gets the derivative of the
 * batch's mean loss, `probabilities` [n classes] the answers; both may be NULL. */
tl_loss_result tl_loss_compute(const tl_loss *loss, const float *logits, const int32_t *labels,
                               int64_t n, float *gradient, float *probabilities);

#endif
