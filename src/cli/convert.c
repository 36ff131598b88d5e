#include "cli/common.h"

#include <stdio.h>
#include <string.h>

static const cli_flag flags[] = {CLI_FLAG_PREPROCESS, CLI_FLAG_JSON, {0}};

/* What the suffix of the output asks for. */
static const struct {
    const char *suffix;
    tl_status (*write)(const tl_model *model, const char *path);
} formats[] = {
    {".safetensors", tl_model_save},
    {".onnx", tl_model_export_onnx},
};
enum { FORMAT_COUNT = sizeof formats / sizeof formats[0] };

static int find_format(const char *path) {
    size_t length = strlen(path);
    for (int i = 0; i < FORMAT_COUNT; i++) {
        size_t suffix = strlen(formats[i].suffix);
        if (length > suffix && strcmp(path + length - suffix, formats[i].suffix) == 0) return i;
    }
    return -1;
}

static int convert(const cli_session *session, tl_model *model) {
    const cli_args *args = session->args;
    const char *out = args->operands[1];
    if (formats[find_format(out)].write(model, out) != TL_OK) return cli_failed(session);
    if (cli_given(args, "--json"))
        return cli_print_json(args,
                              json_pack("{s:o, s:o}", "input", cli_json_text(args->operands[0]),
                                        "output", cli_json_text(out)));
    printf("%s: written\n", out);
    return CLI_OK;
}

static int run(const cli_args *args) {
    if (find_format(args->operands[1]) < 0)
        return cli_misuse(args, "OUT is \"%s\"; expected a name that ends in .safetensors or .onnx",
                          args->operands[1]);
    return cli_with_model(args, cli_operand(args), convert);
}

const cli_command cli_convert = {
    .name = "convert",
    .summary = "write a network as one of our own files, or as ONNX",
    .operands = "IN OUT.safetensors|OUT.onnx",
    .least = 2,
    .most = 2,
    .flags = flags,
    .run = run,
};
