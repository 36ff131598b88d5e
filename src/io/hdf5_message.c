/* What the messages of an object header say: section IV.A.2 of the specification. */
#include <string.h>

#include "io/hdf5_parts.h"

/* --- dataspace: IV.A.2.b ---------------------------------------------------------------------- */

tl_status tl_hdf5_parse_space(const tl_hdf5 *file, tl_hdf5_cursor *c, tl_hdf5_space *out) {
    enum { KIND_NULL = 2, MAX_RANK = sizeof out->dim / sizeof out->dim[0] };
    unsigned version = (unsigned)tl_hdf5_take(c, 1), rank = (unsigned)tl_hdf5_take(c, 1);
    tl_hdf5_skip(c, 1);
    unsigned kind = (unsigned)tl_hdf5_take(c, 1);
    TL_TRY(tl_hdf5_check_whole(file, c, "dataspace"));
    TL_HDF5_CHECK(file, version == 1 || version == 2, TL_UNSUPPORTED, c->address,
                  "dataspace version %u, expected 1 or 2", version);
    TL_HDF5_CHECK(file, rank <= MAX_RANK, TL_CORRUPT, c->address,
                  "dataspace of rank %u, at most %d is allowed", rank, MAX_RANK);
    if (version == 1) tl_hdf5_skip(c, 4);
    *out = (tl_hdf5_space){.rank = (int)rank, .count = 1};
    bool empty = version == 2 && kind == KIND_NULL, overflow = false;
    for (unsigned i = 0; i < rank; i++) {
        out->dim[i] = tl_hdf5_take(c, 8);
        empty |= out->dim[i] == 0;
        overflow |=
            out->dim[i] > INT64_MAX || __builtin_mul_overflow(out->count, out->dim[i], &out->count);
    }
    if (empty) out->count = 0;
    if (overflow) out->count = UINT64_MAX;
    return tl_hdf5_check_whole(file, c, "dataspace");
}

/* --- datatype: IV.A.2.d ----------------------------------------------------------------------- */

enum {
    TYPE_FIXED = 0,
    TYPE_FLOAT = 1,
    TYPE_STRING = 3,
    TYPE_OPAQUE = 5,
    TYPE_VARIABLE = 9,
    BIG_ENDIAN = 0x01,
    VAX = 0x40,
    SIGNED = 0x08
};

static void parse_fixed(tl_hdf5_cursor *c, unsigned bits, tl_hdf5_type *out) {
    static const struct {
        uint32_t size;
        unsigned sign;
        tl_dtype dtype;
    } known[] = {{1, SIGNED, TL_I8},
                 {1, 0, TL_U8},
                 {2, SIGNED, TL_I16},
                 {4, SIGNED, TL_I32},
                 {8, SIGNED, TL_I64}};
    uint64_t shift = tl_hdf5_take(c, 2), precision = tl_hdf5_take(c, 2);
    if (shift != 0 || precision != 8 * (uint64_t)out->size || bits & BIG_ENDIAN) return;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].size != out->size || known[i].sign != (bits & SIGNED)) continue;
        out->class = TL_HDF5_NUMBER;
        out->dtype = known[i].dtype;
    }
}

/* Floats by where their parts lie: sign, exponent, mantissa, and what the exponent is off by. */
static void parse_float(tl_hdf5_cursor *c, unsigned bits, tl_hdf5_type *out) {
    static const struct {
        uint32_t size;
        unsigned sign, exponent, exponent_bits, mantissa_bits;
        uint32_t bias;
        tl_dtype dtype;
    } known[] = {{4, 31, 23, 8, 23, 127, TL_F32},
                 {8, 63, 52, 11, 52, 1023, TL_F64},
                 {2, 15, 10, 5, 10, 15, TL_F16},
                 {2, 15, 7, 8, 7, 127, TL_BF16}};
    uint64_t shift = tl_hdf5_take(c, 2), precision = tl_hdf5_take(c, 2);
    uint64_t exponent = tl_hdf5_take(c, 1), exponent_bits = tl_hdf5_take(c, 1);
    uint64_t mantissa = tl_hdf5_take(c, 1), mantissa_bits = tl_hdf5_take(c, 1);
    uint64_t bias = tl_hdf5_take(c, 4);
    if (shift || precision != 8 * (uint64_t)out->size || mantissa || bits & (BIG_ENDIAN | VAX)) {
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].size != out->size || known[i].sign != (bits >> 8 & 0xff) ||
            known[i].exponent != exponent || known[i].exponent_bits != exponent_bits ||
            known[i].mantissa_bits != mantissa_bits || known[i].bias != bias) {
            continue;
        }
        out->class = TL_HDF5_NUMBER;
        out->dtype = known[i].dtype;
    }
}

tl_status tl_hdf5_parse_type(const tl_hdf5 *file, tl_hdf5_cursor *c, tl_hdf5_type *out) {
    enum { VARIABLE_STRING = 1, VARIABLE_SIZE = 16, MAX_SIZE = 1 << 30 };
    unsigned first = (unsigned)tl_hdf5_take(c, 1);
    unsigned bits = (unsigned)tl_hdf5_take(c, 2);
    tl_hdf5_skip(c, 1);
    uint64_t size = tl_hdf5_take(c, 4);
    TL_TRY(tl_hdf5_check_whole(file, c, "datatype"));
    TL_HDF5_CHECK(file, size > 0 && size <= MAX_SIZE, TL_CORRUPT, c->address,
                  "datatype of %" PRIu64 " bytes, expected 1 to %d", size, MAX_SIZE);
    *out = (tl_hdf5_type){.class = TL_HDF5_OTHER, .size = (uint32_t)size};
    switch (first & 0x0f) {
    case TYPE_FIXED:
        parse_fixed(c, bits, out);
        break;
    case TYPE_FLOAT:
        parse_float(c, bits, out);
        break;
    case TYPE_STRING:
        out->class = TL_HDF5_TEXT;
        break;
    case TYPE_OPAQUE:
        out->opaque = true;
        break;
    case TYPE_VARIABLE:
        if ((bits & 0x0f) == VARIABLE_STRING && size == VARIABLE_SIZE) {
            out->class = TL_HDF5_VARIABLE_TEXT;
        }
        break;
    default:
        break;
    }
    return tl_hdf5_check_whole(file, c, "datatype");
}

/* --- data layout: IV.A.2.i -------------------------------------------------------------------- */

/* Version 4 has five ways of finding chunks, which files of libver="latest" use. */
static tl_status parse_chunked(const tl_hdf5 *file, tl_hdf5_cursor *c, unsigned version,
                               tl_hdf5_layout *out) {
    enum { MAX_RANK = sizeof out->dim / sizeof out->dim[0] };
    out->chunked = true;
    if (version == 4) {
        out->refusal =
            "its chunks are found by an index of HDF5 1.10 (libver=\"latest\"), expected "
            "a B-tree of version 1 (h5repack -l CONTI -f NONE)";
        return TL_OK;
    }
    int dims = (int)tl_hdf5_take(c, 1);
    out->tree = tl_hdf5_take(c, 8);
    TL_HDF5_CHECK(file, dims >= 2 && dims <= MAX_RANK + 1, TL_CORRUPT, c->address,
                  "chunks of %d dimensions, expected 2 to %d", dims, MAX_RANK + 1);
    out->rank = dims - 1;
    for (int i = 0; i < out->rank; i++) out->dim[i] = (uint32_t)tl_hdf5_take(c, 4);
    out->element = (uint32_t)tl_hdf5_take(c, 4);
    return tl_hdf5_check_whole(file, c, "data layout");
}

tl_status tl_hdf5_parse_layout(const tl_hdf5 *file, tl_hdf5_cursor *c, tl_hdf5_layout *out) {
    enum { COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL };
    unsigned version = (unsigned)tl_hdf5_take(c, 1), kind = (unsigned)tl_hdf5_take(c, 1);
    TL_TRY(tl_hdf5_check_whole(file, c, "data layout"));
    TL_HDF5_CHECK(file, version == 3 || version == 4, TL_UNSUPPORTED, c->address,
                  "data layout version %u, expected 3 or 4", version);
    TL_HDF5_CHECK(file, kind != VIRTUAL, TL_UNSAFE, c->address, "%s",
                  "a virtual dataset, whose data is in other files");
    TL_HDF5_CHECK(file, kind < VIRTUAL, TL_CORRUPT, c->address, "data layout class %u", kind);
    *out = (tl_hdf5_layout){0};
    if (kind == CHUNKED) return parse_chunked(file, c, version, out);
    if (kind == COMPACT) {
        out->size = tl_hdf5_take(c, 2);
        out->offset = file->base + c->address + c->at;
        tl_hdf5_skip(c, out->size);
        return tl_hdf5_check_whole(file, c, "data layout");
    }
    uint64_t address = tl_hdf5_take(c, 8);
    out->size = tl_hdf5_take(c, 8);
    TL_TRY(tl_hdf5_check_whole(file, c, "data layout"));
    if (address == TL_HDF5_NOWHERE) {
        if (out->size > 0) out->refusal = "its data was never written";
        return TL_OK;
    }
    TL_HDF5_CHECK(file, address <= file->size && out->size <= file->size - address, TL_CORRUPT,
                  c->address, "%" PRIu64 " bytes of data at %" PRIu64 ", but the file has %" PRIu64,
                  out->size, address, file->size);
    out->offset = file->base + address;
    return TL_OK;
}

/* --- attribute: IV.A.2.m ---------------------------------------------------------------------- */

/* In version 1 name, datatype and dataspace are filled up to a multiple of 8 bytes. */
static tl_hdf5_cursor take_padded(tl_hdf5_cursor *c, uint64_t size, unsigned version) {
    tl_hdf5_cursor part = tl_hdf5_part(c, size);
    if (version == 1 && size % 8) tl_hdf5_skip(c, 8 - size % 8);
    return part;
}

tl_status tl_hdf5_parse_attribute(tl_hdf5 *file, tl_hdf5_cursor *c, int object) {
    unsigned version = (unsigned)tl_hdf5_take(c, 1), flags = (unsigned)tl_hdf5_take(c, 1);
    uint64_t name_size = tl_hdf5_take(c, 2), type_size = tl_hdf5_take(c, 2);
    uint64_t space_size = tl_hdf5_take(c, 2);
    TL_TRY(tl_hdf5_check_whole(file, c, "attribute"));
    TL_HDF5_CHECK(file, version >= 1 && version <= 3, TL_UNSUPPORTED, c->address,
                  "attribute version %u, expected 1 to 3", version);
    TL_HDF5_CHECK(file, version == 1 || (flags & 3) == 0, TL_UNSUPPORTED, c->address, "%s",
                  "attribute with a type or space shared with other objects");
    if (version == 3) tl_hdf5_skip(c, 1);
    tl_hdf5_cursor name = take_padded(c, name_size, version);
    tl_hdf5_cursor type = take_padded(c, type_size, version);
    tl_hdf5_cursor space = take_padded(c, space_size, version);
    TL_TRY(tl_hdf5_check_whole(file, c, "attribute"));
    tl_hdf5_attribute attribute = {.object = object};
    tl_hdf5_space extent;
    TL_TRY(tl_hdf5_parse_type(file, &type, &attribute.type));
    TL_TRY(tl_hdf5_parse_space(file, &space, &extent));
    attribute.count = extent.count;
    attribute.offset = file->base + c->address + c->at;
    attribute.size = c->size - c->at;
    uint64_t bytes = 0;
    bool fits = extent.count != UINT64_MAX &&
                !__builtin_mul_overflow(extent.count, attribute.type.size, &bytes) &&
                bytes <= attribute.size;
    size_t length = strnlen((const char *)name.data, name.size);
    char quoted[TL_QUOTE_TEXT];
    TL_HDF5_CHECK(file, fits && length > 0, TL_CORRUPT, c->address,
                  "attribute \"%s\": %" PRIu64 " elements of %" PRIu32 " bytes in %" PRIu64
                  " bytes of data",
                  tl_quote((const char *)name.data, length, quoted), extent.count,
                  attribute.type.size, attribute.size);
    TL_TRY(tl_hdf5_keep_text(file, name.data, length, &attribute.name));
    TL_TRY(tl_hdf5_grow(file, (void **)&file->attribute, &file->attribute_capacity,
                        file->attribute_count, sizeof attribute));
    file->attribute[file->attribute_count++] = attribute;
    return TL_OK;
}
