/* What each ONNX operator becomes: the table, and activations. https://onnx.ai/onnx/operators */
#include "model/onnx_import.h"

#include <math.h>
#include <stdio.h>

tl_status tl_onnx_unary(tl_onnx_importer *im, const char *op, const char *attrs) {
    tl_onnx_entry x;
    int node = 0;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(tl_onnx_emit(im, op, attrs, 1, &x.node, &node));
    return tl_onnx_define_node(im, &x, node);
}

static tl_status import_relu(tl_onnx_importer *im) {
    return tl_onnx_unary(im, "relu", "");
}

static tl_status import_hard_swish(tl_onnx_importer *im) {
    return tl_onnx_unary(im, "hard_swish", "");
}

static tl_status import_leaky_relu(tl_onnx_importer *im) {
    char attrs[32];
    snprintf(attrs, sizeof attrs, "alpha=%.9g", (double)tl_onnx_attr_float(im, "alpha", 0.01f));
    return tl_onnx_unary(im, "leaky_relu", attrs);
}

static tl_status import_gelu(tl_onnx_importer *im) {
    if (tl_onnx_attr_is(im, "approximate", "tanh")) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "the approximation by tanh");
    }
    return tl_onnx_unary(im, "gelu", "");
}

/* A sigmoid waits for a multiplication with its own input: SiLU and hard-swish. */
static tl_status wait_for_product(tl_onnx_importer *im, tl_onnx_pending pending) {
    tl_onnx_entry x;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    x.pending = pending;
    x.pending_at = im->at;
    return tl_onnx_define(im, &x);
}

static tl_status import_sigmoid(tl_onnx_importer *im) {
    return wait_for_product(im, TL_ONNX_SIGMOID);
}

static tl_status import_hard_sigmoid(tl_onnx_importer *im) {
    float alpha = tl_onnx_attr_float(im, "alpha", 0.2f);
    float beta = tl_onnx_attr_float(im, "beta", 0.5f);
    if (fabsf(alpha - 1.0f / 6.0f) > 1e-5f || beta != 0.5f) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "slope %g and offset %g, only 1/6 and 0.5",
                            (double)alpha, (double)beta);
    }
    return wait_for_product(im, TL_ONNX_HARD_SIGMOID);
}

/* The bounds are inputs since opset 11. */
static tl_status clip_bound(tl_onnx_importer *im, int input, const char *attr, float initial,
                            float *out) {
    *out = tl_onnx_attr_float(im, attr, initial);
    return tl_onnx_has_input(im, input) ? tl_onnx_one_float(im, input, out) : TL_OK;
}

static tl_status import_identity(tl_onnx_importer *im) {
    const tl_onnx_entry *x = NULL;
    TL_TRY(tl_onnx_input(im, 0, &x));
    tl_onnx_entry value = *x;
    return tl_onnx_define(im, &value);
}

static tl_status import_clip(tl_onnx_importer *im) {
    float low, high;
    TL_TRY(clip_bound(im, 1, "min", -INFINITY, &low));
    TL_TRY(clip_bound(im, 2, "max", INFINITY, &high));
    bool open = high > 1e30f;
    if (low == 0.0f && high == 6.0f) return tl_onnx_unary(im, "relu6", "");
    if (low == 0.0f && open) return tl_onnx_unary(im, "relu", "");
    if (low < -1e30f && open) return import_identity(im);
    return tl_onnx_fail(im, TL_UNSUPPORTED, "clipping to [%g, %g], only [0, 6] and [0, infinity)",
                        (double)low, (double)high);
}

static tl_status import_softmax(tl_onnx_importer *im) {
    tl_onnx_entry x;
    int axis;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(tl_onnx_axis(im, tl_onnx_attr_int(im, "axis", im->onnx->opset < 13 ? 1 : -1),
                        x.shape.rank, &axis));
    bool vector = x.layout == TL_ONNX_FLAT || x.layout == TL_ONNX_POOLED;
    if (!vector || axis != tl_onnx_channel_axis(&x)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a softmax over other axes than the classes");
    }
    return tl_onnx_unary(im, "softmax", "");
}

/* The rate is an input since opset 12. */
static tl_status import_dropout(tl_onnx_importer *im) {
    char attrs[32];
    float rate = tl_onnx_attr_float(im, "ratio", 0.5f);
    if (tl_onnx_has_input(im, 1)) TL_TRY(tl_onnx_one_float(im, 1, &rate));
    snprintf(attrs, sizeof attrs, "rate=%.9g", (double)rate);
    return tl_onnx_unary(im, "dropout", attrs);
}

/* Between floating types: everything of ours is f32. */
static tl_status import_cast(tl_onnx_importer *im) {
    int64_t to = tl_onnx_attr_int(im, "to", 0);
    bool floats = to == 1 || to == 10 || to == 11 || to == 16;
    if (!floats) return tl_onnx_fail(im, TL_UNSUPPORTED, "to type %lld", (long long)to);
    return import_identity(im);
}

/* Operators that exporters use to compute shapes, which have been folded by now. */
static tl_status only_on_shapes(tl_onnx_importer *im) {
    return tl_onnx_fail(im, TL_UNSUPPORTED, "on something else than shapes");
}

static const struct {
    const char *type;
    tl_onnx_handler handler;
} handlers[] = {
    {"Add", tl_onnx_add},
    {"AveragePool", tl_onnx_pool},
    {"BatchNormalization", tl_onnx_batch_norm},
    {"Cast", import_cast},
    {"Clip", import_clip},
    {"Concat", tl_onnx_concat},
    {"Constant", only_on_shapes},
    {"ConstantOfShape", only_on_shapes},
    {"Conv", tl_onnx_conv},
    {"Div", tl_onnx_div},
    {"Dropout", import_dropout},
    {"Flatten", tl_onnx_flatten},
    {"Floor", only_on_shapes},
    {"Gather", tl_onnx_gather},
    {"Gelu", import_gelu},
    {"Gemm", tl_onnx_gemm},
    {"GlobalAveragePool", tl_onnx_global_average},
    {"GlobalMaxPool", tl_onnx_global_max},
    {"HardSigmoid", import_hard_sigmoid},
    {"HardSwish", import_hard_swish},
    {"Identity", import_identity},
    {"LayerNormalization", tl_onnx_layer_norm},
    {"LeakyRelu", import_leaky_relu},
    {"MatMul", tl_onnx_matmul},
    {"MaxPool", tl_onnx_pool},
    {"Mul", tl_onnx_mul},
    {"Pad", tl_onnx_pad},
    {"ReduceMean", tl_onnx_reduce_mean},
    {"Relu", import_relu},
    {"Reshape", tl_onnx_reshape},
    {"Shape", only_on_shapes},
    {"Sigmoid", import_sigmoid},
    {"Slice", tl_onnx_slice},
    {"Softmax", import_softmax},
    {"Split", tl_onnx_split},
    {"Squeeze", tl_onnx_squeeze},
    {"Sub", tl_onnx_sub},
    {"Transpose", tl_onnx_transpose},
    {"Unsqueeze", tl_onnx_unsqueeze},
};

tl_onnx_handler tl_onnx_handler_find(const tl_onnx *onnx, const tl_onnx_node *node) {
    bool standard =
        node->domain.begin == node->domain.end || tl_onnx_is(onnx, node->domain, "ai.onnx");
    for (size_t i = 0; standard && i < sizeof handlers / sizeof handlers[0]; i++) {
        if (tl_onnx_is(onnx, node->type, handlers[i].type)) return handlers[i].handler;
    }
    return NULL;
}
