/* What the few callables of the table make of their arguments. */
#include <inttypes.h>
#include <string.h>

#include "io/pickle.h"

enum { MAX_KEY = 255, TENSOR_ARGS_MIN = 4, TENSOR_ARGS_MAX = 7 };

/* --- tensors ---------------------------------------------------------------------------------- */

static tl_status read_dims(const tl_pickle *pickle, const tl_pickle_value *tuple, const char *what,
                           int64_t dims[TL_MAX_RANK]) {
    if (tuple->kind != TL_PICKLE_TUPLE) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "tensor with %s as its %s, expected a tuple",
                              tl_pickle_kind_name(tuple), what);
    }
    if (tuple->count > TL_MAX_RANK) {
        return tl_pickle_fail(pickle, TL_LIMIT, "tensor %s of %" PRIu32 " dimensions, at most %d",
                              what, tuple->count, TL_MAX_RANK);
    }
    for (uint32_t i = 0; i < tuple->count; i++) {
        const tl_pickle_value *dim = tl_pickle_member(pickle, tuple, i);
        if (dim->kind != TL_PICKLE_INT) {
            return tl_pickle_fail(pickle, TL_CORRUPT, "tensor %s with %s, expected an int", what,
                                  tl_pickle_kind_name(dim));
        }
        if (dim->as.integer < 0) {
            return tl_pickle_fail(pickle, TL_CORRUPT,
                                  "tensor %s with %" PRId64 ", expected 0 or more", what,
                                  dim->as.integer);
        }
        dims[i] = dim->as.integer;
    }
    return TL_OK;
}

/* Every element must be inside the storage. */
static tl_status check_reach(const tl_pickle *pickle, const tl_pickle_tensor *tensor,
                             int64_t count) {
    const tl_pickle_storage *storage = tl_pickle_storage_at(pickle, tensor->storage);
    int64_t last = tensor->offset;
    bool overflow = tensor->offset < 0;
    for (int i = 0; i < tensor->shape.rank && count > 0; i++) {
        int64_t step;
        overflow |= __builtin_mul_overflow(tensor->shape.dim[i] - 1, tensor->stride[i], &step);
        overflow |= __builtin_add_overflow(last, step, &last);
    }
    /* An empty tensor may begin where its storage ends. */
    uint64_t end = (uint64_t)last + (count > 0);
    if (!overflow && end <= storage->numel) return TL_OK;
    char text[TL_SHAPE_TEXT];
    return tl_pickle_fail(pickle, TL_CORRUPT,
                          "tensor %s at offset %" PRId64 " reaches outside its storage of %" PRIu64
                          " elements",
                          tl_shape_text(&tensor->shape, text), tensor->offset, storage->numel);
}

/* A stride of 0 repeats elements, so that a few bytes can stand for any number of them. */
static tl_status check_count(const tl_pickle *pickle, const tl_pickle_tensor *tensor,
                             int64_t count) {
    char text[TL_SHAPE_TEXT];
    if (count < 0) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "tensor %s overflows",
                              tl_shape_text(&tensor->shape, text));
    }
    uint64_t limit = pickle->source->size + 4 * 1024 * 1024;
    uint64_t numel = tl_pickle_storage_at(pickle, tensor->storage)->numel;
    if ((uint64_t)count <= numel || (uint64_t)count <= limit) return TL_OK;
    return tl_pickle_fail(pickle, TL_LIMIT,
                          "tensor %s repeats a storage of %" PRIu64 " elements, at most %" PRIu64
                          " are allowed for a file of this size",
                          tl_shape_text(&tensor->shape, text), numel, limit);
}

tl_status tl_pickle_read_tensor(const tl_pickle *pickle, const tl_pickle_value *value,
                                tl_pickle_tensor *out) {
    *out = (tl_pickle_tensor){0};
    if (value->count < TENSOR_ARGS_MIN || value->count > TENSOR_ARGS_MAX) {
        return tl_pickle_fail(pickle, TL_CORRUPT,
                              "tensor with %" PRIu32 " arguments, expected %d "
                              "to %d",
                              value->count, TENSOR_ARGS_MIN, TENSOR_ARGS_MAX);
    }
    const tl_pickle_value *storage = tl_pickle_member(pickle, value, 0);
    const tl_pickle_value *offset = tl_pickle_member(pickle, value, 1);
    const tl_pickle_value *size = tl_pickle_member(pickle, value, 2);
    const tl_pickle_value *stride = tl_pickle_member(pickle, value, 3);
    if (storage->kind != TL_PICKLE_STORAGE || offset->kind != TL_PICKLE_INT) {
        return tl_pickle_fail(pickle, TL_CORRUPT,
                              "tensor of %s and %s, expected a storage and an int",
                              tl_pickle_kind_name(storage), tl_pickle_kind_name(offset));
    }
    out->storage = (uint32_t)storage->as.integer;
    out->offset = offset->as.integer;
    TL_TRY(read_dims(pickle, size, "size", out->shape.dim));
    TL_TRY(read_dims(pickle, stride, "stride", out->stride));
    if (size->count != stride->count) {
        return tl_pickle_fail(pickle, TL_CORRUPT,
                              "tensor of %" PRIu32 " sizes and %" PRIu32 " strides", size->count,
                              stride->count);
    }
    out->shape.rank = (int)size->count;
    int64_t count = tl_shape_count(&out->shape);
    TL_TRY(check_count(pickle, out, count));
    return check_reach(pickle, out, count);
}

/* --- storages --------------------------------------------------------------------------------- */

static tl_status read_storage(const tl_pickle *pickle, const tl_pickle_value *id,
                              tl_pickle_storage *out) {
    const tl_pickle_value *type = tl_pickle_member(pickle, id, 1);
    const tl_pickle_value *key = tl_pickle_member(pickle, id, 2);
    const tl_pickle_value *numel = tl_pickle_member(pickle, id, 4);
    const tl_pickle_global *global =
        type->kind == TL_PICKLE_GLOBAL ? tl_pickle_global_at(type->as.integer) : NULL;
    if (!global || global->role != TL_ROLE_STORAGE) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "storage of type %s, expected a storage class",
                              global ? global->name : tl_pickle_kind_name(type));
    }
    if (key->kind != TL_PICKLE_TEXT || key->count > MAX_KEY ||
        strlen(tl_pickle_text(pickle, key->as.text)) != key->count) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "storage key is no text of at most %d bytes",
                              MAX_KEY);
    }
    uint64_t most = pickle->source->size / tl_dtype_size(global->dtype);
    if (numel->kind != TL_PICKLE_INT || numel->as.integer < 0 ||
        (uint64_t)numel->as.integer > most) {
        return tl_pickle_fail(pickle, TL_CORRUPT,
                              "storage \"%s\" of %" PRId64 " elements, a file of this size has "
                              "at most %" PRIu64,
                              tl_pickle_text(pickle, key->as.text),
                              numel->kind == TL_PICKLE_INT ? numel->as.integer : -1, most);
    }
    *out = (tl_pickle_storage){.key = key->as.text,
                               .numel = (uint64_t)numel->as.integer,
                               .opcode = pickle->opcode,
                               .dtype = global->dtype,
                               .record = -1};
    return TL_OK;
}

/* ("storage", class, key, location, elements), and before PyTorch 1.6 a view, always None since
 * PyTorch 0.4. The location, a device, does not matter. */
tl_status tl_pickle_persistent(tl_pickle *pickle, uint32_t id, uint32_t *result) {
    const tl_pickle_value *tuple = tl_pickle_at(pickle, id);
    if (tuple->kind != TL_PICKLE_TUPLE || tuple->count == 0) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "persistent id is %s, expected a tuple",
                              tl_pickle_kind_name(tuple));
    }
    const tl_pickle_value *type = tl_pickle_member(pickle, tuple, 0);
    if (!tl_pickle_is(pickle, type, "storage")) {
        char quoted[TL_QUOTE_TEXT] = "";
        if (type->kind == TL_PICKLE_TEXT) {
            tl_quote(tl_pickle_text(pickle, type->as.text), type->count, quoted);
        }
        return tl_pickle_fail(pickle, TL_UNSAFE, "persistent id of %s \"%s\", expected \"storage\"",
                              tl_pickle_kind_name(type), quoted);
    }
    if (tuple->count != 5 && tuple->count != 6) {
        return tl_pickle_fail(pickle, TL_CORRUPT,
                              "storage id with %" PRIu32 " fields, expected 5 or 6", tuple->count);
    }
    if (tuple->count == 6 && tl_pickle_member(pickle, tuple, 5)->kind != TL_PICKLE_NONE) {
        return tl_pickle_fail(pickle, TL_UNSUPPORTED, "a view of a storage");
    }
    tl_pickle_storage storage;
    TL_TRY(read_storage(pickle, tuple, &storage));
    uint32_t index = pickle->storages.count;
    void *slot = NULL;
    TL_TRY(tl_pickle_grow(pickle, &pickle->storages, sizeof storage, 1, &slot));
    *(tl_pickle_storage *)slot = storage;
    return tl_pickle_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_STORAGE, .as.integer = index},
                         result);
}

/* --- calls ------------------------------------------------------------------------------------ */

/* OrderedDict(): empty, or as Python 2 writes it with a list of [key, value] lists. */
static tl_status call_ordered_dict(tl_pickle *pickle, uint32_t args, uint32_t *result) {
    TL_TRY(tl_pickle_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_DICT}, result));
    if (tl_pickle_at(pickle, args)->count == 0) return TL_OK;
    const tl_pickle_value *items = tl_pickle_member(pickle, tl_pickle_at(pickle, args), 0);
    if (items->kind != TL_PICKLE_LIST) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "OrderedDict of %s, expected a list",
                              tl_pickle_kind_name(items));
    }
    uint32_t cell = items->as.members.first;
    for (uint32_t left = items->count; left > 0; left--) {
        const tl_pickle_cell *link = tl_pickle_cell_at(pickle, cell);
        const tl_pickle_value *pair = tl_pickle_at(pickle, link->value);
        cell = link->next;
        if ((pair->kind != TL_PICKLE_LIST && pair->kind != TL_PICKLE_TUPLE) || pair->count != 2) {
            return tl_pickle_fail(pickle, TL_CORRUPT, "OrderedDict item is %s, expected a pair",
                                  tl_pickle_kind_name(pair));
        }
        uint32_t first = pair->as.members.first, second = pair->as.members.last;
        TL_TRY(tl_pickle_append(pickle, *result, tl_pickle_cell_at(pickle, first)->value));
        TL_TRY(tl_pickle_append(pickle, *result, tl_pickle_cell_at(pickle, second)->value));
    }
    return TL_OK;
}

static tl_status call_tensor(tl_pickle *pickle, uint32_t args, uint32_t *result) {
    tl_pickle_value value = *tl_pickle_at(pickle, args);
    tl_pickle_tensor tensor;
    TL_TRY(tl_pickle_read_tensor(pickle, &value, &tensor));
    value.kind = TL_PICKLE_TENSOR;
    value.depth = 0;
    return tl_pickle_new(pickle, value, result);
}

/* The first argument itself, which must be of `kind`: a parameter is its tensor, a size its
 * tuple. */
static tl_status call_first(const tl_pickle *pickle, uint32_t args, tl_pickle_kind kind,
                            const char *name, uint32_t *result) {
    const tl_pickle_value *tuple = tl_pickle_at(pickle, args);
    const tl_pickle_value *first = tuple->count ? tl_pickle_member(pickle, tuple, 0) : NULL;
    if (!first || first->kind != kind) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "%s of %s, expected %s", name,
                              first ? tl_pickle_kind_name(first) : "nothing",
                              tl_pickle_kind_name(&(tl_pickle_value){.kind = (uint8_t)kind}));
    }
    *result = tl_pickle_cell_at(pickle, tuple->as.members.first)->value;
    return TL_OK;
}

tl_status tl_pickle_call(tl_pickle *pickle, uint32_t callee, uint32_t args, uint32_t *result) {
    const tl_pickle_value *function = tl_pickle_at(pickle, callee);
    if (function->kind != TL_PICKLE_GLOBAL) {
        return tl_pickle_fail(pickle, TL_UNSAFE, "REDUCE calls %s", tl_pickle_kind_name(function));
    }
    if (tl_pickle_at(pickle, args)->kind != TL_PICKLE_TUPLE) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "REDUCE with %s as arguments, expected a tuple",
                              tl_pickle_kind_name(tl_pickle_at(pickle, args)));
    }
    const tl_pickle_global *global = tl_pickle_global_at(function->as.integer);
    switch (global->role) {
    case TL_ROLE_ORDERED_DICT:
        return call_ordered_dict(pickle, args, result);
    case TL_ROLE_TENSOR:
        return call_tensor(pickle, args, result);
    case TL_ROLE_PARAMETER:
        return call_first(pickle, args, TL_PICKLE_TENSOR, global->name, result);
    case TL_ROLE_SIZE:
        return call_first(pickle, args, TL_PICKLE_TUPLE, global->name, result);
    case TL_ROLE_OPAQUE:
        return tl_pickle_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_OPAQUE}, result);
    case TL_ROLE_STORAGE:
    case TL_ROLE_UNSUPPORTED:
        break;
    }
    return tl_pickle_fail(pickle, TL_UNSAFE, "REDUCE calls %s.%s", global->module, global->name);
}
