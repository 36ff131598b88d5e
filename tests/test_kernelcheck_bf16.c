/* Kernels of bf16 of every instruction set; see test_kernelcheck.c. */
#include "kernelelements.h"

/* --- to and from float --------------------------------------------------------------------------
 */

/* To nearest, ties to even, by float64: 8 bits of mantissa are kept. */
static double nearest_bf16(double x) {
    if (x == 0.0 || !isfinite(x)) return x;
    double unit = ldexp(1.0, ilogb(x) - 7);
    return rint(x / unit) * unit;
}

static void check_bf16(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    int64_t n = random_between(seed, 1, 90);
    guarded x = guarded_random((size_t)n, seed), y = guarded_random((size_t)n, seed);
    guarded half = guarded_bytes((size_t)n * 2, seed);
    for (int64_t i = 0; i < n; i++) { /* every fourth lies half way between two of bf16 */
        x.data[i] = ldexpf(x.data[i], random_between(seed, -90, 90));
        if (i % 4 == 0) x.data[i] = (float)(nearest_bf16((double)x.data[i]) * (1 + 0x1p-9));
    }
    if (random_between(seed, 0, 1)) x.data[n / 2] = random_between(seed, 0, 1) ? NAN : INFINITY;
    RUN(kernels, narrow)(x.data, half.data, n);
    RUN(kernels, widen)(half.data, y.data, n);
    for (int64_t i = 0; i < n; i++) {
        double want = nearest_bf16((double)x.data[i]);
        assert_true(isnan(want) ? isnan(y.data[i]) : (double)y.data[i] == want);
    }
    w->compared += n;
    guarded *all[] = {&x, &y, &half};
    free_all(all, 3);
}

enum { MOST_ROWS = 8 };

/* Whether y holds column from + i / group of row i % group for each of n * group elements i. */
static void check_group(const struct tl_kernels *kernels, const void *const *rows, int64_t from,
                        int64_t n, const char *y) {
    static const char zeros[sizeof(float)];
    const int group = kernels->group, size = kernels->element;
    for (int64_t i = 0; i < n * group; i++) {
        const char *row = rows[i % group];
        const char *want = row ? row + (from + i / group) * size : zeros;
        assert_memory_equal(y + i * size, want, (size_t)size);
    }
}

/* Elements of floats. */
static guarded rounded(const struct tl_kernels *kernels, const float *x, int64_t n,
                       uint64_t *seed) {
    guarded y = guarded_bytes((size_t)(n * kernels->element), seed);
    if (kernels->element == sizeof *x)
        memcpy(y.data, x, (size_t)n * sizeof *x);
    else
        tl_ref_narrow(x, y.data, n);
    return y;
}

/* Rows brought together, as they are. */
static void check_groups(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    const int group = kernels->group;
    const size_t size = (size_t)kernels->element;
    int64_t n = random_between(seed, 1, 70), from = random_between(seed, 0, 9);
    int64_t groups = random_between(seed, 1, MOST_ROWS / group), count = groups * group;
    int64_t y_step = n * group + random_between(seed, 0, 5);
    if (random_between(seed, 0, 1)) n = kernels->nr, y_step = n * group;
    guarded rows[MOST_ROWS];
    guarded y = guarded_bytes((size_t)((groups - 1) * y_step + n * group) * size, seed);
    const void *of[MOST_ROWS];
    for (int64_t i = 0; i < count; i++) {
        rows[i] = guarded_bytes((size_t)(from + n) * size, seed);
        of[i] = random_between(seed, 0, 3) > 0 ? rows[i].data : NULL;
    }
    RUN(kernels, group_rows)(of, from, groups, n, y.data, y_step);
    for (int64_t g = 0; g < groups; g++)
        check_group(kernels, of + g * group, from, n,
                    (const char *)y.data + (size_t)(g * y_step) * size);
    w->compared += groups * n * group;
    for (int64_t i = 0; i < count; i++) guarded_free(&rows[i]);
    guarded_free(&y);
}

/* Rows brought together from floats. */
static void check_group_floats(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    const int group = kernels->group;
    const int64_t size = kernels->element;
    int64_t n = random_between(seed, 1, 70), count = random_between(seed, 1, MOST_ROWS);
    int64_t x_step = n + random_between(seed, 0, 5), groups = (count + group - 1) / group;
    guarded x = guarded_random((size_t)((count - 1) * x_step + n), seed);
    guarded y = guarded_bytes((size_t)(groups * n * group * size), seed);
    guarded want = rounded(kernels, x.data, (count - 1) * x_step + n, seed);
    RUN(kernels, group_floats)(x.data, x_step, count, y.data, n);
    for (int64_t g = 0; g < groups; g++) {
        const void *of[MOST_ROWS] = {NULL};
        for (int64_t i = 0; i < group && g * group + i < count; i++)
            of[i] = (const char *)want.data + (g * group + i) * x_step * size;
        check_group(kernels, of, 0, n, (const char *)y.data + g * n * group * size);
    }
    w->compared += groups * n * group;
    guarded *all[] = {&x, &y, &want};
    free_all(all, 3);
}

static void test_conversions(void **state) {
    (void)state;
    check_tables("widen, narrow", check_bf16, 400);
    check_bf16_tables("widen, narrow", check_bf16, 400);
    check_tables("group_rows", check_groups, 200);
    check_bf16_tables("group_rows", check_groups, 200);
    check_tables("group_floats", check_group_floats, 200);
    check_bf16_tables("group_floats", check_group_floats, 200);
}

/* --- rows: the same call on elements and on floats ----------------------------------------------
 * Operands of bf16 are exact as floats, so that the reference of float gives what a kernel should
 * have rounded. */

enum { MAX_C = 50 };

/* Operands a, b and result y, each as elements and as the same floats; coefficients are floats. */
typedef struct pair_of {
    guarded half, full;
} pair_of;

typedef struct row_case {
    int64_t rows, c;
    pair_of a, b, y;
    guarded p, q, r;
    tl_act act;
    bool add;
} row_case;

static pair_of make_pair(size_t n, float scale, uint64_t *seed) {
    pair_of x = {guarded_bytes_make(n * sizeof(bf16)), guarded_random(n, seed)};
    for (size_t i = 0; i < n; i++) x.full.data[i] *= scale;
    tl_ref_narrow(x.full.data, x.half.data, (int64_t)n);
    tl_ref_widen(x.half.data, x.full.data, (int64_t)n);
    return x;
}

static row_case make_row_case(uint64_t *seed) {
    row_case t = {.rows = random_between(seed, 1, 9), .c = random_between(seed, 1, MAX_C)};
    size_t n = (size_t)(t.rows * t.c), c = (size_t)t.c;
    t.a = make_pair(n, 9.0f, seed); /* past every bend of an activation */
    t.b = make_pair(n, 1.0f, seed);
    t.y = make_pair(n, 1.0f, seed);
    t.p = guarded_random(c, seed);
    t.q = guarded_random(c, seed);
    t.r = guarded_random(c, seed);
    t.act = (tl_act)random_between(seed, 0, TL_ACT_GELU);
    t.add = random_between(seed, 0, 1);
    return t;
}

static void free_row_case(row_case *t) {
    guarded *all[] = {&t->a.half, &t->a.full, &t->b.half, &t->b.full, &t->y.half,
                      &t->y.full, &t->p,      &t->q,      &t->r};
    free_all(all, 9);
}

typedef void (*row_call)(const struct tl_kernels *k, const row_case *t, const void *a,
                         const void *b, void *y);

static void call_act(const struct tl_kernels *k, const row_case *t, const void *a, const void *b,
                     void *y) {
    (void)b;
    RUN(k, act_forward)(t->act, a, y, t->rows * t->c);
}
static void call_act_back(const struct tl_kernels *k, const row_case *t, const void *a,
                          const void *b, void *y) {
    RUN(k, act_backward)(t->act, a, b, t->add, y, t->rows * t->c);
}
static void call_add(const struct tl_kernels *k, const row_case *t, const void *a, const void *b,
                     void *y) {
    RUN(k, add)(a, b, y, t->rows * t->c);
}
static void call_mul(const struct tl_kernels *k, const row_case *t, const void *a, const void *b,
                     void *y) {
    RUN(k, mul)(a, b, y, t->rows * t->c);
}
static void call_scale_shift(const struct tl_kernels *k, const row_case *t, const void *a,
                             const void *b, void *y) {
    RUN(k, scale_shift)
    (a, t->p.data, t->q.data, t->add ? b : NULL, TL_ACT_NONE, y, t->rows, t->c);
}
/* What an activation's slope is taken from is b, or, to be added to, follows from a. */
static tl_slopes slopes_of(const row_case *t, const void *a, const void *b) {
    return (tl_slopes){.x = a,
                       .dy = b,
                       .act = t->act <= TL_ACT_RELU6 ? t->act : TL_ACT_NONE,
                       .v = t->add ? NULL : b,
                       .scale = t->q.data,
                       .shift = t->r.data};
}
static void call_affine3(const struct tl_kernels *k, const row_case *t, const void *a,
                         const void *b, void *y) {
    tl_slopes slopes = slopes_of(t, a, b);
    RUN(k, affine3)(&slopes, t->p.data, t->q.data, t->r.data, t->add, y, t->rows, t->c);
}
static void call_softmax(const struct tl_kernels *k, const row_case *t, const void *a,
                         const void *b, void *y) {
    (void)b;
    RUN(k, softmax)(a, y, t->rows * t->c);
}
static void call_softmax_back(const struct tl_kernels *k, const row_case *t, const void *a,
                              const void *b, void *y) {
    RUN(k, softmax_backward)(a, b, t->add, y, t->rows * t->c);
}

/* One rounding to 8 bits, half a unit at most; what float64 and float differ by beside it is what
 * terms of the size of the operands (up to 9, in sums of up to 450 products) leave. */
static void compare_rounded(worst *w, const guarded *half, const guarded *want, double slack) {
    const bf16 *got = (const bf16 *)(const void *)half->data;
    for (size_t i = 0; i < want->count; i++) {
        double expected = (double)want->data[i];
        worst_compare(w, (double)ref_bf16_get(got[i]), expected,
                      0x1p-8 * fabs(expected) + slack * 0x1p-24);
    }
}

static void check_rows(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    static const row_call calls[] = {call_act,     call_act_back,    call_add,
                                     call_mul,     call_scale_shift, call_affine3,
                                     call_softmax, call_softmax_back};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        row_case t = make_row_case(seed);
        calls[i](&tl_kernels_ref, &t, t.a.full.data, t.b.full.data, t.y.full.data);
        calls[i](kernels, &t, t.a.half.data, t.b.half.data, t.y.half.data);
        bool product = calls[i] == call_softmax_back;
        compare_rounded(w, &t.y.half, &t.y.full, product ? 4096.0 : 128.0);
        free_row_case(&t);
    }
}

static void check_sums(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    row_case t = make_row_case(seed);
    const struct tl_kernels *tables[2] = {&tl_kernels_ref, kernels};
    const void *a[2] = {t.a.full.data, t.a.half.data}, *b[2] = {t.b.full.data, t.b.half.data};
    double sums[2][5][MAX_C] = {{{0}}};
    for (int i = 0; i < 2; i++) {
        RUN(tables[i], moments)(a[i], sums[i][0], sums[i][1], t.rows, t.c);
        tl_slopes slopes = slopes_of(&t, a[i], b[i]);
        RUN(tables[i], moments_backward)
        (&slopes, t.p.data, sums[i][2], sums[i][3], t.rows, t.c);
        RUN(tables[i], row_sums)(a[i], t.c, sums[i][4], t.rows, t.c);
    }
    for (int s = 0; s < 5; s++)
        for (int64_t c = 0; c < t.c; c++)
            worst_compare(w, sums[1][s][c], sums[0][s][c], 1e-12 * (1.0 + fabs(sums[0][s][c])));
    free_row_case(&t);
}

/* --- pooling -----------------------------------------------------------------------------------
 */

static void check_pools(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    pool_case p = random_pool(seed, 4, 6, 40);
    tl_pool_row r = p.row;
    size_t x_size = p.x_size, y_size = p.y_size;
    pair_of x = make_pair(x_size, 1.0f, seed), y = make_pair(y_size, 1.0f, seed);
    pair_of dx = make_pair(x_size, 1.0f, seed), more = make_pair(x_size, 1.0f, seed);
    guarded winner[2] = {guarded_bytes_make(y_size), guarded_bytes_make(y_size)};
    tl_kernels_ref.max_pool(&r, x.full.data, y.full.data, (uint8_t *)winner[0].data);
    RUN(kernels, max_pool)(&r, x.half.data, y.half.data, (uint8_t *)winner[1].data);
    assert_memory_equal(winner[0].data, winner[1].data, y_size);
    compare_rounded(w, &y.half, &y.full, 0x1p-10);
    /* A place takes up to 4 shares of at most 1, and each of these sums, of at most 5, is rounded.
     */
    const double slack = 4 * 5 * 0x1p16;
    tl_kernels_ref.max_pool_backward(&r, (uint8_t *)winner[0].data, y.full.data, dx.full.data);
    RUN(kernels, max_pool_backward)(&r, (uint8_t *)winner[1].data, y.half.data, dx.half.data);
    compare_rounded(w, &dx.half, &dx.full, slack);
    tl_kernels_ref.avg_pool_backward(&r, y.full.data, more.full.data);
    RUN(kernels, avg_pool_backward)(&r, y.half.data, more.half.data);
    compare_rounded(w, &more.half, &more.full, slack);
    tl_kernels_ref.avg_pool(&r, x.full.data, y.full.data);
    RUN(kernels, avg_pool)(&r, x.half.data, y.half.data);
    compare_rounded(w, &y.half, &y.full, 64.0);
    guarded *all[] = {&x.half,  &x.full,    &y.half,    &y.full,    &dx.half,
                      &dx.full, &more.half, &more.full, &winner[0], &winner[1]};
    free_all(all, 10);
}

static void test_rows(void **state) {
    (void)state;
    check_bf16_tables("element by element", check_rows, 200);
    check_bf16_tables("sums over rows", check_sums, 200);
    check_bf16_tables("pooling", check_pools, 300);
}

/* A diverged network must not come out healthy. */
static void check_nan(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    (void)seed;
    bf16 x[19], y[19];
    for (int i = 0; i < 19; i++) x[i] = 0x7fc1;
    for (int act = 0; act <= TL_ACT_GELU; act++) {
        RUN(kernels, act_forward)((tl_act)act, x, y, 19);
        for (int i = 0; i < 19; i++) assert_true(isnan(ref_bf16_get(y[i])));
    }
    w->compared += 19;
}

static void test_nan_stays(void **state) {
    (void)state;
    check_bf16_tables("NaN stays NaN", check_nan, 1);
}

/* Tests of the model alone run everywhere; the instructions themselves want a machine. */
static void test_amx_native(void **state) {
    (void)state;
    const tl_isa *amx = tl_isa_find("amx");
    if (!amx) {
        printf(
            "amx: SKIPPED on the processor itself: this machine has no AMX for bf16 (its logic is "
            "tested over a model in test_conv)\n");
        skip();
    }
    assert_non_null(amx->bf16);
}

static void test_every_slot_has_a_row(void **state) {
    (void)state;
    check_slots("kernelcheck_bf16");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_nan_stays),
        cmocka_unit_test(test_amx_native),
        cmocka_unit_test(test_every_slot_has_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
