/* Every kernel of every instruction set that this machine offers against the reference, over seeded
 * odd shapes in buffers that notice a stray access; sums of products are in
 * test_kernelcheck_products.c. `--bench` times convolutions instead; see kernelbench.h. */
#include "kernelcheck.h"

#include <sys/wait.h>

#include "kernelbench.h"
#include "ref/ref.h"

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

/* Rows of channels with what a gradient is masked by, and a copy for the reference. */
typedef struct slope_case {
    int64_t rows, c;
    guarded x, dy, v, scale, shift, dz, want_dz;
    tl_slopes slopes, want;
} slope_case;

static slope_case make_slopes(uint64_t *seed) {
    slope_case t = {.rows = random_between(seed, 1, 9), .c = random_between(seed, 1, 70)};
    size_t n = (size_t)(t.rows * t.c), c = (size_t)t.c;
    t.x = guarded_random(n, seed);
    t.dy = guarded_random(n, seed);
    t.v = guarded_random(n, seed);
    t.scale = guarded_random(c, seed);
    t.shift = guarded_random(c, seed);
    t.dz = guarded_random(n, seed);
    t.want_dz = guarded_copy(&t.dz);
    for (size_t i = 0; i < n; i++) t.v.data[i] *= 9.0f; /* past every bend of an activation */
    for (size_t i = 0; i < c; i++) t.scale.data[i] *= 9.0f;
    t.slopes = (tl_slopes){.x = t.x.data,
                           .dy = t.dy.data,
                           .act = (tl_act)random_between(seed, TL_ACT_NONE, TL_ACT_RELU6),
                           .v = random_between(seed, 0, 1) ? t.v.data : NULL,
                           .scale = t.scale.data,
                           .shift = t.shift.data};
    t.want = t.slopes;
    if (random_between(seed, 0, 1)) {
        t.slopes.dz = t.dz.data;
        t.want.dz = t.want_dz.data;
    }
    return t;
}

static void finish_slopes(slope_case *t, worst *w) {
    compare_floats(w, &t->dz, &t->want_dz);
    guarded *all[] = {&t->x, &t->dy, &t->v, &t->scale, &t->shift, &t->dz, &t->want_dz};
    free_all(all, 7);
}

static void check_affine3(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    slope_case t = make_slopes(seed);
    guarded p = guarded_random((size_t)t.c, seed), q = guarded_random((size_t)t.c, seed),
            r = guarded_random((size_t)t.c, seed);
    guarded got = guarded_random(t.x.count, seed), want = guarded_copy(&got);
    bool add = random_between(seed, 0, 1);
    RUN(kernels, affine3)(&t.slopes, p.data, q.data, r.data, add, got.data, t.rows, t.c);
    tl_ref_affine3(&t.want, p.data, q.data, r.data, add, want.data, t.rows, t.c);
    compare_floats(w, &got, &want);
    if (!add && !t.slopes.dz) { /* in place */
        RUN(kernels, affine3)(&t.slopes, p.data, q.data, r.data, false, t.dy.data, t.rows, t.c);
        assert_memory_equal(t.dy.data, got.data, got.count * sizeof(float));
    }
    finish_slopes(&t, w);
    guarded *all[] = {&p, &q, &r, &got, &want};
    free_all(all, 5);
}

static void check_scale_shift(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    int64_t rows = random_between(seed, 1, 9), c = random_between(seed, 1, 50);
    operands o = make_operands((size_t)(rows * c), seed);
    guarded p = guarded_random((size_t)c, seed), q = guarded_random((size_t)c, seed);
    const float *residual = random_between(seed, 0, 1) ? o.b.data : NULL;
    tl_act act = (tl_act)random_between(seed, 0, TL_ACT_GELU);
    RUN(kernels, scale_shift)(o.a.data, p.data, q.data, residual, act, o.got.data, rows, c);
    tl_ref_scale_shift(o.a.data, p.data, q.data, residual, act, o.want.data, rows, c);
    finish_operands(&o, w);
    guarded_free(&p);
    guarded_free(&q);
}

static void compare_sums(worst *w, const double *got, const double *want, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        worst_compare(w, got[i], want[i], 1e-12 * (1.0 + fabs(want[i])));
}

static void check_moments(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    enum { MAX_C = 70 };
    slope_case t = make_slopes(seed);
    guarded center = guarded_random((size_t)t.c, seed);
    guarded sums[2] = {guarded_make((size_t)t.c * 2), guarded_make((size_t)t.c * 2)}; /* doubles */
    double *got[2], want[2][MAX_C] = {{0}};
    for (int i = 0; i < 2; i++) {
        got[i] = (double *)(void *)sums[i].data;
        memset(got[i], 0, sums[i].size);
    }
    RUN(kernels, moments)(t.x.data, got[0], got[1], t.rows, t.c);
    tl_ref_moments(t.x.data, want[0], want[1], t.rows, t.c);
    compare_sums(w, got[0], want[0], t.c);
    compare_sums(w, got[1], want[1], t.c);
    RUN(kernels, moments_backward)(&t.slopes, center.data, got[0], got[1], t.rows, t.c);
    tl_ref_moments_backward(&t.want, center.data, want[0], want[1], t.rows, t.c);
    compare_sums(w, got[0], want[0], t.c);
    compare_sums(w, got[1], want[1], t.c);
    finish_slopes(&t, w);
    guarded *all[] = {&center, &sums[0], &sums[1]};
    free_all(all, 3);
}

static void test_elementwise(void **state) {
    (void)state;
    check_tables("add, mul", check_arithmetic, 200);
    check_tables("scale_shift", check_scale_shift, 200);
    check_tables("affine3", check_affine3, 200);
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
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_nan_stays),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_stray_accesses_are_named),
        cmocka_unit_test(test_every_slot_has_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
