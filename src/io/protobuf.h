/* A bounded reader of protocol-buffer wire format: https://protobuf.dev/programming-guides/encoding
 * It walks the fields of one message; every length is checked against the message around it. */
#ifndef TL_IO_PROTOBUF_H
#define TL_IO_PROTOBUF_H

#include "base/source.h"

/* Bytes [begin, end) of the whole file `base`. */
typedef struct tl_pb_span {
    uint32_t begin, end;
} tl_pb_span;

typedef struct tl_pb {
    const char *name; /* of the file, for messages */
    const unsigned char *base;
    uint32_t position, end; /* of what is left of this message */
} tl_pb;

typedef enum tl_pb_wire {
    TL_PB_VARINT = 0,
    TL_PB_FIXED64 = 1,
    TL_PB_BYTES = 2,
    TL_PB_FIXED32 = 5
} tl_pb_wire;

typedef struct tl_pb_field {
    uint32_t number; /* 0 at the end of the message */
    tl_pb_wire wire;
    uint32_t offset; /* of the field's tag in the file */
    uint64_t value;  /* TL_PB_VARINT, and the bits of TL_PB_FIXED64 and TL_PB_FIXED32 */
    tl_pb_span span; /* TL_PB_BYTES */
} tl_pb_field;

/* The next field of the message. Errors: CORRUPT (varint over 10 bytes, field number 0, groups or
 * unknown wire types), TRUNCATED (a length or value past the message's end); texts give the offset.
 */
tl_status tl_pb_next(tl_pb *reader, tl_pb_field *field);
/* One varint of a packed field, or at the reader's position in general. */
tl_status tl_pb_varint(tl_pb *reader, uint64_t *value);
/* A reader of a nested message. */
tl_pb tl_pb_enter(const tl_pb *parent, tl_pb_span span);
/* CORRUPT unless the field has that wire type. `what` names the field. */
tl_status tl_pb_expect(const tl_pb *reader, const tl_pb_field *field, tl_pb_wire wire,
                       const char *what);

#endif
