/* Every global that a pickle may name. Anything else is UNSAFE. */
#include <string.h>

#include "io/pickle.h"

static const tl_pickle_global globals[] = {
    {"collections", "OrderedDict", TL_ROLE_ORDERED_DICT, 0},
    {"torch", "Size", TL_ROLE_SIZE, 0},
    {"torch._utils", "_rebuild_tensor", TL_ROLE_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v2", TL_ROLE_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", TL_ROLE_PARAMETER, 0},
    {"torch._utils", "_rebuild_parameter_with_state", TL_ROLE_PARAMETER, 0},
    {"torch.nn.parameter", "_rebuild_parameter", TL_ROLE_PARAMETER, 0},
    {"torch.nn.parameter", "Parameter", TL_ROLE_PARAMETER, 0},
    {"torch.nn.parameter", "Buffer", TL_ROLE_PARAMETER, 0},

    {"torch", "FloatStorage", TL_ROLE_STORAGE, TL_F32},
    {"torch", "DoubleStorage", TL_ROLE_STORAGE, TL_F64},
    {"torch", "HalfStorage", TL_ROLE_STORAGE, TL_F16},
    {"torch", "BFloat16Storage", TL_ROLE_STORAGE, TL_BF16},
    {"torch", "CharStorage", TL_ROLE_STORAGE, TL_I8},
    {"torch", "ByteStorage", TL_ROLE_STORAGE, TL_U8},
    {"torch", "ShortStorage", TL_ROLE_STORAGE, TL_I16},
    {"torch", "IntStorage", TL_ROLE_STORAGE, TL_I32},
    {"torch", "LongStorage", TL_ROLE_STORAGE, TL_I64},
    {"torch", "BoolStorage", TL_ROLE_STORAGE, TL_BOOL},

    /* Harmless company of a state dict in a training checkpoint. */
    {"torch", "device", TL_ROLE_OPAQUE, 0},
    {"torch", "float16", TL_ROLE_OPAQUE, 0},
    {"torch", "bfloat16", TL_ROLE_OPAQUE, 0},
    {"torch", "float32", TL_ROLE_OPAQUE, 0},
    {"torch", "float64", TL_ROLE_OPAQUE, 0},
    {"torch", "int8", TL_ROLE_OPAQUE, 0},
    {"torch", "uint8", TL_ROLE_OPAQUE, 0},
    {"torch", "int16", TL_ROLE_OPAQUE, 0},
    {"torch", "int32", TL_ROLE_OPAQUE, 0},
    {"torch", "int64", TL_ROLE_OPAQUE, 0},
    {"torch", "bool", TL_ROLE_OPAQUE, 0},
    {"torch.serialization", "_get_layout", TL_ROLE_OPAQUE, 0},
    {"collections", "Counter", TL_ROLE_OPAQUE, 0},
    {"builtins", "set", TL_ROLE_OPAQUE, 0},
    {"__builtin__", "set", TL_ROLE_OPAQUE, 0},
    {"_codecs", "encode", TL_ROLE_OPAQUE, 0},
    {"argparse", "Namespace", TL_ROLE_OPAQUE, 0},
    {"pathlib", "PosixPath", TL_ROLE_OPAQUE, 0},
    {"pathlib", "WindowsPath", TL_ROLE_OPAQUE, 0},
    {"numpy", "dtype", TL_ROLE_OPAQUE, 0},
    {"numpy.core.multiarray", "scalar", TL_ROLE_OPAQUE, 0},
    {"numpy._core.multiarray", "scalar", TL_ROLE_OPAQUE, 0},

    /* PyTorch's own, for tensors that have no counterpart here. */
    {"torch", "ComplexFloatStorage", TL_ROLE_UNSUPPORTED, 0},
    {"torch", "ComplexDoubleStorage", TL_ROLE_UNSUPPORTED, 0},
    {"torch", "QInt8Storage", TL_ROLE_UNSUPPORTED, 0},
    {"torch", "QInt32Storage", TL_ROLE_UNSUPPORTED, 0},
    {"torch", "QUInt8Storage", TL_ROLE_UNSUPPORTED, 0},
    {"torch", "UntypedStorage", TL_ROLE_UNSUPPORTED, 0},
    {"torch.storage", "UntypedStorage", TL_ROLE_UNSUPPORTED, 0},
    {"torch._utils", "_rebuild_tensor_v3", TL_ROLE_UNSUPPORTED, 0},
    {"torch._utils", "_rebuild_sparse_tensor", TL_ROLE_UNSUPPORTED, 0},
    {"torch._utils", "_rebuild_sparse_csr_tensor", TL_ROLE_UNSUPPORTED, 0},
    {"torch._utils", "_rebuild_qtensor", TL_ROLE_UNSUPPORTED, 0},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", TL_ROLE_UNSUPPORTED, 0},
};

enum { GLOBALS = sizeof globals / sizeof globals[0] };

const tl_pickle_global *tl_pickle_global_find(const char *module, const char *name) {
    for (size_t i = 0; i < GLOBALS; i++) {
        if (strcmp(globals[i].module, module) == 0 && strcmp(globals[i].name, name) == 0) {
            return &globals[i];
        }
    }
    return NULL;
}

const tl_pickle_global *tl_pickle_global_at(int64_t index) {
    return index >= 0 && index < GLOBALS ? &globals[index] : NULL;
}

int64_t tl_pickle_global_index(const tl_pickle_global *global) {
    return global - globals;
}
