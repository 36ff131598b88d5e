#include "cli/common.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every flag here but the last two is an option of tl_finetune_options, with dashes for
 * underscores. */
static const cli_flag flags[] = {
    {"--backbone", CLI_TEXT, true, "FILE|NAME", .help = "pretrained network (see tl backbones)"},
    {"--data", CLI_TEXT, true, "DIR", .help = "folder with one subfolder of pictures per class"},
    {"--out", CLI_TEXT, true, "MODEL", .help = "file to save the classifier to"},
    {"--val", CLI_TEXT, .value = "DIR", .help = "validation pictures; default: a part of --data"},
    {"--val-split", CLI_REAL, .value = "SHARE", .help = "part of --data kept for validation",
     .preset = "0.2"},
    {"--report", CLI_TEXT, .value = "FILE.html", .help = "write a self-contained report"},
    {"--epochs", CLI_COUNT, .value = "N", .help = "most epochs", .preset = "30"},
    {"--patience", CLI_WHOLE, .value = "N",
     .help = "stop after N epochs without better validation loss; 0 = never", .preset = "5"},
    {"--restore-best", CLI_TEXT, .value = "true|false", .choices = true,
     .help = "end with the best epoch's weights", .preset = "true"},
    {"--batch", CLI_COUNT, .value = "N", .help = "pictures a step", .preset = "32"},
    {"--optimizer", CLI_TEXT, .value = "sgd|adam|adamw|rmsprop", .choices = true,
     .help = "optimiser", .preset = "adam"},
    {"--style", CLI_TEXT, .value = "keras|pytorch", .choices = true, .help = "whose update rule",
     .preset = "keras"},
    {"--lr", CLI_REAL, .value = "X",
     .help = "learning rate (default: the optimiser's own, of adam 0.001)"},
    {"--momentum", CLI_REAL, .value = "X", .help = "of sgd and rmsprop", .preset = "0"},
    {"--nesterov", CLI_SWITCH, .help = "Nesterov momentum for sgd"},
    {"--weight-decay", CLI_REAL, .value = "X",
     .help = "weight decay (default: the optimiser's own, 0 but for adamw)"},
    {"--head", CLI_TEXT, .value = "LAYERS",
     .help = "layers before the classifier, as 256,relu,dropout:0.5", .may_be_empty = true},
    {"--pool", CLI_TEXT, .value = "gap|gmp|flatten", .choices = true,
     .help = "how the feature map enters the head", .preset = "gap"},
    {"--activation", CLI_TEXT, .value = "softmax|sigmoid", .choices = true,
     .help = "of the classifier; sigmoid: two classes, one unit", .preset = "softmax"},
    {"--freeze", CLI_TEXT, .value = "all|none|PREFIX",
     .help = "backbone layers that stay as they are", .preset = "all"},
    {"--augment", CLI_TEXT, .value = "SPEC", .help = "as flip,rotation:40,shift:0.2,zoom:0.2",
     .may_be_empty = true},
    {"--batch-norm-training", CLI_SWITCH, .help = "thawed batch norms use batch statistics"},
    {"--preprocess", CLI_TEXT, .value = "NAME", .help = "preprocessing other than the backbone's"},
    {"--image-size", CLI_COUNT, .value = "PIXELS", .help = "input side other than the backbone's"},
    {"--max-skipped", CLI_REAL, .value = "SHARE", .help = "most unreadable pictures accepted",
     .preset = "0.5"},
    CLI_FLAG_DTYPE,
    {"--seed", CLI_TEXT, .value = "S", .help = "of split, order, weights, dropout", .preset = "0"},
    CLI_FLAG_THREADS,
    CLI_FLAG_LOW_MEMORY,
    CLI_FLAG_JSON,
    {0},
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

/* The first Ctrl-C asks tl_finetune() to stop; a second one ends the program as usual. */
static void catch_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

typedef struct watcher {
    bool table;  /* print a row for each epoch */
    bool header; /* the table has begun */
    bool training;
    cli_progress bar;
} watcher;

static void print_row(watcher *watch, const tl_progress *now) {
    cli_progress_clear(&watch->bar);
    if (!watch->header) puts("epoch      loss  accuracy  val_loss  val_accuracy");
    watch->header = true;
    printf("%5d  %8.4f  %8.4f  %8.4f  %12.4f\n", now->epoch, now->loss, now->accuracy,
           now->val_loss, now->val_accuracy);
    fflush(stdout);
}

/* One bar for the features, then one for all epochs; it rests while an epoch is evaluated. */
static void show_bar(watcher *watch, const tl_progress *now) {
    bool training = now->phase == TL_PHASE_TRAIN;
    if (now->phase == TL_PHASE_EVALUATE) return;
    if (!watch->bar.label || training != watch->training) {
        cli_progress_clear(&watch->bar);
        cli_progress_begin(&watch->bar, training ? "training" : "features");
        watch->training = training;
    }
    if (!training) {
        cli_progress_show(&watch->bar, now->done, now->total, "");
        return;
    }
    char note[80];
    snprintf(note, sizeof note, "epoch %d of at most %d  loss %.4f", now->epoch, now->epochs,
             now->loss);
    cli_progress_show(&watch->bar, (now->epoch - 1) * now->total + now->done,
                      now->epochs * now->total, note);
}

static int on_progress(void *user, const tl_progress *now) {
    watcher *watch = user;
    bool epoch_ended = now->phase == TL_PHASE_TRAIN && now->done == now->total;
    if (epoch_ended && watch->table) print_row(watch, now);
    show_bar(watch, now);
    return interrupted;
}

enum { TEXT_CAPACITY = 2048 };

/* "option val_split is ..." of the library, named as the user knows it: "--val-split is ...". */
static const char *with_flag(const char *text, char changed[TEXT_CAPACITY]) {
    if (strncmp(text, "option ", 7) != 0) return text;
    snprintf(changed, TEXT_CAPACITY, "--%s", text + 7);
    for (char *at = changed; *at && *at != ' ' && *at != ':'; at++)
        if (*at == '_') *at = '-';
    return changed;
}

/* Reports why a flag's value was refused, and the flag, which not every text names. */
static int refused(const cli_args *args, const char *flag) {
    char changed[TEXT_CAPACITY];
    const char *text = with_flag(tl_last_error(), changed);
    size_t length = strlen(flag) - 2;
    if (text == changed) return cli_misuse(args, "%s", text);
    if (strncmp(text, flag + 2, length) == 0 && text[length] == ':') text += length + 2;
    return cli_misuse(args, "%s: %s", flag, text);
}

/* Hands every given flag to the option of its name. Returns an exit status. */
static int set_options(const cli_session *session, tl_finetune_options *options) {
    const cli_args *args = session->args;
    for (int i = 0; flags[i].name; i++) {
        const char *value = args->values[i];
        if (!value || strcmp(flags[i].name, "--threads") == 0 ||
            strcmp(flags[i].name, "--low-memory") == 0 || strcmp(flags[i].name, "--json") == 0)
            continue;
        if (strcmp(flags[i].name, "--dtype") == 0) value = tl_dtype_name(session->dtype);
        char key[64];
        snprintf(key, sizeof key, "%s", flags[i].name + 2);
        for (char *at = key; *at; at++)
            if (*at == '-') *at = '_';
        if (tl_finetune_options_set(options, key, value) != TL_OK)
            return refused(args, flags[i].name);
    }
    return CLI_OK;
}

static double number(const tl_report *report, const char *key) {
    double value = NAN;
    (void)tl_report_number(report, key, &value);
    return value;
}

static void print_summary(const cli_args *args, const tl_model *model, const tl_report *report) {
    printf("\nvalidation accuracy %.4f, loss %.4f (%.0f epochs, best %.0f)\n\n",
           number(report, "val_accuracy"), number(report, "val_loss"), number(report, "epochs_run"),
           number(report, "best_epoch"));
    cli_print_evaluation(model, tl_report_evaluation(report));
    printf("\n%.0f pictures (%.0f skipped) in %.1f s: features %.1f s, training %.1f s; "
           "%.0f threads, peak memory %.0f MB\n",
           number(report, "images"), number(report, "skipped"), number(report, "seconds"),
           number(report, "features_seconds"), number(report, "head_seconds"),
           number(report, "threads"), number(report, "peak_rss_mb"));
    printf("model:  %s\n", cli_text(args, "--out"));
    if (cli_given(args, "--report")) printf("report: %s\n", cli_text(args, "--report"));
}

static int train(cli_session *session, const tl_finetune_options *options, watcher *watch) {
    tl_model *model = NULL;
    tl_report *report = NULL;
    catch_interrupt();
    tl_status status = tl_finetune(session->ctx, options, &model, &report);
    cli_progress_clear(&watch->bar);
    int result = CLI_OK;
    if (status == TL_OK) {
        if (cli_given(session->args, "--json")) {
            puts(tl_report_json(report));
        } else {
            print_summary(session->args, model, report);
        }
    } else if (status == TL_CANCELLED) {
        result = cli_fail(session->args, "cancelled; nothing was written");
    } else {
        char changed[TEXT_CAPACITY];
        result = cli_fail(session->args, "%s", with_flag(tl_last_error(), changed));
    }
    tl_report_free(report);
    tl_model_free(model);
    return result;
}

static int run(const cli_args *args) {
    cli_session session;
    int result = cli_session_open(&session, args);
    if (result != CLI_OK) return result;
    watcher watch = {.table = !cli_given(args, "--json")};
    tl_finetune_options *options = NULL;
    if (tl_finetune_options_create(session.ctx, &options) != TL_OK) {
        result = cli_failed(&session);
    } else {
        result = set_options(&session, options);
    }
    if (result == CLI_OK) {
        tl_finetune_options_set_progress(options, on_progress, &watch);
        result = train(&session, options, &watch);
    }
    tl_finetune_options_free(options);
    return cli_session_close(&session, result);
}

const cli_command cli_finetune = {
    .name = "finetune",
    .summary = "train a classifier for a folder of pictures",
    .flags = flags,
    .run = run,
};
