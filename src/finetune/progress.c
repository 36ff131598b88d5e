#include "finetune/progress.h"

#include "base/clock.h"

double tl_seconds(void) {
    return 1e-9 * (double)tl_nanoseconds();
}

void tl_watch_phase(tl_watch *watch, tl_phase phase, int64_t total) {
    watch->progress.size = sizeof watch->progress;
    watch->progress.phase = phase;
    watch->progress.done = 0;
    watch->progress.total = total;
}

static tl_status call_back(tl_watch *watch) {
    watch->last = tl_seconds();
    if (!watch->call || watch->call(watch->user, &watch->progress) == 0) return TL_OK;
    return tl_fail(TL_CANCELLED, "cancelled by the progress callback");
}

tl_status tl_watch_poll(void *user) {
    tl_watch *watch = user;
    return tl_seconds() - watch->last < 0.1 ? TL_OK : call_back(watch);
}

tl_status tl_watch_add(tl_watch *watch, int64_t pictures) {
    watch->progress.done += pictures;
    return watch->progress.done == watch->progress.total ? TL_OK : tl_watch_poll(watch);
}

tl_status tl_watch_finish(tl_watch *watch) {
    watch->progress.done = watch->progress.total;
    return call_back(watch);
}
