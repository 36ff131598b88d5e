/* The arena of a plan: what must stay in memory from when to when. */
#include "graph/plan.h"

/* --- moments ---------------------------------------------------------------------------------- */

static void use_until(tl_plan *plan, int value, int moment) {
    if (plan->value[value].last < moment) plan->value[value].last = moment;
}

/* The moments at which a step reads its inputs last, and writes its output first: those of its band
 * when it has one. */
static int read_moment(const tl_plan *plan, int s) {
    int band = plan->step[s].band;
    return band < 0 ? s : plan->band[band].last;
}

static int write_moment(const tl_plan *plan, int s) {
    int band = plan->step[s].band;
    return band < 0 ? s : plan->band[band].first;
}

/* What step s reads or writes, and reads in backward if `kept`: again, when it was dropped. */
static void use_in(tl_plan *plan, int value, int s, bool kept) {
    bool until_backward = kept && !plan->value[value].dropped;
    use_until(plan, value, until_backward ? tl_backward_moment(plan, s) : read_moment(plan, s));
}

/* When each value is read for the last time. */
static void find_last_uses(tl_plan *plan) {
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *step = &plan->step[s];
        const tl_node *node = &plan->graph->node[step->node];
        bool keeps_input = tl_step_keeps_input(plan, step);
        use_in(plan, step->out, s, tl_step_keeps_output(plan, step));
        for (int i = 0; i < node->input_count; i++) use_in(plan, node->input[i], s, keeps_input);
        if (step->residual >= 0) use_until(plan, step->residual, read_moment(plan, s));
    }
    use_until(plan, plan->options.to, tl_end_moment(plan));
}

/* --- buffers ---------------------------------------------------------------------------------- */

static tl_status add_buffer(tl_plan *plan, size_t size, int first, int last, int *index) {
    TL_CHECK(size <= PTRDIFF_MAX / 2, TL_LIMIT, "plan: a buffer of %zu bytes", size);
    bool unshared = plan->options.unshared;
    plan->buffer[plan->buffer_count] = (tl_buffer){
        .size = (size + 63) / 64 * 64,
        .first = unshared ? 0 : first,
        .last = unshared ? tl_end_moment(plan) : last,
    };
    *index = plan->buffer_count++;
    return TL_OK;
}

/* For one moment; TL_NO_BUFFER when there is no need of any. */
static tl_status add_scratch(tl_plan *plan, size_t size, int moment, int *index) {
    *index = TL_NO_BUFFER;
    return size ? add_buffer(plan, size, moment, moment, index) : TL_OK;
}

static tl_status add_copies(tl_plan *plan, int s, tl_pass pass, int moment) {
    size_t size = tl_plan_copy_bytes(plan, s, pass);
    return add_scratch(plan, size, moment, &plan->step[s].copies[pass]);
}

static int occurrences(const tl_node *node, int input) {
    int count = 0;
    for (int i = 0; i < node->input_count; i++) count += node->input[i] == input;
    return count;
}

/* Whether what the step reads beside its first input lives in `buffer`. */
static bool others_live_in(const tl_plan *plan, const tl_step *step, int buffer) {
    const tl_node *node = &plan->graph->node[step->node];
    if (step->residual >= 0 && plan->value[step->residual].buffer == buffer) return true;
    for (int i = 1; i < node->input_count; i++) {
        if (plan->value[node->input[i]].buffer == buffer) return true;
    }
    return false;
}

/* Whether the step may write over its first input: nobody needs that any more. */
static bool in_place(const tl_plan *plan, int s) {
    const tl_step *step = &plan->step[s];
    const tl_node *node = &plan->graph->node[step->node];
    const tl_value *in = &plan->value[node->input[0]], *out = &plan->value[step->out];
    if (step->fused || step->band >= 0 || !(node->op->flags & TL_OP_IN_PLACE) ||
        in->bytes != out->bytes)
        return false;
    if (in->buffer < 0 || others_live_in(plan, step, in->buffer)) return false;
    return plan->buffer[in->buffer].last == s && !plan->options.unshared;
}

static tl_status assign_value(tl_plan *plan, int s) {
    const tl_step *step = &plan->step[s];
    tl_value *out = &plan->value[step->out];
    if (out->banded) return TL_OK;
    if (!step->alias && !in_place(plan, s)) {
        return add_buffer(plan, out->bytes, write_moment(plan, s), out->last, &out->buffer);
    }
    out->buffer = plan->value[plan->graph->node[step->node].input[0]].buffer;
    if (out->buffer >= 0 && plan->buffer[out->buffer].last < out->last) {
        plan->buffer[out->buffer].last = out->last;
    }
    return TL_OK;
}

/* --- dropped values --------------------------------------------------------------------------- */

/* Whether a value made again may write over its source, which nobody else wants any more. */
static bool again_in_place(const tl_plan *plan, const tl_step *step, const tl_value *out) {
    const tl_node *node = &plan->graph->node[step->node];
    const tl_value *in = &plan->value[node->input[0]];
    return in->dropped && in->again_last == out->again_first && in->consumers == 1 &&
           node->op->flags & TL_OP_IN_PLACE && in->bytes == out->bytes;
}

static tl_status assign_again(tl_plan *plan, int s) {
    tl_step *step = &plan->step[s];
    tl_value *out = &plan->value[step->out];
    if (!out->dropped) return TL_OK;
    int first = out->again_first;
    TL_TRY(add_scratch(plan, step->memory.work_forward, first, &step->work_again));
    TL_TRY(add_copies(plan, s, TL_PASS_AGAIN, first));
    if (!again_in_place(plan, step, out)) {
        return add_buffer(plan, out->bytes, first, out->again_last, &out->again);
    }
    out->again = plan->value[plan->graph->node[step->node].input[0]].again;
    if (plan->buffer[out->again].last < out->again_last) {
        plan->buffer[out->again].last = out->again_last;
    }
    return TL_OK;
}

/* --- gradients of values ---------------------------------------------------------------------- */

/* The step that comes first in backward writes a gradient, all others add to it. */
static void find_grad_writers(tl_plan *plan) {
    for (int i = plan->options.from; i <= plan->options.to; i++) plan->value[i].grad_writer = -1;
    for (int s = 0; s < plan->step_count; s++) {
        const tl_node *node = &plan->graph->node[plan->step[s].node];
        if (!plan->step[s].backward) continue;
        for (int i = 0; i < node->input_count; i++) plan->value[node->input[i]].grad_writer = s;
        if (tl_step_passes_residual(plan, &plan->step[s]))
            plan->value[plan->step[s].residual].grad_writer = s;
    }
}

/* Whether the gradient of the step's first input may take over the memory of its output's. */
static bool grad_in_place(const tl_plan *plan, int s) {
    const tl_step *step = &plan->step[s];
    const tl_node *node = &plan->graph->node[step->node];
    const tl_value *in = &plan->value[node->input[0]], *out = &plan->value[step->out];
    if (in->grad_writer != s || in->bytes != out->bytes || plan->options.unshared) return false;
    if (occurrences(node, node->input[0]) > 1) return false;
    if (out->grad_buffer != TL_CALLER_BUFFER)
        return step->alias || node->op->flags & TL_OP_IN_PLACE;
    /* The caller's gradient is never written, but a view may pass it on: all paths to `to` lead
     * through its input, so that nobody adds to that gradient. */
    return step->alias && node->input[0] != plan->options.from;
}

/* When a value's gradient is read: by the step that made the value, or by the caller. */
static int gradient_moment(const tl_plan *plan, const tl_value *value) {
    return value->step >= 0 ? tl_backward_moment(plan, value->step) : tl_end_moment(plan);
}

/* A buffer for the gradient of a value that step s writes first. */
static tl_status add_gradient(tl_plan *plan, int s, tl_value *value) {
    return add_buffer(plan, value->bytes, tl_backward_moment(plan, s), gradient_moment(plan, value),
                      &value->grad_buffer);
}

/* The gradient of a residual, which often is the output's as far as the activation lets it through,
 * takes over that one's memory. Answers whether it did. */
static tl_status assign_residual_gradient(tl_plan *plan, int s, bool *taken) {
    const tl_step *step = &plan->step[s];
    *taken = false;
    if (!tl_step_passes_residual(plan, step)) return TL_OK;
    tl_value *residual = &plan->value[step->residual];
    const tl_value *out = &plan->value[step->out];
    if (residual->grad_writer != s) return TL_OK;
    if (out->grad_buffer < 0 || out->bytes != residual->bytes || plan->options.unshared)
        return add_gradient(plan, s, residual);
    *taken = true;
    residual->grad_buffer = out->grad_buffer;
    plan->buffer[out->grad_buffer].last = gradient_moment(plan, residual);
    return TL_OK;
}

static tl_status assign_gradients(tl_plan *plan, int s) {
    tl_step *step = &plan->step[s];
    const tl_node *node = &plan->graph->node[step->node];
    bool taken;
    TL_TRY(assign_residual_gradient(plan, s, &taken));
    if (!taken && plan->value[node->input[0]].gradient && grad_in_place(plan, s)) {
        tl_value *in = &plan->value[node->input[0]];
        in->grad_buffer = plan->value[step->out].grad_buffer;
        step->grad_alias = step->alias;
        if (in->grad_buffer >= 0) plan->buffer[in->grad_buffer].last = gradient_moment(plan, in);
    }
    for (int i = 0; i < node->input_count; i++) {
        tl_value *in = &plan->value[node->input[i]];
        bool assigned = in->grad_buffer != TL_NO_BUFFER;
        if (!in->gradient || in->grad_writer != s || assigned) continue;
        TL_TRY(add_gradient(plan, s, in));
    }
    return TL_OK;
}

/* --- state and scratch of operators ----------------------------------------------------------- */

static tl_status assign_state(tl_plan *plan, int s) {
    tl_step *step = &plan->step[s];
    const tl_op_memory *memory = &step->memory;
    int back = tl_backward_moment(plan, s);
    step->saved = step->work_again = TL_NO_BUFFER;
    bool runs = !step->alias;
    TL_TRY(add_scratch(plan, step->packs ? memory->packed : 0, s, &step->packed));
    TL_TRY(add_scratch(plan, runs && step->band < 0 ? memory->work_forward : 0, s,
                       &step->work_forward));
    TL_TRY(
        add_scratch(plan, step->backward ? memory->work_backward : 0, back, &step->work_backward));
    if (runs) TL_TRY(add_copies(plan, s, TL_PASS_FORWARD, s));
    if (!step->backward) return TL_OK;
    TL_TRY(add_copies(plan, s, TL_PASS_BACKWARD, back));
    return memory->saved ? add_buffer(plan, memory->saved, s, back, &step->saved) : TL_OK;
}

/* From the step that is followed to the one that follows. */
static tl_status assign_followed(tl_plan *plan, int s) {
    int t = plan->step[s].follower;
    if (t < 0) return TL_OK;
    return add_buffer(plan, plan->step[t].memory.followed, s, t, &plan->step[t].followed);
}

static tl_status assign_lanes(tl_plan *plan) {
    for (int b = 0; b < plan->band_count; b++) {
        tl_band *band = &plan->band[b];
        size_t size = band->lane_size * (size_t)band->lanes;
        TL_TRY(add_buffer(plan, size, band->first, band->last, &band->buffer));
    }
    return TL_OK;
}

tl_status tl_plan_assign_buffers(tl_plan *plan) {
    for (int i = 0; i <= plan->options.to; i++) {
        tl_value *value = &plan->value[i];
        value->buffer = value->grad_buffer = value->again = TL_NO_BUFFER;
    }
    plan->value[plan->options.from].buffer = TL_CALLER_BUFFER;
    plan->value[plan->options.to].grad_buffer = TL_CALLER_BUFFER;
    find_last_uses(plan);
    find_grad_writers(plan);
    for (int s = 0; s < plan->step_count; s++) {
        TL_TRY(assign_value(plan, s));
        TL_TRY(assign_state(plan, s));
        TL_TRY(assign_followed(plan, s));
        TL_TRY(assign_again(plan, s));
    }
    TL_TRY(assign_lanes(plan));
    for (int s = plan->step_count - 1; s >= 0; s--) {
        if (plan->step[s].backward) TL_TRY(assign_gradients(plan, s));
    }
    return TL_OK;
}
