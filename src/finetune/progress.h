/* Telling the caller how far the recipe is, and hearing whether to go on. */
#ifndef TL_FINETUNE_PROGRESS_H
#define TL_FINETUNE_PROGRESS_H

#include <tl/finetune.h>

#include "base/context.h"

typedef struct tl_watch {
    tl_progress_fn call; /* may be NULL */
    void *user;
    tl_progress progress;
    double last; /* seconds at the last call */
} tl_watch;

/* Seconds of a clock that only moves forward. */
double tl_seconds(void);
/* Begins a phase over `total` pictures. */
void tl_watch_phase(tl_watch *watch, tl_phase phase, int64_t total);
/* Adds `pictures`; calls back when a tenth of a second has passed since it last did. Never with
 * done == total, which is for tl_watch_finish(). Errors: CANCELLED. */
tl_status tl_watch_add(tl_watch *watch, int64_t pictures);
/* Calls back when a tenth of a second has passed, from inside long work: a tl_poll_fn whose `user`
 * is the tl_watch. Errors: CANCELLED. */
tl_status tl_watch_poll(void *watch);
/* Calls back with all of the phase done, pictures that were skipped included.
 * Errors: CANCELLED. */
tl_status tl_watch_finish(tl_watch *watch);

#endif
