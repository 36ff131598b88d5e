/* Products with constant matrices: dense layers, and 1x1 convolutions of pictures in N H W C. */
#include "model/onnx_import.h"

#include <stdio.h>
#include <string.h>

tl_status tl_onnx_fill_bias(tl_onnx_importer *im, int node, int input, int64_t expected,
                            float scale) {
    const tl_onnx_entry *bias = NULL;
    TL_TRY(tl_onnx_input(im, input, &bias));
    TL_TRY(tl_onnx_weight(im, bias));
    int64_t count = bias->tensor->count;
    if (count != expected && count != 1) {
        return tl_onnx_fail(im, TL_SHAPE, "the bias has %lld elements, expected %lld",
                            (long long)count, (long long)expected);
    }
    float *to = tl_onnx_param(im, node, "bias");
    tl_onnx_read_row(bias->tensor, 0, count, to);
    for (int64_t i = count; i < expected; i++) to[i] = to[0];
    for (int64_t i = 0; i < expected; i++) to[i] *= scale;
    return TL_OK;
}

/* The matrix that a product multiplies with, seen as [K, O]. */
typedef struct matrix {
    const tl_onnx_entry *weight;
    int64_t k, units;
    bool stored_by_unit; /* in memory [O, K] */
    float scale;
} matrix;

static tl_status read_matrix(tl_onnx_importer *im, bool transposed, float scale, matrix *m) {
    TL_TRY(tl_onnx_input(im, 1, &m->weight));
    TL_TRY(tl_onnx_weight(im, m->weight));
    if (m->weight->shape.rank != 2) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "weights of rank %d, expected 2",
                            m->weight->shape.rank);
    }
    m->k = m->weight->shape.dim[transposed ? 1 : 0];
    m->units = m->weight->shape.dim[transposed ? 0 : 1];
    m->stored_by_unit = transposed != m->weight->transposed;
    m->scale = scale;
    return TL_OK;
}

/* Where ours has the element that ONNX has at `i` of what was flattened: ONNX's order is C H W,
 * ours H W C. */
static int64_t our_place(const tl_onnx_entry *x, int64_t k, int64_t i) {
    if (!x->chw[0]) return i;
    int64_t channels = x->chw[0], area = k / channels;
    return i % area * channels + i / area;
}

/* To ours [O, K]. The constant is read row by row, in whichever of both orders it lies. */
static tl_status fill_dense(tl_onnx_importer *im, const tl_onnx_entry *x, const matrix *m,
                            float *to) {
    int64_t rows = m->stored_by_unit ? m->units : m->k;
    int64_t columns = m->stored_by_unit ? m->k : m->units;
    float *row = tl_alloc_array(im->onnx->ctx, (size_t)columns, sizeof *row);
    TL_CHECK_MEMORY(row);
    for (int64_t r = 0; r < rows; r++) {
        tl_onnx_read_row(m->weight->tensor, r, columns, row);
        int64_t place = m->stored_by_unit ? 0 : our_place(x, m->k, r);
        for (int64_t i = 0; i < columns; i++) {
            int64_t at = m->stored_by_unit ? r * m->k + our_place(x, m->k, i) : i * m->k + place;
            to[at] = m->scale * row[i];
        }
    }
    tl_free(im->onnx->ctx, row);
    return TL_OK;
}

static tl_status emit_product(tl_onnx_importer *im, const matrix *m, bool bias, tl_onnx_entry *x,
                              int *node) {
    bool dense = x->layout == TL_ONNX_FLAT, conv = x->layout == TL_ONNX_NHWC;
    if (!dense && !conv) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a product of other than [N, K] or [N, H, W, K]");
    }
    if (m->k != x->shape.dim[x->shape.rank - 1]) {
        return tl_onnx_fail(im, TL_SHAPE, "%lld features for weights of %lld",
                            (long long)x->shape.dim[x->shape.rank - 1], (long long)m->k);
    }
    char attrs[64];
    snprintf(attrs, sizeof attrs, "%s=%lld bias=%d", dense ? "units" : "kernel=1 filters",
             (long long)m->units, bias);
    TL_TRY(tl_onnx_emit(im, dense ? "dense" : "conv2d", attrs, 1, &x->node, node));
    TL_TRY(fill_dense(im, x, m, tl_onnx_param(im, *node, "weight")));
    memset(x->chw, 0, sizeof x->chw);
    return TL_OK;
}

tl_status tl_onnx_gemm(tl_onnx_importer *im) {
    tl_onnx_entry x;
    matrix m;
    int node = 0;
    bool bias = tl_onnx_has_input(im, 2);
    TL_TRY(tl_onnx_activation(im, 0, &x));
    if (tl_onnx_attr_int(im, "transA", 0)) return tl_onnx_fail(im, TL_UNSUPPORTED, "transA");
    TL_TRY(read_matrix(im, tl_onnx_attr_int(im, "transB", 0) != 0,
                       tl_onnx_attr_float(im, "alpha", 1.0f), &m));
    TL_TRY(emit_product(im, &m, bias, &x, &node));
    if (bias) {
        TL_TRY(tl_onnx_fill_bias(im, node, 2, m.units, tl_onnx_attr_float(im, "beta", 1.0f)));
    }
    return tl_onnx_define_node(im, &x, node);
}

tl_status tl_onnx_matmul(tl_onnx_importer *im) {
    tl_onnx_entry x;
    matrix m;
    int node = 0;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(read_matrix(im, false, 1.0f, &m));
    TL_TRY(emit_product(im, &m, false, &x, &node));
    return tl_onnx_define_node(im, &x, node);
}
