#include "cli/common.h"

#include <stdio.h>

static const cli_flag flags[] = {CLI_FLAG_JSON, {0}};

static int run(const cli_args *args) {
    int count = tl_backbone_count();
    if (!cli_given(args, "--json")) {
        for (int i = 0; i < count; i++) puts(tl_backbone_name(i));
        return CLI_OK;
    }
    json_t *names = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(names, json_string(tl_backbone_name(i)));
    return cli_print_json(args, json_pack("{s:o}", "backbones", names));
}

const cli_command cli_backbones = {
    .name = "backbones",
    .summary = "list the known networks",
    .flags = flags,
    .run = run,
};
