/* The steps of a plan. Nodes that only change each channel or element of a convolution's result
 * (an inference batch norm, the sum with a shortcut, an activation) are done by its epilogue while
 * the result is still in registers. A batch norm by itself, as in training, takes the sum and the
 * activation after it along, forward and backward. Which nodes these are follows from descriptors
 * alone. */
#include "graph/plan.h"
#include "kernels.h"

/* The one node that reads the value of `index`, or -1 when there are more or none. */
static int only_consumer(const tl_plan *plan, int index) {
    if (plan->value[index].consumers != 1) return -1;
    for (int i = index + 1; i <= plan->options.to; i++) {
        if (!plan->value[i].used) continue;
        const tl_node *node = &plan->graph->node[i];
        for (int j = 0; j < node->input_count; j++) {
            if (node->input[j] == index) return i;
        }
    }
    return -1;
}

/* Lets the step's epilogue do the work of node `next`, if it can. */
static bool absorb(const tl_plan *plan, tl_step *step, int next) {
    const tl_node *node = &plan->graph->node[next];
    const tl_value *value = &plan->value[next];
    if (value->absorbed || value->gradient) return false;
    if (node->op->affine && step->affine < 0 && step->residual < 0) {
        step->affine = next;
    } else if (node->op->flags & TL_OP_SUM && step->residual < 0 && node->input_count == 2) {
        step->residual = node->input[node->input[0] == step->out];
    } else if (node->op->act != TL_ACT_NONE) {
        step->act = node->op->act;
    } else {
        return false;
    }
    return true;
}

/* Where activations cannot fall, that of the largest value is the largest of theirs: the maximum
 * after an activation can do its work, on fewer values, and backward needs neither the value
 * between them nor, where the maximum notes which places pass a gradient on, any other. */
static bool is_postponed(const tl_plan *plan, int index) {
    const tl_node *node = &plan->graph->node[index];
    const tl_plan_options *options = &plan->options;
    if (!plan->value[index].gradient || options->unfused || options->unshared) return false;
    if (node->op->act != TL_ACT_RELU && node->op->act != TL_ACT_RELU6) return false;
    int next = only_consumer(plan, index);
    if (next < 0 || node->input[0] == options->from) return false;
    return plan->graph->node[next].op->flags & TL_OP_MAXIMUM &&
           only_consumer(plan, node->input[0]) == index;
}

static tl_act postponed_to(const tl_plan *plan, int maximum) {
    int before = plan->graph->node[maximum].input[0];
    return is_postponed(plan, before) ? plan->graph->node[before].op->act : TL_ACT_NONE;
}

static bool has_input(const tl_node *node, int value) {
    for (int i = 0; i < node->input_count; i++)
        if (node->input[i] == value) return true;
    return false;
}

/* Whether the step can have the activation's slope in backward. */
static bool knows_slope(const tl_plan *plan, const tl_step *step, tl_act act) {
    if (!step->backward || tl_act_keeps_output(act)) return true;
    return step->residual < 0 && tl_step_keeps_input(plan, step);
}

/* Lets the step's operator do the work of node `next` on the way, in backward too. */
static bool join(const tl_plan *plan, tl_step *step, int next) {
    const tl_node *node = &plan->graph->node[next];
    if (plan->value[next].absorbed) return false;
    if (node->op->flags & TL_OP_SUM && step->residual < 0 && node->input_count == 2) {
        int other = node->input[node->input[0] == step->out];
        if (has_input(&plan->graph->node[step->node], other)) return false;
        step->residual = other;
        return true;
    }
    if (node->op->act == TL_ACT_NONE || is_postponed(plan, next)) return false;
    if (!knows_slope(plan, step, node->op->act)) return false;
    step->act = node->op->act;
    return true;
}

/* y = act(acc + bias + residual): the activation is the last that fits. */
static bool fuse(tl_plan *plan, tl_step *step, bool (*take)(const tl_plan *, tl_step *, int)) {
    int alone = step->out;
    while (step->act == TL_ACT_NONE) {
        int next = only_consumer(plan, step->out);
        if (next < 0 || !take(plan, step, next)) break;
        plan->value[next].absorbed = true;
        step->out = next;
    }
    return step->out != alone;
}

static bool is_live(const tl_plan *plan, int index) {
    const tl_plan_options *options = &plan->options;
    if (!options->training || index < plan->first_live) return false;
    if (!(plan->graph->node[index].op->flags & TL_OP_STATISTICS)) return true;
    return options->batch_norm_training && tl_node_trainable(plan->graph, index);
}

static tl_step make_step(tl_plan *plan, int index) {
    const tl_op *op = plan->graph->node[index].op;
    tl_step step = {.node = index,
                    .out = index,
                    .affine = -1,
                    .residual = -1,
                    .band = -1,
                    .act = TL_ACT_NONE,
                    .backward = plan->value[index].gradient,
                    .live = is_live(plan, index),
                    .packs = plan->options.training && tl_node_trainable(plan->graph, index)};
    step.view = op->flags & TL_OP_VIEW && !(op->flags & TL_OP_RANDOM && step.live);
    step.view = step.view || is_postponed(plan, index);
    if (op->flags & TL_OP_MAXIMUM) step.act = postponed_to(plan, index);
    step.alias = step.view && !plan->options.unshared;
    bool unfused = plan->options.unfused;
    if (op->flags & TL_OP_TAIL && !unfused) step.tail = fuse(plan, &step, join);
    if (!(op->flags & TL_OP_EPILOGUE) || step.backward) return step;
    if (!unfused) step.fused = fuse(plan, &step, absorb);
    /* An epilogue has the bias from the pack: the parameter itself need not be in memory. */
    step.fused = step.fused || plan->graph->node[index].param_count > 1;
    return step;
}

void tl_plan_build_steps(tl_plan *plan) {
    int count = 0;
    for (int i = plan->options.from; i <= plan->options.to; i++) {
        plan->value[i].step = -1;
        if (i == plan->options.from || !plan->value[i].used || plan->value[i].absorbed) continue;
        tl_step step = make_step(plan, i);
        /* A fused step runs in the place of its last node, when the shortcut it adds is there. */
        int at = count++;
        for (; at > 0 && plan->step[at - 1].out > step.out; at--) {
            plan->step[at] = plan->step[at - 1];
        }
        plan->step[at] = step;
    }
    plan->step_count = count;
    for (int s = 0; s < count; s++) plan->value[plan->step[s].out].step = s;
}
