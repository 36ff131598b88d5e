/* The content of an ONNX file: nodes, attributes, initialisers, as written there. What the nodes
 * mean is src/model/onnx_import.c's matter. Format: onnx.proto of the ONNX specification (IR
 * version 3 to 13). The whole file is held in memory and texts point into it. */
#ifndef TL_IO_ONNX_H
#define TL_IO_ONNX_H

#include "io/protobuf.h"
#include "tensor/tensor.h"

typedef tl_pb_span tl_onnx_text; /* not terminated; empty means absent */

typedef struct tl_onnx_tensor {
    tl_onnx_text name;
    tl_dtype dtype;
    tl_shape shape;
    int64_t count;
    const void *data; /* count elements of dtype, little endian, any alignment */
    void *owned;      /* data's memory when it is not in the file's */
    uint32_t offset;  /* in the file, for messages */
} tl_onnx_tensor;

typedef enum tl_onnx_attr_type {
    TL_ONNX_FLOAT = 1,
    TL_ONNX_INT = 2,
    TL_ONNX_STRING = 3,
    TL_ONNX_TENSOR = 4,
    TL_ONNX_GRAPH = 5,
    TL_ONNX_FLOATS = 6,
    TL_ONNX_INTS = 7,
    TL_ONNX_STRINGS = 8
} tl_onnx_attr_type;

typedef struct tl_onnx_attr {
    tl_onnx_text name;
    tl_onnx_attr_type type;
    float f;
    int64_t i;
    tl_onnx_text s;
    int count;     /* of ints or floats */
    int64_t *ints; /* TL_ONNX_INTS */
    float *floats; /* TL_ONNX_FLOATS */
    tl_onnx_tensor *tensor;
} tl_onnx_attr;

typedef struct tl_onnx_node {
    tl_onnx_text name, type, domain;
    int input_count, output_count, attr_count;
    tl_onnx_text *input, *output;
    tl_onnx_attr *attr;
    uint32_t offset;
} tl_onnx_node;

/* A graph input or output; a dimension of -1 is symbolic or absent. rank -1: no shape given. */
typedef struct tl_onnx_value {
    tl_onnx_text name;
    int rank;
    int64_t dim[TL_MAX_RANK];
    uint32_t offset;
} tl_onnx_value;

/* A file of external data, and how many bytes of tensors may still come from it: they may share
 * bytes, but a small file must not become a large network. */
typedef struct tl_onnx_external {
    tl_onnx_text location;
    uint64_t left;
} tl_onnx_external;

typedef struct tl_onnx {
    tl_context *ctx;
    char *name;   /* of the file */
    char *folder; /* where external data may lie; NULL for a model in memory */
    unsigned char *bytes;
    uint32_t size;
    int64_t ir_version, opset; /* of the default domain */
    tl_onnx_text producer;
    int node_count, initializer_count, input_count, output_count, metadata_count;
    tl_onnx_node *node;
    tl_onnx_tensor *initializer;
    tl_onnx_value *input, *output;
    tl_onnx_text *metadata; /* key, value, key, value ... : metadata_count pairs */
    uint64_t budget;        /* bytes of small parts that may still be allocated */
    int external_count;
    tl_onnx_external *external;
} tl_onnx;

/* Whether the first bytes look like an ONNX file rather than another format of ours. */
bool tl_onnx_sniff(const tl_source *source);
/* Reads a file. External data is looked for beside `source`'s file only: no "..", no absolute
 * paths, no links, regular files. Errors: TRUNCATED, CORRUPT (offset), LIMIT, UNSUPPORTED
 * (dtype, sparse content), UNSAFE (external data elsewhere), IO, NO_MEMORY. */
tl_status tl_onnx_read(tl_context *ctx, const tl_source *source, tl_onnx **out);
void tl_onnx_free(tl_onnx *onnx);

/* A zeroed array of `count` items of `size` bytes into *out, a pointer; for tl_free(). LIMIT beyond
 * the file's budget. */
tl_status tl_onnx_allocate(tl_onnx *onnx, int64_t count, size_t size, void *out);
/* Whether a text equals a C string. */
bool tl_onnx_is(const tl_onnx *onnx, tl_onnx_text text, const char *value);
bool tl_onnx_same(const tl_onnx *onnx, tl_onnx_text a, tl_onnx_text b);
/* printf arguments for "%.*s". */
#define TL_ONNX_TEXT(onnx, text)                                                                   \
    (int)((text).end - (text).begin), (const char *)(onnx)->bytes + (text).begin
/* An attribute of a node by name, or NULL. */
const tl_onnx_attr *tl_onnx_attr_find(const tl_onnx *onnx, const tl_onnx_node *node,
                                      const char *name);

#endif
