#include "cli/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void keep_warning(void *user, tl_log_level level, const char *message) {
    cli_session *session = user;
    if (level != TL_LOG_WARNING) return;
    if (session->warning_count < CLI_KEPT_WARNINGS)
        session->warnings[session->warning_count] = strdup(message);
    session->warning_count++;
}

/* A machine without bf16 computes the same in f32, more slowly. */
static void settle_dtype(cli_session *session) {
    const char *name = cli_text(session->args, "--dtype");
    if (!name || tl_dtype_parse(name, &session->dtype) != TL_OK) return; /* the flag has choices */
    if (tl_context_check_dtype(session->ctx, session->dtype) == TL_OK) return;
    fprintf(stderr, "tl %s: --%s; computing in f32\n", session->args->command->name,
            tl_last_error());
    session->dtype = TL_F32;
}

int cli_session_open(cli_session *session, const cli_args *args) {
    *session = (cli_session){.args = args};
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = (int)cli_whole(args, "--threads");
    options.low_memory = cli_given(args, "--low-memory");
    options.isa = cli_text(args, "--isa");
    options.log = keep_warning;
    options.log_user = session;
    tl_status status = tl_context_create(&options, &session->ctx);
    if (status == TL_OK) {
        settle_dtype(session);
        return CLI_OK;
    }
    const char *text = tl_last_error();
    if (status == TL_NO_MEMORY) return cli_fail(args, "%s", text);
    /* The library's "threads is ..." is our "--threads is ...". */
    return cli_misuse(args, "%s%s", strncmp(text, "threads ", 8) == 0 ? "--" : "", text);
}

static void show_warnings(const cli_session *session) {
    int kept =
        session->warning_count < CLI_KEPT_WARNINGS ? session->warning_count : CLI_KEPT_WARNINGS;
    for (int i = 0; i < kept; i++) {
        if (!session->warnings[i]) continue;
        fprintf(stderr, "tl %s: warning: ", session->args->command->name);
        cli_put(stderr, session->warnings[i]);
        fputc('\n', stderr);
    }
    if (session->warning_count > kept)
        fprintf(stderr, "tl %s: %d more warnings\n", session->args->command->name,
                session->warning_count - kept);
}

int cli_session_close(cli_session *session, int status) {
    if (status == CLI_OK) show_warnings(session);
    for (int i = 0; i < CLI_KEPT_WARNINGS; i++) free(session->warnings[i]);
    tl_context_free(session->ctx);
    *session = (cli_session){0};
    return status;
}

int cli_failed(const cli_session *session) {
    return cli_fail(session->args, "%s", tl_last_error());
}

/* Refused here, since the library takes it for a failure and this command for misuse. */
static int check_arch(const cli_args *args, const char *arch) {
    int count = tl_backbone_count();
    for (int i = 0; i < count; i++)
        if (strcmp(arch, tl_backbone_name(i)) == 0) return CLI_OK;
    fprintf(stderr, "tl %s: --arch is \"%s\"; expected one of", args->command->name, arch);
    for (int i = 0; i < count; i++) fprintf(stderr, " %s", tl_backbone_name(i));
    fputc('\n', stderr);
    return CLI_USAGE;
}

static int check_network(const cli_args *args, const char *name) {
    const char *arch = cli_text(args, "--arch");
    if (!arch && !name)
        return cli_misuse(args,
                          "a network is required: its file, or --arch NAME (see tl backbones)");
    if (arch && name) return cli_misuse(args, "%s and --arch %s are two networks", name, arch);
    return arch ? check_arch(args, arch) : CLI_OK;
}

int cli_with_model(const cli_args *args, const char *name,
                   int (*work)(const cli_session *session, tl_model *model)) {
    int result = check_network(args, name);
    if (result != CLI_OK) return result;
    cli_session session;
    result = cli_session_open(&session, args);
    if (result != CLI_OK) return result;
    tl_model *model = NULL;
    tl_status status = name ? tl_model_load(session.ctx, name, &model)
                            : tl_model_create(session.ctx, cli_text(args, "--arch"), 0, 1, &model);
    const char *preprocess = cli_text(args, "--preprocess");
    if (status == TL_OK && preprocess) status = tl_model_set_preprocess(model, preprocess);
    if (status == TL_OK) status = tl_model_set_dtype(model, session.dtype);
    const char *cache = cli_text(args, "--packed-cache");
    if (status == TL_OK && cache) status = tl_model_set_packed_cache(model, cache);
    result = status == TL_OK ? work(&session, model) : cli_failed(&session);
    tl_model_free(model);
    return cli_session_close(&session, result);
}
