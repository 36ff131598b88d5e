#include "io/protobuf_write.h"

#include <string.h>

#include "io/protobuf.h"

enum { FIRST_CAPACITY = 256, MAX_VARINT_BYTES = 10 };

void tl_pb_release(tl_pb_buffer *buffer) {
    tl_free(buffer->ctx, buffer->data);
    *buffer = (tl_pb_buffer){.ctx = buffer->ctx};
}

static bool reserve(tl_pb_buffer *buffer, size_t more) {
    size_t needed;
    if (buffer->failed) return false;
    if (!__builtin_add_overflow(buffer->size, more, &needed)) {
        if (needed <= buffer->capacity) return true;
        size_t capacity = buffer->capacity ? buffer->capacity : FIRST_CAPACITY;
        while (capacity < needed && capacity <= SIZE_MAX / 2) capacity *= 2;
        unsigned char *data = tl_realloc(buffer->ctx, buffer->data, capacity);
        if (data && capacity >= needed) {
            buffer->data = data;
            buffer->capacity = capacity;
            return true;
        }
    }
    buffer->failed = true;
    return false;
}

void tl_pb_put_raw(tl_pb_buffer *buffer, const void *data, size_t size) {
    if (size == 0 || !reserve(buffer, size)) return;
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static void put_number(tl_pb_buffer *buffer, uint64_t value) {
    unsigned char bytes[MAX_VARINT_BYTES];
    size_t count = 0;
    do {
        bytes[count++] = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value);
    tl_pb_put_raw(buffer, bytes, count);
}

static void put_tag(tl_pb_buffer *buffer, uint32_t field, tl_pb_wire wire) {
    put_number(buffer, (uint64_t)field << 3 | (uint64_t)wire);
}

void tl_pb_put_varint(tl_pb_buffer *buffer, uint32_t field, uint64_t value) {
    put_tag(buffer, field, TL_PB_VARINT);
    put_number(buffer, value);
}

void tl_pb_put_float(tl_pb_buffer *buffer, uint32_t field, float value) {
    put_tag(buffer, field, TL_PB_FIXED32);
    tl_pb_put_raw(buffer, &value, sizeof value);
}

void tl_pb_put_length(tl_pb_buffer *buffer, uint32_t field, uint64_t size) {
    put_tag(buffer, field, TL_PB_BYTES);
    put_number(buffer, size);
}

void tl_pb_put_bytes(tl_pb_buffer *buffer, uint32_t field, const void *data, size_t size) {
    tl_pb_put_length(buffer, field, size);
    tl_pb_put_raw(buffer, data, size);
}

void tl_pb_put_text(tl_pb_buffer *buffer, uint32_t field, const char *text) {
    tl_pb_put_bytes(buffer, field, text, strlen(text));
}

void tl_pb_put_message(tl_pb_buffer *buffer, uint32_t field, tl_pb_buffer *message) {
    if (message->failed) buffer->failed = true;
    tl_pb_put_bytes(buffer, field, message->data, message->size);
    message->size = 0;
}
