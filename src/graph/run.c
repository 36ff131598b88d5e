/* Running a plan: packing, forward, backward. Nothing here allocates. */
#include <string.h>

#include "graph/plan.h"

/* --- where things are ------------------------------------------------------------------------- */

static void *buffer_data(const tl_plan *plan, int buffer) {
    return buffer >= 0 ? plan->arena + plan->buffer[buffer].offset : NULL;
}

/* Operators only ever read their inputs, and views of the caller's memory are never written. */
static float *callers(const float *data) {
    return (float *)(uintptr_t)data;
}

static float *value_data(const tl_plan *plan, int index) {
    int buffer = plan->value[index].buffer;
    return buffer == TL_CALLER_BUFFER ? callers(plan->input) : buffer_data(plan, buffer);
}

static float *grad_data(const tl_plan *plan, int index) {
    int buffer = plan->value[index].grad_buffer;
    return buffer == TL_CALLER_BUFFER ? callers(plan->grad_output) : buffer_data(plan, buffer);
}

static tl_view value_view(const tl_plan *plan, int index, int64_t batch) {
    tl_view view = {.shape = plan->value[index].shape};
    view.shape.dim[0] = batch;
    return view;
}

/* --- calls ------------------------------------------------------------------------------------ */

tl_op_call tl_plan_call(tl_plan *plan, int index, int64_t batch) {
    const tl_node *node = &plan->graph->node[index];
    for (int i = 0; i < node->input_count; i++) {
        plan->in[i] = value_view(plan, node->input[i], batch);
    }
    for (int i = 0; i < node->param_count; i++) {
        plan->param[i] = tl_tensor_f32(plan->graph->param[node->first_param + i].value);
    }
    return (tl_op_call){.ctx = plan->ctx,
                        .attr = node->attr,
                        .input_count = node->input_count,
                        .in = plan->in,
                        .out = value_view(plan, index, batch),
                        .param_count = node->param_count,
                        .param = plan->param,
                        .seed = plan->options.seed};
}

/* A step's call as forward and backward share it. */
static tl_op_call step_call(tl_plan *plan, const tl_step *step) {
    tl_op_call call = tl_plan_call(plan, step->node, plan->batch);
    call.training = plan->trained && step->live;
    call.backward_follows = plan->trained && step->backward;
    call.stream = plan->step_number * TL_MAX_NODES + (uint64_t)step->node;
    call.saved = buffer_data(plan, step->saved);
    if (step->memory.packed) call.packed = plan->packed + step->packed;
    return call;
}

/* --- packing ---------------------------------------------------------------------------------- */

/* Folds batch norm and the operator's own bias into the epilogue's bias:
 * scale * (x + bias) + shift = scale * x + (scale * bias + shift). */
static void fold(tl_plan *plan, const tl_step *step, float *scale, float *bias) {
    const tl_node *node = &plan->graph->node[step->node];
    const tl_shape *shape = &plan->value[step->node].shape;
    int64_t channels = shape->dim[shape->rank - 1];
    if (step->affine >= 0) {
        tl_op_call call = tl_plan_call(plan, step->affine, plan->options.input.dim[0]);
        plan->graph->node[step->affine].op->affine(&call, scale, bias);
    } else {
        memset(bias, 0, (size_t)channels * sizeof *bias);
    }
    if (node->param_count < 2) return;
    const float *own = tl_tensor_const_f32(plan->graph->param[node->first_param + 1].value);
    for (int64_t c = 0; c < channels; c++) bias[c] += scale ? scale[c] * own[c] : own[c];
}

static void pack_step(tl_plan *plan, const tl_step *step) {
    float *scale = step->affine >= 0 ? plan->packed + plan->scale : NULL;
    if (step->fused) fold(plan, step, scale, plan->packed + step->bias);
    const tl_op *op = plan->graph->node[step->node].op;
    if (!step->memory.packed) return;
    tl_op_call call = tl_plan_call(plan, step->node, plan->options.input.dim[0]);
    op->pack(&call, scale, plan->packed + step->packed);
}

void tl_plan_repack(tl_plan *plan) {
    for (int s = 0; s < plan->step_count; s++) {
        if (!plan->step[s].packs) pack_step(plan, &plan->step[s]);
    }
}

/* --- forward
 * ------------------------------------------------------------------------------------------------
 */

static void forward_step(tl_plan *plan, const tl_step *step) {
    const tl_node *node = &plan->graph->node[step->node];
    if (step->packs) pack_step(plan, step);
    tl_op_call call = step_call(plan, step);
    for (int i = 0; i < node->input_count; i++) {
        plan->in[i].data = value_data(plan, node->input[i]);
    }
    call.out.data = value_data(plan, step->out);
    call.work = buffer_data(plan, step->work_forward);
    tl_epilogue epilogue = {.act = step->act};
    if (step->fused) {
        epilogue.bias = plan->packed + step->bias;
        if (step->residual >= 0) epilogue.residual = value_data(plan, step->residual);
        call.epilogue = &epilogue;
    }
    node->op->forward(&call);
}

void tl_plan_set_poll(tl_plan *plan, tl_poll_fn poll_fn, void *user) {
    plan->poll = poll_fn;
    plan->poll_user = user;
}

static tl_status poll(const tl_plan *plan) {
    return plan->poll ? plan->poll(plan->poll_user) : TL_OK;
}

tl_status tl_plan_forward(tl_plan *plan, const float *input, int64_t batch, uint64_t step,
                          bool training) {
    int64_t most = plan->options.input.dim[0];
    TL_CHECK(batch >= 1 && batch <= most, TL_INVALID_ARGUMENT,
             "plan: a batch of %lld, expected 1 to %lld", (long long)batch, (long long)most);
    TL_CHECK(!training || plan->options.training, TL_INVALID_ARGUMENT,
             "plan: it was not made for training");
    plan->input = input;
    plan->batch = batch;
    plan->step_number = step;
    plan->trained = training;
    for (int s = 0; s < plan->step_count; s++) {
        if (plan->step[s].alias) continue;
        TL_TRY(poll(plan));
        forward_step(plan, &plan->step[s]);
    }
    return TL_OK;
}

tl_view tl_plan_output(const tl_plan *plan) {
    tl_view view = value_view(plan, plan->options.to, plan->batch);
    view.data = value_data(plan, plan->options.to);
    return view;
}

/* --- backward
 * ------------------------------------------------------------------------------------------------
 */

/* Whether input i of step s finds a gradient already there: from a later step, or from an earlier
 * input of its own that is the same value. */
static bool adds(const tl_plan *plan, int s, const tl_node *node, int i) {
    if (plan->value[node->input[i]].grad_writer != s) return true;
    for (int j = 0; j < i; j++) {
        if (node->input[j] == node->input[i]) return true;
    }
    return false;
}

static void backward_step(tl_plan *plan, int s) {
    const tl_step *step = &plan->step[s];
    const tl_node *node = &plan->graph->node[step->node];
    tl_op_call call = step_call(plan, step);
    bool keeps_input = node->op->flags & TL_OP_KEEPS_INPUT;
    for (int i = 0; i < node->input_count; i++) {
        int input = node->input[i];
        if (keeps_input) plan->in[i].data = value_data(plan, input);
        plan->grad_in[i] = plan->value[input].gradient ? grad_data(plan, input) : NULL;
        plan->grad_add[i] = adds(plan, s, node, i);
    }
    for (int i = 0; i < node->param_count; i++) {
        int64_t offset = plan->gradient_offset[node->first_param + i];
        plan->grad_param[i] = offset < 0 ? NULL : plan->gradients + offset;
    }
    if (node->op->flags & TL_OP_KEEPS_OUTPUT) call.out.data = value_data(plan, step->out);
    call.work = buffer_data(plan, step->work_backward);
    call.grad_out = grad_data(plan, step->out);
    call.grad_in = plan->grad_in;
    call.grad_add = plan->grad_add;
    call.grad_param = plan->grad_param;
    node->op->backward(&call);
}

tl_status tl_plan_backward(tl_plan *plan, const float *grad_output) {
    TL_CHECK(plan->trained, TL_INVALID_ARGUMENT,
             "plan: backward needs a forward with `training` set before it");
    plan->grad_output = grad_output;
    tl_status status = TL_OK;
    for (int s = plan->step_count - 1; s >= 0 && status == TL_OK; s--) {
        const tl_step *step = &plan->step[s];
        if (!step->backward || step->grad_alias) continue;
        status = poll(plan);
        if (status == TL_OK) backward_step(plan, s);
    }
    /* Gradients have taken the place of values by now: a second pass would read garbage. */
    plan->trained = false;
    return status;
}

const float *tl_plan_input_gradient(const tl_plan *plan) {
    return plan->options.input_gradient ? grad_data(plan, plan->options.from) : NULL;
}
