/* Keras's files of weights (keras/src/saving/saving_lib.py and legacy/saving/legacy_h5_format.py):
 *   Keras 2's .h5   attribute layer_names names groups; each one's weight_names names its datasets,
 *                   "conv1/kernel:0". A whole model keeps them in group model_weights, and its
 *                   config in attribute model_config.
 *   .weights.h5     groups layers/CLASS_N/vars with datasets 0, 1, ...; attribute name of vars
 *                   is the layer's own name, since Keras 3.9.
 *   .keras          a ZIP archive of config.json and such a file. */
#include "io/keras.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/weights.h"
#include "io/zip.h"

enum { MAX_LAYER = 512, MAX_PATH = 1024 };

typedef struct item {
    tl_weight weight;
    size_t name; /* in the file's text */
} item;

typedef struct keras {
    tl_weights *weights;
    tl_hdf5 file;
    tl_keras_config config; /* by_name is NULL when there is none */
    item *item;
    int count, capacity;
    int record;
} keras;

/* --- items ------------------------------------------------------------------------------------ */

static const char *refuse(const tl_hdf5 *file, const tl_hdf5_object *object) {
    if (object->refusal) return file->text + object->refusal;
    if (object->type.class == TL_HDF5_NUMBER) return NULL;
    return object->type.opaque ? "its elements are opaque bytes"
                               : "its elements are no numbers of a known little-endian type";
}

static tl_status add_item(keras *k, int index, const char *layer, const char *variable) {
    tl_hdf5 *file = &k->file;
    const tl_hdf5_object *object = &file->object[index];
    char name[MAX_LAYER + MAX_PATH];
    int length = snprintf(name, sizeof name, "%s/%s", layer, variable);
    TL_CHECK(length >= 0 && (size_t)length < sizeof name, TL_LIMIT,
             "%s: a name of %d bytes, at most %zu are allowed", file->source->name, length,
             sizeof name - 1);
    char quoted[TL_QUOTE_TEXT];
    tl_quote(name, (size_t)length, quoted);
    TL_CHECK(object->kind == TL_HDF5_DATASET, TL_CORRUPT, "%s: \"%s\" is no dataset",
             file->source->name, quoted);
    const char *refusal = refuse(file, object);
    TL_CHECK(!refusal, TL_UNSUPPORTED, "%s: dataset \"%s\" at byte %" PRIu64 ": %s",
             file->source->name, quoted, file->base + object->address, refusal);
    TL_CHECK(k->count < TL_MAX_WEIGHTS, TL_LIMIT, "%s: more than %d tensors", file->source->name,
             TL_MAX_WEIGHTS);
    item new = {.weight = {.dtype = object->type.dtype,
                           .shape = object->shape,
                           .offset = object->offset,
                           .chunked = object->chunked,
                           .record = k->record}};
    int64_t stride = 1;
    for (int i = object->shape.rank - 1; i >= 0; i--) {
        new.weight.stride[i] = stride;
        if (object->shape.dim[i] > 0) stride *= object->shape.dim[i];
    }
    TL_TRY(tl_hdf5_keep_text(file, name, (size_t)length, &new.name));
    TL_TRY(tl_hdf5_grow(file, (void **)&k->item, &k->capacity, k->count, sizeof new));
    k->item[k->count++] = new;
    return TL_OK;
}

/* Moves the items, and what they point into, to the weights. */
static tl_status hand_over(keras *k) {
    tl_weights *weights = k->weights;
    size_t count = (size_t)k->count;
    /* 16: by_name, and the copy of it that sorting may make. */
    TL_TRY(tl_hdf5_charge(&k->file, count * (sizeof *weights->item + 16)));
    weights->item = tl_alloc_array(weights->ctx, count, sizeof *weights->item);
    TL_CHECK_MEMORY(weights->item);
    weights->text = k->file.text;
    k->file.text = NULL;
    weights->chunked = k->file.chunked;
    k->file.chunked = NULL;
    for (size_t i = 0; i < count; i++) {
        weights->item[i] = k->item[i].weight;
        weights->item[i].name = weights->text + k->item[i].name;
    }
    weights->count = k->count;
    return TL_OK;
}

/* --- lists of names in attributes ------------------------------------------------------------- */

typedef tl_status (*name_fn)(keras *k, int object, const char *name, const char *layer);

static tl_status each_text(keras *k, int object, const char *attribute_name, name_fn visit,
                           const char *layer, bool *found) {
    const tl_hdf5_attribute *attribute = tl_hdf5_find_attribute(&k->file, object, attribute_name);
    *found = attribute != NULL;
    if (!attribute) return TL_OK;
    tl_hdf5_texts texts;
    TL_TRY(tl_hdf5_read_texts(&k->file, attribute, &texts));
    tl_status status = TL_OK;
    const char *text = texts.text;
    for (uint64_t i = 0; i < texts.count && status == TL_OK; i++, text += strlen(text) + 1) {
        status = visit(k, object, text, layer);
    }
    tl_free(k->file.ctx, texts.text);
    return status;
}

/* A list that is too long for one attribute is cut into NAME0, NAME1, ... */
static tl_status each_name(keras *k, int object, const char *list, name_fn visit,
                           const char *layer) {
    bool found = false;
    TL_TRY(each_text(k, object, list, visit, layer, &found));
    if (found) return TL_OK;
    for (int i = 0; i == 0 || found; i++) {
        char name[48];
        snprintf(name, sizeof name, "%s%d", list, i);
        TL_TRY(each_text(k, object, name, visit, layer, &found));
        TL_CHECK(found || i > 0, TL_CORRUPT, "%s: group \"%s\" has no attribute %s",
                 k->file.source->name, tl_hdf5_name(&k->file, object), list);
    }
    return TL_OK;
}

static bool has_list(const keras *k, int object, const char *list, const char *first) {
    return tl_hdf5_find_attribute(&k->file, object, list) ||
           tl_hdf5_find_attribute(&k->file, object, first);
}

/* --- Keras 2's .h5 ---------------------------------------------------------------------------- */

/* Whether `name` is `layer`, or is with a number that TensorFlow 1 put behind it. */
static bool is_same_layer(const char *name, size_t length, const char *layer) {
    size_t prefix = strlen(layer);
    if (length < prefix || memcmp(name, layer, prefix) != 0) return false;
    if (length == prefix) return true;
    return name[prefix] == '_' && length > prefix + 1 &&
           strspn(name + prefix + 1, "0123456789") == length - prefix - 1;
}

/* "scope/layer/kernel:0" of a layer that is `layer`, or a model within the model of that name.
 * Variables without a name are numbered through all of a model: "variable_17". */
static tl_status split_name(const keras *k, const char *name, const char *layer, char *owner,
                            char *variable) {
    size_t length = strlen(name);
    const char *colon = memrchr(name, ':', length);
    if (colon && strspn(colon + 1, "0123456789") == strlen(colon + 1))
        length = (size_t)(colon - name);
    const char *last = memrchr(name, '/', length);
    const char *begin = last ? last + 1 : name;
    size_t variable_length = (size_t)(name + length - begin);
    bool unnamed = is_same_layer(begin, variable_length, "variable") ||
                   is_same_layer(begin, variable_length, "Variable");
    snprintf(variable, MAX_PATH, "%.*s", unnamed ? 8 : (int)variable_length,
             unnamed ? "variable" : begin);
    const char *parent = last ? memrchr(name, '/', (size_t)(last - name)) : NULL;
    parent = parent ? parent + 1 : name;
    size_t parent_length = last ? (size_t)(last - parent) : 0;
    if (!last || is_same_layer(parent, parent_length, layer)) {
        parent = layer;
        parent_length = strlen(layer);
    }
    TL_CHECK(length < MAX_LAYER && parent_length < MAX_LAYER, TL_LIMIT,
             "%s: a weight's name of %zu bytes, at most %d are allowed", k->file.source->name,
             length, MAX_LAYER - 1);
    snprintf(owner, MAX_LAYER, "%.*s", (int)parent_length, parent);
    return TL_OK;
}

static tl_status add_legacy_weight(keras *k, int group, const char *name, const char *layer) {
    char owner[MAX_LAYER], variable[MAX_PATH], class[TL_KERAS_CLASS], quoted[TL_QUOTE_TEXT];
    int index = tl_hdf5_find(&k->file, group, name, strlen(name));
    tl_quote(name, strlen(name), quoted);
    TL_CHECK(index > 0 && index != group, TL_CORRUPT,
             "%s: weight_names of \"%s\" lists \"%s\", which is not there", k->file.source->name,
             tl_hdf5_name(&k->file, group), quoted);
    const json_t *known = json_object_get(k->config.by_name, layer);
    TL_CHECK(!k->config.by_name || known || strcmp(layer, "top_level_model_weights") == 0,
             TL_CORRUPT, "%s: weight \"%s\" of a layer that model_config does not have",
             k->file.source->name, quoted);
    TL_TRY(split_name(k, name, layer, owner, variable));
    /* Keras 2's name for it, which Keras 3 shortens. */
    tl_keras_layer_class(json_object_get(k->config.by_name, owner), class);
    bool shortened = strcmp(class, "depthwise_conv2d") == 0 && strcmp(variable, "kernel") == 0;
    return add_item(k, index, owner, shortened ? "depthwise_kernel" : variable);
}

static tl_status add_legacy_layer(keras *k, int root, const char *name, const char *unused) {
    (void)unused;
    char quoted[TL_QUOTE_TEXT];
    int group = tl_hdf5_find(&k->file, root, name, strlen(name));
    TL_CHECK(group > 0 && group != root && k->file.object[group].kind == TL_HDF5_GROUP, TL_CORRUPT,
             "%s: layer_names lists \"%s\", which is no group of the file", k->file.source->name,
             tl_quote(name, strlen(name), quoted));
    return each_name(k, group, "weight_names", add_legacy_weight, name);
}

static tl_status read_legacy(keras *k, int root) {
    k->weights->format = "keras-h5";
    static const char config_name[] = "model_config", own[] = "top_level_model_weights";
    const tl_hdf5_attribute *attribute = tl_hdf5_find_attribute(&k->file, 0, config_name);
    if (attribute) {
        tl_hdf5_texts texts;
        TL_TRY(tl_hdf5_read_texts(&k->file, attribute, &texts));
        tl_json_text text = {.file = k->file.source->name,
                             .what = config_name,
                             .text = texts.text ? texts.text : "",
                             .size = texts.text ? strlen(texts.text) : 0};
        tl_status status = tl_keras_config_read(&k->file, &text, &k->config);
        tl_free(k->file.ctx, texts.text);
        TL_TRY(status);
    }
    TL_TRY(each_name(k, root, "layer_names", add_legacy_layer, NULL));
    /* Variables of the model itself, since Keras 2.6. */
    bool has_own = tl_hdf5_find(&k->file, root, own, sizeof own - 1) > 0;
    return has_own ? add_legacy_layer(k, root, own, NULL) : TL_OK;
}

/* --- Keras 3 ---------------------------------------------------------------------------------- */

/* The group that the layers of a model are in; the second name is TensorFlow 2.12's. */
static bool is_container(const char *name) {
    return strcmp(name, "layers") == 0 || strcmp(name, "_layer_checkpoint_dependencies") == 0;
}

/* What is kept beside weights: an optimizer's variables, and the state of random numbers. */
static bool is_no_weight(const keras *k, int object) {
    for (int up = object; up > 0; up = k->file.object[up].parent) {
        const char *name = tl_hdf5_name(&k->file, up);
        if (strcmp(name, "seed_generator") == 0) return true;
        if (strcmp(name, "optimizer") == 0 && k->file.object[up].parent == 0) return true;
    }
    return false;
}

/* "layers/conv2d_1": as paths are in the config's by_path. */
static tl_status group_path(const keras *k, int group, char path[MAX_PATH]) {
    size_t at = MAX_PATH - 1;
    path[at] = '\0';
    for (int up = group; up > 0; up = k->file.object[up].parent) {
        const char *name = tl_hdf5_name(&k->file, up);
        if (is_container(name)) name = "layers";
        size_t length = strlen(name);
        TL_CHECK(length + 2 <= at, TL_LIMIT, "%s: a path of over %d bytes", k->file.source->name,
                 MAX_PATH - 2);
        if (up != group) path[--at] = '/';
        at -= length;
        memcpy(path + at, name, length);
    }
    memmove(path, path + at, MAX_PATH - at);
    return TL_OK;
}

/* The name in the attribute of a layer's variables; `*found` is false when there is none. */
static tl_status own_name(keras *k, int group, char *name, bool *found) {
    int vars = tl_hdf5_find(&k->file, group, "vars", 4);
    const tl_hdf5_attribute *attribute =
        vars > 0 ? tl_hdf5_find_attribute(&k->file, vars, "name") : NULL;
    *found = false;
    if (!attribute) return TL_OK;
    tl_hdf5_texts texts;
    TL_TRY(tl_hdf5_read_texts(&k->file, attribute, &texts));
    *found = texts.text && texts.text[0];
    int length = *found ? snprintf(name, MAX_LAYER, "%s", texts.text) : 0;
    tl_free(k->file.ctx, texts.text);
    TL_CHECK(length < MAX_LAYER, TL_LIMIT, "%s: a layer's name of %d bytes, at most %d are allowed",
             k->file.source->name, length, MAX_LAYER - 1);
    return TL_OK;
}

typedef struct layer {
    char name[MAX_LAYER], class[TL_KERAS_CLASS];
    char where[MAX_PATH + 256]; /* for messages */
    const json_t *config;
} layer;

/* "conv2d_1" is of class "conv2d", and "conv2d" as well. */
static void class_of_group(const char *name, char class[TL_KERAS_CLASS]) {
    size_t length = strlen(name), digits = length;
    while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') digits--;
    if (digits > 0 && digits < length && name[digits - 1] == '_') length = digits - 1;
    snprintf(class, TL_KERAS_CLASS, "%.*s", (int)(length < TL_KERAS_CLASS ? length : 0), name);
}

static tl_status identify(keras *k, int group, layer *out) {
    const tl_hdf5 *file = &k->file;
    char path[MAX_PATH], quoted[TL_QUOTE_TEXT];
    TL_TRY(group_path(k, group, path));
    tl_quote(path, strlen(path), quoted);
    snprintf(out->where, sizeof out->where, "%.128s: layer \"%s\"", file->source->name, quoted);
    class_of_group(tl_hdf5_name(file, group), out->class);
    out->config = json_object_get(k->config.by_path, path);
    bool found = false;
    TL_TRY(own_name(k, group, out->name, &found));
    if (found) return TL_OK;
    const char *name =
        json_string_value(json_object_get(json_object_get(out->config, "config"), "name"));
    TL_CHECK(
        name, TL_UNSUPPORTED,
        "%s has no name in the file, as Keras before 3.9 wrote it; save the model as .keras, or "
        "in Keras 2's .h5 format",
        out->where);
    TL_CHECK(strlen(name) < MAX_LAYER, TL_LIMIT, "%s: a name of %zu bytes, at most %d are allowed",
             out->where, strlen(name), MAX_LAYER - 1);
    snprintf(out->name, sizeof out->name, "%s", name);
    return TL_OK;
}

/* A layer that is no member of a model's list but part of another layer: OUTER/INNER. */
static tl_status prefix_outer(keras *k, int group, layer *l) {
    for (int up = k->file.object[group].parent; up > 0; up = k->file.object[up].parent) {
        if (is_container(tl_hdf5_name(&k->file, up))) return TL_OK;
        char outer[MAX_LAYER], joined[2 * MAX_LAYER];
        bool found = false;
        TL_TRY(own_name(k, up, outer, &found));
        int length = snprintf(joined, sizeof joined, "%s/%s",
                              found ? outer : tl_hdf5_name(&k->file, up), l->name);
        TL_CHECK(length < MAX_LAYER, TL_LIMIT,
                 "%s: a layer's name of %d bytes, at most %d are allowed", k->file.source->name,
                 length, MAX_LAYER - 1);
        memcpy(l->name, joined, (size_t)length + 1);
    }
    return TL_OK;
}

/* Index of a dataset named as a decimal number, or -1. */
static int variable_index(const char *name) {
    size_t digits = strspn(name, "0123456789");
    if (digits == 0 || digits > 6 || name[digits] || (name[0] == '0' && digits > 1)) return -1;
    int index = 0;
    for (; *name; name++) index = 10 * index + (*name - '0');
    return index;
}

/* A group's members lie together among the objects. */
static tl_status add_variables(keras *k, int vars, int first, int count) {
    const tl_hdf5 *file = &k->file;
    layer l;
    TL_TRY(identify(k, file->object[vars].parent, &l));
    TL_TRY(prefix_outer(k, file->object[vars].parent, &l));
    TL_CHECK(!k->config.by_path || json_object_size(k->config.by_path) == 0 || l.config ||
                 file->object[file->object[vars].parent].depth != 2,
             TL_CORRUPT, "%s: the model's config has no such layer", l.where);
    for (int i = 0; i < count; i++) {
        const char *name = tl_hdf5_name(file, first + i), *known = NULL;
        int index = variable_index(name);
        TL_CHECK(index < count, TL_CORRUPT, "%s: variable %s of %d", l.where, name, count);
        if (index >= 0) {
            TL_TRY(tl_keras_variable_name(l.class, l.config, index, count, l.where, &known));
        }
        TL_TRY(add_item(k, first + i, l.name, known ? known : name));
    }
    return TL_OK;
}

/* Keras marks what HDF5 has no type for. */
static tl_status mark_bfloat16(keras *k, int index) {
    tl_hdf5_object *object = &k->file.object[index];
    const tl_hdf5_attribute *attribute = tl_hdf5_find_attribute(&k->file, index, "dtype");
    if (!attribute || !object->type.opaque || object->type.size != 2) return TL_OK;
    tl_hdf5_texts texts;
    TL_TRY(tl_hdf5_read_texts(&k->file, attribute, &texts));
    if (texts.text && strcmp(texts.text, "bfloat16") == 0) {
        object->type.class = TL_HDF5_NUMBER;
        object->type.dtype = TL_BF16;
    }
    tl_free(k->file.ctx, texts.text);
    return TL_OK;
}

static tl_status read_modern(keras *k) {
    tl_hdf5 *file = &k->file;
    for (int i = 1, next; i < file->object_count; i = next) {
        int vars = file->object[i].parent;
        next = i + 1;
        if (file->object[i].kind != TL_HDF5_DATASET || vars == 0 || is_no_weight(k, i)) continue;
        if (strcmp(tl_hdf5_name(file, vars), "vars") != 0) continue;
        while (next < file->object_count && file->object[next].parent == vars) next++;
        for (int n = i; n < next; n++) TL_TRY(mark_bfloat16(k, n));
        TL_TRY(add_variables(k, vars, i, next - i));
    }
    return TL_OK;
}

/* --- the three formats ------------------------------------------------------------------------ */

static tl_status read_h5(keras *k) {
    tl_hdf5 *file = &k->file;
    TL_TRY(tl_hdf5_open(k->weights->ctx, &k->weights->source, 0, k->weights->source.size, file));
    int model = tl_hdf5_find(file, 0, "model_weights", 13);
    int root = model > 0 ? model : 0;
    if (has_list(k, root, "layer_names", "layer_names0")) return read_legacy(k, root);
    bool modern = tl_hdf5_find(file, 0, "layers", 6) > 0 || tl_hdf5_find(file, 0, "vars", 4) > 0 ||
                  tl_hdf5_find(file, 0, "_layer_checkpoint_dependencies", 30) > 0;
    TL_CHECK(modern, TL_UNSUPPORTED,
             "%s: an HDF5 file with neither layer_names nor a group \"layers\", expected Keras's",
             file->source->name);
    k->weights->format = "keras-weights";
    return read_modern(k);
}

static tl_status read_config(keras *k, const tl_zip *zip, int index) {
    const tl_zip_entry *entry = &zip->entry[index];
    TL_TRY(tl_zip_check(zip, index));
    TL_TRY(tl_hdf5_charge(&k->file, entry->size));
    char *bytes = tl_alloc(k->weights->ctx, (size_t)entry->size);
    TL_CHECK_MEMORY(bytes);
    tl_status status = tl_source_read(zip->source, entry->offset, bytes, (size_t)entry->size);
    tl_json_text text = {zip->source->name, "config.json", bytes, (size_t)entry->size,
                         entry->offset};
    if (status == TL_OK) status = tl_keras_config_read(&k->file, &text, &k->config);
    tl_free(k->weights->ctx, bytes);
    return status;
}

/* The weights' checksum is compared when a tensor is first read. */
static tl_status keep_record(keras *k, const tl_zip_entry *entry) {
    tl_weights *weights = k->weights;
    weights->record = tl_alloc_zero(weights->ctx, sizeof *weights->record);
    TL_CHECK_MEMORY(weights->record);
    weights->record_count = 1;
    weights->record[0].offset = entry->offset;
    weights->record[0].size = entry->size;
    weights->record[0].crc = entry->crc;
    atomic_init(&weights->record[0].checked, false);
    k->record = 0;
    return TL_OK;
}

static tl_status read_archive(keras *k, const tl_zip *zip) {
    int file = tl_zip_find(zip, "model.weights.h5"), config = tl_zip_find(zip, "config.json");
    TL_CHECK(file >= 0, TL_UNSUPPORTED,
             "%s: a ZIP archive of %d entries without model.weights.h5, expected a .keras file",
             zip->source->name, zip->count);
    TL_CHECK(config >= 0, TL_CORRUPT, "%s: no config.json beside model.weights.h5",
             zip->source->name);
    const tl_zip_entry *entry = &zip->entry[file];
    TL_TRY(keep_record(k, entry));
    TL_TRY(tl_hdf5_open(k->weights->ctx, zip->source, entry->offset, entry->size, &k->file));
    TL_TRY(read_config(k, zip, config));
    return read_modern(k);
}

static tl_status read_zip(keras *k) {
    k->weights->format = "keras";
    tl_zip zip;
    tl_status status = tl_zip_open(&k->weights->source, &zip);
    if (status == TL_OK) status = read_archive(k, &zip);
    tl_zip_close(&zip);
    return status;
}

static tl_status read_with(tl_weights *weights, tl_status (*read)(keras *k)) {
    keras k = {.weights = weights, .record = -1};
    tl_status status = read(&k);
    if (status == TL_OK) status = hand_over(&k);
    tl_free(weights->ctx, k.item);
    tl_keras_config_free(&k.config);
    tl_hdf5_close(&k.file);
    return status;
}

tl_status tl_keras_read_h5(tl_weights *weights) {
    return read_with(weights, read_h5);
}

tl_status tl_keras_read_zip(tl_weights *weights) {
    return read_with(weights, read_zip);
}
