/* Data in chunks: filter pipelines (section IV.A.2.l) and the B-tree of chunks (III.A.1). */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "io/hdf5_parts.h"

enum { MAX_LEVEL = 16 };

tl_status tl_hdf5_refuse(tl_hdf5 *file, int object, const char *reason) {
    return tl_hdf5_keep_text(file, reason, strlen(reason), &file->object[object].refusal);
}

/* --- filters ---------------------------------------------------------------------------------- */

typedef struct filter_entry {
    unsigned id;
    tl_hdf5_cursor name;
    uint64_t value_count;
    uint32_t value; /* the first */
} filter_entry;

/* In version 2 the well-known filters have no name, and nothing is padded. */
static filter_entry take_filter(tl_hdf5_cursor *c, unsigned version) {
    enum { NAMED = 256 };
    filter_entry f = {.id = (unsigned)tl_hdf5_take(c, 2)};
    uint64_t name_size = version == 1 || f.id >= NAMED ? tl_hdf5_take(c, 2) : 0;
    tl_hdf5_skip(c, 2);
    f.value_count = tl_hdf5_take(c, 2);
    f.name = tl_hdf5_part(c, name_size);
    if (version == 1 && name_size % 8) tl_hdf5_skip(c, 8 - name_size % 8);
    tl_hdf5_cursor values = tl_hdf5_part(c, 4 * f.value_count);
    if (version == 1 && f.value_count % 2) tl_hdf5_skip(c, 4);
    if (f.value_count > 0) f.value = (uint32_t)tl_hdf5_take(&values, 4);
    return f;
}

static bool has_filter(const tl_hdf5_filters *filters, unsigned id) {
    for (int i = 0; i < filters->count; i++) {
        if (filters->filter[i] == id) return true;
    }
    return false;
}

static void refuse_filter(tl_hdf5_filters *out, const filter_entry *f) {
    char name[TL_QUOTE_TEXT];
    const char *text = (const char *)f->name.data;
    snprintf(out->refusal, sizeof out->refusal,
             "its filter %u (\"%s\") is none of deflate, shuffle and fletcher32", f->id,
             tl_quote(text, f->name.size ? strnlen(text, f->name.size) : 0, name));
}

tl_status tl_hdf5_parse_filters(const tl_hdf5 *file, tl_hdf5_cursor *c, tl_hdf5_filters *out) {
    unsigned version = (unsigned)tl_hdf5_take(c, 1), count = (unsigned)tl_hdf5_take(c, 1);
    if (version == 1) tl_hdf5_skip(c, 6);
    TL_TRY(tl_hdf5_check_whole(file, c, "filter list"));
    TL_HDF5_CHECK(file, version == 1 || version == 2, TL_UNSUPPORTED, c->address,
                  "filter list version %u, expected 1 or 2", version);
    *out = (tl_hdf5_filters){0};
    for (unsigned i = 0; i < count; i++) {
        filter_entry f = take_filter(c, version);
        TL_TRY(tl_hdf5_check_whole(file, c, "filter list"));
        TL_HDF5_CHECK(file, !has_filter(out, f.id), TL_CORRUPT, c->address,
                      "filter %u is applied twice", f.id);
        if (f.id < TL_CHUNK_DEFLATE || f.id > TL_CHUNK_FLETCHER32) {
            refuse_filter(out, &f);
            return TL_OK;
        }
        if (f.id == TL_CHUNK_SHUFFLE) out->element = f.value_count ? f.value : 0;
        out->filter[out->count++] = (tl_chunk_filter)f.id;
    }
    return TL_OK;
}

/* --- the B-tree ------------------------------------------------------------------------------- */

typedef struct chunk_reader {
    tl_hdf5 *file;
    tl_chunked *array;
    int64_t found;
} chunk_reader;

/* Where a chunk belongs in the grid; -1 when its corner is none of a chunk. The last of its
 * coordinates is within an element. */
static int64_t grid_index(const tl_chunked *array, tl_hdf5_cursor *key) {
    int64_t index = 0;
    for (int i = 0; i < array->shape.rank; i++) {
        uint64_t corner = tl_hdf5_take(key, 8), step = (uint64_t)array->chunk_shape.dim[i];
        uint64_t size = (uint64_t)array->shape.dim[i];
        if (corner >= size || corner % step != 0) return -1;
        index = index * (int64_t)((size - 1) / step + 1) + (int64_t)(corner / step);
    }
    return tl_hdf5_take(key, 8) == 0 ? index : -1;
}

static tl_status add_chunk(chunk_reader *r, tl_hdf5_cursor *c) {
    tl_hdf5 *file = r->file;
    tl_chunk chunk = {.size = (uint32_t)tl_hdf5_take(c, 4), .skip = (uint32_t)tl_hdf5_take(c, 4)};
    int64_t index = grid_index(r->array, c);
    uint64_t address = tl_hdf5_take(c, 8), limit = tl_chunk_limit(r->array->chunk_bytes);
    TL_HDF5_CHECK(file, index >= 0 && r->array->chunk[index].size == 0, TL_CORRUPT, c->address,
                  "a chunk that is %s", index < 0 ? "no part of its dataset" : "there twice");
    TL_HDF5_CHECK(file, chunk.size > 0 && chunk.size <= limit, TL_CORRUPT, c->address,
                  "a chunk of %" PRIu32 " bytes, expected 1 to %" PRIu64, chunk.size, limit);
    TL_HDF5_CHECK(file, address <= file->size && chunk.size <= file->size - address, TL_CORRUPT,
                  c->address,
                  "a chunk of %" PRIu32 " bytes at %" PRIu64 ", but the file has %" PRIu64,
                  chunk.size, address, file->size);
    /* Else a small file could have us read the same bytes any number of times. */
    file->chunk_stored += chunk.size;
    TL_HDF5_CHECK(file, file->chunk_stored <= file->size, TL_CORRUPT, c->address,
                  "chunks of %" PRIu64 " bytes together, but the file has %" PRIu64,
                  file->chunk_stored, file->size);
    chunk.offset = file->base + address;
    r->array->chunk[index] = chunk;
    r->found++;
    return TL_OK;
}

static tl_status read_node(chunk_reader *r, uint64_t address, int level);

/* A node's keys and children: each child has a key before it, and one more ends the node. */
static tl_status read_children(chunk_reader *r, tl_hdf5_cursor *c, size_t entry, int level) {
    while (c->size - c->at >= entry) {
        tl_hdf5_cursor child = tl_hdf5_part(c, entry);
        if (level == 0) {
            TL_TRY(add_chunk(r, &child));
        } else {
            tl_hdf5_skip(&child, entry - 8);
            TL_TRY(read_node(r, tl_hdf5_take(&child, 8), level - 1));
        }
    }
    return TL_OK;
}

/* `level` is that of the parent less one, or -1 for the root. */
static tl_status read_node(chunk_reader *r, uint64_t address, int level) {
    enum { HEAD = 24 };
    tl_hdf5 *file = r->file;
    unsigned char b[HEAD], *block = NULL;
    TL_TRY(tl_hdf5_read(file, address, b, sizeof b, "B-tree node"));
    TL_HDF5_CHECK(file, memcmp(b, "TREE", 4) == 0 && b[4] == 1, TL_CORRUPT, address, "%s",
                  "no B-tree node of chunks");
    TL_HDF5_CHECK(file, level < 0 ? b[5] <= MAX_LEVEL : b[5] == level, TL_CORRUPT, address,
                  "B-tree node of level %u, expected %s%d", b[5], level < 0 ? "at most " : "",
                  level < 0 ? MAX_LEVEL : level);
    size_t entry = 8 + 8 * ((size_t)r->array->shape.rank + 1) + 8;
    size_t size = tl_le16(b + 6) * entry;
    TL_TRY(tl_hdf5_read_block(file, address + HEAD, size, "B-tree node's children", &block));
    tl_hdf5_cursor children = {.data = block, .size = size, .address = address + HEAD};
    tl_status status = read_children(r, &children, entry, b[5]);
    tl_free(file->ctx, block);
    return status;
}

/* --- datasets --------------------------------------------------------------------------------- */

/* The bytes of a chunk and of all elements, both within what the file may cost. */
static tl_status check_sizes(tl_hdf5 *file, const tl_hdf5_object *object,
                             const tl_hdf5_layout *layout, uint64_t *chunk_bytes, uint64_t *count) {
    /* Deflate shrinks a thousandfold what is all the same; trained weights shrink by a tenth. */
    enum { FREE_DATA = 16 * 1024 * 1024, SHRINKS = 16 };
    uint64_t elements = 1, bytes = 0;
    bool overflow = false;
    *chunk_bytes = layout->element;
    *count = 1;
    for (int i = 0; i < layout->rank; i++) {
        uint64_t size = (uint64_t)object->shape.dim[i], step = layout->dim[i];
        TL_HDF5_CHECK(file, step > 0, TL_CORRUPT, object->address, "chunks of extent 0 in %d", i);
        overflow |= __builtin_mul_overflow(*chunk_bytes, step, chunk_bytes) ||
                    __builtin_mul_overflow(elements, size, &elements) || size > INT64_MAX;
        if (size > 0) *count *= (size - 1) / step + 1; /* at most `elements` */
    }
    overflow |= __builtin_mul_overflow(elements, layout->element, &bytes);
    if (elements == 0) *count = 0;
    TL_HDF5_CHECK(file, !overflow && *chunk_bytes <= INT_MAX / 2, TL_LIMIT, object->address,
                  "chunks of %" PRIu64 " bytes, at most %d are allowed", *chunk_bytes, INT_MAX / 2);
    uint64_t limit = FREE_DATA + SHRINKS * file->size;
    TL_HDF5_CHECK(file, bytes <= limit - file->chunk_data, TL_LIMIT, object->address,
                  "over %" PRIu64 " bytes of data in chunks, too many for a file of %" PRIu64,
                  limit, file->size);
    file->chunk_data += bytes;
    return TL_OK;
}

/* Reading takes two blocks, which are counted once, for the largest chunk. */
static tl_status charge_chunk(tl_hdf5 *file, uint64_t chunk_bytes) {
    uint64_t needed = 2 * tl_chunk_limit(chunk_bytes);
    if (needed <= file->chunk_memory) return TL_OK;
    TL_TRY(tl_hdf5_charge(file, needed - file->chunk_memory));
    file->chunk_memory = needed;
    return TL_OK;
}

static tl_status make_array(tl_hdf5 *file, const tl_hdf5_object *object,
                            const tl_hdf5_layout *layout, const tl_hdf5_filters *filters,
                            tl_chunked **out) {
    enum { ENTRY = 32 /* bytes, the least that a chunk takes of a B-tree */ };
    uint64_t chunk_bytes = 0, count = 0;
    TL_TRY(check_sizes(file, object, layout, &chunk_bytes, &count));
    TL_TRY(charge_chunk(file, chunk_bytes));
    TL_HDF5_CHECK(file, count <= file->size / ENTRY, TL_CORRUPT, object->address,
                  "%" PRIu64 " chunks, too many for a file of %" PRIu64, count, file->size);
    size_t size = sizeof(tl_chunked) + (size_t)count * sizeof(tl_chunk);
    TL_TRY(tl_hdf5_charge(file, size));
    tl_chunked *array = tl_alloc_zero(file->ctx, size);
    TL_CHECK_MEMORY(array);
    *array = (tl_chunked){.next = file->chunked,
                          .shape = object->shape,
                          .chunk_shape = {.rank = layout->rank},
                          .chunk_bytes = (size_t)chunk_bytes,
                          .filter_count = filters->count,
                          .count = (int64_t)count};
    memcpy(array->filter, filters->filter, sizeof array->filter);
    for (int i = 0; i < layout->rank; i++) array->chunk_shape.dim[i] = layout->dim[i];
    file->chunked = array;
    *out = array;
    return TL_OK;
}

tl_status tl_hdf5_read_chunks(tl_hdf5 *file, int index, const tl_hdf5_layout *layout,
                              const tl_hdf5_filters *filters) {
    tl_hdf5_object *object = &file->object[index];
    TL_HDF5_CHECK(file, layout->rank == object->shape.rank && layout->element == object->type.size,
                  TL_CORRUPT, object->address,
                  "chunks of rank %d and elements of %" PRIu32
                  " bytes in a dataset of %d and %" PRIu32,
                  layout->rank, layout->element, object->shape.rank, object->type.size);
    TL_HDF5_CHECK(
        file, !has_filter(filters, TL_CHUNK_SHUFFLE) || filters->element == layout->element,
        TL_CORRUPT, object->address, "elements of %" PRIu32 " bytes are shuffled as of %" PRIu32,
        layout->element, filters->element);
    chunk_reader reader = {.file = file};
    TL_TRY(make_array(file, object, layout, filters, &reader.array));
    bool written = layout->tree != TL_HDF5_NOWHERE;
    if (reader.array->count > 0 && written) TL_TRY(read_node(&reader, layout->tree, -1));
    if (reader.found < reader.array->count)
        return tl_hdf5_refuse(file, index, "some of its data was never written");
    object->chunked = reader.array;
    return TL_OK;
}
