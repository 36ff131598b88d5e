/* From an ONNX graph to ours. What the parts share:
 *   onnx_import.c      which nodes are needed, in which order, and the model around the graph
 *   onnx_pattern.c     layer norm, GELU and as_strided, which exporters write as many small nodes
 *   onnx_value.c       the table of values, attributes, our nodes
 *   onnx_fold.c        constants and arithmetic on shapes
 *   onnx_window.c, onnx_arithmetic.c, onnx_dense.c, onnx_shape.c
 *                      one handler for each ONNX operator, listed in onnx_ops.c
 * ONNX networks are N C H W, ours N H W C: nothing is transposed at run time, weights are permuted
 * once, and each value remembers how its ONNX shape relates to our node's
 * (docs/decisions/onnx.md). */
#ifndef TL_MODEL_ONNX_IMPORT_H
#define TL_MODEL_ONNX_IMPORT_H

#include "graph/graph.h"
#include "io/onnx.h"

typedef enum tl_onnx_layout {
    TL_ONNX_NCHW,    /* ONNX [N, C, H, W], ours [N, H, W, C] */
    TL_ONNX_NHWC,    /* ONNX [N, H, W, C], ours the same */
    TL_ONNX_FLAT,    /* ONNX [N, K], ours [N, K], elements in our (H W C) order: see `chw` */
    TL_ONNX_POOLED,  /* ONNX [N, C] with ones added anywhere, such as [N, C, 1, 1], ours [N, C] */
    TL_ONNX_PLANE,   /* ONNX [N, H, W], ours [N, H, W, 1]: one channel taken out */
    TL_ONNX_SPLIT,   /* ONNX [N, G, C / G, H, W], ours [N, H, W, C]: half of a channel shuffle */
    TL_ONNX_SHUFFLED /* ONNX [N, C / G, G, H, W]: ours not yet shuffled */
} tl_onnx_layout;

/* An operator that waits to see who reads it. */
typedef enum tl_onnx_pending {
    TL_ONNX_NOTHING,
    TL_ONNX_SIGMOID, /* x * sigmoid(x) is one operator of ours */
    TL_ONNX_HARD_SIGMOID,
    TL_ONNX_PAD /* zeros around the picture, which the window that follows may pad by itself;
                   negative where a slice has cut it. `shape` is that before */
} tl_onnx_pending;

enum { TL_ONNX_MAX_INTS = 64 };

/* What one name of the ONNX graph stands for. */
typedef struct tl_onnx_entry {
    tl_onnx_text name;
    enum { TL_ONNX_ABSENT, TL_ONNX_NODE, TL_ONNX_WEIGHT, TL_ONNX_SHAPE } kind;
    tl_shape shape; /* in ONNX's order; the batch is 1 */
    /* TL_ONNX_NODE */
    int node;
    tl_onnx_layout layout;
    int64_t chw[3]; /* TL_ONNX_FLAT: the C, H, W it was flattened from in ONNX's order; else 0 */
    int64_t groups; /* TL_ONNX_SPLIT, TL_ONNX_SHUFFLED */
    tl_onnx_pending pending;
    const tl_onnx_node *pending_at; /* the ONNX node that waits */
    int64_t pad[4];                 /* TL_ONNX_PAD: top, left, bottom, right */
    /* TL_ONNX_WEIGHT */
    const tl_onnx_tensor *tensor;
    bool transposed; /* of rank 2; `shape` is that after transposing */
    /* TL_ONNX_SHAPE: integers known now; a set bit of `batch` marks one that is the batch size */
    int int_count;
    int64_t *ints;
    uint64_t batch;
} tl_onnx_entry;

/* Names to entries: open addressing over FNV-1a. */
typedef struct tl_onnx_table {
    const tl_onnx *onnx;
    int count, capacity; /* of entries */
    tl_onnx_entry *entry;
    uint32_t mask; /* slots - 1 */
    int *slot;     /* index of an entry + 1; 0 = free */
} tl_onnx_table;

/* What an ONNX node is for. */
typedef struct tl_onnx_role {
    bool needed;
    /* The node ends a pattern that becomes one operator of ours over `x`; what lies between is not
     * needed. NULL: it stands for itself. */
    const char *pattern;
    tl_onnx_text x, gamma, beta; /* the latter two of "layer_norm" */
    int64_t axis;
    float epsilon;
    const tl_onnx_tensor *index; /* of "as_strided": its shape but for the batch is the answer's */
} tl_onnx_role;

typedef struct tl_onnx_importer {
    tl_onnx *onnx;
    tl_graph *graph;
    tl_onnx_role *role;     /* of each ONNX node */
    const tl_onnx_node *at; /* the node being imported */
    int64_t batch;          /* what the file was exported for, which shapes in it may have */
    tl_onnx_table values;
} tl_onnx_importer;

/* --- onnx_value.c ----------------------------------------------------------------------------- */
tl_status tl_onnx_table_create(tl_onnx *onnx, int64_t names, tl_onnx_table *table);
void tl_onnx_table_free(tl_onnx_table *table);
/* The entry of a name; a new, TL_ONNX_ABSENT one when `create`; else NULL. */
tl_onnx_entry *tl_onnx_lookup(tl_onnx_table *table, tl_onnx_text name, bool create);
/* Input `index` of the current node. Errors: CORRUPT when it is missing or nothing made it yet. */
tl_status tl_onnx_input(tl_onnx_importer *im, int index, const tl_onnx_entry **out);
/* The same for any name. */
tl_status tl_onnx_value_of(tl_onnx_importer *im, tl_onnx_text name, const tl_onnx_entry **out);
bool tl_onnx_has_input(const tl_onnx_importer *im, int index);
/* A value as one of our nodes, with anything pending done. UNSUPPORTED for constants. */
tl_status tl_onnx_settle(tl_onnx_importer *im, const tl_onnx_entry *entry, tl_onnx_entry *out);
/* Input `index`, settled. */
tl_status tl_onnx_activation(tl_onnx_importer *im, int index, tl_onnx_entry *out);
/* Input `index` as known integers, which live in the entry; UNSUPPORTED when they are not known. */
tl_status tl_onnx_ints(tl_onnx_importer *im, int index, const tl_onnx_entry **out);
/* Input `index` as exactly one known integer, or `initial` when it is absent. */
tl_status tl_onnx_one_int(tl_onnx_importer *im, int index, int64_t initial, int64_t *out);
/* `entry` as a constant of floats; UNSUPPORTED otherwise. */
tl_status tl_onnx_weight(tl_onnx_importer *im, const tl_onnx_entry *entry);
/* Input `index` as one float. */
tl_status tl_onnx_one_float(tl_onnx_importer *im, int index, float *out);
/* Row `row` of `length` elements of a constant. */
void tl_onnx_read_row(const tl_onnx_tensor *tensor, int64_t row, int64_t length, float *out);
/* Names the current node's output `index`. */
tl_status tl_onnx_define_output(tl_onnx_importer *im, int index, const tl_onnx_entry *value);
/* Names the first. */
tl_status tl_onnx_define(tl_onnx_importer *im, const tl_onnx_entry *value);
tl_status tl_onnx_define_ints(tl_onnx_importer *im, const tl_shape *shape, const int64_t *ints,
                              uint64_t batch);
/* Names the first output as `node`, laid out as `like` says. */
tl_status tl_onnx_define_node(tl_onnx_importer *im, const tl_onnx_entry *like, int node);
/* `like` laid out over `node`. */
tl_onnx_entry tl_onnx_laid_out(const tl_onnx_importer *im, const tl_onnx_entry *like, int node);
/* A failure that names node, operator and opset before the text. */
tl_status tl_onnx_fail(const tl_onnx_importer *im, tl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Attributes with their defaults. */
int64_t tl_onnx_attr_int(const tl_onnx_importer *im, const char *name, int64_t initial);
float tl_onnx_attr_float(const tl_onnx_importer *im, const char *name, float initial);
/* Exactly `count` integers; `initial` fills them when the attribute is absent. CORRUPT when the
 * count differs. */
tl_status tl_onnx_attr_ints(const tl_onnx_importer *im, const char *name, int count,
                            int64_t initial, int64_t *out);
/* Whether a text attribute has that value. */
bool tl_onnx_attr_is(const tl_onnx_importer *im, const char *name, const char *value);

/* Adds one of our nodes over `inputs` and names it after the current ONNX node. */
tl_status tl_onnx_emit(tl_onnx_importer *im, const char *op, const char *attrs, int input_count,
                       const int *inputs, int *node);
/* The memory of a node's parameter by its short name ("weight"); asserted to exist. */
float *tl_onnx_param(tl_onnx_importer *im, int node, const char *name);

/* The axis of the channels in the ONNX shape. */
int tl_onnx_channel_axis(const tl_onnx_entry *x);
/* Whether it is a picture: [N, C, H, W] or [N, H, W, C]. */
bool tl_onnx_is_picture(const tl_onnx_entry *x);
/* `axis` of `rank` dimensions, counted from the end when negative. CORRUPT when out of range. */
tl_status tl_onnx_axis(const tl_onnx_importer *im, int64_t axis, int rank, int *out);

/* --- onnx_pattern.c --------------------------------------------------------------------------- */
/* Finds out what each node is for. */
tl_status tl_onnx_assign_roles(tl_onnx *onnx, tl_onnx_role *role);

/* --- onnx_fold.c ------------------------------------------------------------------------------ */
/* Tries to do the current node on constants and shapes; *done tells whether it was one. */
tl_status tl_onnx_fold(tl_onnx_importer *im, bool *done);
/* The shape that Reshape to the integers of `target` gives to `count` elements of `x`: 0 is copied,
 * -1 computed; the batch counts as 1. */
tl_status tl_onnx_reshaped(const tl_onnx_importer *im, const tl_onnx_entry *x,
                           const tl_onnx_entry *target, int64_t count, tl_shape *out);
/* Names an initializer's value. */
tl_status tl_onnx_define_initializer(tl_onnx_importer *im, tl_onnx_tensor *tensor);

/* --- handlers --------------------------------------------------------------------------------- */
typedef tl_status (*tl_onnx_handler)(tl_onnx_importer *im);
/* The handler of an operator, or NULL (onnx_ops.c). */
tl_onnx_handler tl_onnx_handler_find(const tl_onnx *onnx, const tl_onnx_node *node);
/* One operator of ours without parameters over the first input. */
tl_status tl_onnx_unary(tl_onnx_importer *im, const char *op, const char *attrs);

/* onnx_window.c */
tl_status tl_onnx_conv(tl_onnx_importer *im);
tl_status tl_onnx_pool(tl_onnx_importer *im);
tl_status tl_onnx_pad(tl_onnx_importer *im);
/* Names the first output as `x` with zeros around height and width, or cut where negative. */
tl_status tl_onnx_define_padded(tl_onnx_importer *im, const tl_onnx_entry *x, const int64_t pad[4]);
tl_status tl_onnx_global_average(tl_onnx_importer *im);
tl_status tl_onnx_global_max(tl_onnx_importer *im);
tl_status tl_onnx_reduce_mean(tl_onnx_importer *im);

/* onnx_arithmetic.c */
tl_status tl_onnx_add(tl_onnx_importer *im);
tl_status tl_onnx_sub(tl_onnx_importer *im);
tl_status tl_onnx_mul(tl_onnx_importer *im);
tl_status tl_onnx_div(tl_onnx_importer *im);
tl_status tl_onnx_batch_norm(tl_onnx_importer *im);
tl_status tl_onnx_layer_norm(tl_onnx_importer *im);
/* Layer norm of `x` over `axis` with constants for every channel; `beta` may be NULL. */
tl_status tl_onnx_emit_layer_norm(tl_onnx_importer *im, const tl_onnx_entry *x, int64_t axis,
                                  float epsilon, const tl_onnx_entry *gamma,
                                  const tl_onnx_entry *beta);

/* onnx_dense.c */
tl_status tl_onnx_gemm(tl_onnx_importer *im);
tl_status tl_onnx_matmul(tl_onnx_importer *im);
/* Input `input`, one float or `expected`, times `scale` into the node's bias. */
tl_status tl_onnx_fill_bias(tl_onnx_importer *im, int node, int input, int64_t expected,
                            float scale);

/* onnx_shape.c */
tl_status tl_onnx_flatten(tl_onnx_importer *im);
tl_status tl_onnx_reshape(tl_onnx_importer *im);
tl_status tl_onnx_transpose(tl_onnx_importer *im);
tl_status tl_onnx_squeeze(tl_onnx_importer *im);
tl_status tl_onnx_unsqueeze(tl_onnx_importer *im);
tl_status tl_onnx_concat(tl_onnx_importer *im);
tl_status tl_onnx_slice(tl_onnx_importer *im);
tl_status tl_onnx_split(tl_onnx_importer *im);
tl_status tl_onnx_gather(tl_onnx_importer *im);

#endif
