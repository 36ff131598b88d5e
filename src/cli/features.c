#include "cli/common.h"

#include <stdio.h>

static const cli_flag flags[] = {
    CLI_FLAG_MODEL("FILE|NAME"),
    {"--out", CLI_TEXT, true, "X.npy", .help = "file for the matrix, one row a picture"},
    CLI_FLAG_PREPROCESS,
    CLI_FLAG_DTYPE,
    CLI_FLAG_THREADS,
    CLI_FLAG_LOW_MEMORY,
    CLI_FLAG_PACKED_CACHE,
    CLI_FLAG_JSON,
    {0},
};

static int show(const cli_session *session, const tl_model *model, const tl_tensor *matrix) {
    const cli_args *args = session->args;
    const char *out = cli_text(args, "--out");
    long long rows = tl_tensor_shape(matrix)[0], columns = tl_tensor_shape(matrix)[1];
    if (cli_given(args, "--json")) {
        json_t *object = json_pack("{s:o, s:[I, I]}", "out", cli_json_text(out), "shape",
                                   (json_int_t)rows, (json_int_t)columns);
        return cli_print_computed(session, model, object);
    }
    printf("%s: %lld pictures x %lld features\n", out, rows, columns);
    return CLI_OK;
}

static tl_status extract(const cli_args *args, const tl_model *model, tl_tensor *matrix) {
    float *row = tl_tensor_data(matrix);
    cli_progress bar;
    cli_progress_begin(&bar, "features");
    tl_status status = TL_OK;
    for (int i = 0; i < args->operand_count && status == TL_OK; i++) {
        status = tl_model_features_file(model, args->operands[i], row);
        row += tl_model_feature_count(model);
        cli_progress_show(&bar, i + 1, args->operand_count, "");
    }
    cli_progress_clear(&bar);
    return status;
}

static int write_features(const cli_session *session, tl_model *model) {
    const cli_args *args = session->args;
    tl_tensor *matrix = NULL;
    int64_t shape[2] = {args->operand_count, tl_model_feature_count(model)};
    tl_status status = tl_tensor_create(session->ctx, TL_F32, 2, shape, &matrix);
    if (status == TL_OK) status = extract(args, model, matrix);
    if (status == TL_OK) status = tl_tensor_save_npy(matrix, cli_text(args, "--out"));
    int result = status == TL_OK ? show(session, model, matrix) : cli_failed(session);
    tl_tensor_free(matrix);
    return result;
}

static int run(const cli_args *args) {
    return cli_with_model(args, cli_text(args, "--model"), write_features);
}

const cli_command cli_features = {
    .name = "features",
    .summary = "write pictures' feature vectors as a NumPy file",
    .operands = "IMAGE...",
    .least = 1,
    .most = -1,
    .flags = flags,
    .run = run,
};
