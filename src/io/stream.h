/* Passing over a stretch of a source piece by piece, checksums, and safe texts for messages. */
#ifndef TL_IO_STREAM_H
#define TL_IO_STREAM_H

#include <stdbool.h>

#include "base/source.h"

/* Hands `count` bytes at `offset` to `visit` in pieces, in order. Every piece but the last is a
 * multiple of 64 bytes. Errors: as tl_source_read(), NO_MEMORY. */
typedef void (*tl_visit_fn)(void *arg, const unsigned char *data, size_t size);
tl_status tl_source_visit(const tl_source *source, uint64_t offset, uint64_t count,
                          tl_visit_fn visit, void *arg);

/* CRC-32 of a stretch of a source. */
tl_status tl_source_crc32(const tl_source *source, uint64_t offset, uint64_t count, uint32_t *crc);

/* Text of a hostile file for use in a message: cut to a readable length, with bytes other than
 * printable ASCII written as \xNN. Returns `buffer`. */
enum { TL_QUOTE_TEXT = 96 };
const char *tl_quote(const char *text, size_t length, char buffer[TL_QUOTE_TEXT]);

/* Well-formed UTF-8 without NUL (RFC 3629: no surrogates, no overlong forms). */
bool tl_utf8_valid(const char *text, size_t length);

#endif
