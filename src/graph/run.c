/* Running a plan: forward, backward. Nothing here allocates. */
#include "graph/plan.h"

/* --- where things are ------------------------------------------------------------------------- */

static void *buffer_data(const tl_plan *plan, int buffer) {
    return buffer >= 0 ? plan->arena + plan->buffer[buffer].offset : NULL;
}

/* Operators only ever read their inputs, and views of the caller's memory are never written. */
static float *callers(const float *data) {
    return (float *)(uintptr_t)data;
}

float *tl_plan_value(const tl_plan *plan, int index) {
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
    return tl_plan_call_into(plan, index, batch, plan->in, plan->param);
}

tl_op_call tl_plan_call_into(const tl_plan *plan, int index, int64_t batch, tl_view *in,
                             float **param) {
    const tl_node *node = &plan->graph->node[index];
    for (int i = 0; i < node->input_count; i++) in[i] = value_view(plan, node->input[i], batch);
    for (int i = 0; i < node->param_count; i++) param[i] = plan->held[node->first_param + i];
    return (tl_op_call){.ctx = plan->ctx,
                        .attr = node->attr,
                        .input_count = node->input_count,
                        .in = in,
                        .out = value_view(plan, index, batch),
                        .param_count = node->param_count,
                        .param = param,
                        .seed = plan->options.seed};
}

/* A step's call as forward and backward share it. */
static tl_op_call step_call(tl_plan *plan, const tl_step *step) {
    tl_op_call call = tl_plan_call(plan, step->node, plan->batch);
    call.training = plan->trained && step->live;
    call.backward_follows = plan->trained && step->backward;
    call.stream = plan->step_number * TL_MAX_NODES + (uint64_t)step->node;
    call.saved = buffer_data(plan, step->saved);
    if (step->pack) call.packed = step->pack->weights;
    if (step->packs) call.packed = buffer_data(plan, step->packed);
    return call;
}

/* --- forward
 * ------------------------------------------------------------------------------------------------
 */

/* Trained weights are other ones in every step. */
static void pack_trained(tl_plan *plan, const tl_step *step) {
    const tl_op *op = plan->graph->node[step->node].op;
    if (!step->packs || !op->pack) return;
    tl_op_call call = tl_plan_call(plan, step->node, plan->options.input.dim[0]);
    op->pack(&call, NULL, buffer_data(plan, step->packed));
}

static void forward_step(tl_plan *plan, const tl_step *step) {
    const tl_node *node = &plan->graph->node[step->node];
    pack_trained(plan, step);
    tl_op_call call = step_call(plan, step);
    for (int i = 0; i < node->input_count; i++) {
        plan->in[i].data = tl_plan_value(plan, node->input[i]);
    }
    call.out.data = tl_plan_value(plan, step->out);
    call.work = buffer_data(plan, step->work_forward);
    tl_epilogue epilogue = {.act = step->act};
    if (step->fused) {
        epilogue.bias = step->pack->bias;
        if (step->residual >= 0) epilogue.residual = tl_plan_value(plan, step->residual);
        call.epilogue = &epilogue;
    }
    node->op->forward(&call);
}

void tl_plan_set_poll(tl_plan *plan, tl_poll_fn poll_fn, void *user) {
    plan->poll = poll_fn;
    plan->poll_user = user;
    if (plan->front) tl_plan_set_poll(plan->front, poll_fn, user);
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
    if (plan->front) {
        TL_TRY(tl_plan_run_front(plan, input, batch, step));
        plan->input = plan->gathered;
    }
    plan->batch = batch;
    plan->step_number = step;
    plan->trained = training;
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *next = &plan->step[s];
        if (next->alias) continue;
        TL_TRY(poll(plan));
        if (next->band < 0) {
            forward_step(plan, next);
            continue;
        }
        tl_band_forward(plan, &plan->band[next->band]);
        s = plan->band[next->band].last;
    }
    return TL_OK;
}

tl_view tl_plan_output(const tl_plan *plan) {
    tl_view view = value_view(plan, plan->options.to, plan->batch);
    view.data = tl_plan_value(plan, plan->options.to);
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

/* Where backward finds a value. */
static float *kept_data(const tl_plan *plan, int index) {
    const tl_value *value = &plan->value[index];
    return value->dropped ? buffer_data(plan, value->again) : tl_plan_value(plan, index);
}

/* Makes the values that were dropped and are wanted from step s on. */
static void make_again(tl_plan *plan, int s) {
    int moment = tl_backward_moment(plan, s);
    for (int t = 0; t < plan->step_count; t++) {
        const tl_step *step = &plan->step[t];
        const tl_value *out = &plan->value[step->out];
        if (!out->dropped || out->again_first != moment) continue;
        const tl_node *node = &plan->graph->node[step->node];
        tl_op_call call = step_call(plan, step);
        call.backward_follows = false;
        plan->in[0].data = kept_data(plan, node->input[0]);
        call.out.data = kept_data(plan, step->out);
        call.work = buffer_data(plan, step->work_again);
        node->op->forward(&call);
    }
}

static void backward_step(tl_plan *plan, int s) {
    make_again(plan, s);
    const tl_step *step = &plan->step[s];
    const tl_node *node = &plan->graph->node[step->node];
    tl_op_call call = step_call(plan, step);
    bool keeps_input = tl_step_keeps_input(plan, step);
    for (int i = 0; i < node->input_count; i++) {
        int input = node->input[i];
        if (keeps_input) plan->in[i].data = kept_data(plan, input);
        plan->grad_in[i] = plan->value[input].gradient ? grad_data(plan, input) : NULL;
        plan->grad_add[i] = adds(plan, s, node, i);
    }
    for (int i = 0; i < node->param_count; i++) {
        int64_t offset = plan->gradient_offset[node->first_param + i];
        plan->grad_param[i] = offset < 0 ? NULL : plan->gradients + offset;
    }
    if (tl_step_keeps_output(plan, step)) call.out.data = kept_data(plan, step->out);
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
