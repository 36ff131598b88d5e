/* Running a model over a labelled dataset. */
#include "train/trainer.h"

#include <string.h>

/* --- classes by name ---------------------------------------------------------------------- */

static int find_model_class(const tl_model *model, const char *name) {
    for (int i = 0; i < tl_model_class_count(model); i++)
        if (strcmp(tl_model_class_name(model, i), name) == 0) return i;
    return -1;
}

static bool dataset_has_class(const tl_dataset *dataset, const char *name) {
    for (int i = 0; i < tl_dataset_class_count(dataset); i++)
        if (strcmp(tl_dataset_class_name(dataset, i), name) == 0) return true;
    return false;
}

tl_status tl_match_classes(const tl_model *model, const tl_dataset *dataset, int *map) {
    for (int i = 0; i < tl_dataset_class_count(dataset); i++) {
        const char *name = tl_dataset_class_name(dataset, i);
        map[i] = find_model_class(model, name);
        TL_CHECK(map[i] >= 0, TL_INVALID_ARGUMENT,
                 "classes differ: the data has '%s', which the model does not know", name);
    }
    for (int i = 0; i < tl_model_class_count(model); i++) {
        const char *name = tl_model_class_name(model, i);
        TL_CHECK(dataset_has_class(dataset, name), TL_INVALID_ARGUMENT,
                 "classes differ: the model knows '%s', for which the data has no folder", name);
    }
    return TL_OK;
}

/* --- answers ------------------------------------------------------------------------------ */

typedef struct answers {
    const tl_model *model;
    tl_loader *loader;
    tl_plan *plan;
    int *map;
    int64_t count;
    float *probabilities; /* [dataset's count][classes] */
    int32_t *labels;
} answers;

static tl_status allocate(answers *a, const tl_dataset *dataset) {
    tl_context *ctx = a->model->ctx;
    size_t count = (size_t)tl_dataset_count(dataset);
    size_t classes = (size_t)tl_model_class_count(a->model);
    a->map = tl_alloc_array(ctx, (size_t)tl_dataset_class_count(dataset), sizeof *a->map);
    TL_CHECK_MEMORY(a->map);
    a->probabilities = tl_alloc_array(ctx, count, classes * sizeof *a->probabilities);
    TL_CHECK_MEMORY(a->probabilities);
    a->labels = tl_alloc_array(ctx, count, sizeof *a->labels);
    TL_CHECK_MEMORY(a->labels);
    return TL_OK;
}

static tl_status prepare(answers *a, tl_dataset *dataset, int batch) {
    TL_TRY(allocate(a, dataset));
    TL_TRY(tl_match_classes(a->model, dataset, a->map));
    tl_loader_options options;
    tl_loader_options_init(&options, sizeof options);
    options.batch = batch;
    TL_TRY(tl_loader_create(dataset, a->model, &options, &a->loader));
    const tl_graph *graph = a->model->graph;
    tl_shape input = graph->node[0].shape;
    input.dim[0] = batch;
    TL_TRY(tl_model_borrow_plan(a->model, a->model->dtype, tl_graph_output(graph), batch, &input,
                                &a->plan));
    return tl_loader_start(a->loader, 0);
}

static tl_status answer_all(answers *a) {
    int classes = tl_model_class_count(a->model);
    for (;;) {
        const tl_tensor *inputs;
        const int32_t *labels;
        int64_t n;
        TL_TRY(tl_loader_next(a->loader, &inputs, &labels, &n));
        if (n == 0) return TL_OK;
        TL_TRY(tl_plan_forward(a->plan, tl_tensor_const_f32(inputs), n, 0, false));
        tl_model_probabilities(a->model, tl_plan_output(a->plan).data, n,
                               a->probabilities + a->count * classes);
        for (int64_t i = 0; i < n; i++) a->labels[a->count + i] = a->map[labels[i]];
        a->count += n;
    }
}

static void release(answers *a) {
    tl_context *ctx = a->model->ctx;
    if (a->plan) tl_model_return_plan(a->model, a->plan);
    tl_loader_free(a->loader);
    tl_free(ctx, a->map);
    tl_free(ctx, a->probabilities);
    tl_free(ctx, a->labels);
}

tl_status tl_evaluate(const tl_model *model, tl_dataset *dataset, int batch, tl_evaluation **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_evaluate: out is NULL");
    *out = NULL;
    TL_CHECK(model && dataset, TL_INVALID_ARGUMENT, "tl_evaluate: model or dataset is NULL");
    TL_CHECK(batch >= 1 && batch <= 65536, TL_INVALID_ARGUMENT,
             "tl_evaluate: batch is %d, expected 1 to 65536", batch);
    TL_CHECK(!tl_model_has_independent_units(model), TL_INVALID_ARGUMENT,
             "tl_evaluate: the model ends in several sigmoid units, which answer independently; "
             "one unit for two classes can be evaluated, or softmax over any number");
    answers a = {.model = model};
    tl_status status = prepare(&a, dataset, batch);
    if (status == TL_OK) status = answer_all(&a);
    if (status == TL_OK)
        status = tl_evaluation_create(model->ctx, tl_model_class_count(model), a.count,
                                      a.probabilities, a.labels, out);
    release(&a);
    return status;
}
