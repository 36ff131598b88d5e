#include "io/keras.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/stream.h"

/* --- classes and their variables -------------------------------------------------------------- */

enum { MAX_VARIABLES = 4 };

/* In the order in which layers create them (keras/src/layers), each with the option that leaves it
 * out when false. */
typedef struct variable {
    char name[18], option[10];
} variable;

static const struct {
    char class[20];
    variable variable[MAX_VARIABLES];
} classes[] = {
    {"conv2d", {{"kernel", ""}, {"bias", "use_bias"}}},
    {"conv2d_transpose", {{"kernel", ""}, {"bias", "use_bias"}}},
    {"dense", {{"kernel", ""}, {"bias", "use_bias"}}},
    {"depthwise_conv2d", {{"depthwise_kernel", ""}, {"bias", "use_bias"}}},
    {"separable_conv2d",
     {{"depthwise_kernel", ""}, {"pointwise_kernel", ""}, {"bias", "use_bias"}}},
    {"batch_normalization",
     {{"gamma", "scale"}, {"beta", "center"}, {"moving_mean", ""}, {"moving_variance", ""}}},
    {"layer_normalization", {{"gamma", "scale"}, {"beta", "center"}}},
    {"normalization", {{"mean", ""}, {"variance", ""}, {"count", ""}}},
    {"p_re_lu", {{"alpha", ""}}},
    {"layer_scale", {{"gamma", ""}}}, /* ConvNeXt's own (keras/src/applications/convnext.py) */
};

/* Chooses the variables that are there; returns how many. */
static int choose(const variable *all, const json_t *config, bool optional, const char **names) {
    int count = 0;
    for (int i = 0; i < MAX_VARIABLES && all[i].name[0]; i++) {
        const char *option = all[i].option;
        bool left_out =
            option[0] && (config ? json_is_false(json_object_get(config, option)) : !optional);
        if (!left_out) names[count++] = all[i].name;
    }
    return count;
}

tl_status tl_keras_variable_name(const char *class, const json_t *layer, int index, int count,
                                 const char *where, const char **name) {
    *name = NULL;
    const variable *all = NULL;
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (strcmp(class, classes[i].class) == 0) all = classes[i].variable;
    }
    if (!all) return TL_OK;
    const char *names[MAX_VARIABLES];
    const json_t *config = json_object_get(layer, "config");
    int expected = choose(all, config, true, names);
    if (!config && expected != count) expected = choose(all, NULL, false, names);
    TL_CHECK(!config || expected == count, TL_CORRUPT,
             "%s has %d variables, the model's config gives it %d", where, count, expected);
    if (expected == count) *name = names[index];
    return TL_OK;
}

/* keras/src/utils/naming.py, to_snake_case(). */
static void to_snake_case(const char *class, char text[TL_KERAS_CLASS]) {
    size_t at = 0;
    for (size_t i = 0; class[i] && at < TL_KERAS_CLASS - 2; i++) {
        unsigned char c = (unsigned char)class[i];
        bool begins =
            i > 0 && isupper(c) &&
            (islower((unsigned char)class[i - 1]) || islower((unsigned char)class[i + 1]));
        if (begins && text[at - 1] != '_') text[at++] = '_';
        text[at++] = (char)tolower(c);
    }
    text[at] = '\0';
}

const char *tl_keras_layer_class(const json_t *layer, char text[TL_KERAS_CLASS]) {
    const char *class = json_string_value(json_object_get(layer, "class_name"));
    to_snake_case(class ? class : "", text);
    return text;
}

/* --- layers ----------------------------------------------------------------------------------- */

static const char *layer_name(const json_t *layer) {
    const char *name = json_string_value(json_object_get(layer, "name"));
    return name ? name
                : json_string_value(json_object_get(json_object_get(layer, "config"), "name"));
}

/* Python code in a model is refused wherever it is: it would be executed by Keras, and what it
 * computes is not known here. */
static tl_status refuse_code(const char *file, const json_t *json) {
    const char *class = json_string_value(json_object_get(json, "class_name"));
    if (class && (strcmp(class, "Lambda") == 0 || strcmp(class, "__lambda__") == 0)) {
        const char *name = layer_name(json);
        char quoted[TL_QUOTE_TEXT];
        return tl_fail(TL_UNSAFE, "%s: the model's config has a Lambda layer (\"%s\"): Python code",
                       file, tl_quote(name ? name : "", name ? strlen(name) : 0, quoted));
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json, key, value) TL_TRY(refuse_code(file, value));
    for (size_t i = 0; i < json_array_size(json); i++) {
        TL_TRY(refuse_code(file, json_array_get(json, i)));
    }
    return TL_OK;
}

/* "conv2d", "conv2d_1", ...: saving_lib.py, _get_unique_name(). `used` counts within a model. */
static tl_status unique_path(tl_hdf5 *file, const char *prefix, const json_t *layer, json_t *used,
                             char **path) {
    char class[TL_KERAS_CLASS], suffix[32] = "";
    tl_keras_layer_class(layer, class);
    json_int_t seen = json_integer_value(json_object_get(used, class));
    if (seen > 0) snprintf(suffix, sizeof suffix, "_%" JSON_INTEGER_FORMAT, seen);
    if (json_object_set_new(used, class, json_integer(seen + 1)) != 0) return TL_NO_MEMORY;
    *path = tl_format(file->ctx, "%slayers/%s%s", prefix, class, suffix);
    TL_CHECK_MEMORY(*path);
    return TL_OK;
}

static tl_status remember(tl_hdf5 *file, json_t *map, const char *key, json_t *layer) {
    enum { COST = 256 }; /* an entry of jansson's table, and the table's growth */
    TL_TRY(tl_hdf5_charge(file, COST + strlen(key)));
    if (json_object_set(map, key, layer) == 0) return TL_OK;
    return tl_fail(TL_NO_MEMORY, "out of memory: the layers of %s", file->source->name);
}

static tl_status add_model(tl_hdf5 *file, tl_keras_config *config, const json_t *model,
                           const char *prefix);

static tl_status add_layer(tl_hdf5 *file, tl_keras_config *config, json_t *layer,
                           const char *path) {
    const char *name = layer_name(layer);
    if (name) TL_TRY(remember(file, config->by_name, name, layer));
    TL_TRY(remember(file, config->by_path, path, layer));
    char *prefix = tl_format(file->ctx, "%s/", path);
    TL_CHECK_MEMORY(prefix);
    tl_status status = add_model(file, config, layer, prefix);
    tl_free(file->ctx, prefix);
    return status;
}

static tl_status add_layers(tl_hdf5 *file, tl_keras_config *config, const json_t *layers,
                            const char *prefix, json_t *used) {
    for (size_t i = 0; i < json_array_size(layers); i++) {
        json_t *layer = json_array_get(layers, i);
        char *path = NULL;
        TL_TRY(unique_path(file, prefix, layer, used, &path));
        tl_status status = add_layer(file, config, layer, path);
        tl_free(file->ctx, path);
        TL_TRY(status);
    }
    return TL_OK;
}

/* The layers of a model and of models within it. Before Keras 2.2.3 the config of a Sequential
 * model was the list itself. */
static tl_status add_model(tl_hdf5 *file, tl_keras_config *config, const json_t *model,
                           const char *prefix) {
    const json_t *layers = json_object_get(model, "config");
    if (json_is_object(layers)) layers = json_object_get(layers, "layers");
    if (!json_is_array(layers)) return TL_OK;
    TL_TRY(tl_hdf5_charge(file, strlen(prefix) + json_array_size(layers)));
    json_t *used = json_object();
    if (!used) return TL_NO_MEMORY;
    tl_status status = add_layers(file, config, layers, prefix, used);
    json_decref(used);
    return status;
}

tl_status tl_keras_config_read(tl_hdf5 *file, const tl_json_text *text, tl_keras_config *out) {
    tl_json_cost cost;
    TL_TRY(tl_json_estimate(text, &cost));
    TL_TRY(tl_hdf5_charge(file, cost.bytes));
    TL_TRY(tl_json_parse(text, &out->root));
    TL_CHECK(json_is_object(out->root) && json_object_get(out->root, "class_name"), TL_CORRUPT,
             "%s: the %s is no Keras model: it has no class_name", text->file, text->what);
    TL_TRY(refuse_code(text->file, out->root));
    out->by_name = json_object();
    out->by_path = json_object();
    if (!out->by_name || !out->by_path) return TL_NO_MEMORY;
    return add_model(file, out, out->root, "");
}

void tl_keras_config_free(tl_keras_config *config) {
    json_decref(config->by_name);
    json_decref(config->by_path);
    json_decref(config->root);
    *config = (tl_keras_config){0};
}
