/* Writes small ONNX files, good and bad ones: protocol buffers field by field. Include "hostile.h"
 * first. Field numbers are those of onnx.proto. */
#ifndef TL_TESTS_ONNX_WRITER_H
#define TL_TESTS_ONNX_WRITER_H

static inline void pb_varint(bytes *b, uint64_t value) {
    for (; value >= 0x80; value >>= 7) put_number(b, (value & 0x7f) | 0x80, 1);
    put_number(b, value, 1);
}

static inline void pb_tag(bytes *b, unsigned field, unsigned wire) {
    pb_varint(b, field << 3 | wire);
}

static inline void pb_int(bytes *b, unsigned field, int64_t value) {
    pb_tag(b, field, 0);
    pb_varint(b, (uint64_t)value);
}

static inline void pb_data(bytes *b, unsigned field, const void *data, size_t size) {
    pb_tag(b, field, 2);
    pb_varint(b, size);
    put(b, data, size);
}

static inline void pb_text(bytes *b, unsigned field, const char *text) {
    pb_data(b, field, text, strlen(text));
}

/* A message, whose bytes are released. */
static inline void pb_message(bytes *b, unsigned field, bytes *inner) {
    pb_data(b, field, inner->data, inner->size);
    free(inner->data);
    *inner = (bytes){0};
}

/* --- attributes, tensors, nodes --------------------------------------------------------------- */

static inline void put_attr_int(bytes *node, const char *name, int64_t value) {
    bytes attr = {0};
    pb_text(&attr, 1, name);
    pb_int(&attr, 3, value);
    pb_int(&attr, 20, 2);
    pb_message(node, 5, &attr);
}

static inline void put_attr_ints(bytes *node, const char *name, int count, const int64_t *values) {
    bytes attr = {0};
    pb_text(&attr, 1, name);
    for (int i = 0; i < count; i++) pb_int(&attr, 8, values[i]);
    pb_int(&attr, 20, 7);
    pb_message(node, 5, &attr);
}

/* A message without the attributes: "in1 in2" are the inputs. */
static inline bytes begin_node(const char *type, const char *inputs, const char *output) {
    bytes node = {0};
    while (*inputs) {
        size_t length = strcspn(inputs, " ");
        pb_data(&node, 1, inputs, length);
        inputs += length + (inputs[length] == ' ');
    }
    pb_text(&node, 2, output);
    pb_text(&node, 4, type);
    return node;
}

static inline void put_node(bytes *graph, const char *type, const char *inputs,
                            const char *output) {
    bytes node = begin_node(type, inputs, output);
    pb_message(graph, 1, &node);
}

static inline bytes begin_tensor(const char *name, int type, int rank, const int64_t *dims) {
    bytes tensor = {0};
    for (int i = 0; i < rank; i++) pb_int(&tensor, 1, dims[i]);
    pb_int(&tensor, 2, type);
    pb_text(&tensor, 8, name);
    return tensor;
}

/* Floats 0, 0.1, -0.2, ... in raw_data. */
static inline void put_floats(bytes *graph, const char *name, int rank, const int64_t *dims) {
    bytes tensor = begin_tensor(name, 1, rank, dims), raw = {0};
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= dims[i];
    for (int64_t i = 0; i < count; i++) {
        float value = (float)(i % 7) * (i % 2 ? 0.1f : -0.1f);
        put(&raw, &value, sizeof value);
    }
    pb_message(&tensor, 9, &raw);
    pb_message(graph, 5, &tensor);
}

static inline void put_ints_shaped(bytes *graph, const char *name, int rank, const int64_t *dims,
                                   const int64_t *values) {
    bytes tensor = begin_tensor(name, 7, rank, dims), raw = {0};
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= dims[i];
    put(&raw, values, (size_t)count * sizeof *values);
    pb_message(&tensor, 9, &raw);
    pb_message(graph, 5, &tensor);
}

static inline void put_ints(bytes *graph, const char *name, int count, const int64_t *values) {
    put_ints_shaped(graph, name, 1, (int64_t[]){count}, values);
}

/* --- values and the model --------------------------------------------------------------------- */

/* ValueInfoProto: name, type { tensor_type { elem_type, shape { dim ... } } }. A dimension of 0 is
 * symbolic. */
static inline void put_value(bytes *graph, unsigned field, const char *name, int rank,
                             const int64_t *dims) {
    bytes shape = {0}, tensor = {0}, type = {0}, value = {0};
    for (int i = 0; i < rank; i++) {
        bytes dim = {0};
        if (dims[i])
            pb_int(&dim, 1, dims[i]);
        else
            pb_text(&dim, 2, "n");
        pb_message(&shape, 1, &dim);
    }
    pb_int(&tensor, 1, 1);
    pb_message(&tensor, 2, &shape);
    pb_message(&type, 1, &tensor);
    pb_text(&value, 1, name);
    pb_message(&value, 2, &type);
    pb_message(graph, field, &value);
}

static inline void put_input(bytes *graph, const char *name, int rank, const int64_t *dims) {
    put_value(graph, 11, name, rank, dims);
}

static inline void put_output(bytes *graph, const char *name) {
    put_value(graph, 12, name, 0, NULL);
}

/* The graph comes last, so that no shorter file is whole. */
static inline void finish_model(bytes *b, bytes *graph, int64_t opset) {
    bytes import = {0};
    pb_int(b, 1, 8);
    pb_text(b, 2, "test");
    pb_text(&import, 1, "");
    pb_int(&import, 2, opset);
    pb_message(b, 8, &import);
    pb_message(b, 7, graph);
}

/* Input "x" [n, 3, 4, 4], convolution to "c" [n, 2, 4, 4] with weights "w". */
static inline void put_stem(bytes *graph) {
    put_input(graph, "x", 4, (int64_t[]){0, 3, 4, 4});
    put_floats(graph, "w", 4, (int64_t[]){2, 3, 3, 3});
    bytes conv = begin_node("Conv", "x w", "c");
    put_attr_ints(&conv, "pads", 4, (int64_t[]){1, 1, 1, 1});
    pb_message(graph, 1, &conv);
}

/* Then ReLU, global pooling and a dense layer to "y" [n, 5]. */
static inline void put_classifier(bytes *graph) {
    put_floats(graph, "fc.weight", 2, (int64_t[]){5, 2});
    put_floats(graph, "fc.bias", 1, (int64_t[]){5});
    put_node(graph, "Relu", "c", "r");
    put_node(graph, "GlobalAveragePool", "r", "p");
    put_node(graph, "Flatten", "p", "f");
    bytes gemm = begin_node("Gemm", "f fc.weight fc.bias", "y");
    put_attr_int(&gemm, "transB", 1);
    pb_message(graph, 1, &gemm);
    put_output(graph, "y");
}

static inline void build_good(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    put_classifier(&graph);
    finish_model(b, &graph, 13);
}

#endif
