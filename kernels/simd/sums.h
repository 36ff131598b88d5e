/* Sums over rows for each channel, in float64, for whichever vec.h was included before. A channel's
 * terms are added in the order of the rows, as in the reference. */
#ifndef TL_KERNELS_SIMD_SUMS_H
#define TL_KERNELS_SIMD_SUMS_H

#include "simd/elementwise.h"
#include "simd/unroll.h"

enum {
    SUM_VECS = VEC == 16 ? 4 : 2, /* vectors of channels whose two sums fit into the registers */
    SUM_FLOATS = 4096             /* of a block of such rows, which stays in the first-level cache
                                     while its channels are walked */
};

/* What is summed: x and x^2, or dz and dz (x - center). */
typedef struct row_sums {
    const elem *x;
    const tl_slopes *slopes;
    const float *center;
    double *first, *second;
    int64_t c;
} row_sums;

/* The two terms of the vector at element `at`. */
SIMD_INLINE void sum_terms(const row_sums *s, const bool gradient, int64_t at, int64_t channel,
                           vec_mask mask, vec_wide center, vec_wide *first, vec_wide *second) {
    if (!gradient) {
        *first = *second = wide_elems(s->x + at, mask);
        return;
    }
    vec x = elem_load_first(s->x + at, mask);
    fetch_ahead(s->x + at);
    *first = wide_of(slopes_at(s->slopes, at, channel, mask, x));
    *second = wide_sub(wide_of(x), center);
}

/* Rows [begin, end) of `vecs` vectors of channels. */
SIMD_INLINE void sum_block(const row_sums *s, const bool gradient, int64_t begin, int64_t end,
                           int64_t channel, const int vecs, vec_mask mask) {
    vec_wide first[SUM_VECS], second[SUM_VECS], center[SUM_VECS];
    UNROLL
    for (int j = 0; j < vecs; j++) {
        int64_t at = channel + j * VEC;
        first[j] = wide_load(s->first + at, mask);
        second[j] = wide_load(s->second + at, mask);
        center[j] = gradient ? wide_floats(s->center + at, mask) : wide_zero();
    }
    for (int64_t row = begin; row < end; row++) {
        UNROLL
        for (int j = 0; j < vecs; j++) {
            int64_t at = channel + j * VEC;
            vec_wide term, factor;
            sum_terms(s, gradient, row * s->c + at, at, mask, center[j], &term, &factor);
            first[j] = wide_add(first[j], term);
            second[j] = wide_fma(term, factor, second[j]);
        }
    }
    UNROLL
    for (int j = 0; j < vecs; j++) {
        wide_store(s->first + channel + j * VEC, mask, first[j]);
        wide_store(s->second + channel + j * VEC, mask, second[j]);
    }
}

/* Where a row's sums do not fit into the registers they are kept in the first-level cache: memory
 * is read in order, and twice as fast as when some channels of several rows are read together. */
SIMD_INLINE void sum_wide_rows(const row_sums *s, const bool gradient, int64_t rows) {
    for (int64_t row = 0; row < rows; row++) {
#define BODY(i, mask) sum_block(s, gradient, row, row + 1, i, 1, mask)
        FOR_VECTORS(s->c, BODY);
#undef BODY
    }
}

SIMD_INLINE void sum_narrow_rows(const row_sums *s, const bool gradient, int64_t rows) {
    int64_t step = SUM_FLOATS / s->c;
    for (int64_t begin = 0; begin < rows; begin += step) {
        int64_t end = begin + step < rows ? begin + step : rows, channel = 0;
        if (s->c == SUM_VECS * VEC) {
            sum_block(s, gradient, begin, end, 0, SUM_VECS, vec_all());
            continue;
        }
        for (; channel < s->c; channel += VEC)
            sum_block(s, gradient, begin, end, channel, 1, vec_first(s->c - channel));
    }
}

SIMD_INLINE void sum_rows_of(const row_sums *s, const bool gradient, int64_t rows) {
    if (s->c > SUM_VECS * VEC)
        sum_wide_rows(s, gradient, rows);
    else
        sum_narrow_rows(s, gradient, rows);
}

static void simd_moments(const void *x, double *sum, double *sum2, int64_t rows, int64_t c) {
    row_sums s = {.x = x, .first = sum, .second = sum2, .c = c};
    sum_rows_of(&s, false, rows);
}

static void simd_moments_backward(const tl_slopes *slopes, const float *center, double *sum,
                                  double *sum_x, int64_t rows, int64_t c) {
    const tl_slopes own = *slopes;
    row_sums s = {
        .x = own.x, .slopes = &own, .center = center, .first = sum, .second = sum_x, .c = c};
    sum_rows_of(&s, true, rows);
}

static void simd_row_sums(const void *from, int64_t x_step, double *sum, int64_t rows, int64_t c) {
    const elem *x = from;
    for (int64_t row = 0; row < rows; row++, x += x_step) {
#define BODY(i, mask)                                                                              \
    wide_store(sum + (i), mask, wide_add(wide_load(sum + (i), mask), wide_elems(x + (i), mask)))
        FOR_VECTORS(c, BODY);
#undef BODY
    }
}

#endif
