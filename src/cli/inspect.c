#include "cli/common.h"

#include <stdio.h>
#include <string.h>

static const cli_flag flags[] = {
    CLI_FLAG_ARCH,
    {"--batch", CLI_COUNT, .value = "N",
     .help = "pictures at once, for the memory (default: 1 to run, 32 to train)"},
    {"--optimizer", CLI_TEXT, .value = "sgd|adam|adamw|rmsprop", .choices = true,
     .help = "what training would use, for the memory", .preset = "adam"},
    CLI_FLAG_THREADS,
    CLI_FLAG_DTYPE,
    CLI_FLAG_LOW_MEMORY,
    CLI_FLAG_JSON,
    {0},
};

enum { NAMES_SHOWN = 12 };

static double megabytes(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key)) / CLI_MB;
}

static void print_memory(const char *title, const json_t *memory) {
    printf("%-12s", title);
    const char *refusal = json_string_value(json_object_get(memory, "error"));
    if (refusal) {
        puts(refusal);
        return;
    }
    printf("%.1f MB with batches of %lld: ", megabytes(memory, "peak_bytes"),
           (long long)json_integer_value(json_object_get(memory, "batch")));
    static const char *const parts[][2] = {
        {"parameters_bytes", "parameters"},   {"packed_bytes", "packed weights"},
        {"activations_bytes", "activations"}, {"gradients_bytes", "gradients"},
        {"optimizer_bytes", "optimizer"},     {"input_bytes", "input"}};
    const char *separator = "";
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        double amount = megabytes(memory, parts[i][0]);
        if (amount < 0.05) continue;
        printf("%s%s %.1f", separator, parts[i][1], amount);
        separator = ", ";
    }
    putchar('\n');
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
    char shape[CLI_SHAPE_TEXT];
    cli_shape_text(json_object_get(layer, "output"), shape);
    long long parameters = json_integer_value(json_object_get(layer, "parameters"));
    const char *state =
        json_is_true(json_object_get(layer, "trainable")) ? "  trainable" : "  frozen";
    printf("%4zu  %-36s %-14s %-14s %10lld%s\n", index,
           json_string_value(json_object_get(layer, "name")),
           json_string_value(json_object_get(layer, "type")), shape, parameters,
           parameters ? state : "");
}

static void print_model(json_t *model) {
    const char *key = json_string_value(json_object_get(model, "checkpoint_key"));
    printf("%-12s%s (%s%s%s)\n", "network", json_string_value(json_object_get(model, "backbone")),
           json_string_value(json_object_get(model, "format")), key ? ", its " : "",
           key ? key : "");
    print_settings("input", json_object_get(model, "input"));
    print_classes(json_object_get(model, "classes"));
    json_t *preprocess = json_object_get(model, "preprocess");
    if (json_is_object(preprocess))
        print_settings("preprocess", preprocess);
    else
        printf("%-12s%s\n", "preprocess", "not known: --preprocess is to name it");
    printf("%-12s%lld, %lld of them trainable\n", "parameters",
           (long long)json_integer_value(json_object_get(model, "parameters")),
           (long long)json_integer_value(json_object_get(model, "trainable_parameters")));
    printf("%-12s%.3f GFLOP a picture\n", "work",
           json_number_value(json_object_get(model, "flops")) / 1e9);
    const json_t *memory = json_object_get(model, "memory");
    print_memory("memory", json_object_get(memory, "inference"));
    print_memory("to train", json_object_get(memory, "training"));
    print_settings("training", json_object_get(model, "training"));
    printf("\n%4s  %-36s %-14s %-14s %10s\n", "", "layer", "type", "output", "parameters");
    size_t index;
    json_t *layer;
    json_array_foreach(json_object_get(model, "layers"), index, layer) print_layer(index, layer);
}

/* --- memory: what `tl run` and training all that is not frozen would take
 * ------------------------- */

static size_t input_bytes(const tl_model *model, int batch) {
    int height, width, channels;
    tl_model_input_size(model, &height, &width, &channels);
    size_t pixels = height ? (size_t)height * (size_t)width : 1;
    return (size_t)batch * pixels * (size_t)channels * sizeof(float);
}

static json_t *describe_memory(const cli_session *session, const tl_memory *memory, int batch,
                               size_t input) {
    double peak = cli_predicted_rss(session, memory->total + input);
    return json_pack("{s:i, s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "batch", batch, "peak_bytes", peak,
                     "parameters_bytes", (json_int_t)memory->parameters, "packed_bytes",
                     (json_int_t)memory->packed, "activations_bytes",
                     (json_int_t)memory->activations, "gradients_bytes",
                     (json_int_t)memory->gradients, "optimizer_bytes",
                     (json_int_t)memory->optimizer, "input_bytes", (json_int_t)input);
}

static json_t *predict_memory(const cli_session *session, const tl_model *model, bool training) {
    const cli_args *args = session->args;
    int batch = cli_given(args, "--batch") ? (int)cli_whole(args, "--batch") : training ? 32 : 1;
    tl_memory memory = {.size = sizeof memory};
    tl_optimizer_options optimizer;
    tl_optimizer_options_init(&optimizer, sizeof optimizer);
    optimizer.name = cli_text(args, "--optimizer");
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    options.optimizer = &optimizer;
    options.batch = batch;
    options.dtype = session->dtype;
    tl_status status = training ? tl_trainer_memory(model, &options, &memory)
                                : tl_model_memory(model, batch, &memory);
    if (status != TL_OK) return json_pack("{s:o}", "error", cli_json_text(tl_last_error()));
    return describe_memory(session, &memory, batch, input_bytes(model, batch));
}

static int show(const cli_session *session, const tl_model *model, json_t *description) {
    json_t *memory = json_pack("{s:o, s:o}", "inference", predict_memory(session, model, false),
                               "training", predict_memory(session, model, true));
    if (!description || json_object_set_new(description, "memory", memory) != 0)
        return cli_fail(session->args, "out of memory");
    if (cli_given(session->args, "--json")) {
        json_dumpf(description, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_model(description);
    }
    return CLI_OK;
}

static int inspect(const cli_session *session, tl_model *model) {
    char *text = NULL;
    if (tl_model_describe(model, &text) != TL_OK) return cli_failed(session);
    json_t *description = json_loads(text, 0, NULL);
    tl_string_free(session->ctx, text);
    int result = show(session, model, description);
    json_decref(description);
    return result;
}

static int run(const cli_args *args) {
    return cli_with_model(args, cli_operand(args), inspect);
}

const cli_command cli_inspect = {
    .name = "inspect",
    .summary = "show a network's layers, shapes, parameters, memory and metadata",
    .operands = "[FILE|NAME]",
    .most = 1,
    .flags = flags,
    .run = run,
};
