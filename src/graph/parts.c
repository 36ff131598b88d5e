/* Large batches without gradients: a network's first values are large and its first weights small,
 * so that a batch is best sent through its begin a few samples at a time, whose values stay in the
 * cache that cores share; where values have become small, whole batches read the weights once. No
 * result depends on it. */
#include <assert.h>
#include <string.h>

#include "graph/plan.h"

enum {
    PART_BYTES = 16 << 20,  /* of the values and scratch of a part */
    SMALL_BYTES = 128 << 10 /* of a sample's value, for whole batches */
};

/* Whether all that later steps read is the output of step s. */
static bool all_pass(const tl_plan *plan, int s) {
    if (plan->value[plan->options.from].last > s) return false;
    for (int t = 0; t < s; t++)
        if (plan->value[plan->step[t].out].last > s) return false;
    return true;
}

/* The last step in parts, or -1: the first from which on all values are small. */
static int find_last(const tl_plan *plan) {
    size_t small = SMALL_BYTES * (size_t)plan->options.input.dim[0];
    int last = -1;
    for (int s = plan->step_count - 2; s >= 0; s--) {
        const tl_value *out = &plan->value[plan->step[s].out];
        if (out->bytes > small) break;
        bool cuts = !out->banded && tl_plan_can_border(plan, plan->step[s].out);
        if (cuts && all_pass(plan, s)) last = s;
    }
    return last;
}

/* Of as many parts at once as there are fronts. */
static int64_t samples_of_part(const tl_plan *plan, int fronts) {
    int64_t batch = plan->options.input.dim[0];
    size_t bytes = plan->memory.activations / (size_t)batch * (size_t)fronts;
    int64_t samples = bytes ? (int64_t)(PART_BYTES / bytes) : batch;
    return samples < 1 ? 1 : samples;
}

/* One front a thread, which then never wait for each other, where the parts come out even. */
static int count_fronts(const tl_plan *plan) {
    int threads = tl_context_threads(plan->ctx);
    int64_t batch = plan->options.input.dim[0], samples = samples_of_part(plan, threads);
    return batch % (samples * threads) == 0 ? threads : 1;
}

int tl_plan_choose_parts(const tl_plan *plan, tl_plan_options *front, tl_plan_options *rest) {
    if (plan->options.training || plan->options.unshared) return 0;
    int fronts = count_fronts(plan);
    int64_t samples = samples_of_part(plan, fronts);
    int last = samples < plan->options.input.dim[0] ? find_last(plan) : -1;
    if (last < 0) return 0;
    *front = *rest = plan->options;
    front->to = rest->from = plan->step[last].out;
    front->input.dim[0] = samples;
    front->alone = fronts > 1;
    rest->input = plan->value[rest->from].shape;
    return fronts;
}

static size_t sample_values(const tl_plan *rest) {
    const tl_shape *shape = &rest->options.input;
    return (size_t)(tl_shape_count(shape) / shape->dim[0]);
}

/* A part for each front. */
typedef struct parts_job {
    tl_plan *rest;
    const float *input;
    int64_t first, batch;
    uint64_t step;
} parts_job;

static tl_status run_part(const parts_job *job, int64_t index) {
    tl_plan *rest = job->rest, *front = rest->front[index];
    const tl_shape *shape = &front->options.input;
    int64_t most = shape->dim[0], count = tl_shape_count(shape) / most;
    int64_t first = job->first + index * most, left = job->batch - first;
    if (left <= 0) return TL_OK;
    int64_t samples = left < most ? left : most;
    size_t values = sample_values(rest);
    TL_TRY(tl_plan_forward(front, job->input + first * count, samples, job->step, false));
    memcpy(rest->gathered + (size_t)first * values, tl_plan_output(front).data,
           (size_t)samples * values * sizeof(float));
    return TL_OK;
}

/* Fronts are not polled and their batches fit: nothing can fail. */
static void run_parts(void *arg, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        tl_status status = run_part(arg, i);
        assert(status == TL_OK);
        (void)status;
    }
}

tl_status tl_plan_run_fronts(tl_plan *rest, const float *input, int64_t batch, uint64_t step) {
    parts_job job = {rest, input, 0, batch, step};
    int64_t at_once = rest->front_count * rest->front[0]->options.input.dim[0];
    for (; job.first < batch; job.first += at_once) {
        if (rest->poll) TL_TRY(rest->poll(rest->poll_user));
        tl_parallel(rest->ctx, rest->front_count, run_parts, &job);
    }
    return TL_OK;
}

static size_t gathered_bytes(const tl_plan *rest) {
    return sample_values(rest) * (size_t)rest->options.input.dim[0] * sizeof(float);
}

tl_status tl_plan_allocate_gathered(tl_plan *rest) {
    rest->gathered = tl_alloc(rest->ctx, gathered_bytes(rest));
    TL_CHECK_MEMORY(rest->gathered);
    return TL_OK;
}

tl_plan_memory tl_plan_memory_of(const tl_plan *plan) {
    tl_plan_memory memory = plan->memory;
    if (!plan->front_count) return memory;
    const tl_plan_memory *front = &plan->front[0]->memory;
    memory.activations += front->activations * (size_t)plan->front_count + gathered_bytes(plan);
    memory.packed += front->packed;
    memory.shared += front->shared;
    memory.loaded += front->loaded;
    if (memory.scratch < front->scratch) memory.scratch = front->scratch;
    return memory;
}
