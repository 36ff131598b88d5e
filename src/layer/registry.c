#include "layer/ops.h"

#include <string.h>

/* clang-format off */
static const tl_op *const all_ops[] = {
    &tl_op_input, &tl_op_conv2d, &tl_op_dense,
    &tl_op_batch_norm, &tl_op_layer_norm, &tl_op_scale_shift,
    &tl_op_max_pool, &tl_op_avg_pool, &tl_op_global_avg_pool,
    &tl_op_global_max_pool, &tl_op_relu, &tl_op_relu6,
    &tl_op_leaky_relu, &tl_op_sigmoid, &tl_op_hard_sigmoid,
    &tl_op_silu, &tl_op_hard_swish, &tl_op_gelu,
    &tl_op_softmax, &tl_op_add, &tl_op_multiply,
    &tl_op_concat, &tl_op_slice, &tl_op_channel_shuffle, &tl_op_zero_pad,
    &tl_op_flatten, &tl_op_identity, &tl_op_dropout,
    NULL};
/* clang-format on */

const tl_op *const *tl_op_all(void) {
    return all_ops;
}

const tl_op *tl_op_find(const char *name) {
    for (const tl_op *const *op = all_ops; *op; op++)
        if (strcmp((*op)->name, name) == 0) return *op;
    return NULL;
}

static tl_status check_shape(const tl_op *op, const char *role, const tl_shape *shape) {
    char text[TL_SHAPE_TEXT];
    int64_t count = tl_shape_count(shape);
    TL_CHECK(count != 0, TL_SHAPE, "%s: %s is %s, which has no elements", op->name, role,
             tl_shape_text(shape, text));
    TL_CHECK(count > 0 && count <= TL_MAX_ELEMENTS, TL_LIMIT,
             "%s: %s is %s, more than %lld elements", op->name, role, tl_shape_text(shape, text),
             (long long)TL_MAX_ELEMENTS);
    return TL_OK;
}

static tl_status check_inputs(const tl_op *op, int input_count, const tl_shape *in) {
    bool any = op->max_inputs == 0 && op->min_inputs > 0;
    TL_CHECK(input_count >= op->min_inputs && (any || input_count <= op->max_inputs),
             TL_INVALID_ARGUMENT, "%s: %d inputs, expected %s%d", op->name, input_count,
             any ? "at least " : "", op->min_inputs);
    for (int i = 0; i < input_count; i++) {
        char text[TL_SHAPE_TEXT];
        TL_CHECK(in[i].rank >= 2 && in[i].rank <= TL_MAX_RANK, TL_SHAPE,
                 "%s: input %d is %s, expected a batch dimension first and channels last", op->name,
                 i, tl_shape_text(&in[i], text));
        TL_TRY(check_shape(op, "an input", &in[i]));
    }
    return TL_OK;
}

bool tl_op_same_rows(const tl_op_call *whole, tl_row_window *window) {
    *window = (tl_row_window){.stride = 1, .extent = 1, .height = whole->out.shape.dim[1]};
    return true;
}

tl_status tl_op_infer(const tl_op *op, const void *attr, int input_count, const tl_shape *in,
                      tl_op_shapes *out) {
    TL_TRY(check_inputs(op, input_count, in));
    memset(out, 0, sizeof *out);
    TL_TRY(op->infer(attr, input_count, in, out));
    TL_TRY(check_shape(op, "the output", &out->out));
    for (int i = 0; i < out->param_count; i++)
        TL_TRY(check_shape(op, out->param[i].name, &out->param[i].shape));
    return TL_OK;
}

void tl_op_pack(const tl_op *op, const tl_op_call *call, const float *scale, float *packed) {
    if (op->pack) op->pack(call, 0, call->out.shape.dim[call->out.shape.rank - 1], scale, packed);
}
