/* Optimiser updates in the two forms that users come from. Sources: keras/optimizers/{sgd,adam,
 * rmsprop}.py of Keras 3 (the same rules as tf.keras from 2.11 on) and torch/optim/{sgd,adam,adamw,
 * rmsprop}.py. What depends on the step's number is in tl_update already. */
#include "ref/ref.h"

#include <math.h>

/* Applies decoupled weight decay to *w and returns the gradient with the coupled one. */
static inline float decayed(const tl_update *u, float *w, float g) {
    g += u->decay * *w;
    *w *= 1.0f - u->shrink;
    return g;
}

/* What is subtracted from the weight. Keras: m = momentum m - lr g; PyTorch keeps lr out of the
 * buffer: v = momentum v + g. They part when lr changes. */
static inline float momentum_step(const tl_update *u, float g, float *velocity) {
    float fresh = u->keras ? -u->lr * g : g;
    *velocity = u->momentum * *velocity + fresh;
    float step = u->nesterov ? u->momentum * *velocity + fresh : *velocity;
    return u->keras ? -step : u->lr * step;
}

void tl_ref_sgd(const tl_update *u, float *w, const float *g, float *velocity, int64_t n) {
    if (u->momentum == 0.0f) {
        for (int64_t i = 0; i < n; i++) {
            float gradient = decayed(u, &w[i], g[i]);
            w[i] -= u->lr * gradient;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float gradient = decayed(u, &w[i], g[i]);
        w[i] -= momentum_step(u, gradient, &velocity[i]);
    }
}

void tl_ref_adam(const tl_update *u, float *w, const float *g, float *m, float *v, int64_t n) {
    float beta1 = (float)u->beta1, rest1 = (float)(1.0 - u->beta1);
    float beta2 = (float)u->beta2, rest2 = (float)(1.0 - u->beta2);
    float correction2 = u->keras ? 1.0f : u->correction2;
    for (int64_t i = 0; i < n; i++) {
        float gradient = decayed(u, &w[i], g[i]);
        m[i] = beta1 * m[i] + rest1 * gradient;
        v[i] = beta2 * v[i] + rest2 * gradient * gradient;
        w[i] -= u->lr * m[i] / (sqrtf(v[i]) / correction2 + u->epsilon);
    }
}

void tl_ref_rmsprop(const tl_update *u, float *w, const float *g, float *v, float *mean,
                    float *velocity, int64_t n) {
    float rho = (float)u->beta2, rest = (float)(1.0 - u->beta2);
    for (int64_t i = 0; i < n; i++) {
        float gradient = decayed(u, &w[i], g[i]);
        v[i] = rho * v[i] + rest * gradient * gradient;
        float spread = v[i];
        if (u->centered) {
            mean[i] = rho * mean[i] + rest * gradient;
            /* A variance; rounding must not make it negative. */
            spread = fmaxf(spread - mean[i] * mean[i], 0.0f);
        }
        float root = u->keras ? sqrtf(spread + u->epsilon) : sqrtf(spread) + u->epsilon;
        float step = gradient / root;
        /* Keras's momentum buffer holds steps that lr already scales, PyTorch's those before. */
        if (u->keras) step *= u->lr;
        if (u->momentum != 0.0f) step = velocity[i] = u->momentum * velocity[i] + step;
        w[i] -= u->keras ? step : u->lr * step;
    }
}
