/* Optimiser updates for whichever vec.h was included before. The rules and their sources stand in
 * ref/optimizer.c. */
#ifndef TL_KERNELS_SIMD_OPTIMIZER_H
#define TL_KERNELS_SIMD_OPTIMIZER_H

#include "simd/each.h"

/* The settings in registers. */
typedef struct vec_update {
    vec lr, momentum, epsilon, decay, keep; /* keep: 1 - shrink */
    bool nesterov, keras;
} vec_update;

SIMD_INLINE vec_update vec_update_of(const tl_update *u) {
    return (vec_update){.lr = vec_set(u->lr),
                        .momentum = vec_set(u->momentum),
                        .epsilon = vec_set(u->epsilon),
                        .decay = vec_set(u->decay),
                        .keep = vec_set(1.0f - u->shrink),
                        .nesterov = u->nesterov,
                        .keras = u->keras};
}

/* Applies decoupled weight decay to *w and returns the gradient with the coupled one. */
SIMD_INLINE vec decayed(const vec_update *u, vec *w, vec g) {
    g = vec_fma(u->decay, *w, g);
    *w = vec_mul(*w, u->keep);
    return g;
}

SIMD_INLINE void sgd_vec(const vec_update *u, const bool moving, float *w, const float *g,
                         float *velocity, vec_mask mask) {
    vec weight = vec_load_first(w, mask);
    vec fresh = decayed(u, &weight, vec_load_first(g, mask));
    if (u->keras) fresh = vec_mul(u->lr, fresh);
    if (moving) { /* Keras keeps the velocity with the other sign */
        vec old = vec_mul(u->momentum, vec_load_first(velocity, mask));
        vec speed = u->keras ? vec_sub(old, fresh) : vec_add(old, fresh);
        vec_store_first(velocity, mask, speed);
        vec along = u->keras ? vec_sub(vec_set(0.0f), speed) : speed;
        fresh = u->nesterov ? vec_fma(u->momentum, along, fresh) : along;
    }
    weight =
        u->keras ? vec_sub(weight, fresh) : vec_fma(vec_sub(vec_set(0.0f), u->lr), fresh, weight);
    vec_store_first(w, mask, weight);
}

static void simd_sgd(const tl_update *update, float *w, const float *g, float *velocity,
                     int64_t n) {
    const vec_update u = vec_update_of(update);
    if (update->momentum == 0.0f) {
#define BODY(i, mask) sgd_vec(&u, false, w + (i), g + (i), NULL, mask)
        FOR_VECTORS(n, BODY);
#undef BODY
        return;
    }
#define BODY(i, mask) sgd_vec(&u, true, w + (i), g + (i), velocity + (i), mask)
    FOR_VECTORS(n, BODY);
#undef BODY
}

/* A decaying mean: old and fresh values are weighted. */
typedef struct vec_mean {
    vec old, fresh;
} vec_mean;

SIMD_INLINE vec_mean vec_mean_of(double decay) {
    return (vec_mean){vec_set((float)decay), vec_set((float)(1.0 - decay))};
}

/* Updates the mean in memory with `fresh`, already weighted, and returns it. */
SIMD_INLINE vec mean_step(vec old_weight, float *mean, vec_mask mask, vec fresh) {
    vec value = vec_fma(old_weight, vec_load_first(mean, mask), fresh);
    vec_store_first(mean, mask, value);
    return value;
}

SIMD_INLINE void adam_vec(const vec_update *u, const vec_mean *first, const vec_mean *second,
                          vec correction2, float *w, const float *g, float *m, float *v,
                          vec_mask mask) {
    vec weight = vec_load_first(w, mask);
    vec gradient = decayed(u, &weight, vec_load_first(g, mask));
    vec mean = mean_step(first->old, m, mask, vec_mul(first->fresh, gradient));
    vec square = vec_mul(vec_mul(second->fresh, gradient), gradient);
    vec root = vec_sqrt(mean_step(second->old, v, mask, square));
    if (!u->keras) root = vec_div(root, correction2);
    vec step = vec_div(vec_mul(u->lr, mean), vec_add(root, u->epsilon));
    vec_store_first(w, mask, vec_sub(weight, step));
}

static void simd_adam(const tl_update *update, float *w, const float *g, float *m, float *v,
                      int64_t n) {
    const vec_update u = vec_update_of(update);
    const vec_mean first = vec_mean_of(update->beta1), second = vec_mean_of(update->beta2);
    const vec correction2 = vec_set(update->correction2);
#define BODY(i, mask)                                                                              \
    adam_vec(&u, &first, &second, correction2, w + (i), g + (i), m + (i), v + (i), mask)
    FOR_VECTORS(n, BODY);
#undef BODY
}

SIMD_INLINE void rmsprop_vec(const vec_update *u, const vec_mean *rho, const bool centered,
                             const bool moving, float *w, const float *g, float *v, float *mean,
                             float *velocity, vec_mask mask) {
    vec weight = vec_load_first(w, mask);
    vec gradient = decayed(u, &weight, vec_load_first(g, mask));
    vec square = vec_mul(vec_mul(rho->fresh, gradient), gradient);
    vec spread = mean_step(rho->old, v, mask, square);
    if (centered) {
        vec middle = mean_step(rho->old, mean, mask, vec_mul(rho->fresh, gradient));
        /* Rounded twice, as in the reference: these may be nearly equal. */
        spread = vec_max(vec_sub(spread, vec_mul(middle, middle)), vec_set(0.0f));
    }
    vec root =
        u->keras ? vec_sqrt(vec_add(spread, u->epsilon)) : vec_add(vec_sqrt(spread), u->epsilon);
    vec step = vec_div(gradient, root);
    if (u->keras) step = vec_mul(step, u->lr);
    if (moving) step = mean_step(u->momentum, velocity, mask, step);
    if (!u->keras) step = vec_mul(step, u->lr);
    vec_store_first(w, mask, vec_sub(weight, step));
}

static void simd_rmsprop(const tl_update *update, float *w, const float *g, float *v, float *mean,
                         float *velocity, int64_t n) {
    const vec_update u = vec_update_of(update);
    const vec_mean rho = vec_mean_of(update->beta2);
    const bool centered = update->centered, moving = update->momentum != 0.0f;
#define BODY(i, mask)                                                                              \
    rmsprop_vec(&u, &rho, centered, moving, w + (i), g + (i), v + (i),                             \
                centered ? mean + (i) : NULL, moving ? velocity + (i) : NULL, mask)
    FOR_VECTORS(n, BODY);
#undef BODY
}

#endif
