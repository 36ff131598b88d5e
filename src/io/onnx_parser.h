/* What the parts of the ONNX reader share: onnx.c (model, graph, nodes), onnx_tensor.c. */
#ifndef TL_IO_ONNX_PARSER_H
#define TL_IO_ONNX_PARSER_H

#include "io/onnx.h"

tl_status tl_onnx_text_field(const tl_pb *r, const tl_pb_field *field, const char *what,
                             tl_onnx_text *out);
tl_status tl_onnx_int_field(const tl_pb *r, const tl_pb_field *field, const char *what,
                            int64_t *out);
/* All numbers of field `number`, packed or one by one, into a new array of `size`-byte elements. */
tl_status tl_onnx_read_numbers(tl_onnx *onnx, tl_pb reader, uint32_t number, tl_pb_wire wire,
                               size_t size, void *out, int64_t *count);
/* One StringStringEntryProto. */
tl_status tl_onnx_read_entry(tl_pb reader, tl_onnx_text *key, tl_onnx_text *value);
/* One TensorProto. */
tl_status tl_onnx_read_tensor(tl_onnx *onnx, tl_pb r, tl_onnx_tensor *tensor);

#endif
