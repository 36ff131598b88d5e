/* Large batches without gradients: a network's first values are large and its first weights small,
 * so that a batch is best sent through its begin a few samples at a time, whose values stay in the
 * cache that cores share; where values have become small, whole batches read the weights once. No
 * result depends on it. */
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
        if (!out->banded && all_pass(plan, s)) last = s;
    }
    return last;
}

static int64_t samples_of_part(const tl_plan *plan) {
    int64_t batch = plan->options.input.dim[0];
    size_t bytes = plan->memory.activations / (size_t)batch;
    int64_t samples = bytes ? (int64_t)(PART_BYTES / bytes) : batch;
    return samples < 1 ? 1 : samples;
}

bool tl_plan_choose_parts(const tl_plan *plan, tl_plan_options *front, tl_plan_options *rest) {
    if (plan->options.training || plan->options.unshared) return false;
    int64_t samples = samples_of_part(plan);
    int last = samples < plan->options.input.dim[0] ? find_last(plan) : -1;
    if (last < 0) return false;
    *front = *rest = plan->options;
    front->to = rest->from = plan->step[last].out;
    front->input.dim[0] = samples;
    rest->input = plan->value[rest->from].shape;
    return true;
}

static size_t sample_values(const tl_plan *rest) {
    const tl_shape *shape = &rest->options.input;
    return (size_t)(tl_shape_count(shape) / shape->dim[0]);
}

tl_status tl_plan_run_front(tl_plan *rest, const float *input, int64_t batch, uint64_t step) {
    tl_plan *front = rest->front;
    const tl_shape *shape = &front->options.input;
    int64_t most = shape->dim[0], count = tl_shape_count(shape) / most;
    size_t values = sample_values(rest);
    for (int64_t first = 0; first < batch; first += most) {
        int64_t samples = batch - first < most ? batch - first : most;
        TL_TRY(tl_plan_forward(front, input + first * count, samples, step, false));
        memcpy(rest->gathered + (size_t)first * values, tl_plan_output(front).data,
               (size_t)samples * values * sizeof(float));
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
    if (!plan->front) return memory;
    const tl_plan_memory *front = &plan->front->memory;
    memory.activations += front->activations + gathered_bytes(plan);
    memory.packed += front->packed;
    memory.shared += front->shared;
    memory.loaded += front->loaded;
    if (memory.scratch < front->scratch) memory.scratch = front->scratch;
    return memory;
}
