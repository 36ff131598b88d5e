/* Maximum over windows. The first of equal values wins, as in PyTorch; NaN wins over all. An
 * activation that came before may be left to it, see graph/fuse.c. */
#include "layer/loop.h"
#include "layer/ops.h"
#include "layer/pool.h"

/* The winner's place in its window is kept in a byte. */
enum { MAX_AREA = TL_NO_PLACE };

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const tl_pool_attr *a = attr;
    TL_CHECK((int64_t)a->kernel[0] * a->kernel[1] <= MAX_AREA, TL_LIMIT,
             "max_pool: kernel %d,%d has more than %d elements; to pool over a whole picture use "
             "global_max_pool",
             a->kernel[0], a->kernel[1], MAX_AREA);
    return tl_pool_infer("max_pool", a, &in[0], out);
}

static void memory(const tl_op_call *call, tl_op_memory *out) {
    out->saved = (size_t)tl_shape_count(&call->out.shape);
}

static void forward_run(tl_pool_run *run) {
    const tl_op_call *call = run->call;
    uint8_t *winner = call->backward_follows ? (uint8_t *)call->saved + run->out : NULL;
    if (call->epilogue) run->row.act = call->epilogue->act;
    run->kernels->max_pool(&run->row, tl_from_at(call->in[0].data, run->size, run->in),
                           tl_to_at(call->out.data, run->size, run->out), winner);
}

static void forward(const tl_op_call *call) {
    tl_pool_forward(call, forward_run);
}

static void backward_run(tl_pool_run *run) {
    const tl_op_call *call = run->call;
    run->kernels->max_pool_backward(&run->row, (const uint8_t *)call->saved + run->out,
                                    tl_from_at(call->grad_out, run->size, run->out),
                                    tl_to_at(call->grad_in[0], run->size, run->in));
}

static void backward(const tl_op_call *call) {
    if (call->grad_in[0]) tl_pool_backward(call, backward_run);
}

const tl_op tl_op_max_pool = {.name = "max_pool",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .flags = TL_OP_BF16 | TL_OP_MAXIMUM,
                              .attr_size = sizeof(tl_pool_attr),
                              .attrs = &tl_pool_attrs[1],
                              .infer = infer,
                              .memory = memory,
                              .forward = forward,
                              .backward = backward};
