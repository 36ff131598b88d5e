#include "io/hdf5.h"

#include <stdlib.h>
#include <string.h>

#include "io/hdf5_parts.h"

enum {
    SUPERBLOCK_SIZE = 96, /* the most of any version that we use */
    MAX_DEPTH = 64
};

/* --- bounds ----------------------------------------------------------------------------------- */

enum { FREE_BYTES = 16 * 1024 * 1024, READ_COST = 64 };

tl_status tl_hdf5_charge(tl_hdf5 *file, uint64_t bytes) {
    uint64_t limit = FREE_BYTES - FREE_BYTES / 4 + 3 * file->size;
    bool fits = file->memory <= limit && bytes <= limit - file->memory;
    TL_CHECK(fits, TL_LIMIT,
             "%s: reading it needs over %" PRIu64
             " bytes of memory, too much for a file of %" PRIu64 " bytes",
             file->source->name, limit, file->size);
    file->memory += bytes;
    return TL_OK;
}

tl_status tl_hdf5_read(tl_hdf5 *file, uint64_t address, void *buffer, uint64_t count,
                       const char *what) {
    TL_HDF5_CHECK(file, address <= file->size && count <= file->size - address, TL_CORRUPT, address,
                  "%s of %" PRIu64 " bytes, but the file has %" PRIu64, what, count, file->size);
    /* Every structure is needed about once. What leads back to itself, or many times to the same
     * place, ends here at the latest. */
    uint64_t limit = FREE_BYTES + 4 * file->size;
    file->work += READ_COST + count;
    TL_HDF5_CHECK(file, file->work <= limit, TL_LIMIT, address,
                  "%s: over %" PRIu64 " bytes of tables read, too many for a file of %" PRIu64,
                  what, limit, file->size);
    return tl_source_read(file->source, file->base + address, buffer, (size_t)count);
}

tl_status tl_hdf5_read_block(tl_hdf5 *file, uint64_t address, uint64_t count, const char *what,
                             unsigned char **out) {
    *out = NULL;
    TL_HDF5_CHECK(file, count <= file->size, TL_CORRUPT, address,
                  "%s of %" PRIu64 " bytes, but the file has %" PRIu64, what, count, file->size);
    unsigned char *block = tl_alloc(file->ctx, (size_t)count);
    TL_CHECK_MEMORY(block);
    tl_status status = tl_hdf5_read(file, address, block, count, what);
    if (status != TL_OK) {
        tl_free(file->ctx, block);
        return status;
    }
    *out = block;
    return TL_OK;
}

tl_status tl_hdf5_grow(tl_hdf5 *file, void **array, int *capacity, int count, size_t element) {
    if (count < *capacity) return TL_OK;
    size_t more = *capacity ? 2 * (size_t)*capacity : 16;
    TL_CHECK(more <= INT32_MAX / 2, TL_LIMIT, "%s: too many objects", file->source->name);
    /* While the array moves, both copies are there. */
    TL_TRY(tl_hdf5_charge(file, more * element));
    void *moved = tl_realloc(file->ctx, *array, more * element);
    TL_CHECK_MEMORY(moved);
    *array = moved;
    *capacity = (int)more;
    return TL_OK;
}

tl_status tl_hdf5_keep_text(tl_hdf5 *file, const void *text, size_t length, size_t *at) {
    size_t needed = file->text_size + length + 1;
    if (needed > file->text_capacity) {
        size_t more = 2 * needed + 1024;
        TL_TRY(tl_hdf5_charge(file, more));
        char *moved = tl_realloc(file->ctx, file->text, more);
        TL_CHECK_MEMORY(moved);
        file->text = moved;
        file->text_capacity = more;
    }
    *at = file->text_size;
    memcpy(file->text + *at, text, length);
    file->text[*at + length] = '\0';
    file->text_size = needed;
    return TL_OK;
}

/* --- the cursor ------------------------------------------------------------------------------- */

uint64_t tl_hdf5_take(tl_hdf5_cursor *cursor, int bytes) {
    if (cursor->size - cursor->at < (size_t)bytes) {
        cursor->ended_early = true;
        cursor->at = cursor->size;
        return 0;
    }
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | cursor->data[cursor->at + (size_t)i];
    cursor->at += (size_t)bytes;
    return value;
}

void tl_hdf5_skip(tl_hdf5_cursor *cursor, uint64_t bytes) {
    (void)tl_hdf5_part(cursor, bytes);
}

tl_hdf5_cursor tl_hdf5_part(tl_hdf5_cursor *cursor, uint64_t size) {
    if (size > cursor->size - cursor->at) {
        cursor->ended_early = true;
        size = cursor->size - cursor->at;
    }
    tl_hdf5_cursor part = {.data = cursor->data + cursor->at,
                           .size = (size_t)size,
                           .address = cursor->address + cursor->at};
    cursor->at += (size_t)size;
    return part;
}

tl_status tl_hdf5_check_whole(const tl_hdf5 *file, const tl_hdf5_cursor *cursor, const char *what) {
    TL_HDF5_CHECK(file, !cursor->ended_early, TL_CORRUPT, cursor->address,
                  "%s needs more than the %zu bytes it has", what, cursor->size);
    return TL_OK;
}

/* --- checksums -------------------------------------------------------------------------------- */

static uint32_t rotate(uint32_t value, int bits) {
    return value << bits | value >> (32 - bits);
}

static void mix(uint32_t s[3]) {
    static const int bits[] = {4, 6, 8, 16, 19, 4};
    for (int i = 0; i < 6; i++) {
        uint32_t *a = &s[i % 3], *b = &s[(i + 1) % 3], *c = &s[(i + 2) % 3];
        *a -= *c;
        *a ^= rotate(*c, bits[i]);
        *c += *b;
    }
}

static void mix_last(uint32_t s[3]) {
    static const int bits[] = {14, 11, 25, 16, 4, 14, 24};
    for (int i = 0; i < 7; i++) {
        uint32_t *to = &s[(i + 2) % 3], from = s[(i + 1) % 3];
        *to ^= from;
        *to -= rotate(from, bits[i]);
    }
}

/* Bob Jenkins's lookup3, hashlittle() with 0 to begin with: the checksum of all newer structures
 * (section VIII, "Metadata checksum"). */
static uint32_t checksum(const unsigned char *data, size_t size) {
    uint32_t s[3];
    s[0] = s[1] = s[2] = 0xdeadbeef + (uint32_t)size;
    for (; size > 12; size -= 12, data += 12) {
        for (int i = 0; i < 3; i++) s[i] += tl_le32(data + 4 * i);
        mix(s);
    }
    if (size == 0) return s[2];
    unsigned char tail[12] = {0};
    memcpy(tail, data, size);
    for (int i = 0; i < 3; i++) s[i] += tl_le32(tail + 4 * i);
    mix_last(s);
    return s[2];
}

tl_status tl_hdf5_check_sum(const tl_hdf5 *file, const unsigned char *data, size_t size,
                            uint64_t address, const char *what) {
    uint32_t is = checksum(data, size - 4), stored = tl_le32(data + size - 4);
    TL_HDF5_CHECK(file, is == stored, TL_CORRUPT, address,
                  "%s has checksum %08x, the file says %08x", what, (unsigned)is, (unsigned)stored);
    return TL_OK;
}

/* --- the superblock: section II.A ------------------------------------------------------------- */

static tl_status check_superblock(const tl_hdf5 *file, unsigned version, unsigned offset_size,
                                  unsigned length_size, uint64_t base, uint64_t end) {
    TL_HDF5_CHECK(file, offset_size == 8 && length_size == 8, TL_UNSUPPORTED, UINT64_C(13),
                  "addresses of %u and lengths of %u bytes, expected 8 and 8", offset_size,
                  length_size);
    TL_HDF5_CHECK(file, base == 0, TL_UNSUPPORTED, UINT64_C(24),
                  "superblock version %u: base address %" PRIu64 ", expected 0", version, base);
    TL_HDF5_CHECK(file, end <= file->size, TL_TRUNCATED, UINT64_C(40),
                  "the file ends at %" PRIu64 ", but only %" PRIu64 " bytes are there", end,
                  file->size);
    return TL_OK;
}

static tl_status read_superblock(tl_hdf5 *file, uint64_t *root) {
    unsigned char b[SUPERBLOCK_SIZE] = {0};
    uint64_t size = file->size < sizeof b ? file->size : sizeof b;
    TL_CHECK(size >= 48, TL_TRUNCATED,
             "%s: byte %" PRIu64 ": %" PRIu64 " bytes, an HDF5 file has 48 or more",
             file->source->name, file->base, size);
    TL_TRY(tl_hdf5_read(file, 0, b, size, "superblock"));
    TL_HDF5_CHECK(file, memcmp(b, "\x89HDF\r\n\x1a\n", 8) == 0, TL_CORRUPT, UINT64_C(0), "%s",
                  "no HDF5 signature");
    unsigned version = b[8];
    TL_HDF5_CHECK(file, version <= 3, TL_UNSUPPORTED, UINT64_C(8),
                  "superblock version %u, expected 0 to 3", version);
    if (version >= 2) {
        TL_TRY(tl_hdf5_check_sum(file, b, 48, 0, "superblock"));
        *root = tl_le64(b + 36);
        return check_superblock(file, version, b[9], b[10], tl_le64(b + 12), tl_le64(b + 28));
    }
    size_t at = version == 0 ? 24 : 28;
    *root = tl_le64(b + at + 40); /* behind the name's offset in the root's symbol table entry */
    TL_HDF5_CHECK(file, tl_le64(b + at + 24) == TL_HDF5_NOWHERE, TL_UNSUPPORTED, at + 24, "%s",
                  "a driver information block: a file in several parts");
    return check_superblock(file, version, b[13], b[14], tl_le64(b + at), tl_le64(b + at + 16));
}

/* --- the tree --------------------------------------------------------------------------------- */

const char *tl_hdf5_name(const tl_hdf5 *file, int object) {
    return file->text + file->object[object].name;
}

static int compare_names(int parent_a, const char *a, int parent_b, const char *b) {
    return parent_a != parent_b ? (parent_a < parent_b ? -1 : 1) : strcmp(a, b);
}

static int compare_objects(const void *a, const void *b, void *arg) {
    const tl_hdf5 *file = arg;
    int x = *(const int *)a, y = *(const int *)b;
    return compare_names(file->object[x].parent, tl_hdf5_name(file, x), file->object[y].parent,
                         tl_hdf5_name(file, y));
}

/* No two members of a group have one name. */
static tl_status index_names(tl_hdf5 *file) {
    size_t count = (size_t)file->object_count - 1;
    /* Twice: sorting may make a copy. */
    TL_TRY(tl_hdf5_charge(file, 2 * count * sizeof *file->by_name));
    file->by_name = tl_alloc_array(file->ctx, count, sizeof *file->by_name);
    TL_CHECK_MEMORY(file->by_name);
    for (size_t i = 0; i < count; i++) file->by_name[i] = (int)i + 1;
    qsort_r(file->by_name, count, sizeof *file->by_name, compare_objects, file);
    for (size_t i = 1; i < count; i++) {
        const int *pair = &file->by_name[i - 1];
        char quoted[TL_QUOTE_TEXT];
        const char *name = tl_hdf5_name(file, pair[1]);
        TL_HDF5_CHECK(file, compare_objects(&pair[0], &pair[1], file) != 0, TL_CORRUPT,
                      file->object[pair[1]].address, "\"%s\" is there twice in its group",
                      tl_quote(name, strlen(name), quoted));
    }
    return TL_OK;
}

static int find_child(const tl_hdf5 *file, int parent, const char *name) {
    int low = 0, high = file->object_count - 1;
    while (low < high) {
        int middle = low + (high - low) / 2, at = file->by_name[middle];
        int order = compare_names(parent, name, file->object[at].parent, tl_hdf5_name(file, at));
        if (order == 0) return at;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

int tl_hdf5_find(const tl_hdf5 *file, int parent, const char *path, size_t length) {
    enum { MAX_NAME = 1024 };
    char name[MAX_NAME];
    const char *end = path + length;
    while (path < end && parent >= 0) {
        const char *slash = memchr(path, '/', (size_t)(end - path));
        size_t part = (size_t)((slash ? slash : end) - path);
        if (part >= sizeof name) return -1;
        memcpy(name, path, part);
        name[part] = '\0';
        if (part > 0) parent = find_child(file, parent, name);
        path += part + 1;
    }
    return parent;
}

const tl_hdf5_attribute *tl_hdf5_find_attribute(const tl_hdf5 *file, int object, const char *name) {
    /* They were appended object by object. */
    int low = 0, high = file->attribute_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (file->attribute[middle].object < object)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < file->attribute_count && file->attribute[low].object == object; low++) {
        if (strcmp(file->text + file->attribute[low].name, name) == 0) return &file->attribute[low];
    }
    return NULL;
}

static tl_status check_place(const tl_hdf5 *file, int index) {
    const tl_hdf5_object *object = &file->object[index];
    TL_HDF5_CHECK(file, object->depth <= MAX_DEPTH, TL_LIMIT, object->address,
                  "groups nested deeper than %d levels", MAX_DEPTH);
    for (int up = object->parent; up >= 0; up = file->object[up].parent) {
        TL_HDF5_CHECK(file, file->object[up].address != object->address, TL_CORRUPT,
                      object->address, "group \"%s\" contains itself", tl_hdf5_name(file, up));
    }
    return TL_OK;
}

static tl_status read_tree(tl_hdf5 *file) {
    uint64_t root = 0;
    size_t name = 0;
    TL_TRY(read_superblock(file, &root));
    TL_TRY(tl_hdf5_keep_text(file, "/", 1, &name));
    TL_TRY(tl_hdf5_grow(file, (void **)&file->object, &file->object_capacity, 0,
                        sizeof *file->object));
    file->object[file->object_count++] =
        (tl_hdf5_object){.parent = -1, .name = name, .address = root};
    for (int i = 0; i < file->object_count; i++) {
        TL_TRY(check_place(file, i));
        TL_TRY(tl_hdf5_read_object(file, i));
    }
    TL_HDF5_CHECK(file, file->object[0].kind == TL_HDF5_GROUP, TL_CORRUPT, root, "%s",
                  "the root is no group");
    return index_names(file);
}

tl_status tl_hdf5_open(tl_context *ctx, const tl_source *source, uint64_t offset, uint64_t size,
                       tl_hdf5 *out) {
    *out = (tl_hdf5){.ctx = ctx, .source = source, .base = offset, .size = size};
    return read_tree(out);
}

void tl_hdf5_close(tl_hdf5 *file) {
    if (!file->ctx) return;
    tl_free(file->ctx, file->object);
    tl_free(file->ctx, file->attribute);
    tl_free(file->ctx, file->text);
    tl_free(file->ctx, file->by_name);
    tl_free(file->ctx, file->heap);
    tl_chunked_free(file->ctx, file->chunked);
    *file = (tl_hdf5){0};
}
