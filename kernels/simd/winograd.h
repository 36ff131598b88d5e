/* Winograd transforms for whichever vec.h was included before. Channels run along the vector. */
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

enum { WINOGRAD_SIDE = 6 };

/* One vector of channels; m is a constant. */
WINOGRAD_INLINE void winograd_input_channels(const tl_winograd_input *t, const int m,
                                             int64_t channel, vec_mask mask) {
    const int side = m + 2;
    vec half[WINOGRAD_SIDE][WINOGRAD_SIDE];
    UNROLL
    for (int j = 0; j < side; j++) {
        vec line[WINOGRAD_SIDE], result[WINOGRAD_SIDE];
        UNROLL
        for (int i = 0; i < side; i++) line[i] = vec_load_first(t->x[i * side + j] + channel, mask);
        if (m == 2)
            winograd_input_2(line, result);
        else
            winograd_input_4(line, result);
        UNROLL
        for (int i = 0; i < side; i++) half[i][j] = result[i];
    }
    UNROLL
    for (int i = 0; i < side; i++) {
        vec result[WINOGRAD_SIDE];
        if (m == 2)
            winograd_input_2(half[i], result);
        else
            winograd_input_4(half[i], result);
        float *v = t->v + i * side * t->v_step + channel;
        UNROLL
        for (int j = 0; j < side; j++) vec_store_first(v + j * t->v_step, mask, result[j]);
    }
}

static void simd_winograd_input(const tl_winograd_input *t) {
    for (int64_t channel = 0; channel < t->c; channel += VEC) {
        vec_mask mask = vec_first(t->c - channel);
        if (t->m == 2)
            winograd_input_channels(t, 2, channel, mask);
        else
            winograd_input_channels(t, 4, channel, mask);
    }
}

WINOGRAD_INLINE void winograd_finish(const tl_winograd_output *t, int pixel, int64_t channel,
                                     vec bias, vec_mask mask, vec value) {
    if (t->y_at[pixel] < 0) return;
    int64_t at = t->y_at[pixel] + channel;
    if (t->accumulate) value = vec_add(value, vec_load_first(t->y + at, mask));
    value = vec_add(value, bias);
    if (t->residual) value = vec_add(value, vec_load_first(t->residual + at, mask));
    vec_store_first(t->y + at, mask, vec_act(t->act, value));
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
        if (m == 2)
            winograd_output_2(line, result);
        else
            winograd_output_4(line, result);
        UNROLL
        for (int i = 0; i < m; i++) half[i][j] = result[i];
    }
    vec bias = t->bias ? vec_load_first(t->bias + channel, mask) : vec_set(0.0f);
    UNROLL
    for (int i = 0; i < m; i++) {
        vec result[WINOGRAD_SIDE];
        if (m == 2)
            winograd_output_2(half[i], result);
        else
            winograd_output_4(half[i], result);
        UNROLL
        for (int j = 0; j < m; j++) winograd_finish(t, i * m + j, channel, bias, mask, result[j]);
    }
}

static void simd_winograd_output(const tl_winograd_output *t) {
    for (int64_t channel = 0; channel < t->c; channel += VEC) {
        vec_mask mask = vec_first(t->c - channel);
        if (t->m == 2)
            winograd_output_channels(t, 2, channel, mask);
        else
            winograd_output_channels(t, 4, channel, mask);
    }
}

WINOGRAD_INLINE void winograd_weights_filters(const tl_winograd_weights *t, const int m,
                                              int64_t filter, vec_mask mask) {
    const int side = m + 2;
    vec half[WINOGRAD_SIDE][3];
    UNROLL
    for (int j = 0; j < 3; j++) {
        vec line[3], result[WINOGRAD_SIDE];
        UNROLL
        for (int i = 0; i < 3; i++)
            line[i] = vec_load_first(t->w + (i * 3 + j) * t->w_tap + filter, mask);
        if (m == 2)
            winograd_weights_2(line, result);
        else
            winograd_weights_4(line, result);
        UNROLL
        for (int i = 0; i < side; i++) half[i][j] = result[i];
    }
    UNROLL
    for (int i = 0; i < side; i++) {
        vec result[WINOGRAD_SIDE];
        if (m == 2)
            winograd_weights_2(half[i], result);
        else
            winograd_weights_4(half[i], result);
        float *v = t->v + i * side * t->v_step + filter;
        UNROLL
        for (int j = 0; j < side; j++) vec_store_first(v + j * t->v_step, mask, result[j]);
    }
}

static void simd_winograd_weights(const tl_winograd_weights *t) {
    for (int64_t filter = 0; filter < t->c; filter += VEC) {
        vec_mask mask = vec_first(t->c - filter);
        if (t->m == 2)
            winograd_weights_filters(t, 2, filter, mask);
        else
            winograd_weights_filters(t, 4, filter, mask);
    }
}

WINOGRAD_INLINE void winograd_gradient_channels(const tl_winograd_input *t, const int m,
                                                int64_t channel, vec_mask mask) {
    const int side = m + 2;
    vec half[WINOGRAD_SIDE][WINOGRAD_SIDE];
    UNROLL
    for (int j = 0; j < m; j++) {
        vec line[WINOGRAD_SIDE], result[WINOGRAD_SIDE];
        UNROLL
        for (int i = 0; i < m; i++) line[i] = vec_load_first(t->x[i * m + j] + channel, mask);
        if (m == 2)
            winograd_gradient_2(line, result);
        else
            winograd_gradient_4(line, result);
        UNROLL
        for (int i = 0; i < side; i++) half[i][j] = result[i];
    }
    UNROLL
    for (int i = 0; i < side; i++) {
        vec result[WINOGRAD_SIDE];
        if (m == 2)
            winograd_gradient_2(half[i], result);
        else
            winograd_gradient_4(half[i], result);
        float *v = t->v + i * side * t->v_step + channel;
        UNROLL
        for (int j = 0; j < side; j++) vec_store_first(v + j * t->v_step, mask, result[j]);
    }
}

static void simd_winograd_gradient(const tl_winograd_input *t) {
    for (int64_t channel = 0; channel < t->c; channel += VEC) {
        vec_mask mask = vec_first(t->c - channel);
        if (t->m == 2)
            winograd_gradient_channels(t, 2, channel, mask);
        else
            winograd_gradient_channels(t, 4, channel, mask);
    }
}

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
        if (m == 2)
            winograd_filter_2(line, result);
        else
            winograd_filter_4(line, result);
        UNROLL
        for (int i = 0; i < 3; i++) half[i][j] = result[i];
    }
    UNROLL
    for (int i = 0; i < 3; i++) {
        vec result[3];
        if (m == 2)
            winograd_filter_2(half[i], result);
        else
            winograd_filter_4(half[i], result);
        UNROLL
        for (int j = 0; j < 3; j++) {
            float *dw = t->dw + (i * 3 + j) * t->dw_tap + channel;
            vec_store_first(dw, mask, vec_add(vec_load_first(dw, mask), result[j]));
        }
    }
}

static void simd_winograd_filter(const tl_winograd_filter *t) {
    for (int64_t channel = 0; channel < t->c; channel += VEC) {
        vec_mask mask = vec_first(t->c - channel);
        if (t->m == 2)
            winograd_filter_channels(t, 2, channel, mask);
        else
            winograd_filter_channels(t, 4, channel, mask);
    }
}

#endif
