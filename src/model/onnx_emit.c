/* What each operator of ours becomes in ONNX. Operators: https://onnx.ai/onnx/operators */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "layer/window.h"
#include "model/onnx_export.h"

enum { TEXT = 320 }; /* of a value's name: a node's name and a suffix */

static const tl_node *node_of(const tl_onnx_exporter *ex) {
    return &ex->graph->node[ex->at];
}

static const tl_node *input_of(const tl_onnx_exporter *ex, int index) {
    return &ex->graph->node[node_of(ex)->input[index]];
}

/* --- attributes and parameters of our node
 * ---------------------------------------------------------- */

static const void *field(const tl_onnx_exporter *ex, const char *name) {
    const tl_node *node = node_of(ex);
    const tl_attr_spec *spec = node->op->attrs;
    while (strcmp(spec->name, name) != 0) spec++;
    return (const char *)node->attr + spec->offset;
}

static const int32_t *ints(const tl_onnx_exporter *ex, const char *name) {
    return field(ex, name);
}

static float number(const tl_onnx_exporter *ex, const char *name) {
    return *(const float *)field(ex, name);
}

/* The index of a parameter by its short name, or -1. */
static int find_parameter(const tl_onnx_exporter *ex, const char *name) {
    const tl_node *node = node_of(ex);
    for (int i = 0; i < node->param_count; i++) {
        int index = node->first_param + i;
        if (strcmp(ex->graph->param[index].name + strlen(node->name) + 1, name) == 0) return index;
    }
    return -1;
}

/* A parameter as a constant of the given shape; without the parameter, `fill` everywhere. */
static tl_status weight(tl_onnx_exporter *ex, const char *name, tl_shape shape, float fill,
                        const char **out) {
    return tl_onnx_add_constant(
        ex, name,
        (tl_onnx_constant){
            .shape = shape, .param = find_parameter(ex, name), .fill = fill, .area = 1},
        out);
}

static tl_status integers(tl_onnx_exporter *ex, const char *name, int count, const int64_t *values,
                          const char **out) {
    int64_t *copy = tl_alloc_array(ex->ctx, (size_t)count, sizeof *copy);
    TL_CHECK_MEMORY(copy);
    memcpy(copy, values, (size_t)count * sizeof *copy);
    tl_onnx_constant constant = {
        .shape = tl_shape_make(1, (int64_t)count), .param = -1, .ints = copy};
    return tl_onnx_add_constant(ex, name, constant, out);
}

/* --- one NodeProto
 * ------------------------------------------------------------------------------------ */

/* AttributeProto's fields: name 1, f 2, i 3, floats 7, ints 8, type 20. */
static void attribute(tl_onnx_exporter *ex, const char *name, uint32_t type, tl_pb_buffer *value) {
    tl_pb_put_text(value, 1, name);
    tl_pb_put_varint(value, 20, type);
    tl_pb_put_message(&ex->message, 5, value);
    tl_pb_release(value);
}

static void int_attribute(tl_onnx_exporter *ex, const char *name, int64_t value) {
    tl_pb_buffer b = {.ctx = ex->ctx};
    tl_pb_put_varint(&b, 3, (uint64_t)value);
    attribute(ex, name, 2, &b);
}

static void float_attribute(tl_onnx_exporter *ex, const char *name, float value) {
    tl_pb_buffer b = {.ctx = ex->ctx};
    tl_pb_put_float(&b, 2, value);
    attribute(ex, name, 1, &b);
}

static void ints_attribute(tl_onnx_exporter *ex, const char *name, int count,
                           const int64_t *values) {
    tl_pb_buffer b = {.ctx = ex->ctx};
    for (int i = 0; i < count; i++) tl_pb_put_varint(&b, 8, (uint64_t)values[i]);
    attribute(ex, name, 7, &b);
}

/* Ends the node whose attributes have been put: inputs, output, type. */
static tl_status finish(tl_onnx_exporter *ex, const char *type, int count,
                        const char *const *inputs, const char *output) {
    for (int i = 0; i < count; i++) tl_pb_put_text(&ex->message, 1, inputs[i]);
    tl_pb_put_text(&ex->message, 2, output);
    tl_pb_put_text(&ex->message, 3, output);
    tl_pb_put_text(&ex->message, 4, type);
    tl_pb_put_message(&ex->nodes, 1, &ex->message);
    return ex->nodes.failed ? TL_NO_MEMORY : TL_OK;
}

static tl_status unary_to(tl_onnx_exporter *ex, const char *type, const char *input,
                          const char *output) {
    return finish(ex, type, 1, (const char *[]){input}, output);
}

static tl_status binary_to(tl_onnx_exporter *ex, const char *type, const char *a, const char *b,
                           const char *output) {
    return finish(ex, type, 2, (const char *[]){a, b}, output);
}

/* The name of a value on the way to this node's. */
static const char *temporary(const tl_onnx_exporter *ex, const char *suffix, char text[TEXT]) {
    snprintf(text, TEXT, "%s/%s", node_of(ex)->name, suffix);
    return text;
}

static tl_status unary(tl_onnx_exporter *ex, const char *type) {
    return unary_to(ex, type, input_of(ex, 0)->name, node_of(ex)->name);
}

/* --- windows
 * -------------------------------------------------------------------------------------------- */

/* ONNX's order is top, left, bottom, right, as ours; SAME padding is written out for the size
 * that the network has. */
static void pads_attribute(tl_onnx_exporter *ex, const int32_t *kernel, const int32_t *stride,
                           const int32_t *dilation) {
    const int32_t *pad = ints(ex, "pad");
    int64_t pads[4] = {pad[0], pad[1], pad[2], pad[3]};
    for (int i = 0; i < 2 && *ints(ex, "padding") == TL_PADDING_SAME; i++) {
        tl_window w = {.in = input_of(ex, 0)->shape.dim[1 + i],
                       .kernel = kernel[i],
                       .stride = stride[i],
                       .dilation = dilation[i]};
        tl_status status = tl_window_infer("export", "axis", TL_PADDING_SAME, false, &w);
        assert(status == TL_OK); /* the graph has inferred the same window */
        (void)status;
        pads[i] = w.before;
        pads[i + 2] = w.after;
    }
    ints_attribute(ex, "pads", 4, pads);
}

static void pair_attribute(tl_onnx_exporter *ex, const char *name, const int32_t *pair) {
    ints_attribute(ex, name, 2, (int64_t[]){pair[0], pair[1]});
}

static tl_status emit_conv(tl_onnx_exporter *ex) {
    const char *inputs[3] = {input_of(ex, 0)->name};
    int kernel = find_parameter(ex, "weight");
    tl_shape s = ex->graph->param[kernel].shape;
    tl_onnx_constant constant = {.shape = tl_shape_make(4, s.dim[0], s.dim[3], s.dim[1], s.dim[2]),
                                 .param = kernel,
                                 .outer = s.dim[0],
                                 .area = s.dim[1] * s.dim[2],
                                 .inner = s.dim[3]};
    TL_TRY(tl_onnx_add_constant(ex, "weight", constant, &inputs[1]));
    int count = find_parameter(ex, "bias") >= 0 ? 3 : 2;
    if (count == 3) TL_TRY(weight(ex, "bias", tl_shape_make(1, s.dim[0]), 0, &inputs[2]));
    pair_attribute(ex, "kernel_shape", ints(ex, "kernel"));
    pair_attribute(ex, "strides", ints(ex, "stride"));
    pair_attribute(ex, "dilations", ints(ex, "dilation"));
    pads_attribute(ex, ints(ex, "kernel"), ints(ex, "stride"), ints(ex, "dilation"));
    int_attribute(ex, "group", *ints(ex, "groups"));
    return finish(ex, "Conv", count, inputs, node_of(ex)->name);
}

static void pool_attributes(tl_onnx_exporter *ex) {
    static const int32_t one[2] = {1, 1};
    const int32_t *kernel = ints(ex, "kernel"), *given = ints(ex, "stride");
    int32_t stride[2] = {given[0] ? given[0] : kernel[0], given[1] ? given[1] : kernel[1]};
    pair_attribute(ex, "kernel_shape", kernel);
    pair_attribute(ex, "strides", stride);
    pads_attribute(ex, kernel, stride, one);
    int_attribute(ex, "ceil_mode", *ints(ex, "ceil_mode"));
}

static tl_status emit_max_pool(tl_onnx_exporter *ex) {
    pool_attributes(ex);
    return unary(ex, "MaxPool");
}

static tl_status emit_avg_pool(tl_onnx_exporter *ex) {
    pool_attributes(ex);
    int_attribute(ex, "count_include_pad", *ints(ex, "count_include_pad"));
    return unary(ex, "AveragePool");
}

/* [N, C, 1, 1] to [N, C]. */
static tl_status pool_all(tl_onnx_exporter *ex, const char *type) {
    char pooled[TEXT];
    temporary(ex, "pooled", pooled);
    TL_TRY(unary_to(ex, type, input_of(ex, 0)->name, pooled));
    return unary_to(ex, "Flatten", pooled, node_of(ex)->name);
}

static tl_status emit_global_avg_pool(tl_onnx_exporter *ex) {
    return pool_all(ex, "GlobalAveragePool");
}

static tl_status emit_global_max_pool(tl_onnx_exporter *ex) {
    return pool_all(ex, "GlobalMaxPool");
}

/* --- dense and normalisation
 * ---------------------------------------------------------------------------- */

/* The picture that was flattened into this node's input, past nodes that change no order; NULL
 * when there was none. */
static const tl_node *flattened_picture(const tl_onnx_exporter *ex) {
    const tl_node *node = input_of(ex, 0);
    while (node->input_count == 1) {
        const tl_node *before = &ex->graph->node[node->input[0]];
        if (before->shape.rank == 4) return strcmp(node->op->name, "flatten") == 0 ? before : NULL;
        if (!tl_shape_equal(&before->shape, &node->shape) || node->param_count) return NULL;
        node = before;
    }
    return NULL;
}

static tl_status emit_dense(tl_onnx_exporter *ex) {
    const char *inputs[3] = {input_of(ex, 0)->name};
    int param = find_parameter(ex, "weight");
    tl_shape s = ex->graph->param[param].shape;
    const tl_node *picture = flattened_picture(ex);
    int64_t channels = picture ? picture->shape.dim[3] : s.dim[1];
    tl_onnx_constant constant = {.shape = s,
                                 .param = param,
                                 .outer = s.dim[0],
                                 .area = s.dim[1] / channels,
                                 .inner = channels};
    TL_TRY(tl_onnx_add_constant(ex, "weight", constant, &inputs[1]));
    int count = find_parameter(ex, "bias") >= 0 ? 3 : 2;
    if (count == 3) TL_TRY(weight(ex, "bias", tl_shape_make(1, s.dim[0]), 0, &inputs[2]));
    int_attribute(ex, "transB", 1);
    return finish(ex, "Gemm", count, inputs, node_of(ex)->name);
}

/* A normalisation of a flattened picture would need its constants repeated in another order. */
static tl_status refuse_flattened(tl_onnx_exporter *ex) {
    TL_CHECK(!flattened_picture(ex), TL_UNSUPPORTED,
             "layer '%s': ONNX export of %s directly after flatten is not supported",
             node_of(ex)->name, node_of(ex)->op->name);
    return TL_OK;
}

static int64_t channels_of(const tl_node *node) {
    return node->shape.dim[node->shape.rank - 1];
}

static tl_status emit_batch_norm(tl_onnx_exporter *ex) {
    static const char *const names[] = {"gamma", "beta", "mean", "variance"};
    const char *inputs[5] = {input_of(ex, 0)->name};
    tl_shape shape = tl_shape_make(1, channels_of(node_of(ex)));
    TL_TRY(refuse_flattened(ex));
    for (int i = 0; i < 4; i++) {
        TL_TRY(weight(ex, names[i], shape, i == 0 ? 1.0f : 0.0f, &inputs[i + 1]));
    }
    float_attribute(ex, "epsilon", number(ex, "epsilon"));
    float_attribute(ex, "momentum", number(ex, "momentum"));
    return finish(ex, "BatchNormalization", 5, inputs, node_of(ex)->name);
}

/* The shape of a constant that varies along the channels of this node's input. */
static tl_shape broadcast_shape(const tl_onnx_exporter *ex) {
    int64_t c = channels_of(node_of(ex));
    return node_of(ex)->shape.rank == 4 ? tl_shape_make(3, c, (int64_t)1, (int64_t)1)
                                        : tl_shape_make(1, c);
}

static tl_status emit_scale_shift(tl_onnx_exporter *ex) {
    char scaled[TEXT];
    const char *gamma = NULL, *beta = NULL;
    TL_TRY(refuse_flattened(ex));
    TL_TRY(weight(ex, "gamma", broadcast_shape(ex), 1.0f, &gamma));
    TL_TRY(weight(ex, "beta", broadcast_shape(ex), 0.0f, &beta));
    TL_TRY(binary_to(ex, "Mul", input_of(ex, 0)->name, gamma, temporary(ex, "scaled", scaled)));
    return binary_to(ex, "Add", scaled, beta, node_of(ex)->name);
}

static tl_status transpose_to(tl_onnx_exporter *ex, const char *input, int rank,
                              const int64_t *order, const char *output) {
    ints_attribute(ex, "perm", rank, order);
    return unary_to(ex, "Transpose", input, output);
}

/* Over the channels, which ONNX normalises only as the last axis. */
static tl_status emit_layer_norm(tl_onnx_exporter *ex) {
    bool picture = node_of(ex)->shape.rank == 4;
    char last[TEXT], normal[TEXT];
    const char *inputs[3] = {input_of(ex, 0)->name};
    tl_shape shape = tl_shape_make(1, channels_of(node_of(ex)));
    TL_TRY(refuse_flattened(ex));
    TL_TRY(weight(ex, "gamma", shape, 1.0f, &inputs[1]));
    TL_TRY(weight(ex, "beta", shape, 0.0f, &inputs[2]));
    if (picture) {
        TL_TRY(
            transpose_to(ex, inputs[0], 4, (int64_t[]){0, 2, 3, 1}, temporary(ex, "nhwc", last)));
        inputs[0] = last;
    }
    int_attribute(ex, "axis", -1);
    float_attribute(ex, "epsilon", number(ex, "epsilon"));
    const char *output = picture ? temporary(ex, "normal", normal) : node_of(ex)->name;
    TL_TRY(finish(ex, "LayerNormalization", 3, inputs, output));
    if (!picture) return TL_OK;
    return transpose_to(ex, normal, 4, (int64_t[]){0, 3, 1, 2}, node_of(ex)->name);
}

/* --- activations
 * -------------------------------------------------------------------------------------------- */

static tl_status emit_relu(tl_onnx_exporter *ex) {
    return unary(ex, "Relu");
}

static tl_status emit_sigmoid(tl_onnx_exporter *ex) {
    return unary(ex, "Sigmoid");
}

static tl_status scalar(tl_onnx_exporter *ex, const char *suffix, float value, const char **out) {
    return tl_onnx_add_constant(
        ex, suffix, (tl_onnx_constant){.shape = {.rank = 0}, .param = -1, .fill = value, .area = 1},
        out);
}

static tl_status emit_relu6(tl_onnx_exporter *ex) {
    const char *inputs[3] = {input_of(ex, 0)->name};
    TL_TRY(scalar(ex, "min", 0.0f, &inputs[1]));
    TL_TRY(scalar(ex, "max", 6.0f, &inputs[2]));
    return finish(ex, "Clip", 3, inputs, node_of(ex)->name);
}

static tl_status emit_leaky_relu(tl_onnx_exporter *ex) {
    float_attribute(ex, "alpha", number(ex, "alpha"));
    return unary(ex, "LeakyRelu");
}

static void hard_sigmoid_attributes(tl_onnx_exporter *ex) {
    float_attribute(ex, "alpha", 1.0f / 6.0f);
    float_attribute(ex, "beta", 0.5f);
}

static tl_status emit_hard_sigmoid(tl_onnx_exporter *ex) {
    hard_sigmoid_attributes(ex);
    return unary(ex, "HardSigmoid");
}

static tl_status times_own_gate(tl_onnx_exporter *ex, const char *type) {
    char gate[TEXT];
    const char *x = input_of(ex, 0)->name;
    TL_TRY(unary_to(ex, type, x, temporary(ex, "gate", gate)));
    return binary_to(ex, "Mul", x, gate, node_of(ex)->name);
}

static tl_status emit_silu(tl_onnx_exporter *ex) {
    return times_own_gate(ex, "Sigmoid");
}

static tl_status emit_hard_swish(tl_onnx_exporter *ex) {
    hard_sigmoid_attributes(ex);
    return times_own_gate(ex, "HardSigmoid");
}

/* x / 2 * (1 + erf(x / sqrt 2)): Hendrycks and Gimpel 2016. */
static tl_status emit_gelu(tl_onnx_exporter *ex) {
    const char *root, *half, *one, *x = input_of(ex, 0)->name;
    char scaled[TEXT], erf[TEXT], plus[TEXT], halved[TEXT];
    TL_TRY(scalar(ex, "root", 0.70710678f, &root));
    TL_TRY(scalar(ex, "half", 0.5f, &half));
    TL_TRY(scalar(ex, "one", 1.0f, &one));
    TL_TRY(binary_to(ex, "Mul", x, root, temporary(ex, "scaled", scaled)));
    TL_TRY(unary_to(ex, "Erf", scaled, temporary(ex, "erf", erf)));
    TL_TRY(binary_to(ex, "Add", erf, one, temporary(ex, "plus", plus)));
    TL_TRY(binary_to(ex, "Mul", x, half, temporary(ex, "halved", halved)));
    return binary_to(ex, "Mul", halved, plus, node_of(ex)->name);
}

static tl_status emit_softmax(tl_onnx_exporter *ex) {
    int_attribute(ex, "axis", 1);
    return unary(ex, "Softmax");
}

/* --- several inputs
 * --------------------------------------------------------------------------------------------- */

/* Joins the inputs two by two; a gate [N, C] beside a picture becomes [N, C, 1, 1]. */
static tl_status chain(tl_onnx_exporter *ex, const char *type) {
    const tl_node *node = node_of(ex);
    char sum[2][TEXT], gate[TEXT], suffix[32];
    const char *left = input_of(ex, 0)->name;
    for (int i = 1; i < node->input_count; i++) {
        const char *right = input_of(ex, i)->name;
        if (node->shape.rank == 4 && input_of(ex, i)->shape.rank == 2) {
            const char *axes = NULL;
            snprintf(suffix, sizeof suffix, "axes%d", i);
            TL_TRY(integers(ex, suffix, 2, (int64_t[]){2, 3}, &axes));
            snprintf(suffix, sizeof suffix, "gate%d", i);
            TL_TRY(binary_to(ex, "Unsqueeze", right, axes, temporary(ex, suffix, gate)));
            right = gate;
        }
        snprintf(suffix, sizeof suffix, "part%d", i);
        const char *out =
            i == node->input_count - 1 ? node->name : temporary(ex, suffix, sum[i & 1]);
        TL_TRY(binary_to(ex, type, left, right, out));
        left = out;
    }
    return TL_OK;
}

static tl_status emit_add(tl_onnx_exporter *ex) {
    return chain(ex, "Add");
}

static tl_status emit_multiply(tl_onnx_exporter *ex) {
    return chain(ex, "Mul");
}

static tl_status emit_concat(tl_onnx_exporter *ex) {
    const tl_node *node = node_of(ex);
    const char **inputs = tl_alloc_array(ex->ctx, (size_t)node->input_count, sizeof *inputs);
    TL_CHECK_MEMORY(inputs);
    for (int i = 0; i < node->input_count; i++) inputs[i] = input_of(ex, i)->name;
    int_attribute(ex, "axis", 1);
    tl_status status = finish(ex, "Concat", node->input_count, inputs, node->name);
    tl_free(ex->ctx, inputs);
    return status;
}

/* --- shapes
 * --------------------------------------------------------------------------------------------------------
 */

static tl_status emit_flatten(tl_onnx_exporter *ex) {
    return unary(ex, "Flatten");
}

static tl_status emit_identity(tl_onnx_exporter *ex) {
    return unary(ex, "Identity");
}

static tl_status emit_zero_pad(tl_onnx_exporter *ex) {
    const char *inputs[2] = {input_of(ex, 0)->name};
    const int32_t *pad = ints(ex, "pad");
    const int64_t pads[8] = {0, 0, pad[0], pad[1], 0, 0, pad[2], pad[3]};
    TL_TRY(integers(ex, "pads", 8, pads, &inputs[1]));
    return finish(ex, "Pad", 2, inputs, node_of(ex)->name);
}

static tl_status emit_slice(tl_onnx_exporter *ex) {
    const char *inputs[4] = {input_of(ex, 0)->name};
    TL_TRY(integers(ex, "begin", 1, (int64_t[]){*ints(ex, "begin")}, &inputs[1]));
    TL_TRY(integers(ex, "end", 1, (int64_t[]){*ints(ex, "end")}, &inputs[2]));
    TL_TRY(integers(ex, "axes", 1, (int64_t[]){1}, &inputs[3]));
    return finish(ex, "Slice", 4, inputs, node_of(ex)->name);
}

static tl_status emit_channel_shuffle(tl_onnx_exporter *ex) {
    const int64_t *d = node_of(ex)->shape.dim;
    int64_t groups = *ints(ex, "groups");
    char split[TEXT], mixed[TEXT];
    const char *wide = NULL, *narrow = NULL;
    TL_TRY(integers(ex, "wide", 5, (int64_t[]){-1, groups, d[3] / groups, d[1], d[2]}, &wide));
    TL_TRY(integers(ex, "narrow", 4, (int64_t[]){-1, d[3], d[1], d[2]}, &narrow));
    TL_TRY(binary_to(ex, "Reshape", input_of(ex, 0)->name, wide, temporary(ex, "split", split)));
    TL_TRY(transpose_to(ex, split, 5, (int64_t[]){0, 2, 1, 3, 4}, temporary(ex, "mixed", mixed)));
    return binary_to(ex, "Reshape", mixed, narrow, node_of(ex)->name);
}

/* --- the table
 * --------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *op;
    tl_onnx_emitter emit;
} emitters[] = {
    {"add", emit_add},
    {"avg_pool", emit_avg_pool},
    {"batch_norm", emit_batch_norm},
    {"channel_shuffle", emit_channel_shuffle},
    {"concat", emit_concat},
    {"conv2d", emit_conv},
    {"dense", emit_dense},
    {"dropout", emit_identity},
    {"flatten", emit_flatten},
    {"gelu", emit_gelu},
    {"global_avg_pool", emit_global_avg_pool},
    {"global_max_pool", emit_global_max_pool},
    {"hard_sigmoid", emit_hard_sigmoid},
    {"hard_swish", emit_hard_swish},
    {"identity", emit_identity},
    {"layer_norm", emit_layer_norm},
    {"leaky_relu", emit_leaky_relu},
    {"max_pool", emit_max_pool},
    {"multiply", emit_multiply},
    {"relu", emit_relu},
    {"relu6", emit_relu6},
    {"scale_shift", emit_scale_shift},
    {"sigmoid", emit_sigmoid},
    {"silu", emit_silu},
    {"slice", emit_slice},
    {"softmax", emit_softmax},
    {"zero_pad", emit_zero_pad},
    {"zero_pad", emit_zero_pad},
};

tl_onnx_emitter tl_onnx_emitter_find(const tl_op *op) {
    for (size_t i = 0; i < sizeof emitters / sizeof emitters[0]; i++) {
        if (strcmp(emitters[i].op, op->name) == 0) return emitters[i].emit;
    }
    return NULL;
}
