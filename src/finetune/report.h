/* What a run of the recipe found out, for JSON and for the page. */
#ifndef TL_FINETUNE_REPORT_H
#define TL_FINETUNE_REPORT_H

#include <tl/finetune.h>

#include "finetune/text.h"

typedef struct tl_epoch {
    double train_loss, train_accuracy; /* running means while training, as Keras reports them */
    double val_loss, val_accuracy;     /* after the epoch */
} tl_epoch;

typedef struct tl_mistake {
    char *path;
    int truth, answer;
    double confidence;   /* probability given to the answer */
    unsigned char *jpeg; /* thumbnail; NULL when the picture could not be read again */
    size_t jpeg_size;
} tl_mistake;

typedef struct tl_skipped {
    char *path, *reason;
} tl_skipped;

enum { TL_REPORT_MISTAKES = 24 };

struct tl_report {
    tl_context *ctx;
    char *backbone;
    int class_count;
    char **class_name;
    int64_t train_images, val_images; /* that could be read */
    int skipped_count;
    tl_skipped *skipped; /* by path */
    int epochs_run;
    int best_epoch; /* 1-based: the one whose weights the model has */
    tl_epoch *epoch;
    int64_t param_count, trained_count;
    double seconds, features_seconds, head_seconds;
    int threads;
    double peak_rss_mb;
    struct json_t *settings;
    tl_evaluation *evaluation;
    int mistake_count;
    tl_mistake mistake[TL_REPORT_MISTAKES]; /* most confident first */
    /* Made by tl_report_finish(). */
    struct json_t *summary;
    char *json;
};

/* The part of the summary that depends on options and pictures alone, not on the machine or the
 * time: what goes into the model. NULL when memory is out. */
struct json_t *tl_report_summary(const tl_report *report);
/* Completes the JSON once everything else is filled in. */
tl_status tl_report_finish(tl_report *report);
/* Appends the page. */
void tl_report_html(const tl_report *report, tl_text *html);

/* --- pieces of the page (chart.c) ------------------------------------------------------------ */

/* One line chart over the epochs as inline SVG: two series read from the epochs at byte offsets
 * within tl_epoch; values from 0 to 1 are shown as percentages with `percent`. */
typedef struct tl_chart {
    const char *title;
    size_t train, val;
    bool percent;
} tl_chart;
void tl_chart_svg(const tl_report *report, const tl_chart *chart, tl_text *html);

#endif
