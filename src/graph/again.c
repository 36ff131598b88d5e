/* Which values backward computes again instead of keeping them: the outputs of cheap operators,
 * where what they are made from is there anyway. After conv -> batch norm -> ReLU -> conv, for
 * instance, the batch norm's backward wants the first convolution's result, from which the second
 * convolution's input follows. */
#include "graph/plan.h"

bool tl_step_trained(const tl_plan *plan, const tl_step *step) {
    return plan->options.training && tl_node_trainable(plan->graph, step->node);
}

bool tl_step_keeps_input(const tl_plan *plan, const tl_step *step) {
    unsigned flags = plan->graph->node[step->node].op->flags;
    if (!step->backward || step->view) return false;
    return flags & TL_OP_KEEPS_INPUT ||
           (flags & TL_OP_INPUT_TO_TRAIN && tl_step_trained(plan, step));
}

/* An activation's slope is had from the output, or else from an input that is kept anyway and
 * alone makes the output. */
static bool tail_keeps_output(const tl_plan *plan, const tl_step *step) {
    if (step->act == TL_ACT_NONE) return false;
    return step->residual >= 0 || !tl_step_keeps_input(plan, step);
}

bool tl_step_keeps_output(const tl_plan *plan, const tl_step *step) {
    if (!step->backward || step->view) return false;
    if (step->tail) return tail_keeps_output(plan, step);
    return plan->graph->node[step->node].op->flags & TL_OP_KEEPS_OUTPUT;
}

/* The first and last moment of backward at which an operator reads a value; first > last when none
 * does. */
typedef struct need {
    int first, last;
} need;

static void note_need(need *n, int moment) {
    if (moment < n->first) n->first = moment;
    if (moment > n->last) n->last = moment;
}

static void find_needs(const tl_plan *plan, need *needs) {
    int end = tl_end_moment(plan);
    for (int i = 0; i <= plan->options.to; i++) needs[i] = (need){.first = end, .last = -1};
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *step = &plan->step[s];
        const tl_node *node = &plan->graph->node[step->node];
        int moment = tl_backward_moment(plan, s);
        if (tl_step_keeps_output(plan, step)) note_need(&needs[step->out], moment);
        if (!tl_step_keeps_input(plan, step)) continue;
        for (int i = 0; i < node->input_count; i++) note_need(&needs[node->input[i]], moment);
    }
}

/* Whether a view of the value shares its memory. */
static bool has_alias(const tl_plan *plan, int value) {
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *step = &plan->step[s];
        if (step->alias && plan->graph->node[step->node].input[0] == value) return true;
    }
    return false;
}

/* Whether the value can be computed again from its maker's only input. */
static bool repeatable(const tl_plan *plan, int value) {
    int s = plan->value[value].step;
    if (s < 0 || value == plan->options.to) return false;
    const tl_step *step = &plan->step[s];
    unsigned flags = plan->graph->node[step->node].op->flags;
    bool moves_statistics = step->live && flags & TL_OP_STATISTICS;
    return flags & TL_OP_CHEAP && !step->fused && step->residual < 0 && !step->alias &&
           !moves_statistics && !has_alias(plan, value);
}

static int source_of(const tl_plan *plan, int value) {
    return plan->graph->node[plan->step[plan->value[value].step].node].input[0];
}

/* Whether the value is there at a moment of backward, or can be. */
static bool obtainable(const tl_plan *plan, const need *needs, int value, int moment) {
    for (;; value = source_of(plan, value)) {
        if (value == plan->options.from) return true;
        if (!plan->value[value].dropped && needs[value].last >= moment) return true;
        if (!repeatable(plan, value)) return false;
    }
}

static void drop_at(tl_plan *plan, const need *needs, int value, int moment) {
    tl_value *v = &plan->value[value];
    if (!v->dropped) {
        v->dropped = true;
        v->again_first = moment;
        v->again_last = needs[value].last;
    }
    if (moment < v->again_first) v->again_first = moment;
    if (moment > v->again_last) v->again_last = moment;
}

/* Drops the value and, where they are not kept, those that it is made from. */
static void drop(tl_plan *plan, const need *needs, int value, int moment) {
    drop_at(plan, needs, value, moment);
    for (int u = source_of(plan, value); u != plan->options.from; u = source_of(plan, u)) {
        if (!plan->value[u].dropped && needs[u].last >= moment) return;
        drop_at(plan, needs, u, moment);
    }
}

tl_status tl_plan_choose_dropped(tl_plan *plan) {
    if (!plan->options.training || plan->options.unshared) return TL_OK;
    size_t values = (size_t)plan->options.to + 1;
    need *needs = tl_alloc_array(plan->ctx, values, sizeof *needs);
    TL_CHECK_MEMORY(needs);
    find_needs(plan, needs);
    for (int s = 0; s < plan->step_count; s++) {
        int out = plan->step[s].out, first = needs[out].first;
        bool wanted = needs[out].last >= 0 && repeatable(plan, out);
        if (wanted && obtainable(plan, needs, source_of(plan, out), first)) {
            drop(plan, needs, out, first);
        }
    }
    tl_free(plan->ctx, needs);
    return TL_OK;
}
