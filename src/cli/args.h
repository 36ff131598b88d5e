/* tl - command line flags, declared in one table per command.
 *
 * Wrong usage ends the program with status 2 and one line that names the flag and the choices, so
 * that a command's own code only ever sees values of the declared kind. */
#ifndef TL_CLI_ARGS_H
#define TL_CLI_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CLI_MAX_FLAGS 40

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef enum cli_kind {
    CLI_TEXT,   /* anything */
    CLI_SWITCH, /* takes no value */
    CLI_COUNT,  /* a whole number from 1 that an int can hold */
    CLI_WHOLE,  /* the same from 0 */
    CLI_REAL    /* a finite number */
} cli_kind;

typedef struct cli_flag {
    const char *name; /* "--batch"; NULL ends the table */
    cli_kind kind;
    bool required;
    const char *value; /* what stands for the value in the help; "a|b|c" with `choices` */
    bool choices;      /* only the values listed in `value` are accepted */
    const char *help;
    const char *preset; /* default shown in the help, and given by the getters below; or NULL */
    bool may_be_empty;  /* CLI_TEXT: "" is a value too */
    const char *alias;  /* another name, which the help does not show; or NULL */
} cli_flag;

typedef struct cli_args cli_args;

typedef struct cli_command {
    const char *name;
    const char *summary;
    const char *operands; /* what follows the flags ("IMAGE..."), NULL for nothing */
    int least, most;      /* how many operands; most < 0 for any number */
    const cli_flag *flags;
    int (*run)(const cli_args *args); /* returns one of CLI_OK, CLI_FAILED, CLI_USAGE */
} cli_command;

struct cli_args {
    const cli_command *command;
    const char *values[CLI_MAX_FLAGS]; /* by the flag's place in the table; NULL when not given */
    char **operands;
    int operand_count;
};

/* Parses what follows the command's name. Returns CLI_OK, or CLI_USAGE after a line on stderr.
 * `operands` has room for argc pointers. */
int cli_parse(const cli_command *command, int argc, char **argv, char **operands, cli_args *args);
void cli_print_help(const cli_command *command);

/* What follows the flags, the first of it, or NULL. */
const char *cli_operand(const cli_args *args);
/* Values by flag name: as given, else the table's preset, else NULL or 0. */
const char *cli_text(const cli_args *args, const char *name);
bool cli_given(const cli_args *args, const char *name);
int64_t cli_whole(const cli_args *args, const char *name);

/* Writes text that a file may have chosen: control characters as \n or \x1b, so that a message
 * stays one line and no name can steer the terminal. */
void cli_put(FILE *stream, const char *text);

/* "tl COMMAND: message", one line on stderr; returns the exit status of its name. */
int cli_fail(const cli_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_misuse(const cli_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
