/* Tensors and lists of numbers in an ONNX file. */
#include "io/onnx_parser.h"

#include <inttypes.h>
#include <string.h>

enum { OVERHEAD = 96 }; /* the allocator's, for one block */

tl_status tl_onnx_allocate(tl_onnx *onnx, int64_t count, size_t size, void *out) {
    void **items = out;
    *items = NULL;
    if (count == 0) return TL_OK;
    TL_CHECK(
        (uint64_t)count <= onnx->budget / size && (uint64_t)count * size + OVERHEAD <= onnx->budget,
        TL_LIMIT, "%s: more small parts than a file of %u bytes may hold", onnx->name, onnx->size);
    onnx->budget -= (uint64_t)count * size + OVERHEAD;
    *items = tl_alloc_zero(onnx->ctx, (size_t)count * size);
    TL_CHECK_MEMORY(*items);
    return TL_OK;
}

tl_status tl_onnx_text_field(const tl_pb *r, const tl_pb_field *field, const char *what,
                             tl_onnx_text *out) {
    TL_TRY(tl_pb_expect(r, field, TL_PB_BYTES, what));
    *out = field->span;
    return TL_OK;
}

tl_status tl_onnx_int_field(const tl_pb *r, const tl_pb_field *field, const char *what,
                            int64_t *out) {
    TL_TRY(tl_pb_expect(r, field, TL_PB_VARINT, what));
    *out = (int64_t)field->value;
    return TL_OK;
}

/* --- lists of numbers, packed or one by one --------------------------------------------------- */

static tl_status count_numbers(tl_pb reader, uint32_t number, tl_pb_wire wire, int64_t *count) {
    *count = 0;
    tl_pb_field field;
    for (;;) {
        TL_TRY(tl_pb_next(&reader, &field));
        if (!field.number) return TL_OK;
        if (field.number != number) continue;
        if (field.wire != TL_PB_BYTES) {
            (*count)++;
        } else if (wire == TL_PB_VARINT) {
            for (uint32_t i = field.span.begin; i < field.span.end; i++) {
                *count += reader.base[i] < 0x80;
            }
        } else {
            *count += (field.span.end - field.span.begin) / (wire == TL_PB_FIXED32 ? 4 : 8);
        }
    }
}

/* Stores one number's bits as an element of `size` bytes, little endian. */
static void store(void *out, int64_t index, size_t size, uint64_t bits) {
    memcpy((unsigned char *)out + (size_t)index * size, &bits, size);
}

static tl_status read_packed(tl_pb_wire wire, tl_pb inner, size_t size, void *out, int64_t *index) {
    while (inner.position < inner.end) {
        uint64_t bits = 0;
        if (wire == TL_PB_VARINT) {
            TL_TRY(tl_pb_varint(&inner, &bits));
        } else {
            uint32_t width = wire == TL_PB_FIXED32 ? 4 : 8;
            TL_CHECK(inner.end - inner.position >= width, TL_CORRUPT,
                     "%s: offset %u: a packed list of %u-byte numbers has a rest", inner.name,
                     inner.position, width);
            memcpy(&bits, inner.base + inner.position, width);
            inner.position += width;
        }
        store(out, (*index)++, size, bits);
    }
    return TL_OK;
}

tl_status tl_onnx_read_numbers(tl_onnx *onnx, tl_pb reader, uint32_t number, tl_pb_wire wire,
                               size_t size, void *out, int64_t *count) {
    void **items = out;
    TL_TRY(count_numbers(reader, number, wire, count));
    TL_TRY(tl_onnx_allocate(onnx, *count, size, items));
    int64_t index = 0;
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&reader, &field));
        if (!field.number) return TL_OK;
        if (field.number != number) continue;
        if (field.wire == TL_PB_BYTES) {
            TL_TRY(read_packed(wire, tl_pb_enter(&reader, field.span), size, *items, &index));
        } else {
            TL_TRY(tl_pb_expect(&reader, &field, wire, "a number of a list"));
            store(*items, index++, size, field.value);
        }
    }
}

/* --- tensors ---------------------------------------------------------------------------------- */

/* TensorProto's fields and data types: onnx.proto. */
enum {
    T_DIMS = 1,
    T_TYPE = 2,
    T_SEGMENT = 3,
    T_FLOATS = 4,
    T_INT32S = 5,
    T_STRINGS = 6,
    T_INT64S = 7,
    T_NAME = 8,
    T_RAW = 9,
    T_DOUBLES = 10,
    T_UINT64S = 11,
    T_EXTERNAL = 13,
    T_LOCATION = 14
};

static const struct {
    int onnx;
    tl_dtype dtype;
    uint32_t list; /* the field that holds numbers of this type when there is no raw data */
    tl_pb_wire wire;
} types[] = {
    {1, TL_F32, T_FLOATS, TL_PB_FIXED32},   {2, TL_U8, T_INT32S, TL_PB_VARINT},
    {3, TL_I8, T_INT32S, TL_PB_VARINT},     {5, TL_I16, T_INT32S, TL_PB_VARINT},
    {6, TL_I32, T_INT32S, TL_PB_VARINT},    {7, TL_I64, T_INT64S, TL_PB_VARINT},
    {9, TL_BOOL, T_INT32S, TL_PB_VARINT},   {10, TL_F16, T_INT32S, TL_PB_VARINT},
    {11, TL_F64, T_DOUBLES, TL_PB_FIXED64}, {16, TL_BF16, T_INT32S, TL_PB_VARINT},
};

static int find_type(int64_t onnx) {
    for (int i = 0; i < (int)(sizeof types / sizeof types[0]); i++) {
        if (types[i].onnx == onnx) return i;
    }
    return -1;
}

/* What a first pass over a TensorProto finds. */
typedef struct tensor_fields {
    int64_t type, location;
    tl_pb_span raw;
    bool has_raw, has_list;
    tl_onnx_text external_path;
    int64_t external_offset, external_length; /* length -1: to the end */
} tensor_fields;

static tl_status parse_decimal(const tl_onnx *onnx, tl_onnx_text text, const char *what,
                               int64_t *out) {
    const unsigned char *bytes = onnx->bytes;
    int64_t value = 0;
    TL_CHECK(text.begin < text.end, TL_CORRUPT, "%s: offset %u: %s is empty", onnx->name,
             text.begin, what);
    for (uint32_t i = text.begin; i < text.end; i++) {
        int digit = bytes[i] - '0';
        TL_CHECK(digit >= 0 && digit <= 9 && !__builtin_mul_overflow(value, 10, &value) &&
                     !__builtin_add_overflow(value, digit, &value),
                 TL_CORRUPT, "%s: offset %u: %s is not a number within 63 bits", onnx->name,
                 text.begin, what);
    }
    *out = value;
    return TL_OK;
}

tl_status tl_onnx_read_entry(tl_pb reader, tl_onnx_text *key, tl_onnx_text *value) {
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&reader, &field));
        if (!field.number) return TL_OK;
        if (field.number == 1) TL_TRY(tl_onnx_text_field(&reader, &field, "a key", key));
        if (field.number == 2) TL_TRY(tl_onnx_text_field(&reader, &field, "a value", value));
    }
}

static tl_status read_external(tl_onnx *onnx, const tl_pb *r, const tl_pb_field *field,
                               tensor_fields *t) {
    TL_TRY(tl_pb_expect(r, field, TL_PB_BYTES, "external_data"));
    tl_onnx_text key = {0}, value = {0};
    TL_TRY(tl_onnx_read_entry(tl_pb_enter(r, field->span), &key, &value));
    if (tl_onnx_is(onnx, key, "location")) t->external_path = value;
    if (tl_onnx_is(onnx, key, "offset")) {
        TL_TRY(parse_decimal(onnx, value, "external offset", &t->external_offset));
    }
    if (tl_onnx_is(onnx, key, "length")) {
        TL_TRY(parse_decimal(onnx, value, "external length", &t->external_length));
    }
    return TL_OK;
}

static tl_status scan_tensor(tl_onnx *onnx, tl_pb r, tl_onnx_tensor *tensor, tensor_fields *t) {
    *t = (tensor_fields){.external_length = -1};
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&r, &field));
        switch (field.number) {
        case 0:
            return TL_OK;
        case T_TYPE:
            TL_TRY(tl_onnx_int_field(&r, &field, "data_type", &t->type));
            break;
        case T_NAME:
            TL_TRY(tl_onnx_text_field(&r, &field, "a tensor's name", &tensor->name));
            break;
        case T_RAW:
            TL_TRY(tl_pb_expect(&r, &field, TL_PB_BYTES, "raw_data"));
            t->raw = field.span;
            t->has_raw = true;
            break;
        case T_LOCATION:
            TL_TRY(tl_onnx_int_field(&r, &field, "data_location", &t->location));
            break;
        case T_EXTERNAL:
            TL_TRY(read_external(onnx, &r, &field, t));
            break;
        case T_FLOATS:
        case T_INT32S:
        case T_INT64S:
        case T_DOUBLES:
        case T_UINT64S:
            t->has_list = true;
            break;
        case T_SEGMENT:
        case T_STRINGS:
            return tl_fail(TL_UNSUPPORTED, "%s: offset %u: %s in a tensor", onnx->name,
                           field.offset, field.number == T_SEGMENT ? "a segment" : "text");
        default:
            break;
        }
    }
}

static tl_status read_dims(tl_onnx *onnx, tl_pb r, tl_onnx_tensor *tensor) {
    int64_t *dims = NULL, rank = 0;
    tl_status status =
        tl_onnx_read_numbers(onnx, r, T_DIMS, TL_PB_VARINT, sizeof *dims, &dims, &rank);
    if (status == TL_OK && rank > TL_MAX_RANK) {
        status = tl_fail(TL_UNSUPPORTED, "%s: offset %u: tensor of rank %" PRId64 ", at most %d",
                         onnx->name, tensor->offset, rank, TL_MAX_RANK);
    }
    if (status == TL_OK) {
        tensor->shape.rank = (int)rank;
        if (rank) memcpy(tensor->shape.dim, dims, (size_t)rank * sizeof *dims);
        for (int i = 0; i < rank && status == TL_OK; i++) {
            if (dims[i] < 0) {
                status = tl_fail(TL_CORRUPT, "%s: offset %u: dimension %d of '%.*s' is %" PRId64,
                                 onnx->name, tensor->offset, i, TL_ONNX_TEXT(onnx, tensor->name),
                                 dims[i]);
            }
        }
    }
    tl_free(onnx->ctx, dims);
    TL_TRY(status);
    tensor->count = tl_shape_count(&tensor->shape);
    TL_CHECK(tensor->count >= 0 && tensor->count <= INT64_MAX / 16, TL_CORRUPT,
             "%s: offset %u: the dimensions of '%.*s' overflow", onnx->name, tensor->offset,
             TL_ONNX_TEXT(onnx, tensor->name));
    return TL_OK;
}

/* The path of an external file: a plain name beside the model. */
static tl_status external_path(tl_onnx *onnx, tl_onnx_text text, uint32_t offset, char **out) {
    size_t length = text.end - text.begin;
    const char *name = (const char *)onnx->bytes + text.begin;
    bool plain = length > 0 && length < 256 && !memchr(name, '/', length) &&
                 !memchr(name, '\0', length) && !tl_onnx_is(onnx, text, "..") &&
                 !tl_onnx_is(onnx, text, ".");
    TL_CHECK(plain, TL_UNSAFE,
             "%s: offset %u: external data '%.*s' is not a file name beside the model", onnx->name,
             offset, TL_ONNX_TEXT(onnx, text));
    TL_CHECK(onnx->folder, TL_UNSUPPORTED,
             "%s: offset %u: external data '%.*s' of a model in memory", onnx->name, offset,
             TL_ONNX_TEXT(onnx, text));
    *out = tl_format(onnx->ctx, "%s/%.*s", onnx->folder, TL_ONNX_TEXT(onnx, text));
    TL_CHECK_MEMORY(*out);
    return TL_OK;
}

enum { MAX_EXTERNALS = 4096, SHARING = 2 };

/* Counts `bytes` against what may come from a file of `size`. */
static tl_status take_external(tl_onnx *onnx, tl_onnx_text location, uint64_t size, size_t bytes) {
    tl_onnx_external *file = onnx->external;
    if (!file) TL_TRY(tl_onnx_allocate(onnx, MAX_EXTERNALS, sizeof *file, &onnx->external));
    file = onnx->external;
    int i = 0;
    while (i < onnx->external_count && !tl_onnx_same(onnx, file[i].location, location)) i++;
    TL_CHECK(i < MAX_EXTERNALS, TL_LIMIT, "more than %d files of external data", MAX_EXTERNALS);
    if (i == onnx->external_count) {
        file[i] = (tl_onnx_external){location, SHARING * size};
        onnx->external_count++;
    }
    TL_CHECK(bytes <= file[i].left, TL_LIMIT,
             "tensors use the same external bytes again and again");
    file[i].left -= bytes;
    return TL_OK;
}

static tl_status read_external_range(tl_onnx *onnx, tl_onnx_tensor *tensor, const tensor_fields *t,
                                     const tl_source *source, size_t bytes) {
    uint64_t offset = (uint64_t)t->external_offset;
    TL_CHECK(t->external_length < 0 || (uint64_t)t->external_length == bytes, TL_CORRUPT,
             "external length %" PRId64 ", the shape needs %zu", t->external_length, bytes);
    TL_CHECK(offset <= source->size && bytes <= source->size - offset, TL_TRUNCATED,
             "%zu bytes expected at %" PRIu64 " of %s, which has %" PRIu64, bytes, offset,
             source->name, source->size);
    TL_TRY(take_external(onnx, t->external_path, source->size, bytes));
    tensor->owned = tl_alloc(onnx->ctx, bytes);
    TL_CHECK_MEMORY(tensor->owned);
    tensor->data = tensor->owned;
    return tl_source_read(source, offset, tensor->owned, bytes);
}

static tl_status read_external_bytes(tl_onnx *onnx, tl_onnx_tensor *tensor, const tensor_fields *t,
                                     size_t bytes) {
    char *path = NULL;
    tl_source source;
    TL_TRY(external_path(onnx, t->external_path, tensor->offset, &path));
    tl_status status = tl_source_open_no_link(onnx->ctx, path, &source);
    if (status == TL_OK) status = read_external_range(onnx, tensor, t, &source, bytes);
    tl_source_close(&source);
    tl_free(onnx->ctx, path);
    if (status == TL_OK || status == TL_NO_MEMORY) return status;
    return tl_fail_in(status, "%s: offset %u: '%.*s'", onnx->name, tensor->offset,
                      TL_ONNX_TEXT(onnx, tensor->name));
}

static tl_status read_list(tl_onnx *onnx, tl_pb r, tl_onnx_tensor *tensor, int type) {
    int64_t count = 0;
    TL_TRY(tl_onnx_read_numbers(onnx, r, types[type].list, types[type].wire,
                                tl_dtype_size(tensor->dtype), &tensor->owned, &count));
    tensor->data = tensor->owned;
    TL_CHECK(count == tensor->count, TL_CORRUPT,
             "%s: offset %u: '%.*s' holds %" PRId64 " numbers, its shape needs %" PRId64,
             onnx->name, tensor->offset, TL_ONNX_TEXT(onnx, tensor->name), count, tensor->count);
    return TL_OK;
}

tl_status tl_onnx_read_tensor(tl_onnx *onnx, tl_pb r, tl_onnx_tensor *tensor) {
    tensor->offset = r.position;
    tensor_fields t;
    TL_TRY(scan_tensor(onnx, r, tensor, &t));
    TL_TRY(read_dims(onnx, r, tensor));
    int type = find_type(t.type);
    TL_CHECK(type >= 0, TL_UNSUPPORTED, "%s: offset %u: data type %" PRId64 " of '%.*s'",
             onnx->name, tensor->offset, t.type, TL_ONNX_TEXT(onnx, tensor->name));
    tensor->dtype = types[type].dtype;
    size_t bytes = (size_t)tensor->count * tl_dtype_size(tensor->dtype);
    TL_CHECK((t.location == 1) + t.has_raw + t.has_list <= 1, TL_CORRUPT,
             "%s: offset %u: '%.*s' has its data twice", onnx->name, tensor->offset,
             TL_ONNX_TEXT(onnx, tensor->name));
    if (t.location == 1) return read_external_bytes(onnx, tensor, &t, bytes);
    if (!t.has_raw) return read_list(onnx, r, tensor, type);
    TL_CHECK(t.raw.end - t.raw.begin == bytes, TL_CORRUPT,
             "%s: offset %u: '%.*s' has %u bytes of raw data, its shape needs %zu", onnx->name,
             tensor->offset, TL_ONNX_TEXT(onnx, tensor->name), t.raw.end - t.raw.begin, bytes);
    tensor->data = onnx->bytes + t.raw.begin;
    return TL_OK;
}
