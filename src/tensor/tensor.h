/* Shapes and views for the inside of the library, and the tensor's struct. */
#ifndef TL_TENSOR_TENSOR_H
#define TL_TENSOR_TENSOR_H

#include <stdbool.h>

#include <tl/tensor.h>

#include "base/context.h"

typedef struct tl_shape {
    int rank;
    int64_t dim[TL_MAX_RANK];
} tl_shape;

/* A shape literal: tl_shape_make(2, rows, columns). */
tl_shape tl_shape_make(int rank, ...);
/* Number of elements; -1 when it overflows int64 or a dimension is negative. */
int64_t tl_shape_count(const tl_shape *shape);
bool tl_shape_equal(const tl_shape *a, const tl_shape *b);
/* "[2, 224, 224, 3]" into `buffer`, which is returned. 128 bytes always suffice. */
enum { TL_SHAPE_TEXT = 128 };
const char *tl_shape_text(const tl_shape *shape, char buffer[TL_SHAPE_TEXT]);

/* Borrowed elements with their shape: what operators read and write. */
typedef struct tl_view {
    void *data;
    tl_shape shape;
    tl_dtype dtype; /* TL_F32 or TL_BF16 */
} tl_view;

/* The tensor's shape as a tl_shape. */
tl_shape tl_tensor_get_shape(const tl_tensor *tensor);
/* Allocates like tl_tensor_create(), from a tl_shape. */
tl_status tl_tensor_new(tl_context *ctx, tl_dtype dtype, const tl_shape *shape, tl_tensor **out);
/* The f32 elements of a TL_F32 tensor (asserted). */
float *tl_tensor_f32(tl_tensor *tensor);
const float *tl_tensor_const_f32(const tl_tensor *tensor);
tl_view tl_tensor_view(tl_tensor *tensor);
tl_context *tl_tensor_context(const tl_tensor *tensor);

/* The first of `count` floats (which need not be aligned) that is NaN or infinite; -1: none is. */
int64_t tl_find_unfinite(const void *floats, int64_t count);
/* CORRUPT, naming tensor and position, when a value is not finite. */
tl_status tl_check_finite(const char *name, const float *values, int64_t count);

/* Converts `count` elements of `dtype` at `from` (any alignment, little endian) to f32.
 * All dtypes convert; BOOL gives 0 or 1. */
void tl_convert_to_f32(tl_dtype dtype, const void *from, float *to, int64_t count);
/* to[i * to_step] = from[i * from_step]. */
void tl_copy_strided(const float *from, int64_t from_step, float *to, int64_t to_step,
                     int64_t count);

#endif
