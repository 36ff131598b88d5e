#include "base/rng.h"

#include <math.h>

/* SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
 * One multiply-xorshift finaliser serves both as generator and as the hash that makes keys. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static const uint64_t golden_gamma = 0x9e3779b97f4a7c15u;

tl_rng tl_rng_make(uint64_t seed, tl_rng_use use, uint64_t a, uint64_t b) {
    uint64_t key = mix(seed + golden_gamma);
    key = mix(key ^ (uint64_t)use * golden_gamma);
    key = mix(key ^ (a + golden_gamma));
    key = mix(key ^ (b + golden_gamma));
    return (tl_rng){key};
}

uint64_t tl_rng_next(tl_rng *rng) {
    rng->state += golden_gamma;
    return mix(rng->state);
}

float tl_rng_uniform(tl_rng *rng) {
    return (float)(tl_rng_next(rng) >> 40) * 0x1p-24f;
}

float tl_rng_range(tl_rng *rng, float low, float high) {
    return low + (high - low) * tl_rng_uniform(rng);
}

uint64_t tl_rng_below(tl_rng *rng, uint64_t count) {
    /* Reject the incomplete last interval so that every value is equally likely. */
    uint64_t limit = UINT64_MAX - UINT64_MAX % count;
    uint64_t value = tl_rng_next(rng);
    while (value >= limit) value = tl_rng_next(rng);
    return value % count;
}

float tl_rng_normal(tl_rng *rng) {
    /* Box-Muller; 1 - u avoids log(0). */
    double u = 1.0 - (double)tl_rng_uniform(rng);
    double v = (double)tl_rng_uniform(rng);
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

void tl_rng_shuffle(tl_rng *rng, int64_t *items, int64_t count) {
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = (int64_t)tl_rng_below(rng, (uint64_t)i + 1);
        int64_t swap = items[i];
        items[i] = items[j];
        items[j] = swap;
    }
}
