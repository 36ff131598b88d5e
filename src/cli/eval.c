#include "cli/common.h"

#include <stdio.h>

static const cli_flag flags[] = {
    CLI_FLAG_MODEL("FILE|NAME"),
    {"--data", CLI_TEXT, true, "DIR", .help = "folder with one subfolder of pictures per class"},
    {"--batch", CLI_COUNT, .value = "N", .help = "pictures at a time", .preset = "32"},
    CLI_FLAG_PREPROCESS,
    CLI_FLAG_DTYPE,
    CLI_FLAG_THREADS,
    CLI_FLAG_LOW_MEMORY,
    CLI_FLAG_PACKED_CACHE,
    CLI_FLAG_JSON,
    {0},
};

static int show(const cli_session *session, const tl_model *model, const tl_dataset *dataset,
                const tl_evaluation *evaluation) {
    const cli_args *args = session->args;
    int64_t skipped = tl_dataset_skipped_count(dataset);
    if (cli_given(args, "--json")) {
        json_t *object = cli_evaluation_json(model, evaluation);
        if (object) json_object_set_new(object, "skipped", json_integer(skipped));
        return cli_print_computed(session, model, object);
    }
    cli_print_evaluation(model, evaluation);
    printf("\n%lld pictures (%lld skipped), loss %.4f\n",
           (long long)tl_evaluation_count(evaluation), (long long)skipped,
           tl_evaluation_loss(evaluation));
    return CLI_OK;
}

static int evaluate(const cli_session *session, tl_model *model) {
    const cli_args *args = session->args;
    tl_dataset *dataset = NULL;
    tl_evaluation *evaluation = NULL;
    tl_status status = tl_dataset_open(session->ctx, cli_text(args, "--data"), &dataset);
    if (status == TL_OK)
        status = tl_evaluate(model, dataset, (int)cli_whole(args, "--batch"), &evaluation);
    int result = status == TL_OK ? show(session, model, dataset, evaluation) : cli_failed(session);
    tl_evaluation_free(evaluation);
    tl_dataset_free(dataset);
    return result;
}

static int run(const cli_args *args) {
    return cli_with_model(args, cli_text(args, "--model"), evaluate);
}

const cli_command cli_eval = {
    .name = "eval",
    .summary = "measure a classifier on a folder of labelled pictures",
    .flags = flags,
    .run = run,
};
