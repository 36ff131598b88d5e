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

/* Elements narrower than float have tiles of m = 2 alone, see kernels.h. */
enum { WINOGRAD_SIDE = 6, WINOGRAD_LARGE = sizeof(elem) == sizeof(float) };

/* The transform `name` of one line; m is a constant. */
#define WINOGRAD_LINE(name)                                                                        \
    WINOGRAD_INLINE void winograd_##name##_line(const int m, const vec *from, vec *to) {           \
        if (m == 2)                                                                                \
            winograd_##name##_2(from, to);                                                         \
        else                                                                                       \
            winograd_##name##_4(from, to);                                                         \
    }
WINOGRAD_LINE(input)
WINOGRAD_LINE(output)
WINOGRAD_LINE(weights)
WINOGRAD_LINE(gradient)
WINOGRAD_LINE(filter)

/* The kernel `name`: winograd_NAME_channels(t, m, channel, mask) for each vector of channels. */
#define WINOGRAD_KERNEL(name, type)                                                                \
    static void simd_winograd_##name(const type *t) {                                              \
        for (int64_t channel = 0; channel < t->c; channel += VEC) {                                \
            vec_mask mask = vec_first(t->c - channel);                                             \
            if (t->m == 2 || !WINOGRAD_LARGE)                                                      \
                winograd_##name##_channels(t, 2, channel, mask);                                   \
            else                                                                                   \
                winograd_##name##_channels(t, 4, channel, mask);                                   \
        }                                                                                          \
    }

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

/* Either transform of the left side of a product, of tiles of `lines` x `lines`. */
WINOGRAD_INLINE void winograd_factor(const tl_winograd_input *t, const int m, const int lines,
                                     int64_t channel, vec_mask mask) {
    const int side = m + 2;
    const bool grouped = ELEM_GROUP > 1 && (lines < side || t->grouped);
    vec half[WINOGRAD_SIDE][WINOGRAD_SIDE];
    UNROLL
    for (int j = 0; j < lines; j++) {
        vec line[WINOGRAD_SIDE], result[WINOGRAD_SIDE];
        UNROLL
        for (int i = 0; i < lines; i++)
            line[i] = elem_load_first((const elem *)t->x[i * lines + j] + channel, mask);
        if (lines == side)
            winograd_input_line(m, line, result);
        else
            winograd_gradient_line(m, line, result);
        UNROLL
        for (int i = 0; i < side; i++) half[i][j] = result[i];
    }
    elem *v = (elem *)t->v + channel * (grouped ? ELEM_GROUP : 1);
    UNROLL
    for (int i = 0; i < side; i++) {
        vec result[WINOGRAD_SIDE];
        if (lines == side)
            winograd_input_line(m, half[i], result);
        else
            winograd_gradient_line(m, half[i], result);
        winograd_put(v + i * side * t->v_step, t->v_step, side, grouped, t->lane, mask, result);
    }
}

WINOGRAD_INLINE void winograd_input_channels(const tl_winograd_input *t, const int m,
                                             int64_t channel, vec_mask mask) {
    winograd_factor(t, m, m + 2, channel, mask);
}
WINOGRAD_KERNEL(input, tl_winograd_input)

WINOGRAD_INLINE void winograd_gradient_channels(const tl_winograd_input *t, const int m,
                                                int64_t channel, vec_mask mask) {
    winograd_factor(t, m, m, channel, mask);
}
WINOGRAD_KERNEL(gradient, tl_winograd_input)

WINOGRAD_INLINE void winograd_weights_channels(const tl_winograd_weights *t, const int m,
                                               int64_t filter, vec_mask mask) {
    const int side = m + 2;
    vec half[WINOGRAD_SIDE][3];
    UNROLL
    for (int j = 0; j < 3; j++) {
        vec line[3], result[WINOGRAD_SIDE];
        UNROLL
        for (int i = 0; i < 3; i++)
            line[i] = vec_load_first(t->w + (i * 3 + j) * t->w_tap + filter, mask);
        winograd_weights_line(m, line, result);
        UNROLL
        for (int i = 0; i < side; i++) half[i][j] = result[i];
    }
    const bool grouped = ELEM_GROUP > 1;
    elem *v = (elem *)t->v + filter * ELEM_GROUP;
    UNROLL
    for (int i = 0; i < side; i++) {
        vec result[WINOGRAD_SIDE];
        winograd_weights_line(m, half[i], result);
        winograd_put(v + i * side * t->v_step, t->v_step, side, grouped, t->lane, mask, result);
    }
}
WINOGRAD_KERNEL(weights, tl_winograd_weights)

WINOGRAD_INLINE void winograd_finish(const tl_winograd_output *t, int pixel, int64_t channel,
                                     vec bias, vec_mask mask, vec value) {
    if (t->y_at[pixel] < 0) return;
    int64_t at = t->y_at[pixel] + channel;
    elem *y = (elem *)t->y + at;
    if (t->accumulate) value = vec_add(value, elem_load_first(y, mask));
    value = vec_add(value, bias);
    if (t->residual) value = vec_add(value, elem_load_first((const elem *)t->residual + at, mask));
    if (t->act > TL_ACT_RELU6) value = elem_rounded(value);
    elem_store_first(y, mask, vec_act(t->act, value));
}

WINOGRAD_INLINE void winograd_output_channels(const tl_winograd_output *t, const int m,
                                              int64_t channel, vec_mask mask) {
    const int side = m + 2;
    vec half[WINOGRAD_SIDE][WINOGRAD_SIDE];
    UNROLL
    for (int j = 0; j < side; j++) {
        vec line[WINOGRAD_SIDE], result[WINOGRAD_SIDE];
        UNROLL
        for (int i = 0; i < side; i++)
            line[i] = vec_load_first(t->t + (i * side + j) * t->t_step + channel, mask);
        winograd_output_line(m, line, result);
        UNROLL
        for (int i = 0; i < m; i++) half[i][j] = result[i];
    }
    vec bias = t->bias ? vec_load_first(t->bias + channel, mask) : vec_set(0.0f);
    UNROLL
    for (int i = 0; i < m; i++) {
        vec result[WINOGRAD_SIDE];
        winograd_output_line(m, half[i], result);
        UNROLL
        for (int j = 0; j < m; j++) winograd_finish(t, i * m + j, channel, bias, mask, result[j]);
    }
}
WINOGRAD_KERNEL(output, tl_winograd_output)

WINOGRAD_INLINE void winograd_filter_channels(const tl_winograd_filter *t, const int m,
                                              int64_t channel, vec_mask mask) {
    const int side = m + 2;
    vec half[3][WINOGRAD_SIDE];
    UNROLL
    for (int j = 0; j < side; j++) {
        vec line[WINOGRAD_SIDE], result[3];
        UNROLL
        for (int i = 0; i < side; i++)
            line[i] = vec_load_first(t->t + (i * side + j) * t->t_step + channel, mask);
        winograd_filter_line(m, line, result);
        UNROLL
        for (int i = 0; i < 3; i++) half[i][j] = result[i];
    }
    UNROLL
    for (int i = 0; i < 3; i++) {
        vec result[3];
        winograd_filter_line(m, half[i], result);
        UNROLL
        for (int j = 0; j < 3; j++) {
            float *dw = t->dw + (i * 3 + j) * t->dw_tap + channel;
            vec_store_first(dw, mask, vec_add(vec_load_first(dw, mask), result[j]));
        }
    }
}
WINOGRAD_KERNEL(filter, tl_winograd_filter)

/* The slots of a table. */
#define SIMD_WINOGRAD                                                                              \
    .winograd_input = simd_winograd_input, .winograd_output = simd_winograd_output,                \
    .winograd_weights = simd_winograd_weights, .winograd_gradient = simd_winograd_gradient,        \
    .winograd_filter = simd_winograd_filter

#endif
