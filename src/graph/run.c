/* Running a plan: forward, backward. Nothing here allocates. */
#include "base/float_state.h"
#include "graph/plan.h"

/* --- where things are ------------------------------------------------------------------------- */

void *tl_plan_buffer_data(const tl_plan *plan, int buffer) {
    return buffer >= 0 ? plan->arena + plan->buffer[buffer].offset : NULL;
}

/* Operators only ever read their inputs, and views of the caller's memory are never written. */
static float *callers(const float *data) {
    return (float *)(uintptr_t)data;
}

void *tl_plan_value_data(const tl_plan *plan, int value) {
    int buffer = plan->value[value].buffer;
    return buffer == TL_CALLER_BUFFER ? callers(plan->input) : tl_plan_buffer_data(plan, buffer);
}

void *tl_plan_gradient_data(const tl_plan *plan, int value) {
    int buffer = plan->value[value].grad_buffer;
    return buffer == TL_CALLER_BUFFER ? callers(plan->grad_output)
                                      : tl_plan_buffer_data(plan, buffer);
}

void *tl_plan_kept_data(const tl_plan *plan, int value) {
    const tl_value *v = &plan->value[value];
    return v->dropped ? tl_plan_buffer_data(plan, v->again) : tl_plan_value_data(plan, value);
}

static tl_view value_view(const tl_plan *plan, int index, tl_dtype dtype, int64_t batch) {
    tl_view view = {.shape = plan->value[index].shape, .dtype = dtype};
    view.shape.dim[0] = batch;
    return view;
}

/* --- calls ------------------------------------------------------------------------------------ */

tl_op_call tl_step_call(tl_plan *plan, const tl_step *step, int64_t batch) {
    return tl_step_call_into(plan, step, batch, plan->in, plan->param);
}

tl_op_call tl_step_call_into(const tl_plan *plan, const tl_step *step, int64_t batch, tl_view *in,
                             float **param) {
    const tl_node *node = &plan->graph->node[step->node];
    for (int i = 0; i < node->input_count; i++) {
        in[i] = value_view(plan, node->input[i], step->dtype, batch);
    }
    for (int i = 0; i < node->param_count; i++) param[i] = plan->held[node->first_param + i];
    return (tl_op_call){.ctx = plan->compute,
                        .attr = node->attr,
                        .input_count = node->input_count,
                        .in = in,
                        .out = value_view(plan, step->node, step->out_dtype, batch),
                        .param_count = node->param_count,
                        .param = param,
                        .seed = plan->options.seed};
}

bool tl_step_epilogue(const tl_step *step, tl_epilogue *epilogue) {
    *epilogue = (tl_epilogue){.bias = step->fused ? step->pack->bias : NULL, .act = step->act};
    return step->fused || step->tail || step->act != TL_ACT_NONE;
}

/* A step's call as its passes share it, its operands bound. */
static tl_op_call begin_call(tl_plan *plan, int s, tl_pass pass) {
    const tl_step *step = &plan->step[s];
    tl_op_call call = tl_step_call(plan, step, plan->batch);
    call.training = plan->trained && step->live;
    call.stream = plan->step_number * TL_MAX_NODES + (uint64_t)step->node;
    call.saved = tl_plan_buffer_data(plan, step->saved);
    if (step->pack) call.packed = step->pack->weights;
    if (step->packs) call.packed = tl_plan_buffer_data(plan, step->packed);
    tl_plan_bind(plan, s, pass);
    for (int i = 0; i < call.input_count; i++) plan->in[i].data = plan->operand[i].data;
    call.out.data = plan->operand[call.input_count].data;
    return call;
}

/* --- forward
 * ------------------------------------------------------------------------------------------------
 */

/* Trained weights are other ones in every step. */
static void pack_trained(tl_plan *plan, const tl_step *step) {
    const tl_op *op = plan->graph->node[step->node].op;
    if (!step->packs) return;
    tl_op_call call = tl_step_call(plan, step, plan->options.input.dim[0]);
    tl_op_pack(op, &call, NULL, tl_plan_buffer_data(plan, step->packed));
}

static void forward_step(tl_plan *plan, int s) {
    TL_FLOAT_SCOPE;
    const tl_step *step = &plan->step[s];
    pack_trained(plan, step);
    tl_op_call call = begin_call(plan, s, TL_PASS_FORWARD);
    call.backward_follows = plan->trained && step->backward;
    call.work = tl_plan_buffer_data(plan, step->work_forward);
    tl_epilogue epilogue;
    if (tl_step_epilogue(step, &epilogue)) {
        epilogue.residual = plan->operand[call.input_count + 1].data;
        call.epilogue = &epilogue;
    }
    if (plan->trained && step->followed_parts) {
        call.followed = tl_plan_buffer_data(plan, step->followed);
        call.followed_parts = step->followed_parts;
    }
    tl_follower follower;
    call.follow = tl_plan_follow(plan, s, &follower);
    tl_step_run(plan, step, &call, TL_PASS_FORWARD, 1);
    if (call.follow) plan->step[step->follower].followed_parts = call.follow->parts;
    tl_plan_store(plan, s, TL_PASS_FORWARD);
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
    if (plan->front_count) {
        TL_TRY(tl_plan_run_fronts(plan, input, batch, step));
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
            forward_step(plan, s);
            continue;
        }
        tl_band_forward(plan, &plan->band[next->band]);
        s = plan->band[next->band].last;
    }
    return TL_OK;
}

tl_view tl_plan_output(const tl_plan *plan) {
    tl_view view = value_view(plan, plan->options.to, TL_F32, plan->batch);
    view.data = tl_plan_value_data(plan, plan->options.to);
    return view;
}

/* --- backward
 * ------------------------------------------------------------------------------------------------
 */

/* Makes the values that were dropped and are wanted from step s on. */
static void make_again(tl_plan *plan, int s) {
    int moment = tl_backward_moment(plan, s);
    for (int t = 0; t < plan->step_count; t++) {
        const tl_step *step = &plan->step[t];
        const tl_value *out = &plan->value[step->out];
        if (!out->dropped || out->again_first != moment) continue;
        tl_op_call call = begin_call(plan, t, TL_PASS_AGAIN);
        call.work = tl_plan_buffer_data(plan, step->work_again);
        tl_epilogue epilogue;
        if (tl_step_epilogue(step, &epilogue)) call.epilogue = &epilogue;
        tl_step_run(plan, step, &call, TL_PASS_AGAIN, 1);
        tl_plan_store(plan, t, TL_PASS_AGAIN);
    }
}

static void backward_step(tl_plan *plan, int s) {
    TL_FLOAT_SCOPE;
    make_again(plan, s);
    const tl_step *step = &plan->step[s];
    const tl_node *node = &plan->graph->node[step->node];
    tl_op_call call = begin_call(plan, s, TL_PASS_BACKWARD);
    const tl_operand *gradient = &plan->operand[node->input_count + 1];
    for (int i = 0; i < node->input_count; i++) {
        plan->grad_in[i] = gradient[1 + i].data;
        plan->grad_add[i] = tl_plan_adds(plan, s, i);
    }
    for (int i = 0; i < node->param_count; i++) {
        int64_t offset = plan->gradient_offset[node->first_param + i];
        plan->grad_param[i] = offset < 0 ? NULL : plan->gradients + offset;
    }
    call.out.dtype = step->dtype;
    call.backward_follows = true;
    call.work = tl_plan_buffer_data(plan, step->work_backward);
    call.grad_out = gradient->data;
    call.grad_in = plan->grad_in;
    call.grad_add = plan->grad_add;
    call.grad_param = plan->grad_param;
    tl_epilogue epilogue;
    if (tl_step_epilogue(step, &epilogue)) call.epilogue = &epilogue;
    if (tl_step_passes_residual(plan, step)) {
        call.grad_residual = gradient[1 + node->input_count].data;
        call.grad_residual_add = plan->value[step->residual].grad_writer != s;
    }
    tl_step_run(plan, step, &call, TL_PASS_BACKWARD, 1);
    tl_plan_store(plan, s, TL_PASS_BACKWARD);
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
    return plan->options.input_gradient ? tl_plan_gradient_data(plan, plan->options.from) : NULL;
}
