/* Average over windows. */
#include "layer/loop.h"
#include "layer/ops.h"
#include "layer/pool.h"

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    return tl_pool_infer("avg_pool", attr, &in[0], out);
}

/* Elements that are divided by, along one axis. With count_include_pad the padding counts, but not
 * what ceil_mode adds beyond it: torch.nn.AvgPool2d. */
static int64_t divisor_of(const tl_window *window, const tl_pool_span *span, bool with_pad) {
    if (!with_pad) return span->end - span->begin;
    int64_t end = span->start + window->kernel, limit = window->in + window->after;
    return (end < limit ? end : limit) - span->start;
}

static float weight_of(const tl_pool_run *run) {
    const tl_pool_attr *attr = run->call->attr;
    bool with_pad = attr->count_include_pad != 0;
    int64_t area =
        divisor_of(&run->axis[0], &run->h, with_pad) * divisor_of(&run->axis[1], &run->w, with_pad);
    return 1.0f / (float)area;
}

static void forward_run(tl_pool_run *run) {
    run->row.weight = weight_of(run);
    run->kernels->avg_pool(&run->row, tl_from_at(run->call->in[0].data, run->size, run->in),
                           tl_to_at(run->call->out.data, run->size, run->out));
}

static void forward(const tl_op_call *call) {
    tl_pool_forward(call, forward_run);
}

static void backward_run(tl_pool_run *run) {
    run->row.weight = weight_of(run);
    run->kernels->avg_pool_backward(&run->row, tl_from_at(run->call->grad_out, run->size, run->out),
                                    tl_to_at(run->call->grad_in[0], run->size, run->in));
}

static void backward(const tl_op_call *call) {
    if (call->grad_in[0]) tl_pool_backward(call, backward_run);
}

const tl_op tl_op_avg_pool = {.name = "avg_pool",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .flags = TL_OP_BF16,
                              .attr_size = sizeof(tl_pool_attr),
                              .attrs = tl_pool_attrs,
                              .infer = infer,
                              .forward = forward,
                              .backward = backward};
