/* Packed weights. Plans of one graph share them: whichever needs one first makes it, and it goes
 * with the last plan that uses it. */
#include <string.h>

#include "base/float_state.h"
#include "graph/plan.h"

/* --- sizes ------------------------------------------------------------------------------------ */

enum { LINE = 64 };

static size_t whole_lines(size_t bytes) {
    return (bytes + LINE - 1) / LINE * LINE;
}

static size_t channel_bytes(const tl_plan *plan, const tl_step *step) {
    const tl_shape *shape = &plan->value[step->node].shape;
    return (size_t)shape->dim[shape->rank - 1] * sizeof(float);
}

static bool needs_pack(const tl_step *step) {
    return !step->packs && (step->memory.packed || step->fused);
}

static size_t pack_bytes(const tl_plan *plan, const tl_step *step) {
    size_t bias = step->fused ? whole_lines(channel_bytes(plan, step)) : 0;
    return whole_lines(sizeof(tl_pack)) + bias + whole_lines(step->memory.packed);
}

/* Memory for those of a node's parameters that are not there. */
static size_t load_bytes(const tl_graph *graph, const tl_node *node) {
    size_t bytes = 0;
    for (int i = node->first_param; i < node->first_param + node->param_count; i++) {
        const tl_param *param = &graph->param[i];
        if (!param->value) bytes += whole_lines((size_t)tl_shape_count(&param->shape) * 4);
    }
    return bytes;
}

/* Scratch for making a step's pack: parameters and the scale of a folded batch norm. */
static size_t scratch_bytes(const tl_plan *plan, const tl_step *step) {
    const tl_graph *graph = plan->graph;
    size_t bytes = load_bytes(graph, &graph->node[step->node]);
    if (step->affine < 0) return bytes;
    return bytes + load_bytes(graph, &graph->node[step->affine]) +
           whole_lines(channel_bytes(plan, step));
}

/* --- which ------------------------------------------------------------------------------------ */

/* Whether a step reads its operator's parameters as they are. */
static bool reads_params(const tl_plan *plan, const tl_step *step) {
    const tl_node *node = &plan->graph->node[step->node];
    if (step->backward || step->packs || !node->op->pack) return true;
    return node->param_count > 1 && !step->fused;
}

static tl_shape pack_shape(const tl_plan *plan, const tl_step *step) {
    tl_shape shape = plan->value[plan->graph->node[step->node].input[0]].shape;
    shape.dim[0] = 1;
    return shape;
}

static tl_pack *find_pack(const tl_plan *plan, const tl_step *step) {
    tl_shape in = pack_shape(plan, step);
    for (tl_pack *pack = plan->graph->packs; pack; pack = pack->next) {
        if (pack->node == step->node && pack->affine == step->affine &&
            pack->dtype == step->dtype && !pack->bias == !step->fused &&
            tl_shape_equal(&pack->in, &in)) {
            return pack;
        }
    }
    return NULL;
}

static bool any_param(const tl_graph *graph, int node, bool (*test)(const tl_param *param)) {
    if (node < 0) return false;
    const tl_node *n = &graph->node[node];
    for (int i = n->first_param; i < n->first_param + n->param_count; i++) {
        if (test(&graph->param[i])) return true;
    }
    return false;
}

static bool is_exposed(const tl_param *param) {
    return param->exposed;
}

static bool is_in_memory(const tl_param *param) {
    return param->value != NULL;
}

static bool makes_pack(const tl_plan *plan, const tl_step *step) {
    return needs_pack(step) && (step->own_pack || !find_pack(plan, step));
}

/* The scratch that making the steps' packs takes; of those only that are `made`. */
static size_t most_scratch(const tl_plan *plan,
                           bool (*made)(const tl_plan *plan, const tl_step *step)) {
    size_t most = 0;
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *step = &plan->step[s];
        size_t bytes = made(plan, step) ? scratch_bytes(plan, step) : 0;
        if (bytes > most) most = bytes;
    }
    return most;
}

void tl_plan_measure_packs(tl_plan *plan) {
    tl_graph *graph = plan->graph;
    tl_plan_memory *memory = &plan->memory;
    pthread_mutex_lock(&graph->lock);
    for (int s = 0; s < plan->step_count; s++) {
        tl_step *step = &plan->step[s];
        if (reads_params(plan, step)) memory->loaded += load_bytes(graph, &graph->node[step->node]);
        if (!needs_pack(step)) continue;
        step->own_pack =
            any_param(graph, step->node, is_exposed) || any_param(graph, step->affine, is_exposed);
        memory->packed += pack_bytes(plan, step);
        if (!makes_pack(plan, step)) memory->shared += pack_bytes(plan, step);
    }
    memory->scratch = most_scratch(plan, makes_pack);
    pthread_mutex_unlock(&graph->lock);
}

/* --- packing: with the graph's lock held ------------------------------------------------------ */

static float *take(char **scratch, size_t bytes) {
    float *taken = (float *)*scratch;
    *scratch += whole_lines(bytes);
    return taken;
}

/* The values of a node's parameters, read into scratch when they are not in memory. */
static tl_status gather_params(const tl_plan *plan, const tl_node *node, char **scratch,
                               float **values) {
    for (int i = 0; i < node->param_count; i++) {
        int index = node->first_param + i;
        const tl_param *param = &plan->graph->param[index];
        if (param->value) {
            values[i] = tl_tensor_f32(param->value);
            continue;
        }
        values[i] = take(scratch, (size_t)tl_shape_count(&param->shape) * sizeof(float));
        TL_TRY(tl_graph_load_param(plan->graph, index, values[i]));
    }
    return TL_OK;
}

/* Folds batch norm and the operator's own bias into the epilogue's bias:
 * scale * (x + bias) + shift = scale * x + (scale * bias + shift). */
static tl_status fold(tl_plan *plan, const tl_step *step, const float *own, char **scratch,
                      float *scale, float *bias) {
    size_t bytes = channel_bytes(plan, step);
    memset(bias, 0, bytes);
    if (step->affine >= 0) {
        const tl_node *node = &plan->graph->node[step->affine];
        float *values[TL_MAX_PARAMS];
        TL_TRY(gather_params(plan, node, scratch, values));
        const tl_shape shape = plan->value[step->affine].shape;
        tl_op_call call = {.ctx = plan->ctx,
                           .attr = node->attr,
                           .out = {.shape = shape},
                           .param_count = node->param_count,
                           .param = values};
        node->op->affine(&call, scale, bias);
    }
    for (size_t c = 0; own && c < bytes / sizeof *bias; c++) {
        bias[c] += scale ? scale[c] * own[c] : own[c];
    }
    return TL_OK;
}

static tl_status fill_pack(tl_plan *plan, const tl_step *step, char *scratch) {
    const tl_node *node = &plan->graph->node[step->node];
    float *values[TL_MAX_PARAMS];
    float *scale = step->affine >= 0 ? take(&scratch, channel_bytes(plan, step)) : NULL;
    TL_TRY(gather_params(plan, node, &scratch, values));
    const float *own = node->param_count > 1 ? values[1] : NULL;
    if (step->fused) TL_TRY(fold(plan, step, own, &scratch, scale, step->pack->bias));
    if (!step->memory.packed) return TL_OK;
    tl_op_call call = tl_step_call(plan, step, plan->options.input.dim[0]);
    call.ctx = plan->ctx; /* on all threads, also for a plan that runs on one */
    call.param = values;
    node->op->pack(&call, scale, step->pack->weights);
    return TL_OK;
}

/* The packs that one plan makes lie in one block, since the system brings memory in larger pages
 * for large blocks. It goes with the last of them. */
typedef struct tl_pack_block {
    int users; /* packs, and the plan while it makes them */
    char *free;
} tl_pack_block;

static tl_status make_block(const tl_plan *plan, tl_pack_block **out) {
    size_t bytes = whole_lines(sizeof **out);
    for (int s = 0; s < plan->step_count; s++) {
        if (makes_pack(plan, &plan->step[s])) bytes += pack_bytes(plan, &plan->step[s]);
    }
    tl_pack_block *block = tl_alloc(plan->ctx, bytes);
    TL_CHECK_MEMORY(block);
    *block = (tl_pack_block){.users = 1, .free = (char *)block + whole_lines(sizeof *block)};
    *out = block;
    return TL_OK;
}

static void leave_block(tl_context *ctx, tl_pack_block *block) {
    if (--block->users == 0) tl_free(ctx, block);
}

static tl_status make_pack(tl_plan *plan, tl_step *step, tl_pack_block *block, char *scratch) {
    tl_pack *pack = (tl_pack *)block->free;
    char *room = block->free + whole_lines(sizeof *pack);
    *pack = (tl_pack){.users = 1,
                      .block = block,
                      .listed = !step->own_pack,
                      .node = step->node,
                      .affine = step->affine,
                      .dtype = step->dtype,
                      .in = pack_shape(plan, step)};
    if (step->fused) pack->bias = take(&room, channel_bytes(plan, step));
    pack->weights = (float *)room;
    step->pack = pack;
    tl_status status = fill_pack(plan, step, scratch);
    if (status != TL_OK) {
        step->pack = NULL;
        return status;
    }
    block->free += pack_bytes(plan, step);
    block->users++;
    if (pack->listed) {
        pack->next = plan->graph->packs;
        plan->graph->packs = pack;
    }
    return TL_OK;
}

static tl_status take_pack(tl_plan *plan, tl_step *step, tl_pack_block *block, char *scratch) {
    if (!needs_pack(step)) return TL_OK;
    tl_pack *found = step->own_pack ? NULL : find_pack(plan, step);
    if (!found) return make_pack(plan, step, block, scratch);
    found->users++;
    step->pack = found;
    return TL_OK;
}

static tl_status hold_params(tl_plan *plan, const tl_step *step) {
    const tl_node *node = &plan->graph->node[step->node];
    for (int i = node->first_param; i < node->first_param + node->param_count; i++) {
        TL_TRY(tl_graph_settle_param(plan->graph, i));
        plan->held[i] = tl_tensor_f32(plan->graph->param[i].value);
    }
    return TL_OK;
}

static tl_status take_into(tl_plan *plan, tl_pack_block *block) {
    char *scratch = tl_alloc(plan->ctx, most_scratch(plan, makes_pack));
    TL_CHECK_MEMORY(scratch);
    tl_status status = TL_OK;
    for (int s = 0; s < plan->step_count && status == TL_OK; s++) {
        tl_step *step = &plan->step[s];
        if (reads_params(plan, step)) status = hold_params(plan, step);
        if (status == TL_OK) status = take_pack(plan, step, block, scratch);
    }
    tl_free(plan->ctx, scratch);
    return status;
}

/* Sizes are of now, since other plans may have come and gone since they were measured. */
static tl_status take_all(tl_plan *plan) {
    tl_pack_block *block = NULL;
    TL_TRY(make_block(plan, &block));
    tl_status status = take_into(plan, block);
    leave_block(plan->ctx, block);
    return status;
}

tl_status tl_plan_take_packs(tl_plan *plan) {
    TL_FLOAT_SCOPE;
    pthread_mutex_lock(&plan->graph->lock);
    tl_status status = take_all(plan);
    pthread_mutex_unlock(&plan->graph->lock);
    return status;
}

static bool owns_pack(const tl_plan *plan, const tl_step *step) {
    (void)plan;
    return step->own_pack;
}

static tl_status refill_own(tl_plan *plan) {
    char *scratch = tl_alloc(plan->ctx, most_scratch(plan, owns_pack));
    TL_CHECK_MEMORY(scratch);
    tl_status status = TL_OK;
    for (int s = 0; s < plan->step_count && status == TL_OK; s++) {
        if (plan->step[s].own_pack) status = fill_pack(plan, &plan->step[s], scratch);
    }
    tl_free(plan->ctx, scratch);
    return status;
}

tl_status tl_plan_repack(tl_plan *plan) {
    TL_FLOAT_SCOPE;
    for (int i = 0; i < plan->front_count; i++) TL_TRY(tl_plan_repack(plan->front[i]));
    pthread_mutex_lock(&plan->graph->lock);
    tl_status status = refill_own(plan);
    pthread_mutex_unlock(&plan->graph->lock);
    return status;
}

/* --- giving back ------------------------------------------------------------------------------ */

static void unlist(tl_graph *graph, tl_pack *pack) {
    tl_pack **link = &graph->packs;
    while (*link != pack) link = &(*link)->next;
    *link = pack->next;
    pack->listed = false;
}

void tl_plan_return_packs(tl_plan *plan) {
    tl_graph *graph = plan->graph;
    pthread_mutex_lock(&graph->lock);
    for (int s = 0; plan->step && s < plan->step_count; s++) {
        tl_pack *pack = plan->step[s].pack;
        if (!pack || --pack->users > 0) continue;
        if (pack->listed) unlist(graph, pack);
        leave_block(plan->ctx, pack->block);
    }
    pthread_mutex_unlock(&graph->lock);
}

/* Those in use stay until their plans are freed. */
void tl_graph_forget_packs(tl_graph *graph, int last) {
    pthread_mutex_lock(&graph->lock);
    for (tl_pack *pack = graph->packs, *next; pack; pack = next) {
        next = pack->next;
        if (pack->node > last || pack->affine > last) unlist(graph, pack);
    }
    pthread_mutex_unlock(&graph->lock);
}

/* What is not in memory is as in the store. */
void tl_graph_changed(tl_graph *graph) {
    pthread_mutex_lock(&graph->lock);
    for (tl_pack *pack = graph->packs, *next; pack; pack = next) {
        next = pack->next;
        if (any_param(graph, pack->node, is_in_memory) ||
            any_param(graph, pack->affine, is_in_memory)) {
            unlist(graph, pack);
        }
    }
    pthread_mutex_unlock(&graph->lock);
}
