/* What the parts of the HDF5 reader share. */
#ifndef TL_IO_HDF5_PARTS_H
#define TL_IO_HDF5_PARTS_H

#include <inttypes.h>

#include "base/bytes.h"
#include "io/hdf5.h"
#include "io/stream.h"

/* An address that points nowhere. */
#define TL_HDF5_NOWHERE UINT64_MAX

/* Fails with the file's name and an address as an offset in the source. */
#define TL_HDF5_CHECK(file, condition, status, address, text, ...)                                 \
    TL_CHECK(condition, status, "%s: byte %" PRIu64 ": " text, (file)->source->name,               \
             (file)->base + (address), __VA_ARGS__)

/* Reads `count` bytes of a structure that `what` names. Errors: CORRUPT (outside the file), LIMIT
 * (the file makes us read it many times over), IO. */
tl_status tl_hdf5_read(tl_hdf5 *file, uint64_t address, void *buffer, uint64_t count,
                       const char *what);
/* The same into a new block. */
tl_status tl_hdf5_read_block(tl_hdf5 *file, uint64_t address, uint64_t count, const char *what,
                             unsigned char **out);

/* A walk over the bytes of a message: what lies past its end reads as 0 and is remembered. */
typedef struct tl_hdf5_cursor {
    const unsigned char *data;
    size_t size, at;
    uint64_t address; /* of data[0] */
    bool ended_early;
} tl_hdf5_cursor;
uint64_t tl_hdf5_take(tl_hdf5_cursor *cursor, int bytes); /* 1, 2, 4 or 8 */
void tl_hdf5_skip(tl_hdf5_cursor *cursor, uint64_t bytes);
/* A part of `size` bytes, moved over. */
tl_hdf5_cursor tl_hdf5_part(tl_hdf5_cursor *cursor, uint64_t size);
/* CORRUPT when the cursor went past the end. */
tl_status tl_hdf5_check_whole(const tl_hdf5 *file, const tl_hdf5_cursor *cursor, const char *what);

/* A structure of `size` bytes that ends with its checksum. */
tl_status tl_hdf5_check_sum(const tl_hdf5 *file, const unsigned char *data, size_t size,
                            uint64_t address, const char *what);

/* --- object headers (hdf5_header.c): section IV.A ------------------------------------------- */

/* Reads what object `index` is; a group's members are appended to the objects. */
tl_status tl_hdf5_read_object(tl_hdf5 *file, int index);

/* --- messages (hdf5_message.c): section IV.A.2 ------------------------------------------------ */

typedef struct tl_hdf5_space {
    int rank;
    uint64_t dim[32];
    uint64_t count; /* elements; UINT64_MAX when it overflows */
} tl_hdf5_space;

tl_status tl_hdf5_parse_space(const tl_hdf5 *file, tl_hdf5_cursor *cursor, tl_hdf5_space *out);
tl_status tl_hdf5_parse_type(const tl_hdf5 *file, tl_hdf5_cursor *cursor, tl_hdf5_type *out);

typedef struct tl_hdf5_layout {
    uint64_t offset, size; /* of the data in the source */
    const char *refusal;   /* NULL for data that is there */
    bool chunked;
    int rank; /* of chunks; the element's size is no dimension of theirs */
    uint32_t dim[32], element;
    uint64_t tree;
} tl_hdf5_layout;
tl_status tl_hdf5_parse_layout(const tl_hdf5 *file, tl_hdf5_cursor *cursor, tl_hdf5_layout *out);
tl_status tl_hdf5_parse_attribute(tl_hdf5 *file, tl_hdf5_cursor *cursor, int object);

/* --- data in chunks (hdf5_chunks.c): IV.A.2.l and III.A.1 ------------------------------------- */

typedef struct tl_hdf5_filters {
    int count;
    tl_chunk_filter filter[TL_CHUNK_FILTERS];
    uint32_t element;                 /* that bytes are shuffled by */
    char refusal[TL_QUOTE_TEXT + 96]; /* empty: all of them are understood */
} tl_hdf5_filters;
tl_status tl_hdf5_parse_filters(const tl_hdf5 *file, tl_hdf5_cursor *cursor, tl_hdf5_filters *out);
/* Finds all chunks of a dataset whose type and shape are set; none may be missing. */
tl_status tl_hdf5_read_chunks(tl_hdf5 *file, int object, const tl_hdf5_layout *layout,
                              const tl_hdf5_filters *filters);
/* Keeps the reason why an object's data can not be read. */
tl_status tl_hdf5_refuse(tl_hdf5 *file, int object, const char *reason);

/* --- groups (hdf5_group.c) -------------------------------------------------------------------- */

/* Each appends the members of group `object` to the file's objects. */
tl_status tl_hdf5_read_symbol_table(tl_hdf5 *file, int object, uint64_t tree, uint64_t heap);
tl_status tl_hdf5_parse_link(tl_hdf5 *file, tl_hdf5_cursor *cursor, int object);
/* Whether a link info or attribute info message says that what it is about lies elsewhere. */
bool tl_hdf5_is_dense(tl_hdf5_cursor *cursor, int index_size);

#endif
