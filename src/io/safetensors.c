/* The safetensors reader.
 *
 *   8 bytes: header length N | N bytes of JSON | data
 *
 * The header maps a name to {"dtype", "shape", "data_offsets": [begin, end]} with offsets into the
 * data, which the tensors cover without overlap or hole; "__metadata__" maps text to text.
 * https://github.com/huggingface/safetensors#format */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "io/json.h"
#include "io/weights.h"

static const char metadata_name[] = "__metadata__";

/* --- the header's text ------------------------------------------------------------------------ */

/* Refuses a header whose parsed form could take more memory than a file of this size may. */
static tl_status check_cost(const tl_weights *weights, const tl_json_text *text) {
    enum { COST_TENSOR = sizeof(tl_weight) + 64 /* of our tables */ };
    tl_json_cost cost;
    TL_TRY(tl_json_estimate(text, &cost));
    TL_CHECK(cost.members <= TL_MAX_WEIGHTS + 1, TL_LIMIT,
             "%s: more than %d tensors in the header: %" PRIu64, text->file, TL_MAX_WEIGHTS,
             cost.members);
    uint64_t bytes = cost.bytes + cost.members * COST_TENSOR;
    uint64_t limit = 4 * weights->source.size + weights->allowance;
    TL_CHECK(bytes <= limit, TL_LIMIT,
             "%s: the header of %zu bytes may take %" PRIu64 " bytes of memory, at most %" PRIu64
             " are allowed for a file of this size",
             text->file, text->size, bytes, limit);
    return TL_OK;
}

/* Reads and parses the header, and tells where the data begins. */
static tl_status read_header(const tl_weights *weights, json_t **header, uint64_t *data_begin) {
    const tl_source *source = &weights->source;
    unsigned char prefix[8];
    TL_TRY(tl_source_read(source, 0, prefix, sizeof prefix));
    uint64_t size = tl_le64(prefix);
    TL_CHECK(size <= TL_SAFETENSORS_MAX_HEADER, TL_LIMIT,
             "%s: byte 0: header length %" PRIu64 ", at most %d is allowed", source->name, size,
             TL_SAFETENSORS_MAX_HEADER);
    TL_CHECK(size <= source->size - 8, TL_TRUNCATED,
             "%s: byte 0: header length %" PRIu64 ", but only %" PRIu64 " bytes follow",
             source->name, size, source->size - 8);
    char *text = tl_alloc(weights->ctx, (size_t)size + 1);
    TL_CHECK_MEMORY(text);
    tl_status status = tl_source_read(source, 8, text, (size_t)size);
    text[size] = '\0';
    if (status == TL_OK && text[0] != '{') {
        char quoted[TL_QUOTE_TEXT];
        status = tl_fail(TL_CORRUPT, "%s: byte 8: the header begins with \"%s\", expected \"{\"",
                         source->name, tl_quote(text, size > 0, quoted));
    }
    tl_json_text json = {source->name, "header", text, (size_t)size, 8};
    if (status == TL_OK) status = check_cost(weights, &json);
    if (status == TL_OK) status = tl_json_parse(&json, header);
    tl_free(weights->ctx, text);
    *data_begin = 8 + size;
    return status;
}

/* --- the header's content --------------------------------------------------------------------- */

/* What an error about a tensor begins with: the file and the tensor. */
typedef struct entry_reader {
    const tl_weights *weights;
    const char *name; /* quoted */
    uint64_t data_begin;
} entry_reader;

static tl_status read_dtype(const entry_reader *r, const json_t *json, tl_dtype *dtype) {
    static const struct {
        const char *name;
        tl_dtype dtype;
    } known[] = {{"F32", TL_F32}, {"F64", TL_F64},  {"F16", TL_F16}, {"BF16", TL_BF16},
                 {"I8", TL_I8},   {"U8", TL_U8},    {"I16", TL_I16}, {"I32", TL_I32},
                 {"I64", TL_I64}, {"BOOL", TL_BOOL}};
    const char *file = r->weights->source.name;
    const char *text = json_string_value(json);
    TL_CHECK(text, TL_CORRUPT, "%s: tensor \"%s\": dtype is missing or no text", file, r->name);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(text, known[i].name) != 0) continue;
        *dtype = known[i].dtype;
        return TL_OK;
    }
    char quoted[TL_QUOTE_TEXT];
    return tl_fail(TL_UNSUPPORTED,
                   "%s: tensor \"%s\": dtype \"%s\", expected one of F64 F32 F16 BF16 I64 I32 I16 "
                   "I8 U8 BOOL",
                   file, r->name, tl_quote(text, strlen(text), quoted));
}

static tl_status read_shape(const entry_reader *r, const json_t *json, tl_weight *item) {
    const char *file = r->weights->source.name;
    TL_CHECK(json_is_array(json), TL_CORRUPT, "%s: tensor \"%s\": shape is missing or no list",
             file, r->name);
    size_t rank = json_array_size(json);
    TL_CHECK(rank <= TL_MAX_RANK, TL_LIMIT,
             "%s: tensor \"%s\": shape has %zu dimensions, at most %d", file, r->name, rank,
             TL_MAX_RANK);
    item->shape = (tl_shape){.rank = (int)rank};
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(json, i);
        TL_CHECK(json_is_integer(dim) && json_integer_value(dim) >= 0, TL_CORRUPT,
                 "%s: tensor \"%s\": shape: dimension %zu is no whole number of 0 or more", file,
                 r->name, i);
        item->shape.dim[i] = json_integer_value(dim);
    }
    return TL_OK;
}

static tl_status read_offsets(const entry_reader *r, const json_t *json, uint64_t *begin,
                              uint64_t *end) {
    const char *file = r->weights->source.name;
    const json_t *first = json_array_get(json, 0), *second = json_array_get(json, 1);
    TL_CHECK(json_array_size(json) == 2 && json_is_integer(first) && json_is_integer(second) &&
                 json_integer_value(first) >= 0 && json_integer_value(second) >= 0,
             TL_CORRUPT, "%s: tensor \"%s\": data_offsets are no two whole numbers of 0 or more",
             file, r->name);
    *begin = (uint64_t)json_integer_value(first);
    *end = (uint64_t)json_integer_value(second);
    TL_CHECK(*begin <= *end, TL_CORRUPT,
             "%s: tensor \"%s\": data_offsets [%" PRIu64 ", %" PRIu64 "] end before they begin",
             file, r->name, *begin, *end);
    return TL_OK;
}

/* Fills all of `item` but its name; *end is where its data ends. */
static tl_status read_entry(const entry_reader *r, const json_t *json, tl_weight *item,
                            uint64_t *end) {
    const char *file = r->weights->source.name;
    TL_CHECK(json_is_object(json), TL_CORRUPT, "%s: tensor \"%s\": is no JSON object", file,
             r->name);
    TL_TRY(read_dtype(r, json_object_get(json, "dtype"), &item->dtype));
    TL_TRY(read_shape(r, json_object_get(json, "shape"), item));
    uint64_t begin = 0;
    TL_TRY(read_offsets(r, json_object_get(json, "data_offsets"), &begin, end));
    int64_t count = tl_shape_count(&item->shape), bytes = 0;
    char text[TL_SHAPE_TEXT];
    TL_CHECK(count >= 0 &&
                 !__builtin_mul_overflow(count, (int64_t)tl_dtype_size(item->dtype), &bytes),
             TL_CORRUPT, "%s: tensor \"%s\": shape %s overflows", file, r->name,
             tl_shape_text(&item->shape, text));
    TL_CHECK((uint64_t)bytes == *end - begin, TL_CORRUPT,
             "%s: tensor \"%s\": shape %s of %s needs %" PRId64
             " bytes, data_offsets span %" PRIu64,
             file, r->name, tl_shape_text(&item->shape, text), tl_dtype_name(item->dtype), bytes,
             *end - begin);
    uint64_t available = r->weights->source.size - r->data_begin;
    TL_CHECK(*end <= available, TL_TRUNCATED,
             "%s: tensor \"%s\": data ends at %" PRIu64 ", but the file has %" PRIu64
             " bytes of data",
             file, r->name, *end, available);
    int64_t stride = 1;
    for (int i = item->shape.rank - 1; i >= 0; i--) {
        item->stride[i] = stride;
        if (item->shape.dim[i] > 0) stride *= item->shape.dim[i];
    }
    item->offset = r->data_begin + begin;
    item->record = -1;
    item->shard = NULL;
    item->chunked = NULL;
    return TL_OK;
}

/* Appends `text` to what names and metadata point into. */
static char *keep_text(char **cursor, const char *text) {
    char *kept = *cursor;
    size_t size = strlen(text) + 1;
    memcpy(kept, text, size);
    *cursor += size;
    return kept;
}

static tl_status read_metadata(tl_weights *weights, json_t *json, char **cursor) {
    TL_CHECK(json_is_object(json), TL_CORRUPT, "%s: %s is no JSON object", weights->source.name,
             metadata_name);
    size_t count = json_object_size(json);
    weights->metadata_key = tl_alloc_array(weights->ctx, count, sizeof(char *));
    weights->metadata_value = tl_alloc_array(weights->ctx, count, sizeof(char *));
    TL_CHECK_MEMORY(weights->metadata_key && weights->metadata_value);
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value) {
        char quoted[TL_QUOTE_TEXT];
        TL_CHECK(json_is_string(value), TL_CORRUPT, "%s: %s: value of \"%s\" is no text",
                 weights->source.name, metadata_name, tl_quote(key, strlen(key), quoted));
        int i = weights->metadata_count++;
        weights->metadata_key[i] = keep_text(cursor, key);
        weights->metadata_value[i] = keep_text(cursor, json_string_value(value));
    }
    return TL_OK;
}

static size_t text_size(json_t *header) {
    size_t size = 1;
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value) size += strlen(key) + 1;
    json_object_foreach(json_object_get(header, metadata_name), key, value) {
        size += strlen(key) + 1 + json_string_length(value) + 1;
    }
    return size;
}

/* --- the data's layout ------------------------------------------------------------------------ */

typedef struct extent {
    uint64_t begin, end; /* in the file */
    const char *name;
} extent;

static int compare_extents(const void *a, const void *b) {
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors must cover the data exactly. */
static tl_status check_layout(const tl_weights *weights, extent *extents, uint64_t data_begin) {
    size_t count = (size_t)weights->count;
    const char *file = weights->source.name;
    qsort(extents, count, sizeof *extents, compare_extents);
    uint64_t at = data_begin;
    for (size_t i = 0; i < count; i++) {
        char quoted[TL_QUOTE_TEXT];
        TL_CHECK(extents[i].begin == at, TL_CORRUPT,
                 "%s: byte %" PRIu64 ": %s tensor \"%s\", which begins at byte %" PRIu64, file, at,
                 extents[i].begin < at ? "overlap with" : "hole before",
                 tl_quote(extents[i].name, strlen(extents[i].name), quoted), extents[i].begin);
        at = extents[i].end;
    }
    TL_CHECK(at == weights->source.size, TL_CORRUPT,
             "%s: byte %" PRIu64 ": %" PRIu64 " bytes after the last tensor, expected none", file,
             at, weights->source.size - at);
    return TL_OK;
}

static tl_status fill_items(tl_weights *weights, json_t *header, uint64_t data_begin,
                            extent *extents) {
    char *cursor = weights->text;
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value) {
        if (strcmp(key, metadata_name) == 0) {
            TL_TRY(read_metadata(weights, value, &cursor));
            continue;
        }
        char quoted[TL_QUOTE_TEXT];
        entry_reader reader = {weights, tl_quote(key, strlen(key), quoted), data_begin};
        int i = weights->count++;
        tl_weight *item = &weights->item[i];
        item->name = keep_text(&cursor, key);
        TL_TRY(read_entry(&reader, value, item, &extents[i].end));
        extents[i].begin = item->offset;
        extents[i].end += data_begin;
        extents[i].name = item->name;
    }
    return check_layout(weights, extents, data_begin);
}

tl_status tl_safetensors_read(tl_weights *weights) {
    weights->format = "safetensors";
    json_t *header = NULL;
    uint64_t data_begin = 0;
    TL_TRY(read_header(weights, &header, &data_begin));
    size_t count = json_object_size(header);
    extent *extents = tl_alloc_array(weights->ctx, count, sizeof *extents);
    weights->item = tl_alloc_array(weights->ctx, count, sizeof *weights->item);
    weights->text = tl_alloc(weights->ctx, text_size(header));
    tl_status status = TL_NO_MEMORY;
    if (extents && weights->item && weights->text) {
        status = fill_items(weights, header, data_begin, extents);
    }
    tl_free(weights->ctx, extents);
    json_decref(header);
    return status;
}
