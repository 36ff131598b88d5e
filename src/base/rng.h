/* Random numbers that depend on nothing but their key, so that a sample's augmentation or a
 * layer's dropout is the same whichever thread draws it and after any resume. */
#ifndef TL_BASE_RNG_H
#define TL_BASE_RNG_H

#include <stdint.h>

typedef struct tl_rng {
    uint64_t state;
} tl_rng;

/* What a stream is for; keeps streams of one seed apart. Append only: saved runs depend on it. */
typedef enum tl_rng_use {
    TL_RNG_INIT = 1,
    TL_RNG_SHUFFLE = 2,
    TL_RNG_SPLIT = 3,
    TL_RNG_AUGMENT = 4,
    TL_RNG_DROPOUT = 5
} tl_rng_use;

/* The stream of a key. `a` and `b` are free: epoch and sample, layer and step. */
tl_rng tl_rng_make(uint64_t seed, tl_rng_use use, uint64_t a, uint64_t b);
uint64_t tl_rng_next(tl_rng *rng);
/* Uniform in [0, 1). */
float tl_rng_uniform(tl_rng *rng);
/* Uniform in [low, high). */
float tl_rng_range(tl_rng *rng, float low, float high);
/* Uniform in [0, count), without bias. */
uint64_t tl_rng_below(tl_rng *rng, uint64_t count);
/* Standard normal. */
float tl_rng_normal(tl_rng *rng);
/* Fisher-Yates. */
void tl_rng_shuffle(tl_rng *rng, int64_t *items, int64_t count);

#endif
