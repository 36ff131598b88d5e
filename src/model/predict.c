/* Prediction, features and raw runs. */
#include <string.h>

#include "model/model.h"

/* --- pictures -----------------------------------------------------------------------------------
 */

static tl_status check_pictures(const tl_model *model, const void *input, const void *out) {
    TL_CHECK(model && input && out, TL_INVALID_ARGUMENT, "model, picture or result is NULL");
    TL_CHECK(tl_model_sees_pictures(model), TL_INVALID_ARGUMENT,
             "the model's input is no picture of 3 channels; use tl_model_run()");
    return tl_model_require_preprocess(model);
}

static tl_status check_classifier(const tl_model *model) {
    TL_CHECK(model->class_count > 0, TL_INVALID_ARGUMENT,
             "the model has no classifier: its last layer %s gives a feature map; put a head on",
             model->graph->node[tl_graph_output(model->graph)].name);
    return TL_OK;
}

/* Runs the network up to node `to` on a picture of the input's size; the plan, which holds the
 * value, goes back with tl_model_return_plan(). */
static tl_status run_fitted(const tl_model *model, tl_dtype dtype, const unsigned char *pixels,
                            int to, tl_plan **out) {
    const tl_preprocess *p = &model->preprocess;
    /* The image is only read; tl_image has no read-only form. */
    tl_image image = {.width = p->width, .height = p->height, .pixels = (unsigned char *)pixels};
    size_t count = (size_t)tl_shape_count(&model->graph->node[0].shape);
    float *input = tl_alloc_array(model->ctx, count, sizeof *input);
    TL_CHECK_MEMORY(input);
    tl_preprocess_normalize(model->ctx, p, &image, input);
    tl_status status = tl_model_borrow_plan(model, dtype, to, 1, NULL, out);
    if (status == TL_OK) {
        status = tl_plan_forward(*out, input, 1, 0, false);
        if (status != TL_OK) tl_model_return_plan(model, *out);
    }
    tl_free(model->ctx, input);
    return status;
}

tl_status tl_model_predict_fitted(const tl_model *model, tl_dtype dtype,
                                  const unsigned char *pixels, float *probabilities) {
    tl_plan *plan = NULL;
    TL_TRY(run_fitted(model, dtype, pixels, tl_graph_output(model->graph), &plan));
    tl_model_probabilities(model, tl_plan_output(plan).data, 1, probabilities);
    tl_model_return_plan(model, plan);
    return TL_OK;
}

/* Mean over space of a value [1, H, W, C]; a vector stays as it is. */
static void pool_features(const tl_view *value, float *features) {
    const tl_shape *shape = &value->shape;
    int64_t channels = shape->dim[shape->rank - 1];
    int64_t places = shape->rank == 4 ? shape->dim[1] * shape->dim[2] : 1;
    const float *values = value->data;
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t i = 0; i < places; i++) sum += (double)values[i * channels + c];
        features[c] = (float)(sum / (double)places);
    }
}

static tl_status features_fitted(const tl_model *model, tl_dtype dtype, const unsigned char *pixels,
                                 float *features) {
    tl_plan *plan = NULL;
    TL_TRY(run_fitted(model, dtype, pixels, model->features, &plan));
    tl_view value = tl_plan_output(plan);
    pool_features(&value, features);
    tl_model_return_plan(model, plan);
    return TL_OK;
}

typedef tl_status (*fitted_fn)(const tl_model *model, tl_dtype dtype, const unsigned char *pixels,
                               float *out);

static tl_status run_image(const tl_model *model, const tl_image *image, fitted_fn fn, float *out) {
    tl_image fitted;
    TL_TRY(tl_preprocess_fit(model->ctx, &model->preprocess, image, &fitted));
    tl_status status = fn(model, model->dtype, fitted.pixels, out);
    tl_image_free(model->ctx, &fitted);
    return status;
}

static tl_status run_source(const tl_model *model, const tl_source *source, fitted_fn fn,
                            float *out) {
    tl_image fitted;
    TL_TRY(tl_image_decode_fitted(source, &model->preprocess, &fitted));
    tl_status status = fn(model, model->dtype, fitted.pixels, out);
    tl_image_free(model->ctx, &fitted);
    return status;
}

static tl_status run_file(const tl_model *model, const char *path, fitted_fn fn, float *out) {
    tl_source source;
    TL_TRY(tl_source_open(model->ctx, path, &source));
    tl_status status = run_source(model, &source, fn, out);
    tl_source_close(&source);
    return status;
}

tl_status tl_model_predict_file(const tl_model *model, const char *path, float *probabilities) {
    TL_TRY(check_pictures(model, path, probabilities));
    TL_TRY(check_classifier(model));
    return run_file(model, path, tl_model_predict_fitted, probabilities);
}

tl_status tl_model_predict_encoded(const tl_model *model, const void *data, size_t size,
                                   float *probabilities) {
    TL_TRY(check_pictures(model, data, probabilities));
    TL_TRY(check_classifier(model));
    tl_source source;
    TL_TRY(tl_source_from_memory(model->ctx, "picture in memory", data, size, &source));
    tl_status status = run_source(model, &source, tl_model_predict_fitted, probabilities);
    tl_source_close(&source);
    return status;
}

tl_status tl_model_predict_rgb(const tl_model *model, const unsigned char *pixels, int width,
                               int height, size_t stride, float *probabilities) {
    TL_TRY(check_pictures(model, pixels, probabilities));
    TL_TRY(check_classifier(model));
    TL_CHECK(width > 0 && height > 0, TL_INVALID_ARGUMENT,
             "a picture of %d x %d pixels, expected at least 1 x 1", width, height);
    TL_CHECK(stride >= (size_t)width * 3, TL_INVALID_ARGUMENT,
             "stride is %zu bytes, but a row of %d pixels has %zu", stride, width,
             (size_t)width * 3);
    tl_image image;
    TL_TRY(tl_image_create(model->ctx, width, height, &image));
    for (int row = 0; row < height; row++)
        memcpy(image.pixels + (size_t)row * (size_t)width * 3, pixels + (size_t)row * stride,
               (size_t)width * 3);
    tl_status status = run_image(model, &image, tl_model_predict_fitted, probabilities);
    tl_image_free(model->ctx, &image);
    return status;
}

int64_t tl_model_feature_count(const tl_model *model) {
    if (!model) return 0;
    const tl_shape *shape = &model->graph->node[model->features].shape;
    return shape->dim[shape->rank - 1];
}

tl_status tl_model_features_file(const tl_model *model, const char *path, float *features) {
    TL_TRY(check_pictures(model, path, features));
    return run_file(model, path, features_fitted, features);
}

/* --- raw tensors
 * ---------------------------------------------------------------------------------- */

static tl_status check_input(const tl_model *model, const tl_tensor *input) {
    TL_CHECK(model && input, TL_INVALID_ARGUMENT, "model or input is NULL");
    const tl_shape *wanted = &model->graph->node[0].shape;
    tl_shape shape = tl_tensor_get_shape(input);
    char is[TL_SHAPE_TEXT], like[TL_SHAPE_TEXT];
    TL_CHECK(tl_tensor_dtype(input) == TL_F32, TL_INVALID_ARGUMENT, "the input is %s, expected f32",
             tl_dtype_name(tl_tensor_dtype(input)));
    bool fits = shape.rank == wanted->rank && shape.dim[0] > 0 &&
                shape.dim[shape.rank - 1] == wanted->dim[wanted->rank - 1];
    TL_CHECK(fits, TL_SHAPE, "the input is %s, expected any batch of %s", tl_shape_text(&shape, is),
             tl_shape_text(wanted, like));
    return TL_OK;
}

static tl_status run_part(tl_plan *plan, const tl_tensor *input, int64_t first, int64_t count,
                          tl_tensor **out) {
    int64_t total = tl_tensor_shape(input)[0];
    int64_t in_size = tl_tensor_count(input) / total;
    TL_TRY(tl_plan_forward(plan, tl_tensor_const_f32(input) + first * in_size, count, 0, false));
    tl_view value = tl_plan_output(plan);
    if (!*out) {
        tl_shape shape = value.shape;
        shape.dim[0] = total;
        TL_TRY(tl_tensor_new(tl_tensor_context(input), TL_F32, &shape, out));
    }
    int64_t out_size = tl_tensor_count(*out) / total;
    memcpy(tl_tensor_f32(*out) + first * out_size, value.data,
           (size_t)(count * out_size) * sizeof(float));
    return TL_OK;
}

tl_status tl_model_run(const tl_model *model, const tl_tensor *input, tl_tensor **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    TL_TRY(check_input(model, input));
    tl_shape shape = tl_tensor_get_shape(input);
    int64_t total = shape.dim[0], part = total < TL_RUN_BATCH ? total : TL_RUN_BATCH;
    tl_plan *plan = NULL;
    tl_tensor *result = NULL;
    TL_TRY(tl_model_borrow_plan(model, model->dtype, tl_graph_output(model->graph), part, &shape,
                                &plan));
    tl_status status = TL_OK;
    for (int64_t first = 0; first < total && status == TL_OK; first += part)
        status = run_part(plan, input, first, total - first < part ? total - first : part, &result);
    tl_model_return_plan(model, plan);
    if (status != TL_OK) {
        tl_tensor_free(result);
        return status;
    }
    *out = result;
    return TL_OK;
}
