/* Packed weights. Plans of one graph share them: whichever needs one first makes it, and it goes
 * with the last plan that uses it. */
#include <string.h>

#include "base/float_state.h"
#include "graph/plan.h"

/* --- sizes ------------------------------------------------------------------------------------ */

static bool needs_pack(const tl_step *step) {
    return !step->packs && (step->memory.packed || step->fused);
}

static size_t bias_bytes(const tl_plan *plan, const tl_step *step) {
    return step->fused ? tl_pack_lines(tl_step_channel_bytes(plan, step)) : 0;
}

size_t tl_pack_data_bytes(const tl_plan *plan, const tl_step *step) {
    return bias_bytes(plan, step) + tl_pack_lines(step->memory.packed);
}

static size_t pack_bytes(const tl_plan *plan, const tl_step *step) {
    return tl_pack_lines(sizeof(tl_pack)) + tl_pack_data_bytes(plan, step);
}

/* Memory for those of a node's parameters that are not there. */
static size_t load_bytes(const tl_graph *graph, const tl_node *node) {
    size_t bytes = 0;
    for (int i = node->first_param; i < node->first_param + node->param_count; i++) {
        const tl_param *param = &graph->param[i];
        if (!param->value) bytes += tl_pack_lines((size_t)tl_shape_count(&param->shape) * 4);
    }
    return bytes;
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
    memory->scratch = tl_pack_scratch(plan, makes_pack);
    pthread_mutex_unlock(&graph->lock);
}

/* --- making: with the graph's lock held --------------------------------------------------------
 */

/* The packs that one plan makes lie in one block, since the system brings memory in larger pages
 * for large blocks. It goes with the last of them. */
typedef struct tl_pack_block {
    int users; /* packs, and the plan while it makes them */
    char *free;
} tl_pack_block;

static tl_status make_block(const tl_plan *plan, tl_pack_block **out) {
    size_t bytes = tl_pack_lines(sizeof **out);
    for (int s = 0; s < plan->step_count; s++) {
        const tl_step *step = &plan->step[s];
        if (!makes_pack(plan, step)) continue;
        bytes += step->cached ? tl_pack_lines(sizeof(tl_pack)) : pack_bytes(plan, step);
    }
    tl_pack_block *block = tl_alloc(plan->ctx, bytes);
    TL_CHECK_MEMORY(block);
    *block = (tl_pack_block){.users = 1, .free = (char *)block + tl_pack_lines(sizeof *block)};
    *out = block;
    return TL_OK;
}

static void leave_block(tl_context *ctx, tl_pack_block *block) {
    if (--block->users == 0) tl_free(ctx, block);
}

/* A pack in a mapped file, or room for one, still to be filled. Nothing writes to the former. */
static void place_pack(tl_plan *plan, tl_step *step, tl_pack_block *block) {
    tl_pack *pack = (tl_pack *)block->free;
    block->free += tl_pack_lines(sizeof *pack);
    size_t size = tl_pack_data_bytes(plan, step);
    char *room = step->cached ? (char *)(uintptr_t)step->cached : block->free;
    if (!step->cached) block->free += size;
    *pack = (tl_pack){.users = 1,
                      .block = block,
                      .map = step->cached ? tl_pack_cache_share(plan) : NULL,
                      .key = step->key,
                      .size = size,
                      .empty = !step->cached,
                      .node = step->node,
                      .affine = step->affine,
                      .dtype = step->dtype,
                      .in = pack_shape(plan, step)};
    pack->bias = step->fused ? (float *)room : NULL;
    pack->weights = (float *)(room + bias_bytes(plan, step));
    block->users++;
    step->pack = pack;
}

static void take_pack(tl_plan *plan, tl_step *step, tl_pack_block *block) {
    if (!needs_pack(step)) return;
    step->pack = step->own_pack ? NULL : find_pack(plan, step);
    if (step->pack)
        step->pack->users++;
    else
        place_pack(plan, step, block);
}

static bool is_empty(const tl_plan *plan, const tl_step *step) {
    (void)plan;
    return step->pack && step->pack->empty;
}

/* Lets other plans use those that are new. */
static void list_packs(tl_plan *plan) {
    for (int s = 0; s < plan->step_count; s++) {
        tl_step *step = &plan->step[s];
        if (!step->pack) continue;
        step->pack->empty = false;
        if (step->own_pack || step->pack->listed) continue;
        step->pack->listed = true;
        step->pack->next = plan->graph->packs;
        plan->graph->packs = step->pack;
    }
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
    for (int s = 0; s < plan->step_count; s++) {
        tl_step *step = &plan->step[s];
        if (reads_params(plan, step)) TL_TRY(hold_params(plan, step));
        take_pack(plan, step, block);
    }
    TL_TRY(tl_pack_fill(plan, is_empty));
    list_packs(plan);
    return TL_OK;
}

/* Sizes are of now, since other plans may have come and gone since they were measured. */
static tl_status take_all(tl_plan *plan) {
    tl_pack_block *block = NULL;
    tl_pack_cache_match(plan, makes_pack);
    TL_TRY(make_block(plan, &block));
    tl_status status = take_into(plan, block);
    leave_block(plan->ctx, block);
    if (status == TL_OK) tl_pack_cache_keep(plan);
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

tl_status tl_plan_repack(tl_plan *plan) {
    TL_FLOAT_SCOPE;
    for (int i = 0; i < plan->front_count; i++) TL_TRY(tl_plan_repack(plan->front[i]));
    pthread_mutex_lock(&plan->graph->lock);
    tl_status status = tl_pack_fill(plan, owns_pack);
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
        tl_pack_map_leave(plan->ctx, pack->map);
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
    for (int i = 0; i < graph->param_count; i++)
        if (graph->param[i].value) graph->param[i].stored = -1;
    for (tl_pack *pack = graph->packs, *next; pack; pack = next) {
        next = pack->next;
        if (any_param(graph, pack->node, is_in_memory) ||
            any_param(graph, pack->affine, is_in_memory)) {
            unlist(graph, pack);
        }
    }
    pthread_mutex_unlock(&graph->lock);
}
