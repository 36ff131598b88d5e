/* Parameters that stay in the weights file that they were checked in. Nearly all uses of a network
 * want its weights packed and nothing else, so that values are read from the open file when they
 * are packed, trained, saved or asked for. The file may be removed or replaced meanwhile; one that
 * was written to is noticed. */
#include <string.h>

#include "base/bytes.h"
#include "model/model.h"

typedef struct stored_param {
    int index; /* in the weights file */
    tl_layout_map map;
} stored_param;

typedef struct file_store {
    tl_context *ctx;
    tl_weights *weights;
    stored_param *item;
} file_store;

/* --- reading ---------------------------------------------------------------------------------- */

typedef struct read_job {
    const file_store *store;
    const stored_param *item;
    float *out;
    int64_t first, count; /* elements */
    tl_failure failure;
} read_job;

enum { PIECE = 1 << 16 }; /* elements read at a time */

static void read_task(void *arg, int64_t begin, int64_t end) {
    read_job *job = arg;
    int64_t first = begin * PIECE, last = end * PIECE < job->count ? end * PIECE : job->count;
    tl_status status = tl_weights_read_part(job->store->weights, job->item->index,
                                            job->first + first, last - first, job->out + first);
    tl_failure_note(&job->failure, begin, status);
}

/* As the file has it. */
static tl_status read_raw(const file_store *store, const stored_param *item, int64_t first,
                          int64_t count, float *out) {
    if (!tl_weights_divisible(store->weights, item->index))
        return tl_weights_read(store->weights, item->index, out);
    read_job job = {store, item, out, first, count, TL_FAILURE_NONE};
    tl_parallel(store->ctx, (count + PIECE - 1) / PIECE, read_task, &job);
    return tl_failure_raise(&job.failure);
}

/* Outputs begin .. end - 1 of those that are wanted, where each is by itself in the file. */
static tl_status read_outputs(const read_job *job, int64_t begin, int64_t end) {
    int64_t row = tl_shape_count(&job->item->map.shape) / job->item->map.shape.dim[0];
    int64_t most = row < PIECE ? PIECE / row : 1;
    float *piece = tl_alloc_array(job->store->ctx, (size_t)(most * row), sizeof *piece);
    TL_CHECK_MEMORY(piece);
    tl_status status = TL_OK;
    for (int64_t o = begin; o < end && status == TL_OK; o += most) {
        int64_t outputs = end - o < most ? end - o : most;
        status = tl_weights_read_part(job->store->weights, job->item->index, job->first + o * row,
                                      outputs * row, piece);
        if (status == TL_OK)
            tl_layout_convert(&job->item->map, piece, 0, outputs, job->out + o * row);
    }
    tl_free(job->store->ctx, piece);
    return status;
}

static void outputs_task(void *arg, int64_t begin, int64_t end) {
    read_job *job = arg;
    tl_failure_note(&job->failure, begin, read_outputs(job, begin, end));
}

typedef struct convert_job {
    const tl_layout_map *map;
    const float *from;
    float *to;
} convert_job;

/* In blocks of 16 outputs, which share cache lines in the file. */
static void convert_task(void *arg, int64_t begin, int64_t end) {
    const convert_job *job = arg;
    int64_t outputs = job->map->shape.dim[0], last = end * 16 < outputs ? end * 16 : outputs;
    tl_layout_convert(job->map, job->from, begin * 16, last, job->to);
}

static bool is_divisible(void *user, int stored) {
    const file_store *store = user;
    const stored_param *item = &store->item[stored];
    return (!item->map.differs || item->map.by_output) &&
           tl_weights_divisible(store->weights, item->index);
}

static tl_status read_converted(const file_store *store, const stored_param *item, float *out) {
    const tl_layout_map *map = &item->map;
    int64_t count = tl_shape_count(&map->shape);
    float *raw = tl_alloc_array(store->ctx, (size_t)count, sizeof *raw);
    TL_CHECK_MEMORY(raw);
    tl_status status = read_raw(store, item, 0, count, raw);
    convert_job convert = {map, raw, out};
    if (status == TL_OK)
        tl_parallel(store->ctx, (map->shape.dim[0] + 15) / 16, convert_task, &convert);
    tl_free(store->ctx, raw);
    return status;
}

static tl_status read_stored(void *user, int stored, const tl_shape *shape, int64_t begin,
                             int64_t end, float *out) {
    const file_store *store = user;
    const stored_param *item = &store->item[stored];
    int64_t row = tl_shape_count(shape) / shape->dim[0];
    TL_TRY(tl_weights_unchanged(store->weights, item->index));
    if (!item->map.differs) return read_raw(store, item, begin * row, (end - begin) * row, out);
    if (!is_divisible(user, stored)) return read_converted(store, item, out);
    read_job job = {store, item, out, begin * row, (end - begin) * row, TL_FAILURE_NONE};
    tl_parallel(store->ctx, end - begin, outputs_task, &job);
    return tl_failure_raise(&job.failure);
}

/* Its bytes and how they are read. */
static tl_status identify(void *user, int stored, uint64_t *out) {
    const file_store *store = user;
    const stored_param *item = &store->item[stored];
    const tl_weight *weight = &store->weights->item[item->index];
    uint32_t crc = 0;
    TL_TRY(tl_weights_checksum(store->weights, item->index, &crc));
    uint64_t hash = tl_hash(crc, (uint64_t)weight->dtype);
    for (int i = 0; i < weight->shape.rank; i++) {
        hash = tl_hash(hash, (uint64_t)weight->shape.dim[i]);
        hash = tl_hash(hash, (uint64_t)weight->stride[i]);
    }
    const tl_layout_map *map = &item->map;
    const int64_t steps[] = {map->differs, map->stride.output, map->stride.row, map->stride.column,
                             map->stride.input};
    for (int i = 0; map->differs && i < 5; i++) hash = tl_hash(hash, (uint64_t)steps[i]);
    *out = hash;
    return TL_OK;
}

/* --- making ----------------------------------------------------------------------------------- */

static void close_store(void *user) {
    file_store *store = user;
    tl_weights_free(store->weights);
    tl_free(store->ctx, store->item);
    tl_free(store->ctx, store);
}

static tl_status make_store(const tl_graph *graph, tl_weights *weights, const int *index,
                            const tl_layout *layout, file_store **out) {
    tl_context *ctx = graph->ctx;
    size_t count = (size_t)graph->param_count;
    file_store *store = tl_alloc_zero(ctx, sizeof *store);
    TL_CHECK_MEMORY(store);
    store->ctx = ctx;
    store->item = tl_alloc_zero(ctx, count * sizeof *store->item);
    if (!store->item) {
        close_store(store);
        return TL_NO_MEMORY;
    }
    store->weights = tl_weights_share(weights);
    for (size_t i = 0; i < count; i++) {
        store->item[i].index = index[i];
        if (layout) store->item[i].map = tl_layout_map_of(*layout, graph, &graph->param[i]);
    }
    *out = store;
    return TL_OK;
}

/* --- filling ---------------------------------------------------------------------------------- */

typedef struct check_job {
    const tl_weights *weights;
    const int *index;
} check_job;

static tl_status check_param(void *arg, int64_t i) {
    const check_job *job = arg;
    return tl_weights_check(job->weights, job->index[i]);
}

static tl_status load_all(tl_graph *graph) {
    for (int i = 0; i < graph->param_count; i++) TL_TRY(tl_graph_hold_param(graph, i));
    return TL_OK;
}

tl_status tl_model_fill_graph(tl_graph *graph, tl_weights *weights, const int *index,
                              const tl_layout *layout) {
    check_job check = {weights, index};
    TL_TRY(tl_parallel_each(graph->ctx, graph->param_count, check_param, &check));
    file_store *store = NULL;
    TL_TRY(make_store(graph, weights, index, layout, &store));
    for (int i = 0; i < graph->param_count; i++) graph->param[i].stored = i;
    tl_graph_set_store(graph,
                       &(tl_param_store){read_stored, is_divisible, identify, close_store, store});
    if (weights->source.fd >= 0) return TL_OK;
    /* A caller's memory is not kept. */
    tl_status status = load_all(graph);
    graph->store = (tl_param_store){0};
    close_store(store);
    return status;
}
