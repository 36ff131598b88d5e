/* Named tensors in a file: what every weights format is read into. Readers are bounded: they
 * check everything against the file's size before using it and execute nothing. While a file is
 * being opened, memory stays within 16 MiB plus 4 times the file's size. */
#ifndef TL_IO_WEIGHTS_H
#define TL_IO_WEIGHTS_H

#include <stdatomic.h>

#include "base/source.h"
#include "io/chunks.h"
#include "io/stream.h"
#include "tensor/tensor.h"

enum {
    TL_MAX_WEIGHTS = 1000000,                      /* tensors in a file */
    TL_SAFETENSORS_MAX_HEADER = 100 * 1000 * 1000, /* bytes, as in the reference reader */
    TL_WEIGHTS_FREE_BYTES = 16 * 1024 * 1024,      /* that any file may cost while it is opened */
};

typedef struct tl_weight {
    char *name;
    tl_dtype dtype;
    tl_shape shape;
    int64_t stride[TL_MAX_RANK];    /* in elements; row-major unless a .pth says otherwise */
    uint64_t offset;                /* of element 0 in the source, bytes */
    const tl_chunked *chunked;      /* where the elements are instead, or NULL */
    int record;                     /* index of the record that holds it, or -1 */
    const struct tl_weights *shard; /* the file that holds it; NULL: the one that was opened */
} tl_weight;

/* A stretch of the file with a checksum: an entry of a ZIP archive. */
typedef struct tl_weight_record {
    uint64_t offset, size;
    uint32_t crc;
    atomic_bool checked; /* the checksum was right when a tensor of it was first read */
} tl_weight_record;

typedef struct tl_weights {
    tl_context *ctx;
    int users;          /* tl_weights_free() counts down */
    tl_source source;   /* owned */
    uint64_t allowance; /* bytes of memory that opening may take beside 4 times the size */
    const char
        *format; /* "safetensors", "safetensors-index" (sharded), "pth" (ZIP), "pth-legacy", "keras"
                  * (.keras), "keras-weights" (.weights.h5) or "keras-h5" (Keras 2's .h5) */
    const char *wrapper; /* the key of a .pth checkpoint that the weights were under, or NULL */
    int count;
    tl_weight *item;
    int metadata_count; /* safetensors' __metadata__ */
    char **metadata_key, **metadata_value;
    char *text;                /* what all names and metadata point into */
    const tl_weight **by_name; /* the items in byte order of their names */
    int record_count;
    tl_weight_record *record;
    tl_chunked *chunked; /* owned: what items point to */
    int shard_count;
    struct tl_weights **shard; /* owned; their items are among these */
} tl_weights;

/* Recognises the format by its first bytes and reads the table of contents. Takes over `source`,
 * also on failure. Errors: UNSUPPORTED (format), and the reader's: TRUNCATED, CORRUPT, LIMIT,
 * UNSUPPORTED and UNSAFE (both name the thing), IO, NO_MEMORY. */
tl_status tl_weights_open(tl_context *ctx, tl_source *source, tl_weights **out);
void tl_weights_free(tl_weights *weights); /* NULL is allowed */
/* For one more user, who calls tl_weights_free() when done. Not thread safe. */
tl_weights *tl_weights_share(tl_weights *weights);
/* Index of a name, or -1. */
int tl_weights_find(const tl_weights *weights, const char *name);
const char *tl_weights_metadata(const tl_weights *weights, const char *key); /* NULL if absent */
/* Reads tensor `index` as row-major f32 into `out` (shape's count of floats). Thread safe.
 * Errors: CORRUPT (checksum), TRUNCATED, IO, NO_MEMORY. */
tl_status tl_weights_read(const tl_weights *weights, int index, float *out);
/* Checks what reading would, and that every value is finite, without keeping the values. Thread
 * safe. Errors: as tl_weights_read(), CORRUPT (names tensor and element). */
tl_status tl_weights_check(const tl_weights *weights, int index);
/* CRC-32 of the bytes that hold the tensor, its elements and what may lie between them. Thread
 * safe. Errors: as tl_weights_read(). */
tl_status tl_weights_checksum(const tl_weights *weights, int index, uint32_t *crc);
/* Fails when the file that holds the tensor was written to since it was opened: as
 * tl_source_unchanged(). */
tl_status tl_weights_unchanged(const tl_weights *weights, int index);
/* Whether tl_weights_read_part() can read the tensor: it is row-major, and checked already. */
bool tl_weights_divisible(const tl_weights *weights, int index);
/* Reads elements first .. first + count - 1 of the tensor. Thread safe. */
tl_status tl_weights_read_part(const tl_weights *weights, int index, int64_t first, int64_t count,
                               float *out);

/* One reader per format; `weights` has ctx and source set and is filled in, but for by_name.
 * safetensors: https://github.com/huggingface/safetensors#format.
 * pth: the ZIP form, and the form before PyTorch 1.6 (torch/serialization.py). */
tl_status tl_safetensors_read(tl_weights *weights);
/* model.safetensors.index.json and the safetensors files beside it that it names. */
tl_status tl_safetensors_read_index(tl_weights *weights);
tl_status tl_pth_read_zip(tl_weights *weights);
tl_status tl_pth_read_legacy(tl_weights *weights);
/* Keras's three: HDF5 files of Keras 2 and 3, and Keras 3's ZIP archives. Tensors are named
 * LAYER/VARIABLE by the model's own layer names: "block1_conv1/kernel", "bn/moving_mean". */
tl_status tl_keras_read_h5(tl_weights *weights);
tl_status tl_keras_read_zip(tl_weights *weights);

/* Writing: tensors in the order given, one right after the other, since the format allows no
 * holes. The first one begins at a multiple of 64 bytes (the header is padded with spaces), each
 * later one where the one before ends: put smaller dtypes last. Replaces `path` atomically.
 * Errors: INVALID_ARGUMENT (a repeated name, no dtype, text that is not UTF-8), LIMIT, IO,
 * PERMISSION, NO_MEMORY. */
typedef struct tl_safetensors_entry {
    const char *name;
    tl_shape shape;
    const void *data; /* row-major; NULL when `read` brings it */
    tl_dtype dtype;
    tl_status (*read)(void *user, int entry, void *out);
    void *user;
} tl_safetensors_entry;
tl_status tl_safetensors_write(tl_context *ctx, const char *path, int count,
                               const tl_safetensors_entry *entries, int metadata_count,
                               const char *const *keys, const char *const *values);

#endif
