#include "compute/follow.h"

#include "compute/cut.h"

enum { LEAST_ROWS = 64 }; /* of a part: what a part has to show for is added up in the end */

static int64_t parts_of(const tl_follow_cut *cut) {
    return (cut->units + cut->part - 1) / cut->part;
}

tl_follow_cut tl_follow_cut_of(tl_follow *follow, int64_t units, int64_t rows) {
    int64_t least = (LEAST_ROWS + rows - 1) / rows;
    int64_t equal = (units + TL_FOLLOW_PARTS - 1) / TL_FOLLOW_PARTS;
    tl_follow_cut cut = {.follow = follow, .units = units, .part = least > equal ? least : equal};
    if (follow) follow->parts = parts_of(&cut);
    return cut;
}

bool tl_follow_at_once(const tl_context *ctx, const tl_follow_cut *cut) {
    return cut->follow && parts_of(cut) >= tl_context_threads(ctx);
}

static void units_of(const tl_follow_cut *cut, int64_t *begin, int64_t *end) {
    *begin *= cut->part;
    *end *= cut->part;
    if (*end > cut->units) *end = cut->units;
}

void tl_follow_range(const tl_follow_cut *cut, int thread, int threads, int64_t *begin,
                     int64_t *end) {
    tl_cut_range(parts_of(cut), thread, threads, begin, end);
    units_of(cut, begin, end);
}

void tl_follow_units(const tl_follow_cut *cut, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; unit++) {
        tl_followed rows = {unit / cut->part, cut->row(cut->driver, unit),
                            cut->row(cut->driver, unit + 1), unit % cut->part == 0};
        cut->follow->rows(cut->follow->arg, &rows);
    }
}

static void follow_task(void *arg, int64_t begin, int64_t end) {
    const tl_follow_cut *cut = arg;
    units_of(cut, &begin, &end);
    tl_follow_units(cut, begin, end);
}

void tl_follow_all(tl_context *ctx, const tl_follow_cut *cut) {
    tl_follow_cut whole = *cut;
    if (cut->follow) tl_parallel(ctx, parts_of(cut), follow_task, &whole);
}

static int64_t line_row(const void *driver, int64_t line) {
    return line * *(const int64_t *)driver;
}

void tl_follow_lines(tl_context *ctx, tl_follow *follow, int64_t lines, int64_t width) {
    tl_follow_cut cut = tl_follow_cut_of(follow, lines, width);
    cut.row = line_row;
    cut.driver = &width;
    tl_follow_all(ctx, &cut);
}
