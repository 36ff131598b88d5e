/* A bounded reader of HDF5 files: the tree of groups and datasets with their attributes, as far as
 * files of weights use the format. Nothing outside the file is ever opened.
 * Format: "HDF5 File Format Specification Version 3.0", whose section numbers the sources cite. */
#ifndef TL_IO_HDF5_H
#define TL_IO_HDF5_H

#include "base/source.h"
#include "io/chunks.h"
#include "tensor/tensor.h"

typedef enum tl_hdf5_class {
    TL_HDF5_OTHER, /* what we have no use for */
    TL_HDF5_NUMBER,
    TL_HDF5_TEXT,         /* a fixed number of bytes */
    TL_HDF5_VARIABLE_TEXT /* in the global heap */
} tl_hdf5_class;

typedef struct tl_hdf5_type {
    tl_hdf5_class class;
    tl_dtype dtype; /* of numbers */
    uint32_t size;  /* of an element, bytes */
    bool opaque;    /* bytes without meaning: how h5py writes what NumPy has no name for */
} tl_hdf5_type;

typedef struct tl_hdf5_attribute {
    int object;
    size_t name; /* in the file's text */
    tl_hdf5_type type;
    uint64_t count;        /* elements */
    uint64_t offset, size; /* of the data in the source */
} tl_hdf5_attribute;

typedef enum tl_hdf5_kind { TL_HDF5_UNKNOWN, TL_HDF5_GROUP, TL_HDF5_DATASET } tl_hdf5_kind;

typedef struct tl_hdf5_object {
    int parent; /* -1 for the root, object 0 */
    int depth;
    size_t name; /* in the file's text */
    uint64_t address;
    tl_hdf5_kind kind;
    /* Of a dataset. */
    tl_hdf5_type type;
    tl_shape shape;
    uint64_t offset, size;     /* of the data in the source */
    const tl_chunked *chunked; /* where it is instead, or NULL */
    size_t refusal;            /* in the file's text: why its data can not be read; 0: it can */
} tl_hdf5_object;

typedef struct tl_hdf5 {
    tl_context *ctx;
    const tl_source *source;
    uint64_t base, size; /* the HDF5 file's place in the source */
    uint64_t work, memory;
    int object_count, object_capacity;
    tl_hdf5_object *object;
    int attribute_count, attribute_capacity;
    tl_hdf5_attribute *attribute;
    size_t text_size, text_capacity;
    char *text;
    int *by_name;          /* objects but the root, by parent and name */
    tl_chunked *chunked;   /* all of them, in a list */
    uint64_t chunk_memory; /* charged for reading the largest chunk */
    uint64_t chunk_stored; /* bytes of all chunks in the file, and without filters */
    uint64_t chunk_data;
    /* The collection of the global heap that was read last. */
    uint64_t heap_address;
    size_t heap_size;
    unsigned char *heap;
} tl_hdf5;

/* Reads the tree in `size` bytes at `offset` of the source, which must outlive it. Call
 * tl_hdf5_close() also after a failure.
 * Errors: TRUNCATED, CORRUPT, LIMIT, UNSUPPORTED (names the thing), UNSAFE (soft and external
 * links, external and virtual data), IO, NO_MEMORY. */
tl_status tl_hdf5_open(tl_context *ctx, const tl_source *source, uint64_t offset, uint64_t size,
                       tl_hdf5 *out);
void tl_hdf5_close(tl_hdf5 *file);

/* Index of the object under `parent` that a path "a/b" of `length` bytes leads to, or -1. */
int tl_hdf5_find(const tl_hdf5 *file, int parent, const char *path, size_t length);
const char *tl_hdf5_name(const tl_hdf5 *file, int object);
/* NULL if absent. */
const tl_hdf5_attribute *tl_hdf5_find_attribute(const tl_hdf5 *file, int object, const char *name);

/* An attribute's texts, one after the other, each ended by a NUL. */
typedef struct tl_hdf5_texts {
    uint64_t count;
    char *text; /* for tl_free() */
    size_t size;
} tl_hdf5_texts;
/* Errors: UNSUPPORTED (no texts), CORRUPT, LIMIT, IO, NO_MEMORY. */
tl_status tl_hdf5_read_texts(tl_hdf5 *file, const tl_hdf5_attribute *attribute, tl_hdf5_texts *out);

/* Counts memory that is taken because of the file: LIMIT when it is more than a file of this size
 * may cost. */
tl_status tl_hdf5_charge(tl_hdf5 *file, uint64_t bytes);
/* Appends a copy of a name to the file's text. */
tl_status tl_hdf5_keep_text(tl_hdf5 *file, const void *text, size_t length, size_t *at);
/* Room for one more element of an array. */
tl_status tl_hdf5_grow(tl_hdf5 *file, void **array, int *capacity, int count, size_t element);

#endif
