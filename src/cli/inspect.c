#include "cli/common.h"

#include <stdio.h>
#include <string.h>

static const cli_flag flags[] = {CLI_FLAG_THREADS, CLI_FLAG_JSON, {0}};

enum { NAMES_SHOWN = 12 };

static double megabytes(const json_t *bytes) {
    return json_number_value(bytes) / (1024 * 1024);
}

/* Scalars and small values of an object as "key value, key value". */
static void print_settings(const char *title, json_t *object) {
    if (!json_is_object(object)) return;
    printf("%-12s", title);
    const char *key, *separator = "";
    json_t *value;
    json_object_foreach(object, key, value) {
        char text[48];
        size_t length = json_dumpb(value, text, sizeof text - 1,
                                   JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        if (length >= sizeof text) continue; /* lists and matrices are for --json */
        text[length] = '\0';
        printf("%s%s %s", separator, key, text);
        separator = ", ";
    }
    putchar('\n');
}

static void print_classes(const json_t *classes) {
    size_t count = json_array_size(classes);
    printf("%-12s%zu", "classes", count);
    for (size_t i = 0; i < count && i < NAMES_SHOWN; i++)
        printf("%s %s", i ? "," : ":", json_string_value(json_array_get(classes, i)));
    puts(count > NAMES_SHOWN ? ", ..." : "");
}

static void print_layer(size_t index, const json_t *layer) {
    char shape[80] = "";
    size_t used = 0, i;
    json_t *dimension, *output = json_object_get(layer, "output");
    json_array_foreach(output, i, dimension) {
        int wrote = snprintf(shape + used, sizeof shape - used, "%s%lld", i ? "x" : "",
                             (long long)json_integer_value(dimension));
        used += (size_t)wrote < sizeof shape - used ? (size_t)wrote : 0;
    }
    long long parameters = json_integer_value(json_object_get(layer, "parameters"));
    const char *state =
        json_is_true(json_object_get(layer, "trainable")) ? "  trainable" : "  frozen";
    printf("%4zu  %-36s %-14s %-14s %10lld%s\n", index,
           json_string_value(json_object_get(layer, "name")),
           json_string_value(json_object_get(layer, "type")), shape, parameters,
           parameters ? state : "");
}

static void print_model(json_t *model) {
    printf("%-12s%s (%s)\n", "network", json_string_value(json_object_get(model, "backbone")),
           json_string_value(json_object_get(model, "format")));
    print_settings("input", json_object_get(model, "input"));
    print_classes(json_object_get(model, "classes"));
    print_settings("preprocess", json_object_get(model, "preprocess"));
    printf("%-12s%lld, %lld of them trainable\n", "parameters",
           (long long)json_integer_value(json_object_get(model, "parameters")),
           (long long)json_integer_value(json_object_get(model, "trainable_parameters")));
    printf("%-12s%.3f GFLOP a picture\n", "work",
           json_number_value(json_object_get(model, "flops")) / 1e9);
    const json_t *memory = json_object_get(model, "memory");
    printf(
        "%-12s%.1f MB for one picture, %.1f MB to train with batches of 32, beside the weights\n",
        "memory", megabytes(json_object_get(memory, "inference_bytes_batch1")),
        megabytes(json_object_get(memory, "training_bytes_batch32")));
    print_settings("training", json_object_get(model, "training"));
    printf("\n%4s  %-36s %-14s %-14s %10s\n", "", "layer", "type", "output", "parameters");
    size_t index;
    json_t *layer;
    json_array_foreach(json_object_get(model, "layers"), index, layer) print_layer(index, layer);
}

static int show(const cli_args *args, const char *text) {
    if (cli_given(args, "--json")) {
        puts(text);
        return CLI_OK;
    }
    json_t *model = json_loads(text, 0, NULL);
    if (!model) return cli_fail(args, "out of memory");
    print_model(model);
    json_decref(model);
    return CLI_OK;
}

static int inspect(const cli_session *session, tl_model *model) {
    char *text = NULL;
    if (tl_model_describe(model, &text) != TL_OK) return cli_failed(session);
    int result = show(session->args, text);
    tl_string_free(session->ctx, text);
    return result;
}

static int run(const cli_args *args) {
    return cli_with_model(args, args->operands[0], inspect);
}

const cli_command cli_inspect = {
    .name = "inspect",
    .summary = "show a network's layers, shapes, parameters, memory and metadata",
    .operands = "FILE|NAME",
    .least = 1,
    .most = 1,
    .flags = flags,
    .run = run,
};
