/* What a step's call reads and writes. Where it wants another element type than a value or gradient
 * is stored in, it gets a copy in scratch, which is converted before or after. */
#include "graph/plan.h"
#include "kernels.h"
#include "layer/loop.h"

/* --- which ------------------------------------------------------------------------------------ */

/* The first input that is the same value as input i. */
static int first_of(const tl_node *node, int i) {
    int first = 0;
    while (node->input[first] != node->input[i]) first++;
    return first;
}

/* The inputs that are read: in backward, those that are kept for it. */
static void list_inputs(const tl_plan *plan, const tl_step *step, bool wanted,
                        tl_operand *operands) {
    const tl_node *node = &plan->graph->node[step->node];
    for (int i = 0; i < node->input_count; i++) {
        bool there = wanted && first_of(node, i) == i;
        operands[i] =
            (tl_operand){.value = there ? node->input[i] : -1, .dtype = step->dtype, .read = true};
    }
}

static int list_forward(const tl_plan *plan, int s, tl_operand *operands) {
    const tl_step *step = &plan->step[s];
    int inputs = plan->graph->node[step->node].input_count;
    list_inputs(plan, step, true, operands);
    operands[inputs] = (tl_operand){.value = step->out, .dtype = step->out_dtype, .write = true};
    operands[inputs + 1] =
        (tl_operand){.value = step->residual, .dtype = step->out_dtype, .read = true};
    return inputs + 2;
}

/* Whether the gradient of a value is there before step s adds to it: from a later step. */
static bool is_added_to(const tl_plan *plan, int s, int value) {
    return plan->value[value].grad_writer != s;
}

bool tl_step_passes_residual(const tl_plan *plan, const tl_step *step) {
    return step->tail && step->residual >= 0 && plan->value[step->residual].gradient;
}

static int list_backward(const tl_plan *plan, int s, tl_operand *operands) {
    const tl_step *step = &plan->step[s];
    const tl_node *node = &plan->graph->node[step->node];
    int inputs = node->input_count;
    list_inputs(plan, step, tl_step_keeps_input(plan, step), operands);
    bool keeps_output = tl_step_keeps_output(plan, step);
    operands[inputs] =
        (tl_operand){.value = keeps_output ? step->out : -1, .dtype = step->dtype, .read = true};
    operands[inputs + 1] =
        (tl_operand){.value = step->out, .gradient = true, .dtype = step->dtype, .read = true};
    for (int i = 0; i < inputs; i++) {
        bool wanted = plan->value[node->input[i]].gradient && first_of(node, i) == i;
        operands[inputs + 2 + i] = (tl_operand){.value = wanted ? node->input[i] : -1,
                                                .gradient = true,
                                                .dtype = step->dtype,
                                                .read = is_added_to(plan, s, node->input[i]),
                                                .write = true};
    }
    bool passes = tl_step_passes_residual(plan, step);
    operands[2 * inputs + 2] = (tl_operand){.value = passes ? step->residual : -1,
                                            .gradient = true,
                                            .dtype = step->dtype,
                                            .read = passes && is_added_to(plan, s, step->residual),
                                            .write = true};
    return 2 * inputs + 3;
}

static int list(const tl_plan *plan, int s, tl_pass pass, tl_operand *operands) {
    return pass == TL_PASS_BACKWARD ? list_backward(plan, s, operands)
                                    : list_forward(plan, s, operands);
}

bool tl_plan_adds(const tl_plan *plan, int s, int i) {
    const tl_node *node = &plan->graph->node[plan->step[s].node];
    return is_added_to(plan, s, node->input[i]) || first_of(node, i) != i;
}

/* --- scratch ---------------------------------------------------------------------------------- */

/* Bytes of an operand's copy; 0 when it needs none. */
static size_t copy_bytes(const tl_plan *plan, const tl_operand *operand) {
    if (operand->value < 0) return 0;
    const tl_value *value = &plan->value[operand->value];
    if (value->dtype == operand->dtype) return 0;
    size_t bytes = (size_t)tl_shape_count(&value->shape) * tl_dtype_size(operand->dtype);
    return (bytes + 63) / 64 * 64;
}

size_t tl_plan_copy_bytes(const tl_plan *plan, int s, tl_pass pass) {
    size_t bytes = 0;
    int count = list(plan, s, pass, plan->operand);
    for (int i = 0; i < count; i++) bytes += copy_bytes(plan, &plan->operand[i]);
    return bytes;
}

/* --- conversion ------------------------------------------------------------------------------- */

typedef struct convert_job {
    const struct tl_kernels *kernels; /* of bf16 */
    const void *from;
    void *to;
    int64_t n;
    bool widen;
} convert_job;

static void convert_task(void *arg, int64_t begin, int64_t end) {
    const convert_job *job = arg;
    int64_t count, first = tl_chunk_at(job->n, begin, end, &count);
    if (job->widen)
        job->kernels->widen((const uint16_t *)job->from + first, (float *)job->to + first, count);
    else
        job->kernels->narrow((const float *)job->from + first, (uint16_t *)job->to + first, count);
}

static void convert(const tl_plan *plan, const tl_operand *operand, bool to_copy) {
    tl_shape shape = plan->value[operand->value].shape;
    shape.dim[0] = plan->batch;
    convert_job job = {.kernels = tl_context_bf16_kernels(plan->ctx),
                       .from = to_copy ? operand->stored : operand->data,
                       .to = to_copy ? operand->data : operand->stored,
                       .n = tl_shape_count(&shape),
                       .widen = to_copy == (operand->dtype == TL_F32)};
    tl_parallel_chunks(plan->ctx, job.n, convert_task, &job);
}

/* --- a call's operands ------------------------------------------------------------------------ */

static void *stored_data(const tl_plan *plan, const tl_operand *operand, tl_pass pass) {
    if (operand->gradient) return tl_plan_gradient_data(plan, operand->value);
    return pass == TL_PASS_FORWARD ? tl_plan_value_data(plan, operand->value)
                                   : tl_plan_kept_data(plan, operand->value);
}

void tl_plan_bind(tl_plan *plan, int s, tl_pass pass) {
    char *scratch = tl_plan_buffer_data(plan, plan->step[s].copies[pass]);
    const tl_node *node = &plan->graph->node[plan->step[s].node];
    int count = list(plan, s, pass, plan->operand);
    for (int i = 0; i < count; i++) {
        tl_operand *operand = &plan->operand[i];
        if (operand->value < 0) continue;
        operand->stored = operand->data = stored_data(plan, operand, pass);
        size_t bytes = copy_bytes(plan, operand);
        if (bytes == 0) continue;
        operand->data = scratch;
        scratch += bytes;
        if (operand->read) convert(plan, operand, true);
    }
    for (int i = 0; i < node->input_count; i++) {
        int gradients = node->input_count + 2;
        plan->operand[i].data = plan->operand[first_of(node, i)].data;
        if (pass != TL_PASS_BACKWARD) continue;
        plan->operand[gradients + i].data = plan->operand[gradients + first_of(node, i)].data;
    }
}

void tl_plan_store(tl_plan *plan, int s, tl_pass pass) {
    int inputs = plan->graph->node[plan->step[s].node].input_count;
    int count = pass == TL_PASS_BACKWARD ? 2 * inputs + 3 : inputs + 2;
    for (int i = 0; i < count; i++) {
        const tl_operand *operand = &plan->operand[i];
        bool copied = operand->value >= 0 && operand->data != operand->stored;
        if (copied && operand->write) convert(plan, operand, false);
    }
}
