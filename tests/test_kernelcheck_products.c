/* Kernels that sum products against sums in float64, for elements of both types: the tile,
 * depthwise rows, Winograd's transforms. See test_kernelcheck.c. */
#include "kernelelements.h"

#include "amx_table.h"

#include "ref/ref.h"

enum { MAX_ROWS = 32, MAX_TAPS = 5, MANY_ROWS = 3 * MAX_ROWS };

/* What an epilogue adds to a sum and makes of it: element `at` of y, of which `before` held what
 * was there. All activations but clamps are of the sum as the table's elements hold it. */
typedef struct epilogue {
    const struct tl_kernels *kernels;
    const struct tl_kernels *elements; /* what y, before and residual are of */
    const void *y, *before, *residual;
    const float *bias;
    tl_act act;
} epilogue;

static void compare_epilogue(worst *w, const epilogue *e, exact sum, int64_t at, int64_t channel) {
    if (e->before) exact_add(&sum, element_at(e->elements, e->before, at));
    if (e->bias) exact_add(&sum, (double)e->bias[channel]);
    if (e->residual) exact_add(&sum, element_at(e->elements, e->residual, at));
    double want = (double)tl_ref_act(e->act, (float)sum.value);
    double stored = stored_bound(e->elements, want);
    if (e->act > TL_ACT_RELU6) stored += 1.2 * stored_bound(e->kernels, sum.value);
    worst_compare(w, element_at(e->elements, e->y, at), want,
                  1.2 * exact_bound(&sum) + 1e-6 * fabs(want) + stored);
}

/* --- the tile ------------------------------------------------------------------------------- */

/* Where B has value k of column j of tap r. */
static int64_t b_place(const tl_gemm_tile *t, int group, int64_t r, int64_t k, int64_t j) {
    return r * t->b_tap + k / group * t->b_step + j * group + k % group;
}

static exact exact_products(const struct tl_kernels *kernels, const tl_gemm_tile *t, int i, int j) {
    const int group = kernels->group;
    exact sum = {0};
    for (int64_t r = 0; r < t->taps; r++) {
        for (int64_t k = 0; k < t->k; k++) {
            int64_t at = t->a_offset + i * t->a_row + k / group * t->a_step + k % group;
            exact_add(&sum, element_at(kernels, t->a[r * kernels->mr + (t->a_row ? 0 : i)], at) *
                                element_at(kernels, t->b, b_place(t, group, r, k, j)));
        }
    }
    return sum;
}

/* An unfinished last group of k is filled up with zeros. */
static void fill_last_group(const struct tl_kernels *kernels, const tl_gemm_tile *t, int width,
                            guarded *b) {
    const int group = kernels->group;
    for (int64_t r = 0; r < t->taps; r++) {
        for (int64_t k = t->k; k % group != 0; k++) {
            for (int j = 0; j < width; j++)
                memset(element_ptr(kernels, b->data, b_place(t, group, r, k, j)), 0,
                       (size_t)kernels->element);
        }
    }
}

/* More rows than the table's mr are evenly spaced. */
static void check_tile_of(const struct tl_kernels *kernels, int rows, int columns, uint64_t *seed,
                          worst *w) {
    const int mr = kernels->mr, group = kernels->group;
    int width = columns > kernels->nr_narrow ? kernels->nr : kernels->nr_narrow;
    tl_gemm_tile t = {.taps = random_between(seed, 0, MAX_TAPS),
                      .k = random_between(seed, 1, random_between(seed, 0, 9) ? 40 : 400),
                      .a_offset = random_between(seed, 0, 3),
                      .a_step = random_between(seed, 0, 1) ? group : rows * group,
                      .b_step = (width + random_between(seed, 0, 3)) * group,
                      .c_float = is_narrow(kernels) && random_between(seed, 0, 1),
                      .accumulate = random_between(seed, 0, 1),
                      .fetch_added = random_between(seed, 0, 1),
                      .act = (tl_act)random_between(seed, 0, TL_ACT_GELU)};
    const int64_t last = (t.k - 1) / group; /* group of k */
    t.b_tap = (last + 1) * t.b_step + random_between(seed, 0, 5);
    size_t taps = (size_t)t.taps;
    /* Row i of a tap: k values a_step apart, all rows of all taps one after the other. */
    int64_t row = t.a_offset + last * t.a_step + (t.k - 1) % group + 1;
    if (rows > mr || random_between(seed, 0, 1)) t.a_row = row;
    guarded a = random_elements(kernels, taps * (size_t)(rows * row) + 1, seed);
    size_t panel =
        taps ? (taps - 1) * (size_t)t.b_tap + (size_t)(last * t.b_step + width * group) : 1;
    guarded b = random_elements(kernels, panel, seed);
    fill_last_group(kernels, &t, width, &b);
    const struct tl_kernels *to = t.c_float ? &tl_kernels_ref : kernels;
    int64_t c_step = columns + random_between(seed, 0, 4);
    size_t c_count = (size_t)((rows - 1) * c_step + columns);
    guarded c = random_elements(to, c_count, seed);
    guarded before = guarded_copy(&c), residual = random_elements(to, c_count, seed);
    guarded bias = guarded_random((size_t)columns, seed);
    const void *pointers[MAX_TAPS * MAX_ROWS] = {0};
    int64_t c_row[MANY_ROWS];
    for (int i = 0; i < rows; i++) {
        c_row[i] = (rows - 1 - i) * c_step; /* rows may lie in any order */
        for (size_t r = 0; r < taps && (i == 0 || !t.a_row); r++)
            pointers[r * (size_t)mr + (size_t)i] =
                element_ptr(kernels, a.data, ((int64_t)r * rows + i) * row);
    }
    guarded list = guarded_of(
        pointers,
        taps ? ((taps - 1) * (size_t)mr + (size_t)(t.a_row ? 1 : rows)) * sizeof *pointers : 0);
    guarded offsets = guarded_of(c_row, (size_t)rows * sizeof *c_row);
    t.a = (const void *const *)(const void *)list.data;
    t.b = b.data;
    t.c = c.data;
    t.c_apart = c_step;
    if (random_between(seed, 0, 1)) t.c_row = (const int64_t *)(const void *)offsets.data;
    if (random_between(seed, 0, 1)) t.bias = bias.data;
    if (random_between(seed, 0, 1)) t.next = (char *)a.data + a.size - 1; /* fetched, never read */
    t.next_row = random_between(seed, 0, 100);
    if (random_between(seed, 0, 1)) t.residual = residual.data;
    RUN(kernels, gemm_tile)(&t, rows, columns);
    epilogue e = {kernels,    to,     c.data, t.accumulate ? before.data : NULL,
                  t.residual, t.bias, t.act};
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++)
            compare_epilogue(w, &e, exact_products(kernels, &t, i, j), tl_gemm_place(&t, i) + j, j);
    }
    for (int i = 0; i + 1 < rows; i++) /* between the rows nothing was written */
        assert_memory_equal(element_ptr(to, c.data, i * c_step + columns),
                            element_ptr(to, before.data, i * c_step + columns),
                            (size_t)((c_step - columns) * to->element));
    guarded *all[] = {&a, &b, &c, &before, &residual, &bias, &list, &offsets};
    free_all(all, 8);
}

static void check_tiles(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    assert_true(kernels->mr <= MAX_ROWS);
    RUN(kernels, gemm_begin)();
    for (int columns = 1; columns <= kernels->nr; columns++) {
        for (int rows = 1; rows <= kernels->mr; rows++)
            check_tile_of(kernels, rows, columns, seed, w);
        check_tile_of(kernels, random_between(seed, kernels->mr + 1, MANY_ROWS), columns, seed, w);
    }
    RUN(kernels, gemm_end)();
}

static void test_gemm_tile(void **state) {
    (void)state;
    check_all_tables("gemm_tile", check_tiles, 4);
    check_table(&amx_model_table, "gemm_tile", check_tiles, 4);
}

/* --- depthwise ------------------------------------------------------------------------------ */

/* The geometry of a gradient. */
typedef struct row_shape {
    int kh, kw;
    int64_t x_step, x_tap, pixels, c, y_step, w_tap, w_row;
    int64_t x_row; /* elements of one input row */
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
    s.x_row = (s.pixels - 1) * s.x_step + (s.kw - 1) * s.x_tap + s.c;
    return s;
}

/* The pointers to the rows of x, which overlap in no way, so that one buffer serves each. */
static guarded make_rows(const struct tl_kernels *kernels, const row_shape *s, const guarded *x) {
    const void *rows[MAX_TAPS];
    for (int i = 0; i < s->kh; i++)
        rows[i] = element_ptr(kernels, x->data, (s->kh - 1 - i) * s->x_row);
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

static guarded random_rows(const struct tl_kernels *kernels, const tl_depthwise_row *d,
                           const guarded *x, uint64_t *seed) {
    const void *rows[MAX_TAPS + 3 * (TL_DEPTHWISE_ROWS - 1)];
    int count = d->kh + (d->rows - 1) * d->row_step;
    int64_t size = (d->width - 1) * d->x_pixel + d->c;
    for (int i = 0; i < count; i++)
        rows[i] = random_between(seed, 0, 6) ? element_ptr(kernels, x->data, (count - 1 - i) * size)
                                             : NULL;
    return guarded_of(rows, (size_t)count * sizeof *rows);
}

static exact exact_taps(const struct tl_kernels *kernels, const tl_depthwise_row *d, int row,
                        int64_t pixel, int64_t channel) {
    exact sum = {0};
    for (int i = 0; i < d->kh; i++) {
        const void *x = d->x[row * d->row_step + i];
        for (int j = 0; j < d->kw; j++) {
            int64_t column = d->first + pixel * d->step + j * d->tap;
            if (!x || column < 0 || column >= d->width) continue;
            exact_add(&sum, element_at(kernels, x, column * d->x_pixel + channel) *
                                (double)d->w[i * d->w_row + j * d->w_tap + channel]);
        }
    }
    return sum;
}

static void compare_row(const struct tl_kernels *kernels, const tl_depthwise_row *d,
                        const void *before, worst *w) {
    epilogue e = {kernels,     kernels, d->y,  d->accumulate ? before : NULL,
                  d->residual, d->bias, d->act};
    for (int64_t i = 0; i < d->rows * d->pixels; i++) {
        for (int64_t c = 0; c < d->c; c++) {
            int64_t at = i / d->pixels * d->y_row + i % d->pixels * d->y_pixel + c;
            exact sum = exact_taps(kernels, d, (int)(i / d->pixels), i % d->pixels, c);
            compare_epilogue(w, &e, sum, at, c);
        }
    }
}

static void check_depthwise_row(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    tl_depthwise_row d = random_call(seed);
    int64_t x_rows = d.kh + (d.rows - 1) * d.row_step;
    size_t x_size = (size_t)(x_rows * ((d.width - 1) * d.x_pixel + d.c));
    guarded x = random_elements(kernels, x_size, seed);
    guarded weights = guarded_random((size_t)(d.kh * d.w_row - d.w_tap + d.c), seed);
    size_t y_size = (size_t)((d.rows - 1) * d.y_row + (d.pixels - 1) * d.y_pixel + d.c);
    guarded y = random_elements(kernels, y_size, seed);
    guarded before = guarded_copy(&y), residual = random_elements(kernels, y_size, seed);
    guarded bias = guarded_random((size_t)d.c, seed);
    guarded rows = random_rows(kernels, &d, &x, seed);
    d.x = (const void *const *)(const void *)rows.data;
    d.w = weights.data;
    d.y = y.data;
    d.bias = random_between(seed, 0, 1) ? bias.data : NULL;
    d.residual = random_between(seed, 0, 1) ? residual.data : NULL;
    RUN(kernels, depthwise_row)(&d);
    compare_row(kernels, &d, before.data, w);
    guarded *all[] = {&x, &weights, &y, &before, &residual, &bias, &rows};
    free_all(all, 7);
}

static void test_depthwise_row(void **state) {
    (void)state;
    check_all_tables("depthwise_row", check_depthwise_row, 600);
}

static void check_depthwise_grad(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    row_shape s = random_row(seed);
    guarded x = random_elements(kernels, (size_t)(s.kh * s.x_row), seed);
    guarded dw = guarded_random((size_t)(s.kh * s.w_row - s.w_tap + s.c), seed);
    guarded dy = random_elements(kernels, (size_t)((s.pixels - 1) * s.y_step + s.c), seed);
    guarded before = guarded_copy(&dw);
    guarded rows = make_rows(kernels, &s, &x);
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
            int64_t from = i % s.kw * s.x_tap + c;
            exact sum = {0};
            exact_add(&sum, (double)before.data[at]);
            for (int64_t p = 0; p < s.pixels; p++)
                exact_add(&sum, element_at(kernels, dy.data, p * s.y_step + c) *
                                    element_at(kernels, g.x[i / s.kw], from + p * s.x_step));
            worst_compare(w, (double)dw.data[at], sum.value, exact_bound(&sum));
        }
    }
    guarded *all[] = {&x, &dw, &dy, &before, &rows};
    free_all(all, 5);
}

static void test_depthwise_grad(void **state) {
    (void)state;
    check_all_tables("depthwise_grad", check_depthwise_grad, 600);
}

/* --- Winograd ------------------------------------------------------------------------------- */

/* The transforms as matrices in float64, from the points by the rules in winograd_points.h. */
enum { MAX_SIDE = 9, MAX_FILTER = 7 };
typedef struct winograd_matrices {
    tl_winograd f;
    int side;
    double in[MAX_SIDE][MAX_SIDE], out[4][MAX_SIDE];
    double gradient[MAX_SIDE][4], filter[MAX_FILTER][MAX_SIDE]; /* out and the weights' transform,
                                                                 transposed */
    double weights[MAX_SIDE][MAX_FILTER];
} winograd_matrices;

static winograd_matrices make_matrices(tl_winograd f) {
    static const double points4[] = {0, 1, -1};
    const double points6[] = {0, sqrt(0.5), -sqrt(0.5), sqrt(2.0), -sqrt(2.0)};
    static const double points9[] = {0.24, -0.24, 0.68, -0.68, 1.11, -1.11, 2.42, -2.42};
    winograd_matrices w = {.f = f, .side = f.m + f.r - 1};
    const double *point = w.side == 4 ? points4 : w.side == 6 ? points6 : points9;
    for (int a = 0; a < w.side; a++) { /* the last row is infinity's: nothing is left out */
        double product[MAX_SIDE + 1] = {1}, distance = 1;
        int degree = 0;
        bool finite = a + 1 < w.side;
        for (int b = 0; b < w.side - 1; b++) {
            if (b == a) continue;
            if (finite) distance *= point[a] - point[b];
            for (int k = ++degree; k >= 0; k--)
                product[k] = (k ? product[k - 1] : 0) - point[b] * product[k];
        }
        double sign = w.side == 4 && a == 0 ? -1 : 1;
        for (int k = 0; k < w.side; k++) w.in[a][k] = sign * product[k];
        for (int j = 0; j < f.m; j++)
            w.gradient[a][j] = w.out[j][a] = finite ? pow(point[a], j) : (j == f.m - 1 ? 1.0 : 0.0);
        for (int j = 0; j < f.r; j++)
            w.weights[a][j] = w.filter[j][a] =
                finite ? sign * pow(point[a], j) / distance : (j == f.r - 1 ? 1.0 : 0.0);
    }
    return w;
}

/* Of the forms that the table has; `square` leaves those of 3 x 3 filters. */
static winograd_matrices random_matrices(const struct tl_kernels *kernels, bool square,
                                         uint64_t *seed) {
    static const tl_winograd forms[] = {{2, 3, 2}, {4, 3, 2}, {2, 5, 2}, {4, 3, 1}, {3, 7, 1}};
    int last = is_narrow(kernels) ? 0 : square ? 1 : 4;
    return make_matrices(forms[random_between(seed, 0, last)]);
}

/* A value of what a matrix makes of each axis' line of `from` values, `step` apart; value p of a
 * tile's points, or pixels, of which each line has `to`. */
static exact transform_point(const double *matrix, int columns, tl_winograd f, int from, int to,
                             int p, const struct tl_kernels *elements, const void *x, int64_t at,
                             int64_t step) {
    static const double one[1] = {1.0};
    const double *left = f.axes == 2 ? matrix + p / to * columns : one;
    const double *right = matrix + p % to * columns;
    exact sum = {0};
    for (int a = 0; a < (f.axes == 2 ? from : 1); a++) {
        for (int b = 0; b < from; b++)
            exact_add(&sum,
                      left[a] * right[b] * element_at(elements, x, at + (a * from + b) * step));
    }
    return sum;
}

/* Values that lie in groups: of which size, and how many lanes of it are written, one after the
 * other. */
typedef struct lanes {
    int group, written;
} lanes;

static lanes random_lanes(const struct tl_kernels *kernels, bool grouped, uint64_t *seed) {
    lanes l = {grouped ? kernels->group : 1, 0};
    l.written = random_between(seed, 1, l.group);
    return l;
}

/* Values v[at] of a point and channel: those of the written lanes are compared, others are 0. */
static void compare_lane(worst *w, const struct tl_kernels *kernels, const guarded *v, int64_t at,
                         const exact *sum) {
    double got = element_at(kernels, v->data, at);
    if (sum)
        worst_compare(w, got, sum->value, exact_bound(sum) + stored_bound(kernels, sum->value));
    else
        assert_true(got == 0.0);
}

/* A factor of the products from tiles of `lines` x `lines`, all of a group's lanes from the same.
 */
static void check_factor(const struct tl_kernels *kernels, bool gradient, uint64_t *seed,
                         worst *w) {
    winograd_matrices matrices = random_matrices(kernels, gradient, seed);
    tl_winograd f = matrices.f;
    int side = matrices.side, points = tl_winograd_points(f), lines = gradient ? f.m : side;
    int count = tl_winograd_area(f, lines);
    bool grouped = gradient || random_between(seed, 0, 1);
    lanes l = random_lanes(kernels, grouped, seed);
    int64_t c = random_between(seed, 1, 50), step = (c + random_between(seed, 0, 5)) * l.group;
    int64_t first = random_between(seed, 0, 20), apart = first + c;
    guarded x = random_elements(kernels, (size_t)(count * apart), seed);
    guarded v = random_elements(kernels, (size_t)((points - 1) * step + c * l.group), seed);
    const void *pixels[TL_WINOGRAD_POINTS];
    for (int p = 0; p < count; p++) pixels[p] = element_ptr(kernels, x.data, p * apart);
    guarded list = guarded_of(pixels, (size_t)count * sizeof *pixels);
    const void *const *tile = (const void *const *)(const void *)list.data;
    tl_winograd_input call = {.f = f,
                              .x = tile,
                              .next = tile,
                              .first = first,
                              .v = v.data,
                              .v_step = step,
                              .c = c,
                              .grouped = grouped};
    for (; call.lane < l.written; call.lane++) {
        if (gradient)
            RUN(kernels, winograd_gradient)(&call);
        else
            RUN(kernels, winograd_input)(&call);
    }
    for (int p = 0; p < points; p++) {
        for (int64_t k = 0; k < c; k++) {
            const double *matrix = gradient ? matrices.gradient[0] : matrices.in[0];
            exact sum = transform_point(matrix, gradient ? 4 : MAX_SIDE, f, lines, side, p, kernels,
                                        x.data, first + k, apart);
            for (int i = 0; i < l.group; i++)
                compare_lane(w, kernels, &v, p * step + k * l.group + i,
                             i < l.written ? &sum : NULL);
        }
    }
    guarded *all[] = {&x, &v, &list};
    free_all(all, 3);
}

static void check_winograd_input(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    check_factor(kernels, false, seed, w);
}

static void check_winograd_gradient(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    check_factor(kernels, true, seed, w);
}

static void check_winograd_output(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    winograd_matrices matrices = random_matrices(kernels, false, seed);
    tl_winograd f = matrices.f;
    int points = tl_winograd_points(f), pixels = tl_winograd_area(f, f.m);
    int64_t c = random_between(seed, 1, 50), step = c + random_between(seed, 0, 5);
    guarded t = guarded_random((size_t)((points - 1) * step + c), seed);
    const size_t y_size = (size_t)(pixels * c), element = (size_t)kernels->element;
    guarded y = random_elements(kernels, y_size, seed), before = guarded_copy(&y);
    guarded bias = guarded_random((size_t)c, seed);
    guarded residual = random_elements(kernels, y_size, seed);
    int64_t y_at[TL_WINOGRAD_POINTS];
    for (int i = 0; i < pixels; i++) y_at[i] = random_between(seed, 0, 4) ? i * c : -1;
    guarded offsets = guarded_of(y_at, (size_t)pixels * sizeof *y_at);
    tl_winograd_output call = {.f = f,
                               .t = t.data,
                               .t_step = step,
                               .c = c,
                               .y = y.data,
                               .y_at = (const int64_t *)(const void *)offsets.data,
                               .next = (const int64_t *)(const void *)offsets.data,
                               .accumulate = random_between(seed, 0, 1),
                               .bias = random_between(seed, 0, 1) ? bias.data : NULL,
                               .residual = random_between(seed, 0, 1) ? residual.data : NULL,
                               .act = (tl_act)random_between(seed, 0, TL_ACT_GELU)};
    RUN(kernels, winograd_output)(&call);
    epilogue e = {kernels,       kernels,   y.data,  call.accumulate ? before.data : NULL,
                  call.residual, call.bias, call.act};
    for (int i = 0; i < pixels; i++) {
        for (int64_t k = 0; k < c; k++) {
            int64_t at = i * c + k;
            if (y_at[i] < 0) {
                assert_memory_equal(element_ptr(kernels, y.data, at),
                                    element_ptr(kernels, before.data, at), element);
                continue;
            }
            exact sum = transform_point(matrices.out[0], MAX_SIDE, f, matrices.side, f.m, i,
                                        &tl_kernels_ref, t.data, k, step);
            compare_epilogue(w, &e, sum, at, k);
        }
    }
    guarded *all[] = {&t, &y, &before, &bias, &residual, &offsets};
    free_all(all, 6);
}

static void check_winograd_weights(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    winograd_matrices matrices = random_matrices(kernels, false, seed);
    tl_winograd f = matrices.f;
    int side = matrices.side, points = tl_winograd_points(f);
    lanes l = random_lanes(kernels, true, seed);
    int64_t c = random_between(seed, 1, 50), step = (c + random_between(seed, 0, 5)) * l.group;
    guarded x = guarded_random((size_t)(tl_winograd_area(f, f.r) * c), seed);
    guarded v = random_elements(kernels, (size_t)((points - 1) * step + c * l.group), seed);
    tl_winograd_weights call = {
        .f = f, .w = x.data, .w_tap = c, .v = v.data, .v_step = step, .c = c};
    for (; call.lane < l.written; call.lane++) RUN(kernels, winograd_weights)(&call);
    for (int p = 0; p < points; p++) {
        for (int64_t k = 0; k < c; k++) {
            exact sum = transform_point(matrices.weights[0], MAX_FILTER, f, f.r, side, p,
                                        &tl_kernels_ref, x.data, k, c);
            for (int i = 0; i < l.group; i++)
                compare_lane(w, kernels, &v, p * step + k * l.group + i,
                             i < l.written ? &sum : NULL);
        }
    }
    guarded_free(&x);
    guarded_free(&v);
}

static void check_winograd_filter(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    winograd_matrices matrices = random_matrices(kernels, true, seed);
    int side = matrices.side;
    int64_t c = random_between(seed, 1, 50), step = c + random_between(seed, 0, 5);
    guarded t = guarded_random((size_t)((side * side - 1) * step + c), seed);
    guarded dw = guarded_random((size_t)(9 * c), seed), before = guarded_copy(&dw);
    tl_winograd_filter call = {matrices.f, t.data, step, c, dw.data, c};
    RUN(kernels, winograd_filter)(&call);
    for (int p = 0; p < 9; p++) {
        for (int64_t k = 0; k < c; k++) {
            exact sum = transform_point(matrices.filter[0], MAX_SIDE, matrices.f, side, 3, p,
                                        &tl_kernels_ref, t.data, k, step);
            exact_add(&sum, (double)before.data[p * c + k]);
            worst_compare(w, (double)dw.data[p * c + k], sum.value, exact_bound(&sum));
        }
    }
    guarded *all[] = {&t, &dw, &before};
    for (int i = 0; i < 3; i++) guarded_free(all[i]);
}

/* With the tables of bf16 that have these kernels. */
static void check_winograd_tables(const char *what, check_fn check) {
    const tl_isa *found[MAX_TABLES];
    int count = tl_isa_available(found, MAX_TABLES);
    check_tables(what, check, 100);
    check_table(&ref_bf16, what, check, 100);
    for (int i = 0; i < count; i++) {
        if (found[i]->bf16 && found[i]->bf16->winograd_input)
            check_table(found[i]->bf16, what, check, 100);
    }
}

static void test_winograd(void **state) {
    (void)state;
    check_winograd_tables("winograd_input", check_winograd_input);
    check_winograd_tables("winograd_output", check_winograd_output);
    check_winograd_tables("winograd_weights", check_winograd_weights);
    check_winograd_tables("winograd_gradient", check_winograd_gradient);
    check_winograd_tables("winograd_filter", check_winograd_filter);
}

static void test_every_slot_has_a_row(void **state) {
    (void)state;
    check_slots("kernelcheck_products");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm_tile),
        cmocka_unit_test(test_depthwise_row),
        cmocka_unit_test(test_depthwise_grad),
        cmocka_unit_test(test_winograd),
        cmocka_unit_test(test_every_slot_has_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
