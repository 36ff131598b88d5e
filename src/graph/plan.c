/* Plans: what runs, in which shapes, and how much memory that takes. */
#include <string.h>

#include "graph/plan.h"

/* --- which nodes ------------------------------------------------------------------------------ */

static tl_status check_input(const tl_node *from, const tl_shape *got) {
    const tl_shape *nominal = &from->shape;
    char text[TL_SHAPE_TEXT], expected[TL_SHAPE_TEXT];
    bool fits =
        got->rank == nominal->rank && got->dim[got->rank - 1] == nominal->dim[nominal->rank - 1];
    for (int i = 0; fits && i < got->rank; i++) fits = got->dim[i] > 0;
    TL_CHECK(fits, TL_SHAPE, "%s: shape %s, expected a batch of the rank and channels of %s",
             from->name, tl_shape_text(got, text), tl_shape_text(nominal, expected));
    int64_t count = tl_shape_count(got);
    TL_CHECK(count > 0 && count <= TL_MAX_ELEMENTS, TL_LIMIT, "%s: shape %s has too many elements",
             from->name, tl_shape_text(got, text));
    return TL_OK;
}

static tl_status check_options(const tl_graph *graph, const tl_plan_options *options) {
    TL_CHECK(options->to >= 0 && options->to < graph->node_count, TL_INVALID_ARGUMENT,
             "plan: `to` is node %d, but the graph has %d", options->to, graph->node_count);
    TL_CHECK(options->from >= 0 && options->from <= options->to, TL_INVALID_ARGUMENT,
             "plan: `from` is node %d, expected 0 to %d", options->from, options->to);
    TL_CHECK(!options->input_gradient || (options->training && options->from < options->to),
             TL_INVALID_ARGUMENT,
             "plan: the gradient of an input needs a plan for training with a node to pass");
    TL_TRY(tl_context_check_dtype(graph->ctx, options->dtype));
    return check_input(&graph->node[options->from], &options->input);
}

/* Marks what `to` depends on. */
static tl_status mark_used(tl_plan *plan) {
    const tl_graph *graph = plan->graph;
    int from = plan->options.from, to = plan->options.to;
    plan->value[to].used = true;
    for (int i = to; i > from; i--) {
        if (!plan->value[i].used) continue;
        const tl_node *node = &graph->node[i];
        for (int j = 0; j < node->input_count; j++) {
            int input = node->input[j];
            TL_CHECK(input >= from, TL_INVALID_ARGUMENT,
                     "plan: %s needs %s, which does not come from %s", node->name,
                     graph->node[input].name, graph->node[from].name);
            plan->value[input].used = true;
            plan->value[input].consumers++;
        }
        if (node->input_count > plan->most_inputs) plan->most_inputs = node->input_count;
    }
    TL_CHECK(plan->value[from].used, TL_INVALID_ARGUMENT, "plan: %s does not depend on %s",
             graph->node[to].name, graph->node[from].name);
    return TL_OK;
}

/* --- shapes and gradients --------------------------------------------------------------------- */

static tl_status check_params(const tl_graph *graph, const tl_node *node,
                              const tl_op_shapes *shapes) {
    for (int i = 0; i < node->param_count; i++) {
        const tl_param *param = &graph->param[node->first_param + i];
        char has_text[TL_SHAPE_TEXT], needed_text[TL_SHAPE_TEXT];
        TL_CHECK(tl_shape_equal(&param->shape, &shapes->param[i].shape), TL_SHAPE,
                 "%s: has shape %s, but this input needs %s", param->name,
                 tl_shape_text(&param->shape, has_text),
                 tl_shape_text(&shapes->param[i].shape, needed_text));
    }
    return TL_OK;
}

static tl_status infer_value(tl_plan *plan, int index, tl_shape *in) {
    const tl_node *node = &plan->graph->node[index];
    tl_value *value = &plan->value[index];
    bool gradient = plan->options.training && tl_node_trainable(plan->graph, index);
    for (int i = 0; i < node->input_count; i++) {
        const tl_value *input = &plan->value[node->input[i]];
        in[i] = input->shape;
        gradient = gradient || input->gradient;
    }
    TL_CHECK(!gradient || node->op->backward, TL_UNSUPPORTED, "%s: %s has no gradient", node->name,
             node->op->name);
    tl_op_shapes shapes;
    TL_TRY(tl_node_infer(node, in, &shapes));
    TL_TRY(check_params(plan->graph, node, &shapes));
    value->shape = shapes.out;
    value->gradient = gradient;
    return TL_OK;
}

static tl_status infer_values(tl_plan *plan) {
    tl_value *from = &plan->value[plan->options.from];
    from->shape = plan->options.input;
    from->gradient = plan->options.input_gradient;
    tl_shape *in = tl_alloc_array(plan->ctx, (size_t)plan->most_inputs, sizeof *in);
    TL_CHECK_MEMORY(in);
    tl_status status = TL_OK;
    for (int i = plan->options.from + 1; i <= plan->options.to && status == TL_OK; i++) {
        if (plan->value[i].used) status = infer_value(plan, i, in);
    }
    tl_free(plan->ctx, in);
    return status;
}

/* --- memory ----------------------------------------------------------------------------------- */

static void ask_memory(tl_plan *plan, tl_step *step) {
    const tl_node *node = &plan->graph->node[step->node];
    step->memory = (tl_op_memory){0};
    if (!node->op->memory) return;
    tl_op_call call = tl_step_call(plan, step, plan->options.input.dim[0]);
    call.training = step->live;
    call.backward_follows = step->backward;
    node->op->memory(&call, &step->memory);
}

static void lay_out_gradients(tl_plan *plan) {
    for (int i = 0; i < plan->graph->param_count; i++) {
        const tl_param *param = &plan->graph->param[i];
        bool inside = param->node > plan->options.from && param->node <= plan->options.to &&
                      plan->value[param->node].used;
        plan->gradient_offset[i] = -1;
        if (!plan->options.training || !inside || !param->trainable) continue;
        plan->gradient_offset[i] = plan->gradient_count;
        plan->gradient_count += tl_shape_count(&param->shape);
    }
    plan->memory.gradients = (size_t)plan->gradient_count * sizeof(float);
}

static tl_status allocate_tables(tl_plan *plan) {
    tl_context *ctx = plan->ctx;
    size_t nodes = (size_t)plan->options.to + 1;
    plan->value = tl_alloc_zero(ctx, nodes * sizeof *plan->value);
    plan->step = tl_alloc_zero(ctx, nodes * sizeof *plan->step);
    plan->band = tl_alloc_array(ctx, nodes, sizeof *plan->band);
    /* A value, its gradient and itself again; saved state, packed weights, three kinds of scratch
     * and of copies, what a follower keeps. */
    plan->buffer = tl_alloc_array(ctx, 12 * nodes, sizeof *plan->buffer);
    plan->held = tl_alloc_zero(ctx, (size_t)plan->graph->param_count * sizeof *plan->held);
    plan->gradient_offset =
        tl_alloc_array(ctx, (size_t)plan->graph->param_count, sizeof *plan->gradient_offset);
    bool complete = plan->value && plan->step && plan->band && plan->buffer &&
                    plan->gradient_offset && plan->held;
    return complete ? TL_OK : TL_NO_MEMORY;
}

static tl_status allocate_call(tl_plan *plan) {
    size_t inputs = (size_t)plan->most_inputs;
    plan->operand = tl_alloc_array(plan->ctx, 2 * inputs + 3, sizeof *plan->operand);
    plan->in = tl_alloc_array(plan->ctx, inputs, sizeof *plan->in);
    plan->grad_in = tl_alloc_array(plan->ctx, inputs, sizeof *plan->grad_in);
    plan->grad_add = tl_alloc_array(plan->ctx, inputs, sizeof *plan->grad_add);
    return plan->operand && plan->in && plan->grad_in && plan->grad_add ? TL_OK : TL_NO_MEMORY;
}

/* Everything but the large blocks. */
static tl_status prepare(tl_plan *plan) {
    TL_TRY(allocate_tables(plan));
    TL_TRY(mark_used(plan));
    TL_TRY(allocate_call(plan));
    TL_TRY(infer_values(plan));
    tl_plan_build_steps(plan);
    tl_plan_choose_dtypes(plan);
    for (int s = 0; s < plan->step_count; s++) ask_memory(plan, &plan->step[s]);
    tl_plan_measure_packs(plan);
    lay_out_gradients(plan);
    TL_TRY(tl_plan_choose_dropped(plan));
    tl_plan_choose_bands(plan);
    tl_plan_choose_followers(plan);
    TL_TRY(tl_plan_assign_buffers(plan));
    return tl_plan_place_buffers(plan, &plan->memory.activations);
}

/* The most that is needed at once from now on: packing comes before the arena. */
static bool add_up(const tl_plan_memory *memory, size_t *total) {
    size_t run = 0;
    if (__builtin_add_overflow(memory->activations, memory->gradients, &run)) return false;
    if (run < memory->scratch) run = memory->scratch;
    return !__builtin_add_overflow(run, memory->packed - memory->shared, total) &&
           !__builtin_add_overflow(*total, memory->loaded, total);
}

static tl_status allocate_blocks(tl_plan *plan) {
    const tl_plan_memory *memory = &plan->memory;
    size_t total = 0, left = tl_memory_left(plan->ctx);
    TL_CHECK(add_up(memory, &total) && total <= left, TL_LIMIT,
             "plan: %zu bytes of activations, %zu of gradients and %zu of packed weights exceed "
             "the %zu that the memory limit leaves",
             memory->activations, memory->gradients, memory->packed, left);
    TL_TRY(tl_plan_take_packs(plan));
    plan->arena = tl_alloc(plan->ctx, memory->activations);
    TL_CHECK_MEMORY(plan->arena);
    plan->gradients = tl_alloc_zero(plan->ctx, memory->gradients);
    TL_CHECK_MEMORY(plan->gradients);
    return TL_OK;
}

/* --- the calls -------------------------------------------------------------------------------- */

static tl_status create_whole(tl_graph *graph, const tl_plan_options *options, tl_plan **out) {
    *out = NULL;
    TL_TRY(check_options(graph, options));
    tl_plan *plan = tl_alloc_zero(graph->ctx, sizeof *plan);
    TL_CHECK_MEMORY(plan);
    plan->graph = graph;
    plan->ctx = graph->ctx;
    plan->compute = options->alone ? tl_context_lane(graph->ctx) : graph->ctx;
    plan->options = *options;
    plan->first_live = tl_graph_first_live(graph);
    plan->most_inputs = 1;
    tl_status status = prepare(plan);
    if (status != TL_OK) {
        tl_plan_free(plan);
        return status;
    }
    *out = plan;
    return TL_OK;
}

static tl_status create_fronts(tl_plan *plan, const tl_plan_options *options, int count) {
    plan->front = tl_alloc_zero(plan->ctx, (size_t)count * sizeof *plan->front);
    TL_CHECK_MEMORY(plan->front);
    while (plan->front_count < count) {
        TL_TRY(create_whole(plan->graph, options, &plan->front[plan->front_count]));
        plan->front_count++;
    }
    return TL_OK;
}

/* As one plan, or in parts where that is better. */
static tl_status create_prepared(tl_graph *graph, const tl_plan_options *options, tl_plan **out) {
    TL_TRY(create_whole(graph, options, out));
    tl_plan_options front, rest;
    int fronts = tl_plan_choose_parts(*out, &front, &rest);
    if (fronts == 0) return TL_OK;
    tl_plan_free(*out);
    TL_TRY(create_whole(graph, &rest, out));
    tl_status status = create_fronts(*out, &front, fronts);
    if (status != TL_OK) {
        tl_plan_free(*out);
        *out = NULL;
    }
    return status;
}

/* The first front's packs serve the others, which could not know when they were made. */
static tl_status allocate_front(tl_plan *front) {
    front->memory.loaded = front->memory.packed = front->memory.shared = 0;
    tl_plan_measure_packs(front);
    return allocate_blocks(front);
}

static tl_status allocate_all(tl_plan *plan) {
    for (int i = 0; i < plan->front_count; i++) TL_TRY(allocate_front(plan->front[i]));
    if (plan->front_count) TL_TRY(tl_plan_allocate_gathered(plan));
    return allocate_blocks(plan);
}

tl_status tl_plan_create(tl_graph *graph, const tl_plan_options *options, tl_plan **out) {
    TL_TRY(create_prepared(graph, options, out));
    tl_status status = allocate_all(*out);
    if (status != TL_OK) {
        tl_plan_free(*out);
        *out = NULL;
    }
    return status;
}

tl_status tl_plan_predict(tl_graph *graph, const tl_plan_options *options, tl_plan_memory *out) {
    tl_plan *plan;
    TL_TRY(create_prepared(graph, options, &plan));
    *out = tl_plan_memory_of(plan);
    tl_plan_free(plan);
    return TL_OK;
}

void tl_plan_free(tl_plan *plan) {
    if (!plan) return;
    tl_context *ctx = plan->ctx;
    for (int i = 0; i < plan->front_count; i++) tl_plan_free(plan->front[i]);
    tl_plan_return_packs(plan);
    void *blocks[] = {plan->value,     plan->step,    plan->buffer,   plan->gradient_offset,
                      plan->in,        plan->grad_in, plan->grad_add, plan->arena,
                      plan->gradients, plan->held,    plan->band,     plan->gathered,
                      plan->front,     plan->operand};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) tl_free(ctx, blocks[i]);
    tl_free(ctx, plan);
}

float *tl_plan_gradients(tl_plan *plan, int64_t *count) {
    if (count) *count = plan->gradient_count;
    return plan->gradients;
}

int64_t tl_plan_gradient_offset(const tl_plan *plan, int param) {
    return plan->gradient_offset[param];
}

enum { ZERO_BYTES = 1 << 20 }; /* that a thread takes at a time */

static void zero_task(void *arg, int64_t begin, int64_t end) {
    const tl_plan *plan = arg;
    size_t from = (size_t)begin * ZERO_BYTES, to = (size_t)end * ZERO_BYTES;
    size_t size = plan->memory.gradients;
    memset((char *)plan->gradients + from, 0, (to < size ? to : size) - from);
}

void tl_plan_zero_gradients(tl_plan *plan) {
    size_t parts = (plan->memory.gradients + ZERO_BYTES - 1) / ZERO_BYTES;
    tl_parallel(plan->ctx, (int64_t)parts, zero_task, plan);
}
