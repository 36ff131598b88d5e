/* How operators without arithmetic intensity cut their work for threads. Every cut depends on the
 * shape alone, so that results are the same on any number of threads. */
#ifndef TL_LAYER_LOOP_H
#define TL_LAYER_LOOP_H

#include "layer/op.h"

/* Elements that are worth handing to a thread, and that stay in its first-level cache. */
enum { TL_CHUNK = 4096 };

/* Runs fn over chunks [0, ceil(n / TL_CHUNK)) of n elements; see tl_chunk_at(). */
void tl_parallel_chunks(tl_context *ctx, int64_t n, tl_task_fn fn, void *arg);
/* The first element of a chunk; *count gets how many there are up to the end of chunk end - 1. */
int64_t tl_chunk_at(int64_t n, int64_t begin, int64_t end, int64_t *count);

/* The kernels for a call's activations, and the bytes of one element of these. */
const struct tl_kernels *tl_call_kernels(const tl_op_call *call);
size_t tl_call_size(const tl_op_call *call);
/* Where element `index` lies, each being of `size` bytes: to read; to write. */
const void *tl_from_at(const void *data, size_t size, int64_t index);
void *tl_to_at(void *data, size_t size, int64_t index);

/* n elements of a table's own type to float, and back. */
void tl_load_floats(const struct tl_kernels *kernels, const void *from, float *to, int64_t n);
void tl_store_floats(const struct tl_kernels *kernels, const float *from, void *to, int64_t n);

/* to = from over n of a call's activations, unless they are the same memory. */
void tl_copy_elements(const tl_op_call *call, const void *from, void *to, int64_t n);
/* to = (or += when add) from. */
void tl_pass_gradient(const tl_op_call *call, const void *from, bool add, void *to, int64_t n);

/* Product of the dimensions but the last, and the last: rows of channels. */
int64_t tl_shape_rows(const tl_shape *shape);
int64_t tl_shape_channels(const tl_shape *shape);

/* For reductions over rows: they are cut into parts of equal length whose sums are added up in
 * order. */
enum { TL_MAX_PARTS = 64 };
typedef struct tl_parts {
    int64_t rows;  /* of a part, the last may have fewer */
    int64_t count; /* of parts, at most TL_MAX_PARTS */
} tl_parts;
tl_parts tl_parts_of(int64_t rows, int64_t channels);
/* The rows of parts begin .. end - 1 of `rows`: *first is the first, the answer how many. */
int64_t tl_part_rows(const tl_parts *parts, int64_t rows, int64_t begin, int64_t end,
                     int64_t *first);

#endif
