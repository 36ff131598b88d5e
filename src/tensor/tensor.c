#include "tensor/tensor.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

/* The memory that a tensor and its views share. */
typedef struct tl_storage {
    atomic_int references;
    void *memory; /* owned; NULL when the caller's memory is wrapped */
} tl_storage;

struct tl_tensor {
    tl_context *ctx;
    tl_storage *storage;
    char *data; /* first element of this view */
    tl_dtype dtype;
    tl_shape shape;
    int64_t count;
};

/* --- creation ------------------------------------------------------------------------------- */

static tl_status make_shape(const char *what, int rank, const int64_t *dims, tl_shape *out) {
    TL_CHECK(rank >= 0 && rank <= TL_MAX_RANK, TL_INVALID_ARGUMENT,
             "%s: rank is %d, expected 0 to %d", what, rank, TL_MAX_RANK);
    TL_CHECK(dims || rank == 0, TL_INVALID_ARGUMENT, "%s: shape is NULL", what);
    *out = (tl_shape){.rank = rank};
    if (rank) memcpy(out->dim, dims, (size_t)rank * sizeof dims[0]);
    return TL_OK;
}

static tl_status check_shape(const char *what, tl_dtype dtype, const tl_shape *shape,
                             int64_t *count) {
    TL_CHECK(tl_dtype_name(dtype), TL_INVALID_ARGUMENT, "%s: %d is not a dtype", what, (int)dtype);
    char text[TL_SHAPE_TEXT];
    for (int i = 0; i < shape->rank; i++) {
        TL_CHECK(shape->dim[i] >= 0, TL_INVALID_ARGUMENT, "%s: negative dimension in %s", what,
                 tl_shape_text(shape, text));
    }
    *count = tl_shape_count(shape);
    TL_CHECK(*count >= 0 && (uint64_t)*count <= SIZE_MAX / 16, TL_LIMIT,
             "%s: shape %s is too large", what, tl_shape_text(shape, text));
    return TL_OK;
}

/* A tensor without data over new or shared storage. */
static tl_status make_tensor(tl_context *ctx, tl_dtype dtype, const tl_shape *shape, int64_t count,
                             tl_storage *shared, tl_tensor **out) {
    tl_tensor *tensor = tl_alloc(ctx, sizeof *tensor);
    TL_CHECK_MEMORY(tensor);
    tl_storage *storage = shared;
    if (storage) {
        atomic_fetch_add(&storage->references, 1);
    } else {
        storage = tl_alloc_zero(ctx, sizeof *storage);
        if (!storage) {
            tl_free(ctx, tensor);
            return TL_NO_MEMORY;
        }
        atomic_init(&storage->references, 1);
    }
    *tensor = (tl_tensor){ctx, storage, NULL, dtype, *shape, count};
    *out = tensor;
    return TL_OK;
}

tl_status tl_tensor_new(tl_context *ctx, tl_dtype dtype, const tl_shape *shape, tl_tensor **out) {
    *out = NULL;
    int64_t count = 0;
    TL_TRY(check_shape("tensor", dtype, shape, &count));
    tl_tensor *tensor = NULL;
    TL_TRY(make_tensor(ctx, dtype, shape, count, NULL, &tensor));
    tensor->storage->memory = tl_alloc_zero(ctx, (size_t)count * tl_dtype_size(dtype));
    if (!tensor->storage->memory) {
        tl_tensor_free(tensor);
        return TL_NO_MEMORY;
    }
    tensor->data = tensor->storage->memory;
    *out = tensor;
    return TL_OK;
}

tl_status tl_tensor_create(tl_context *ctx, tl_dtype dtype, int rank, const int64_t *shape,
                           tl_tensor **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_tensor_create: out is NULL");
    *out = NULL;
    TL_CHECK(ctx, TL_INVALID_ARGUMENT, "tl_tensor_create: ctx is NULL");
    tl_shape s;
    TL_TRY(make_shape("tl_tensor_create", rank, shape, &s));
    return tl_tensor_new(ctx, dtype, &s, out);
}

tl_status tl_tensor_wrap(tl_context *ctx, tl_dtype dtype, int rank, const int64_t *shape,
                         void *data, size_t bytes, tl_tensor **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_tensor_wrap: out is NULL");
    *out = NULL;
    TL_CHECK(ctx, TL_INVALID_ARGUMENT, "tl_tensor_wrap: ctx is NULL");
    tl_shape s;
    int64_t count = 0;
    TL_TRY(make_shape("tl_tensor_wrap", rank, shape, &s));
    TL_TRY(check_shape("tl_tensor_wrap", dtype, &s, &count));
    size_t expected = (size_t)count * tl_dtype_size(dtype);
    char text[TL_SHAPE_TEXT];
    TL_CHECK(bytes == expected, TL_SHAPE, "tl_tensor_wrap: %zu bytes given, %s of %s needs %zu",
             bytes, tl_shape_text(&s, text), tl_dtype_name(dtype), expected);
    TL_CHECK(data || bytes == 0, TL_INVALID_ARGUMENT, "tl_tensor_wrap: data is NULL");
    TL_TRY(make_tensor(ctx, dtype, &s, count, NULL, out));
    (*out)->data = data;
    return TL_OK;
}

/* --- views ------------------------------------------------------------------------------------ */

tl_status tl_tensor_slice(tl_tensor *tensor, int64_t begin, int64_t end, tl_tensor **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_tensor_slice: out is NULL");
    *out = NULL;
    TL_CHECK(tensor, TL_INVALID_ARGUMENT, "tl_tensor_slice: tensor is NULL");
    TL_CHECK(tensor->shape.rank > 0, TL_INVALID_ARGUMENT, "tl_tensor_slice: tensor has rank 0");
    int64_t rows = tensor->shape.dim[0];
    TL_CHECK(begin >= 0 && begin <= end && end <= rows, TL_INVALID_ARGUMENT,
             "tl_tensor_slice: [%lld, %lld) is not within 0 to %lld", (long long)begin,
             (long long)end, (long long)rows);
    tl_shape shape = tensor->shape;
    shape.dim[0] = end - begin;
    int64_t row = rows ? tensor->count / rows : 0;
    TL_TRY(
        make_tensor(tensor->ctx, tensor->dtype, &shape, row * (end - begin), tensor->storage, out));
    (*out)->data = tensor->data + (size_t)(row * begin) * tl_dtype_size(tensor->dtype);
    return TL_OK;
}

/* Replaces the one -1 of `shape` by what makes the count fit. */
static tl_status complete_shape(int64_t count, tl_shape *shape) {
    int unknown = -1;
    int64_t known = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] == -1) {
            TL_CHECK(unknown < 0, TL_INVALID_ARGUMENT, "tl_tensor_reshape: more than one -1");
            unknown = i;
        } else {
            TL_CHECK(shape->dim[i] >= 0 && !__builtin_mul_overflow(known, shape->dim[i], &known),
                     TL_INVALID_ARGUMENT, "tl_tensor_reshape: dimension %d is %lld", i,
                     (long long)shape->dim[i]);
        }
    }
    if (unknown >= 0 && known > 0) shape->dim[unknown] = count / known;
    return TL_OK;
}

tl_status tl_tensor_reshape(tl_tensor *tensor, int rank, const int64_t *shape, tl_tensor **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_tensor_reshape: out is NULL");
    *out = NULL;
    TL_CHECK(tensor, TL_INVALID_ARGUMENT, "tl_tensor_reshape: tensor is NULL");
    tl_shape s;
    TL_TRY(make_shape("tl_tensor_reshape", rank, shape, &s));
    TL_TRY(complete_shape(tensor->count, &s));
    char from[TL_SHAPE_TEXT], to[TL_SHAPE_TEXT];
    TL_CHECK(tl_shape_count(&s) == tensor->count, TL_SHAPE,
             "tl_tensor_reshape: %s does not have the elements of %s", tl_shape_text(&s, to),
             tl_shape_text(&tensor->shape, from));
    TL_TRY(make_tensor(tensor->ctx, tensor->dtype, &s, tensor->count, tensor->storage, out));
    (*out)->data = tensor->data;
    return TL_OK;
}

void tl_tensor_free(tl_tensor *tensor) {
    if (!tensor) return;
    tl_context *ctx = tensor->ctx;
    if (atomic_fetch_sub(&tensor->storage->references, 1) == 1) {
        tl_free(ctx, tensor->storage->memory);
        tl_free(ctx, tensor->storage);
    }
    tl_free(ctx, tensor);
}

/* --- access ----------------------------------------------------------------------------------- */

tl_dtype tl_tensor_dtype(const tl_tensor *tensor) {
    return tensor ? tensor->dtype : TL_F32;
}

int tl_tensor_rank(const tl_tensor *tensor) {
    return tensor ? tensor->shape.rank : 0;
}

const int64_t *tl_tensor_shape(const tl_tensor *tensor) {
    return tensor ? tensor->shape.dim : NULL;
}

int64_t tl_tensor_count(const tl_tensor *tensor) {
    return tensor ? tensor->count : 0;
}

size_t tl_tensor_bytes(const tl_tensor *tensor) {
    return tensor ? (size_t)tensor->count * tl_dtype_size(tensor->dtype) : 0;
}

void *tl_tensor_data(tl_tensor *tensor) {
    return tensor ? tensor->data : NULL;
}

const void *tl_tensor_const_data(const tl_tensor *tensor) {
    return tensor ? tensor->data : NULL;
}

tl_shape tl_tensor_get_shape(const tl_tensor *tensor) {
    return tensor->shape;
}

float *tl_tensor_f32(tl_tensor *tensor) {
    assert(tensor->dtype == TL_F32);
    return (float *)(void *)tensor->data;
}

const float *tl_tensor_const_f32(const tl_tensor *tensor) {
    assert(tensor->dtype == TL_F32);
    return (const float *)(const void *)tensor->data;
}

tl_view tl_tensor_view(tl_tensor *tensor) {
    return (tl_view){.data = tl_tensor_f32(tensor), .shape = tensor->shape};
}

tl_context *tl_tensor_context(const tl_tensor *tensor) {
    return tensor->ctx;
}
