/* Little-endian numbers in a byte buffer of any alignment, as all our file formats store them. */
#ifndef TL_BASE_BYTES_H
#define TL_BASE_BYTES_H

#include <stdint.h>

/* Weights are copied between file and memory without swapping their bytes. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a little-endian machine is required");

static inline uint16_t tl_le16(const unsigned char *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t tl_le32(const unsigned char *p) {
    return (uint32_t)tl_le16(p) | (uint32_t)tl_le16(p + 2) << 16;
}

static inline uint64_t tl_le64(const unsigned char *p) {
    return (uint64_t)tl_le32(p) | (uint64_t)tl_le32(p + 4) << 32;
}

/* A hash of 64 bits continued by a number (the last steps of SplitMix64). */
static inline uint64_t tl_hash(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) + UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ hash >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ hash >> 27) * UINT64_C(0x94d049bb133111eb);
    return hash ^ hash >> 31;
}

#endif
