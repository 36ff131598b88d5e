/* Reference Winograd transforms, one channel at a time. */
#include "ref/ref.h"

#define WINOGRAD_TYPE float
#define WINOGRAD_ADD(a, b) ((a) + (b))
#define WINOGRAD_SUB(a, b) ((a) - (b))
#define WINOGRAD_MUL(constant, b) ((constant) * (b))
#define WINOGRAD_FMA(constant, b, c) ((constant) * (b) + (c))
#include "winograd_points.h"

enum { MAX_SIDE = 6 };

/* One dimension after the other: columns, then rows. */
static void transform_input(int m, float tile[MAX_SIDE][MAX_SIDE]) {
    float line[MAX_SIDE], result[MAX_SIDE];
    int side = m + 2;
    for (int j = 0; j < side; j++) {
        for (int i = 0; i < side; i++) line[i] = tile[i][j];
        m == 2 ? winograd_input_2(line, result) : winograd_input_4(line, result);
        for (int i = 0; i < side; i++) tile[i][j] = result[i];
    }
    for (int i = 0; i < side; i++) {
        m == 2 ? winograd_input_2(tile[i], result) : winograd_input_4(tile[i], result);
        for (int j = 0; j < side; j++) tile[i][j] = result[j];
    }
}

static void put_points(float *v, int64_t v_step, int side, int64_t at,
                       float tile[MAX_SIDE][MAX_SIDE]) {
    for (int p = 0; p < side * side; p++) v[p * v_step + at] = tile[p / side][p % side];
}

void tl_ref_winograd_input(const tl_winograd_input *t) {
    int side = t->m + 2;
    for (int64_t c = 0; c < t->c; c++) {
        float tile[MAX_SIDE][MAX_SIDE];
        for (int p = 0; p < side * side; p++)
            tile[p / side][p % side] = ((const float *)t->x[p])[c];
        transform_input(t->m, tile);
        put_points(t->v, t->v_step, side, c, tile);
    }
}

static void transform_output(int m, float tile[MAX_SIDE][MAX_SIDE]) {
    float line[MAX_SIDE], result[MAX_SIDE];
    int side = m + 2;
    for (int j = 0; j < side; j++) {
        for (int i = 0; i < side; i++) line[i] = tile[i][j];
        m == 2 ? winograd_output_2(line, result) : winograd_output_4(line, result);
        for (int i = 0; i < m; i++) tile[i][j] = result[i];
    }
    for (int i = 0; i < m; i++) {
        m == 2 ? winograd_output_2(tile[i], result) : winograd_output_4(tile[i], result);
        for (int j = 0; j < m; j++) tile[i][j] = result[j];
    }
}

void tl_ref_winograd_output(const tl_winograd_output *t) {
    int side = t->m + 2;
    for (int64_t c = 0; c < t->c; c++) {
        float tile[MAX_SIDE][MAX_SIDE];
        for (int p = 0; p < side * side; p++) tile[p / side][p % side] = t->t[p * t->t_step + c];
        transform_output(t->m, tile);
        for (int p = 0; p < t->m * t->m; p++) {
            if (t->y_at[p] < 0) continue;
            int64_t at = t->y_at[p] + c;
            float value = tile[p / t->m][p % t->m];
            float *y = (float *)t->y + at;
            if (t->accumulate) value += *y;
            if (t->bias) value += t->bias[c];
            if (t->residual) value += ((const float *)t->residual)[at];
            *y = tl_ref_act(t->act, value);
        }
    }
}

static void transform_weights(int m, float tile[MAX_SIDE][MAX_SIDE]) {
    float line[3], result[MAX_SIDE];
    int side = m + 2;
    for (int j = 0; j < 3; j++) {
        for (int i = 0; i < 3; i++) line[i] = tile[i][j];
        m == 2 ? winograd_weights_2(line, result) : winograd_weights_4(line, result);
        for (int i = 0; i < side; i++) tile[i][j] = result[i];
    }
    for (int i = 0; i < side; i++) {
        m == 2 ? winograd_weights_2(tile[i], result) : winograd_weights_4(tile[i], result);
        for (int j = 0; j < side; j++) tile[i][j] = result[j];
    }
}

void tl_ref_winograd_weights(const tl_winograd_weights *t) {
    int side = t->m + 2;
    for (int64_t c = 0; c < t->c; c++) {
        float tile[MAX_SIDE][MAX_SIDE];
        for (int p = 0; p < 9; p++) tile[p / 3][p % 3] = t->w[p * t->w_tap + c];
        transform_weights(t->m, tile);
        put_points(t->v, t->v_step, side, c, tile);
    }
}

static void transform_gradient(int m, float tile[MAX_SIDE][MAX_SIDE]) {
    float line[MAX_SIDE], result[MAX_SIDE];
    int side = m + 2;
    for (int j = 0; j < m; j++) {
        for (int i = 0; i < m; i++) line[i] = tile[i][j];
        m == 2 ? winograd_gradient_2(line, result) : winograd_gradient_4(line, result);
        for (int i = 0; i < side; i++) tile[i][j] = result[i];
    }
    for (int i = 0; i < side; i++) {
        m == 2 ? winograd_gradient_2(tile[i], result) : winograd_gradient_4(tile[i], result);
        for (int j = 0; j < side; j++) tile[i][j] = result[j];
    }
}

void tl_ref_winograd_gradient(const tl_winograd_input *t) {
    int side = t->m + 2;
    for (int64_t c = 0; c < t->c; c++) {
        float tile[MAX_SIDE][MAX_SIDE];
        for (int p = 0; p < t->m * t->m; p++)
            tile[p / t->m][p % t->m] = ((const float *)t->x[p])[c];
        transform_gradient(t->m, tile);
        put_points(t->v, t->v_step, side, c, tile);
    }
}

static void transform_filter(int m, float tile[MAX_SIDE][MAX_SIDE]) {
    float line[MAX_SIDE], result[MAX_SIDE];
    int side = m + 2;
    for (int j = 0; j < side; j++) {
        for (int i = 0; i < side; i++) line[i] = tile[i][j];
        m == 2 ? winograd_filter_2(line, result) : winograd_filter_4(line, result);
        for (int i = 0; i < 3; i++) tile[i][j] = result[i];
    }
    for (int i = 0; i < 3; i++) {
        m == 2 ? winograd_filter_2(tile[i], result) : winograd_filter_4(tile[i], result);
        for (int j = 0; j < 3; j++) tile[i][j] = result[j];
    }
}

void tl_ref_winograd_filter(const tl_winograd_filter *t) {
    int side = t->m + 2;
    for (int64_t c = 0; c < t->c; c++) {
        float tile[MAX_SIDE][MAX_SIDE];
        for (int p = 0; p < side * side; p++) tile[p / side][p % side] = t->t[p * t->t_step + c];
        transform_filter(t->m, tile);
        for (int p = 0; p < 9; p++) t->dw[p * t->dw_tap + c] += tile[p / 3][p % 3];
    }
}
