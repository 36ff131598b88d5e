/* Sums and products of activations and of constants; normalisation. */
#include "model/onnx_import.h"

#include <stdio.h>
#include <string.h>

/* --- constants for every channel -------------------------------------------------------------- */

/* Whether a constant varies along the channels of `x` only. */
static bool varies_by_channel(const tl_onnx_entry *x, const tl_shape *s, int64_t channels) {
    if (x->chw[0] || x->layout > TL_ONNX_POOLED || s->rank > x->shape.rank) return false;
    /* Shapes are aligned at their ends. */
    int axis = tl_onnx_channel_axis(x) - (x->shape.rank - s->rank);
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] != 1 && (i != axis || s->dim[i] != channels)) return false;
    }
    return true;
}

/* Such a constant, spread to one float for each channel of `x`. */
static tl_status spread(tl_onnx_importer *im, const tl_onnx_entry *constant, const tl_onnx_entry *x,
                        float *out) {
    int64_t channels = x->shape.dim[tl_onnx_channel_axis(x)];
    TL_TRY(tl_onnx_weight(im, constant));
    if (!varies_by_channel(x, &constant->shape, channels)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED,
                            "a constant that varies along other axes than the channels");
    }
    int64_t count = constant->tensor->count;
    tl_onnx_read_row(constant->tensor, 0, count, out);
    for (int64_t i = count; i < channels; i++) out[i] = out[0];
    return TL_OK;
}

typedef enum arithmetic { ADD, SUBTRACT, MULTIPLY, DIVIDE } arithmetic;

/* x (op) constant, or constant (op) x: as scale_shift. A single number is part of the
 * architecture; one for each channel has been learned. */
static tl_status with_constant(tl_onnx_importer *im, arithmetic op, const tl_onnx_entry *value,
                               const tl_onnx_entry *constant, bool constant_first) {
    tl_onnx_entry x;
    char attrs[64];
    int node = 0;
    TL_TRY(tl_onnx_settle(im, value, &x));
    TL_TRY(tl_onnx_weight(im, constant));
    if (constant_first && op == DIVIDE) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a constant divided by an activation");
    }
    bool minus = constant_first && op == SUBTRACT, shifts = op == ADD || op == SUBTRACT;
    int64_t channels = x.shape.dim[tl_onnx_channel_axis(&x)];
    snprintf(attrs, sizeof attrs, "scale=%d center=%d learned=%d", !shifts || minus, shifts,
             constant->tensor->count > 1 && !minus);
    TL_TRY(tl_onnx_emit(im, "scale_shift", attrs, 1, &x.node, &node));
    float *to = tl_onnx_param(im, node, shifts ? "beta" : "gamma");
    TL_TRY(spread(im, constant, &x, to));
    for (int64_t i = 0; i < channels; i++) {
        if (op == SUBTRACT && !minus) to[i] = -to[i];
        if (op == DIVIDE) to[i] = 1.0f / to[i];
    }
    float *gamma = minus ? tl_onnx_param(im, node, "gamma") : NULL;
    for (int64_t i = 0; minus && i < channels; i++) gamma[i] = -1.0f;
    return tl_onnx_define_node(im, &x, node);
}

/* --- two activations -------------------------------------------------------------------------- */

/* x * sigmoid(x), in either order: *done tells whether it was that. */
static tl_status product_with_own_sigmoid(tl_onnx_importer *im, const tl_onnx_entry *input[2],
                                          bool *done) {
    *done = false;
    for (int i = 0; i < 2; i++) {
        const tl_onnx_entry *gate = input[i], *x = input[1 - i];
        bool waits = gate->pending == TL_ONNX_SIGMOID || gate->pending == TL_ONNX_HARD_SIGMOID;
        if (!waits || x->kind != TL_ONNX_NODE || x->pending || x->node != gate->node ||
            x->layout != gate->layout) {
            continue;
        }
        tl_onnx_entry like = *x;
        int node = 0;
        *done = true;
        TL_TRY(tl_onnx_emit(im, gate->pending == TL_ONNX_SIGMOID ? "silu" : "hard_swish", "", 1,
                            &like.node, &node));
        return tl_onnx_define_node(im, &like, node);
    }
    return TL_OK;
}

/* One value for each sample and channel of `x`, as squeeze-and-excite multiplies with. */
static bool is_gate(const tl_onnx_entry *gate, const tl_onnx_entry *x) {
    int axis = tl_onnx_channel_axis(x);
    if (!tl_onnx_is_picture(x) || gate->shape.rank != 4) return false;
    if (gate->layout != TL_ONNX_POOLED && gate->layout != x->layout) return false;
    for (int i = 0; i < 4; i++) {
        if (gate->shape.dim[i] != (i == axis ? x->shape.dim[i] : 1)) return false;
    }
    return true;
}

static tl_status two_activations(tl_onnx_importer *im, arithmetic op,
                                 const tl_onnx_entry *input[2]) {
    tl_onnx_entry x[2];
    for (int i = 0; i < 2; i++) TL_TRY(tl_onnx_settle(im, input[i], &x[i]));
    /* The gate comes second in ours. */
    int first = op == MULTIPLY && is_gate(&x[0], &x[1]) ? 1 : 0;
    const tl_onnx_entry *a = &x[first], *b = &x[1 - first];
    bool same = a->layout == b->layout && tl_shape_equal(&a->shape, &b->shape) &&
                memcmp(a->chw, b->chw, sizeof a->chw) == 0;
    if (op == SUBTRACT || op == DIVIDE || !(same || (op == MULTIPLY && is_gate(b, a)))) {
        char left[TL_SHAPE_TEXT], right[TL_SHAPE_TEXT];
        return tl_onnx_fail(im, TL_UNSUPPORTED, "of the activations %s and %s",
                            tl_shape_text(&x[0].shape, left), tl_shape_text(&x[1].shape, right));
    }
    int inputs[2] = {a->node, b->node}, node = 0;
    TL_TRY(tl_onnx_emit(im, op == ADD ? "add" : "multiply", "", 2, inputs, &node));
    return tl_onnx_define_node(im, a, node);
}

static tl_status binary(tl_onnx_importer *im, arithmetic op) {
    const tl_onnx_entry *input[2] = {NULL, NULL};
    bool done = false;
    for (int i = 0; i < 2; i++) TL_TRY(tl_onnx_input(im, i, &input[i]));
    for (int i = 0; i < 2; i++) {
        if (input[i]->kind != TL_ONNX_NODE) {
            return with_constant(im, op, input[1 - i], input[i], i == 0);
        }
    }
    if (op == MULTIPLY) TL_TRY(product_with_own_sigmoid(im, input, &done));
    return done ? TL_OK : two_activations(im, op, input);
}

tl_status tl_onnx_add(tl_onnx_importer *im) {
    return binary(im, ADD);
}
tl_status tl_onnx_sub(tl_onnx_importer *im) {
    return binary(im, SUBTRACT);
}
tl_status tl_onnx_mul(tl_onnx_importer *im) {
    return binary(im, MULTIPLY);
}
tl_status tl_onnx_div(tl_onnx_importer *im) {
    return binary(im, DIVIDE);
}

/* --- normalisation ---------------------------------------------------------------------------- */

/* Input `index`, of exactly one float for each channel, into a parameter. */
static tl_status fill_param(tl_onnx_importer *im, int node, const char *name, int index,
                            int64_t channels) {
    const tl_onnx_entry *values = NULL;
    TL_TRY(tl_onnx_input(im, index, &values));
    TL_TRY(tl_onnx_weight(im, values));
    if (values->tensor->count != channels) {
        return tl_onnx_fail(im, TL_SHAPE, "%s has %lld elements for %lld channels", name,
                            (long long)values->tensor->count, (long long)channels);
    }
    tl_onnx_read_row(values->tensor, 0, channels, tl_onnx_param(im, node, name));
    return TL_OK;
}

tl_status tl_onnx_batch_norm(tl_onnx_importer *im) {
    static const char *const names[] = {"gamma", "beta", "mean", "variance"};
    tl_onnx_entry x;
    char attrs[64];
    int node = 0;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    if (x.chw[0] || x.layout > TL_ONNX_POOLED || tl_onnx_channel_axis(&x) != 1) {
        return tl_onnx_fail(im, TL_UNSUPPORTED,
                            "a normalisation of another axis than the channels");
    }
    if (tl_onnx_attr_int(im, "training_mode", 0)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "training_mode; export the network for inference");
    }
    snprintf(attrs, sizeof attrs, "epsilon=%.9g momentum=%.9g",
             (double)tl_onnx_attr_float(im, "epsilon", 1e-5f),
             (double)tl_onnx_attr_float(im, "momentum", 0.9f));
    TL_TRY(tl_onnx_emit(im, "batch_norm", attrs, 1, &x.node, &node));
    for (int i = 0; i < 4; i++) {
        TL_TRY(fill_param(im, node, names[i], i + 1, x.shape.dim[1]));
    }
    return tl_onnx_define_node(im, &x, node);
}

tl_status tl_onnx_emit_layer_norm(tl_onnx_importer *im, const tl_onnx_entry *x, int64_t axis,
                                  float epsilon, const tl_onnx_entry *gamma,
                                  const tl_onnx_entry *beta) {
    char attrs[64];
    int node = 0, at = 0;
    TL_TRY(tl_onnx_axis(im, axis, x->shape.rank, &at));
    if (x->chw[0] || x->layout > TL_ONNX_POOLED || at != tl_onnx_channel_axis(x)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a layer norm over other axes than the channels");
    }
    snprintf(attrs, sizeof attrs, "epsilon=%.9g", (double)epsilon);
    TL_TRY(tl_onnx_emit(im, "layer_norm", attrs, 1, &x->node, &node));
    TL_TRY(spread(im, gamma, x, tl_onnx_param(im, node, "gamma")));
    if (beta) TL_TRY(spread(im, beta, x, tl_onnx_param(im, node, "beta")));
    return tl_onnx_define_node(im, x, node);
}

tl_status tl_onnx_layer_norm(tl_onnx_importer *im) {
    tl_onnx_entry x;
    const tl_onnx_entry *gamma = NULL, *beta = NULL;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(tl_onnx_input(im, 1, &gamma));
    if (tl_onnx_has_input(im, 2)) TL_TRY(tl_onnx_input(im, 2, &beta));
    return tl_onnx_emit_layer_norm(im, &x, tl_onnx_attr_int(im, "axis", -1),
                                   tl_onnx_attr_float(im, "epsilon", 1e-5f), gamma, beta);
}
