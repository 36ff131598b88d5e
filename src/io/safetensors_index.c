/* Sharded safetensors: model.safetensors.index.json beside the files that it names.
 *
 *   {"metadata": {...}, "weight_map": {TENSOR: FILE, ...}}
 *
 * Shards are plain files in the index's own folder. Together they hold the tensors of the map, each
 * where the map says, and no others.
 * https://huggingface.co/docs/huggingface_hub/package_reference/serialization */
#include <inttypes.h>
#include <string.h>

#include "io/json.h"
#include "io/weights.h"

enum {
    MAX_SHARDS = 256,             /* each is kept open */
    FREE_BYTES = 8 * 1024 * 1024, /* of the 16 MiB, for the index; the rest is for a shard */
    COST_TENSOR = 64 + sizeof(tl_weight),
    FILE_NAME = 256
};

typedef struct index_reader {
    tl_weights *weights;
    json_t *map;    /* weight_map */
    json_t *number; /* a shard's file name: its number */
    const char *shard[MAX_SHARDS];
} index_reader;

/* --- the index -------------------------------------------------------------------------------- */

static tl_status parse_index(const tl_weights *weights, const tl_json_text *text, json_t **root) {
    tl_json_cost cost;
    TL_TRY(tl_json_estimate(text, &cost));
    uint64_t limit = 4 * weights->source.size + FREE_BYTES;
    TL_CHECK(cost.bytes <= limit, TL_LIMIT,
             "%s: the index may take %" PRIu64 " bytes of memory, at most %" PRIu64
             " are allowed for a file of this size",
             text->file, cost.bytes, limit);
    TL_TRY(tl_json_parse(text, root));
    size_t count = json_object_size(json_object_get(*root, "weight_map"));
    TL_CHECK(count <= TL_MAX_WEIGHTS, TL_LIMIT, "%s: weight_map of %zu tensors, at most %d",
             text->file, count, TL_MAX_WEIGHTS);
    TL_CHECK(cost.bytes + count * COST_TENSOR <= limit, TL_LIMIT,
             "%s: weight_map of %zu tensors may take over %" PRIu64
             " bytes of memory, too much for a file of %" PRIu64 " bytes",
             text->file, count, limit, weights->source.size);
    return TL_OK;
}

static tl_status read_index(const tl_weights *weights, json_t **root) {
    unsigned char *data = NULL;
    size_t size = 0;
    TL_TRY(tl_source_read_all(&weights->source, TL_SAFETENSORS_MAX_HEADER, &data, &size));
    tl_json_text text = {weights->source.name, "index", (const char *)data, size, 0};
    tl_status status = parse_index(weights, &text, root);
    tl_free(weights->ctx, data);
    return status;
}

/* A file's name from the index: nothing that leads out of the index's folder. */
static tl_status check_file_name(const char *index, const char *tensor, const char *file) {
    static const char suffix[] = ".safetensors";
    char quoted[TL_QUOTE_TEXT], quoted_file[TL_QUOTE_TEXT];
    size_t length = strlen(file);
    tl_quote(tensor, strlen(tensor), quoted);
    tl_quote(file, length, quoted_file);
    TL_CHECK(length > 0 && length < FILE_NAME && !strchr(file, '/'), TL_UNSAFE,
             "%s: weight_map: tensor \"%s\" is in \"%s\", which is not a file name beside the "
             "index",
             index, quoted, quoted_file);
    TL_CHECK(length >= sizeof suffix && strcmp(file + length - (sizeof suffix - 1), suffix) == 0,
             TL_UNSUPPORTED, "%s: weight_map: tensor \"%s\" is in \"%s\", expected a %s file",
             index, quoted, quoted_file, suffix);
    return TL_OK;
}

/* Numbers the shards in the order in which they are named first. */
static tl_status number_shards(index_reader *r) {
    const char *index = r->weights->source.name, *tensor;
    size_t count = 0;
    json_t *value;
    json_object_foreach(r->map, tensor, value) {
        const char *file = json_string_value(value);
        char quoted[TL_QUOTE_TEXT];
        TL_CHECK(file, TL_CORRUPT, "%s: weight_map: the file of tensor \"%s\" is no text", index,
                 tl_quote(tensor, strlen(tensor), quoted));
        if (json_object_get(r->number, file)) continue;
        TL_TRY(check_file_name(index, tensor, file));
        TL_CHECK(count < MAX_SHARDS, TL_LIMIT, "%s: weight_map names more than %d files", index,
                 MAX_SHARDS);
        r->shard[count] = file;
        if (json_object_set_new(r->number, file, json_integer((json_int_t)count)) != 0)
            return tl_fail(TL_NO_MEMORY, "out of memory: the shards of %s", index);
        count++;
    }
    return TL_OK;
}

/* --- the shards ------------------------------------------------------------------------------- */

static tl_status open_shard(const index_reader *r, const char *file, tl_source *out) {
    const tl_source *index = &r->weights->source;
    TL_CHECK(!index->memory, TL_UNSUPPORTED, "%s: the file \"%s\" beside an index in memory",
             index->name, file);
    const char *slash = strrchr(index->name, '/');
    int length = slash ? (int)(slash + 1 - index->name) : 0;
    char *path = tl_format(r->weights->ctx, "%.*s%s", length, index->name, file);
    TL_CHECK_MEMORY(path);
    tl_status status = tl_source_open_no_link(r->weights->ctx, path, out);
    tl_free(r->weights->ctx, path);
    return status == TL_OK ? status : tl_fail_in(status, "%s", index->name);
}

/* Moves a shard's tensors to the index's, which has room for all of the map's. */
static tl_status take_items(const index_reader *r, tl_weights *shard, const char *file) {
    tl_weights *weights = r->weights;
    for (int i = 0; i < shard->count; i++) {
        tl_weight *item = &shard->item[i];
        const char *expected = json_string_value(json_object_get(r->map, item->name));
        char quoted[TL_QUOTE_TEXT];
        TL_CHECK(expected && strcmp(expected, file) == 0, TL_CORRUPT,
                 "%s: tensor \"%s\" is in %s, but weight_map %s%s", weights->source.name,
                 tl_quote(item->name, strlen(item->name), quoted), file,
                 expected ? "says " : "does not list it", expected ? expected : "");
        item->shard = shard;
        weights->item[weights->count++] = *item;
    }
    tl_free(weights->ctx, shard->item);
    shard->item = NULL;
    return TL_OK;
}

static tl_status read_shard(const index_reader *r, const char *file) {
    tl_weights *weights = r->weights, *shard = tl_alloc_zero(weights->ctx, sizeof *shard);
    TL_CHECK_MEMORY(shard);
    weights->shard[weights->shard_count++] = shard;
    shard->ctx = weights->ctx;
    shard->users = 1;
    shard->allowance = TL_WEIGHTS_FREE_BYTES - FREE_BYTES;
    shard->source = (tl_source){.fd = -1};
    TL_TRY(open_shard(r, file, &shard->source));
    tl_status status = tl_safetensors_read(shard);
    if (status != TL_OK) return tl_fail_in(status, "%s", weights->source.name);
    return take_items(r, shard, file);
}

/* Takes the tensors that were found off the map: none may be left. */
static tl_status check_complete(const index_reader *r) {
    const tl_weights *weights = r->weights;
    size_t count = json_object_size(r->map);
    for (int i = 0; i < weights->count; i++) json_object_del(r->map, weights->item[i].name);
    const char *tensor = json_object_iter_key(json_object_iter(r->map));
    char quoted[TL_QUOTE_TEXT];
    TL_CHECK(!tensor, TL_CORRUPT,
             "%s: %zu of the %zu tensors of weight_map are missing, the first is \"%s\" of %s",
             weights->source.name, json_object_size(r->map), count,
             tl_quote(tensor, strlen(tensor), quoted),
             json_string_value(json_object_get(r->map, tensor)));
    return TL_OK;
}

static tl_status read_shards(index_reader *r) {
    tl_weights *weights = r->weights;
    size_t tensors = json_object_size(r->map), shards = json_object_size(r->number);
    weights->item = tl_alloc_array(weights->ctx, tensors, sizeof *weights->item);
    weights->shard = tl_alloc_array(weights->ctx, shards, sizeof *weights->shard);
    TL_CHECK_MEMORY(weights->item && weights->shard);
    for (size_t i = 0; i < shards; i++) TL_TRY(read_shard(r, r->shard[i]));
    return check_complete(r);
}

tl_status tl_safetensors_read_index(tl_weights *weights) {
    weights->format = "safetensors-index";
    json_t *root = NULL;
    tl_status status = read_index(weights, &root);
    index_reader reader = {.weights = weights, .map = json_object_get(root, "weight_map")};
    if (status == TL_OK && !json_is_object(reader.map))
        status = tl_fail(TL_CORRUPT, "%s: weight_map is missing or no JSON object",
                         weights->source.name);
    if (status == TL_OK && !(reader.number = json_object()))
        status = tl_fail(TL_NO_MEMORY, "out of memory: the shards of %s", weights->source.name);
    if (status == TL_OK) status = number_shards(&reader);
    if (status == TL_OK) status = read_shards(&reader);
    json_decref(reader.number);
    json_decref(root);
    return status;
}
