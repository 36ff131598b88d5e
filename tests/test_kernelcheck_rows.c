/* Pooling, softmax, pictures and the exponential of every instruction set; see test_kernelcheck.c.
 */
#include "kernelcheck.h"

#include "ref/ref.h"
#include "rowbench.h"

/* --- pooling ---------------------------------------------------------------------------------- */

/* Few values, so that many are equal; now and then NaN. */
static void make_ties(guarded *x, uint64_t *seed) {
    bool nan = random_between(seed, 0, 1);
    for (size_t i = 0; i < x->count; i++) {
        x->data[i] = (float)(3 * random_between(seed, -3, 3));
        if (nan && random_between(seed, 0, 29) == 0) x->data[i] = NAN;
    }
}

static void check_max_pool(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    pool_case p = random_pool(seed, 5, 9, 70);
    guarded x = guarded_random(p.x_size, seed), y = guarded_random(p.y_size, seed);
    guarded want = guarded_copy(&y), plain = guarded_copy(&y);
    guarded winners = guarded_bytes(p.y_size, seed), want_winners = guarded_copy(&winners);
    uint8_t *winner = bytes_of(&winners);
    uint8_t *want_winner = bytes_of(&want_winners);
    make_ties(&x, seed);
    RUN(kernels, max_pool)(&p.row, x.data, y.data, winner);
    RUN(kernels, max_pool)(&p.row, x.data, plain.data, NULL);
    tl_ref_max_pool(&p.row, x.data, want.data, want_winner);
    assert_memory_equal(winner, want_winner, p.y_size);
    for (size_t i = 0; i < p.y_size; i++) { /* NaN need not be the same NaN */
        assert_true(isnan(want.data[i]) ? isnan(y.data[i]) : y.data[i] == want.data[i]);
        assert_true(isnan(want.data[i]) ? isnan(plain.data[i]) : plain.data[i] == want.data[i]);
    }
    guarded dx = guarded_random(p.x_size, seed), want_dx = guarded_copy(&dx);
    RUN(kernels, max_pool_backward)(&p.row, winner, y.data, dx.data);
    tl_ref_max_pool_backward(&p.row, winner, y.data, want_dx.data);
    for (size_t i = 0; i < p.x_size; i++)
        assert_true(isnan(want_dx.data[i]) ? isnan(dx.data[i]) : dx.data[i] == want_dx.data[i]);
    w->compared += (int64_t)(2 * p.y_size + p.x_size);
    guarded *all[] = {&x, &y, &want, &plain, &winners, &want_winners, &dx, &want_dx};
    free_all(all, 8);
}

static void check_avg_pool(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    pool_case p = random_pool(seed, 5, 9, 70);
    const tl_pool_row *r = &p.row;
    guarded x = guarded_random(p.x_size, seed), y = guarded_random(p.y_size, seed);
    guarded before = guarded_copy(&y);
    RUN(kernels, avg_pool)(r, x.data, y.data);
    for (int64_t pixel = 0; pixel < r->pixels; pixel++) {
        for (int64_t c = 0; c < r->y_step && pixel * r->y_step + c < (int64_t)p.y_size; c++) {
            int64_t at = pixel * r->y_step + c;
            if (c >= r->c) {
                assert_true(y.data[at] == before.data[at]);
                continue;
            }
            exact sum = {0};
            for (int i = 0; i < r->kh * r->kw; i++)
                exact_add(&sum, (double)x.data[pixel * r->x_step + i / r->kw * r->x_row +
                                               i % r->kw * r->x_tap + c] *
                                    (double)r->weight);
            worst_compare(w, (double)y.data[at], sum.value, exact_bound(&sum));
        }
    }
    guarded dx = guarded_random(p.x_size, seed), want_dx = guarded_copy(&dx);
    RUN(kernels, avg_pool_backward)(r, y.data, dx.data);
    tl_ref_avg_pool_backward(r, y.data, want_dx.data);
    for (size_t i = 0; i < p.x_size; i++)
        worst_compare(w, (double)dx.data[i], (double)want_dx.data[i], 1e-30);
    guarded *all[] = {&x, &y, &before, &dx, &want_dx};
    free_all(all, 5);
}

static void check_row_sums(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    enum { MAX_C = 70 };
    int64_t rows = random_between(seed, 1, 20), c = random_between(seed, 1, MAX_C);
    int64_t step = c + random_between(seed, 0, 9);
    guarded x = guarded_random((size_t)((rows - 1) * step + c), seed);
    guarded sums = guarded_make((size_t)c * 2); /* as doubles */
    double *sum = (double *)(void *)sums.data, want[MAX_C];
    for (int64_t i = 0; i < c; i++) sum[i] = want[i] = (double)i;
    RUN(kernels, row_sums)(x.data, step, sum, rows, c);
    tl_ref_row_sums(x.data, step, want, rows, c);
    for (int64_t i = 0; i < c; i++) worst_compare(w, sum[i], want[i], 1e-14 * (1 + fabs(want[i])));
    guarded_free(&x);
    guarded_free(&sums);
}

static void test_pooling(void **state) {
    (void)state;
    check_tables("max_pool and backward", check_max_pool, 300);
    check_tables("avg_pool and backward", check_avg_pool, 200);
    check_tables("row_sums", check_row_sums, 200);
}

/* --- the exponential -------------------------------------------------------------------------- */

/* A unit in the last place of the float nearest to x, below the smallest normal one what flushing
 * to zero may take away. */
static double unit_of(double x) {
    double least = 0x1p-126;
    return fabs(x) < least ? least : ldexp(1.0, ilogb(x) - 23);
}

/* The exponential shows itself in the sigmoid: where e^-x is large, sigmoid(x) is its reciprocal.
 * A bound of 3 units: 1 of the exponential, a half each of the sum and the quotient, one for a
 * binade crossed between. */
static void check_sigmoid(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    enum { COUNT = 4001 };
    float x[COUNT], y[COUNT];
    for (int i = 0; i < COUNT; i++) x[i] = 105.0f * support_random(seed);
    RUN(kernels, act_forward)(TL_ACT_SIGMOID, x, y, COUNT);
    for (int i = 0; i < COUNT; i++) {
        double want = 1.0 / (1.0 + exp(-(double)x[i]));
        /* e^-x is infinite from here on: the answer is 0, which is closer than any normal float. */
        worst_compare(w, (double)y[i], want, 3.0 * unit_of(want));
    }
}

/* Twice: what a row of two values gives follows from one exponential alone. */
static void check_softmax_pair(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    float x[2] = {0.0f, -fabsf(110.0f * support_random(seed))}, y[2];
    RUN(kernels, softmax)(x, y, 2);
    double power = exp((double)x[1]);
    worst_compare(w, (double)y[1], power / (1.0 + power), 3.0 * unit_of(power));
}

static void test_exponential(void **state) {
    (void)state;
    check_tables("sigmoid, units", check_sigmoid, 50);
    check_tables("e^x in softmax, units", check_softmax_pair, 50000);
}

static void check_far_out(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    (void)seed;
    float x[6] = {INFINITY, -INFINITY, 1e30f, -1e30f, 100.0f, -100.0f}, y[6];
    const float want[6] = {1, 0, 1, 0, 1, 0};
    RUN(kernels, act_forward)(TL_ACT_SIGMOID, x, y, 6);
    for (int i = 0; i < 6; i++) worst_compare(w, (double)y[i], (double)want[i], 1e-37);
    x[0] = 3.0f;
    RUN(kernels, softmax)(x, y, 2); /* one that is ruled out */
    assert_true(y[0] == 1.0f && y[1] == 0.0f);
    for (int bad = 0; bad < 5; bad++) {
        for (int i = 0; i < 5; i++) x[i] = i == bad ? NAN : (float)i;
        RUN(kernels, softmax)(x, y, 5);
        for (int i = 0; i < 5; i++) assert_true(isnan(y[i]));
    }
}

static void test_far_out(void **state) {
    (void)state;
    check_tables("far out", check_far_out, 1);
}

static void check_softmax(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    int64_t n = random_between(seed, 1, 90);
    guarded x = guarded_random((size_t)n, seed), y = guarded_make((size_t)n);
    guarded dy = guarded_random((size_t)n, seed), dx = guarded_random((size_t)n, seed);
    guarded before = guarded_copy(&dx);
    double total = 0;
    exact dot = {0};
    for (int64_t i = 0; i < n; i++) total += exp((double)(x.data[i] *= 20.0f));
    RUN(kernels, softmax)(x.data, y.data, n);
    for (int64_t i = 0; i < n; i++) {
        /* x - largest is rounded: half a unit of up to 40. The sum has every power's error. */
        double want = exp((double)x.data[i]) / total;
        worst_compare(w, (double)y.data[i], want, (40.0 + 8.0) * 0x1p-24 * want + 1e-37);
        exact_add(&dot, (double)dy.data[i] * (double)y.data[i]);
    }
    bool add = random_between(seed, 0, 1);
    RUN(kernels, softmax_backward)(y.data, dy.data, add, dx.data, n);
    for (int64_t i = 0; i < n; i++) {
        double want = (double)y.data[i] * ((double)dy.data[i] - dot.value);
        double old = add ? (double)before.data[i] : 0.0;
        worst_compare(w, (double)dx.data[i], want + old,
                      4.0 * 0x1p-24 * ((double)y.data[i] * 2.0 + fabs(old)) + 1e-37);
    }
    RUN(kernels, softmax)(x.data, x.data, n); /* in place */
    assert_memory_equal(x.data, y.data, (size_t)n * sizeof(float));
    RUN(kernels, softmax_backward)(y.data, dy.data, false, dx.data, n);
    RUN(kernels, softmax_backward)(y.data, dy.data, false, dy.data, n);
    assert_memory_equal(dx.data, dy.data, (size_t)n * sizeof(float));
    guarded *all[] = {&x, &y, &dy, &dx, &before};
    free_all(all, 5);
}

static void test_softmax(void **state) {
    (void)state;
    check_tables("softmax and backward", check_softmax, 300);
}

/* --- pictures: every byte and every float equal
 * --------------------------------------------------- */

enum { MAX_SAMPLES = 40, MAX_WIDTH = 24 };

typedef struct axis_case {
    tl_resample_axis axis;
    int first[MAX_SAMPLES], used[MAX_SAMPLES];
    int32_t weight[MAX_SAMPLES * MAX_WIDTH];
} axis_case;

/* Taps over `size` samples; their sums go past 0 and 255, but stay within 32 bits. */
static void random_axis(axis_case *a, int size, uint64_t *seed) {
    int most = size < MAX_WIDTH - 3 ? size : MAX_WIDTH - 3;
    most = random_between(seed, 1, most);
    a->axis = (tl_resample_axis){.count = random_between(seed, 1, MAX_SAMPLES),
                                 .width = (most + TL_RESAMPLE_ALIGN - 1) / TL_RESAMPLE_ALIGN *
                                          TL_RESAMPLE_ALIGN,
                                 .first = a->first,
                                 .used = a->used,
                                 .weight = a->weight};
    memset(a->weight, 0, sizeof a->weight);
    for (int i = 0; i < a->axis.count; i++) {
        a->used[i] = random_between(seed, 1, most);
        a->first[i] = random_between(seed, 0, size - a->used[i]);
        int one = 1 << TL_RESAMPLE_POINT;
        for (int k = 0; k < a->used[i]; k++)
            a->weight[i * a->axis.width + k] =
                random_between(seed, -one / 4, one) / ((a->used[i] + 1) / 2);
    }
}

/* Moves the axis's own arrays into guarded buffers. */
static void guard_axis(tl_resample_axis *axis, guarded moved[3]) {
    size_t count = (size_t)axis->count, weights = count * (size_t)axis->width;
    moved[0] = guarded_of(axis->first, count * sizeof *axis->first);
    moved[1] = guarded_of(axis->used, count * sizeof *axis->used);
    moved[2] = guarded_of(axis->weight, weights * sizeof *axis->weight);
    axis->first = (int *)(void *)moved[0].data;
    axis->used = (int *)(void *)moved[1].data;
    axis->weight = (int32_t *)(void *)moved[2].data;
}

static void check_resample_row(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    axis_case a;
    int size = random_between(seed, 1, 60);
    random_axis(&a, size, seed);
    guarded tables[3];
    guard_axis(&a.axis, tables);
    size_t out_size = (size_t)a.axis.count * 3;
    guarded in = guarded_bytes((size_t)size * 3, seed), out = guarded_bytes(out_size, seed);
    guarded want = guarded_copy(&out);
    const uint8_t *from = bytes_of(&in);
    RUN(kernels, resample_row)(&a.axis, from, size, bytes_of(&out));
    tl_ref_resample_row(&a.axis, from, size, bytes_of(&want));
    assert_memory_equal(out.data, want.data, out.size);
    w->compared += (int64_t)out_size;
    guarded *all[] = {&in, &out, &want, &tables[0], &tables[1], &tables[2]};
    free_all(all, 6);
}

static void check_resample_column(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    axis_case a;
    int size = random_between(seed, 1, 60), n = random_between(seed, 1, 90);
    random_axis(&a, size, seed);
    guarded tables[3];
    guard_axis(&a.axis, tables);
    size_t all_rows = (size_t)size * (size_t)n;
    guarded in = guarded_bytes(all_rows, seed), out = guarded_bytes((size_t)n, seed);
    guarded want = guarded_copy(&out);
    for (int i = 0; i < a.axis.count; i++) {
        const uint8_t *from = bytes_of(&in) + (size_t)a.first[i] * (size_t)n;
        RUN(kernels, resample_column)(&a.axis, i, from, n, bytes_of(&out));
        tl_ref_resample_column(&a.axis, i, from, n, bytes_of(&want));
        assert_memory_equal(out.data, want.data, out.size);
    }
    w->compared += n * (int64_t)a.axis.count;
    guarded *all[] = {&in, &out, &want, &tables[0], &tables[1], &tables[2]};
    free_all(all, 6);
}

static void check_normalize(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    static const float mean[3] = {0.485f * 255, 116.779f, 127}, std[3] = {1, 0.224f * 255, 128};
    int64_t pixels = random_between(seed, 1, 50);
    size_t count = (size_t)pixels * 3;
    guarded in = guarded_bytes(count, seed), out = guarded_random(count, seed);
    guarded want = guarded_copy(&out);
    bool swap = random_between(seed, 0, 1);
    RUN(kernels, normalize)(bytes_of(&in), swap, mean, std, out.data, pixels);
    tl_ref_normalize(bytes_of(&in), swap, mean, std, want.data, pixels);
    assert_memory_equal(out.data, want.data, count * sizeof(float));
    w->compared += (int64_t)count;
    guarded *all[] = {&in, &out, &want};
    free_all(all, 3);
}

static void test_pictures(void **state) {
    (void)state;
    check_tables("resample_row", check_resample_row, 400);
    check_tables("resample_column", check_resample_column, 100);
    check_tables("normalize", check_normalize, 400);
}

static void test_every_slot_has_a_row(void **state) {
    (void)state;
    check_slots("kernelcheck_rows");
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench_rows(argc - 2, argv + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pooling),  cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_far_out),  cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_pictures), cmocka_unit_test(test_every_slot_has_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
