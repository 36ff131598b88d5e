/* Arrays that lie in a file as a grid of chunks of one shape, each perhaps filtered (compressed, or
 * with a checksum): HDF5's way of storing what can grow. */
#ifndef TL_IO_CHUNKS_H
#define TL_IO_CHUNKS_H

#include "base/source.h"
#include "tensor/tensor.h"

/* HDF5's numbers of the filters that are read: zlib's compression, bytes of the same significance
 * put together, a sum of 4 bytes at the end. */
typedef enum tl_chunk_filter {
    TL_CHUNK_DEFLATE = 1,
    TL_CHUNK_SHUFFLE = 2,
    TL_CHUNK_FLETCHER32 = 3
} tl_chunk_filter;
enum { TL_CHUNK_FILTERS = 3 /* each once */ };

typedef struct tl_chunk {
    uint64_t offset; /* in the source */
    uint32_t size;   /* as stored */
    uint32_t skip;   /* bit n: filter n was not applied */
} tl_chunk;

typedef struct tl_chunked {
    struct tl_chunked *next; /* of the same file */
    tl_shape shape, chunk_shape;
    size_t chunk_bytes; /* without filters */
    int filter_count;
    tl_chunk_filter filter[TL_CHUNK_FILTERS]; /* in the order of writing */
    int64_t count;
    tl_chunk chunk[]; /* the grid in row-major order; those at the edges are whole as well */
} tl_chunked;

/* The whole list; NULL is allowed. */
void tl_chunked_free(tl_context *ctx, tl_chunked *list);
/* Bytes that a chunk may have as stored: what filters add at most, deflate by HDF5's rule. */
uint64_t tl_chunk_limit(uint64_t chunk_bytes);
/* Reads all elements as row-major f32. Takes memory for two chunks. Errors: CORRUPT (names the
 * chunk), TRUNCATED, IO, NO_MEMORY. */
tl_status tl_chunks_read(const tl_source *source, const tl_chunked *array, tl_dtype dtype,
                         float *out);
/* A checksum of the chunks as stored. Errors: TRUNCATED, IO, NO_MEMORY. */
tl_status tl_chunks_checksum(const tl_source *source, const tl_chunked *array, uint32_t *crc);

#endif
