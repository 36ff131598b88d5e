/* How long operators take. */
#include "base/clock.h"
#include "graph/plan.h"

void tl_graph_set_timing(tl_graph *graph, bool on) {
    graph->timed = on;
    for (int i = 0; i < graph->node_count; i++) {
        atomic_store(&graph->node[i].forward_time, 0);
        atomic_store(&graph->node[i].backward_time, 0);
    }
}

void tl_step_run(const tl_plan *plan, const tl_step *step, const tl_op_call *call, tl_pass pass,
                 int beside) {
    tl_node *node = &plan->graph->node[step->node];
    void (*run)(const tl_op_call *) =
        pass == TL_PASS_BACKWARD ? node->op->backward : node->op->forward;
    if (!plan->graph->timed) {
        run(call);
        return;
    }
    int64_t begin = tl_nanoseconds();
    run(call);
    int64_t took = tl_nanoseconds() - begin;
    /* Fronts run side by side, a thread each. */
    if (plan->options.alone) beside *= tl_context_threads(plan->ctx);
    atomic_fetch_add(pass == TL_PASS_FORWARD ? &node->forward_time : &node->backward_time,
                     took / beside);
}
