/* zlib streams (RFC 1950 and 1951), for those who have one: stb_image brings the decoder. */
#ifndef TL_IMAGE_INFLATE_H
#define TL_IMAGE_INFLATE_H

#include <stdbool.h>
#include <stddef.h>

/* Inflates `size` bytes, a whole stream, to at most `capacity` bytes at `out`, and checks its
 * checksum; both are below 2^31. *written is what came out. False when the stream is damaged or
 * holds more. Takes no memory. */
bool tl_inflate(const unsigned char *data, size_t size, unsigned char *out, size_t capacity,
                size_t *written);

#endif
