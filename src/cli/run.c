#include "cli/common.h"

#include <stdio.h>
#include <string.h>

static const cli_flag flags[] = {
    CLI_FLAG_MODEL("FILE|NAME"),
    {"--input", CLI_TEXT, true, "X.npy", .help = "preprocessed pictures, f32, rank 4"},
    {"--output", CLI_TEXT, true, "Y.npy", .help = "file for the last layer's values",
     .alias = "--out"},
    {"--layout", CLI_TEXT, .value = "nchw|nhwc", .choices = true,
     .help = "dimension order of both files", .preset = "nhwc"},
    CLI_FLAG_DTYPE,
    CLI_FLAG_THREADS,
    CLI_FLAG_LOW_MEMORY,
    CLI_FLAG_PACKED_CACHE,
    CLI_FLAG_JSON,
    {0},
};

/* Replaces *tensor by its permutation when it has rank 4. */
static tl_status reorder(tl_tensor **tensor, const int order[4]) {
    if (tl_tensor_rank(*tensor) != 4) return TL_OK;
    tl_tensor *turned = NULL;
    tl_status status = tl_tensor_permute(*tensor, order, &turned);
    if (status != TL_OK) return status;
    tl_tensor_free(*tensor);
    *tensor = turned;
    return TL_OK;
}

static int show(const cli_session *session, const tl_model *model, const tl_tensor *output) {
    const cli_args *args = session->args;
    const char *path = cli_text(args, "--output");
    if (cli_given(args, "--json")) {
        json_t *shape = json_array();
        for (int i = 0; i < tl_tensor_rank(output); i++)
            json_array_append_new(shape, json_integer(tl_tensor_shape(output)[i]));
        json_t *object = json_pack("{s:o, s:o}", "output", cli_json_text(path), "shape", shape);
        return cli_print_computed(session, model, object);
    }
    printf("%s:", path);
    for (int i = 0; i < tl_tensor_rank(output); i++)
        printf("%s %lld", i ? " x" : "", (long long)tl_tensor_shape(output)[i]);
    putchar('\n');
    return CLI_OK;
}

/* The library speaks of N H W C, as which it got the tensor. */
static int failed(const cli_session *session, bool turned) {
    const char *note = turned ? " (in N H W C, turned round for --layout nchw)" : "";
    return cli_fail(session->args, "%s%s", tl_last_error(), note);
}

static int run_tensor(const cli_session *session, tl_model *model) {
    static const int to_nhwc[4] = {0, 2, 3, 1}, to_nchw[4] = {0, 3, 1, 2};
    const cli_args *args = session->args;
    bool nchw = strcmp(cli_text(args, "--layout"), "nchw") == 0;
    tl_tensor *input = NULL, *output = NULL;
    tl_status status = tl_tensor_load_npy(session->ctx, cli_text(args, "--input"), &input);
    if (status == TL_OK && nchw) status = reorder(&input, to_nhwc);
    bool turned = status == TL_OK && nchw;
    if (status == TL_OK) status = tl_model_run(model, input, &output);
    if (status == TL_OK && nchw) status = reorder(&output, to_nchw);
    if (status == TL_OK) status = tl_tensor_save_npy(output, cli_text(args, "--output"));
    int result =
        status == TL_OK ? show(session, model, output) : failed(session, turned && !output);
    tl_tensor_free(output);
    tl_tensor_free(input);
    return result;
}

static int run(const cli_args *args) {
    return cli_with_model(args, cli_text(args, "--model"), run_tensor);
}

const cli_command cli_run = {
    .name = "run",
    .summary = "run a network on a raw tensor from a NumPy file",
    .flags = flags,
    .run = run,
};
