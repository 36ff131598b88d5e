#include "cli/args.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 28 };

void cli_put(FILE *stream, const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '\n') {
            fputs("\\n", stream);
        } else if (*c < ' ' || *c == 127) {
            fprintf(stream, "\\x%02x", *c);
        } else {
            putc(*c, stream);
        }
    }
}

static void complain(const char *command, const char *format, va_list list) {
    char *text = NULL;
    if (vasprintf(&text, format, list) < 0) text = NULL;
    fprintf(stderr, "tl %s: ", command);
    cli_put(stderr, text ? text : "out of memory");
    fputc('\n', stderr);
    free(text);
}

int cli_fail(const cli_args *args, const char *format, ...) {
    va_list list;
    va_start(list, format);
    complain(args->command->name, format, list);
    va_end(list);
    return CLI_FAILED;
}

int cli_misuse(const cli_args *args, const char *format, ...) {
    va_list list;
    va_start(list, format);
    complain(args->command->name, format, list);
    va_end(list);
    return CLI_USAGE;
}

/* The place in the table of the flag whose name is the first `length` bytes of `text`, or -1. */
static int find_flag(const cli_command *command, const char *text, size_t length) {
    for (int i = 0; command->flags[i].name; i++) {
        const char *names[] = {command->flags[i].name, command->flags[i].alias};
        for (int j = 0; j < 2; j++)
            if (names[j] && strlen(names[j]) == length && memcmp(names[j], text, length) == 0)
                return i;
    }
    return -1;
}

static int unknown_flag(const cli_args *args, const char *text, size_t length) {
    fprintf(stderr, "tl %s: unknown flag %.*s; the flags are", args->command->name, (int)length,
            text);
    for (const cli_flag *flag = args->command->flags; flag->name; flag++)
        fprintf(stderr, " %s", flag->name);
    fputs(" --help\n", stderr);
    return CLI_USAGE;
}

static bool is_choice(const char *choices, const char *value) {
    size_t length = strlen(value);
    for (const char *at = choices;; at++) {
        size_t span = strcspn(at, "|");
        if (span == length && memcmp(at, value, span) == 0) return true;
        at += span;
        if (!*at) return false;
    }
}

static bool is_whole(const char *text, int64_t least) {
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    return end != text && !*end && !errno && number >= least && number <= INT_MAX;
}

static bool is_real(const char *text) {
    char *end;
    double number = strtod(text, &end);
    return end != text && !*end && isfinite(number);
}

static int check_value(const cli_args *args, const cli_flag *flag, const char *value) {
    const char *expected = NULL;
    switch (flag->kind) {
    case CLI_TEXT:
        if (flag->choices && !is_choice(flag->value, value)) expected = flag->value;
        if (!*value && !flag->may_be_empty) expected = flag->value;
        break;
    case CLI_COUNT:
        if (!is_whole(value, 1)) expected = "a whole number from 1 to 2147483647";
        break;
    case CLI_WHOLE:
        if (!is_whole(value, 0)) expected = "a whole number from 0 to 2147483647";
        break;
    case CLI_REAL:
        if (!is_real(value)) expected = "a number";
        break;
    case CLI_SWITCH:
        break;
    }
    if (!expected) return CLI_OK;
    return cli_misuse(args, "%s is \"%s\"; expected %s", flag->name, value, expected);
}

/* Takes the flag at argv[*at], and its value, which may follow as "--flag value" or "--flag=value".
 */
static int take_flag(cli_args *args, int argc, char **argv, int *at) {
    const char *text = argv[*at];
    size_t length = strcspn(text, "=");
    int index = find_flag(args->command, text, length);
    if (index < 0) return unknown_flag(args, text, length);
    const cli_flag *flag = &args->command->flags[index];
    const char *value = text[length] ? text + length + 1 : NULL;
    if (args->values[index]) return cli_misuse(args, "%s is given twice", flag->name);
    if (flag->kind == CLI_SWITCH) {
        if (value) return cli_misuse(args, "%s takes no value", flag->name);
        value = "true";
    } else if (!value) {
        if (*at + 1 >= argc) {
            return cli_misuse(args, "%s needs a value: %s", flag->name, flag->value);
        }
        value = argv[++*at];
    }
    args->values[index] = value;
    return check_value(args, flag, value);
}

static int check_complete(const cli_args *args) {
    const cli_command *command = args->command;
    for (int i = 0; command->flags[i].name; i++) {
        const cli_flag *flag = &command->flags[i];
        if (flag->required && !args->values[i])
            return cli_misuse(args, "%s %s is required", flag->name, flag->value);
    }
    if (args->operand_count < command->least)
        return cli_misuse(args, "%s is required", command->operands);
    if (command->most >= 0 && args->operand_count > command->most)
        return cli_misuse(args, "\"%s\" is one argument too many", args->operands[command->most]);
    return CLI_OK;
}

int cli_parse(const cli_command *command, int argc, char **argv, char **operands, cli_args *args) {
    *args = (cli_args){.command = command, .operands = operands};
    bool flags = true;
    for (int i = 0; i < argc; i++) {
        if (flags && strcmp(argv[i], "--") == 0) {
            flags = false;
        } else if (flags && argv[i][0] == '-' && argv[i][1]) {
            int status = take_flag(args, argc, argv, &i);
            if (status != CLI_OK) return status;
        } else {
            operands[args->operand_count++] = argv[i];
        }
    }
    return check_complete(args);
}

void cli_print_help(const cli_command *command) {
    printf("usage: tl %s", command->name);
    for (const cli_flag *flag = command->flags; flag->name; flag++)
        if (flag->required) printf(" %s %s", flag->name, flag->value);
    printf("%s%s%s\n%s\n", command->flags->name ? " [FLAGS]" : "", command->operands ? " " : "",
           command->operands ? command->operands : "", command->summary);
    if (!command->flags->name) return;
    puts("\nflags:");
    for (const cli_flag *flag = command->flags; flag->name; flag++) {
        char left[80];
        snprintf(left, sizeof left, "%s %s", flag->name, flag->value ? flag->value : "");
        printf("  %-*s ", HELP_COLUMN, left);
        if (strlen(left) > HELP_COLUMN) printf("\n  %-*s ", HELP_COLUMN, "");
        fputs(flag->help, stdout);
        if (flag->required) fputs(" (required)", stdout);
        if (flag->preset) printf(" (default %s)", flag->preset);
        putchar('\n');
    }
}

static int index_of(const cli_args *args, const char *name) {
    return find_flag(args->command, name, strlen(name));
}

bool cli_given(const cli_args *args, const char *name) {
    int index = index_of(args, name);
    return index >= 0 && args->values[index];
}

const char *cli_operand(const cli_args *args) {
    return args->operand_count ? args->operands[0] : NULL;
}

const char *cli_text(const cli_args *args, const char *name) {
    int index = index_of(args, name);
    if (index < 0) return NULL;
    return args->values[index] ? args->values[index] : args->command->flags[index].preset;
}

int64_t cli_whole(const cli_args *args, const char *name) {
    const char *text = cli_text(args, name);
    return text ? strtoll(text, NULL, 10) : 0;
}
