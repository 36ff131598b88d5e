/* Named tensors in a file: what every weights format is read into. Readers are bounded: they
 * check everything against the file's size before using it and execute nothing. */
#ifndef TL_IO_WEIGHTS_H
#define TL_IO_WEIGHTS_H

#include "base/source.h"
#include "tensor/tensor.h"

typedef struct tl_weight {
    char *name;
    tl_dtype dtype;
    tl_shape shape;
    int64_t stride[TL_MAX_RANK]; /* in elements; row-major unless a .pth says otherwise */
    uint64_t offset;             /* of element 0 in the source, bytes */
} tl_weight;

typedef struct tl_weights {
    tl_context *ctx;
    tl_source source; /* owned */
    const char *format; /* "safetensors", "pth" (ZIP) or "pth-legacy" */
    int count;
    tl_weight *item;
    int metadata_count; /* safetensors' __metadata__ */
    char **metadata_key, **metadata_value;
} tl_weights;

/* Recognises the format by its first bytes and reads the table of contents. Takes over `source`, also
 * on failure. Errors: UNSUPPORTED (format), and the reader's. */
tl_status tl_weights_open(tl_context *ctx, tl_source *source, tl_weights **out);
void tl_weights_free(tl_weights *weights);
/* Index of a name, or -1. */
int tl_weights_find(const tl_weights *weights, const char *name);
const char *tl_weights_metadata(const tl_weights *weights, const char *key); /* NULL if absent */
/* Reads tensor `index` as row-major f32 into `out` (shape's count of floats). */
tl_status tl_weights_read(const tl_weights *weights, int index, float *out);

/* One reader per format; `weights` has ctx and source set and is filled in.
 * safetensors: https://github.com/huggingface/safetensors#format; header at most 100 MB.
 * pth: the ZIP form, and the form before PyTorch 1.6 (torch/serialization.py). */
tl_status tl_safetensors_read(tl_weights *weights);
tl_status tl_pth_read_zip(tl_weights *weights);
tl_status tl_pth_read_legacy(tl_weights *weights);

/* Writing: tensors in the order given, f32, offsets aligned to 64 bytes. */
typedef struct tl_safetensors_entry {
    const char *name;
    tl_shape shape;
    const float *data;
} tl_safetensors_entry;
tl_status tl_safetensors_write(tl_context *ctx, const char *path, int count,
                               const tl_safetensors_entry *entries, int metadata_count,
                               const char *const *keys, const char *const *values);

#endif
