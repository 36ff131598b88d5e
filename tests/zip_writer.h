/* Writes ZIP archives, also bad ones, for tests of their readers. Include "hostile.h" first. */
#ifndef TL_TESTS_ZIP_WRITER_H
#define TL_TESTS_ZIP_WRITER_H

#include "base/crc32.h"

typedef struct zip_part {
    const char *name;
    const void *data;
    size_t size;
    /* what is wrong with it; 0 = nothing */
    const char *local_name;
    unsigned method, flags, wrong_crc, wrong_local_crc;
    uint64_t declared; /* size instead of the true one */
    int64_t shift;     /* added to the directory's offset of it */
} zip_part;

typedef struct zip_options {
    bool zip64;     /* all fields saturated, values in ZIP64 records */
    int count_more; /* added to the end record's count */
    bool no_end;
} zip_options;

static inline void put_zip64_extra(bytes *b, uint64_t size, const uint64_t *offset) {
    put_number(b, 1, 2);
    put_number(b, offset ? 24 : 16, 2);
    put_number(b, size, 8);
    put_number(b, size, 8);
    if (offset) put_number(b, *offset, 8);
}

/* A local header (`offset` NULL) or a directory entry. */
static inline void put_zip_header(bytes *b, const zip_part *part, bool zip64,
                                  const uint64_t *offset) {
    const char *name = !offset && part->local_name ? part->local_name : part->name;
    uint64_t size = part->declared ? part->declared : part->size;
    uint32_t crc = tl_crc32(0, part->data, part->size) ^ part->wrong_crc;
    if (!offset) crc ^= part->wrong_local_crc;
    put_text(b, offset ? "PK\x01\x02" : "PK\x03\x04");
    if (offset) put_number(b, 45, 2);
    put_number(b, 45, 2);
    put_number(b, part->flags, 2);
    put_number(b, part->method, 2);
    put_number(b, 0, 4);
    put_number(b, crc, 4);
    put_number(b, zip64 ? UINT32_MAX : size, 4);
    put_number(b, zip64 ? UINT32_MAX : size, 4);
    put_number(b, strlen(name), 2);
    put_number(b, zip64 ? (offset ? 28 : 20) : 0, 2);
    if (offset) {
        put_number(b, 0, 8);
        put_number(b, 0, 2);
        put_number(b, zip64 ? UINT32_MAX : *offset, 4);
    }
    put_text(b, name);
    if (zip64) put_zip64_extra(b, size, offset);
}

static inline void put_zip_end(bytes *b, uint64_t directory, uint64_t count, bool zip64) {
    uint64_t end = b->size, size = end - directory;
    if (zip64) {
        put_text(b, "PK\x06\x06");
        put_number(b, 44, 8);
        put_number(b, 45, 2);
        put_number(b, 45, 2);
        put_number(b, 0, 8);
        put_number(b, count, 8);
        put_number(b, count, 8);
        put_number(b, size, 8);
        put_number(b, directory, 8);
        put_text(b, "PK\x06\x07");
        put_number(b, 0, 4);
        put_number(b, end, 8);
        put_number(b, 1, 4);
    }
    put_text(b, "PK\x05\x06");
    put_number(b, 0, 4);
    put_number(b, zip64 ? UINT16_MAX : count, 2);
    put_number(b, zip64 ? UINT16_MAX : count, 2);
    put_number(b, zip64 ? UINT32_MAX : size, 4);
    put_number(b, zip64 ? UINT32_MAX : directory, 4);
    put_number(b, 0, 2);
}

static inline void put_zip(bytes *b, const zip_part *parts, int count, zip_options options) {
    uint64_t offsets[8];
    for (int i = 0; i < count; i++) {
        offsets[i] = b->size;
        put_zip_header(b, &parts[i], options.zip64, NULL);
        put(b, parts[i].data, parts[i].size);
    }
    uint64_t directory = b->size;
    for (int i = 0; i < count; i++) {
        offsets[i] += (uint64_t)parts[i].shift;
        put_zip_header(b, &parts[i], options.zip64, &offsets[i]);
    }
    if (options.no_end) return;
    put_zip_end(b, directory, (uint64_t)(count + options.count_more), options.zip64);
}

#endif
