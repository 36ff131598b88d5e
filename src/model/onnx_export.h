/* From our graph to an ONNX file (opset 17, IR version 8). What the parts share:
 *   onnx_export.c  the file: nodes first, then weights one by one, so that no second copy is held
 *   onnx_emit.c    one handler for each operator of ours
 * The file is N C H W; values are called as our nodes. */
#ifndef TL_MODEL_ONNX_EXPORT_H
#define TL_MODEL_ONNX_EXPORT_H

#include "io/protobuf_write.h"
#include "model/model.h"

/* A constant of the file; a parameter is read only when it is written. */
typedef struct tl_onnx_constant {
    char *name;
    tl_shape shape;
    int param;           /* of our graph, whose values these are; -1: `ints`, or all are `fill` */
    const int64_t *ints; /* owned */
    float fill;
    /* How values are reordered on the way: [outer][area][inner] to [outer][inner][area], which
     * is O KH KW I to O I KH KW, and H W C to C H W within each row of a dense layer. area 1: not.
     */
    int64_t outer, area, inner;
} tl_onnx_constant;

typedef struct tl_onnx_exporter {
    tl_context *ctx;
    tl_graph *graph;
    int at;               /* the node of ours being written */
    tl_pb_buffer nodes;   /* GraphProto's node fields so far */
    tl_pb_buffer message; /* the NodeProto under construction */
    int constant_count, constant_capacity;
    tl_onnx_constant *constant;
} tl_onnx_exporter;

typedef tl_status (*tl_onnx_emitter)(tl_onnx_exporter *ex);
/* The handler of an operator of ours, or NULL. */
tl_onnx_emitter tl_onnx_emitter_find(const tl_op *op);

/* Adds a constant named NODE.`suffix`; *name lives as long as the exporter. `constant->name` is set
 * here; `ints` are taken over, also on failure. */
tl_status tl_onnx_add_constant(tl_onnx_exporter *ex, const char *suffix, tl_onnx_constant constant,
                               const char **name);

#endif
