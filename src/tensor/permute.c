#include <string.h>

#include "tensor/tensor.h"

static tl_status check_order(int rank, const int *order) {
    unsigned seen = 0;
    for (int i = 0; i < rank; i++) {
        TL_CHECK(order[i] >= 0 && order[i] < rank && !(seen & (1u << order[i])),
                 TL_INVALID_ARGUMENT, "tl_tensor_permute: order is not a permutation of 0 to %d",
                 rank - 1);
        seen |= 1u << order[i];
    }
    return TL_OK;
}

/* Copies element by element; `stride[i]` is the distance in the input between neighbours along
 * the output's dimension i. */
static void copy_permuted(const char *from, char *to, size_t size, const tl_shape *out,
                          const int64_t *stride) {
    int64_t index[TL_MAX_RANK] = {0};
    int64_t count = tl_shape_count(out);
    int64_t offset = 0;
    for (int64_t n = 0; n < count; n++) {
        memcpy(to + (size_t)n * size, from + (size_t)offset * size, size);
        for (int i = out->rank - 1; i >= 0; i--) {
            offset += stride[i];
            if (++index[i] < out->dim[i]) break;
            offset -= stride[i] * out->dim[i];
            index[i] = 0;
        }
    }
}

tl_status tl_tensor_permute(const tl_tensor *tensor, const int *order, tl_tensor **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_tensor_permute: out is NULL");
    *out = NULL;
    TL_CHECK(tensor && order, TL_INVALID_ARGUMENT, "tl_tensor_permute: an argument is NULL");
    tl_shape in = tl_tensor_get_shape(tensor);
    TL_TRY(check_order(in.rank, order));

    int64_t in_stride[TL_MAX_RANK];
    int64_t step = 1;
    for (int i = in.rank - 1; i >= 0; i--) {
        in_stride[i] = step;
        step *= in.dim[i];
    }
    tl_shape shape = {.rank = in.rank};
    int64_t stride[TL_MAX_RANK] = {0};
    for (int i = 0; i < in.rank; i++) {
        shape.dim[i] = in.dim[order[i]];
        stride[i] = in_stride[order[i]];
    }
    tl_dtype dtype = tl_tensor_dtype(tensor);
    TL_TRY(tl_tensor_new(tl_tensor_context(tensor), dtype, &shape, out));
    copy_permuted(tl_tensor_const_data(tensor), tl_tensor_data(*out), tl_dtype_size(dtype), &shape,
                  stride);
    return TL_OK;
}
