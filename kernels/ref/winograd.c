/* Reference Winograd transforms, one channel at a time. */
#include "ref/ref.h"

#define WINOGRAD_TYPE float
#define WINOGRAD_ADD(a, b) ((a) + (b))
#define WINOGRAD_SUB(a, b) ((a) - (b))
#define WINOGRAD_MUL(constant, b) ((constant) * (b))
#define WINOGRAD_FMA(constant, b, c) ((constant) * (b) + (c))
#include "winograd_points.h"

enum { MAX_SIDE = 9 };

typedef void (*line_fn)(const float *from, float *to);

/* What turns one line into another: of all that a tile goes through, by form. */
typedef struct line_fns {
    int m, r;
    line_fn input, output, weights, gradient, filter;
} line_fns;

static line_fns lines_of(tl_winograd f) {
    static const line_fns all[] = {
        {2, 3, winograd_input_p4, winograd_output_2_3, winograd_weights_2_3, winograd_gradient_2_3,
         winograd_filter_2_3},
        {4, 3, winograd_input_p6, winograd_output_4_3, winograd_weights_4_3, winograd_gradient_4_3,
         winograd_filter_4_3},
        {2, 5, winograd_input_p6, winograd_output_2_5, winograd_weights_2_5, NULL, NULL},
        {3, 7, winograd_input_p9, winograd_output_3_7, winograd_weights_3_7, NULL, NULL}};
    int i = 0;
    while (all[i].m != f.m || all[i].r != f.r) i++;
    return all[i];
}

/* A line of `from` values, or a square of them, becomes one of `to`. One dimension after the other:
 * columns, then rows. */
static void transform(line_fn fn, int axes, int from, int to, const float *in, float *out) {
    float line[MAX_SIDE], result[MAX_SIDE], half[MAX_SIDE * MAX_SIDE];
    if (axes == 1) {
        fn(in, out);
        return;
    }
    for (int j = 0; j < from; j++) {
        for (int i = 0; i < from; i++) line[i] = in[i * from + j];
        fn(line, result);
        for (int i = 0; i < to; i++) half[i * from + j] = result[i];
    }
    for (int i = 0; i < to; i++) fn(half + i * from, out + i * to);
}

/* Pixels of `lines` or of a square of them. */
static void transform_pixels(const tl_winograd_input *t, line_fn fn, int lines) {
    float in[TL_WINOGRAD_POINTS], out[TL_WINOGRAD_POINTS];
    int pixels = tl_winograd_area(t->f, lines), points = tl_winograd_points(t->f);
    for (int64_t c = 0; c < t->c; c++) {
        for (int p = 0; p < pixels; p++) in[p] = ((const float *)t->x[p])[t->first + c];
        transform(fn, t->f.axes, lines, t->f.m + t->f.r - 1, in, out);
        for (int p = 0; p < points; p++) ((float *)t->v)[p * t->v_step + c] = out[p];
    }
}

void tl_ref_winograd_input(const tl_winograd_input *t) {
    transform_pixels(t, lines_of(t->f).input, t->f.m + t->f.r - 1);
}

void tl_ref_winograd_gradient(const tl_winograd_input *t) {
    transform_pixels(t, lines_of(t->f).gradient, t->f.m);
}

void tl_ref_winograd_output(const tl_winograd_output *t) {
    float in[TL_WINOGRAD_POINTS], out[TL_WINOGRAD_POINTS];
    int pixels = tl_winograd_area(t->f, t->f.m), points = tl_winograd_points(t->f);
    for (int64_t c = 0; c < t->c; c++) {
        for (int p = 0; p < points; p++) in[p] = t->t[p * t->t_step + c];
        transform(lines_of(t->f).output, t->f.axes, t->f.m + t->f.r - 1, t->f.m, in, out);
        for (int p = 0; p < pixels; p++) {
            if (t->y_at[p] < 0) continue;
            int64_t at = t->y_at[p] + c;
            float value = out[p];
            float *y = (float *)t->y + at;
            if (t->accumulate) value += *y;
            if (t->bias) value += t->bias[c];
            if (t->residual) value += ((const float *)t->residual)[at];
            *y = tl_ref_act(t->act, value);
        }
    }
}

void tl_ref_winograd_weights(const tl_winograd_weights *t) {
    float in[TL_WINOGRAD_POINTS], out[TL_WINOGRAD_POINTS];
    int taps = tl_winograd_area(t->f, t->f.r), points = tl_winograd_points(t->f);
    for (int64_t c = 0; c < t->c; c++) {
        for (int p = 0; p < taps; p++) in[p] = t->w[p * t->w_tap + c];
        transform(lines_of(t->f).weights, t->f.axes, t->f.r, t->f.m + t->f.r - 1, in, out);
        for (int p = 0; p < points; p++) ((float *)t->v)[p * t->v_step + c] = out[p];
    }
}

void tl_ref_winograd_filter(const tl_winograd_filter *t) {
    float in[TL_WINOGRAD_POINTS], out[TL_WINOGRAD_POINTS];
    int taps = tl_winograd_area(t->f, t->f.r), points = tl_winograd_points(t->f);
    for (int64_t c = 0; c < t->c; c++) {
        for (int p = 0; p < points; p++) in[p] = t->t[p * t->t_step + c];
        transform(lines_of(t->f).filter, t->f.axes, t->f.m + t->f.r - 1, t->f.r, in, out);
        for (int p = 0; p < taps; p++) t->dw[p * t->dw_tap + c] += out[p];
    }
}
