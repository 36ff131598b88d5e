/* Writing protocol-buffer messages into memory; the counterpart of protobuf.h. */
#ifndef TL_IO_PROTOBUF_WRITE_H
#define TL_IO_PROTOBUF_WRITE_H

#include "base/context.h"

/* A message under construction. A failed allocation is remembered: later puts do nothing, and the
 * one check at the end is enough. Release with tl_pb_release(). */
typedef struct tl_pb_buffer {
    tl_context *ctx;
    unsigned char *data;
    size_t size, capacity;
    bool failed;
} tl_pb_buffer;

void tl_pb_release(tl_pb_buffer *buffer);
void tl_pb_put_raw(tl_pb_buffer *buffer, const void *data, size_t size);
void tl_pb_put_varint(tl_pb_buffer *buffer, uint32_t field, uint64_t value);
void tl_pb_put_float(tl_pb_buffer *buffer, uint32_t field, float value);
void tl_pb_put_bytes(tl_pb_buffer *buffer, uint32_t field, const void *data, size_t size);
void tl_pb_put_text(tl_pb_buffer *buffer, uint32_t field, const char *text);
/* Only tag and length of a bytes field, whose content the caller writes. */
void tl_pb_put_length(tl_pb_buffer *buffer, uint32_t field, uint64_t size);
/* Puts `message` as a field and empties it for the next use. */
void tl_pb_put_message(tl_pb_buffer *buffer, uint32_t field, tl_pb_buffer *message);

#endif
