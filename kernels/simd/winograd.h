/* Winograd transforms for whichever vec.h and elements were included before. Channels run along
 * the vector. */
#ifndef TL_KERNELS_SIMD_WINOGRAD_H
#define TL_KERNELS_SIMD_WINOGRAD_H

#include "kernels.h"
#include "simd/act.h"
#include "simd/unroll.h"

#define WINOGRAD_TYPE vec
#define WINOGRAD_ADD(a, b) vec_add((a), (b))
#define WINOGRAD_SUB(a, b) vec_sub((a), (b))
#define WINOGRAD_MUL(constant, b) vec_mul(vec_set(constant), (b))
#define WINOGRAD_FMA(constant, b, c) vec_fma(vec_set(constant), (b), (c))
#include "winograd_points.h"

#define WINOGRAD_INLINE static inline __attribute__((always_inline))

/* Elements narrower than float know F(2, 3) alone, see kernels.h. */
enum { WINOGRAD_SIDE = 9, WINOGRAD_TAPS = 7, WINOGRAD_ALL = sizeof(elem) == sizeof(float) };

/* The transforms of one line; all but the vectors are constants. */
WINOGRAD_INLINE void winograd_input_line(const int side, const vec *from, vec *to) {
    if (side == 4) winograd_input_p4(from, to);
    if (side == 6) winograd_input_p6(from, to);
    if (side == 9) winograd_input_p9(from, to);
}

#define WINOGRAD_LINE(name)                                                                        \
    WINOGRAD_INLINE void winograd_##name##_line(const int m, const int r, const vec *from,         \
                                                vec *to) {                                         \
        if (m == 2 && r == 3) winograd_##name##_2_3(from, to);                                     \
        if (m == 4 && r == 3) winograd_##name##_4_3(from, to);                                     \
        if (m == 2 && r == 5) winograd_##name##_2_5(from, to);                                     \
        if (m == 3 && r == 7) winograd_##name##_3_7(from, to);                                     \
    }
WINOGRAD_LINE(output)
WINOGRAD_LINE(weights)

#define WINOGRAD_LINE_3(name)                                                                      \
    WINOGRAD_INLINE void winograd_##name##_line(const int m, const vec *from, vec *to) {           \
        if (m == 2) winograd_##name##_2_3(from, to);                                               \
        if (m == 4) winograd_##name##_4_3(from, to);                                               \
    }
WINOGRAD_LINE_3(gradient)
WINOGRAD_LINE_3(filter)

/* The kernel `name`: winograd_NAME_channels(t, m, r, axes, channel, mask) for each vector of
 * channels, the form being constants, of which `cases` are those for floats alone. */
#define WINOGRAD_KERNEL(name, type, cases)                                                         \
    static void simd_winograd_##name(const type *t) {                                              \
        for (int64_t channel = 0; channel < t->c; channel += VEC) {                                \
            vec_mask mask = vec_first(t->c - channel);                                             \
            if (!WINOGRAD_ALL || (t->f.m == 2 && t->f.r == 3))                                     \
                winograd_##name##_channels(t, 2, 3, 2, channel, mask);                             \
            cases(name)                                                                            \
        }                                                                                          \
    }
#define WINOGRAD_CASE(name, M, R, AXES)                                                            \
    else if (t->f.m == M && t->f.r == R && t->f.axes == AXES)                                      \
        winograd_##name##_channels(t, M, R, AXES, channel, mask);
#define WINOGRAD_SQUARES_OF_3(name) WINOGRAD_CASE(name, 4, 3, 2)
#define WINOGRAD_ALL_FORMS(name)                                                                   \
    WINOGRAD_CASE(name, 4, 3, 2)                                                                   \
    WINOGRAD_CASE(name, 2, 5, 2)                                                                   \
    WINOGRAD_CASE(name, 4, 3, 1)                                                                   \
    WINOGRAD_CASE(name, 3, 7, 1)

/* Stores a line of points of some channels, `step` apart: as lane `lane` of groups, or neighbours.
 */
WINOGRAD_INLINE void winograd_put(elem *v, int64_t step, const int side, const bool grouped,
                                  int lane, vec_mask mask, const vec *line) {
    UNROLL
    for (int j = 0; j < side; j++) {
        if (grouped)
            elem_store_lane(v + j * step, lane, mask, line[j]);
        else
            elem_store_first(v + j * step, mask, line[j]);
    }
}

/* Every `step`th of `count` pixels, from the first on. */
WINOGRAD_INLINE void winograd_pixels(const tl_winograd_input *t, const int first, const int step,
                                     const int count, int64_t channel, vec_mask mask, vec *line) {
    channel += t->first;
    UNROLL
    for (int i = 0; i < count; i++) {
        line[i] = elem_load_first((const elem *)t->x[first + i * step] + channel, mask);
        __builtin_prefetch((const elem *)t->next[first + i * step] + channel, 0, 3);
    }
}

/* The same of rows of floats. */
WINOGRAD_INLINE void winograd_floats(const float *x, int64_t step, const int count, vec_mask mask,
                                     vec *line) {
    UNROLL
    for (int i = 0; i < count; i++) line[i] = vec_load_first(x + i * step, mask);
}

WINOGRAD_INLINE void winograd_input_channels(const tl_winograd_input *t, const int m, const int r,
                                             const int axes, int64_t channel, vec_mask mask) {
    const int side = m + r - 1, lines = axes == 2 ? side : 1;
    const bool grouped = ELEM_GROUP > 1 && t->grouped;
    elem *v = (elem *)t->v + channel * (grouped ? ELEM_GROUP : 1);
    vec line[WINOGRAD_SIDE], result[WINOGRAD_SIDE], half[WINOGRAD_SIDE][WINOGRAD_SIDE];
    if (axes == 1) {
        winograd_pixels(t, 0, 1, side, channel, mask, half[0]);
    } else {
        UNROLL
        for (int j = 0; j < side; j++) {
            winograd_pixels(t, j, side, side, channel, mask, line);
            winograd_input_line(side, line, result);
            UNROLL
            for (int i = 0; i < side; i++) half[i][j] = result[i];
        }
    }
    UNROLL
    for (int i = 0; i < lines; i++) {
        winograd_input_line(side, half[i], result);
        winograd_put(v + i * side * t->v_step, t->v_step, side, grouped, t->lane, mask, result);
    }
}
/* F(2, 5) has the points of F(4, 3). */
#define WINOGRAD_INPUTS(name)                                                                      \
    else if (t->f.axes == 2) winograd_##name##_channels(t, 4, 3, 2, channel, mask);                \
    else if (t->f.r == 3) winograd_##name##_channels(t, 4, 3, 1, channel, mask);                   \
    else winograd_##name##_channels(t, 3, 7, 1, channel, mask);
WINOGRAD_KERNEL(input, tl_winograd_input, WINOGRAD_INPUTS)

WINOGRAD_INLINE void winograd_gradient_channels(const tl_winograd_input *t, const int m,
                                                const int r, const int axes, int64_t channel,
                                                vec_mask mask) {
    (void)axes;
    const int side = m + r - 1;
    const bool grouped = ELEM_GROUP > 1;
    elem *v = (elem *)t->v + channel * ELEM_GROUP;
    vec line[WINOGRAD_SIDE], result[WINOGRAD_SIDE], half[WINOGRAD_SIDE][WINOGRAD_SIDE];
    UNROLL
    for (int j = 0; j < m; j++) {
        winograd_pixels(t, j, m, m, channel, mask, line);
        winograd_gradient_line(m, line, result);
        UNROLL
        for (int i = 0; i < side; i++) half[i][j] = result[i];
    }
    UNROLL
    for (int i = 0; i < side; i++) {
        winograd_gradient_line(m, half[i], result);
        winograd_put(v + i * side * t->v_step, t->v_step, side, grouped, t->lane, mask, result);
    }
}
WINOGRAD_KERNEL(gradient, tl_winograd_input, WINOGRAD_SQUARES_OF_3)

WINOGRAD_INLINE void winograd_weights_channels(const tl_winograd_weights *t, const int m,
                                               const int r, const int axes, int64_t filter,
                                               vec_mask mask) {
    const int side = m + r - 1, lines = axes == 2 ? side : 1;
    const bool grouped = ELEM_GROUP > 1;
    elem *v = (elem *)t->v + filter * ELEM_GROUP;
    const float *w = t->w + filter;
    vec line[WINOGRAD_TAPS], result[WINOGRAD_SIDE], half[WINOGRAD_SIDE][WINOGRAD_TAPS];
    if (axes == 1) {
        winograd_floats(w, t->w_tap, r, mask, half[0]);
    } else {
        ROLLED
        for (int j = 0; j < r; j++) {
            winograd_floats(w + j * t->w_tap, r * t->w_tap, r, mask, line);
            winograd_weights_line(m, r, line, result);
            UNROLL
            for (int i = 0; i < side; i++) half[i][j] = result[i];
        }
    }
    ROLLED
    for (int i = 0; i < lines; i++) {
        winograd_weights_line(m, r, half[i], result);
        winograd_put(v + i * side * t->v_step, t->v_step, side, grouped, t->lane, mask, result);
    }
}
WINOGRAD_KERNEL(weights, tl_winograd_weights, WINOGRAD_ALL_FORMS)

/* Line `line` of m pixels. Not in line itself: activations are much code. */
static __attribute__((noinline)) void winograd_finish(const tl_winograd_output *t, int line,
                                                      int64_t channel, vec_mask mask,
                                                      const vec *values) {
    vec bias = t->bias ? vec_load_first(t->bias + channel, mask) : vec_set(0.0f);
    for (int i = 0; i < t->f.m; i++) {
        int64_t at = t->y_at[line * t->f.m + i];
        __builtin_prefetch((elem *)t->y + t->next[line * t->f.m + i] + channel, 1, 3);
        if (at < 0) continue;
        at += channel;
        elem *y = (elem *)t->y + at;
        vec value = values[i];
        if (t->accumulate) value = vec_add(value, elem_load_first(y, mask));
        value = vec_add(value, bias);
        if (t->residual)
            value = vec_add(value, elem_load_first((const elem *)t->residual + at, mask));
        if (t->act > TL_ACT_RELU6) value = elem_rounded(value);
        elem_store_first(y, mask, vec_act(t->act, value));
    }
}

WINOGRAD_INLINE void winograd_output_channels(const tl_winograd_output *t, const int m, const int r,
                                              const int axes, int64_t channel, vec_mask mask) {
    const int side = m + r - 1, lines = axes == 2 ? m : 1;
    const float *from = t->t + channel;
    vec line[WINOGRAD_SIDE], result[WINOGRAD_SIDE], half[WINOGRAD_SIDE][WINOGRAD_SIDE];
    if (axes == 1) {
        winograd_floats(from, t->t_step, side, mask, half[0]);
    } else {
        UNROLL
        for (int j = 0; j < side; j++) {
            winograd_floats(from + j * t->t_step, side * t->t_step, side, mask, line);
            winograd_output_line(m, r, line, result);
            UNROLL
            for (int i = 0; i < m; i++) half[i][j] = result[i];
        }
    }
    UNROLL
    for (int i = 0; i < lines; i++) {
        winograd_output_line(m, r, half[i], result);
        winograd_finish(t, i, channel, mask, result);
    }
}
WINOGRAD_KERNEL(output, tl_winograd_output, WINOGRAD_ALL_FORMS)

WINOGRAD_INLINE void winograd_filter_channels(const tl_winograd_filter *t, const int m, const int r,
                                              const int axes, int64_t channel, vec_mask mask) {
    (void)axes;
    const int side = m + r - 1;
    vec line[WINOGRAD_SIDE], result[WINOGRAD_TAPS], half[WINOGRAD_TAPS][WINOGRAD_SIDE];
    ROLLED
    for (int j = 0; j < side; j++) {
        winograd_floats(t->t + j * t->t_step + channel, side * t->t_step, side, mask, line);
        winograd_filter_line(m, line, result);
        UNROLL
        for (int i = 0; i < r; i++) half[i][j] = result[i];
    }
    ROLLED
    for (int i = 0; i < r; i++) {
        winograd_filter_line(m, half[i], result);
        UNROLL
        for (int j = 0; j < r; j++) {
            float *dw = t->dw + (i * r + j) * t->dw_tap + channel;
            vec_store_first(dw, mask, vec_add(vec_load_first(dw, mask), result[j]));
        }
    }
}
WINOGRAD_KERNEL(filter, tl_winograd_filter, WINOGRAD_SQUARES_OF_3)

/* The slots of a table. */
#define SIMD_WINOGRAD                                                                              \
    .winograd_input = simd_winograd_input, .winograd_output = simd_winograd_output,                \
    .winograd_weights = simd_winograd_weights, .winograd_gradient = simd_winograd_gradient,        \
    .winograd_filter = simd_winograd_filter

#endif
