/* tl - what the commands share: the context, progress on a terminal, JSON and tables. */
#ifndef TL_CLI_COMMON_H
#define TL_CLI_COMMON_H

#include "cli/args.h"

#include <jansson.h>
#include <tl/tl.h>

/* --- session.c: one context and the messages it sent --------------------------------------- */

enum { CLI_KEPT_WARNINGS = 10 };

typedef struct cli_session {
    const cli_args *args;
    tl_context *ctx;
    tl_dtype dtype; /* of --dtype, or f32 where the machine does not have that */
    char *warnings[CLI_KEPT_WARNINGS];
    int warning_count; /* all of them, also those not kept */
} cli_session;

/* Creates the context with --threads, --low-memory and --isa where the command has them, and
 * settles --dtype: with a line on stderr when it cannot be as asked. Returns an exit status. */
int cli_session_open(cli_session *session, const cli_args *args);
/* Frees the context; when the job went well, shows the warnings on stderr first. Returns `status`.
 */
int cli_session_close(cli_session *session, int status);
/* Opens a session, loads the model `name` or, when that is NULL, builds --arch with random weights,
 * sets --preprocess, --dtype and --packed-cache where the command has them, lets `work` use the
 * model and closes the session. */
int cli_with_model(const cli_args *args, const char *name,
                   int (*work)(const cli_session *session, tl_model *model));
/* Reports the library's last error as this command's failure. */
int cli_failed(const cli_session *session);

/* --- memory.c ------------------------------------------------------------------------------- */

enum { CLI_MB = 1024 * 1024 };
/* Of this process, in bytes. */
double cli_rss(void);
double cli_peak_rss(void);
/* The peak of a process whose context will hold at most `total` bytes: what this one has resident
 * beside its context's memory comes on top. */
double cli_predicted_rss(const cli_session *session, size_t total);

/* --- progress.c ----------------------------------------------------------------------------- */

/* A bar with the time left on stderr: on a terminal only, and only for work of over two seconds. */
typedef struct cli_progress {
    const char *label;
    double start;     /* seconds */
    double last_draw; /* 0 = not yet drawn */
} cli_progress;

double cli_seconds(void); /* of a monotonic clock */
void cli_progress_begin(cli_progress *progress, const char *label);
void cli_progress_show(cli_progress *progress, int64_t done, int64_t total, const char *note);
void cli_progress_clear(cli_progress *progress);

/* --- output.c --------------------------------------------------------------------------------- */

/* Dimensions, a list of numbers, as "112x112x64". */
enum { CLI_SHAPE_TEXT = 80 };
void cli_shape_text(const json_t *dimensions, char text[CLI_SHAPE_TEXT]);
/* A JSON string of any bytes: those that are not UTF-8 become U+FFFD. NULL when out of memory. */
json_t *cli_json_text(const char *text);
/* Writes `object` (which is released) as one line on stdout. NULL counts as out of memory. */
int cli_print_json(const cli_args *args, json_t *object);
/* The same, with the dtype that was computed in and what became of --packed-cache, if that was
 * given. */
int cli_print_computed(const cli_session *session, const tl_model *model, json_t *object);

/* A table like scikit-learn's classification_report(), then the confusion matrix. */
void cli_print_evaluation(const tl_model *model, const tl_evaluation *evaluation);
json_t *cli_evaluation_json(const tl_model *model, const tl_evaluation *evaluation);

/* --- the commands, one file each -------------------------------------------------------------- */

extern const cli_command cli_finetune, cli_eval, cli_predict, cli_features, cli_run, cli_inspect,
    cli_verify, cli_convert, cli_backbones, cli_fetch, cli_bench;

/* Flags that several commands have. */
#define CLI_FLAG_JSON                                                                              \
    { "--json", CLI_SWITCH, .help = "print JSON on standard output" }
#define CLI_FLAG_THREADS                                                                           \
    { "--threads", CLI_COUNT, .value = "T", .help = "compute threads (default: one per core)" }
#define CLI_FLAG_DTYPE                                                                             \
    {                                                                                              \
        "--dtype", CLI_TEXT, .value = "f32|bf16", .choices = true,                                 \
                             .help = "type of the computation", .preset = "f32"                    \
    }
#define CLI_FLAG_LOW_MEMORY                                                                        \
    { "--low-memory", CLI_SWITCH, .help = "smaller packed weights, slower convolutions" }
#define CLI_FLAG_PACKED_CACHE                                                                      \
    {                                                                                              \
        "--packed-cache", CLI_TEXT, .value = "FILE|auto",                                          \
                                    .help = "keep packed weights in FILE (auto: beside the "       \
                                            "network's) for a faster start"                        \
    }
#define CLI_FLAG_MODEL(what)                                                                       \
    { "--model", CLI_TEXT, .required = true, .value = what, .help = "the network" }
#define CLI_FLAG_ARCH                                                                              \
    {                                                                                              \
        "--arch", CLI_TEXT, .value = "NAME",                                                       \
                            .help = "instead of a file: a network of random weights (see tl "      \
                                    "backbones)"                                                   \
    }
#define CLI_FLAG_PREPROCESS                                                                        \
    {                                                                                              \
        "--preprocess", CLI_TEXT, .value = "NAME",                                                 \
                                  .help = "preprocessing other than the network's own"             \
    }

#endif
