#include "io/chunks.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32.h"
#include "image/inflate.h"
#include "io/stream.h"

enum { SUM = 4 /* bytes of a checksum */ };

void tl_chunked_free(tl_context *ctx, tl_chunked *list) {
    for (tl_chunked *next; list; list = next) {
        next = list->next;
        tl_free(ctx, list);
    }
}

uint64_t tl_chunk_limit(uint64_t chunk_bytes) {
    return chunk_bytes + chunk_bytes / 1000 + 16 + SUM;
}

/* --- filters, undone -------------------------------------------------------------------------- */

/* A chunk on its way through the filters: each reads one block and may write the other. */
typedef struct passage {
    unsigned char *block[2];
    int at; /* the block that holds the bytes */
    size_t size, capacity, element;
} passage;

static bool inflate(passage *p) {
    size_t size = 0;
    if (!tl_inflate(p->block[p->at], p->size, p->block[!p->at], p->capacity, &size)) return false;
    p->at = !p->at;
    p->size = size;
    return true;
}

/* First all elements' first bytes, then all second ones; what is no whole element follows as it
 * is. */
static bool unshuffle(passage *p) {
    const unsigned char *from = p->block[p->at];
    unsigned char *to = p->block[!p->at];
    size_t count = p->size / p->element, whole = count * p->element;
    for (size_t byte = 0; byte < p->element; byte++) {
        for (size_t i = 0; i < count; i++) to[i * p->element + byte] = *from++;
    }
    memcpy(to + whole, from, p->size - whole);
    p->at = !p->at;
    return true;
}

static uint32_t fold(uint32_t sum) {
    return (sum & 0xffff) + (sum >> 16);
}

/* Fletcher's sums of big-endian words, as H5_checksum_fletcher32() folds them. */
static uint32_t fletcher32(const unsigned char *data, size_t size) {
    enum { FITS = 360 /* words whose sums stay below 2^32 */ };
    uint32_t a = 0, b = 0;
    for (size_t words = size / 2; words > 0;) {
        size_t part = words < FITS ? words : FITS;
        words -= part;
        for (; part > 0; part--, data += 2) {
            a += (uint32_t)data[0] << 8 | data[1];
            b += a;
        }
        a = fold(a);
        b = fold(b);
    }
    if (size % 2) {
        a = fold(a + ((uint32_t)*data << 8));
        b = fold(b + a);
    }
    return fold(b) << 16 | fold(a);
}

static bool check_sum(passage *p) {
    if (p->size < SUM) return false;
    const unsigned char *data = p->block[p->at];
    p->size -= SUM;
    return fletcher32(data, p->size) == tl_le32(data + p->size);
}

static const struct {
    const char *name;
    bool (*undo)(passage *p);
} filters[] = {[TL_CHUNK_DEFLATE] = {"deflate", inflate},
               [TL_CHUNK_SHUFFLE] = {"shuffle", unshuffle},
               [TL_CHUNK_FLETCHER32] = {"fletcher32", check_sum}};

static tl_status read_chunk(const tl_source *source, const tl_chunked *array, int64_t index,
                            passage *p) {
    const tl_chunk *chunk = &array->chunk[index];
    p->at = 0;
    p->size = chunk->size;
    TL_TRY(tl_source_read(source, chunk->offset, p->block[0], p->size));
    for (int i = array->filter_count - 1; i >= 0; i--) {
        if (chunk->skip >> i & 1) continue;
        TL_CHECK(filters[array->filter[i]].undo(p), TL_CORRUPT,
                 "%s: byte %" PRIu64 ": chunk %" PRId64 " of %" PRIu32
                 " bytes fails its filter %s, expected %zu bytes of data",
                 source->name, chunk->offset, index, chunk->size, filters[array->filter[i]].name,
                 array->chunk_bytes);
    }
    TL_CHECK(p->size == array->chunk_bytes, TL_CORRUPT,
             "%s: byte %" PRIu64 ": chunk %" PRId64 " holds %zu bytes, expected %zu", source->name,
             chunk->offset, index, p->size, array->chunk_bytes);
    return TL_OK;
}

/* --- the grid --------------------------------------------------------------------------------- */

/* Copies the part of a chunk that is inside of the array, row by row. */
static void scatter(const tl_chunked *array, tl_dtype dtype, const unsigned char *data,
                    const int64_t *begin, float *out) {
    int rank = array->shape.rank, last = rank - 1;
    int64_t extent[TL_MAX_RANK], at[TL_MAX_RANK] = {0};
    for (int i = 0; i < rank; i++) {
        int64_t left = array->shape.dim[i] - begin[i], whole = array->chunk_shape.dim[i];
        extent[i] = left < whole ? left : whole;
    }
    for (int i = last; i >= 0;) {
        int64_t from = 0, to = 0;
        for (int d = 0; d < rank; d++) {
            from = from * array->chunk_shape.dim[d] + at[d];
            to = to * array->shape.dim[d] + begin[d] + at[d];
        }
        tl_convert_to_f32(dtype, data + (size_t)from * tl_dtype_size(dtype), out + to,
                          extent[last]);
        for (i = last - 1; i >= 0 && ++at[i] == extent[i]; i--) at[i] = 0;
    }
}

static tl_status read_grid(const tl_source *source, const tl_chunked *array, tl_dtype dtype,
                           passage *p, float *out) {
    int64_t begin[TL_MAX_RANK] = {0};
    for (int64_t n = 0; n < array->count; n++) {
        TL_TRY(read_chunk(source, array, n, p));
        scatter(array, dtype, p->block[p->at], begin, out);
        for (int i = array->shape.rank - 1; i >= 0; i--) {
            begin[i] += array->chunk_shape.dim[i];
            if (begin[i] < array->shape.dim[i]) break;
            begin[i] = 0;
        }
    }
    return TL_OK;
}

tl_status tl_chunks_read(const tl_source *source, const tl_chunked *array, tl_dtype dtype,
                         float *out) {
    size_t capacity = (size_t)tl_chunk_limit(array->chunk_bytes);
    unsigned char *blocks = tl_alloc_array(source->ctx, 2, capacity);
    TL_CHECK_MEMORY(blocks);
    passage p = {.block = {blocks, blocks + capacity},
                 .capacity = capacity,
                 .element = tl_dtype_size(dtype)};
    tl_status status = read_grid(source, array, dtype, &p, out);
    tl_free(source->ctx, blocks);
    return status;
}

tl_status tl_chunks_checksum(const tl_source *source, const tl_chunked *array, uint32_t *crc) {
    *crc = 0;
    for (int64_t n = 0; n < array->count; n++) {
        uint32_t own = 0;
        TL_TRY(tl_source_crc32(source, array->chunk[n].offset, array->chunk[n].size, &own));
        *crc = tl_crc32(*crc, &own, sizeof own);
    }
    return TL_OK;
}
