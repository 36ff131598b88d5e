#include "cli/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_command *const commands[] = {
    &cli_finetune, &cli_eval,    &cli_predict,   &cli_features, &cli_run,   &cli_inspect,
    &cli_verify,   &cli_convert, &cli_backbones, &cli_fetch,    &cli_bench,
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_overview(FILE *stream) {
    fputs("usage: tl COMMAND [FLAGS] [ARGUMENTS]\n"
          "Transfer learning on images: fine-tune a pretrained network, use and examine it.\n\n"
          "commands:\n",
          stream);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(stream, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n`tl COMMAND --help` lists a command's flags; `tl --version` prints the version.\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage.\n",
          stream);
}

static const cli_command *find_command(const char *name) {
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int unknown_command(const char *name) {
    fprintf(stderr, "tl: unknown command \"%s\"; the commands are", name);
    for (int i = 0; i < COMMAND_COUNT; i++) fprintf(stderr, " %s", commands[i]->name);
    fputc('\n', stderr);
    return CLI_USAGE;
}

static bool asks_for_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

static int run_command(const cli_command *command, int argc, char **argv) {
    if (asks_for_help(argc, argv)) {
        cli_print_help(command);
        return CLI_OK;
    }
    char **operands = calloc((size_t)argc + 1, sizeof *operands);
    if (!operands) return CLI_FAILED;
    cli_args args;
    int status = cli_parse(command, argc, argv, operands, &args);
    if (status == CLI_OK) status = command->run(&args);
    free(operands);
    return status;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    bool help = strcmp(argv[1], "help") == 0;
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || (help && argc == 2)) {
        print_overview(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("tl %s\n", tl_version());
        return CLI_OK;
    }
    const char *name = argv[help ? 2 : 1];
    const cli_command *command = find_command(name);
    if (!command) return unknown_command(name);
    if (help) {
        cli_print_help(command);
        return CLI_OK;
    }
    return run_command(command, argc - 2, argv + 2);
}

int main(int argc, char **argv) {
    int status = dispatch(argc, argv);
    /* A full disk shows up here at the latest. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("tl: standard output cannot be written\n", stderr);
        if (status == CLI_OK) status = CLI_FAILED;
    }
    return status;
}
