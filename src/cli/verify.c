#include "cli/common.h"

#include <stdio.h>

static const cli_flag flags[] = {CLI_FLAG_THREADS, CLI_FLAG_JSON, {0}};

static int show(const cli_args *args, double error) {
    const char *path = args->operands[0];
    if (cli_given(args, "--json"))
        return cli_print_json(args, json_pack("{s:o, s:b, s:f}", "model", cli_json_text(path), "ok",
                                              1, "max_error", error));
    printf("%s: gives the recorded answers; largest difference %.2g\n", path, error);
    return CLI_OK;
}

static int verify(const cli_session *session, tl_model *model) {
    double error = 0;
    if (tl_model_verify(model, &error) != TL_OK) return cli_failed(session);
    return show(session->args, error);
}

static int run(const cli_args *args) {
    return cli_with_model(args, cli_operand(args), verify);
}

const cli_command cli_verify = {
    .name = "verify",
    .summary = "prove that a saved model still gives the answers recorded in it",
    .operands = "MODEL",
    .least = 1,
    .most = 1,
    .flags = flags,
    .run = run,
};
