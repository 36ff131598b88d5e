/* Golden vectors: pictures and the answers that the model gave to them when it was saved, by which
 * a deployed copy proves itself. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "model/model.h"

size_t tl_model_golden_size(const tl_model *model) {
    return (size_t)tl_shape_count(&model->graph->node[0].shape);
}

void tl_model_forget_golden(tl_model *model) {
    tl_free(model->ctx, model->golden_input);
    tl_free(model->ctx, model->golden_output);
    model->golden_input = NULL;
    model->golden_output = NULL;
    model->golden_count = 0;
}

tl_status tl_model_set_golden(tl_model *model, int count, const unsigned char *pixels) {
    TL_CHECK(tl_model_sees_pictures(model), TL_INVALID_ARGUMENT,
             "golden inputs are pictures, which this model does not see");
    TL_CHECK(count >= 1 && count <= TL_MAX_GOLDEN, TL_INVALID_ARGUMENT,
             "%d golden inputs, expected 1 to %d", count, TL_MAX_GOLDEN);
    size_t bytes = (size_t)count * tl_model_golden_size(model);
    unsigned char *copy = tl_alloc(model->ctx, bytes);
    TL_CHECK_MEMORY(copy);
    memcpy(copy, pixels, bytes);
    tl_model_forget_golden(model);
    model->golden_input = copy;
    model->golden_count = count;
    return TL_OK;
}

tl_status tl_model_run_golden(const tl_model *model, int count, const unsigned char *input,
                              float *output) {
    size_t size = tl_model_golden_size(model);
    for (int i = 0; i < count; i++)
        TL_TRY(tl_model_predict_fitted(model, TL_F32, input + (size_t)i * size,
                                       output + (size_t)i * (size_t)model->class_count));
    return TL_OK;
}

/* Slopes give every filter something smooth, noise something sharp. */
void tl_model_draw_golden(const tl_model *model, unsigned char *pixels) {
    const int64_t *dim = model->graph->node[0].shape.dim;
    tl_rng rng = tl_rng_make(0, TL_RNG_INIT, 0, 0);
    for (int64_t y = 0; y < dim[1]; y++)
        for (int64_t x = 0; x < dim[2]; x++) {
            int64_t slope[3] = {x * 191 / dim[2], y * 191 / dim[1],
                                (x + y) * 191 / (dim[1] + dim[2])};
            for (int c = 0; c < 3; c++)
                *pixels++ = (unsigned char)((uint64_t)slope[c] + tl_rng_below(&rng, 64));
        }
}

static tl_status compare_answers(const tl_model *model, const float *answer, double *max_error) {
    int count = model->golden_count * model->class_count;
    const double tolerance = 1e-3;
    double largest = 0;
    for (int i = 0; i < count; i++) {
        double error = fabs((double)answer[i] - (double)model->golden_output[i]);
        if (!(error <= largest)) largest = error; /* a NaN counts as largest of all */
    }
    if (max_error) *max_error = largest;
    TL_CHECK(largest <= tolerance, TL_CORRUPT,
             "golden vectors: a probability differs by %g from the recorded one, expected at most "
             "%g over %d pictures",
             largest, tolerance, model->golden_count);
    return TL_OK;
}

static tl_status compare_checksum(const tl_model *model) {
    TL_CHECK(model->checksum[0], TL_NOT_FOUND,
             "the file has no %s in its metadata: it was written anew by another program",
             TL_SAVED_KEY_CHECKSUM);
    uint32_t crc = model->metadata_checksum;
    TL_TRY(tl_checksum_tensors(model, model->golden_count, model->golden_input,
                               model->golden_output, &crc));
    char found[TL_CHECKSUM_TEXT];
    snprintf(found, sizeof found, "%08x", (unsigned)crc);
    TL_CHECK(strcmp(found, model->checksum) == 0, TL_CORRUPT,
             "the checksum of metadata and tensors is %s, but %s was recorded: the copy is damaged "
             "or was edited",
             found, model->checksum);
    return TL_OK;
}

tl_status tl_model_verify(const tl_model *model, double *max_error) {
    TL_CHECK(model, TL_INVALID_ARGUMENT, "model is NULL");
    TL_CHECK(model->golden_count > 0 && model->golden_output, TL_NOT_FOUND,
             "the model has no golden vectors: it was not loaded from a saved model that has them, "
             "or was changed since");
    size_t count = (size_t)model->golden_count * (size_t)model->class_count;
    float *answer = tl_alloc_array(model->ctx, count, sizeof *answer);
    TL_CHECK_MEMORY(answer);
    tl_status status = tl_model_run_golden(model, model->golden_count, model->golden_input, answer);
    if (status == TL_OK) status = compare_answers(model, answer, max_error);
    tl_free(model->ctx, answer);
    return status == TL_OK ? compare_checksum(model) : status;
}
