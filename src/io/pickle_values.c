/* The values of a pickle: arrays that grow within a limit, and access to them. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/pickle.h"

enum { MAX_DEPTH = 64 };

tl_status tl_pickle_fail(const tl_pickle *pickle, tl_status status, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return tl_fail(status, "%s: byte %" PRIu64 ": %s", pickle->source->name, pickle->opcode, text);
}

tl_status tl_pickle_charge(tl_pickle *pickle, uint64_t bytes) {
    if (bytes <= pickle->memory_limit && pickle->memory <= pickle->memory_limit - bytes) {
        pickle->memory += bytes;
        return TL_OK;
    }
    return tl_pickle_fail(pickle, TL_LIMIT,
                          "the pickle needs more than the %" PRIu64
                          " bytes of memory allowed for a file of this size",
                          pickle->memory_limit);
}

static tl_status enlarge(tl_pickle *pickle, tl_pickle_array *array, size_t size, uint64_t needed) {
    uint64_t capacity = array->capacity ? 2 * (uint64_t)array->capacity : 64;
    if (capacity < needed) capacity = needed;
    if (capacity > UINT32_MAX) capacity = UINT32_MAX;
    if (needed > capacity) {
        return tl_pickle_fail(pickle, TL_LIMIT, "the pickle has more than %" PRIu32 " values",
                              UINT32_MAX);
    }
    /* Both blocks are there while the content moves. */
    TL_TRY(tl_pickle_charge(pickle, capacity * size));
    void *data = tl_realloc(pickle->ctx, array->data, (size_t)capacity * size);
    TL_CHECK_MEMORY(data);
    pickle->memory -= (uint64_t)array->capacity * size;
    array->data = data;
    array->capacity = (uint32_t)capacity;
    return TL_OK;
}

tl_status tl_pickle_grow(tl_pickle *pickle, tl_pickle_array *array, size_t size, uint64_t count,
                         void **items) {
    uint64_t needed = array->count + count;
    if (needed > array->capacity) TL_TRY(enlarge(pickle, array, size, needed));
    *items = (char *)array->data + array->count * size;
    array->count = (uint32_t)needed;
    return TL_OK;
}

tl_status tl_pickle_new(tl_pickle *pickle, tl_pickle_value value, uint32_t *index) {
    *index = pickle->values.count;
    void *slot = NULL;
    TL_TRY(tl_pickle_grow(pickle, &pickle->values, sizeof value, 1, &slot));
    *(tl_pickle_value *)slot = value;
    return TL_OK;
}

static tl_pickle_value *value_at(const tl_pickle *pickle, uint32_t value) {
    return (tl_pickle_value *)pickle->values.data + value;
}

const tl_pickle_value *tl_pickle_at(const tl_pickle *pickle, uint32_t value) {
    return value_at(pickle, value);
}

const tl_pickle_cell *tl_pickle_cell_at(const tl_pickle *pickle, uint32_t cell) {
    return (const tl_pickle_cell *)pickle->cells.data + cell;
}

const tl_pickle_value *tl_pickle_member(const tl_pickle *pickle, const tl_pickle_value *container,
                                        uint32_t index) {
    uint32_t cell = container->as.members.first;
    for (; index > 0; index--) cell = tl_pickle_cell_at(pickle, cell)->next;
    return value_at(pickle, tl_pickle_cell_at(pickle, cell)->value);
}

tl_pickle_storage *tl_pickle_storage_at(const tl_pickle *pickle, uint32_t storage) {
    return (tl_pickle_storage *)pickle->storages.data + storage;
}

const char *tl_pickle_text(const tl_pickle *pickle, uint64_t text) {
    return (const char *)pickle->texts.data + text;
}

bool tl_pickle_is(const tl_pickle *pickle, const tl_pickle_value *value, const char *text) {
    return value->kind == TL_PICKLE_TEXT && value->count == strlen(text) &&
           memcmp(tl_pickle_text(pickle, value->as.text), text, value->count) == 0;
}

const char *tl_pickle_kind_name(const tl_pickle_value *value) {
    static const char *const names[] = {
        "None",      "a bool",   "an int",          "a long int", "a float",
        "text",      "a tuple",  "a list",          "a dict",     "a global",
        "a storage", "a tensor", "an opaque object"};
    return names[value->kind];
}

tl_status tl_pickle_append(tl_pickle *pickle, uint32_t container, uint32_t member) {
    uint32_t index = pickle->cells.count;
    void *slot = NULL;
    TL_TRY(tl_pickle_grow(pickle, &pickle->cells, sizeof(tl_pickle_cell), 1, &slot));
    *(tl_pickle_cell *)slot = (tl_pickle_cell){.value = member};
    tl_pickle_value *to = value_at(pickle, container);
    if (to->count == 0) {
        to->as.members.first = index;
    } else {
        ((tl_pickle_cell *)pickle->cells.data)[to->as.members.last].next = index;
    }
    to->as.members.last = index;
    to->count++;
    uint8_t depth = value_at(pickle, member)->depth;
    if (depth >= to->depth) to->depth = (uint8_t)(depth + 1);
    if (to->depth <= MAX_DEPTH) return TL_OK;
    return tl_pickle_fail(pickle, TL_LIMIT, "containers nest deeper than %d levels", MAX_DEPTH);
}
