/* The report as one page that needs nothing beside itself: no script, no file, no network. It is
 * well-formed XML too, so that any tool can read it. */
#include "finetune/report.h"

#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "finetune/style.h"

/* Beyond this a matrix says less than its largest entries. */
enum { MATRIX_CLASSES = 40, LARGEST_CONFUSIONS = 25, SHOWN_SKIPPED = 200 };

static const char *class_name(const tl_report *r, int index) {
    return r->class_name[index];
}

static void add_percent(tl_text *html, double share) {
    tl_text_fixed(html, share * 100, 1);
    tl_text_add(html, "%");
}

/* --- head and cards ----------------------------------------------------------------------- */

static void add_head(const tl_report *r, tl_text *html) {
    tl_text_add(html, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                      "<title>Training report: ");
    tl_text_escaped(html, r->backbone);
    tl_text_add(html, "</title>\n<style>");
    for (int i = 0; report_style[i]; i++) tl_text_add(html, report_style[i]);
    tl_text_add(html, "</style>\n</head>\n<body>\n<main>\n<header><h1>");
    tl_text_escaped(html, r->backbone);
    tl_text_printf(html, " on %d classes</h1>\n<p class=\"soft\">", r->class_count);
    for (int i = 0; i < r->class_count && i < 12; i++) {
        tl_text_add(html, i ? ", " : "");
        tl_text_escaped(html, class_name(r, i));
    }
    if (r->class_count > 12) tl_text_printf(html, " and %d more", r->class_count - 12);
    tl_text_add(html, "</p></header>\n");
}

static void open_card(tl_text *html, const char *style) {
    tl_text_printf(html, "<div class=\"card%s\"><b>", style);
}

static void close_card(tl_text *html, const char *label) {
    tl_text_printf(html, "</b><span>%s</span></div>\n", label);
}

static void add_duration(tl_text *html, double seconds) {
    long whole = (long)seconds;
    if (seconds < 10) {
        tl_text_fixed(html, seconds, 1);
        tl_text_add(html, " s");
    } else if (whole < 60)
        tl_text_printf(html, "%ld s", whole);
    else if (whole < 3600)
        tl_text_printf(html, "%ld min %02ld s", whole / 60, whole % 60);
    else
        tl_text_printf(html, "%ld h %02ld min", whole / 3600, whole / 60 % 60);
}

static void add_cards(const tl_report *r, tl_text *html) {
    tl_text_add(html, "<div class=\"cards\">\n");
    open_card(html, " main");
    add_percent(html, tl_evaluation_accuracy(r->evaluation));
    close_card(html, "validation accuracy");
    open_card(html, "");
    tl_text_fixed(html, tl_evaluation_macro(r->evaluation, NULL, NULL), 3);
    close_card(html, "macro F1");
    open_card(html, "");
    tl_text_fixed(html, r->epoch[r->best_epoch - 1].val_loss, 3);
    close_card(html, "validation loss");
    open_card(html, "");
    tl_text_printf(html, "%lld + %lld", (long long)r->train_images, (long long)r->val_images);
    close_card(html, "pictures: training + validation");
    open_card(html, "");
    tl_text_printf(html, "%d / %d", r->best_epoch, r->epochs_run);
    close_card(html, "best epoch / epochs run");
    open_card(html, "");
    add_duration(html, r->seconds);
    close_card(html, "in all");
    tl_text_add(html, "</div>\n");
}

static void add_curves(const tl_report *r, tl_text *html) {
    static const tl_chart accuracy = {"Accuracy", offsetof(tl_epoch, train_accuracy),
                                      offsetof(tl_epoch, val_accuracy), true};
    static const tl_chart loss = {"Loss", offsetof(tl_epoch, train_loss),
                                  offsetof(tl_epoch, val_loss), false};
    tl_text_add(html, "<section><div class=\"pair\">\n");
    tl_chart_svg(r, &accuracy, html);
    tl_chart_svg(r, &loss, html);
    tl_text_printf(html,
                   "</div><p><small>The dashed line marks epoch %d, whose weights the model has. "
                   "Training values are means over the epoch, while the weights still changed; "
                   "validation values are taken after it.</small></p></section>\n",
                   r->best_epoch);
}

/* --- confusion ---------------------------------------------------------------------------- */

static void add_cell(const tl_report *r, int truth, int answer, int64_t support, tl_text *html) {
    int64_t count = tl_evaluation_confusion(r->evaluation, truth, answer);
    if (count == 0) {
        tl_text_add(html, "<td class=\"n\">&#183;</td>");
        return;
    }
    double share = (double)count / (double)support;
    tl_text_printf(html, "<td class=\"%s%s\" style=\"background:rgba(var(--heat),",
                   truth == answer ? "hit" : "", share > 0.55 ? " deep" : "");
    tl_text_fixed(html, 0.08 + 0.87 * share, 2);
    tl_text_add(html, ")\" title=\"");
    tl_text_escaped(html, class_name(r, truth));
    tl_text_add(html, " answered as ");
    tl_text_escaped(html, class_name(r, answer));
    tl_text_printf(html, ": %lld of %lld\">%lld</td>", (long long)count, (long long)support,
                   (long long)count);
}

static void add_matrix(const tl_report *r, tl_text *html) {
    tl_text_printf(html, "<div class=\"scroll\"><table class=\"heat%s\"><thead><tr><th></th>",
                   r->class_count > 8 ? " many" : "");
    for (int i = 0; i < r->class_count; i++) {
        tl_text_add(html, "<th><span>");
        tl_text_escaped(html, class_name(r, i));
        tl_text_add(html, "</span></th>");
    }
    tl_text_add(html, "</tr></thead>\n<tbody>\n");
    for (int truth = 0; truth < r->class_count; truth++) {
        int64_t support = tl_evaluation_support(r->evaluation, truth);
        tl_text_add(html, "<tr><th class=\"name\">");
        tl_text_escaped(html, class_name(r, truth));
        tl_text_add(html, "</th>");
        for (int answer = 0; answer < r->class_count; answer++)
            add_cell(r, truth, answer, support, html);
        tl_text_add(html, "</tr>\n");
    }
    tl_text_add(html, "</tbody></table></div>");
}

typedef struct confused {
    int truth, answer;
    int64_t count;
} confused;

/* The largest entries beside the diagonal, kept in order while scanning. */
static int largest_confusions(const tl_report *r, confused *list) {
    int used = 0;
    for (int truth = 0; truth < r->class_count; truth++)
        for (int answer = 0; answer < r->class_count; answer++) {
            int64_t count = tl_evaluation_confusion(r->evaluation, truth, answer);
            bool full = used == LARGEST_CONFUSIONS;
            if (truth == answer || count == 0 || (full && list[used - 1].count >= count)) continue;
            int at = full ? used - 1 : used++;
            for (; at > 0 && list[at - 1].count < count; at--) list[at] = list[at - 1];
            list[at] = (confused){truth, answer, count};
        }
    return used;
}

static void add_confusions(const tl_report *r, tl_text *html) {
    confused list[LARGEST_CONFUSIONS];
    int count = largest_confusions(r, list);
    tl_text_add(html, "<div class=\"scroll\"><table class=\"rows\"><thead><tr>"
                      "<th class=\"name\">is</th><th class=\"name\">was answered as</th>"
                      "<th>pictures</th></tr></thead>\n<tbody>\n");
    for (int i = 0; i < count; i++) {
        tl_text_add(html, "<tr><td class=\"name\">");
        tl_text_escaped(html, class_name(r, list[i].truth));
        tl_text_add(html, "</td><td class=\"name\">");
        tl_text_escaped(html, class_name(r, list[i].answer));
        tl_text_printf(html, "</td><td>%lld</td></tr>\n", (long long)list[i].count);
    }
    tl_text_add(html, "</tbody></table></div>");
}

static void add_confusion(const tl_report *r, tl_text *html) {
    bool matrix = r->class_count <= MATRIX_CLASSES;
    tl_text_printf(html, "<section><h2>%s</h2>\n",
                   matrix ? "Confusion matrix" : "Largest confusions");
    if (matrix)
        add_matrix(r, html);
    else
        add_confusions(r, html);
    tl_text_add(html, matrix ? "<p><small>Rows: what a picture is. Columns: what the model "
                               "answered. Shading: share of the row.</small></p></section>\n"
                             : "</section>\n");
}

/* --- classes ------------------------------------------------------------------------------ */

static void add_measure(tl_text *html, double value, bool bar) {
    tl_text_add(html, "<td>");
    if (bar) {
        tl_text_add(html, "<span class=\"bar\"><i style=\"width:");
        tl_text_fixed(html, value * 100, 1);
        tl_text_add(html, "%\"></i></span>");
    }
    tl_text_fixed(html, value, 3);
    tl_text_add(html, "</td>");
}

static void add_average(tl_text *html, const char *name, double precision, double recall, double f1,
                        int64_t count) {
    tl_text_printf(html, "<tr><td class=\"name\">%s</td>", name);
    add_measure(html, precision, false);
    add_measure(html, recall, false);
    add_measure(html, f1, false);
    tl_text_printf(html, "<td>%lld</td></tr>\n", (long long)count);
}

static void add_classes(const tl_report *r, tl_text *html) {
    const tl_evaluation *e = r->evaluation;
    tl_text_add(html, "<section><h2>Classes</h2>\n<div class=\"scroll\"><table class=\"rows\">"
                      "<thead><tr><th class=\"name\">class</th><th>precision</th><th>recall</th>"
                      "<th>F1</th><th>pictures</th></tr></thead>\n<tbody>\n");
    for (int i = 0; i < r->class_count; i++) {
        tl_text_add(html, "<tr><td class=\"name\">");
        tl_text_escaped(html, class_name(r, i));
        tl_text_add(html, "</td>");
        add_measure(html, tl_evaluation_precision(e, i), true);
        add_measure(html, tl_evaluation_recall(e, i), true);
        add_measure(html, tl_evaluation_f1(e, i), true);
        tl_text_printf(html, "<td>%lld</td></tr>\n", (long long)tl_evaluation_support(e, i));
    }
    tl_text_add(html, "</tbody>\n<tfoot>\n");
    double precision, recall, f1 = tl_evaluation_macro(e, &precision, &recall);
    add_average(html, "macro average", precision, recall, f1, tl_evaluation_count(e));
    f1 = tl_evaluation_weighted(e, &precision, &recall);
    add_average(html, "weighted average", precision, recall, f1, tl_evaluation_count(e));
    tl_text_add(html, "</tfoot></table></div></section>\n");
}

/* --- mistakes ----------------------------------------------------------------------------- */

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void add_mistake(const tl_report *r, const tl_mistake *m, tl_text *html) {
    tl_text_add(html, "<figure>");
    if (m->jpeg) {
        tl_text_add(html, "<img alt=\"");
        tl_text_escaped(html, base_name(m->path));
        tl_text_add(html, "\" src=\"data:image/jpeg;base64,");
        tl_text_base64(html, m->jpeg, m->jpeg_size);
        tl_text_add(html, "\"/>");
    } else
        tl_text_add(html, "<span class=\"gone\"></span>");
    tl_text_add(html, "<figcaption><b>");
    tl_text_escaped(html, class_name(r, m->answer));
    tl_text_add(html, "</b> ");
    add_percent(html, m->confidence);
    tl_text_add(html, "<br/>is ");
    tl_text_escaped(html, class_name(r, m->truth));
    tl_text_add(html, "<small>");
    tl_text_escaped(html, base_name(m->path));
    tl_text_add(html, "</small></figcaption></figure>\n");
}

static void add_mistakes(const tl_report *r, tl_text *html) {
    tl_text_add(html, "<section><h2>Worst mistakes</h2>\n");
    if (r->mistake_count == 0)
        tl_text_add(html, "<p class=\"soft\">None: every validation picture was answered "
                          "correctly.</p>");
    else {
        tl_text_add(html, "<div class=\"thumbs\">\n");
        for (int i = 0; i < r->mistake_count; i++) add_mistake(r, &r->mistake[i], html);
        tl_text_add(html, "</div><p><small>Validation pictures answered wrongly, the most "
                          "confident first. A wrong label shows here too.</small></p>");
    }
    tl_text_add(html, "</section>\n");
}

/* --- settings and the rest ---------------------------------------------------------------- */

static void add_row(tl_text *html, const char *name, const char *value) {
    tl_text_printf(html, "<div><dt>%s</dt><dd>", name);
    tl_text_escaped(html, value);
    tl_text_add(html, "</dd></div>\n");
}

static void add_setting(tl_text *html, const char *name, const json_t *value) {
    if (json_is_string(value)) {
        add_row(html, name, json_string_value(value));
        return;
    }
    char text[64] = "none";
    if (!json_is_null(value)) {
        size_t length =
            json_dumpb(value, text, sizeof text - 1, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        text[length < sizeof text - 1 ? length : sizeof text - 1] = 0;
    }
    add_row(html, name, text);
}

static void add_settings(const tl_report *r, tl_text *html) {
    tl_text_add(html, "<section><h2>Settings</h2>\n<dl>\n");
    const char *name;
    json_t *value;
    json_object_foreach(r->settings, name, value) add_setting(html, name, value);
    tl_text_add(html, "</dl></section>\n");
}

static void add_time_row(tl_text *html, const char *name, double seconds) {
    tl_text_printf(html, "<div><dt>%s</dt><dd>", name);
    add_duration(html, seconds);
    tl_text_add(html, "</dd></div>\n");
}

static void add_run(const tl_report *r, tl_text *html) {
    tl_text_add(html, "<section><h2>Run</h2>\n<dl>\n");
    add_time_row(html, "in all", r->seconds);
    add_time_row(html, "features of the frozen part", r->features_seconds);
    add_time_row(html, "training", r->head_seconds);
    tl_text_printf(html, "<div><dt>threads</dt><dd>%d</dd></div>\n", r->threads);
    tl_text_printf(html, "<div><dt>parameters trained</dt><dd>%lld of %lld</dd></div>\n",
                   (long long)r->trained_count, (long long)r->param_count);
    tl_text_add(html, "<div><dt>peak memory</dt><dd>");
    tl_text_fixed(html, r->peak_rss_mb, 0);
    tl_text_add(html, " MB</dd></div>\n</dl></section>\n");
}

static void add_skipped(const tl_report *r, tl_text *html) {
    if (r->skipped_count == 0) return;
    tl_text_printf(html,
                   "<section><h2>Skipped files (%d)</h2>\n<div class=\"scroll\">"
                   "<table class=\"rows\"><thead><tr><th class=\"name\">file</th>"
                   "<th class=\"name\">reason</th></tr></thead>\n<tbody>\n",
                   r->skipped_count);
    for (int i = 0; i < r->skipped_count && i < SHOWN_SKIPPED; i++) {
        tl_text_add(html, "<tr><td class=\"name wrap\">");
        tl_text_escaped(html, r->skipped[i].path);
        tl_text_add(html, "</td><td class=\"name wrap\">");
        tl_text_escaped(html, r->skipped[i].reason);
        tl_text_add(html, "</td></tr>\n");
    }
    tl_text_add(html, "</tbody></table></div>");
    if (r->skipped_count > SHOWN_SKIPPED)
        tl_text_printf(html, "<p class=\"soft\">and %d more</p>", r->skipped_count - SHOWN_SKIPPED);
    tl_text_add(html, "</section>\n");
}

void tl_report_html(const tl_report *r, tl_text *html) {
    add_head(r, html);
    add_cards(r, html);
    add_curves(r, html);
    add_confusion(r, html);
    add_classes(r, html);
    add_mistakes(r, html);
    add_settings(r, html);
    add_run(r, html);
    add_skipped(r, html);
    tl_text_printf(html, "<footer>libtl %s</footer>\n</main>\n</body>\n</html>\n", tl_version());
}
