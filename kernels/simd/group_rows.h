/* Rows one after the other, for whichever vec.h was included before: groups of one float. */
#ifndef TL_KERNELS_SIMD_GROUP_ROWS_H
#define TL_KERNELS_SIMD_GROUP_ROWS_H

#include "simd/each.h"

/* `vecs` whole vectors of each row, or, when it is 0, n columns. */
SIMD_INLINE void group_rows_of(const void *const *rows, int64_t from, int64_t groups, int64_t n,
                               const int vecs, float *y, int64_t y_step) {
    const vec zero = vec_set(0.0f);
    for (int64_t i = 0; i < groups; i++, y += y_step) {
        const float *row = rows[i];
#define BODY(j, mask)                                                                              \
    vec_store_first(y + (j), mask, row ? vec_load_first(row + from + (j), mask) : zero)
        FOR_VECTORS(vecs > 0 ? vecs * VEC : n, BODY);
#undef BODY
    }
}

/* Panels of a tile's columns are by far the most. */
static void simd_group_rows(const void *const *rows, int64_t from, int64_t groups, int64_t n,
                            void *y, int64_t y_step) {
    if (n == 2 * VEC)
        group_rows_of(rows, from, groups, n, 2, y, y_step);
    else
        group_rows_of(rows, from, groups, n, 0, y, y_step);
}

#endif
