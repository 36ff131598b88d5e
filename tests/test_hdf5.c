/* The readers of HDF5 and of Keras's files in it: good files of h5py and Keras, bad ones of every
 * kind. */
#include "support.h"

#include "hostile.h"

#include "hdf5_writer.h"
#include "tensor_list.h"
#include "zip_writer.h"

/* --- a good file, and where its parts are ----------------------------------------------------- */

static const float six[6] = {1, 2, 3, 4, 5, 6};

static uint64_t put_dataset(bytes *b, bytes layout) {
    h5_header h = {0};
    bytes space = h5_space(2, two_by_three), type = h5_float_type();
    h5_message(&h, H5_SPACE, &space);
    h5_message(&h, H5_TYPE, &type);
    h5_message(&h, H5_LAYOUT, &layout);
    return h5_put_header(b, &h);
}

static void put_kernel(bytes *b) {
    uint64_t data = b->size;
    put(b, six, sizeof six);
    at.dataset = put_dataset(b, h5_contiguous(data, sizeof six));
}

/* model_config, unless NULL, is kept with the root's other attributes. */
static void build_with_config(bytes *b, const char *text) {
    bytes config = {0};
    h5_begin(b);
    put_kernel(b);
    at.group = put_layer(b, h5_link("kernel:0", 0, at.dataset));
    if (text) config = h5_texts("model_config", 0, text, strlen(text));
    put_root(b, text ? &config : NULL);
}

static void build_good(bytes *b) {
    build_with_config(b, NULL);
}

/* The good file but for one number. */
static void build_patched(bytes *b, const uint64_t *part, uint64_t offset, uint64_t value,
                          int size) {
    build_good(b);
    set_number(b, (part ? *part : 0) + offset, value, size);
}

#define PATCHED(function, part, offset, value, size)                                               \
    static void function(bytes *b) {                                                               \
        build_patched(b, part, offset, value, size);                                               \
    }

/* --- superblock ------------------------------------------------------------------------------- */

PATCHED(super_version, NULL, 8, 9, 1)
PATCHED(super_offsets, NULL, 13, 4, 1)
PATCHED(super_base, NULL, 24, 512, 8)
PATCHED(super_end, NULL, H5_END_AT, 1 << 20, 8)
PATCHED(super_driver, NULL, 48, 96, 8)
PATCHED(super_root, NULL, H5_ROOT_AT, 1 << 20, 8)
PATCHED(super_root_last, NULL, H5_ROOT_AT, UINT64_MAX - 3, 8)

static void super_signature(bytes *b) {
    build_good(b);
    b->data[3] = 'X';
}
static void super_short(bytes *b) {
    put(b, "\x89HDF\r\n\x1a\n\0\0\0\0", 12);
}

/* --- groups ----------------------------------------------------------------------------------- */

PATCHED(tree_outside, &at.root, H5_HEADER + H5_MESSAGE, 1 << 20, 8)
PATCHED(heap_outside, &at.root, H5_HEADER + H5_MESSAGE + 8, 1 << 20, 8)
PATCHED(heap_wraps, &at.root, H5_HEADER + H5_MESSAGE + 8, UINT64_MAX - 15, 8)
PATCHED(tree_signature, &at.table.tree, 0, 0, 4)
PATCHED(tree_of_chunks, &at.table.tree, 4, 1, 1)
PATCHED(tree_high, &at.table.tree, 5, 200, 1)
PATCHED(tree_many, &at.table.tree, 6, 65535, 2)
PATCHED(node_outside, &at.table.tree, 32, 1 << 20, 8)
PATCHED(node_signature, &at.table.node, 0, 0, 4)
PATCHED(node_many, &at.table.node, 6, 65535, 2)
PATCHED(name_outside, &at.table.node, 8, 1 << 20, 8)
PATCHED(member_outside, &at.table.node, 16, 1 << 20, 8)
PATCHED(soft_link_cached, &at.table.node, 24, 2, 4)
PATCHED(heap_data_outside, &at.table.heap, 24, 1 << 20, 8)
PATCHED(heap_huge, &at.table.heap, 8, UINT64_MAX, 8)
PATCHED(name_endless, &at.table.heap, 8, 9, 8)

/* The root's B-tree has itself for a child. */
static void tree_in_itself(bytes *b) {
    build_good(b);
    set_number(b, at.table.tree + 5, 1, 1);
    set_number(b, at.table.tree + 32, at.table.tree, 8);
}
static void group_in_itself(bytes *b) {
    build_good(b);
    set_number(b, at.table.node + 16, at.root, 8);
}
static void name_empty(bytes *b) {
    build_good(b);
    b->data[at.table.heap_data + 8] = '\0';
}
static void name_with_slash(bytes *b) {
    build_good(b);
    b->data[at.table.heap_data + 8] = '/';
}

static void build_linked(bytes *b, bytes kernel) {
    h5_begin(b);
    put_kernel(b);
    at.group = put_layer(b, kernel);
    put_root(b, NULL);
}
static void link_soft(bytes *b) {
    build_linked(b, h5_link("kernel:0", 1, 0));
}
static void link_external(bytes *b) {
    build_linked(b, h5_link("kernel:0", 64, 0));
}
static void link_outside(bytes *b) {
    build_linked(b, h5_link("kernel:0", 0, 1 << 20));
}
static void link_missing(bytes *b) {
    build_linked(b, h5_link("bias:0", 0, H5_SUPERBLOCK + sizeof six));
}
static void link_version(bytes *b) {
    bytes link = h5_link("kernel:0", 0, 0);
    link.data[0] = 3;
    build_linked(b, link);
}

/* Sixty groups, each of which has the next one twice: 2^60 objects. */
static void groups_doubled(bytes *b) {
    h5_begin(b);
    h5_header last = {0};
    bytes nothing = h5_texts("none", 0, "x", 1);
    h5_message(&last, H5_ATTRIBUTE, &nothing);
    uint64_t next = h5_put_header(b, &last);
    for (int i = 0; i < 60; i++) {
        h5_header group = {0};
        bytes left = h5_link("a", 0, next), right = h5_link("b", 0, next);
        h5_message(&group, H5_LINK, &left);
        h5_message(&group, H5_LINK, &right);
        next = h5_put_header(b, &group);
    }
    h5_end(b, next);
}

static void groups_deep(bytes *b) {
    h5_begin(b);
    put_kernel(b);
    uint64_t next = at.dataset;
    for (int i = 0; i < 100; i++) {
        h5_header group = {0};
        bytes link = h5_link("a", 0, next);
        h5_message(&group, H5_LINK, &link);
        next = h5_put_header(b, &group);
    }
    h5_end(b, next);
}

static void name_twice(bytes *b) {
    h5_begin(b);
    put_kernel(b);
    h5_header group = {0};
    for (int i = 0; i < 2; i++) {
        bytes link = h5_link("a", 0, at.dataset);
        h5_message(&group, H5_LINK, &link);
    }
    h5_end(b, h5_put_header(b, &group));
}

/* --- object headers --------------------------------------------------------------------------- */

PATCHED(header_version, &at.dataset, 0, 7, 1)
PATCHED(header_more, &at.dataset, 2, 4, 2)
PATCHED(header_size, &at.dataset, 8, UINT32_MAX, 4)
PATCHED(message_long, &at.dataset, H5_HEADER + 2, 60000, 2)
PATCHED(message_shared, &at.dataset, H5_HEADER + 4, 2, 1)
PATCHED(message_unknown, &at.dataset, H5_HEADER, 0x0080005d, 4)
PATCHED(layout_twice, &at.dataset, TYPE_AT - H5_MESSAGE, H5_LAYOUT, 2)
PATCHED(type_missing, &at.dataset, TYPE_AT - H5_MESSAGE, 0, 2)
PATCHED(root_no_group, NULL, H5_ROOT_AT, H5_SUPERBLOCK + sizeof six, 8)

static void message_must_be_known(bytes *b) {
    build_good(b);
    set_number(b, at.dataset + H5_HEADER, 0x5d, 2);
    set_number(b, at.dataset + H5_HEADER + 4, 0x80, 1);
}

/* A header that goes on in a block which goes on in itself. */
static void continuation_loop(bytes *b) {
    h5_begin(b);
    uint64_t block = b->size;
    bytes again = {0};
    h5_header inner = {0}, root = {0};
    put_number(&again, block, 8);
    put_number(&again, 24, 8);
    h5_message(&inner, H5_CONTINUATION, &again);
    put(b, inner.messages.data, inner.messages.size);
    free(inner.messages.data);
    put_number(&again, block, 8);
    put_number(&again, 24, 8);
    h5_message(&root, H5_CONTINUATION, &again);
    root.count = 1000;
    h5_end(b, h5_put_header(b, &root));
}

/* A thousand blocks, each of which names the next. */
static void continuation_chain(bytes *b) {
    h5_begin(b);
    h5_header root = {0};
    bytes next = {0};
    for (int i = 0; i < 1000; i++) {
        put_number(b, H5_CONTINUATION, 2);
        put_number(b, 16, 2);
        put_number(b, 0, 4);
        put_number(b, H5_SUPERBLOCK + 24 * (uint64_t)(i + 1), 8);
        put_number(b, 24, 8);
    }
    put_number(&next, H5_SUPERBLOCK, 8);
    put_number(&next, 24, 8);
    h5_message(&root, H5_CONTINUATION, &next);
    root.count = 2000;
    h5_end(b, h5_put_header(b, &root));
}

static void continuation_outside(bytes *b) {
    h5_begin(b);
    h5_header root = {0};
    bytes next = {0};
    put_number(&next, 1 << 20, 8);
    put_number(&next, 24, 8);
    h5_message(&root, H5_CONTINUATION, &next);
    root.count = 2;
    h5_end(b, h5_put_header(b, &root));
}

/* --- datasets --------------------------------------------------------------------------------- */

PATCHED(space_rank, &at.dataset, SPACE_AT + 1, 33, 1)
PATCHED(space_rank_past, &at.dataset, SPACE_AT + 1, 32, 1)
PATCHED(space_version, &at.dataset, SPACE_AT, 9, 1)
PATCHED(space_larger, &at.dataset, SPACE_AT + 8, 3, 8)
PATCHED(space_negative, &at.dataset, SPACE_AT + 8, UINT64_MAX, 8)
PATCHED(type_empty, &at.dataset, TYPE_AT + 4, 0, 4)
PATCHED(type_huge, &at.dataset, TYPE_AT + 4, UINT32_MAX, 4)
PATCHED(type_big_endian, &at.dataset, TYPE_AT + 1, 0x21, 1)
PATCHED(type_compound, &at.dataset, TYPE_AT, 0x16, 1)
PATCHED(layout_version, &at.dataset, LAYOUT_AT, 2, 1)
PATCHED(layout_class, &at.dataset, LAYOUT_AT + 1, 7, 1)
PATCHED(layout_virtual, &at.dataset, LAYOUT_AT + 1, 3, 1)
PATCHED(data_outside, &at.dataset, LAYOUT_AT + 2, 1 << 20, 8)
PATCHED(data_wraps, &at.dataset, LAYOUT_AT + 2, UINT64_MAX - 7, 8)
PATCHED(data_huge, &at.dataset, LAYOUT_AT + 10, UINT64_MAX, 8)
PATCHED(data_never_written, &at.dataset, LAYOUT_AT + 2, UINT64_MAX, 8)

/* 2^40 x 2^40 floats. */
static void space_bomb(bytes *b) {
    build_good(b);
    set_number(b, at.dataset + SPACE_AT + 8, UINT64_C(1) << 40, 8);
    set_number(b, at.dataset + SPACE_AT + 16, UINT64_C(1) << 40, 8);
}
/* 2^62 x 4 bytes: nothing, modulo 2^64. */
static void space_bomb_hidden(bytes *b) {
    build_good(b);
    set_number(b, at.dataset + SPACE_AT + 8, UINT64_C(1) << 61, 8);
    set_number(b, at.dataset + SPACE_AT + 16, 2, 8);
    set_number(b, at.dataset + LAYOUT_AT + 10, 0, 8);
}

/* Data in other files. */
static void data_external(bytes *b) {
    h5_begin(b);
    bytes space = h5_space(2, two_by_three), type = h5_float_type(), list = {0};
    put_number(&list, 1, 8);
    h5_header h = {0};
    h5_message(&h, H5_SPACE, &space);
    h5_message(&h, H5_TYPE, &type);
    h5_message(&h, H5_EXTERNAL, &list);
    at.dataset = h5_put_header(b, &h);
    at.group = put_layer(b, h5_link("kernel:0", 0, at.dataset));
    put_root(b, NULL);
}

/* --- texts ------------------------------------------------------------------------------------ */

/* The root's layer_names is a text in a global heap collection of one object. */
static void build_heap(bytes *b, uint64_t collection_size, uint64_t object_size, uint64_t length,
                       int64_t shift, uint64_t index) {
    h5_begin(b);
    uint64_t heap = b->size;
    put_text(b, "GCOL");
    put_number(b, 1, 4);
    put_number(b, collection_size, 8);
    put_number(b, 1, 8);
    put_number(b, object_size, 8);
    put_text(b, "d\0\0\0\0\0\0");
    while (b->size < heap + 64) put_number(b, 0, 1);
    h5_header root = {0};
    bytes names = h5_variable_text("layer_names", length, heap + (uint64_t)shift, index);
    h5_message(&root, H5_ATTRIBUTE, &names);
    bytes table = {0};
    at.table = h5_put_table(b, "d", heap);
    table = h5_symbol_table(&at.table);
    set_number(b, at.table.node + 16, 0, 8);
    at.group = b->size;
    h5_header group = {0};
    bytes empty = h5_texts("weight_names", 1, "x", 1);
    h5_message(&group, H5_ATTRIBUTE, &empty);
    at.group = h5_put_header(b, &group);
    set_number(b, at.table.node + 16, at.group, 8);
    h5_message(&root, H5_SYMBOL_TABLE, &table);
    h5_end(b, h5_put_header(b, &root));
}
#define HEAP(function, ...)                                                                        \
    static void function(bytes *b) {                                                               \
        build_heap(b, __VA_ARGS__);                                                                \
    }

HEAP(text_outside, 64, 1, 1, 1 << 20, 1)
HEAP(text_no_heap, 64, 1, 1, 8, 1)
HEAP(text_nowhere, 64, 1, 1, -97, 1)
HEAP(text_heap_size, UINT64_MAX, 1, 1, 0, 1)
HEAP(text_heap_small, 8, 1, 1, 0, 1)
HEAP(text_object_size, 64, UINT64_MAX - 8, 1, 0, 1)
HEAP(text_longer, 64, 1, 1000, 0, 1)
HEAP(text_no_object, 64, 1, 1, 0, 9)

/* --- Keras ------------------------------------------------------------------------------------ */

static void build_names(bytes *b, const char *layers, const char *weights) {
    h5_header root = {0}, group = {0};
    h5_begin(b);
    put_kernel(b);
    bytes names = h5_texts("weight_names", 1, weights, strlen(weights));
    bytes kernel = h5_link("kernel:0", 0, at.dataset);
    h5_message(&group, H5_ATTRIBUTE, &names);
    h5_message(&group, H5_LINK, &kernel);
    at.group = h5_put_header(b, &group);
    names = h5_texts("layer_names", 1, layers, strlen(layers));
    bytes link = h5_link("d", 0, at.group);
    h5_message(&root, H5_ATTRIBUTE, &names);
    h5_message(&root, H5_LINK, &link);
    h5_end(b, h5_put_header(b, &root));
}

#define NAMES(function, layers, weights)                                                           \
    static void function(bytes *b) {                                                               \
        build_names(b, layers, weights);                                                           \
    }
#define CONFIG(function, text)                                                                     \
    static void function(bytes *b) {                                                               \
        build_with_config(b, text);                                                                \
    }
#define MODEL(layers) "{\"class_name\":\"Functional\",\"config\":{\"layers\":[" layers "]}}"
#define LAYER(class, name)                                                                         \
    "{\"class_name\":\"" class "\",\"config\":{\"name\":\"" name "\"},\"name\":\"" name "\"}"

NAMES(layer_missing, "e", "kernel:0")
NAMES(layer_not_utf8, "\xff", "kernel:0")
NAMES(weight_missing, "d", "bias:0")
NAMES(weight_outside, "d", "../kernel:0")
CONFIG(config_bad, "{\"class_name\":")
CONFIG(config_no_model, "[1,2]")
CONFIG(config_no_class, "{\"config\":{}}")
CONFIG(config_twice, "{\"class_name\":\"a\",\"class_name\":\"b\"}")
CONFIG(config_lambda, MODEL(LAYER("Dense", "d") "," LAYER("Lambda", "code")))
CONFIG(config_lambda_inner,
       MODEL("{\"class_name\":\"TimeDistributed\",\"config\":{\"name\":\"t\",\"layer\":" LAYER(
           "Lambda", "hidden") "}}"))
CONFIG(config_other, MODEL(LAYER("Dense", "e")))

static void config_deep(bytes *b) {
    bytes text = {0};
    put_text(&text, "{\"class_name\":");
    put_repeated(&text, "[", 30000);
    put_number(&text, 0, 1);
    build_with_config(b, (char *)text.data);
    free(text.data);
}

static void no_keras(bytes *b) {
    h5_begin(b);
    put_kernel(b);
    h5_header root = {0};
    bytes link = h5_link("data", 0, at.dataset);
    h5_message(&root, H5_LINK, &link);
    h5_end(b, h5_put_header(b, &root));
}

/* layers/dense/vars/0, as Keras 3 writes it. */
static void build_modern(bytes *b) {
    h5_begin(b);
    put_kernel(b);
    static const char *const names[] = {"0", "vars", "dense", "layers"};
    uint64_t next = at.dataset;
    for (int i = 0; i < 4; i++) {
        h5_header group = {0};
        bytes link = h5_link(names[i], 0, next);
        h5_message(&group, H5_LINK, &link);
        next = h5_put_header(b, &group);
    }
    h5_end(b, next);
}

/* A .keras archive; what is NULL is left out. */
static void build_archive(bytes *b, void (*weights)(bytes *b), const char *config) {
    bytes h5 = {0};
    int count = 0;
    zip_part parts[2] = {{0}};
    if (weights) weights(&h5);
    if (config)
        parts[count++] = (zip_part){.name = "config.json", .data = config, .size = strlen(config)};
    if (weights)
        parts[count++] = (zip_part){.name = "model.weights.h5", .data = h5.data, .size = h5.size};
    put_zip(b, parts, count, (zip_options){0});
    free(h5.data);
}

#define ARCHIVE(function, weights, config)                                                         \
    static void function(bytes *b) {                                                               \
        build_archive(b, weights, config);                                                         \
    }
#define NO_BIAS(class)                                                                             \
    MODEL("{\"class_name\":\"" class "\",\"config\":{\"name\":\"d\",\"use_bias\":false}}")

ARCHIVE(archive_good, build_modern, NO_BIAS("Dense"))
ARCHIVE(archive_no_config, build_modern, NULL)
ARCHIVE(archive_no_weights, NULL, NO_BIAS("Dense"))
ARCHIVE(archive_bad_config, build_modern, "{")
ARCHIVE(archive_lambda, build_modern, MODEL(LAYER("Lambda", "code")))
ARCHIVE(archive_other_layer, build_modern, NO_BIAS("Conv2D"))
ARCHIVE(archive_more_variables, build_modern, MODEL(LAYER("Dense", "d")))
ARCHIVE(archive_bad_weights, super_end, NO_BIAS("Dense"))
ARCHIVE(archive_no_hdf5, super_signature, NO_BIAS("Dense"))

/* --- all of them ------------------------------------------------------------------------------ */

static const bad_file bad_files[] = {
    {"bad signature", super_signature, TL_UNSUPPORTED, "byte 0: the file is of an unknown format"},
    {"12 bytes", super_short, TL_TRUNCATED, "byte 0: 12 bytes, an HDF5 file has 48"},
    {"superblock version 9", super_version, TL_UNSUPPORTED, "byte 8: superblock version 9"},
    {"addresses of 4 bytes", super_offsets, TL_UNSUPPORTED, "byte 13: addresses of 4"},
    {"base address", super_base, TL_UNSUPPORTED, "base address 512"},
    {"end past the file", super_end, TL_TRUNCATED, "byte 40: the file ends at 1048576"},
    {"driver block", super_driver, TL_UNSUPPORTED, "byte 48: a driver information block"},
    {"root outside", super_root, TL_CORRUPT, "byte 1048576: object header of 16 bytes"},
    {"root's address wraps", super_root_last, TL_CORRUPT, "object header of 16 bytes"},
    {"root is a dataset", root_no_group, TL_CORRUPT, "byte 120: the root is no group"},

    {"B-tree outside", tree_outside, TL_CORRUPT, "byte 1048576: B-tree node"},
    {"heap outside", heap_outside, TL_CORRUPT, "byte 1048576: local heap of 32 bytes"},
    {"heap's address wraps", heap_wraps, TL_CORRUPT, "local heap of 32 bytes"},
    {"B-tree without signature", tree_signature, TL_CORRUPT, "no B-tree node of a group"},
    {"B-tree of chunks", tree_of_chunks, TL_CORRUPT, "no B-tree node of a group"},
    {"B-tree of 200 levels", tree_high, TL_CORRUPT, "B-tree of 200 levels"},
    {"B-tree with 65,535 children", tree_many, TL_CORRUPT, "byte"},
    {"B-tree in itself", tree_in_itself, TL_CORRUPT, "B-tree node of level 1, expected 0"},
    {"symbol node outside", node_outside, TL_CORRUPT, "byte 1048576: symbol table node"},
    {"symbol node without signature", node_signature, TL_CORRUPT, "no symbol table node"},
    {"65,535 symbols", node_many, TL_CORRUPT, "byte"},
    {"name outside the heap", name_outside, TL_CORRUPT, "link name at 1048576 of a heap"},
    {"name without an end", name_endless, TL_CORRUPT, "link name without an end"},
    {"empty name", name_empty, TL_CORRUPT, "link name \"\" is empty"},
    {"name with a slash", name_with_slash, TL_CORRUPT, "link name \"/\" is empty"},
    {"heap's data outside", heap_data_outside, TL_CORRUPT, "byte 1048576: local heap's data"},
    {"heap of 2^64 bytes", heap_huge, TL_CORRUPT, "local heap's data of 18446744073709551615"},
    {"member outside", member_outside, TL_CORRUPT, "\"d\" lies at 1048576"},
    {"group in itself", group_in_itself, TL_CORRUPT, "group \"/\" contains itself"},
    {"2^60 groups", groups_doubled, TL_LIMIT, "byte"},
    {"100 groups deep", groups_deep, TL_LIMIT, "groups nested deeper than 64"},
    {"name twice", name_twice, TL_CORRUPT, "\"a\" is there twice"},
    {"soft link", link_soft, TL_UNSAFE, "\"kernel:0\" is a soft link"},
    {"soft link in a symbol table", soft_link_cached, TL_UNSAFE, "\"d\" is a soft link"},
    {"external link", link_external, TL_UNSAFE, "\"kernel:0\" is a link into another file"},
    {"link outside", link_outside, TL_CORRUPT, "\"kernel:0\" lies at 1048576"},
    {"link of version 3", link_version, TL_UNSUPPORTED, "link version 3"},

    {"header version 7", header_version, TL_CORRUPT, "byte 120: object header version 7"},
    {"more messages than there are", header_more, TL_CORRUPT, "1 header messages more"},
    {"header of 4 GB", header_size, TL_CORRUPT, "object header of 4294967295 bytes"},
    {"message past its block", message_long, TL_CORRUPT, "header message 0x01 of 60000 bytes"},
    {"shared message", message_shared, TL_UNSUPPORTED, "header message 0x01 is shared"},
    {"message that leaves its block", message_unknown, TL_CORRUPT, "header message 0x5d of 128"},
    {"message that must be known", message_must_be_known, TL_UNSUPPORTED, "message 0x5d is not"},
    {"two layouts", layout_twice, TL_UNSUPPORTED, "data layout version 17"},
    {"no datatype", type_missing, TL_CORRUPT, "\"kernel:0\" has no datatype"},
    {"continuation loop", continuation_loop, TL_CORRUPT, "byte 96: object header continues where"},
    {"1,000 continuations", continuation_chain, TL_LIMIT, "object header of over 256 blocks"},
    {"continuation outside", continuation_outside, TL_CORRUPT, "byte 1048576: object header of 24"},

    {"rank 33", space_rank, TL_CORRUPT, "byte 144: dataspace of rank 33"},
    {"rank 32 of two dimensions", space_rank_past, TL_CORRUPT, "byte 144: dataspace needs more"},
    {"dataspace version 9", space_version, TL_UNSUPPORTED, "dataspace version 9"},
    {"more elements than data", space_larger, TL_CORRUPT, "9 elements of 4 bytes in 24 bytes"},
    {"dimension 2^64 - 1", space_negative, TL_CORRUPT, "\"kernel:0\": 18446744073709551615"},
    {"shape bomb", space_bomb, TL_CORRUPT, "\"kernel:0\": 18446744073709551615 elements"},
    {"shape bomb that wraps", space_bomb_hidden, TL_CORRUPT, "4611686018427387904 elements"},
    {"type of 0 bytes", type_empty, TL_CORRUPT, "byte 176: datatype of 0 bytes"},
    {"type of 4 GB", type_huge, TL_CORRUPT, "byte 176: datatype of 4294967295"},
    {"big-endian floats", type_big_endian, TL_UNSUPPORTED, "\"d/kernel\" at byte 120"},
    {"compound type", type_compound, TL_UNSUPPORTED, "its elements are no numbers"},
    {"layout version 2", layout_version, TL_UNSUPPORTED, "byte 208: data layout version 2"},
    {"layout class 7", layout_class, TL_CORRUPT, "byte 208: data layout class 7"},
    {"virtual dataset", layout_virtual, TL_UNSAFE, "byte 208: a virtual dataset"},
    {"external storage", data_external, TL_UNSAFE, "\"kernel:0\" keeps its data in other files"},
    {"data outside", data_outside, TL_CORRUPT, "byte 208: 24 bytes of data at 1048576"},
    {"data's address wraps", data_wraps, TL_CORRUPT, "24 bytes of data at 18446744073709551608"},
    {"2^64 bytes of data", data_huge, TL_CORRUPT, "18446744073709551615 bytes of data"},
    {"data never written", data_never_written, TL_UNSUPPORTED, "its data was never written"},

    {"text outside", text_outside, TL_CORRUPT, "byte 1048672: global heap of 16 bytes"},
    {"text in no heap", text_no_heap, TL_CORRUPT, "byte 104: no global heap collection"},
    {"text at no address", text_nowhere, TL_CORRUPT, "global heap of 16 bytes"},
    {"heap past the file", text_heap_size, TL_CORRUPT, "byte 96: global heap of 1844674"},
    {"heap of 8 bytes", text_heap_small, TL_CORRUPT,
     "byte 96: global heap of 8 bytes, expected 16"},
    {"heap object past its heap", text_object_size, TL_CORRUPT, "byte 112: global heap object"},
    {"text past its object", text_longer, TL_CORRUPT, "byte 112: a text of 1000 bytes"},
    {"no such heap object", text_no_object, TL_CORRUPT, "byte 96: the global heap has no object 9"},

    {"layer is not there", layer_missing, TL_CORRUPT, "layer_names lists \"e\""},
    {"layer name not UTF-8", layer_not_utf8, TL_CORRUPT, "text \"\\xff\" is no UTF-8"},
    {"weight is not there", weight_missing, TL_CORRUPT, "lists \"bias:0\", which is not there"},
    {"weight by ../", weight_outside, TL_CORRUPT, "lists \"../kernel:0\", which is not there"},
    {"linked under another name", link_missing, TL_CORRUPT, "lists \"d/kernel:0\""},
    {"model_config bad", config_bad, TL_CORRUPT, "the model_config is no valid JSON"},
    {"model_config a list", config_no_model, TL_CORRUPT, "the model_config is no Keras model"},
    {"model_config without class", config_no_class, TL_CORRUPT, "it has no class_name"},
    {"model_config with a key twice", config_twice, TL_CORRUPT, "duplicate"},
    {"model_config of 30,000 levels", config_deep, TL_LIMIT, "nests deeper than 64"},
    {"Lambda layer", config_lambda, TL_UNSAFE, "a Lambda layer (\"code\"): Python code"},
    {"Lambda layer in another", config_lambda_inner, TL_UNSAFE, "a Lambda layer (\"hidden\")"},
    {"weight of no layer", config_other, TL_CORRUPT, "\"d/kernel:0\" of a layer that model_config"},
    {"no file of Keras", no_keras, TL_UNSUPPORTED, "with neither layer_names nor"},

    {".keras without config", archive_no_config, TL_CORRUPT, "no config.json"},
    {".keras without weights", archive_no_weights, TL_UNSUPPORTED, "without model.weights.h5"},
    {".keras with a bad config", archive_bad_config, TL_CORRUPT, "the config.json is no valid"},
    {".keras with a Lambda layer", archive_lambda, TL_UNSAFE, "a Lambda layer (\"code\")"},
    {".keras with another layer", archive_other_layer, TL_UNSUPPORTED,
     "layer \"layers/dense\" has no name"},
    {".keras with fewer variables", archive_more_variables, TL_CORRUPT,
     "has 1 variables, the model's config gives it 2"},
    {".keras with cut-off weights", archive_bad_weights, TL_TRUNCATED, "the file ends at 1048576"},
    {".keras without HDF5", archive_no_hdf5, TL_CORRUPT, "no HDF5 signature"},
};

static void bad_files_are_refused(void **state) {
    (void)state;
    check_bad_files(bad_files, sizeof bad_files / sizeof bad_files[0]);
}

/* --- small faults ----------------------------------------------------------------------------- */

static void small_faults_in_an_h5_do_no_harm(void **state) {
    (void)state;
    check_faults(build_good);
}

static void small_faults_in_an_archive_do_no_harm(void **state) {
    (void)state;
    check_faults(archive_good);
}

static void read_golden(bytes *b) {
    FILE *file = fopen("tests/golden/keras/latest.weights.h5", "rb");
    assert_non_null(file);
    char block[4096];
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;) put(b, block, got);
    fclose(file);
}

static void small_faults_in_the_newer_form_do_no_harm(void **state) {
    (void)state;
    check_faults(read_golden);
}

/* --- good files ------------------------------------------------------------------------------- */

static void reads_what_keras_writes(void **state) {
    (void)state;
    check_tensor_list("tests/golden/keras/small.keras", "tests/golden/keras/small.txt", "keras");
    check_tensor_list("tests/golden/keras/small.h5", "tests/golden/keras/small.txt", "keras-h5");
}

static void reads_every_kind_of_number(void **state) {
    (void)state;
    check_tensor_list("tests/golden/keras/kinds.h5", "tests/golden/keras/kinds.txt", "keras-h5");
}

static void reads_the_newer_form(void **state) {
    (void)state;
    check_tensor_list("tests/golden/keras/latest.weights.h5", "tests/golden/keras/latest.txt",
                      "keras-weights");
}

/* Three variables may be a batch norm without its scale or without its offset: they keep their
 * numbers. */
static void a_doubtful_batch_norm_is_not_named(void **state) {
    (void)state;
    tl_context *ctx = hostile_context();
    tl_source source;
    tl_weights *weights = NULL;
    assert_ok(tl_source_open(ctx, "tests/golden/keras/small.weights.h5", &source));
    assert_ok(tl_weights_open(ctx, &source, &weights));
    int doubtful = 0;
    for (int i = 0; i < weights->count; i++) {
        const char *slash = strrchr(weights->item[i].name, '/');
        doubtful += strspn(slash + 1, "0123456789") == strlen(slash + 1);
    }
    assert_int_equal(doubtful, 3);
    tl_weights_free(weights);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_keras_writes),
        cmocka_unit_test(reads_every_kind_of_number),
        cmocka_unit_test(reads_the_newer_form),
        cmocka_unit_test(a_doubtful_batch_norm_is_not_named),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(small_faults_in_an_h5_do_no_harm),
        cmocka_unit_test(small_faults_in_an_archive_do_no_harm),
        cmocka_unit_test(small_faults_in_the_newer_form_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
