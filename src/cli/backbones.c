#include "cli/common.h"

#include <stdio.h>
#include <string.h>

static const cli_flag flags[] = {CLI_FLAG_JSON, {0}};

/* The description of backbone `index`; NULL when something failed. */
static json_t *describe(const cli_session *session, int index) {
    char *text = NULL;
    if (tl_backbone_describe(session->ctx, tl_backbone_name(index), &text) != TL_OK) return NULL;
    json_t *json = json_loads(text, 0, NULL);
    tl_string_free(session->ctx, text);
    return json;
}

/* "torchvision timm: torchvision, keras: keras-caffe": the schemes that share a preset together. */
static void print_schemes(const json_t *schemes) {
    size_t count = json_array_size(schemes);
    const char *last = "";
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(schemes, i);
        const char *preset = json_string_value(json_object_get(item, "preprocess"));
        const char *scheme = json_string_value(json_object_get(item, "scheme"));
        if (i > 0 && strcmp(preset, last) == 0) {
            printf("/%s", scheme);
            continue;
        }
        if (i > 0) printf(": %s, ", last);
        fputs(scheme, stdout);
        last = preset;
    }
    printf(": %s\n", last);
}

static void print_row(const json_t *row) {
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *path = json_string_value(json_object_get(row, "weights"));
    bool fetch = json_is_true(json_object_get(row, "fetch"));
    printf("%-18s %8.1f M  %3d px  %-9s  ", name,
           (double)json_integer_value(json_object_get(row, "parameters")) / 1e6,
           (int)json_integer_value(json_object_get(row, "input")),
           path    ? "here"
           : fetch ? "tl fetch"
                   : "-");
    print_schemes(json_object_get(row, "schemes"));
}

/* Every backbone's row into `networks`, which stays shorter when one fails. */
static int list(const cli_session *session, json_t *networks) {
    for (int i = 0; i < tl_backbone_count(); i++) {
        json_t *row = describe(session, i);
        if (!row) return cli_failed(session);
        json_array_append_new(networks, row);
    }
    return CLI_OK;
}

static int show_json(const cli_args *args, json_t *networks) {
    json_t *names = json_array();
    for (int i = 0; i < tl_backbone_count(); i++)
        json_array_append_new(names, json_string(tl_backbone_name(i)));
    return cli_print_json(args, json_pack("{s:o, s:O}", "backbones", names, "networks", networks));
}

static int show_text(json_t *networks) {
    printf("%-18s %10s  %6s  %-9s  %s\n", "name", "parameters", "input", "weights",
           "whose files: preprocessing");
    for (size_t i = 0; i < json_array_size(networks); i++) print_row(json_array_get(networks, i));
    return CLI_OK;
}

static int run(const cli_args *args) {
    cli_session session;
    int result = cli_session_open(&session, args);
    if (result != CLI_OK) return result;
    json_t *networks = json_array();
    result = list(&session, networks);
    if (result == CLI_OK)
        result = cli_given(args, "--json") ? show_json(args, networks) : show_text(networks);
    json_decref(networks);
    return cli_session_close(&session, result);
}

const cli_command cli_backbones = {
    .name = "backbones",
    .summary = "list the known networks",
    .flags = flags,
    .run = run,
};
