#include "io/pth.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_UNWRAP = 8 };

uint64_t tl_pth_memory_limit(const tl_source *source) {
    return 16 * 1024 * 1024 + 2 * source->size;
}

/* --- walking a dict --------------------------------------------------------------------------- */

typedef struct member_iterator {
    const tl_pickle *pickle;
    uint32_t cell, left;
    const tl_pickle_value *key, *value;
    uint32_t value_index;
} member_iterator;

static member_iterator members_of(const tl_pickle *pickle, const tl_pickle_value *dict) {
    return (member_iterator){
        .pickle = pickle, .cell = dict->as.members.first, .left = dict->count / 2};
}

static bool next_member(member_iterator *it) {
    if (it->left == 0) return false;
    it->left--;
    const tl_pickle_cell *key = tl_pickle_cell_at(it->pickle, it->cell);
    const tl_pickle_cell *value = tl_pickle_cell_at(it->pickle, key->next);
    it->key = tl_pickle_at(it->pickle, key->value);
    it->value = tl_pickle_at(it->pickle, value->value);
    it->value_index = value->value;
    it->cell = value->next;
    return true;
}

/* Not the number of steps that torch.optim.swa_utils.AveragedModel keeps beside "module.": it
 * belongs to no layer. */
static bool is_named_tensor(const member_iterator *it) {
    return it->key->kind == TL_PICKLE_TEXT && it->value->kind == TL_PICKLE_TENSOR &&
           !tl_pickle_is(it->pickle, it->key, "n_averaged");
}

static bool has_tensors(const tl_pickle *pickle, const tl_pickle_value *dict) {
    member_iterator it = members_of(pickle, dict);
    while (next_member(&it)) {
        if (is_named_tensor(&it)) return true;
    }
    return false;
}

/* --- finding the state dict ------------------------------------------------------------------- */

/* What training scripts call the weights in a checkpoint, the preferred first: the average of the
 * weights before the weights of the last step, as timm.models.load_state_dict() has it by default
 * and as the scripts that keep both evaluate. */
static const char *const wrappers[] = {"state_dict_ema", "model_ema",        "ema_state_dict",
                                       "state_dict",     "model_state_dict", "model"};

static const tl_pickle_value *unwrap_once(const tl_pickle *pickle, const tl_pickle_value *dict,
                                          const char **wrapper) {
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++) {
        member_iterator it = members_of(pickle, dict);
        while (next_member(&it)) {
            if (it.value->kind == TL_PICKLE_DICT && tl_pickle_is(pickle, it.key, wrappers[i])) {
                *wrapper = wrappers[i];
                return it.value;
            }
        }
    }
    return NULL;
}

/* "a", "b", ... of the dict's first keys. */
static void list_keys(const tl_pickle *pickle, const tl_pickle_value *dict, char *text,
                      size_t size) {
    size_t used = 0;
    text[0] = '\0';
    member_iterator it = members_of(pickle, dict);
    while (next_member(&it)) {
        if (it.key->kind != TL_PICKLE_TEXT) continue;
        char quoted[TL_QUOTE_TEXT];
        tl_quote(tl_pickle_text(pickle, it.key->as.text), it.key->count, quoted);
        int length = snprintf(text + used, size - used, "%s\"%s\"", used ? ", " : "", quoted);
        used += (size_t)length;
        if (used >= size) return;
    }
}

static tl_status find_state_dict(const tl_pickle *pickle, uint32_t root,
                                 const tl_pickle_value **out, const char **wrapper) {
    const tl_pickle_value *value = tl_pickle_at(pickle, root);
    const char *file = pickle->source->name;
    TL_CHECK(value->kind == TL_PICKLE_DICT, TL_UNSUPPORTED,
             "%s: the file holds %s, expected a dict of tensors (a state_dict)", file,
             tl_pickle_kind_name(value));
    for (int i = 0; i <= MAX_UNWRAP; i++) {
        const tl_pickle_value *inner = unwrap_once(pickle, value, wrapper);
        if (!inner) {
            char keys[512];
            list_keys(pickle, value, keys, sizeof keys);
            TL_CHECK(has_tensors(pickle, value), TL_UNSUPPORTED,
                     "%s: no tensors in the dict, expected a state_dict; its keys are %s", file,
                     keys[0] ? keys : "none");
            *out = value;
            return TL_OK;
        }
        value = inner;
    }
    return tl_fail(TL_CORRUPT, "%s: a checkpoint within a checkpoint, %d times or endlessly", file,
                   MAX_UNWRAP);
}

/* --- its tensors ------------------------------------------------------------------------------ */

static tl_status check_name(const tl_pickle *pickle, const tl_pickle_value *key) {
    const char *text = tl_pickle_text(pickle, key->as.text);
    char quoted[TL_QUOTE_TEXT];
    TL_CHECK(tl_utf8_valid(text, key->count), TL_CORRUPT,
             "%s: tensor name \"%s\" is not UTF-8 or has a zero byte", pickle->source->name,
             tl_quote(text, key->count, quoted));
    return TL_OK;
}

/* Room for the items and their names. */
static tl_status reserve(tl_weights *weights, tl_pickle *pickle, const tl_pickle_value *dict) {
    uint64_t count = 0, text = 1;
    member_iterator it = members_of(pickle, dict);
    while (next_member(&it)) {
        if (!is_named_tensor(&it)) continue;
        /* Before the name is looked at: many tensors may share one long name. 16: by_name, and the
         * copy of it that sorting may make. */
        TL_TRY(tl_pickle_charge(pickle, (uint64_t)it.key->count + 1 + sizeof(tl_weight) + 16));
        TL_TRY(check_name(pickle, it.key));
        count++;
        text += (uint64_t)it.key->count + 1;
    }
    TL_CHECK(count <= TL_MAX_WEIGHTS, TL_LIMIT, "%s: %" PRIu64 " tensors, at most %d are allowed",
             weights->source.name, count, TL_MAX_WEIGHTS);
    weights->item = tl_alloc_array(weights->ctx, (size_t)count, sizeof *weights->item);
    TL_CHECK_MEMORY(weights->item);
    weights->text = tl_alloc(weights->ctx, (size_t)text);
    TL_CHECK_MEMORY(weights->text);
    return TL_OK;
}

static tl_status fill_item(const tl_pickle *pickle, const tl_pickle_value *value, tl_weight *item) {
    tl_pickle_tensor tensor;
    TL_TRY(tl_pickle_read_tensor(pickle, value, &tensor));
    const tl_pickle_storage *storage = tl_pickle_storage_at(pickle, tensor.storage);
    item->dtype = storage->dtype;
    item->shape = tensor.shape;
    memcpy(item->stride, tensor.stride, sizeof item->stride);
    item->offset = storage->at + (uint64_t)tensor.offset * tl_dtype_size(storage->dtype);
    item->record = storage->record;
    item->shard = NULL;
    item->chunked = NULL;
    return TL_OK;
}

/* Takes `prefix` off all names if all have it. */
static bool strip_prefix(tl_weights *weights, const char *prefix) {
    size_t length = strlen(prefix);
    for (int i = 0; i < weights->count; i++) {
        if (strncmp(weights->item[i].name, prefix, length) != 0) return false;
    }
    for (int i = 0; i < weights->count; i++) weights->item[i].name += length;
    return weights->count > 0;
}

tl_status tl_pth_collect(tl_weights *weights, tl_pickle *pickle, uint32_t root) {
    const tl_pickle_value *dict = NULL;
    TL_TRY(find_state_dict(pickle, root, &dict, &weights->wrapper));
    TL_TRY(reserve(weights, pickle, dict));
    char *cursor = weights->text;
    member_iterator it = members_of(pickle, dict);
    while (next_member(&it)) {
        if (!is_named_tensor(&it)) continue;
        tl_weight *item = &weights->item[weights->count++];
        item->name = cursor;
        memcpy(cursor, tl_pickle_text(pickle, it.key->as.text), (size_t)it.key->count + 1);
        cursor += it.key->count + 1;
        TL_TRY(fill_item(pickle, it.value, item));
    }
    /* DataParallel, and torch.compile(): in either order, and more than once. */
    while (strip_prefix(weights, "module.") || strip_prefix(weights, "_orig_mod.")) continue;
    return TL_OK;
}
