/* How the drivers keep the promises of a tl_follow: they cut their rows at ends of units of their
 * own, such as tiles, some neighbouring units to a part. */
#ifndef TL_COMPUTE_FOLLOW_H
#define TL_COMPUTE_FOLLOW_H

#include "compute/conv.h"

typedef struct tl_follow_cut {
    tl_follow *follow;   /* NULL: nobody follows */
    int64_t units, part; /* of all rows; of a part, the last may have fewer */
    int64_t (*row)(const void *driver, int64_t unit); /* the first of a unit, or, of `units`, the
                                                         end */
    const void *driver;
} tl_follow_cut;

static inline tl_follow *tl_epilogue_follow(const tl_epilogue *epilogue) {
    return epilogue ? epilogue->follow : NULL;
}
/* Of units that have up to `rows` rows. */
tl_follow_cut tl_follow_cut_of(tl_follow *follow, int64_t units, int64_t rows);
/* Whether there is a part for each thread, so that each can call for the rows that it writes; and
 * which units these must be. */
bool tl_follow_at_once(const tl_context *ctx, const tl_follow_cut *cut);
void tl_follow_range(const tl_follow_cut *cut, int thread, int threads, int64_t *begin,
                     int64_t *end);
/* Units [begin, end) are final. */
void tl_follow_units(const tl_follow_cut *cut, int64_t begin, int64_t end);
/* All are, and nobody has been told. */
void tl_follow_all(tl_context *ctx, const tl_follow_cut *cut);
/* The same for drivers that have no units: of lines of `width` rows. */
void tl_follow_lines(tl_context *ctx, tl_follow *follow, int64_t lines, int64_t width);

#endif
