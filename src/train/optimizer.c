/* Optimisers: options, the state each range of weights carries, and the numbers that a step hands
 * to the kernel table. The update rules themselves are in kernels/ref/optimizer.c.
 *
 * "keras" and "pytorch" name whose rule is followed where the two differ:
 *   Adam      Keras puts both bias corrections into the learning rate and adds epsilon to sqrt(v);
 *             PyTorch divides sqrt(v) by its correction first, then adds epsilon.
 *   RMSprop   Keras takes sqrt(v + epsilon) and keeps lr inside the momentum buffer; PyTorch takes
 *             sqrt(v) + epsilon and multiplies by lr last.
 *   SGD       Keras keeps lr inside the momentum buffer, PyTorch outside.
 *   decay     Keras shrinks the weights before the step for every optimiser, as AdamW does;
 *             PyTorch adds it to the gradient except in AdamW. */
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/float_state.h"
#include "base/options.h"
#include "kernels.h"
#include "train/trainer.h"

typedef enum rule { RULE_SGD, RULE_ADAM, RULE_RMSPROP } rule;

/* Defaults of keras.optimizers and torch.optim; index 0 is Keras, 1 is PyTorch. */
typedef struct optimizer_kind {
    const char *name;
    rule rule;
    bool decoupled; /* PyTorch's weight decay does not enter the gradient */
    double lr[2], epsilon[2], rho[2], weight_decay[2];
} optimizer_kind;

static const optimizer_kind kinds[] = {
    {"sgd", RULE_SGD, false, {1e-2, 1e-2}, {0, 0}, {0, 0}, {0, 0}},
    {"adam", RULE_ADAM, false, {1e-3, 1e-3}, {1e-7, 1e-8}, {0, 0}, {0, 0}},
    {"adamw", RULE_ADAM, true, {1e-3, 1e-3}, {1e-7, 1e-8}, {0, 0}, {0.004, 0.01}},
    {"rmsprop", RULE_RMSPROP, false, {1e-3, 1e-2}, {1e-7, 1e-8}, {0.9, 0.99}, {0, 0}},
};
enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

/* What SGD, Adam and RMSprop keep per weight; the order is that of the kernels' arguments. */
enum { STATE_COUNT = 3, MAX_SLOTS = 1 << 20 };

typedef struct slot {
    int64_t count; /* 0 until first used */
    float *state[STATE_COUNT];
} slot;

struct tl_optimizer {
    tl_context *ctx;
    const optimizer_kind *kind;
    bool keras, nesterov, centered;
    double lr, momentum, beta1, beta2, epsilon, weight_decay;
    int64_t step;
    int slot_count;
    slot *slots;
};

void tl_optimizer_options_init(tl_optimizer_options *options, size_t size) {
    const tl_optimizer_options defaults = {.lr = -1,
                                           .momentum = -1,
                                           .beta1 = -1,
                                           .beta2 = -1,
                                           .rho = -1,
                                           .epsilon = -1,
                                           .weight_decay = -1};
    tl_options_init(options, size, &defaults, sizeof defaults);
}

/* --- options ----------------------------------------------------------------------------- */

static tl_status find_kind(const char *name, const optimizer_kind **out) {
    for (int i = 0; i < KIND_COUNT; i++)
        if (strcmp(name, kinds[i].name) == 0) {
            *out = &kinds[i];
            return TL_OK;
        }
    return tl_fail(TL_INVALID_ARGUMENT,
                   "optimizer '%s' is unknown; choices: sgd, adam, adamw, rmsprop", name);
}

static double or_default(double value, double otherwise) {
    return value < 0 ? otherwise : value;
}

static void apply_options(tl_optimizer *o, const tl_optimizer_options *options) {
    int style = o->keras ? 0 : 1;
    const optimizer_kind *kind = o->kind;
    o->nesterov = options->nesterov;
    o->centered = options->centered;
    o->lr = or_default(options->lr, kind->lr[style]);
    o->momentum = or_default(options->momentum, 0);
    o->beta1 = or_default(options->beta1, 0.9);
    o->beta2 = kind->rule == RULE_RMSPROP ? or_default(options->rho, kind->rho[style])
                                          : or_default(options->beta2, 0.999);
    o->epsilon = or_default(options->epsilon, kind->epsilon[style]);
    o->weight_decay = or_default(options->weight_decay, kind->weight_decay[style]);
}

static tl_status check_range(const char *field, double value, double below) {
    TL_CHECK(value >= 0 && value < below, TL_INVALID_ARGUMENT,
             "optimizer: %s is %g, expected a number from 0 to below %g", field, value, below);
    return TL_OK;
}

static tl_status check_lr(double lr) {
    return check_range("lr", lr, 1e30);
}

/* A setting that the chosen rule would ignore is a mistake of the caller's. */
static tl_status check_applies(const tl_optimizer *o) {
    const char *name = o->kind->name;
    rule r = o->kind->rule;
    TL_CHECK(r != RULE_ADAM || o->momentum == 0, TL_INVALID_ARGUMENT,
             "optimizer: momentum is for sgd and rmsprop; %s has beta1 instead", name);
    TL_CHECK(r == RULE_SGD || !o->nesterov, TL_INVALID_ARGUMENT,
             "optimizer: nesterov is for sgd, not %s", name);
    TL_CHECK(!o->nesterov || o->momentum > 0 || o->keras, TL_INVALID_ARGUMENT,
             "optimizer: nesterov needs a momentum above 0");
    TL_CHECK(r == RULE_RMSPROP || !o->centered, TL_INVALID_ARGUMENT,
             "optimizer: centered is for rmsprop, not %s", name);
    return TL_OK;
}

static tl_status configure(tl_optimizer *o, const tl_optimizer_options *options) {
    TL_TRY(find_kind(options->name ? options->name : "adam", &o->kind));
    const char *style = options->style ? options->style : "keras";
    o->keras = strcmp(style, "keras") == 0;
    TL_CHECK(o->keras || strcmp(style, "pytorch") == 0, TL_INVALID_ARGUMENT,
             "optimizer style '%s' is unknown; choices: keras, pytorch", style);
    apply_options(o, options);
    TL_TRY(check_lr(o->lr));
    TL_TRY(check_range("momentum", o->momentum, 1));
    TL_TRY(check_range("beta1", o->beta1, 1));
    TL_TRY(check_range(o->kind->rule == RULE_RMSPROP ? "rho" : "beta2", o->beta2, 1));
    TL_TRY(check_range("epsilon", o->epsilon, 1e30));
    TL_TRY(check_range("weight_decay", o->weight_decay, 1e30));
    return check_applies(o);
}

tl_status tl_optimizer_create(tl_context *ctx, const tl_optimizer_options *options,
                              tl_optimizer **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_optimizer_create: out is NULL");
    *out = NULL;
    TL_CHECK(ctx, TL_INVALID_ARGUMENT, "tl_optimizer_create: ctx is NULL");
    tl_optimizer_options filled;
    tl_optimizer_options_init(&filled, sizeof filled);
    TL_TRY(tl_options_read("optimizer", options, &filled, sizeof filled));
    tl_optimizer configured = {.ctx = ctx};
    TL_TRY(configure(&configured, &filled));
    tl_optimizer *o = tl_alloc(ctx, sizeof *o);
    TL_CHECK_MEMORY(o);
    *o = configured;
    *out = o;
    return TL_OK;
}

void tl_optimizer_free(tl_optimizer *o) {
    if (!o) return;
    for (int i = 0; i < o->slot_count; i++)
        for (int j = 0; j < STATE_COUNT; j++) tl_free(o->ctx, o->slots[i].state[j]);
    tl_free(o->ctx, o->slots);
    tl_free(o->ctx, o);
}

double tl_optimizer_lr(const tl_optimizer *o) {
    return o ? o->lr : 0;
}

tl_status tl_optimizer_set_lr(tl_optimizer *o, double lr) {
    TL_CHECK(o, TL_INVALID_ARGUMENT, "tl_optimizer_set_lr: optimizer is NULL");
    TL_TRY(check_lr(lr));
    o->lr = lr;
    return TL_OK;
}

double tl_optimizer_weight_decay(const tl_optimizer *o) {
    return o->weight_decay;
}

/* --- state ------------------------------------------------------------------------------- */

static bool needs_state(const tl_optimizer *o, int index) {
    switch (o->kind->rule) {
    case RULE_SGD:
        return index == 0 && o->momentum > 0;
    case RULE_ADAM:
        return index < 2;
    case RULE_RMSPROP:
        return index == 0 || (index == 1 && o->centered) || (index == 2 && o->momentum > 0);
    }
    return false;
}

int tl_optimizer_moments(const tl_optimizer *o) {
    int count = 0;
    for (int i = 0; i < STATE_COUNT; i++) count += needs_state(o, i);
    return count;
}

static tl_status grow_slots(tl_optimizer *o, int count) {
    if (count <= o->slot_count) return TL_OK;
    slot *slots = tl_realloc(o->ctx, o->slots, (size_t)count * sizeof *slots);
    TL_CHECK_MEMORY(slots);
    memset(slots + o->slot_count, 0, (size_t)(count - o->slot_count) * sizeof *slots);
    o->slots = slots;
    o->slot_count = count;
    return TL_OK;
}

tl_status tl_optimizer_reserve(tl_optimizer *o, int index, int64_t count) {
    TL_TRY(grow_slots(o, index + 1));
    slot *s = &o->slots[index];
    TL_CHECK(s->count == 0 || s->count == count, TL_INVALID_ARGUMENT,
             "optimizer: slot %d has %lld weights, now called with %lld", index,
             (long long)s->count, (long long)count);
    for (int j = 0; j < STATE_COUNT; j++)
        if (!s->state[j] && needs_state(o, j)) {
            s->state[j] = tl_alloc_zero(o->ctx, (size_t)count * sizeof(float));
            TL_CHECK_MEMORY(s->state[j]);
        }
    s->count = count;
    return TL_OK;
}

/* --- a step ------------------------------------------------------------------------------ */

void tl_optimizer_begin_step(tl_optimizer *o) {
    if (o) o->step++;
}

static tl_update make_update(const tl_optimizer *o) {
    bool decoupled = o->keras || o->kind->decoupled;
    tl_update u = {.lr = (float)o->lr,
                   .momentum = (float)o->momentum,
                   .beta1 = o->beta1,
                   .beta2 = o->beta2,
                   .epsilon = (float)o->epsilon,
                   .decay = decoupled ? 0 : (float)o->weight_decay,
                   .shrink = decoupled ? (float)(o->lr * o->weight_decay) : 0,
                   .correction2 = 1,
                   .nesterov = o->nesterov,
                   .keras = o->keras,
                   .centered = o->centered};
    if (o->kind->rule != RULE_ADAM) return u;
    /* A caller who never begins a step is at the first one. */
    double t = (double)(o->step > 0 ? o->step : 1);
    double correction1 = 1 - pow(o->beta1, t), correction2 = sqrt(1 - pow(o->beta2, t));
    u.lr = (float)(o->keras ? o->lr * correction2 / correction1 : o->lr / correction1);
    if (!o->keras) u.correction2 = (float)correction2;
    return u;
}

/* Threads cut at multiples of this, so that a kernel's vectors and its scalar tail always meet
 * the same weights. */
enum { CHUNK = 4096 };

typedef struct update_job {
    const tl_optimizer *optimizer;
    const struct tl_kernels *kernels;
    tl_update update;
    float *weights;
    const float *gradients;
    const slot *slot;
} update_job;

static float *at(float *state, int64_t offset) {
    return state ? state + offset : NULL;
}

static void update_chunks(void *arg, int64_t begin, int64_t end) {
    const update_job *job = arg;
    const slot *s = job->slot;
    int64_t from = begin * CHUNK;
    int64_t to = end * CHUNK < s->count ? end * CHUNK : s->count;
    float *w = job->weights + from;
    const float *g = job->gradients + from;
    float *a = at(s->state[0], from), *b = at(s->state[1], from), *c = at(s->state[2], from);
    switch (job->optimizer->kind->rule) {
    case RULE_SGD:
        job->kernels->sgd(&job->update, w, g, a, to - from);
        break;
    case RULE_ADAM:
        job->kernels->adam(&job->update, w, g, a, b, to - from);
        break;
    case RULE_RMSPROP:
        job->kernels->rmsprop(&job->update, w, g, a, b, c, to - from);
        break;
    }
}

tl_status tl_optimizer_update(tl_optimizer *o, int index, float *weights, const float *gradients,
                              int64_t count) {
    TL_CHECK(o && weights && gradients, TL_INVALID_ARGUMENT,
             "tl_optimizer_update: optimizer, weights or gradients is NULL");
    TL_CHECK(index >= 0 && index < MAX_SLOTS, TL_INVALID_ARGUMENT,
             "tl_optimizer_update: slot is %d, expected 0 to %d", index, MAX_SLOTS - 1);
    TL_CHECK(count >= 0, TL_INVALID_ARGUMENT, "tl_optimizer_update: count is %lld",
             (long long)count);
    if (count == 0) return TL_OK;
    TL_TRY(tl_optimizer_reserve(o, index, count));
    TL_FLOAT_SCOPE;
    update_job job = {.optimizer = o,
                      .kernels = tl_context_kernels(o->ctx),
                      .update = make_update(o),
                      .weights = weights,
                      .gradients = gradients,
                      .slot = &o->slots[index]};
    tl_parallel(o->ctx, (count + CHUNK - 1) / CHUNK, update_chunks, &job);
    return TL_OK;
}
