/* Structs of settings, whose callers may be compiled with an older or a newer header than ours: the
 * first member of each is its size. */
#ifndef TL_BASE_OPTIONS_H
#define TL_BASE_OPTIONS_H

#include <stddef.h>

#include "base/error.h"

/* Fills the caller's struct of `size` bytes with our defaults; what it has beyond is zero. */
void tl_options_init(void *options, size_t size, const void *defaults, size_t known);
/* Copies what the caller's struct holds (NULL: nothing) over the `known` bytes of defaults in
 * `out`. `what` is for the message. Errors: INVALID_ARGUMENT (no size that could be). */
tl_status tl_options_read(const char *what, const void *given, void *out, size_t known);

#endif
