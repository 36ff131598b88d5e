/* HDF5 datasets in chunks, filtered or not: what h5py writes, and bad ones of every kind. */
#include "support.h"

#include "hostile.h"

#include "hdf5_writer.h"
#include "tensor_list.h"

/* --- writing ---------------------------------------------------------------------------------- */

/* Chunks of `rank` equal dimensions; the element's size counts as one more. Their B-tree is at
 * `tree`. */
static bytes h5_chunked(uint64_t tree, int rank, uint64_t chunk) {
    bytes d = {0};
    put_number(&d, 3, 1);
    put_number(&d, 2, 1);
    put_number(&d, (uint64_t)rank + 1, 1);
    put_number(&d, tree, 8);
    for (int i = 0; i < rank; i++) put_number(&d, chunk, 4);
    put_number(&d, 4, 4);
    return d;
}

/* Filters without a name, each with one number. */
static bytes h5_filters(int count, const unsigned *ids, unsigned number) {
    bytes d = {0};
    put_number(&d, 1, 1);
    put_number(&d, (uint64_t)count, 7);
    for (int i = 0; i < count; i++) {
        put_number(&d, ids[i], 6);
        put_number(&d, 1, 2);
        put_number(&d, number, 8);
    }
    return d;
}

/* A B-tree's leaf: the chunks of a matrix of one row of chunks, `step` columns apart. */
typedef struct h5_chunk {
    uint64_t address, size;
} h5_chunk;

enum { H5_CHUNK_KEY = 24, H5_CHUNK_ENTRY = 40 /* of rank 2, in a node: the first and each */ };

static uint64_t h5_put_chunks(bytes *b, int count, const h5_chunk *chunks, uint64_t step) {
    while (b->size % 8) put_number(b, 0, 1);
    uint64_t address = b->size;
    put_text(b, "TREE");
    put_number(b, 1, 2);
    put_number(b, (uint64_t)count, 2);
    put_number(b, UINT64_MAX, 8);
    put_number(b, UINT64_MAX, 8);
    for (int i = 0; i < count; i++) {
        put_number(b, chunks[i].size, 8);
        put_number(b, 0, 8);
        put_number(b, (uint64_t)i * step, 8);
        put_number(b, 0, 8);
        put_number(b, chunks[i].address, 8);
    }
    return address;
}

/* --- zlib streams ----------------------------------------------------------------------------- */

/* One block as it is, of fewer than 2^16 bytes. */
static void h5_put_stored(bytes *b, const void *data, size_t size) {
    uint32_t low = 1, high = 0;
    for (size_t i = 0; i < size; i++) {
        low = (low + ((const unsigned char *)data)[i]) % 65521;
        high = (high + low) % 65521;
    }
    put(b, "\x78\x01\x01", 3);
    put_number(b, size, 2);
    put_number(b, ~size, 2);
    put(b, data, size);
    for (int i = 0; i < 4; i++) put_number(b, (high << 16 | low) >> (24 - 8 * i), 1);
}

typedef struct h5_bits {
    bytes *to;
    unsigned value, count;
} h5_bits;

/* Codes go with their highest bit first. */
static void h5_put_code(h5_bits *bits, unsigned code, int length) {
    while (length-- > 0) {
        bits->value |= (code >> length & 1) << bits->count;
        if (++bits->count < 8) continue;
        put_number(bits->to, bits->value, 1);
        bits->value = bits->count = 0;
    }
}

/* A zero, and `copies` times 258 more, by the fixed codes: 13 bits each. */
static void h5_put_zeros(bytes *b, int copies) {
    put(b, "\x78\x01", 2);
    h5_bits bits = {.to = b};
    h5_put_code(&bits, 6, 3); /* the last block, fixed codes */
    h5_put_code(&bits, 0x30, 8);
    for (int i = 0; i < copies; i++) {
        h5_put_code(&bits, 0xc5, 8);
        h5_put_code(&bits, 0, 5);
    }
    h5_put_code(&bits, 0, 7);
    h5_put_code(&bits, 0, 7);
    uint32_t high = (1 + 258 * (uint32_t)copies) % 65521;
    put_number(b, high >> 8, 1);
    put_number(b, high, 1);
    put_number(b, 0, 1);
    put_number(b, 1, 1);
}

/* --- good files ------------------------------------------------------------------------------- */

static uint64_t tree; /* of the chunks */

/* The last messages are the layout, with its B-tree, rank, extents and element, and the filters. */
enum {
    CHUNK_TREE_AT = LAYOUT_AT + 3,
    CHUNK_DIM_AT = LAYOUT_AT + 11,
    FILTERS_AT = LAYOUT_AT + 24 + H5_MESSAGE,
    CHUNK = 16 /* bytes of 2 x 2 */
};
static const unsigned deflate_only[] = {1};

/* The matrix of 2 x 3 in two chunks of 2 x 2. */
static void put_chunked(bytes *b, const h5_chunk chunks[2], int filter_count,
                        const unsigned *filters) {
    tree = h5_put_chunks(b, 2, chunks, 2);
    bytes space = h5_space(2, two_by_three), type = h5_float_type();
    bytes layout = h5_chunked(tree, 2, 2), list = h5_filters(filter_count, filters, 4);
    h5_header h = {0};
    h5_message(&h, H5_SPACE, &space);
    h5_message(&h, H5_TYPE, &type);
    h5_message(&h, H5_LAYOUT, &layout);
    h5_message(&h, H5_FILTER, &list);
    at.dataset = h5_put_header(b, &h);
    at.group = put_layer(b, h5_link("kernel:0", 0, at.dataset));
    put_root(b, NULL);
}

static const float chunk_data[2][4] = {{1, 2, 4, 5}, {3, 0, 6, 0}};

static void build_chunked(bytes *b) {
    h5_chunk chunks[2];
    h5_begin(b);
    for (int i = 0; i < 2; i++) {
        chunks[i] = (h5_chunk){b->size, CHUNK};
        put(b, chunk_data[i], CHUNK);
    }
    put_chunked(b, chunks, 0, NULL);
}

/* Both chunks are the zlib stream of `size` bytes at the end of `b`. */
static void finish_deflated(bytes *b, uint64_t begin) {
    h5_chunk chunks[2] = {{begin, b->size - begin}, {begin, b->size - begin}};
    put_chunked(b, chunks, 1, deflate_only);
}

static void build_deflated(bytes *b, const void *data, size_t size) {
    h5_begin(b);
    uint64_t begin = b->size;
    h5_put_stored(b, data, size);
    finish_deflated(b, begin);
}

static void build_chunked_patched(bytes *b, const uint64_t *part, uint64_t offset, uint64_t value,
                                  int size) {
    build_chunked(b);
    set_number(b, *part + offset, value, size);
}

#define CHUNKED(function, part, offset, value, size)                                               \
    static void function(bytes *b) {                                                               \
        build_chunked_patched(b, part, offset, value, size);                                       \
    }

CHUNKED(chunk_tree_outside, &at.dataset, CHUNK_TREE_AT, 1 << 20, 8)
CHUNKED(chunk_tree_nowhere, &at.dataset, CHUNK_TREE_AT, UINT64_MAX, 8)
CHUNKED(chunk_tree_of_group, &tree, 4, 0, 1)
CHUNKED(chunk_tree_high, &tree, 5, 200, 1)
CHUNKED(chunk_tree_many, &tree, 6, 65535, 2)
CHUNKED(chunk_missing, &tree, 6, 1, 2)
CHUNKED(chunk_twice, &tree, H5_CHUNK_KEY + H5_CHUNK_ENTRY + 16, 0, 8)
CHUNKED(chunk_crooked, &tree, H5_CHUNK_KEY + H5_CHUNK_ENTRY + 16, 1, 8)
CHUNKED(chunk_elsewhere, &tree, H5_CHUNK_KEY + H5_CHUNK_ENTRY + 16, 4, 8)
CHUNKED(chunk_in_element, &tree, H5_CHUNK_KEY + 24, 1, 8)
CHUNKED(chunk_outside, &tree, H5_CHUNK_KEY + 32, 1 << 20, 8)
CHUNKED(chunk_wraps, &tree, H5_CHUNK_KEY + 32, UINT64_MAX - 7, 8)
CHUNKED(chunk_empty, &tree, H5_CHUNK_KEY, 0, 4)
CHUNKED(chunk_large, &tree, H5_CHUNK_KEY, UINT32_MAX, 4)
CHUNKED(chunk_short, &tree, H5_CHUNK_KEY, CHUNK - 4, 4)
CHUNKED(chunk_flat, &at.dataset, CHUNK_DIM_AT, 0, 4)
CHUNKED(chunk_rank, &at.dataset, LAYOUT_AT + 2, 2, 1)
CHUNKED(chunk_rank_huge, &at.dataset, LAYOUT_AT + 2, 255, 1)
CHUNKED(chunk_element, &at.dataset, CHUNK_DIM_AT + 8, 8, 4)
CHUNKED(chunk_of_16_gb, &at.dataset, CHUNK_DIM_AT, UINT32_MAX, 4)
CHUNKED(chunk_of_256_mb, &at.dataset, CHUNK_DIM_AT, 1 << 25, 4)
CHUNKED(chunk_index_of_1_10, &at.dataset, LAYOUT_AT, 4, 1)
CHUNKED(chunk_space_bomb, &at.dataset, SPACE_AT + 8, UINT64_C(1) << 60, 8)
CHUNKED(chunk_space_large, &at.dataset, SPACE_AT + 8, 1 << 22, 8)
CHUNKED(chunk_space_many, &at.dataset, SPACE_AT + 8, 1 << 10, 8)
CHUNKED(filters_version, &at.dataset, FILTERS_AT, 3, 1)
CHUNKED(filters_past_message, &at.dataset, FILTERS_AT + 1, 32, 1)

/* A node of level 1 whose child is itself. */
static void chunk_tree_in_itself(bytes *b) {
    build_chunked(b);
    b->data[tree + 5] = 1;
    set_number(b, tree + H5_CHUNK_KEY + 32, tree, 8);
}

/* Two chunks of one place, of a file that is not as large as both. */
static void chunks_overlap(bytes *b) {
    static const char zeros[1 << 12];
    build_deflated(b, zeros, sizeof zeros);
    set_number(b, at.dataset + CHUNK_DIM_AT, 512, 4);
}

static void filter_unknown(bytes *b) {
    static const unsigned ids[] = {32015};
    h5_begin(b);
    put_chunked(b, (h5_chunk[2]){{H5_SUPERBLOCK, CHUNK}, {H5_SUPERBLOCK, CHUNK}}, 1, ids);
}
static void filter_twice(bytes *b) {
    static const unsigned ids[] = {1, 1};
    h5_begin(b);
    put_chunked(b, (h5_chunk[2]){{H5_SUPERBLOCK, CHUNK}, {H5_SUPERBLOCK, CHUNK}}, 2, ids);
}
static void shuffle_wrong(bytes *b) {
    static const unsigned ids[] = {2};
    h5_begin(b);
    put_chunked(b, (h5_chunk[2]){{H5_SUPERBLOCK, CHUNK}, {H5_SUPERBLOCK, CHUNK}}, 1, ids);
    set_number(b, at.dataset + FILTERS_AT + 16, 8, 4);
}
static void sum_wrong(bytes *b) {
    static const unsigned ids[] = {3};
    h5_begin(b);
    put_repeated(b, "0123", 10);
    put_chunked(b, (h5_chunk[2]){{H5_SUPERBLOCK, CHUNK + 4}, {H5_SUPERBLOCK, CHUNK + 4}}, 1, ids);
}
static void sum_missing(bytes *b) {
    static const unsigned ids[] = {3};
    h5_begin(b);
    put_repeated(b, "0123", 10);
    put_chunked(b, (h5_chunk[2]){{H5_SUPERBLOCK, 3}, {H5_SUPERBLOCK, 3}}, 1, ids);
}

static void deflate_short(bytes *b) {
    build_deflated(b, chunk_data, CHUNK - 4);
}
static void deflate_long(bytes *b) {
    build_deflated(b, chunk_data, CHUNK + 4);
    for (int i = 0; i < 2; i++) /* what is behind its end */
        set_number(b, tree + H5_CHUNK_KEY + (uint64_t)i * H5_CHUNK_ENTRY, CHUNK + 15, 4);
}
static void deflate_bad_sum(bytes *b) {
    build_deflated(b, chunk_data, CHUNK);
    b->data[H5_SUPERBLOCK + 8] ^= 1;
}
static void deflate_bad_stream(bytes *b) {
    build_deflated(b, chunk_data, CHUNK);
    b->data[H5_SUPERBLOCK + 2] = 7; /* a block of type 3 */
}
/* 4 MB out of 26 KB, where a chunk has 32 KB. */
static void deflate_bomb(bytes *b) {
    h5_begin(b);
    uint64_t begin = b->size;
    h5_put_zeros(b, 16256);
    finish_deflated(b, begin);
    put_repeated(b, "free space", 2600); /* for the second of the two, which are one */
    set_number(b, at.dataset + CHUNK_DIM_AT, 1 << 12, 4);
}

/* Shuffled, then deflated. */
static void build_filtered(bytes *b) {
    static const unsigned ids[] = {2, 1};
    h5_chunk chunks[2];
    h5_begin(b);
    for (int n = 0; n < 2; n++) {
        unsigned char shuffled[CHUNK];
        const unsigned char *data = (const unsigned char *)chunk_data[n];
        for (int i = 0; i < CHUNK; i++) shuffled[i % 4 * 4 + i / 4] = data[i];
        chunks[n].address = b->size;
        h5_put_stored(b, shuffled, CHUNK);
        chunks[n].size = b->size - chunks[n].address;
    }
    put_chunked(b, chunks, 2, ids);
}

/* --- all of them ------------------------------------------------------------------------------ */

static const bad_file bad_files[] = {
    {"chunks' B-tree outside", chunk_tree_outside, TL_CORRUPT, "byte 1048576: B-tree node"},
    {"chunks' B-tree nowhere", chunk_tree_nowhere, TL_UNSUPPORTED, "data was never written"},
    {"chunks' B-tree of a group", chunk_tree_of_group, TL_CORRUPT, "no B-tree node of chunks"},
    {"chunks' B-tree of 200 levels", chunk_tree_high, TL_CORRUPT, "of level 200, expected at most"},
    {"chunks' B-tree of 65,535", chunk_tree_many, TL_CORRUPT, "B-tree node's children of 2621400"},
    {"chunks' B-tree in itself", chunk_tree_in_itself, TL_CORRUPT, "of level 1, expected 0"},
    {"chunk missing", chunk_missing, TL_UNSUPPORTED, "\"d/kernel\" at byte 232: some of its data"},
    {"chunk twice", chunk_twice, TL_CORRUPT, "byte 192: a chunk that is there twice"},
    {"chunk beside the grid", chunk_crooked, TL_CORRUPT, "a chunk that is no part of its dataset"},
    {"chunk outside its dataset", chunk_elsewhere, TL_CORRUPT, "a chunk that is no part of"},
    {"chunk within an element", chunk_in_element, TL_CORRUPT, "a chunk that is no part of"},
    {"chunk past the file", chunk_outside, TL_CORRUPT, "a chunk of 16 bytes at 1048576"},
    {"chunk's address wraps", chunk_wraps, TL_CORRUPT, "16 bytes at 18446744073709551608"},
    {"chunk of 0 bytes", chunk_empty, TL_CORRUPT, "a chunk of 0 bytes, expected 1 to 36"},
    {"chunk stored in 4 GB", chunk_large, TL_CORRUPT, "a chunk of 4294967295 bytes"},
    {"chunk cut short", chunk_short, TL_CORRUPT, "byte 96: chunk 0 holds 12 bytes, expected 16"},
    {"chunk of extent 0", chunk_flat, TL_CORRUPT, "chunks of extent 0 in 0"},
    {"chunks of another rank", chunk_rank, TL_CORRUPT, "chunks of rank 1"},
    {"chunks of 255 dimensions", chunk_rank_huge, TL_CORRUPT, "chunks of 255 dimensions"},
    {"chunks of other elements", chunk_element, TL_CORRUPT, "elements of 8 bytes in a dataset"},
    {"chunk of 32 GB", chunk_of_16_gb, TL_LIMIT, "chunks of 34359738360 bytes"},
    {"chunk of 256 MB", chunk_of_256_mb, TL_LIMIT, "reading it needs over"},
    {"chunks found as since 1.10", chunk_index_of_1_10, TL_UNSUPPORTED, "an index of HDF5 1.10"},
    {"shape bomb in chunks", chunk_space_bomb, TL_LIMIT, "over"},
    {"50 MB of two chunks", chunk_space_large, TL_LIMIT, "bytes of data in chunks, too many"},
    {"1,024 chunks of two", chunk_space_many, TL_CORRUPT, "1024 chunks, too many for a file"},
    {"chunks that overlap", chunks_overlap, TL_CORRUPT, "chunks of 8214 bytes together"},
    {"filter list of version 3", filters_version, TL_UNSUPPORTED, "filter list version 3"},
    {"filters past their message", filters_past_message, TL_CORRUPT, "filter list needs more"},
    {"unknown filter", filter_unknown, TL_UNSUPPORTED, "its filter 32015 (\"\") is none of"},
    {"filter twice", filter_twice, TL_CORRUPT, "filter 1 is applied twice"},
    {"shuffled by other elements", shuffle_wrong, TL_CORRUPT, "are shuffled as of 8"},
    {"wrong checksum", sum_wrong, TL_CORRUPT, "byte 96: chunk 0 of 20 bytes fails its filter fl"},
    {"no room for a checksum", sum_missing, TL_CORRUPT, "fails its filter fletcher32"},
    {"too little out of deflate", deflate_short, TL_CORRUPT, "holds 12 bytes, expected 16"},
    {"too much out of deflate", deflate_long, TL_CORRUPT, "holds 20 bytes, expected 16"},
    {"deflate's sum wrong", deflate_bad_sum, TL_CORRUPT, "fails its filter deflate"},
    {"deflate's stream bad", deflate_bad_stream, TL_CORRUPT, "fails its filter deflate"},
    {"gzip bomb", deflate_bomb, TL_CORRUPT, "filter deflate, expected 32768"},
};

static void bad_chunks_are_refused(void **state) {
    (void)state;
    check_bad_files(bad_files, sizeof bad_files / sizeof bad_files[0]);
}

static void small_faults_in_chunks_do_no_harm(void **state) {
    (void)state;
    check_faults(build_filtered);
    check_faults(build_chunked);
}

static void reads_chunks_through_every_filter(void **state) {
    (void)state;
    check_tensor_list("tests/golden/keras/chunks.h5", "tests/golden/keras/chunks.txt", "keras-h5");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_chunks_through_every_filter),
        cmocka_unit_test(bad_chunks_are_refused),
        cmocka_unit_test(small_faults_in_chunks_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
