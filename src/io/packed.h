/* Files of packed weights, which are mapped and used where they lie. All numbers are little-endian.
 *
 *    0  "TLPACKED"
 *    8  u32 version of this format; u32 number of blocks
 *   16  u64 size of the file; u64 checksum of the sources of the library that wrote it
 *   32  its version, then its instruction set, each 16 bytes filled up with NULs
 *   64  for each block u64 key, u64 offset, u64 size, u32 checksum, u32 0
 *       u32 CRC-32 of all bytes so far
 *       the blocks, each at a multiple of 64
 *
 * What a key means is the writer's business. */
#ifndef TL_IO_PACKED_H
#define TL_IO_PACKED_H

#include "base/source.h"

typedef struct tl_packed {
    tl_source source;
    uint32_t count;
} tl_packed;

typedef struct tl_packed_block {
    uint64_t key;
    const void *data;
    size_t size;
} tl_packed_block;

/* Maps a file and checks all of it but the blocks. `isa` is the instruction set that it has to be
 * for. Errors: NOT_FOUND, PERMISSION, IO, INVALID_ARGUMENT (no regular file), NO_MEMORY; TRUNCATED,
 * CORRUPT; UNSUPPORTED (another version, library or instruction set). */
tl_status tl_packed_open(tl_context *ctx, const char *path, const char *isa, tl_packed *out);
/* The same from a source in memory, which is taken over, also on failure. */
tl_status tl_packed_read(tl_source *source, const char *isa, tl_packed *out);
void tl_packed_close(tl_packed *packed);
/* The block of that key and size, checked by its checksum; *data is NULL when there is none.
 * Errors: CORRUPT, NO_MEMORY. */
tl_status tl_packed_find(const tl_packed *packed, uint64_t key, size_t size, const void **data);

/* Replaces `path` atomically. Errors: LIMIT, IO, PERMISSION, NOT_FOUND, NO_MEMORY. */
tl_status tl_packed_write(tl_context *ctx, const char *path, const char *isa, int count,
                          const tl_packed_block *blocks);

#endif
