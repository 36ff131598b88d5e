#include "io/protobuf.h"

#include <string.h>

enum { MAX_VARINT_BYTES = 10 };

tl_status tl_pb_varint(tl_pb *reader, uint64_t *value) {
    uint32_t start = reader->position;
    uint64_t result = 0;
    for (int i = 0; i < MAX_VARINT_BYTES; i++) {
        TL_CHECK(reader->position < reader->end, TL_TRUNCATED,
                 "%s: offset %u: a number runs past the end of its message at %u", reader->name,
                 start, reader->end);
        unsigned char byte = reader->base[reader->position++];
        result |= (uint64_t)(byte & 0x7fu) << (7 * i);
        if (byte < 0x80) {
            *value = result;
            return TL_OK;
        }
    }
    return tl_fail(TL_CORRUPT, "%s: offset %u: a number is longer than %d bytes", reader->name,
                   start, MAX_VARINT_BYTES);
}

static tl_status read_fixed(tl_pb *reader, uint32_t size, uint64_t *value) {
    TL_CHECK(reader->end - reader->position >= size, TL_TRUNCATED,
             "%s: offset %u: a %u-byte value runs past the end of its message at %u", reader->name,
             reader->position, size, reader->end);
    *value = 0;
    for (uint32_t i = 0; i < size; i++) {
        *value |= (uint64_t)reader->base[reader->position + i] << (8 * i);
    }
    reader->position += size;
    return TL_OK;
}

static tl_status read_span(tl_pb *reader, tl_pb_span *span) {
    uint32_t start = reader->position;
    uint64_t length = 0;
    TL_TRY(tl_pb_varint(reader, &length));
    TL_CHECK(length <= reader->end - reader->position, TL_TRUNCATED,
             "%s: offset %u: a length of %llu runs past the end of its message at %u", reader->name,
             start, (unsigned long long)length, reader->end);
    *span = (tl_pb_span){reader->position, reader->position + (uint32_t)length};
    reader->position = span->end;
    return TL_OK;
}

tl_status tl_pb_next(tl_pb *reader, tl_pb_field *field) {
    *field = (tl_pb_field){.offset = reader->position};
    if (reader->position == reader->end) return TL_OK;
    uint64_t tag = 0;
    TL_TRY(tl_pb_varint(reader, &tag));
    uint64_t number = tag >> 3;
    TL_CHECK(number > 0 && number < (1u << 29), TL_CORRUPT,
             "%s: offset %u: field number %llu, expected 1 to 2^29 - 1", reader->name,
             field->offset, (unsigned long long)number);
    field->number = (uint32_t)number;
    field->wire = (tl_pb_wire)(tag & 7);
    switch (field->wire) {
    case TL_PB_VARINT:
        return tl_pb_varint(reader, &field->value);
    case TL_PB_FIXED64:
        return read_fixed(reader, 8, &field->value);
    case TL_PB_FIXED32:
        return read_fixed(reader, 4, &field->value);
    case TL_PB_BYTES:
        return read_span(reader, &field->span);
    }
    return tl_fail(TL_CORRUPT, "%s: offset %u: wire type %d, expected 0, 1, 2 or 5", reader->name,
                   field->offset, (int)(tag & 7));
}

tl_pb tl_pb_enter(const tl_pb *parent, tl_pb_span span) {
    return (tl_pb){parent->name, parent->base, span.begin, span.end};
}

tl_status tl_pb_expect(const tl_pb *reader, const tl_pb_field *field, tl_pb_wire wire,
                       const char *what) {
    TL_CHECK(field->wire == wire, TL_CORRUPT, "%s: offset %u: %s has wire type %d, expected %d",
             reader->name, field->offset, what, (int)field->wire, (int)wire);
    return TL_OK;
}
