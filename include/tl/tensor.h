/* libtl - tensors: a dtype, a shape and contiguous data, pictures as N H W C.
 *
 * A tensor is one reference to a block of memory. A view shares the block of the tensor it
 * was made from and keeps it alive; nothing is ever copied unless a call says so.
 * A tensor may be read by several threads at once and written by one. */
#ifndef TL_TENSOR_H
#define TL_TENSOR_H

#include <stddef.h>
#include <stdint.h>
#include <tl/context.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TL_MAX_RANK 6

/* Element types. Computation is done in TL_F32 or, where asked for, TL_BF16; the others are read
 * and written by the file formats. Values are part of the ABI. */
typedef enum tl_dtype {
    TL_F32 = 0,
    TL_F64 = 1,
    TL_F16 = 2,
    TL_BF16 = 3,
    TL_I8 = 4,
    TL_U8 = 5,
    TL_I16 = 6,
    TL_I32 = 7,
    TL_I64 = 8,
    TL_BOOL = 9
} tl_dtype;

typedef struct tl_tensor tl_tensor;

/* Size of one element in bytes; 0 for a value that is no tl_dtype. */
TL_API size_t tl_dtype_size(tl_dtype dtype);

/* "f32", "bf16" and so on; NULL for a value that is no tl_dtype. Static storage. */
TL_API const char *tl_dtype_name(tl_dtype dtype);

/* Whether the context computes in `dtype`. TL_F32 it always does. For TL_BF16 (the upper half of a
 * float: activations and their gradients between layers take half the memory, while weights, sums
 * and statistics stay f32) the processor must have instructions. Errors: UNSUPPORTED (names those
 * that are missing, and the instruction set that was chosen), INVALID_ARGUMENT (another type). */
TL_API tl_status tl_context_check_dtype(const tl_context *ctx, tl_dtype dtype);
/* A type to compute in by its name, "f32" or "bf16". Errors: INVALID_ARGUMENT (names the choices).
 */
TL_API tl_status tl_dtype_parse(const char *name, tl_dtype *dtype);

/* Allocates a zeroed tensor of `rank` (0..TL_MAX_RANK) dimensions, each 0 or larger.
 * The data is aligned to 64 bytes. Free it with tl_tensor_free().
 * Errors: INVALID_ARGUMENT, LIMIT (the size overflows), NO_MEMORY. */
TL_API tl_status tl_tensor_create(tl_context *ctx, tl_dtype dtype, int rank, const int64_t *shape,
                                  tl_tensor **out);

/* Makes a tensor over memory of the caller's, who keeps it valid and unmoved until the
 * tensor and all its views are freed. `bytes` is checked against shape and dtype.
 * Errors: INVALID_ARGUMENT, SHAPE (bytes do not fit), LIMIT, NO_MEMORY. */
TL_API tl_status tl_tensor_wrap(tl_context *ctx, tl_dtype dtype, int rank, const int64_t *shape,
                                void *data, size_t bytes, tl_tensor **out);

/* A view of elements [begin, end) of the first dimension. Errors: INVALID_ARGUMENT, NO_MEMORY. */
TL_API tl_status tl_tensor_slice(tl_tensor *tensor, int64_t begin, int64_t end, tl_tensor **out);

/* A view of the same elements under another shape; one dimension may be -1 and is computed.
 * Errors: INVALID_ARGUMENT, SHAPE (the number of elements differs), NO_MEMORY. */
TL_API tl_status tl_tensor_reshape(tl_tensor *tensor, int rank, const int64_t *shape,
                                   tl_tensor **out);

/* Drops this reference. The memory goes with the last tensor that shares it. NULL is allowed. */
TL_API void tl_tensor_free(tl_tensor *tensor);

TL_API tl_dtype tl_tensor_dtype(const tl_tensor *tensor);
TL_API int tl_tensor_rank(const tl_tensor *tensor);

/* The dimensions, tl_tensor_rank() of them. Valid as long as the tensor. */
TL_API const int64_t *tl_tensor_shape(const tl_tensor *tensor);

/* Number of elements, and of bytes. */
TL_API int64_t tl_tensor_count(const tl_tensor *tensor);
TL_API size_t tl_tensor_bytes(const tl_tensor *tensor);

/* The elements in row-major order. Valid as long as the tensor. */
TL_API void *tl_tensor_data(tl_tensor *tensor);
TL_API const void *tl_tensor_const_data(const tl_tensor *tensor);

/* Permutes the dimensions into a new tensor (a copy): out.shape[i] = in.shape[order[i]].
 * `order` has one entry per dimension. NCHW to NHWC is {0, 2, 3, 1}.
 * Errors: INVALID_ARGUMENT (order is no permutation), NO_MEMORY. */
TL_API tl_status tl_tensor_permute(const tl_tensor *tensor, const int *order, tl_tensor **out);

/* Reads and writes NumPy's .npy format (versions 1 to 3, little endian, C order).
 * Format: numpy.lib.format in the NumPy manual. Writing replaces the file atomically.
 * Errors: NOT_FOUND, PERMISSION, IO, TRUNCATED, CORRUPT, UNSUPPORTED (dtype, order), LIMIT,
 * NO_MEMORY. */
TL_API tl_status tl_tensor_load_npy(tl_context *ctx, const char *path, tl_tensor **out);
TL_API tl_status tl_tensor_save_npy(const tl_tensor *tensor, const char *path);

#ifdef __cplusplus
}
#endif
#endif
