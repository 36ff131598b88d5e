/* Members of groups: symbol tables (sections III.A.1, III.B, III.D) and link messages. */
#include <string.h>

#include "io/hdf5_parts.h"

enum { MAX_LEVEL = 16, MAX_NAME = 1000 };

static tl_status add_member(tl_hdf5 *file, int group, const char *name, size_t length,
                            uint64_t address, uint64_t where) {
    char quoted[TL_QUOTE_TEXT];
    tl_quote(name, length, quoted);
    TL_HDF5_CHECK(file,
                  length > 0 && length <= MAX_NAME && !memchr(name, '/', length) &&
                      tl_utf8_valid(name, length),
                  TL_CORRUPT, where, "link name \"%s\" is empty, too long or no UTF-8", quoted);
    TL_HDF5_CHECK(file, address < file->size, TL_CORRUPT, where,
                  "\"%s\" lies at %" PRIu64 ", but the file has %" PRIu64 " bytes", quoted, address,
                  file->size);
    tl_hdf5_object object = {
        .parent = group, .depth = file->object[group].depth + 1, .address = address};
    TL_TRY(tl_hdf5_keep_text(file, name, length, &object.name));
    TL_TRY(tl_hdf5_grow(file, (void **)&file->object, &file->object_capacity, file->object_count,
                        sizeof object));
    file->object[file->object_count++] = object;
    return TL_OK;
}

static tl_status refuse_link(const tl_hdf5 *file, const char *kind, const char *name, size_t length,
                             uint64_t where) {
    char quoted[TL_QUOTE_TEXT];
    return tl_fail(TL_UNSAFE, "%s: byte %" PRIu64 ": \"%s\" is %s, which is not followed",
                   file->source->name, file->base + where, tl_quote(name, length, quoted), kind);
}

/* --- symbol tables ---------------------------------------------------------------------------- */

/* A local heap's data: the names. */
typedef struct name_heap {
    char *data;
    size_t size;
} name_heap;

static tl_status read_heap(tl_hdf5 *file, uint64_t address, name_heap *heap) {
    unsigned char b[32];
    TL_TRY(tl_hdf5_read(file, address, b, sizeof b, "local heap"));
    TL_HDF5_CHECK(file, memcmp(b, "HEAP", 4) == 0 && b[4] == 0, TL_CORRUPT, address, "%s",
                  "no local heap of version 0");
    uint64_t size = tl_le64(b + 8);
    TL_TRY(tl_hdf5_read_block(file, tl_le64(b + 24), size, "local heap's data",
                              (unsigned char **)&heap->data));
    heap->size = (size_t)size;
    return TL_OK;
}

static tl_status read_symbols(tl_hdf5 *file, int group, const name_heap *heap, uint64_t address) {
    enum { ENTRY_SIZE = 40, CACHED_SOFT_LINK = 2 };
    unsigned char b[ENTRY_SIZE];
    TL_TRY(tl_hdf5_read(file, address, b, 8, "symbol table node"));
    TL_HDF5_CHECK(file, memcmp(b, "SNOD", 4) == 0 && b[4] == 1, TL_CORRUPT, address, "%s",
                  "no symbol table node of version 1");
    unsigned count = tl_le16(b + 6);
    for (unsigned i = 0; i < count; i++) {
        uint64_t where = address + 8 + (uint64_t)i * ENTRY_SIZE;
        TL_TRY(tl_hdf5_read(file, where, b, sizeof b, "symbol table entry"));
        uint64_t at = tl_le64(b);
        TL_HDF5_CHECK(file, at < heap->size, TL_CORRUPT, where,
                      "link name at %" PRIu64 " of a heap of %zu bytes", at, heap->size);
        const char *name = heap->data + at;
        size_t length = strnlen(name, heap->size - (size_t)at);
        TL_HDF5_CHECK(file, at + length < heap->size, TL_CORRUPT, where, "%s",
                      "link name without an end");
        if (tl_le32(b + 16) == CACHED_SOFT_LINK) {
            return refuse_link(file, "a soft link", name, length, where);
        }
        TL_TRY(add_member(file, group, name, length, tl_le64(b + 8), where));
    }
    return TL_OK;
}

static tl_status read_tree_node(tl_hdf5 *file, int group, const name_heap *heap, uint64_t address,
                                unsigned level) {
    unsigned char b[24];
    TL_TRY(tl_hdf5_read(file, address, b, sizeof b, "B-tree node"));
    TL_HDF5_CHECK(file, memcmp(b, "TREE", 4) == 0 && b[4] == 0, TL_CORRUPT, address, "%s",
                  "no B-tree node of a group");
    TL_HDF5_CHECK(file, b[5] == level, TL_CORRUPT, address, "B-tree node of level %u, expected %u",
                  b[5], level);
    unsigned count = tl_le16(b + 6);
    for (unsigned i = 0; i < count; i++) {
        /* A key goes before each child. */
        TL_TRY(tl_hdf5_read(file, address + sizeof b + 16 * (uint64_t)i, b, 16, "B-tree node"));
        uint64_t child = tl_le64(b + 8);
        TL_TRY(level == 0 ? read_symbols(file, group, heap, child)
                          : read_tree_node(file, group, heap, child, level - 1));
    }
    return TL_OK;
}

tl_status tl_hdf5_read_symbol_table(tl_hdf5 *file, int object, uint64_t tree, uint64_t heap_at) {
    unsigned char b[6];
    TL_TRY(tl_hdf5_read(file, tree, b, sizeof b, "B-tree node"));
    TL_HDF5_CHECK(file, b[5] <= MAX_LEVEL, TL_CORRUPT, tree, "B-tree of %u levels, at most %d",
                  b[5], MAX_LEVEL);
    name_heap heap = {0};
    TL_TRY(read_heap(file, heap_at, &heap));
    tl_status status = read_tree_node(file, object, &heap, tree, b[5]);
    tl_free(file->ctx, heap.data);
    return status;
}

/* --- link messages: IV.A.2.g ------------------------------------------------------------------ */

tl_status tl_hdf5_parse_link(tl_hdf5 *file, tl_hdf5_cursor *c, int object) {
    enum { HAS_ORDER = 0x04, HAS_KIND = 0x08, HAS_CHARSET = 0x10, HARD = 0, SOFT = 1 };
    unsigned version = (unsigned)tl_hdf5_take(c, 1), flags = (unsigned)tl_hdf5_take(c, 1);
    unsigned kind = flags & HAS_KIND ? (unsigned)tl_hdf5_take(c, 1) : HARD;
    if (flags & HAS_ORDER) tl_hdf5_skip(c, 8);
    if (flags & HAS_CHARSET) tl_hdf5_skip(c, 1);
    tl_hdf5_cursor name = tl_hdf5_part(c, tl_hdf5_take(c, 1 << (flags & 3)));
    TL_TRY(tl_hdf5_check_whole(file, c, "link"));
    TL_HDF5_CHECK(file, version == 1, TL_UNSUPPORTED, c->address, "link version %u, expected 1",
                  version);
    const char *text = (const char *)name.data;
    if (kind != HARD) {
        return refuse_link(file, kind == SOFT ? "a soft link" : "a link into another file", text,
                           name.size, c->address);
    }
    uint64_t address = tl_hdf5_take(c, 8);
    TL_TRY(tl_hdf5_check_whole(file, c, "link"));
    return add_member(file, object, text, name.size, address, c->address);
}

/* Link info IV.A.2.c and attribute info IV.A.2.v are alike: a creation index if flag 0 is set,
 * then the fractal heap's address. */
bool tl_hdf5_is_dense(tl_hdf5_cursor *c, int index_size) {
    tl_hdf5_skip(c, 1);
    if (tl_hdf5_take(c, 1) & 1) tl_hdf5_skip(c, (uint64_t)index_size);
    return tl_hdf5_take(c, 8) != TL_HDF5_NOWHERE;
}
