/* Packed weights that outlive the process: a file that later ones map. A block's key follows from
 * all that its bytes do, so that whatever has changed is not found; what the file lacks is packed
 * as without it, and then the file is written anew. Nothing that is wrong with the file, or in the
 * way of writing it, is a failure of the plan. */
#include <string.h>

#include "base/bytes.h"
#include "base/crc32.h"
#include "graph/plan.h"
#include "io/packed.h"

struct tl_pack_map {
    int users; /* packs that lie in it, and the cache */
    tl_packed packed;
};

struct tl_pack_cache {
    char *path;
    bool opened;
    tl_pack_map *map; /* NULL: there is no file that can be used */
    tl_pack_cache_state state;
    char reason[TL_PACK_REASON];
};

void tl_pack_map_leave(tl_context *ctx, tl_pack_map *map) {
    if (!map || --map->users > 0) return;
    tl_packed_close(&map->packed);
    tl_free(ctx, map);
}

/* --- keys ------------------------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < size; i++) hash = tl_hash(hash, p[i]);
    return hash;
}

static tl_status identify(const tl_graph *graph, const tl_param *param, uint64_t *out) {
    const tl_param_store *store = &graph->store;
    if (param->stored >= 0 && store->identify)
        return store->identify(store->user, param->stored, out);
    *out = tl_crc32(0, tl_tensor_const_f32(param->value), tl_tensor_bytes(param->value));
    return TL_OK;
}

/* An operator, its attributes and its parameters. */
static tl_status hash_node(const tl_graph *graph, int index, uint64_t *hash) {
    const tl_node *node = &graph->node[index];
    *hash = hash_bytes(*hash, node->op->name, strlen(node->op->name) + 1);
    *hash = hash_bytes(*hash, node->attr, node->op->attr_size);
    for (int i = 0; i < node->param_count; i++) {
        const tl_param *param = &graph->param[node->first_param + i];
        uint64_t values = 0;
        TL_TRY(identify(graph, param, &values));
        *hash = tl_hash(tl_hash(*hash, values), (uint64_t)tl_shape_count(&param->shape));
    }
    return TL_OK;
}

static tl_status find_key(const tl_plan *plan, const tl_step *step, uint64_t *out) {
    uint64_t hash = tl_hash(step->dtype, step->fused);
    hash = tl_hash(hash, tl_context_low_memory(plan->ctx));
    const tl_shape *in = &plan->value[plan->graph->node[step->node].input[0]].shape;
    for (int i = 1; i < in->rank; i++) hash = tl_hash(hash, (uint64_t)in->dim[i]);
    TL_TRY(hash_node(plan->graph, step->node, &hash));
    if (step->affine >= 0) TL_TRY(hash_node(plan->graph, step->affine, &hash));
    *out = hash ? hash : 1;
    return TL_OK;
}

typedef struct key_job {
    tl_plan *plan;
    tl_step_test wanted;
} key_job;

static tl_status key_step(void *arg, int64_t index) {
    const key_job *job = arg;
    tl_step *step = &job->plan->step[index];
    if (!job->wanted(job->plan, step) || step->own_pack) return TL_OK;
    return find_key(job->plan, step, &step->key);
}

/* A file may have to be read for a key. */
static tl_status find_keys(tl_plan *plan, tl_step_test wanted) {
    key_job job = {plan, wanted};
    return tl_parallel_each(plan->ctx, plan->step_count, key_step, &job);
}

/* --- taking from the file --------------------------------------------------------------------- */

static void note(tl_pack_cache *cache, tl_pack_cache_state state, const char *reason) {
    cache->state = state;
    strncpy(cache->reason, reason, sizeof cache->reason - 1);
}

static tl_status open_map(tl_context *ctx, tl_pack_cache *cache) {
    tl_pack_map *map = tl_alloc_zero(ctx, sizeof *map);
    TL_CHECK_MEMORY(map);
    tl_status status = tl_packed_open(ctx, cache->path, tl_context_isa(ctx), &map->packed);
    if (status != TL_OK) {
        tl_free(ctx, map);
        return status;
    }
    map->users = 1;
    cache->map = map;
    return TL_OK;
}

static tl_status find_blocks(tl_plan *plan) {
    tl_pack_cache *cache = plan->graph->cache;
    if (!cache->opened) TL_TRY(open_map(plan->ctx, cache));
    cache->opened = true;
    const char *lacks = NULL;
    for (int s = 0; s < plan->step_count; s++) {
        tl_step *step = &plan->step[s];
        if (!step->key) continue;
        if (cache->map)
            TL_TRY(tl_packed_find(&cache->map->packed, step->key, tl_pack_data_bytes(plan, step),
                                  &step->cached));
        if (!step->cached) lacks = plan->graph->node[step->node].name;
    }
    TL_CHECK(!lacks, TL_NOT_FOUND, "%s: %s is not in it with these weights, this input and type",
             cache->path, lacks);
    return TL_OK;
}

static void forget_file(tl_plan *plan) {
    tl_pack_cache *cache = plan->graph->cache;
    cache->opened = true;
    for (int s = 0; s < plan->step_count; s++) plan->step[s].cached = NULL;
    tl_pack_map_leave(plan->ctx, cache->map);
    cache->map = NULL;
}

void tl_pack_cache_match(tl_plan *plan, tl_step_test wanted) {
    tl_pack_cache *cache = plan->graph->cache;
    for (int s = 0; s < plan->step_count; s++) plan->step[s].key = 0, plan->step[s].cached = NULL;
    if (!cache) return;
    tl_status status = find_keys(plan, wanted);
    if (status == TL_OK) status = find_blocks(plan);
    note(cache, TL_PACKS_USED, status == TL_OK ? "" : tl_last_error());
    /* Blocks that are there may be used when others are not, but not those of a damaged file. */
    if (status != TL_OK && !(status == TL_NOT_FOUND && cache->map)) forget_file(plan);
}

tl_pack_map *tl_pack_cache_share(tl_plan *plan) {
    plan->graph->cache->map->users++;
    return plan->graph->cache->map;
}

/* --- writing it ------------------------------------------------------------------------------- */

static tl_status write_packs(const tl_plan *plan) {
    const tl_graph *graph = plan->graph;
    int count = 0;
    for (const tl_pack *pack = graph->packs; pack; pack = pack->next) count += pack->key != 0;
    tl_packed_block *block = tl_alloc_array(plan->ctx, (size_t)count, sizeof *block);
    TL_CHECK_MEMORY(block);
    count = 0;
    for (const tl_pack *pack = graph->packs; pack; pack = pack->next) {
        const void *data = pack->bias ? pack->bias : pack->weights;
        if (pack->key) block[count++] = (tl_packed_block){pack->key, data, pack->size};
    }
    tl_status status =
        tl_packed_write(plan->ctx, graph->cache->path, tl_context_isa(plan->ctx), count, block);
    tl_free(plan->ctx, block);
    return status;
}

void tl_pack_cache_keep(tl_plan *plan) {
    tl_pack_cache *cache = plan->graph->cache;
    bool lacks = false;
    for (int s = 0; s < plan->step_count; s++) lacks |= plan->step[s].key && !plan->step[s].cached;
    if (!cache || !lacks) return;
    tl_status status = write_packs(plan);
    if (status == TL_OK) {
        cache->state = TL_PACKS_WRITTEN;
        tl_log(plan->ctx, TL_LOG_INFO, "packed weights were written: %s", cache->reason);
    } else {
        note(cache, TL_PACKS_FAILED, tl_last_error());
        tl_log(plan->ctx, TL_LOG_WARNING, "packed weights are not kept: %s", cache->reason);
    }
}

/* --- setting it ------------------------------------------------------------------------------- */

static void free_cache(tl_context *ctx, tl_pack_cache *cache) {
    if (!cache) return;
    tl_pack_map_leave(ctx, cache->map);
    tl_free(ctx, cache->path);
    tl_free(ctx, cache);
}

tl_status tl_graph_set_pack_cache(tl_graph *graph, const char *path) {
    tl_pack_cache *cache = path ? tl_alloc_zero(graph->ctx, sizeof *cache) : NULL;
    if (cache) cache->path = tl_strdup(graph->ctx, path);
    if (path && !(cache && cache->path)) {
        free_cache(graph->ctx, cache);
        return TL_NO_MEMORY;
    }
    pthread_mutex_lock(&graph->lock);
    free_cache(graph->ctx, graph->cache);
    graph->cache = cache;
    pthread_mutex_unlock(&graph->lock);
    return TL_OK;
}

void tl_graph_pack_cache_report(tl_graph *graph, tl_pack_cache_report *out) {
    *out = (tl_pack_cache_report){0};
    pthread_mutex_lock(&graph->lock);
    const tl_pack_cache *cache = graph->cache;
    if (cache) {
        out->path = cache->path;
        out->state = cache->state;
        memcpy(out->reason, cache->reason, sizeof out->reason);
    }
    pthread_mutex_unlock(&graph->lock);
}
