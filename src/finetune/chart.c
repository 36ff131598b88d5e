/* Line charts as inline SVG. Colours come from the page's style, so that a chart follows the
 * reader's light or dark theme. */
#include "finetune/report.h"

#include <math.h>

enum {
    WIDTH = 560,
    HEIGHT = 300,
    LEFT = 52,
    RIGHT = 16,
    TOP = 34,
    BOTTOM = 40,
    INNER_WIDTH = WIDTH - LEFT - RIGHT,
    INNER_HEIGHT = HEIGHT - TOP - BOTTOM
};

typedef struct axis {
    double low, high, step;
    int decimals;
} axis;

static double value_at(const tl_report *r, size_t series, int epoch) {
    return *(const double *)(const void *)((const char *)&r->epoch[epoch] + series);
}

/* The largest of 1, 2 or 5 times a power of ten that gives at least four steps. */
static double nice_step(double span) {
    double power = pow(10, floor(log10(span / 4)));
    double rest = span / 4 / power;
    return power * (rest >= 5 ? 5 : rest >= 2 ? 2 : 1);
}

static axis value_axis(const tl_report *r, const tl_chart *chart) {
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < r->epochs_run; i++) {
        double a = value_at(r, chart->train, i), b = value_at(r, chart->val, i);
        low = fmin(low, fmin(a, b));
        high = fmax(high, fmax(a, b));
    }
    double span = fmax(high - low, chart->percent ? 0.02 : fmax(high * 0.02, 1e-6));
    axis y = {.step = nice_step(span)};
    y.low = floor(low / y.step) * y.step;
    y.high = fmax(ceil(high / y.step) * y.step, y.low + y.step);
    if (chart->percent && y.high > 1) {
        y.high = 1;
        y.low = fmin(y.low, 1 - y.step);
    }
    double shown = chart->percent ? y.step * 100 : y.step;
    y.decimals = (int)fmin(fmax(ceil(-log10(shown * 1.0001)), 0), 6);
    return y;
}

static double x_of(const tl_report *r, int epoch) {
    if (r->epochs_run == 1) return LEFT + INNER_WIDTH / 2.0;
    return LEFT + (double)INNER_WIDTH * epoch / (r->epochs_run - 1);
}

static double y_of(const axis *y, double value) {
    return TOP + INNER_HEIGHT * (1 - (value - y->low) / (y->high - y->low));
}

static void add_attribute(tl_text *html, const char *name, double value) {
    tl_text_printf(html, " %s=\"", name);
    tl_text_fixed(html, value, 1);
    tl_text_add(html, "\"");
}

static void add_line(tl_text *html, const char *style, double x1, double y1, double x2, double y2) {
    tl_text_printf(html, "<line class=\"%s\"", style);
    add_attribute(html, "x1", x1);
    add_attribute(html, "y1", y1);
    add_attribute(html, "x2", x2);
    add_attribute(html, "y2", y2);
    tl_text_add(html, "/>");
}

static void open_label(tl_text *html, const char *anchor, double x, double y) {
    tl_text_printf(html, "<text text-anchor=\"%s\"", anchor);
    add_attribute(html, "x", x);
    add_attribute(html, "y", y);
    tl_text_add(html, ">");
}

static void add_grid(const tl_chart *chart, const axis *y, tl_text *html) {
    int steps = (int)((y->high - y->low) / y->step + 1e-6);
    for (int i = 0; i <= steps; i++) {
        double value = y->low + i * y->step;
        add_line(html, "grid", LEFT, y_of(y, value), WIDTH - RIGHT, y_of(y, value));
        open_label(html, "end", LEFT - 8, y_of(y, value) + 4);
        tl_text_fixed(html, chart->percent ? value * 100 : value, y->decimals);
        tl_text_add(html, chart->percent ? "%</text>" : "</text>");
    }
}

/* The smallest of 1, 2, 5, 10, 20 ... that gives at most a dozen labels. */
static int label_step(int epochs) {
    for (int power = 1;; power *= 10)
        for (int digit = 1; digit <= 5; digit += digit == 1 ? 1 : 3)
            if (epochs / (digit * power) <= 12) return digit * power;
}

static void add_epoch_labels(const tl_report *r, tl_text *html) {
    int step = label_step(r->epochs_run);
    for (int i = 0; i < r->epochs_run; i++) {
        if ((i + 1) % step != 0 && !(i == 0 && step > 1)) continue;
        open_label(html, "middle", x_of(r, i), HEIGHT - BOTTOM + 18);
        tl_text_printf(html, "%d</text>", i + 1);
    }
    open_label(html, "middle", LEFT + INNER_WIDTH / 2.0, HEIGHT - 6);
    tl_text_add(html, "epoch</text>");
}

static void add_point(tl_text *html, const char *style, double x, double y, const char *radius) {
    tl_text_printf(html, "<circle class=\"%s\" r=\"%s\"", style, radius);
    add_attribute(html, "cx", x);
    add_attribute(html, "cy", y);
    tl_text_add(html, "/>");
}

static void add_series(const tl_report *r, const axis *y, size_t series, const char *style,
                       tl_text *html) {
    tl_text_printf(html, "<polyline class=\"series %s\" points=\"", style);
    for (int i = 0; i < r->epochs_run; i++) {
        tl_text_fixed(html, x_of(r, i), 1);
        tl_text_add(html, ",");
        tl_text_fixed(html, y_of(y, value_at(r, series, i)), 1);
        tl_text_add(html, " ");
    }
    tl_text_add(html, "\"/>");
    /* A line through one point would be invisible. */
    for (int i = 0; r->epochs_run <= 2 && i < r->epochs_run; i++)
        add_point(html, style, x_of(r, i), y_of(y, value_at(r, series, i)), "3");
}

static void add_legend(tl_text *html) {
    const double y = 16;
    add_line(html, "series train", WIDTH - 196, y, WIDTH - 176, y);
    open_label(html, "start", WIDTH - 170, y + 4);
    tl_text_add(html, "training</text>");
    add_line(html, "series val", WIDTH - 106, y, WIDTH - 86, y);
    open_label(html, "start", WIDTH - 80, y + 4);
    tl_text_add(html, "validation</text>");
}

void tl_chart_svg(const tl_report *r, const tl_chart *chart, tl_text *html) {
    axis y = value_axis(r, chart);
    int best = r->best_epoch - 1;
    tl_text_printf(html,
                   "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s over the epochs\">",
                   WIDTH, HEIGHT, chart->title);
    tl_text_printf(html, "<text class=\"title\" x=\"%d\" y=\"20\">%s</text>", 4, chart->title);
    add_legend(html);
    add_grid(chart, &y, html);
    add_epoch_labels(r, html);
    add_line(html, "best", x_of(r, best), TOP, x_of(r, best), HEIGHT - BOTTOM);
    add_series(r, &y, chart->train, "train", html);
    add_series(r, &y, chart->val, "val", html);
    add_point(html, "val", x_of(r, best), y_of(&y, value_at(r, chart->val, best)), "4.5");
    tl_text_add(html, "</svg>\n");
}
