#include "finetune/report.h"

#include <jansson.h>
#include <string.h>

#include "base/source.h"
#include "model/model.h"

/* --- JSON --------------------------------------------------------------------------------- */

typedef json_t *(*item_fn)(const tl_report *r, int index);

/* An array of count items; NULL when memory is out. */
static json_t *list_of(const tl_report *r, int count, item_fn item) {
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, item(r, i)) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *class_item(const tl_report *r, int i) {
    return tl_json_string(r->ctx, r->class_name[i]);
}

static json_t *epoch_item(const tl_report *r, int i) {
    const tl_epoch *e = &r->epoch[i];
    return json_pack("{s:i, s:f, s:f, s:f, s:f}", "epoch", i + 1, "train_loss", e->train_loss,
                     "train_accuracy", e->train_accuracy, "val_loss", e->val_loss, "val_accuracy",
                     e->val_accuracy);
}

static json_t *measures_item(const tl_report *r, int i) {
    const tl_evaluation *e = r->evaluation;
    return json_pack("{s:o, s:f, s:f, s:f, s:I}", "class", class_item(r, i), "precision",
                     tl_evaluation_precision(e, i), "recall", tl_evaluation_recall(e, i), "f1",
                     tl_evaluation_f1(e, i), "support", (json_int_t)tl_evaluation_support(e, i));
}

static json_t *confusion_row(const tl_report *r, int truth) {
    json_t *row = json_array();
    for (int i = 0; i < r->class_count; i++)
        json_array_append_new(row, json_integer(tl_evaluation_confusion(r->evaluation, truth, i)));
    /* Appending to NULL and out of memory show in the length alone. */
    if (json_array_size(row) == (size_t)r->class_count) return row;
    json_decref(row);
    return NULL;
}

static json_t *skipped_item(const tl_report *r, int i) {
    return json_pack("{s:o, s:o}", "file", tl_json_string(r->ctx, r->skipped[i].path), "reason",
                     tl_json_string(r->ctx, r->skipped[i].reason));
}

json_t *tl_report_summary(const tl_report *r) {
    const tl_epoch *best = &r->epoch[r->best_epoch - 1];
    return json_pack("{s:o, s:I, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o, s:o}",
                     "classes", list_of(r, r->class_count, class_item), "images",
                     (json_int_t)(r->train_images + r->val_images), "skipped", r->skipped_count,
                     "epochs_run", r->epochs_run, "best_epoch", r->best_epoch, "train_loss",
                     best->train_loss, "train_accuracy", best->train_accuracy, "val_loss",
                     best->val_loss, "val_accuracy", best->val_accuracy, "macro_f1",
                     tl_evaluation_macro(r->evaluation, NULL, NULL), "weighted_f1",
                     tl_evaluation_weighted(r->evaluation, NULL, NULL), "history",
                     list_of(r, r->epochs_run, epoch_item), "per_class",
                     list_of(r, r->class_count, measures_item), "confusion",
                     list_of(r, r->class_count, confusion_row));
}

tl_status tl_report_finish(tl_report *r) {
    json_t *summary = tl_report_summary(r);
    json_t *of_the_run = json_pack(
        "{s:f, s:f, s:f, s:i, s:f, s:I, s:I, s:o, s:O}", "seconds", r->seconds, "features_seconds",
        r->features_seconds, "head_seconds", r->head_seconds, "threads", r->threads, "peak_rss_mb",
        r->peak_rss_mb, "train_images", (json_int_t)r->train_images, "val_images",
        (json_int_t)r->val_images, "skipped_files", list_of(r, r->skipped_count, skipped_item),
        "settings", r->settings);
    int failed = json_object_update(summary, of_the_run);
    json_decref(of_the_run);
    r->summary = summary;
    r->json = tl_json_text(r->ctx, failed ? NULL : json_incref(summary), JSON_REAL_PRECISION(15));
    TL_CHECK_MEMORY(r->json);
    return TL_OK;
}

/* --- public ------------------------------------------------------------------------------- */

const char *tl_report_json(const tl_report *report) {
    return report ? report->json : NULL;
}

tl_status tl_report_number(const tl_report *report, const char *key, double *value) {
    TL_CHECK(report && key && value, TL_INVALID_ARGUMENT,
             "tl_report_number: report, key or value is NULL");
    const json_t *number = json_object_get(report->summary, key);
    TL_CHECK(json_is_number(number), TL_NOT_FOUND, "the report has no number called '%s'", key);
    *value = json_number_value(number);
    return TL_OK;
}

const tl_evaluation *tl_report_evaluation(const tl_report *report) {
    return report ? report->evaluation : NULL;
}

tl_status tl_report_write_html(const tl_report *report, const char *path) {
    TL_CHECK(report && path, TL_INVALID_ARGUMENT, "tl_report_write_html: report or path is NULL");
    tl_text html = {.ctx = report->ctx};
    tl_report_html(report, &html);
    tl_status status =
        html.failed ? TL_NO_MEMORY : tl_write_file(report->ctx, path, html.data, html.length);
    tl_free(report->ctx, html.data);
    return status;
}

void tl_report_free(tl_report *r) {
    if (!r) return;
    for (int i = 0; r->class_name && i < r->class_count; i++) tl_free(r->ctx, r->class_name[i]);
    for (int i = 0; r->skipped && i < r->skipped_count; i++) {
        tl_free(r->ctx, r->skipped[i].path);
        tl_free(r->ctx, r->skipped[i].reason);
    }
    for (int i = 0; i < r->mistake_count; i++) {
        tl_free(r->ctx, r->mistake[i].path);
        tl_free(r->ctx, r->mistake[i].jpeg);
    }
    tl_evaluation_free(r->evaluation);
    json_decref(r->settings);
    json_decref(r->summary);
    tl_free(r->ctx, r->backbone);
    tl_free(r->ctx, r->class_name);
    tl_free(r->ctx, r->skipped);
    tl_free(r->ctx, r->epoch);
    tl_free(r->ctx, r->json);
    tl_free(r->ctx, r);
}
