/* Filling packs: parameters from memory or from the store, a batch norm folded in, in the kernels'
 * order. Threads take the next few outputs of whichever layer comes next, about as many as a cache
 * holds: so scratch is small, and no layer is too small to be shared. */
#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "graph/plan.h"

/* --- how a step's pack is filled -------------------------------------------------------------- */

enum { BLOCK_BYTES = 256 * 1024 }; /* of weights, unless the kernels' unit is larger */

typedef struct fill {
    const tl_step *step;
    tl_view in;
    tl_op_call call; /* but for the weights */
    const tl_param *weights;
    const float *values;  /* the weights, or NULL: a block at a time comes from the store */
    float *scale;         /* of a folded batch norm, or NULL */
    int64_t outputs, row; /* of the weights; elements of each */
    int64_t block;        /* outputs at a time */
    bool divisible;       /* a block can be had without the others */
} fill;

static int64_t block_outputs(const fill *f, int64_t unit) {
    int64_t units = BLOCK_BYTES / ((int64_t)sizeof(float) * unit * f->row);
    int64_t block = unit * (units > 1 ? units : 1);
    return block < f->outputs ? block : f->outputs;
}

static void prepare_fill(const tl_plan *plan, const tl_step *step, fill *f) {
    const tl_graph *graph = plan->graph;
    const tl_node *node = &graph->node[step->node];
    *f = (fill){.step = step};
    if (!step->memory.packed) return;
    assert(node->input_count == 1);
    float *unused[TL_MAX_PARAMS];
    f->call = tl_step_call_into(plan, step, plan->options.input.dim[0], &f->in, unused);
    f->call.ctx = plan->ctx; /* on all threads, also for a plan that runs on one */
    f->weights = &graph->param[node->first_param];
    f->values = f->weights->value ? tl_tensor_const_f32(f->weights->value) : NULL;
    f->outputs = f->weights->shape.dim[0];
    f->row = tl_shape_count(&f->weights->shape) / f->outputs;
    f->block = block_outputs(f, node->op->pack_unit(&f->call));
    f->divisible = f->values || f->weights->stored < 0 ||
                   graph->store.divisible(graph->store.user, f->weights->stored);
}

/* --- scratch ---------------------------------------------------------------------------------- */

/* Memory for a node's parameters from `first` on that are not there. */
static size_t load_bytes(const tl_graph *graph, int node, int first) {
    size_t bytes = 0;
    for (int i = first; node >= 0 && i < graph->node[node].param_count; i++) {
        const tl_param *param = &graph->param[graph->node[node].first_param + i];
        if (!param->value) bytes += tl_pack_lines((size_t)tl_shape_count(&param->shape) * 4);
    }
    return bytes;
}

static size_t scale_bytes(const tl_plan *plan, const tl_step *step) {
    return step->affine >= 0 ? tl_pack_lines(tl_step_channel_bytes(plan, step)) : 0;
}

static size_t block_bytes(const fill *f) {
    return f->values ? 0 : tl_pack_lines((size_t)(f->block * f->row) * sizeof(float));
}

/* Of what is needed for one step, and not when it has been filled. */
static size_t step_bytes(const tl_plan *plan, const fill *f) {
    size_t vectors =
        load_bytes(plan->graph, f->step->node, 1) + load_bytes(plan->graph, f->step->affine, 0);
    size_t blocks = (size_t)tl_context_threads(plan->ctx) * block_bytes(f);
    if (!f->divisible) blocks = load_bytes(plan->graph, f->step->node, 0);
    return vectors > blocks ? vectors : blocks;
}

size_t tl_pack_scratch(const tl_plan *plan, tl_step_test wanted) {
    size_t scales = 0, most = 0;
    for (int s = 0; s < plan->step_count; s++) {
        if (!wanted(plan, &plan->step[s])) continue;
        fill f;
        prepare_fill(plan, &plan->step[s], &f);
        scales += scale_bytes(plan, f.step);
        size_t bytes = step_bytes(plan, &f);
        if (bytes > most) most = bytes;
    }
    return scales + most;
}

/* --- batch norms and biases ------------------------------------------------------------------- */

static float *take(char **scratch, size_t bytes) {
    float *taken = (float *)*scratch;
    *scratch += tl_pack_lines(bytes);
    return taken;
}

/* The values of a node's parameters from `first` on, read into scratch when they are not in
 * memory. */
static tl_status gather_params(const tl_plan *plan, const tl_node *node, int first, char **scratch,
                               float **values) {
    for (int i = first; i < node->param_count; i++) {
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

static tl_status find_scale(tl_plan *plan, const tl_step *step, char **scratch, float *scale,
                            float *shift) {
    const tl_node *node = &plan->graph->node[step->affine];
    float *values[TL_MAX_PARAMS];
    TL_TRY(gather_params(plan, node, 0, scratch, values));
    tl_op_call call = {.ctx = plan->ctx,
                       .attr = node->attr,
                       .out = {.shape = plan->value[step->affine].shape},
                       .param_count = node->param_count,
                       .param = values};
    node->op->affine(&call, scale, shift);
    return TL_OK;
}

/* Folds batch norm and the operator's own bias into the epilogue's bias:
 * scale * (x + bias) + shift = scale * x + (scale * bias + shift). */
static tl_status fold(tl_plan *plan, const tl_step *step, char *scratch, float *scale) {
    size_t bytes = tl_step_channel_bytes(plan, step);
    const tl_node *node = &plan->graph->node[step->node];
    float *values[TL_MAX_PARAMS], *bias = step->pack->bias;
    TL_TRY(gather_params(plan, node, 1, &scratch, values));
    const float *own = node->param_count > 1 ? values[1] : NULL;
    memset(bias, 0, bytes);
    if (step->affine >= 0) TL_TRY(find_scale(plan, step, &scratch, scale, bias));
    for (size_t c = 0; own && c < bytes / sizeof *bias; c++)
        bias[c] += scale ? scale[c] * own[c] : own[c];
    return TL_OK;
}

/* --- weights ---------------------------------------------------------------------------------- */

typedef struct fill_job {
    const tl_plan *plan;
    const fill *list;
    int count;
    pthread_mutex_t lock; /* of what comes next */
    int next;
    int64_t begin;
    char *scratch;
    size_t lane; /* bytes of scratch that a thread has */
    atomic_int lanes;
    tl_failure failure;
} fill_job;

typedef struct fill_block {
    const fill *fill;
    int64_t begin, end;
} fill_block;

static bool next_block(fill_job *job, fill_block *block) {
    pthread_mutex_lock(&job->lock);
    while (job->next < job->count && job->begin >= job->list[job->next].outputs) {
        job->next++;
        job->begin = 0;
    }
    bool found = job->next < job->count;
    if (found) {
        const fill *f = &job->list[job->next];
        int64_t left = f->outputs - job->begin;
        block->fill = f;
        block->begin = job->begin;
        block->end = job->begin += left < f->block ? left : f->block;
    }
    pthread_mutex_unlock(&job->lock);
    return found;
}

static tl_status fill_outputs(const tl_plan *plan, const fill_block *block, float *scratch) {
    const fill *f = block->fill;
    const tl_param_store *store = &plan->graph->store;
    const float *values = f->values ? f->values + block->begin * f->row : scratch;
    if (!f->values)
        TL_TRY(store->read(store->user, f->weights->stored, &f->weights->shape, block->begin,
                           block->end, scratch));
    tl_op_call call = f->call;
    float *param[TL_MAX_PARAMS] = {(float *)(uintptr_t)values};
    call.in = &f->in;
    call.param = param;
    plan->graph->node[f->step->node].op->pack(&call, block->begin, block->end, f->scale,
                                              f->step->pack->weights);
    return TL_OK;
}

static void fill_task(void *arg, int64_t begin, int64_t end) {
    (void)begin, (void)end;
    fill_job *job = arg;
    size_t lane = (size_t)atomic_fetch_add(&job->lanes, 1) * job->lane;
    fill_block block;
    while (next_block(job, &block)) {
        tl_status status = fill_outputs(job->plan, &block, (float *)(job->scratch + lane));
        tl_failure_note(&job->failure, block.fill - job->list, status);
    }
}

static tl_status fill_weights(const tl_plan *plan, const fill *list, int count, char *scratch) {
    fill_job job = {.plan = plan,
                    .list = list,
                    .count = count,
                    .lock = PTHREAD_MUTEX_INITIALIZER,
                    .scratch = scratch,
                    .failure = TL_FAILURE_NONE};
    for (int i = 0; i < count; i++) {
        size_t bytes = block_bytes(&list[i]);
        if (bytes > job.lane) job.lane = bytes;
    }
    tl_parallel(plan->ctx, tl_context_threads(plan->ctx), fill_task, &job);
    return tl_failure_raise(&job.failure);
}

/* Weights that the store reads as a whole go one after the other, lest all threads have one. */
static tl_status fill_whole(tl_plan *plan, fill *f, char *scratch) {
    if (!f->outputs || f->divisible) return TL_OK;
    int index = (int)(f->weights - plan->graph->param);
    TL_TRY(tl_graph_load_param(plan->graph, index, (float *)scratch));
    f->values = (float *)scratch;
    TL_TRY(fill_weights(plan, f, 1, NULL));
    f->outputs = 0;
    return TL_OK;
}

/* --- all of it -------------------------------------------------------------------------------- */

static tl_status fill_list(tl_plan *plan, fill *list, int count, char *scratch) {
    for (int i = 0; i < count; i++) {
        const tl_step *step = list[i].step;
        if (step->affine >= 0) list[i].scale = take(&scratch, scale_bytes(plan, step));
    }
    for (int i = 0; i < count; i++) {
        if (list[i].step->fused) TL_TRY(fold(plan, list[i].step, scratch, list[i].scale));
        TL_TRY(fill_whole(plan, &list[i], scratch));
    }
    return fill_weights(plan, list, count, scratch);
}

tl_status tl_pack_fill(tl_plan *plan, tl_step_test wanted) {
    char *scratch = tl_alloc(plan->ctx, tl_pack_scratch(plan, wanted));
    fill *list = tl_alloc_array(plan->ctx, (size_t)plan->step_count, sizeof *list);
    tl_status status = scratch && list ? TL_OK : TL_NO_MEMORY;
    int count = 0;
    for (int s = 0; s < plan->step_count && status == TL_OK; s++)
        if (wanted(plan, &plan->step[s])) prepare_fill(plan, &plan->step[s], &list[count++]);
    if (status == TL_OK) status = fill_list(plan, list, count, scratch);
    tl_free(plan->ctx, list);
    tl_free(plan->ctx, scratch);
    return status;
}
