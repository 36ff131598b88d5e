/* Reference matrix multiplication: the specification of tl_gemm_tile, written so that a compiler
 * can keep a row of C in the registers of any machine. */
#include "ref/ref.h"

#include <string.h>

static void add_row(const tl_gemm_tile *t, int64_t row, int columns, float sum[TL_REF_NR]) {
    for (int64_t r = 0; r < t->taps; r++) {
        const void *first = t->a[r * TL_REF_MR + (t->a_row ? 0 : row)];
        const float *a = (const float *)first + t->a_offset + row * t->a_row;
        const float *b = (const float *)t->b + r * t->b_tap;
        for (int64_t k = 0; k < t->k; k++) {
            float value = a[k * t->a_step];
            for (int j = 0; j < columns; j++) sum[j] += value * b[j];
            b += t->b_step;
        }
    }
}

static void finish_row(const tl_gemm_tile *t, int64_t at, int columns, const float *sum) {
    float *c = (float *)t->c + at;
    const float *residual = t->residual;
    for (int j = 0; j < columns; j++) {
        float value = sum[j];
        if (t->accumulate) value += c[j];
        if (t->bias) value += t->bias[j];
        if (residual) value += residual[at + j];
        c[j] = tl_ref_act(t->act, value);
    }
}

void tl_ref_group_rows(const void *const *rows, int64_t from, int64_t groups, int64_t n, void *to,
                       int64_t y_step) {
    float *y = to;
    for (int64_t i = 0; i < groups; i++, y += y_step) {
        const float *row = rows[i];
        for (int64_t j = 0; j < n; j++) y[j] = row ? row[from + j] : 0;
    }
}

void tl_ref_group_floats(const float *x, int64_t x_step, int64_t count, void *to, int64_t n) {
    float *y = to;
    for (int64_t i = 0; i < count; i++, x += x_step, y += n) memcpy(y, x, (size_t)n * sizeof *y);
}

/* No registers need setting up. */
void tl_ref_gemm_nothing(void) {
}

void tl_ref_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns) {
    for (int64_t i = 0; i < rows; i++) {
        float sum[TL_REF_NR] = {0};
        if (columns == TL_REF_NR)
            add_row(tile, i, TL_REF_NR, sum);
        else
            add_row(tile, i, columns, sum);
        finish_row(tile, tl_gemm_place(tile, i), columns, sum);
    }
}
