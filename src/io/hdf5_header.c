/* Object headers: section IV.A of the specification. */
#include <string.h>

#include "io/hdf5_parts.h"

enum { MAX_BLOCKS = 256 /* of one object header */ };

/* Message types, section IV.A.2. */
enum {
    MESSAGE_SPACE = 0x01,
    MESSAGE_LINK_INFO = 0x02,
    MESSAGE_TYPE = 0x03,
    MESSAGE_LINK = 0x06,
    MESSAGE_EXTERNAL = 0x07,
    MESSAGE_LAYOUT = 0x08,
    MESSAGE_FILTERS = 0x0b,
    MESSAGE_ATTRIBUTE = 0x0c,
    MESSAGE_CONTINUATION = 0x10,
    MESSAGE_SYMBOL_TABLE = 0x11,
    MESSAGE_ATTRIBUTE_INFO = 0x15,
    FLAG_SHARED = 0x02,
    FLAG_MUST_KNOW = 0x80
};

/* --- object headers: section IV.A ------------------------------------------------------------- */

typedef struct header_reader {
    tl_hdf5 *file;
    int object;
    bool version2, creation_order;
    uint64_t left; /* messages, of version 1 */
    int block_count;
    struct {
        uint64_t address, size;
    } block[MAX_BLOCKS];
    /* What makes it a dataset. */
    bool has_space, has_type, has_layout, has_filters;
    tl_hdf5_space space;
    tl_hdf5_layout layout;
    tl_hdf5_filters filters;
} header_reader;

static tl_status add_block(header_reader *r, uint64_t address, uint64_t size) {
    TL_HDF5_CHECK(r->file, r->block_count < MAX_BLOCKS, TL_LIMIT, address,
                  "an object header of over %d blocks", MAX_BLOCKS);
    for (int i = 0; i < r->block_count; i++) {
        TL_HDF5_CHECK(r->file, r->block[i].address != address, TL_CORRUPT, address, "%s",
                      "object header continues where it has been before");
    }
    r->block[r->block_count].address = address;
    r->block[r->block_count++].size = size;
    return TL_OK;
}

static tl_status become(header_reader *r, tl_hdf5_kind kind, uint64_t address) {
    tl_hdf5_object *object = &r->file->object[r->object];
    TL_HDF5_CHECK(r->file, object->kind == TL_HDF5_UNKNOWN || object->kind == kind, TL_CORRUPT,
                  address, "%s", "object is a group and a dataset at once");
    object->kind = kind;
    return TL_OK;
}

static tl_status read_group_message(header_reader *r, unsigned type, tl_hdf5_cursor *c) {
    TL_TRY(become(r, TL_HDF5_GROUP, c->address));
    if (type == MESSAGE_LINK) return tl_hdf5_parse_link(r->file, c, r->object);
    if (type == MESSAGE_SYMBOL_TABLE) {
        uint64_t tree = tl_hdf5_take(c, 8), heap = tl_hdf5_take(c, 8);
        TL_TRY(tl_hdf5_check_whole(r->file, c, "symbol table message"));
        return tl_hdf5_read_symbol_table(r->file, r->object, tree, heap);
    }
    bool dense = tl_hdf5_is_dense(c, 8);
    TL_TRY(tl_hdf5_check_whole(r->file, c, "link info message"));
    TL_HDF5_CHECK(r->file, !dense, TL_UNSUPPORTED, c->address,
                  "group \"%s\" keeps its links in a fractal heap (libver=\"latest\")",
                  tl_hdf5_name(r->file, r->object));
    return TL_OK;
}

static tl_status read_dataset_message(header_reader *r, unsigned type, tl_hdf5_cursor *c) {
    tl_hdf5 *file = r->file;
    if (type == MESSAGE_SPACE) {
        TL_HDF5_CHECK(file, !r->has_space, TL_CORRUPT, c->address, "%s", "a second dataspace");
        r->has_space = true;
        return tl_hdf5_parse_space(file, c, &r->space);
    }
    if (type == MESSAGE_TYPE) {
        TL_HDF5_CHECK(file, !r->has_type, TL_CORRUPT, c->address, "%s", "a second datatype");
        r->has_type = true;
        return tl_hdf5_parse_type(file, c, &file->object[r->object].type);
    }
    if (type == MESSAGE_FILTERS) {
        TL_HDF5_CHECK(file, !r->has_filters, TL_CORRUPT, c->address, "%s", "a second filter list");
        r->has_filters = true;
        return tl_hdf5_parse_filters(file, c, &r->filters);
    }
    TL_HDF5_CHECK(file, !r->has_layout, TL_CORRUPT, c->address, "%s", "a second data layout");
    TL_TRY(become(r, TL_HDF5_DATASET, c->address));
    r->has_layout = true;
    return tl_hdf5_parse_layout(file, c, &r->layout);
}

static bool is_understood(unsigned type) {
    return type == MESSAGE_SPACE || type == MESSAGE_TYPE || type == MESSAGE_LAYOUT ||
           type == MESSAGE_FILTERS || type == MESSAGE_LINK || type == MESSAGE_LINK_INFO ||
           type == MESSAGE_SYMBOL_TABLE || type == MESSAGE_ATTRIBUTE ||
           type == MESSAGE_ATTRIBUTE_INFO;
}

static tl_status read_attribute_info(const header_reader *r, tl_hdf5_cursor *c) {
    bool dense = tl_hdf5_is_dense(c, 2);
    TL_TRY(tl_hdf5_check_whole(r->file, c, "attribute info message"));
    TL_HDF5_CHECK(r->file, !dense, TL_UNSUPPORTED, c->address,
                  "\"%s\" keeps its attributes in a fractal heap (libver=\"latest\")",
                  tl_hdf5_name(r->file, r->object));
    return TL_OK;
}

static tl_status read_continuation(header_reader *r, tl_hdf5_cursor *c) {
    uint64_t address = tl_hdf5_take(c, 8), size = tl_hdf5_take(c, 8);
    TL_TRY(tl_hdf5_check_whole(r->file, c, "continuation message"));
    return add_block(r, address, size);
}

static tl_status read_message(header_reader *r, unsigned type, unsigned flags, tl_hdf5_cursor *c) {
    tl_hdf5 *file = r->file;
    TL_HDF5_CHECK(file, !(flags & FLAG_SHARED) || !is_understood(type), TL_UNSUPPORTED, c->address,
                  "header message 0x%02x is shared with other objects", type);
    switch (type) {
    case MESSAGE_SPACE:
    case MESSAGE_TYPE:
    case MESSAGE_LAYOUT:
    case MESSAGE_FILTERS:
        return read_dataset_message(r, type, c);
    case MESSAGE_LINK:
    case MESSAGE_LINK_INFO:
    case MESSAGE_SYMBOL_TABLE:
        return read_group_message(r, type, c);
    case MESSAGE_ATTRIBUTE:
        return tl_hdf5_parse_attribute(file, c, r->object);
    case MESSAGE_ATTRIBUTE_INFO:
        return read_attribute_info(r, c);
    case MESSAGE_EXTERNAL:
        return tl_fail(TL_UNSAFE,
                       "%s: byte %" PRIu64 ": dataset \"%s\" keeps its data in other files",
                       file->source->name, file->base + c->address, tl_hdf5_name(file, r->object));
    case MESSAGE_CONTINUATION:
        return read_continuation(r, c);
    default:
        TL_HDF5_CHECK(file, !(flags & FLAG_MUST_KNOW), TL_UNSUPPORTED, c->address,
                      "header message 0x%02x is not known, but the file says that it must be",
                      type);
        return TL_OK;
    }
}

static tl_status read_messages(header_reader *r, tl_hdf5_cursor *block) {
    size_t head = r->version2 ? (r->creation_order ? 6 : 4) : 8;
    while (block->size - block->at >= head && (r->version2 || r->left > 0)) {
        unsigned type = (unsigned)tl_hdf5_take(block, r->version2 ? 1 : 2);
        uint64_t size = tl_hdf5_take(block, 2);
        unsigned flags = (unsigned)tl_hdf5_take(block, 1);
        tl_hdf5_skip(block, head - (r->version2 ? 4 : 5));
        tl_hdf5_cursor message = tl_hdf5_part(block, size);
        TL_HDF5_CHECK(r->file, !block->ended_early, TL_CORRUPT, message.address,
                      "header message 0x%02x of %" PRIu64 " bytes leaves its block", type, size);
        if (!r->version2) r->left--;
        TL_TRY(read_message(r, type, flags, &message));
    }
    return TL_OK;
}

/* The first block of version 1 is preceded by 16 bytes, and continuations by nothing; those of
 * version 2 begin with a signature and end with a checksum over both. */
static tl_status start_header(header_reader *r, uint64_t address) {
    tl_hdf5 *file = r->file;
    unsigned char b[16];
    TL_TRY(tl_hdf5_read(file, address, b, sizeof b, "object header"));
    r->version2 = memcmp(b, "OHDR", 4) == 0;
    if (!r->version2) {
        TL_HDF5_CHECK(file, b[0] == 1, TL_CORRUPT, address, "object header version %u, expected 1",
                      b[0]);
        r->left = tl_le16(b + 2);
        return add_block(r, address + 16, tl_le32(b + 8));
    }
    TL_HDF5_CHECK(file, b[4] == 2, TL_UNSUPPORTED, address,
                  "object header version %u, expected 1 or 2", b[4]);
    r->creation_order = b[5] & 0x04;
    return add_block(r, address, 0);
}

/* The cursor over a version 2 block's messages, whose size is in the block itself if `size` is 0.
 */
static tl_status open_block2(header_reader *r, uint64_t address, uint64_t size,
                             unsigned char **block, tl_hdf5_cursor *messages) {
    tl_hdf5 *file = r->file;
    size_t prefix = 4;
    if (size == 0) {
        unsigned char b[48] = {0};
        uint64_t left = file->size - address;
        TL_TRY(tl_hdf5_read(file, address, b, left < sizeof b ? left : sizeof b, "object header"));
        prefix = 6u + (b[5] & 0x20 ? 16 : 0) + (b[5] & 0x10 ? 4 : 0);
        int width = 1 << (b[5] & 3);
        tl_hdf5_cursor c = {.data = b, .size = sizeof b, .at = prefix};
        uint64_t messages_size = tl_hdf5_take(&c, width);
        TL_HDF5_CHECK(file, messages_size <= file->size, TL_CORRUPT, address,
                      "object header of %" PRIu64 " bytes, but the file has %" PRIu64,
                      messages_size, file->size);
        prefix += (size_t)width;
        size = prefix + messages_size + 4;
    }
    TL_HDF5_CHECK(
        file, size >= prefix + 4, TL_CORRUPT, address,
        "an object header block of %" PRIu64 " bytes, too small for its signature and sum", size);
    TL_TRY(tl_hdf5_read_block(file, address, size, "object header", block));
    const char *signature = prefix == 4 ? "OCHK" : "OHDR";
    TL_HDF5_CHECK(file, memcmp(*block, signature, 4) == 0, TL_CORRUPT, address,
                  "object header without its signature %s", signature);
    TL_TRY(tl_hdf5_check_sum(file, *block, (size_t)size, address, "object header"));
    *messages = (tl_hdf5_cursor){
        .data = *block + prefix, .size = (size_t)size - prefix - 4, .address = address + prefix};
    return TL_OK;
}

static tl_status read_block(header_reader *r, int index) {
    tl_hdf5 *file = r->file;
    uint64_t address = r->block[index].address, size = r->block[index].size;
    unsigned char *block = NULL;
    tl_hdf5_cursor messages = {.size = (size_t)size, .address = address};
    tl_status status = TL_OK;
    if (r->version2) {
        status = open_block2(r, address, size, &block, &messages);
    } else {
        status = tl_hdf5_read_block(file, address, size, "object header", &block);
        messages.data = block;
    }
    if (status == TL_OK) status = read_messages(r, &messages);
    tl_free(file->ctx, block);
    return status;
}

/* Data in one piece must be as long as its elements. */
static tl_status check_bytes(const header_reader *r, const tl_hdf5_object *object) {
    uint64_t bytes = 0;
    bool overflow = r->space.count == UINT64_MAX ||
                    __builtin_mul_overflow(r->space.count, object->type.size, &bytes);
    TL_HDF5_CHECK(
        r->file, !overflow && bytes == object->size, TL_CORRUPT, object->address,
        "dataset \"%s\": %" PRIu64 " elements of %" PRIu32 " bytes in %" PRIu64 " bytes of data",
        tl_hdf5_name(r->file, r->object), r->space.count, object->type.size, object->size);
    return TL_OK;
}

/* The messages together must describe data that is there. */
static tl_status finish_dataset(header_reader *r) {
    tl_hdf5 *file = r->file;
    tl_hdf5_object *object = &file->object[r->object];
    TL_HDF5_CHECK(file, r->has_space && r->has_type, TL_CORRUPT, object->address,
                  "dataset \"%s\" has no %s", tl_hdf5_name(file, r->object),
                  r->has_space ? "datatype" : "dataspace");
    object->offset = r->layout.offset;
    object->size = r->layout.size;
    if (r->layout.refusal) return tl_hdf5_refuse(file, r->object, r->layout.refusal);
    if (r->filters.refusal[0]) return tl_hdf5_refuse(file, r->object, r->filters.refusal);
    if (!r->layout.chunked) TL_TRY(check_bytes(r, object));
    if (r->space.rank > TL_MAX_RANK)
        return tl_hdf5_refuse(file, r->object, "it has more dimensions than the 6 supported");
    object->shape.rank = r->space.rank;
    for (int i = 0; i < r->space.rank; i++) object->shape.dim[i] = (int64_t)r->space.dim[i];
    return r->layout.chunked ? tl_hdf5_read_chunks(file, r->object, &r->layout, &r->filters)
                             : TL_OK;
}

tl_status tl_hdf5_read_object(tl_hdf5 *file, int index) {
    uint64_t address = file->object[index].address;
    header_reader reader = {.file = file, .object = index};
    TL_TRY(start_header(&reader, address));
    for (int i = 0; i < reader.block_count; i++) TL_TRY(read_block(&reader, i));
    TL_HDF5_CHECK(file, reader.left == 0, TL_CORRUPT, address,
                  "%" PRIu64 " header messages more than its blocks hold", reader.left);
    return file->object[index].kind == TL_HDF5_DATASET ? finish_dataset(&reader) : TL_OK;
}
