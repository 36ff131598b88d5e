/* One training step: the frozen part forward as in inference, the trained part forward, loss,
 * backward, check, clip, update. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "base/float_state.h"
#include "base/options.h"
#include "layer/row_sums.h"

enum { NORM_COLUMNS = 64 };

struct tl_trainer {
    tl_model *model;
    tl_context *ctx;
    tl_trainer_options options;
    tl_loss loss;
    int boundary;
    int64_t feature_count;
    tl_plan *frozen; /* input to boundary, in inference form; NULL when the boundary is the input */
    tl_plan *trained; /* boundary to logits */
    tl_optimizer *optimizer;
    uint64_t step;     /* finished steps */
    float *gradient;   /* of the logits, [batch units] */
    double *norm_sums; /* see global_norm() */
    float *statistics; /* running statistics before a step that may be undone, or NULL */
};

void tl_trainer_options_init(tl_trainer_options *options, size_t size) {
    const tl_trainer_options defaults = {.batch = 32};
    tl_options_init(options, size, &defaults, sizeof defaults);
}

/* --- making ------------------------------------------------------------------------------- */

static tl_status check_options(const tl_trainer_options *options) {
    TL_CHECK(options->batch >= 1 && options->batch <= 65536, TL_INVALID_ARGUMENT,
             "trainer: batch is %d, expected 1 to 65536", options->batch);
    TL_CHECK(options->clip_norm >= 0 && isfinite(options->clip_norm), TL_INVALID_ARGUMENT,
             "trainer: clip_norm is %g, expected 0 (off) or a positive number", options->clip_norm);
    return TL_OK;
}

static tl_status choose_loss(const tl_model *model, tl_loss *loss) {
    const tl_graph *graph = model->graph;
    const tl_node *logits = &graph->node[tl_graph_logits(graph)];
    const tl_node *output = &graph->node[tl_graph_output(graph)];
    int64_t units = tl_shape_count(&logits->shape);
    bool sigmoid = strcmp(output->op->name, "sigmoid") == 0;
    loss->kind = sigmoid ? TL_LOSS_SIGMOID : TL_LOSS_SOFTMAX;
    TL_CHECK(!tl_model_has_independent_units(model), TL_INVALID_ARGUMENT,
             "trainer: layer %s has %lld sigmoid units; one unit for two classes can be trained, "
             "or softmax over any number",
             output->name, (long long)units);
    TL_CHECK(sigmoid || (units >= 2 && units <= 65536), TL_INVALID_ARGUMENT,
             "trainer: the network ends in layer %s with %lld values; 2 to 65536 classes can be "
             "trained; put a head on first",
             logits->name, (long long)units);
    loss->classes = sigmoid ? 2 : (int)units;
    return TL_OK;
}

static tl_status check_trainable(const tl_graph *graph) {
    TL_CHECK(tl_graph_param_elements(graph, true) > 0, TL_INVALID_ARGUMENT,
             "trainer: nothing to train, every layer is frozen");
    return TL_OK;
}

static tl_shape with_batch(tl_shape shape, int64_t batch) {
    shape.dim[0] = batch;
    return shape;
}

static tl_plan_options frozen_options(const tl_trainer *t) {
    return (tl_plan_options){.to = t->boundary,
                             .input = with_batch(t->model->graph->node[0].shape, t->options.batch),
                             .dtype = t->options.dtype};
}

static tl_plan_options trained_options(const tl_trainer *t) {
    const tl_graph *graph = t->model->graph;
    return (tl_plan_options){.from = t->boundary,
                             .to = tl_graph_logits(graph),
                             .input = with_batch(graph->node[t->boundary].shape, t->options.batch),
                             .training = true,
                             .batch_norm_training = t->options.batch_norm_training,
                             .seed = t->options.seed,
                             .dtype = t->options.dtype};
}

static tl_status make_plans(tl_trainer *t) {
    tl_graph *graph = t->model->graph;
    tl_plan_options frozen = frozen_options(t), trained = trained_options(t);
    if (t->boundary > 0) TL_TRY(tl_plan_create(graph, &frozen, &t->frozen));
    return tl_plan_create(graph, &trained, &t->trained);
}

/* Whether steps change a parameter: by its gradient or, for running statistics, as its layer
 * trains. A layer's statistics move only where its own weights may. */
static bool changes(const tl_trainer *t, const tl_param *param) {
    if (param->learned) return param->trainable;
    const tl_graph *graph = t->model->graph;
    const tl_node *node = &graph->node[param->node];
    if (!t->options.batch_norm_training) return false;
    for (int i = 0; i < node->param_count; i++)
        if (graph->param[node->first_param + i].trainable) return true;
    return false;
}

/* The next parameter after `index` that steps change; -1 past the last. */
static int next_changing(const tl_trainer *t, int index, bool statistics_only) {
    const tl_graph *graph = t->model->graph;
    while (++index < graph->param_count) {
        const tl_param *param = &graph->param[index];
        if (changes(t, param) && !(statistics_only && param->learned)) return index;
    }
    return -1;
}

static int64_t count_state(const tl_trainer *t, bool statistics_only) {
    int64_t count = 0;
    for (int i = -1; (i = next_changing(t, i, statistics_only)) >= 0;)
        count += tl_shape_count(&t->model->graph->param[i].shape);
    return count;
}

static void save_state(const tl_trainer *t, bool statistics_only, float *state) {
    for (int i = -1; (i = next_changing(t, i, statistics_only)) >= 0;) {
        const tl_tensor *value = t->model->graph->param[i].value;
        memcpy(state, tl_tensor_const_f32(value), tl_tensor_bytes(value));
        state += tl_tensor_count(value);
    }
}

static void restore_state(tl_trainer *t, bool statistics_only, const float *state) {
    for (int i = -1; (i = next_changing(t, i, statistics_only)) >= 0;) {
        tl_tensor *value = t->model->graph->param[i].value;
        memcpy(tl_tensor_f32(value), state, tl_tensor_bytes(value));
        state += tl_tensor_count(value);
    }
}

static size_t gradient_bytes(const tl_trainer *t) {
    return (size_t)t->options.batch * (size_t)tl_loss_units(&t->loss) * sizeof(float);
}

/* Where a parameter's gradient is among all; -1 when steps do not update it. */
static int64_t gradient_offset(const tl_trainer *t, int param) {
    return t->model->graph->param[param].trainable ? tl_plan_gradient_offset(t->trained, param)
                                                   : -1;
}

/* Before the first step, which could not take back the updates that it has made when memory is out.
 * The last slot comes first, so that the list of slots grows once. */
static tl_status reserve_moments(tl_trainer *t) {
    const tl_graph *graph = t->model->graph;
    for (int i = graph->param_count - 1; i >= 0; i--)
        if (gradient_offset(t, i) >= 0)
            TL_TRY(tl_optimizer_reserve(t->optimizer, i, tl_shape_count(&graph->param[i].shape)));
    return TL_OK;
}

static tl_status allocate(tl_trainer *t) {
    TL_TRY(reserve_moments(t));
    t->gradient = tl_alloc(t->ctx, gradient_bytes(t));
    TL_CHECK_MEMORY(t->gradient);
    t->norm_sums = tl_alloc(t->ctx, tl_row_sums_size(NORM_COLUMNS));
    TL_CHECK_MEMORY(t->norm_sums);
    int64_t statistics = count_state(t, true);
    if (statistics == 0) return TL_OK;
    t->statistics = tl_alloc_array(t->ctx, (size_t)statistics, sizeof(float));
    TL_CHECK_MEMORY(t->statistics);
    return TL_OK;
}

/* Everything but the large blocks. */
static tl_status prepare(tl_trainer *t, tl_model *model, const tl_trainer_options *options) {
    t->model = model;
    t->ctx = model->ctx;
    tl_trainer_options_init(&t->options, sizeof t->options);
    TL_TRY(tl_options_read("trainer", options, &t->options, sizeof t->options));
    TL_TRY(check_options(&t->options));
    TL_TRY(choose_loss(t->model, &t->loss));
    TL_TRY(check_trainable(t->model->graph));
    t->boundary = tl_graph_boundary(model->graph);
    t->feature_count = tl_shape_count(&model->graph->node[t->boundary].shape);
    const tl_optimizer_options *optimizer = t->options.optimizer;
    t->options.optimizer = NULL; /* the caller's, for this call only */
    return tl_optimizer_create(t->ctx, optimizer, &t->optimizer);
}

tl_status tl_trainer_create(tl_model *model, const tl_trainer_options *options, tl_trainer **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_trainer_create: out is NULL");
    *out = NULL;
    TL_CHECK(model, TL_INVALID_ARGUMENT, "tl_trainer_create: model is NULL");
    tl_trainer *t = tl_alloc_zero(model->ctx, sizeof *t);
    TL_CHECK_MEMORY(t);
    tl_status status = prepare(t, model, options);
    if (status == TL_OK) status = make_plans(t);
    if (status == TL_OK) status = allocate(t);
    if (status != TL_OK) {
        tl_trainer_free(t);
        return status;
    }
    *out = t;
    return TL_OK;
}

/* In the order of tl_trainer_create(). */
static tl_status forecast(const tl_trainer *t, tl_memory *out) {
    tl_graph *graph = t->model->graph;
    tl_plan_options frozen = frozen_options(t), trained = trained_options(t);
    tl_forecast sum;
    tl_forecast_begin(t->model, &sum);
    if (t->boundary > 0) TL_TRY(tl_forecast_plan(&sum, graph, &frozen));
    TL_TRY(tl_forecast_plan(&sum, graph, &trained));
    sum.memory.optimizer = sum.memory.gradients * (size_t)tl_optimizer_moments(t->optimizer);
    tl_forecast_hold(&sum, sum.memory.optimizer);
    tl_forecast_hold(&sum, gradient_bytes(t) + (size_t)count_state(t, true) * sizeof(float));
    return tl_forecast_end(&sum, out);
}

tl_status tl_trainer_memory(const tl_model *model, const tl_trainer_options *options,
                            tl_memory *out) {
    TL_CHECK(model && out, TL_INVALID_ARGUMENT, "tl_trainer_memory: model or out is NULL");
    tl_trainer t = {0};
    /* It only asks for sizes, but a trainer's model is there to be changed. */
    tl_status status = prepare(&t, (tl_model *)model, options);
    if (status == TL_OK) status = forecast(&t, out);
    tl_optimizer_free(t.optimizer);
    return status;
}

void tl_trainer_free(tl_trainer *t) {
    if (!t) return;
    tl_plan_free(t->frozen);
    tl_plan_free(t->trained);
    tl_optimizer_free(t->optimizer);
    tl_free(t->ctx, t->gradient);
    tl_free(t->ctx, t->norm_sums);
    tl_free(t->ctx, t->statistics);
    tl_free(t->ctx, t);
}

/* --- what the recipe asks ----------------------------------------------------------------- */

tl_optimizer *tl_trainer_optimizer(tl_trainer *t) {
    return t ? t->optimizer : NULL;
}

void tl_trainer_set_poll(tl_trainer *t, tl_poll_fn poll, void *user) {
    if (t->frozen) tl_plan_set_poll(t->frozen, poll, user);
    tl_plan_set_poll(t->trained, poll, user);
}

int tl_trainer_boundary(const tl_trainer *t) {
    return t->boundary;
}

int64_t tl_trainer_feature_count(const tl_trainer *t) {
    return t->feature_count;
}

int64_t tl_trainer_state_count(const tl_trainer *t) {
    return count_state(t, false);
}

void tl_trainer_save_state(const tl_trainer *t, float *state) {
    save_state(t, false, state);
}

void tl_trainer_restore_state(tl_trainer *t, const float *state) {
    restore_state(t, false, state);
    tl_model_changed(t->model);
}

/* --- a step ------------------------------------------------------------------------------- */

static tl_status check_inputs(const tl_trainer *t, const tl_tensor *inputs) {
    TL_CHECK(inputs && tl_tensor_dtype(inputs) == TL_F32, TL_INVALID_ARGUMENT,
             "trainer: inputs must be an f32 tensor");
    tl_shape got = tl_tensor_get_shape(inputs);
    tl_shape want = with_batch(t->model->graph->node[0].shape, got.rank > 0 ? got.dim[0] : 0);
    char got_text[TL_SHAPE_TEXT], want_text[TL_SHAPE_TEXT];
    want.dim[0] = t->options.batch;
    bool fits = got.rank == want.rank && got.dim[0] >= 1 && got.dim[0] <= want.dim[0];
    for (int i = 1; fits && i < got.rank; i++) fits = got.dim[i] == want.dim[i];
    TL_CHECK(fits, TL_SHAPE, "trainer: inputs are %s, expected %s with a first dimension from 1",
             tl_shape_text(&got, got_text), tl_shape_text(&want, want_text));
    return TL_OK;
}

static tl_status check_labels(const tl_trainer *t, const int32_t *labels, int64_t n) {
    TL_CHECK(labels, TL_INVALID_ARGUMENT, "trainer: labels is NULL");
    for (int64_t i = 0; i < n; i++)
        TL_CHECK(labels[i] >= 0 && labels[i] < t->loss.classes, TL_INVALID_ARGUMENT,
                 "trainer: label %lld is %d, expected 0 to %d", (long long)i, (int)labels[i],
                 t->loss.classes - 1);
    return TL_OK;
}

tl_status tl_trainer_features(tl_trainer *t, const tl_tensor *inputs, const float **features) {
    TL_TRY(check_inputs(t, inputs));
    *features = tl_tensor_const_f32(inputs);
    if (!t->frozen) return TL_OK;
    TL_TRY(tl_plan_forward(t->frozen, *features, tl_tensor_shape(inputs)[0], t->step, false));
    *features = tl_plan_output(t->frozen).data;
    return TL_OK;
}

static tl_status diverged(const tl_trainer *t, const char *what) {
    return tl_fail(TL_DIVERGED,
                   "step %llu: the %s is not finite (learning rate %g); a smaller "
                   "learning rate or clip_norm may help",
                   (unsigned long long)t->step + 1, what, tl_optimizer_lr(t->optimizer));
}

/* The gradients' global L2 norm: as the squares' sums of columns, so that threads and vectors share
 * the work in one order whatever their number. */
static double global_norm(const tl_trainer *t, const float *gradients, int64_t count) {
    TL_FLOAT_SCOPE;
    int64_t rows = count / NORM_COLUMNS;
    const double *squares = t->norm_sums + NORM_COLUMNS;
    double total = 0;
    if (rows > 0) {
        const tl_view floats = {.dtype = TL_F32};
        const tl_op_call call = {.ctx = t->ctx, .in = &floats};
        tl_row_sums(&call, gradients, NULL, NULL, rows, NORM_COLUMNS, t->norm_sums);
        for (int i = 0; i < NORM_COLUMNS; i++) total += squares[i];
    }
    for (int64_t i = rows * NORM_COLUMNS; i < count; i++)
        total += (double)gradients[i] * (double)gradients[i];
    return sqrt(total);
}

/* torch.nn.utils.clip_grad_norm_: scale by max_norm / (norm + 1e-6) where that is below 1. */
static void clip(const tl_trainer *t, float *gradients, int64_t count, double norm) {
    TL_FLOAT_SCOPE;
    double scale = t->options.clip_norm / (norm + 1e-6);
    if (t->options.clip_norm == 0 || scale >= 1) return;
    for (int64_t i = 0; i < count; i++) gradients[i] *= (float)scale;
}

static tl_status update(tl_trainer *t, const float *gradients) {
    tl_graph *graph = t->model->graph;
    tl_optimizer_begin_step(t->optimizer);
    for (int i = 0; i < graph->param_count; i++) {
        tl_param *param = &graph->param[i];
        int64_t offset = gradient_offset(t, i);
        if (offset < 0) continue;
        TL_TRY(tl_optimizer_update(t->optimizer, i, tl_tensor_f32(param->value), gradients + offset,
                                   tl_tensor_count(param->value)));
    }
    t->step++;
    tl_model_changed(t->model);
    return TL_OK;
}

static tl_status forward_backward_update(tl_trainer *t, const float *features, int64_t n,
                                         const int32_t *labels, tl_loss_result *result) {
    TL_TRY(tl_plan_forward(t->trained, features, n, t->step, true));
    const float *logits = tl_plan_output(t->trained).data;
    *result = tl_loss_compute(&t->loss, logits, labels, n, t->gradient, NULL);
    if (!isfinite(result->sum)) return diverged(t, "loss");
    tl_plan_zero_gradients(t->trained);
    TL_TRY(tl_plan_backward(t->trained, t->gradient));
    int64_t count = 0;
    float *gradients = tl_plan_gradients(t->trained, &count);
    double norm = global_norm(t, gradients, count);
    if (!isfinite(norm)) return diverged(t, "gradient");
    clip(t, gradients, count, norm);
    return update(t, gradients);
}

tl_status tl_trainer_step_features(tl_trainer *t, const float *features, int64_t n,
                                   const int32_t *labels, tl_loss_result *result) {
    TL_TRY(check_labels(t, labels, n));
    /* Batch statistics move in the forward pass, before it is known whether the step stands. */
    if (t->statistics) save_state(t, true, t->statistics);
    tl_status status = forward_backward_update(t, features, n, labels, result);
    if (status != TL_OK && t->statistics) restore_state(t, true, t->statistics);
    return status;
}

tl_status tl_trainer_evaluate_features(tl_trainer *t, const float *features, int64_t n,
                                       const int32_t *labels, tl_loss_result *result,
                                       float *probabilities) {
    TL_TRY(check_labels(t, labels, n));
    TL_TRY(tl_plan_forward(t->trained, features, n, t->step, false));
    const float *logits = tl_plan_output(t->trained).data;
    *result = tl_loss_compute(&t->loss, logits, labels, n, NULL, probabilities);
    return TL_OK;
}

/* --- from pictures ------------------------------------------------------------------------ */

typedef tl_status (*features_fn)(tl_trainer *t, const float *features, int64_t n,
                                 const int32_t *labels, tl_loss_result *result);

static tl_status run_pictures(tl_trainer *t, const tl_tensor *inputs, const int32_t *labels,
                              features_fn fn, double *loss, int64_t *correct) {
    TL_CHECK(t, TL_INVALID_ARGUMENT, "trainer is NULL");
    const float *features = NULL;
    tl_loss_result result;
    TL_TRY(tl_trainer_features(t, inputs, &features));
    int64_t n = tl_tensor_shape(inputs)[0];
    TL_TRY(fn(t, features, n, labels, &result));
    if (loss) *loss = result.sum / (double)n;
    if (correct) *correct = result.correct;
    return TL_OK;
}

tl_status tl_trainer_step(tl_trainer *t, const tl_tensor *inputs, const int32_t *labels,
                          double *loss, int64_t *correct) {
    return run_pictures(t, inputs, labels, tl_trainer_step_features, loss, correct);
}

static tl_status evaluate_features(tl_trainer *t, const float *features, int64_t n,
                                   const int32_t *labels, tl_loss_result *result) {
    return tl_trainer_evaluate_features(t, features, n, labels, result, NULL);
}

tl_status tl_trainer_evaluate(tl_trainer *t, const tl_tensor *inputs, const int32_t *labels,
                              double *loss, int64_t *correct) {
    return run_pictures(t, inputs, labels, evaluate_features, loss, correct);
}
