/* Who follows whose rows. In training a batch norm wants sums over its input before it can begin: a
 * pass over memory that the step which writes these rows saves it, by showing it them while they
 * are in a cache. */
#include "graph/plan.h"

/* Whether step s calls for its rows, and writes them as they are stored. */
static bool is_followed(const tl_plan *plan, const tl_step *step) {
    return plan->graph->node[step->node].op->flags & TL_OP_FOLLOWED && step->band < 0 &&
           step->out_dtype == plan->value[step->out].dtype;
}

static bool follows(const tl_plan *plan, const tl_step *step) {
    return step->live && step->backward && plan->graph->node[step->node].op->follow;
}

void tl_plan_choose_followers(tl_plan *plan) {
    for (int s = 0; s < plan->step_count; s++) plan->step[s].follower = -1;
    for (int t = 0; t < plan->step_count && !plan->options.unfused; t++) {
        const tl_step *step = &plan->step[t];
        int value = plan->graph->node[step->node].input[0], s = plan->value[value].step;
        if (s < 0 || !follows(plan, step) || !is_followed(plan, &plan->step[s])) continue;
        if (step->dtype == plan->value[value].dtype) plan->step[s].follower = t;
    }
}

static void show(void *arg, const tl_followed *rows) {
    const tl_follower *follower = arg;
    follower->op->follow(&follower->call, rows);
}

tl_follow *tl_plan_follow(tl_plan *plan, int s, tl_follower *room) {
    int t = plan->step[s].follower;
    if (t < 0 || !plan->trained) return NULL;
    const tl_step *step = &plan->step[t];
    const tl_node *node = &plan->graph->node[step->node];
    room->op = node->op;
    room->call = tl_step_call_into(plan, step, plan->batch, &room->in, room->param);
    room->in.data = tl_plan_value_data(plan, node->input[0]);
    room->call.followed = tl_plan_buffer_data(plan, step->followed);
    room->follow = (tl_follow){show, room, 0};
    return &room->follow;
}
