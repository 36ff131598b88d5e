#include "cli/common.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { BAR_WIDTH = 28 };

static const double worth_showing = 2; /* seconds of work in all */
static const double redraw_every = 0.1;

double cli_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void cli_progress_begin(cli_progress *progress, const char *label) {
    *progress = (cli_progress){.label = label, .start = cli_seconds()};
}

static void draw(const cli_progress *progress, double share, double left, const char *note) {
    char bar[BAR_WIDTH + 1];
    int filled = (int)(share * BAR_WIDTH);
    for (int i = 0; i < BAR_WIDTH; i++) bar[i] = i < filled ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    int seconds = (int)(left + 0.5);
    fprintf(stderr, "\r\033[K%s [%s] %3d%%  %d:%02d left  %s", progress->label, bar,
            (int)(share * 100), seconds / 60, seconds % 60, note);
    fflush(stderr);
}

void cli_progress_show(cli_progress *progress, int64_t done, int64_t total, const char *note) {
    if (total <= 0 || done <= 0 || !isatty(STDERR_FILENO)) return;
    double now = cli_seconds();
    double passed = now - progress->start;
    double share = done < total ? (double)done / (double)total : 1;
    double whole = passed / share;
    if (passed < redraw_every || whole < worth_showing) return;
    if (progress->last_draw > 0 && now - progress->last_draw < redraw_every) return;
    progress->last_draw = now;
    draw(progress, share, whole - passed, note);
}

void cli_progress_clear(cli_progress *progress) {
    if (progress->last_draw > 0) fputs("\r\033[K", stderr);
    progress->last_draw = 0;
}
