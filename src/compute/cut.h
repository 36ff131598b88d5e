/* Static division of work among slots, one a thread. A slot owns scratch memory; what it
 * computes never depends on how many there are. */
#ifndef TL_COMPUTE_CUT_H
#define TL_COMPUTE_CUT_H

#include "base/context.h"

/* Floats to reserve so that `count` of them can begin at a cache line. */
static inline size_t tl_cut_aligned(size_t count) {
    return (count + 15) / 16 * 16;
}

/* The same of bytes. */
static inline size_t tl_cut_bytes(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

/* Element `index` of a block of which an element has `size` bytes. */
static inline const void *tl_element(const void *block, int64_t index, int size) {
    return (const char *)block + index * size;
}
static inline void *tl_element_of(void *block, int64_t index, int size) {
    return (char *)block + index * size;
}

/* Part `index` of `parts` of [0, count). */
static inline void tl_cut_range(int64_t count, int index, int parts, int64_t *begin, int64_t *end) {
    *begin = count * index / parts;
    *end = count * (index + 1) / parts;
}

/* A grid of jobs cut into rows x columns rectangles. */
typedef struct tl_cut {
    int rows, columns;
} tl_cut;

/* At most `slots` rectangles, cut between tiles of `height` rows, of which the largest is as small
 * as can be; cuts along rows are preferred. */
static inline tl_cut tl_cut_choose(int64_t rows, int64_t height, int64_t columns, int slots) {
    tl_cut best = {1, 1};
    int64_t tiles = (rows + height - 1) / height, best_cost = rows * columns;
    for (int r = slots; r >= 1; r--) {
        int c = slots / r;
        int64_t high = (tiles + r - 1) / r * height, wide = (columns + c - 1) / c;
        int64_t cost = (high < rows ? high : rows) * wide;
        if (cost < best_cost) {
            best_cost = cost;
            best = (tl_cut){r, c};
        }
    }
    return best;
}

#endif
