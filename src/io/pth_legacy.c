/* The form of torch.save() before PyTorch 1.6, and since then on request:
 *
 *   pickle: magic number | pickle: 1001 | pickle: machine | pickle: the object |
 *   pickle: list of storage keys | per key: int64 element count, elements
 *
 * torch/serialization.py, _legacy_save() and _legacy_load(). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "io/pth.h"

enum { PROTOCOL = 1001 };

/* 0x1950a86a20f9469cfc6c, little endian. */
static const char magic[10] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/* A storage and its key, for sorting. The same storage is named by every tensor that shares it. */
typedef struct named_storage {
    const char *key;
    tl_pickle_storage *storage;
    bool listed;
} named_storage;

static int compare_storages(const void *a, const void *b) {
    const named_storage *x = a, *y = b;
    return strcmp(x->key, y->key);
}

static tl_status read_preamble(tl_pickle *pickle) {
    const char *file = pickle->source->name;
    uint32_t value = 0;
    TL_TRY(tl_pickle_load(pickle, &value));
    const tl_pickle_value *number = tl_pickle_at(pickle, value);
    TL_CHECK(number->kind == TL_PICKLE_BIG_INT && number->count == sizeof magic &&
                 memcmp(tl_pickle_text(pickle, number->as.text), magic, sizeof magic) == 0,
             TL_UNSUPPORTED, "%s: byte 0: a pickle of %s, expected torch.save()'s magic number",
             file, tl_pickle_kind_name(number));
    uint64_t at = pickle->next;
    TL_TRY(tl_pickle_load(pickle, &value));
    const tl_pickle_value *protocol = tl_pickle_at(pickle, value);
    TL_CHECK(protocol->kind == TL_PICKLE_INT && protocol->as.integer == PROTOCOL, TL_UNSUPPORTED,
             "%s: byte %" PRIu64 ": protocol version %" PRId64 ", expected %d", file, at,
             protocol->kind == TL_PICKLE_INT ? protocol->as.integer : -1, PROTOCOL);
    return tl_pickle_load(pickle, &value); /* the machine's word sizes: of no use */
}

/* The storages in byte order of their keys; the caller frees *out. */
static tl_status sort_storages(tl_pickle *pickle, named_storage **out) {
    size_t count = pickle->storages.count;
    TL_TRY(tl_pickle_charge(pickle, 2 * count * sizeof **out));
    named_storage *names = tl_alloc_array(pickle->ctx, count, sizeof *names);
    TL_CHECK_MEMORY(names);
    for (size_t i = 0; i < count; i++) {
        tl_pickle_storage *storage = tl_pickle_storage_at(pickle, (uint32_t)i);
        names[i] = (named_storage){tl_pickle_text(pickle, storage->key), storage, false};
    }
    qsort(names, count, sizeof *names, compare_storages);
    *out = names;
    return TL_OK;
}

/* Index of the first storage with this key, or `count`. */
static size_t first_storage(const named_storage *names, size_t count, const char *key) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(names[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && strcmp(names[low].key, key) == 0 ? low : count;
}

/* Places all storages named `key` at *at, and moves that past their elements. */
static tl_status place(const tl_pickle *pickle, named_storage *names, size_t count, const char *key,
                       uint64_t *at) {
    const tl_source *source = pickle->source;
    char quoted[TL_QUOTE_TEXT];
    tl_quote(key, strlen(key), quoted);
    size_t i = first_storage(names, count, key);
    TL_CHECK(i < count && !names[i].listed, TL_CORRUPT,
             "%s: byte %" PRIu64 ": storage \"%s\" is listed %s", source->name, pickle->opcode,
             quoted, i < count ? "twice" : "but used by no tensor");
    names[i].listed = true;
    const tl_pickle_storage *first = names[i].storage;
    unsigned char prefix[8];
    TL_TRY(tl_source_read(source, *at, prefix, sizeof prefix));
    TL_CHECK(tl_le64(prefix) == first->numel, TL_CORRUPT,
             "%s: byte %" PRIu64 ": storage \"%s\" has %" PRIu64 " elements, expected %" PRIu64,
             source->name, *at, quoted, tl_le64(prefix), first->numel);
    uint64_t bytes = first->numel * tl_dtype_size(first->dtype);
    *at += sizeof prefix;
    TL_CHECK(bytes <= source->size - *at, TL_TRUNCATED,
             "%s: byte %" PRIu64 ": storage \"%s\" needs %" PRIu64 " bytes, %" PRIu64 " are left",
             source->name, *at, quoted, bytes, source->size - *at);
    for (; i < count && strcmp(names[i].key, key) == 0; i++) {
        tl_pickle_storage *storage = names[i].storage;
        TL_CHECK(storage->dtype == first->dtype && storage->numel == first->numel, TL_CORRUPT,
                 "%s: byte %" PRIu64 ": storage \"%s\" differs in type or size from byte %" PRIu64,
                 source->name, storage->opcode, quoted, first->opcode);
        storage->at = *at;
    }
    *at += bytes;
    return TL_OK;
}

static tl_status place_all(const tl_pickle *pickle, const tl_pickle_value *keys,
                           named_storage *names, size_t count) {
    const tl_source *source = pickle->source;
    uint64_t at = pickle->next;
    uint32_t cell = keys->as.members.first;
    for (uint32_t left = keys->count; left > 0; left--) {
        const tl_pickle_cell *link = tl_pickle_cell_at(pickle, cell);
        const tl_pickle_value *key = tl_pickle_at(pickle, link->value);
        TL_CHECK(key->kind == TL_PICKLE_TEXT, TL_CORRUPT,
                 "%s: byte %" PRIu64 ": storage key is %s, expected text", source->name,
                 pickle->opcode, tl_pickle_kind_name(key));
        TL_TRY(place(pickle, names, count, tl_pickle_text(pickle, key->as.text), &at));
        cell = link->next;
    }
    TL_CHECK(at == source->size, TL_CORRUPT,
             "%s: byte %" PRIu64 ": %" PRIu64 " bytes after the last storage, expected none",
             source->name, at, source->size - at);
    for (size_t i = 0; i < count; i++) {
        bool listed = names[i].listed || (i > 0 && strcmp(names[i].key, names[i - 1].key) == 0);
        char quoted[TL_QUOTE_TEXT];
        TL_CHECK(listed, TL_CORRUPT, "%s: byte %" PRIu64 ": storage \"%s\" is not in the file",
                 source->name, names[i].storage->opcode,
                 tl_quote(names[i].key, strlen(names[i].key), quoted));
    }
    return TL_OK;
}

static tl_status locate_storages(tl_pickle *pickle) {
    uint32_t root = 0;
    TL_TRY(tl_pickle_load(pickle, &root));
    const tl_pickle_value *keys = tl_pickle_at(pickle, root);
    TL_CHECK(keys->kind == TL_PICKLE_LIST, TL_CORRUPT,
             "%s: byte %" PRIu64 ": the storage keys are %s, expected a list", pickle->source->name,
             pickle->begin, tl_pickle_kind_name(keys));
    named_storage *names = NULL;
    TL_TRY(sort_storages(pickle, &names));
    tl_status status = place_all(pickle, keys, names, pickle->storages.count);
    tl_free(pickle->ctx, names);
    return status;
}

static tl_status read_file(tl_weights *weights, tl_pickle *pickle) {
    const tl_source *source = &weights->source;
    TL_TRY(tl_pickle_init(pickle, source, 0, source->size, tl_pth_memory_limit(source)));
    TL_TRY(read_preamble(pickle));
    uint32_t root = 0;
    TL_TRY(tl_pickle_load(pickle, &root));
    TL_TRY(locate_storages(pickle));
    return tl_pth_collect(weights, pickle, root);
}

tl_status tl_pth_read_legacy(tl_weights *weights) {
    weights->format = "pth-legacy";
    tl_pickle pickle = {.ctx = weights->ctx};
    tl_status status = read_file(weights, &pickle);
    tl_pickle_free(&pickle);
    return status;
}
