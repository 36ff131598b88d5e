/* Element types: sizes, names, and which of them a context computes in. */
#include <string.h>

#include "kernels.h"
#include "tensor/tensor.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [TL_F32] = {"f32", 4}, [TL_F64] = {"f64", 8},   [TL_F16] = {"f16", 2}, [TL_BF16] = {"bf16", 2},
    [TL_I8] = {"i8", 1},   [TL_U8] = {"u8", 1},     [TL_I16] = {"i16", 2}, [TL_I32] = {"i32", 4},
    [TL_I64] = {"i64", 8}, [TL_BOOL] = {"bool", 1},
};
enum { DTYPE_COUNT = sizeof dtypes / sizeof dtypes[0] };

static bool is_dtype(tl_dtype dtype) {
    return (unsigned)dtype < DTYPE_COUNT;
}

size_t tl_dtype_size(tl_dtype dtype) {
    return is_dtype(dtype) ? dtypes[dtype].size : 0;
}

const char *tl_dtype_name(tl_dtype dtype) {
    return is_dtype(dtype) ? dtypes[dtype].name : NULL;
}

tl_status tl_dtype_parse(const char *name, tl_dtype *dtype) {
    TL_CHECK(name && dtype, TL_INVALID_ARGUMENT, "tl_dtype_parse: name or dtype is NULL");
    const tl_dtype choices[] = {TL_F32, TL_BF16};
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (strcmp(name, dtypes[choices[i]].name) != 0) continue;
        *dtype = choices[i];
        return TL_OK;
    }
    return tl_fail(TL_INVALID_ARGUMENT, "dtype is \"%s\", expected f32 or bf16", name);
}

tl_status tl_context_check_dtype(const tl_context *ctx, tl_dtype dtype) {
    TL_CHECK(ctx, TL_INVALID_ARGUMENT, "tl_context_check_dtype: ctx is NULL");
    if (dtype == TL_F32) return TL_OK;
    TL_CHECK(is_dtype(dtype), TL_INVALID_ARGUMENT, "%d is not a dtype", (int)dtype);
    TL_CHECK(dtype == TL_BF16, TL_INVALID_ARGUMENT, "dtype is %s; computation is in f32 or bf16",
             tl_dtype_name(dtype));
    TL_CHECK(tl_context_bf16_kernels(ctx), TL_UNSUPPORTED,
             "dtype bf16 needs a processor with AVX512-BF16 or AMX-BF16, which the chosen "
             "instruction set (%s) does not have",
             tl_context_isa(ctx));
    return TL_OK;
}
