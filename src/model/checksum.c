/* The checksum of a saved model: golden vectors may miss a damaged weight that hardly counts for
 * their pictures, and never see a changed class name. It covers what was written, not what this
 * version would write, so that files of older versions still prove themselves. */
#include <string.h>

#include "base/crc32.h"
#include "model/model.h"

/* In the order in which they enter the sum, whatever their order in the file. */
static const char *const checked_keys[] = {
    TL_SAVED_KEY_VERSION, TL_SAVED_KEY_BACKBONE,   TL_SAVED_KEY_GRAPH,    TL_SAVED_KEY_FEATURES,
    TL_SAVED_KEY_CLASSES, TL_SAVED_KEY_PREPROCESS, TL_SAVED_KEY_TRAINING,
};
enum { KEY_COUNT = sizeof checked_keys / sizeof checked_keys[0] };

/* With the NULs, so that text cannot move from one value into the next unseen. */
static uint32_t add_text(uint32_t crc, const char *text) {
    return tl_crc32(crc, text, strlen(text) + 1);
}

uint32_t tl_checksum_metadata(int count, const char *const *keys, char *const *values) {
    uint32_t crc = 0;
    for (int i = 0; i < KEY_COUNT; i++)
        for (int j = 0; j < count; j++)
            if (strcmp(keys[j], checked_keys[i]) == 0)
                crc = add_text(add_text(crc, keys[j]), values[j]);
    return crc;
}

typedef struct param_sum {
    const tl_graph *graph;
    uint32_t crc;
} param_sum;

static tl_status add_param(void *user, int param, const float *value) {
    param_sum *sum = user;
    size_t count = (size_t)tl_shape_count(&sum->graph->param[param].shape);
    sum->crc = tl_crc32(sum->crc, value, count * sizeof *value);
    return TL_OK;
}

tl_status tl_checksum_tensors(const tl_model *model, int golden_count,
                              const unsigned char *golden_input, const float *golden_output,
                              uint32_t *crc) {
    param_sum sum = {model->graph, *crc};
    TL_TRY(tl_graph_visit_params(model->graph, add_param, &sum));
    *crc = sum.crc;
    if (golden_count == 0) return TL_OK;
    size_t answers = (size_t)golden_count * (size_t)model->class_count;
    *crc = tl_crc32(*crc, golden_output, answers * sizeof *golden_output);
    *crc = tl_crc32(*crc, golden_input, (size_t)golden_count * tl_model_golden_size(model));
    return TL_OK;
}
