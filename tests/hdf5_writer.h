/* Writes HDF5 files, also bad ones, for tests of their reader: superblock version 0, object headers
 * of version 1, links in messages or in a symbol table. Include "hostile.h" first. */
#ifndef TL_TESTS_HDF5_WRITER_H
#define TL_TESTS_HDF5_WRITER_H

enum {
    H5_SPACE = 0x01,
    H5_TYPE = 0x03,
    H5_LINK = 0x06,
    H5_EXTERNAL = 0x07,
    H5_LAYOUT = 0x08,
    H5_FILTER = 0x0b,
    H5_ATTRIBUTE = 0x0c,
    H5_CONTINUATION = 0x10,
    H5_SYMBOL_TABLE = 0x11,
    H5_SUPERBLOCK = 96,
    H5_END_AT = 40, /* where the superblock has the file's end and the root's address */
    H5_ROOT_AT = 64,
    H5_HEADER = 16, /* bytes before an object header's messages, and before a message's data */
    H5_MESSAGE = 8
};

static inline void h5_begin(bytes *b) {
    put(b, "\x89HDF\r\n\x1a\n", 8);
    put_number(b, 0, 5);
    put_number(b, 8, 1); /* bytes of an address, of a length */
    put_number(b, 8, 2);
    put_number(b, 4, 2);
    put_number(b, 16, 2);
    put_number(b, 0, 4);
    put_number(b, 0, 8);
    put_number(b, UINT64_MAX, 8);
    put_number(b, 0, 8); /* the end */
    put_number(b, UINT64_MAX, 8);
    for (int i = 0; i < 5; i++) put_number(b, 0, 8); /* the root's name, its address */
}

static inline void h5_end(bytes *b, uint64_t root) {
    set_number(b, H5_END_AT, b->size, 8);
    set_number(b, H5_ROOT_AT, root, 8);
}

/* --- object headers --------------------------------------------------------------------------- */

typedef struct h5_header {
    bytes messages;
    int count;
} h5_header;

/* Takes over `data`. */
static inline void h5_message(h5_header *h, unsigned type, bytes *data) {
    while (data->size % 8) put_number(data, 0, 1);
    put_number(&h->messages, type, 2);
    put_number(&h->messages, data->size, 2);
    put_number(&h->messages, 0, 4);
    put(&h->messages, data->data, data->size);
    free(data->data);
    *data = (bytes){0};
    h->count++;
}

/* Takes over the messages; returns the header's address. */
static inline uint64_t h5_put_header(bytes *b, h5_header *h) {
    while (b->size % 8) put_number(b, 0, 1);
    uint64_t at = b->size;
    put_number(b, 1, 2);
    put_number(b, (uint64_t)h->count, 2);
    put_number(b, 1, 4);
    put_number(b, h->messages.size, 8);
    put(b, h->messages.data, h->messages.size);
    free(h->messages.data);
    *h = (h5_header){0};
    return at;
}

/* --- messages --------------------------------------------------------------------------------- */

static inline bytes h5_space(int rank, const uint64_t *dims) {
    bytes d = {0};
    put_number(&d, 1, 1);
    put_number(&d, (uint64_t)rank, 1);
    put_number(&d, 0, 6);
    for (int i = 0; i < rank; i++) put_number(&d, dims[i], 8);
    return d;
}

/* f32, little endian. */
static inline bytes h5_float_type(void) {
    bytes d = {0};
    put(&d, "\x11\x20\x1f\x00\x04\x00\x00\x00\x00\x00\x20\x00\x17\x08\x00\x17\x7f\x00\x00\x00", 20);
    return d;
}

static inline bytes h5_contiguous(uint64_t address, uint64_t size) {
    bytes d = {0};
    put_number(&d, 3, 1);
    put_number(&d, 1, 1);
    put_number(&d, address, 8);
    put_number(&d, size, 8);
    return d;
}

/* A link of kind 0 (hard), 1 (soft) or 64 (external). */
static inline bytes h5_link(const char *name, unsigned kind, uint64_t address) {
    bytes d = {0};
    put_number(&d, 1, 1);
    put_number(&d, kind ? 0x08 : 0, 1);
    if (kind) put_number(&d, kind, 1);
    put_number(&d, strlen(name), 1);
    put_text(&d, name);
    if (kind) put_number(&d, 4, 2);
    put_number(&d, address, 8);
    return d;
}

static inline void h5_put_padded(bytes *b, const void *data, size_t size) {
    put(b, data, size);
    while (size++ % 8) put_number(b, 0, 1);
}

/* An attribute of `count` texts of `size` bytes each; none is a scalar. */
static inline bytes h5_texts(const char *name, int count, const char *texts, size_t size) {
    bytes d = {0}, type = {0}, space = {0};
    const uint64_t dim = (uint64_t)count;
    put_number(&type, 0x13, 4);
    put_number(&type, size, 4);
    space = h5_space(count ? 1 : 0, &dim);
    put_number(&d, 1, 2);
    put_number(&d, strlen(name) + 1, 2);
    put_number(&d, type.size, 2);
    put_number(&d, space.size, 2);
    h5_put_padded(&d, name, strlen(name) + 1);
    h5_put_padded(&d, type.data, type.size);
    h5_put_padded(&d, space.data, space.size);
    put(&d, texts, (count ? (size_t)count : 1) * size);
    free(type.data);
    free(space.data);
    return d;
}

/* A text of `length` bytes, object `index` of the global heap collection at `heap`. */
static inline bytes h5_variable_text(const char *name, uint64_t length, uint64_t heap,
                                     uint64_t index) {
    bytes d = h5_texts(name, 0, "0123456789abcdef", 16);
    size_t data = d.size - 16, type = 8 + ((strlen(name) + 8) & ~(size_t)7);
    set_number(&d, type, 0x0119, 4);
    set_number(&d, data, length, 4);
    set_number(&d, data + 4, heap, 8);
    set_number(&d, data + 12, index, 4);
    return d;
}

/* --- symbol tables ---------------------------------------------------------------------------- */

/* A group's B-tree of one node with one member; every place is known by what it is. */
typedef struct h5_table {
    uint64_t tree, heap, heap_data, node;
} h5_table;

static inline h5_table h5_put_table(bytes *b, const char *name, uint64_t address) {
    h5_table t;
    while (b->size % 8) put_number(b, 0, 1);
    t.heap_data = b->size;
    put_number(b, 0, 8);
    h5_put_padded(b, name, strlen(name) + 1);
    uint64_t size = b->size - t.heap_data;
    t.heap = b->size;
    put_text(b, "HEAP");
    put_number(b, 0, 4);
    put_number(b, size, 8);
    put_number(b, 1, 8);
    put_number(b, t.heap_data, 8);
    t.node = b->size;
    put_text(b, "SNOD");
    put_number(b, 1, 2);
    put_number(b, 1, 2);
    put_number(b, 8, 8);
    put_number(b, address, 8);
    for (int i = 0; i < 3; i++) put_number(b, 0, 8);
    t.tree = b->size;
    put_text(b, "TREE");
    put_number(b, 0, 2);
    put_number(b, 1, 2);
    put_number(b, UINT64_MAX, 8);
    put_number(b, UINT64_MAX, 8);
    put_number(b, 0, 8);
    put_number(b, t.node, 8);
    put_number(b, 8, 8);
    return t;
}

static inline bytes h5_symbol_table(const h5_table *t) {
    bytes d = {0};
    put_number(&d, t->tree, 8);
    put_number(&d, t->heap, 8);
    return d;
}

/* --- a file of Keras 2's form: layer "d" with one weight of 2 x 3 ------------------------------
 */

static const uint64_t two_by_three[2] = {2, 3};

static struct {
    uint64_t dataset, owner, group, root; /* object headers */
    h5_table table;
} at;

/* Messages lie one after the other: these are a dataset's, of rank 2. */
enum {
    SPACE_AT = H5_HEADER + H5_MESSAGE,
    TYPE_AT = SPACE_AT + 24 + H5_MESSAGE,
    LAYOUT_AT = TYPE_AT + 24 + H5_MESSAGE
};

/* The group of layer "d": attribute weight_names, and d/kernel:0 within it. */
static inline uint64_t put_layer(bytes *b, bytes kernel) {
    h5_header owner = {0}, group = {0};
    h5_message(&owner, H5_LINK, &kernel);
    at.owner = h5_put_header(b, &owner);
    bytes names = h5_texts("weight_names", 1, "d/kernel:0", 10);
    bytes link = h5_link("d", 0, at.owner);
    h5_message(&group, H5_ATTRIBUTE, &names);
    h5_message(&group, H5_LINK, &link);
    return h5_put_header(b, &group);
}

static inline void put_root(bytes *b, bytes *config) {
    h5_header root = {0};
    at.table = h5_put_table(b, "d", at.group);
    bytes table = h5_symbol_table(&at.table), names = h5_texts("layer_names", 1, "d", 1);
    h5_message(&root, H5_SYMBOL_TABLE, &table);
    h5_message(&root, H5_ATTRIBUTE, &names);
    if (config) h5_message(&root, H5_ATTRIBUTE, config);
    at.root = h5_put_header(b, &root);
    h5_end(b, at.root);
}

/* Faults of every kind, of which most are noticed. */
static inline void check_faults(void (*build)(bytes *b)) {
    bytes good = {0};
    build(&good);
    check_every_truncation(&good);
    assert_true(check_every_bit_flip(&good) > good.size / 2);
    check_every_allocation(&good);
    free(good.data);
}

#endif
