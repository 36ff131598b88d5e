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

uint32_t tl_checksum_tensors(const tl_model *model, uint32_t crc, int golden_count,
                             const unsigned char *golden_input, const float *golden_output) {
    const tl_graph *graph = model->graph;
    for (int i = 0; i < graph->param_count; i++) {
        const tl_tensor *value = graph->param[i].value;
        crc = tl_crc32(crc, tl_tensor_const_data(value), tl_tensor_bytes(value));
    }
    if (golden_count == 0) return crc;
    size_t answers = (size_t)golden_count * (size_t)model->class_count;
    crc = tl_crc32(crc, golden_output, answers * sizeof *golden_output);
    return tl_crc32(crc, golden_input, (size_t)golden_count * tl_model_golden_size(model));
}
