/* Element types. In a plan of bf16 the operators that can (TL_OP_BF16) compute in bf16, all others
 * in f32. Values and their gradients are stored as bf16, but for the plan's border and what only
 * f32 is computed from. */
#include "graph/plan.h"

/* --- which types ------------------------------------------------------------------------------ */

/* A view carries any type. */
static tl_dtype computed_dtype(const tl_plan *plan, const tl_step *step) {
    const tl_node *node = &plan->graph->node[step->node];
    if (step->view) return plan->value[node->input[0]].dtype;
    return node->op->flags & TL_OP_BF16 ? plan->options.dtype : TL_F32;
}

/* Whether everyone who reads the value computes in the type. A view passes it on to others. */
static bool all_want(const tl_plan *plan, int value, tl_dtype dtype) {
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *step = &plan->step[s];
        const tl_node *node = &plan->graph->node[step->node];
        bool reads = step->residual == value;
        for (int i = 0; i < node->input_count; i++) reads = reads || node->input[i] == value;
        if (reads && (step->view || computed_dtype(plan, step) != dtype)) return false;
    }
    return true;
}

bool tl_plan_can_border(const tl_plan *plan, int value) {
    tl_dtype dtype = plan->value[value].dtype;
    return dtype == TL_F32 || all_want(plan, value, dtype);
}

static bool can_write_f32(tl_plan *plan, const tl_step *step) {
    const tl_op *op = plan->graph->node[step->node].op;
    if (step->dtype == TL_F32 || !op->writes_f32) return step->dtype == TL_F32;
    tl_op_call call = tl_step_call(plan, step, plan->options.input.dim[0]);
    return op->writes_f32(&call);
}

/* The border of a plan is f32: what the caller gives and gets. */
static tl_dtype stored_dtype(tl_plan *plan, const tl_step *step) {
    if (step->out == plan->options.to || plan->options.dtype == TL_F32) return TL_F32;
    if (step->view) return step->dtype;
    bool f32 = can_write_f32(plan, step) && all_want(plan, step->out, TL_F32);
    return f32 ? TL_F32 : plan->options.dtype;
}

static void set_dtype(tl_value *value, tl_dtype dtype) {
    value->dtype = dtype;
    value->bytes = (size_t)tl_shape_count(&value->shape) * tl_dtype_size(dtype);
}

void tl_plan_choose_dtypes(tl_plan *plan) {
    set_dtype(&plan->value[plan->options.from], TL_F32);
    for (int s = 0; s < plan->step_count; s++) {
        tl_step *step = &plan->step[s];
        tl_value *out = &plan->value[step->out];
        step->dtype = computed_dtype(plan, step);
        set_dtype(out, stored_dtype(plan, step));
        step->alias = step->alias && step->dtype == out->dtype;
        bool writes_f32 = out->dtype == TL_F32 && can_write_f32(plan, step);
        step->out_dtype = writes_f32 ? TL_F32 : step->dtype;
    }
}
