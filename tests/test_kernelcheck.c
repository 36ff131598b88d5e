/* Every kernel of every instruction set that this machine offers: the tile and the depthwise rows
 * against sums in float64, the rest against the reference, over seeded odd shapes in buffers that
 * notice a stray access. `--bench` times the same kernels instead; see kernelbench.h. */
#include "kernelcheck.h"

#include <sys/wait.h>

#include "kernelbench.h"
#include "ref/ref.h"

enum { MAX_ROWS = 16, MAX_TAPS = 5 };

/* What an epilogue adds to a sum and makes of it. */
static void compare_epilogue(worst *w, float got, exact sum, const float *before, const float *bias,
                             const float *residual, tl_act act) {
    if (before) exact_add(&sum, (double)*before);
    if (bias) exact_add(&sum, (double)*bias);
    if (residual) exact_add(&sum, (double)*residual);
    double want = (double)tl_ref_act(act, (float)sum.value);
    worst_compare(w, (double)got, want, 1.2 * exact_bound(&sum) + 1e-6 * fabs(want));
}

/* --- the tile ------------------------------------------------------------------------------- */

static void compare_tile(const tl_gemm_tile *t, const float *before, int mr, int rows, int columns,
                         worst *w) {
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
            exact sum = {0};
            for (int64_t r = 0; r < t->taps; r++) {
                const float *a = (const float *)t->a[r * mr + i] + t->a_offset;
                const float *b = (const float *)t->b + r * t->b_tap + j;
                for (int64_t k = 0; k < t->k; k++)
                    exact_add(&sum, (double)a[k * t->a_step] * (double)b[k * t->b_step]);
            }
            int64_t at = t->c_row[i] + j;
            const float *residual = t->residual;
            compare_epilogue(w, ((const float *)t->c)[at], sum, t->accumulate ? before + at : NULL,
                             t->bias ? t->bias + j : NULL, residual ? residual + at : NULL, t->act);
        }
    }
}

static void check_tile_of(const struct tl_kernels *kernels, int rows, int columns, uint64_t *seed,
                          worst *w) {
    int mr = kernels->mr, width = columns > kernels->nr_narrow ? kernels->nr : kernels->nr_narrow;
    tl_gemm_tile t = {.taps = random_between(seed, 0, MAX_TAPS),
                      .k = random_between(seed, 1, 40),
                      .a_offset = random_between(seed, 0, 3),
                      .a_step = random_between(seed, 0, 1) ? 1 : rows,
                      .b_step = width + random_between(seed, 0, 3),
                      .accumulate = random_between(seed, 0, 1),
                      .act = (tl_act)random_between(seed, 0, TL_ACT_GELU)};
    t.b_tap = t.k * t.b_step + random_between(seed, 0, 5);
    size_t taps = (size_t)t.taps;
    /* Row i of a tap: k values a_step apart, all rows of all taps one after the other. */
    size_t row = (size_t)(t.a_offset + (t.k - 1) * t.a_step + 1);
    guarded a = guarded_random(taps * (size_t)rows * row + 1, seed);
    size_t panel = taps ? (taps - 1) * (size_t)t.b_tap + (size_t)((t.k - 1) * t.b_step + width) : 1;
    guarded b = guarded_random(panel, seed);
    int64_t c_step = columns + random_between(seed, 0, 4);
    guarded c = guarded_random((size_t)((rows - 1) * c_step + columns), seed);
    guarded before = guarded_copy(&c), residual = guarded_random(c.count, seed);
    guarded bias = guarded_random((size_t)columns, seed);
    const void *pointers[MAX_TAPS * MAX_ROWS] = {0};
    int64_t c_row[MAX_ROWS];
    for (int i = 0; i < rows; i++) {
        c_row[i] = (rows - 1 - i) * c_step; /* rows may lie in any order */
        for (size_t r = 0; r < taps; r++)
            pointers[r * (size_t)mr + (size_t)i] = a.data + (r * (size_t)rows + (size_t)i) * row;
    }
    guarded list = guarded_of(
        pointers, taps ? ((taps - 1) * (size_t)mr + (size_t)rows) * sizeof *pointers : 0);
    guarded offsets = guarded_of(c_row, (size_t)rows * sizeof *c_row);
    t.a = (const void *const *)(const void *)list.data;
    t.b = b.data;
    t.c = c.data;
    t.c_row = (const int64_t *)(const void *)offsets.data;
    if (random_between(seed, 0, 1)) t.bias = bias.data;
    if (random_between(seed, 0, 1)) t.next = a.data + a.count - 1; /* fetched, never read */
    if (random_between(seed, 0, 1)) t.residual = residual.data;
    RUN(kernels, gemm_tile)(&t, rows, columns);
    compare_tile(&t, before.data, mr, rows, columns, w);
    for (int i = 0; i + 1 < rows; i++) /* between the rows nothing was written */
        assert_memory_equal(c.data + i * c_step + columns, before.data + i * c_step + columns,
                            (size_t)(c_step - columns) * sizeof(float));
    guarded *all[] = {&a, &b, &c, &before, &residual, &bias, &list, &offsets};
    free_all(all, 8);
}

static void check_tiles(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    assert_true(kernels->mr <= MAX_ROWS);
    RUN(kernels, gemm_begin)();
    for (int rows = 1; rows <= kernels->mr; rows++) {
        for (int columns = 1; columns <= kernels->nr; columns++)
            check_tile_of(kernels, rows, columns, seed, w);
    }
    RUN(kernels, gemm_end)();
}

static void test_gemm_tile(void **state) {
    (void)state;
    check_tables("gemm_tile", check_tiles, 4);
}

/* --- depthwise ------------------------------------------------------------------------------ */

/* The geometry of a gradient. */
typedef struct row_shape {
    int kh, kw;
    int64_t x_step, x_tap, pixels, c, y_step, w_tap, w_row;
    size_t x_row; /* floats of one input row */
} row_shape;

static row_shape random_row(uint64_t *seed) {
    row_shape s = {.kh = random_between(seed, 1, MAX_TAPS), .c = random_between(seed, 1, 40)};
    s.kw = random_between(seed, 0, 1) ? s.kh : random_between(seed, 1, MAX_TAPS + 2);
    s.pixels = random_between(seed, 1, 19);
    s.x_tap = s.c * random_between(seed, 1, 2);
    s.x_step = random_between(seed, 0, 2) ? s.x_tap * random_between(seed, 1, 2) : s.c * 3;
    s.y_step = s.c * random_between(seed, 1, 2);
    s.w_tap = s.c + random_between(seed, 0, 3);
    s.w_row = s.kw * s.w_tap;
    s.x_row = (size_t)((s.pixels - 1) * s.x_step + (s.kw - 1) * s.x_tap + s.c);
    return s;
}

/* The pointers to the rows of x, which overlap in no way, so that one buffer serves each. */
static guarded make_rows(const row_shape *s, const guarded *x) {
    const void *rows[MAX_TAPS];
    for (int i = 0; i < s->kh; i++) rows[i] = x->data + (size_t)(s->kh - 1 - i) * s->x_row;
    return guarded_of(rows, (size_t)s->kh * sizeof *rows);
}

/* A random call, of rows of x that overlap in no way: some are missing, others end where a tap
 * still looks. */
static tl_depthwise_row random_call(uint64_t *seed) {
    int kernel = random_between(seed, 1, MAX_TAPS), stride = random_between(seed, 1, 3);
    bool square = random_between(seed, 0, 3) > 0;
    tl_depthwise_row d = {.kh = kernel,
                          .kw = square ? kernel : random_between(seed, 1, MAX_TAPS + 2),
                          .rows = random_between(seed, 1, TL_DEPTHWISE_ROWS),
                          .row_step = square ? stride : random_between(seed, 1, 3),
                          .step = stride,
                          .tap = random_between(seed, 0, 2) ? 1 : 2,
                          .pixels = random_between(seed, 1, 19),
                          .c = random_between(seed, 0, 5) ? random_between(seed, 1, 40) : 150,
                          .accumulate = random_between(seed, 0, 3) == 0,
                          .act = (tl_act)random_between(seed, 0, TL_ACT_GELU)};
    int64_t reach = (d.pixels - 1) * d.step + (d.kw - 1) * d.tap + 1;
    d.first = random_between(seed, 0, 2) ? -random_between(seed, 0, 4) : random_between(seed, 0, 2);
    d.width = random_between(seed, 0, 2) ? reach + d.first : reach - random_between(seed, 0, 3);
    if (d.width < 1) d.width = 1;
    d.x_pixel = d.c * random_between(seed, 1, 2);
    d.w_tap = d.c + random_between(seed, 0, 3);
    d.w_row = d.kw * d.w_tap;
    d.y_pixel = d.c * random_between(seed, 1, 2);
    d.y_row = d.pixels * d.y_pixel + random_between(seed, 0, 3);
    return d;
}

static guarded random_rows(const tl_depthwise_row *d, const guarded *x, uint64_t *seed) {
    const void *rows[MAX_TAPS + 3 * (TL_DEPTHWISE_ROWS - 1)];
    int count = d->kh + (d->rows - 1) * d->row_step;
    int64_t size = (d->width - 1) * d->x_pixel + d->c;
    for (int i = 0; i < count; i++)
        rows[i] = random_between(seed, 0, 6) ? x->data + (count - 1 - i) * size : NULL;
    return guarded_of(rows, (size_t)count * sizeof *rows);
}

static exact exact_taps(const tl_depthwise_row *d, int row, int64_t pixel, int64_t channel) {
    exact sum = {0};
    for (int i = 0; i < d->kh; i++) {
        const float *x = d->x[row * d->row_step + i];
        for (int j = 0; j < d->kw; j++) {
            int64_t column = d->first + pixel * d->step + j * d->tap;
            if (!x || column < 0 || column >= d->width) continue;
            exact_add(&sum, (double)x[column * d->x_pixel + channel] *
                                (double)d->w[i * d->w_row + j * d->w_tap + channel]);
        }
    }
    return sum;
}

static void compare_row(const tl_depthwise_row *d, const float *before, worst *w) {
    const float *y = d->y, *residual = d->residual;
    for (int64_t i = 0; i < d->rows * d->pixels; i++) {
        for (int64_t c = 0; c < d->c; c++) {
            int64_t at = i / d->pixels * d->y_row + i % d->pixels * d->y_pixel + c;
            exact sum = exact_taps(d, (int)(i / d->pixels), i % d->pixels, c);
            compare_epilogue(w, y[at], sum, d->accumulate ? before + at : NULL,
                             d->bias ? d->bias + c : NULL, residual ? residual + at : NULL, d->act);
        }
    }
}

static void check_depthwise_row(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    tl_depthwise_row d = random_call(seed);
    int64_t x_rows = d.kh + (d.rows - 1) * d.row_step;
    guarded x = guarded_random((size_t)(x_rows * ((d.width - 1) * d.x_pixel + d.c)), seed);
    guarded weights = guarded_random((size_t)(d.kh * d.w_row - d.w_tap + d.c), seed);
    int64_t y_size = (d.rows - 1) * d.y_row + (d.pixels - 1) * d.y_pixel + d.c;
    guarded y = guarded_random((size_t)y_size, seed);
    guarded before = guarded_copy(&y), residual = guarded_random(y.count, seed);
    guarded bias = guarded_random((size_t)d.c, seed);
    guarded rows = random_rows(&d, &x, seed);
    d.x = (const void *const *)(const void *)rows.data;
    d.w = weights.data;
    d.y = y.data;
    d.bias = random_between(seed, 0, 1) ? bias.data : NULL;
    d.residual = random_between(seed, 0, 1) ? residual.data : NULL;
    RUN(kernels, depthwise_row)(&d);
    compare_row(&d, before.data, w);
    guarded *all[] = {&x, &weights, &y, &before, &residual, &bias, &rows};
    free_all(all, 7);
}

static void test_depthwise_row(void **state) {
    (void)state;
    check_tables("depthwise_row", check_depthwise_row, 600);
}

static void check_depthwise_grad(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    row_shape s = random_row(seed);
    guarded x = guarded_random((size_t)s.kh * s.x_row, seed);
    guarded dw = guarded_random((size_t)(s.kh * s.w_row - s.w_tap + s.c), seed);
    guarded dy = guarded_random((size_t)((s.pixels - 1) * s.y_step + s.c), seed);
    guarded before = guarded_copy(&dw);
    guarded rows = make_rows(&s, &x);
    tl_depthwise_grad g = {.kh = s.kh,
                           .kw = s.kw,
                           .x = (const void *const *)(const void *)rows.data,
                           .x_step = s.x_step,
                           .x_tap = s.x_tap,
                           .dy = dy.data,
                           .dy_step = s.y_step,
                           .dw = dw.data,
                           .dw_row = s.w_row,
                           .dw_tap = s.w_tap,
                           .pixels = s.pixels,
                           .c = s.c};
    RUN(kernels, depthwise_grad)(&g);
    for (int i = 0; i < s.kh * s.kw; i++) {
        for (int64_t c = 0; c < s.c; c++) {
            int64_t at = i / s.kw * s.w_row + i % s.kw * s.w_tap + c;
            const float *from = (const float *)g.x[i / s.kw] + i % s.kw * s.x_tap + c;
            exact sum = {0};
            exact_add(&sum, (double)before.data[at]);
            for (int64_t p = 0; p < s.pixels; p++)
                exact_add(&sum, (double)dy.data[p * s.y_step + c] * (double)from[p * s.x_step]);
            worst_compare(w, (double)dw.data[at], sum.value, exact_bound(&sum));
        }
    }
    guarded *all[] = {&x, &dw, &dy, &before, &rows};
    free_all(all, 5);
}

static void test_depthwise_grad(void **state) {
    (void)state;
    check_tables("depthwise_grad", check_depthwise_grad, 600);
}

/* --- Winograd ------------------------------------------------------------------------------- */

/* The transforms as matrices in float64, from the points by the rules in winograd_points.h. */
typedef struct winograd_matrices {
    int m, side;
    double in[6][6], out[4][6];
    double gradient[6][4], filter[3][6]; /* out and the weights' transform, transposed */
} winograd_matrices;

static winograd_matrices make_matrices(int m) {
    static const double points2[] = {0, 1, -1};
    const double points4[] = {0, sqrt(0.5), -sqrt(0.5), sqrt(2.0), -sqrt(2.0)};
    const double *point = m == 2 ? points2 : points4;
    winograd_matrices w = {.m = m, .side = m + 2};
    for (int a = 0; a < w.side; a++) { /* the last row is infinity's: nothing is left out */
        double product[7] = {1}, distance = 1;
        int degree = 0;
        bool finite = a + 1 < w.side;
        for (int b = 0; b < w.side - 1; b++) {
            if (b == a) continue;
            if (finite) distance *= point[a] - point[b];
            for (int k = ++degree; k >= 0; k--)
                product[k] = (k ? product[k - 1] : 0) - point[b] * product[k];
        }
        double sign = m == 2 && a == 0 ? -1 : 1;
        for (int k = 0; k < w.side; k++) w.in[a][k] = sign * product[k];
        for (int j = 0; j < m; j++)
            w.gradient[a][j] = w.out[j][a] = finite ? pow(point[a], j) : (j == m - 1 ? 1.0 : 0.0);
        for (int j = 0; j < 3; j++)
            w.filter[j][a] = finite ? sign * pow(point[a], j) / distance : (j == 2 ? 1.0 : 0.0);
    }
    return w;
}

/* sum over a, b of left[i][a] right[j][b] x[a * side + b] */
static exact transform_exactly(const double *left, const double *right, int side, const float *x,
                               int64_t step) {
    exact sum = {0};
    for (int a = 0; a < side; a++) {
        for (int b = 0; b < side; b++)
            exact_add(&sum, left[a] * right[b] * (double)x[(a * side + b) * step]);
    }
    return sum;
}

static void check_winograd_input(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    winograd_matrices matrices = make_matrices(random_between(seed, 0, 1) ? 4 : 2);
    int side = matrices.side, points = side * side;
    int64_t c = random_between(seed, 1, 50), step = c + random_between(seed, 0, 5);
    guarded x = guarded_random((size_t)(points * c), seed);
    guarded v = guarded_random((size_t)((points - 1) * step + c), seed);
    const float *pixels[TL_WINOGRAD_POINTS];
    for (int p = 0; p < points; p++) pixels[p] = x.data + p * c;
    guarded list = guarded_of(pixels, (size_t)points * sizeof *pixels);
    tl_winograd_input call = {matrices.m, (const float *const *)(const void *)list.data, v.data,
                              step, c};
    RUN(kernels, winograd_input)(&call);
    for (int p = 0; p < points; p++) {
        for (int64_t k = 0; k < c; k++) {
            exact sum = transform_exactly(matrices.in[p / side], matrices.in[p % side], side,
                                          x.data + k, c);
            worst_compare(w, (double)v.data[p * step + k], sum.value, exact_bound(&sum));
        }
    }
    guarded *all[] = {&x, &v, &list};
    free_all(all, 3);
}

static void check_winograd_output(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    winograd_matrices matrices = make_matrices(random_between(seed, 0, 1) ? 4 : 2);
    int m = matrices.m, side = matrices.side;
    int64_t c = random_between(seed, 1, 50), step = c + random_between(seed, 0, 5);
    guarded t = guarded_random((size_t)((side * side - 1) * step + c), seed);
    guarded y = guarded_random((size_t)(m * m * c), seed), before = guarded_copy(&y);
    guarded bias = guarded_random((size_t)c, seed), residual = guarded_random(y.count, seed);
    int64_t y_at[TL_WINOGRAD_POINTS];
    for (int i = 0; i < m * m; i++) y_at[i] = random_between(seed, 0, 4) ? i * c : -1;
    guarded offsets = guarded_of(y_at, (size_t)(m * m) * sizeof *y_at);
    tl_winograd_output call = {.m = m,
                               .t = t.data,
                               .t_step = step,
                               .c = c,
                               .y = y.data,
                               .y_at = (const int64_t *)(const void *)offsets.data,
                               .accumulate = random_between(seed, 0, 1),
                               .bias = random_between(seed, 0, 1) ? bias.data : NULL,
                               .residual = random_between(seed, 0, 1) ? residual.data : NULL,
                               .act = (tl_act)random_between(seed, 0, 5)};
    RUN(kernels, winograd_output)(&call);
    for (int i = 0; i < m * m; i++) {
        for (int64_t k = 0; k < c; k++) {
            int64_t at = i * c + k;
            if (y_at[i] < 0) {
                assert_true(y.data[at] == before.data[at]);
                continue;
            }
            exact sum =
                transform_exactly(matrices.out[i / m], matrices.out[i % m], side, t.data + k, step);
            compare_epilogue(w, y.data[at], sum, call.accumulate ? before.data + at : NULL,
                             call.bias ? call.bias + k : NULL,
                             call.residual ? call.residual + at : NULL, call.act);
        }
    }
    guarded *all[] = {&t, &y, &before, &bias, &residual, &offsets};
    free_all(all, 6);
}

static void check_winograd_gradient(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    winograd_matrices matrices = make_matrices(random_between(seed, 0, 1) ? 4 : 2);
    int m = matrices.m, side = matrices.side, points = side * side;
    int64_t c = random_between(seed, 1, 50), step = c + random_between(seed, 0, 5);
    guarded x = guarded_random((size_t)(m * m * c), seed);
    guarded v = guarded_random((size_t)((points - 1) * step + c), seed);
    const float *pixels[TL_WINOGRAD_POINTS];
    for (int i = 0; i < m * m; i++) pixels[i] = x.data + i * c;
    tl_winograd_input call = {m, pixels, v.data, step, c};
    RUN(kernels, winograd_gradient)(&call);
    for (int p = 0; p < points; p++) {
        for (int64_t k = 0; k < c; k++) {
            exact sum = transform_exactly(matrices.gradient[p / side], matrices.gradient[p % side],
                                          m, x.data + k, c);
            worst_compare(w, (double)v.data[p * step + k], sum.value, exact_bound(&sum));
        }
    }
    guarded_free(&x);
    guarded_free(&v);
}

static void check_winograd_weights(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    winograd_matrices matrices = make_matrices(random_between(seed, 0, 1) ? 4 : 2);
    int side = matrices.side, points = side * side;
    int64_t c = random_between(seed, 1, 50), step = c + random_between(seed, 0, 5);
    guarded x = guarded_random((size_t)(9 * c), seed);
    guarded v = guarded_random((size_t)((points - 1) * step + c), seed);
    tl_winograd_weights call = {matrices.m, x.data, c, v.data, step, c};
    RUN(kernels, winograd_weights)(&call);
    for (int p = 0; p < points; p++) {
        double left[3], right[3];
        for (int j = 0; j < 3; j++) {
            left[j] = matrices.filter[j][p / side];
            right[j] = matrices.filter[j][p % side];
        }
        for (int64_t k = 0; k < c; k++) {
            exact sum = transform_exactly(left, right, 3, x.data + k, c);
            worst_compare(w, (double)v.data[p * step + k], sum.value, exact_bound(&sum));
        }
    }
    guarded_free(&x);
    guarded_free(&v);
}

static void check_winograd_filter(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    winograd_matrices matrices = make_matrices(random_between(seed, 0, 1) ? 4 : 2);
    int side = matrices.side;
    int64_t c = random_between(seed, 1, 50), step = c + random_between(seed, 0, 5);
    guarded t = guarded_random((size_t)((side * side - 1) * step + c), seed);
    guarded dw = guarded_random((size_t)(9 * c), seed), before = guarded_copy(&dw);
    tl_winograd_filter call = {matrices.m, t.data, step, c, dw.data, c};
    RUN(kernels, winograd_filter)(&call);
    for (int p = 0; p < 9; p++) {
        for (int64_t k = 0; k < c; k++) {
            exact sum = transform_exactly(matrices.filter[p / 3], matrices.filter[p % 3], side,
                                          t.data + k, step);
            exact_add(&sum, (double)before.data[p * c + k]);
            worst_compare(w, (double)dw.data[p * c + k], sum.value, exact_bound(&sum));
        }
    }
    guarded *all[] = {&t, &dw, &before};
    for (int i = 0; i < 3; i++) guarded_free(all[i]);
}

static void test_winograd(void **state) {
    (void)state;
    check_tables("winograd_input", check_winograd_input, 100);
    check_tables("winograd_output", check_winograd_output, 100);
    check_tables("winograd_weights", check_winograd_weights, 100);
    check_tables("winograd_gradient", check_winograd_gradient, 100);
    check_tables("winograd_filter", check_winograd_filter, 100);
}

/* --- element-wise --------------------------------------------------------------------------- */

/* Results that need not be bit-equal to the reference: the exponential has its own polynomial. */
static void compare_floats(worst *w, const guarded *got, const guarded *want) {
    for (size_t i = 0; i < got->count; i++) {
        double expected = (double)want->data[i];
        worst_compare(w, (double)got->data[i], expected, 4e-7 * (1.0 + fabs(expected)));
    }
}

/* Five operands of one length, of which two are results. */
typedef struct operands {
    guarded a, b, c, got, want;
} operands;

static operands make_operands(size_t n, uint64_t *seed) {
    operands o = {
        .a = guarded_random(n, seed), .b = guarded_random(n, seed), .c = guarded_random(n, seed)};
    for (size_t i = 0; i < n; i++) o.a.data[i] *= 9.0f; /* past every bend of an activation */
    o.got = guarded_random(n, seed);
    o.want = guarded_copy(&o.got);
    return o;
}

static void finish_operands(operands *o, worst *w) {
    compare_floats(w, &o->got, &o->want);
    guarded *all[] = {&o->a, &o->b, &o->c, &o->got, &o->want};
    free_all(all, 5);
}

static void check_act(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    for (int act = 0; act <= TL_ACT_GELU; act++) {
        int64_t n = random_between(seed, 1, 150);
        operands o = make_operands((size_t)n, seed);
        bool add = random_between(seed, 0, 1);
        RUN(kernels, act_backward)((tl_act)act, o.a.data, o.b.data, add, o.got.data, n);
        tl_ref_act_backward((tl_act)act, o.a.data, o.b.data, add, o.want.data, n);
        compare_floats(w, &o.got, &o.want);
        RUN(kernels, act_forward)((tl_act)act, o.a.data, o.got.data, n);
        tl_ref_act_forward((tl_act)act, o.a.data, o.want.data, n);
        compare_floats(w, &o.got, &o.want);
        RUN(kernels, act_forward)((tl_act)act, o.a.data, o.a.data, n); /* in place */
        assert_memory_equal(o.a.data, o.got.data, (size_t)n * sizeof(float));
        finish_operands(&o, w);
    }
}

static void test_activations(void **state) {
    (void)state;
    check_tables("activations", check_act, 60);
}

/* A diverged network must not come out healthy. */
static void check_nan(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    (void)seed;
    for (int act = 0; act <= TL_ACT_GELU; act++) {
        float x[19], y[19], one = 1.0f, zero[19] = {0};
        for (int i = 0; i < 19; i++) x[i] = NAN;
        RUN(kernels, act_forward)((tl_act)act, x, y, 19);
        for (int i = 0; i < 19; i++) assert_true(isnan(y[i]));
        const void *a[1] = {x};
        int64_t c_row[1] = {0};
        float b[64] = {0};
        tl_gemm_tile t = {.taps = 1,
                          .k = 1,
                          .a = a,
                          .a_step = 1,
                          .b = b,
                          .b_step = 64,
                          .c = y,
                          .c_row = c_row,
                          .act = (tl_act)act};
        RUN(kernels, gemm_begin)();
        RUN(kernels, gemm_tile)(&t, 1, 3);
        RUN(kernels, gemm_end)();
        for (int i = 0; i < 3; i++) assert_true(isnan(y[i]));
        tl_depthwise_row d = {.kh = 1,
                              .kw = 1,
                              .rows = 1,
                              .x = a,
                              .width = 1,
                              .w = zero,
                              .y = y,
                              .pixels = 1,
                              .c = 19,
                              .act = (tl_act)act};
        RUN(kernels, depthwise_row)(&d);
        for (int i = 0; i < 19; i++) assert_true(isnan(y[i]));
        worst_compare(w, 1.0, (double)one, 1.0);
    }
}

static void test_nan_stays(void **state) {
    (void)state;
    check_tables("NaN stays NaN", check_nan, 1);
}

static void check_arithmetic(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    int64_t n = random_between(seed, 1, 150);
    operands o = make_operands((size_t)n, seed);
    RUN(kernels, add)(o.a.data, o.b.data, o.got.data, n);
    tl_ref_add(o.a.data, o.b.data, o.want.data, n);
    compare_floats(w, &o.got, &o.want);
    RUN(kernels, mul)(o.a.data, o.b.data, o.got.data, n);
    tl_ref_mul(o.a.data, o.b.data, o.want.data, n);
    finish_operands(&o, w);
}

static void check_channels(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    int64_t rows = random_between(seed, 1, 9), c = random_between(seed, 1, 50);
    operands o = make_operands((size_t)(rows * c), seed);
    guarded p = guarded_random((size_t)c, seed), q = guarded_random((size_t)c, seed),
            r = guarded_random((size_t)c, seed);
    bool add = random_between(seed, 0, 1);
    tl_act act = (tl_act)random_between(seed, 0, TL_ACT_GELU);
    RUN(kernels, affine3)(o.a.data, o.b.data, p.data, q.data, r.data, add, o.got.data, rows, c);
    tl_ref_affine3(o.a.data, o.b.data, p.data, q.data, r.data, add, o.want.data, rows, c);
    compare_floats(w, &o.got, &o.want);
    RUN(kernels, scale_shift)(o.a.data, p.data, q.data, act, o.got.data, rows, c);
    tl_ref_scale_shift(o.a.data, p.data, q.data, act, o.want.data, rows, c);
    finish_operands(&o, w);
    guarded_free(&p);
    guarded_free(&q);
    guarded_free(&r);
}

static void compare_sums(worst *w, const double *got, const double *want, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        worst_compare(w, got[i], want[i], 1e-12 * (1.0 + fabs(want[i])));
}

static void check_moments(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    enum { MAX_C = 50 };
    int64_t rows = random_between(seed, 1, 9), c = random_between(seed, 1, MAX_C);
    guarded x = guarded_random((size_t)(rows * c), seed), dy = guarded_random(x.count, seed);
    guarded center = guarded_random((size_t)c, seed);
    const float *from = random_between(seed, 0, 1) ? center.data : NULL;
    guarded sums[2] = {guarded_make((size_t)c * 2), guarded_make((size_t)c * 2)}; /* as doubles */
    double *got[2], want[2][MAX_C] = {{0}};
    for (int i = 0; i < 2; i++) {
        got[i] = (double *)(void *)sums[i].data;
        memset(got[i], 0, sums[i].size);
    }
    RUN(kernels, moments)(x.data, from, got[0], got[1], rows, c);
    tl_ref_moments(x.data, from, want[0], want[1], rows, c);
    compare_sums(w, got[0], want[0], c);
    compare_sums(w, got[1], want[1], c);
    RUN(kernels, moments_backward)(x.data, dy.data, center.data, got[0], got[1], rows, c);
    tl_ref_moments_backward(x.data, dy.data, center.data, want[0], want[1], rows, c);
    compare_sums(w, got[0], want[0], c);
    compare_sums(w, got[1], want[1], c);
    guarded *all[] = {&x, &dy, &center, &sums[0], &sums[1]};
    free_all(all, 5);
}

static void test_elementwise(void **state) {
    (void)state;
    check_tables("add, mul", check_arithmetic, 200);
    check_tables("scale_shift, affine3", check_channels, 200);
    check_tables("moments", check_moments, 200);
}

/* --- optimisers ----------------------------------------------------------------------------- */

static tl_update random_update(uint64_t *seed) {
    return (tl_update){.lr = 0.01f,
                       .momentum = random_between(seed, 0, 1) ? 0.9f : 0.0f,
                       .beta1 = 0.9,
                       .beta2 = 0.999,
                       .epsilon = 0.5f, /* large: nothing is divided by what rounding left */
                       .decay = random_between(seed, 0, 1) ? 0.01f : 0.0f,
                       .shrink = random_between(seed, 0, 1) ? 0.01f : 0.0f,
                       .correction2 = 0.3f,
                       .nesterov = random_between(seed, 0, 1),
                       .keras = random_between(seed, 0, 1),
                       .centered = random_between(seed, 0, 1)};
}

/* Makes every other v larger than the mean's square and the rest smaller, by enough that no
 * rounding of their difference matters. */
static void separate(float *v, const float *mean, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        v[i] = i % 2 ? mean[i] * mean[i] + 0.1f : 0.5f * mean[i] * mean[i] - 0.01f;
}

/* States of an optimiser: results, beside the weights. */
enum { STATES = 3 };

static void check_optimizers(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    const struct tl_kernels *tables[2] = {kernels, &tl_kernels_ref};
    for (int which = 0; which < 3; which++) {
        int64_t n = random_between(seed, 1, 150);
        tl_update u = random_update(seed);
        guarded g = guarded_random((size_t)n, seed), weights[2], states[2][STATES];
        uint64_t start = *seed;
        for (int t = 0; t < 2; t++) {
            *seed = start;
            weights[t] = guarded_random((size_t)n, seed);
            for (int s = 0; s < STATES; s++) {
                states[t][s] = guarded_random((size_t)n, seed);
                for (int64_t i = 0; i < n; i++)
                    states[t][s].data[i] = s ? fabsf(states[t][s].data[i]) : states[t][s].data[i];
            }
            float *m = states[t][0].data, *v = states[t][1].data, *more = states[t][2].data;
            if (which == 2 && u.centered) separate(v, m, n);
            if (which == 0) RUN(tables[t], sgd)(&u, weights[t].data, g.data, m, n);
            if (which == 1) RUN(tables[t], adam)(&u, weights[t].data, g.data, m, v, n);
            if (which == 2) RUN(tables[t], rmsprop)(&u, weights[t].data, g.data, v, m, more, n);
        }
        compare_floats(w, &weights[0], &weights[1]);
        for (int s = 0; s < STATES; s++) {
            compare_floats(w, &states[0][s], &states[1][s]);
            guarded_free(&states[0][s]);
            guarded_free(&states[1][s]);
        }
        guarded_free(&g);
        guarded_free(&weights[0]);
        guarded_free(&weights[1]);
    }
}

static void test_optimizers(void **state) {
    (void)state;
    check_tables("sgd, adam, rmsprop", check_optimizers, 200);
}

/* --- the check itself ----------------------------------------------------------------------- */

static void reads_too_much(const void *va, const void *vb, void *vy, int64_t n) {
    const float *a = va, *b = vb;
    float *y = vy;
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
    y[0] += ((const volatile float *)b)[n] * 0.0f;
}

static void reads_too_early(const void *va, const void *vb, void *vy, int64_t n) {
    const float *a = va, *b = vb;
    float *y = vy;
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
    y[0] += ((const volatile float *)b)[-1] * 0.0f;
}

/* What a child process says that checks a table with this kernel. */
static void catch_stray(void (*add)(const void *, const void *, void *, int64_t), guard_side side,
                        char *text, size_t size) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        signal(SIGSEGV, SIG_DFL);
        struct tl_kernels table = tl_kernels_ref;
        table.add = add;
        uint64_t seed = 1;
        worst w = {0};
        guard_begin("wrong", "a row", side);
        check_arithmetic(&table, &seed, &w);
        _exit(0);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], text, size - 1);
    text[length > 0 ? length : 0] = 0;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_stray_accesses_are_named(void **state) {
    (void)state;
    char text[256];
    catch_stray(reads_too_much, GUARD_BEHIND, text, sizeof text);
    assert_string_equal(text, "wrong add reached the unmapped page behind a buffer\n");
    catch_stray(reads_too_early, GUARD_BEFORE, text, sizeof text);
    assert_string_equal(text, "wrong add reached the unmapped page before a buffer\n");
}

static void test_every_slot_has_a_row(void **state) {
    (void)state;
    check_slots("kernelcheck");
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench(argc - 2, argv + 2, false);
    if (argc > 1 && strcmp(argv[1], "--bench-bf16") == 0) return bench(argc - 2, argv + 2, true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm_tile),
        cmocka_unit_test(test_depthwise_row),
        cmocka_unit_test(test_depthwise_grad),
        cmocka_unit_test(test_winograd),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_nan_stays),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_stray_accesses_are_named),
        cmocka_unit_test(test_every_slot_has_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
