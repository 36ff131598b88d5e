#include "io/packed.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32.h"

enum {
    FORMAT = 1,
    FIXED = 64, /* bytes before the table */
    ROW = 32,   /* of the table */
    NAME = 16,
    ALIGNMENT = 64,
    MOST_BLOCKS = 1 << 20
};

static const char magic[8] = "TLPACKED";

static uint64_t header_bytes(uint64_t count) {
    return FIXED + count * ROW + 4;
}

static uint64_t aligned(uint64_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* --- checksums of blocks ---------------------------------------------------------------------- */

enum { PIECE = 1 << 18 };

typedef struct sum_job {
    const char *data;
    size_t size;
    uint32_t *crc; /* of each piece */
} sum_job;

static void sum_task(void *arg, int64_t begin, int64_t end) {
    const sum_job *job = arg;
    for (int64_t i = begin; i < end; i++) {
        size_t at = (size_t)i * PIECE, left = job->size - at;
        job->crc[i] = tl_crc32(0, job->data + at, left < PIECE ? left : PIECE);
    }
}

/* The CRC of the pieces' CRCs, which threads can share. */
static tl_status checksum(tl_context *ctx, const void *data, size_t size, uint32_t *out) {
    size_t pieces = (size + PIECE - 1) / PIECE;
    uint32_t *crc = tl_alloc_array(ctx, pieces, sizeof *crc);
    TL_CHECK_MEMORY(crc);
    sum_job job = {data, size, crc};
    tl_parallel(ctx, (int64_t)pieces, sum_task, &job);
    *out = tl_crc32(0, crc, pieces * sizeof *crc);
    tl_free(ctx, crc);
    return TL_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

static tl_status check_text(const tl_source *source, int at, const char *what, const char *own) {
    char found[NAME + 1] = {0};
    memcpy(found, source->memory + at, NAME);
    TL_CHECK(strncmp(found, own, NAME) == 0, TL_UNSUPPORTED, "%s: is for %s %.16s, this is %s",
             source->name, what, found, own);
    return TL_OK;
}

static tl_status check_origin(const tl_source *source, const char *isa) {
    TL_TRY(check_text(source, 32, "libtl", TL_VERSION));
    TL_TRY(check_text(source, 48, "instruction set", isa));
    TL_CHECK(tl_le64(source->memory + 24) == TL_SOURCES, TL_UNSUPPORTED,
             "%s: is by another build of libtl", source->name);
    return TL_OK;
}

static const unsigned char *row_of(const tl_packed *packed, uint32_t index) {
    return packed->source.memory + FIXED + (size_t)index * ROW;
}

static tl_status check_rows(const tl_packed *packed) {
    const tl_source *source = &packed->source;
    for (uint32_t i = 0; i < packed->count; i++) {
        const unsigned char *row = row_of(packed, i);
        uint64_t offset = tl_le64(row + 8), size = tl_le64(row + 16);
        TL_CHECK(offset % ALIGNMENT == 0 && offset >= header_bytes(packed->count) &&
                     offset <= source->size && size <= source->size - offset,
                 TL_CORRUPT,
                 "%s: block %u is %" PRIu64 " bytes at offset %" PRIu64
                 ", but the file has %" PRIu64,
                 source->name, i, size, offset, source->size);
    }
    return TL_OK;
}

static tl_status check_header(tl_packed *packed, const char *isa) {
    const tl_source *source = &packed->source;
    const unsigned char *header = source->memory;
    TL_CHECK(source->size >= header_bytes(0), TL_TRUNCATED,
             "%s: has %" PRIu64 " bytes, packed weights have %" PRIu64 " or more", source->name,
             source->size, header_bytes(0));
    TL_CHECK(memcmp(header, magic, sizeof magic) == 0, TL_CORRUPT,
             "%s: byte 0: is no file of packed weights", source->name);
    TL_CHECK(tl_le32(header + 8) == FORMAT, TL_UNSUPPORTED, "%s: format %u, expected %d",
             source->name, tl_le32(header + 8), FORMAT);
    uint64_t size = tl_le64(header + 16), count = tl_le32(header + 12);
    TL_CHECK(size == source->size && count <= MOST_BLOCKS && header_bytes(count) <= size,
             TL_TRUNCATED, "%s: has %" PRIu64 " bytes, expected %" PRIu64 " and %" PRIu64 " blocks",
             source->name, source->size, size, count);
    size_t summed = (size_t)header_bytes(count) - 4;
    TL_CHECK(tl_crc32(0, header, summed) == tl_le32(header + summed), TL_CORRUPT,
             "%s: the header's checksum is wrong", source->name);
    packed->count = (uint32_t)count;
    TL_TRY(check_origin(source, isa));
    return check_rows(packed);
}

tl_status tl_packed_read(tl_source *source, const char *isa, tl_packed *out) {
    *out = (tl_packed){.source = *source};
    *source = (tl_source){.fd = -1};
    tl_status status = check_header(out, isa);
    if (status != TL_OK) tl_packed_close(out);
    return status;
}

tl_status tl_packed_open(tl_context *ctx, const char *path, const char *isa, tl_packed *out) {
    tl_source source;
    *out = (tl_packed){.source.fd = -1};
    TL_TRY(tl_source_open(ctx, path, &source));
    tl_status status =
        source.size ? tl_source_map(&source) : tl_fail(TL_TRUNCATED, "%s: is empty", path);
    if (status == TL_OK) return tl_packed_read(&source, isa, out);
    tl_source_close(&source);
    return status;
}

void tl_packed_close(tl_packed *packed) {
    tl_source_close(&packed->source);
    packed->count = 0;
}

tl_status tl_packed_find(const tl_packed *packed, uint64_t key, size_t size, const void **data) {
    *data = NULL;
    uint32_t i = 0;
    while (i < packed->count &&
           (tl_le64(row_of(packed, i)) != key || tl_le64(row_of(packed, i) + 16) != size))
        i++;
    if (i == packed->count) return TL_OK;
    uint32_t crc = 0;
    uint64_t offset = tl_le64(row_of(packed, i) + 8);
    const unsigned char *block = packed->source.memory + offset;
    TL_TRY(checksum(packed->source.ctx, block, size, &crc));
    TL_CHECK(crc == tl_le32(row_of(packed, i) + 24), TL_CORRUPT,
             "%s: the %zu bytes at offset %" PRIu64 " have checksum %08x, expected %08x",
             packed->source.name, size, offset, (unsigned)crc,
             (unsigned)tl_le32(row_of(packed, i) + 24));
    *data = block;
    return TL_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void put(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> (8 * i));
}

static tl_status fill_rows(tl_context *ctx, int count, const tl_packed_block *blocks,
                           unsigned char *header) {
    uint64_t offset = aligned(header_bytes((uint64_t)count));
    for (int i = 0; i < count; i++) {
        unsigned char *row = header + FIXED + (size_t)i * ROW;
        uint32_t crc = 0;
        TL_TRY(checksum(ctx, blocks[i].data, blocks[i].size, &crc));
        put(row, blocks[i].key, 8);
        put(row + 8, offset, 8);
        put(row + 16, blocks[i].size, 8);
        put(row + 24, crc, 4);
        offset += aligned(blocks[i].size);
    }
    put(header + 16, offset, 8);
    return TL_OK;
}

static tl_status fill_header(tl_context *ctx, const char *isa, int count,
                             const tl_packed_block *blocks, unsigned char *header) {
    memcpy(header, magic, sizeof magic);
    put(header + 8, FORMAT, 4);
    put(header + 12, (uint64_t)count, 4);
    put(header + 24, TL_SOURCES, 8);
    memcpy(header + 32, TL_VERSION, strnlen(TL_VERSION, NAME));
    memcpy(header + 48, isa, strnlen(isa, NAME));
    TL_TRY(fill_rows(ctx, count, blocks, header));
    size_t summed = (size_t)header_bytes((uint64_t)count) - 4;
    put(header + summed, tl_crc32(0, header, summed), 4);
    return TL_OK;
}

static tl_status write_blocks(tl_writer *writer, int count, const tl_packed_block *blocks) {
    static const char zeros[ALIGNMENT];
    for (int i = 0; i < count; i++) {
        TL_TRY(tl_writer_write(writer, blocks[i].data, blocks[i].size));
        TL_TRY(tl_writer_write(writer, zeros, (size_t)aligned(blocks[i].size) - blocks[i].size));
    }
    return TL_OK;
}

tl_status tl_packed_write(tl_context *ctx, const char *path, const char *isa, int count,
                          const tl_packed_block *blocks) {
    TL_CHECK(count <= MOST_BLOCKS, TL_LIMIT, "%s: %d blocks, at most %d", path, count, MOST_BLOCKS);
    size_t size = (size_t)aligned(header_bytes((uint64_t)count));
    unsigned char *header = tl_alloc_zero(ctx, size);
    TL_CHECK_MEMORY(header);
    tl_writer writer = {.fd = -1};
    tl_status status = fill_header(ctx, isa, count, blocks, header);
    if (status == TL_OK) status = tl_writer_open(ctx, path, &writer);
    if (status == TL_OK) status = tl_writer_write(&writer, header, size);
    if (status == TL_OK) status = write_blocks(&writer, count, blocks);
    if (status == TL_OK)
        status = tl_writer_commit(&writer);
    else
        tl_writer_abandon(&writer);
    tl_free(ctx, header);
    return status;
}
