/* Kernels of bf16 of every instruction set; see test_kernelcheck.c. */
#include "kernelcheck.h"

#include "ref_bf16.h"

/* The tables of bf16: the reference's, and what the machine has. */
static void check_bf16_tables(const char *what, check_fn check, int rounds) {
    const tl_isa *found[MAX_TABLES];
    int count = tl_isa_available(found, MAX_TABLES);
    check_table(&ref_bf16, what, check, rounds);
    for (int i = 0; i < count; i++)
        if (found[i]->bf16) check_table(found[i]->bf16, what, check, rounds);
}

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

/* Rows brought together, as they are and from floats. */
static void check_groups(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    enum { MAX_GROUP = 2 };
    const int group = kernels->group;
    const size_t size = (size_t)kernels->element;
    int64_t n = random_between(seed, 1, 70);
    guarded rows[MAX_GROUP], floats[MAX_GROUP], y = guarded_bytes((size_t)(n * group) * size, seed);
    const void *of[MAX_GROUP];
    const float *of_floats[MAX_GROUP];
    for (int i = 0; i < group; i++) {
        floats[i] = guarded_random((size_t)n, seed);
        rows[i] = guarded_bytes((size_t)n * size, seed);
        if (kernels->element == sizeof(float))
            memcpy(rows[i].data, floats[i].data, (size_t)n * size);
        else
            tl_ref_narrow(floats[i].data, rows[i].data, n);
        bool there = random_between(seed, 0, 3) > 0;
        of[i] = there ? rows[i].data : NULL;
        of_floats[i] = there ? floats[i].data : NULL;
    }
    for (int which = 0; which < 2; which++) {
        if (which == 0)
            RUN(kernels, group_rows)(of, y.data, n);
        else
            RUN(kernels, group_floats)(of_floats, y.data, n);
        static const char zeros[sizeof(float)];
        for (int64_t i = 0; i < n * group; i++) {
            const void *row = of[i % group],
                       *want = row ? (const char *)row + i / group * kernels->element : zeros;
            assert_memory_equal((const char *)y.data + i * kernels->element, want, size);
        }
    }
    w->compared += 2 * n * group;
    for (int i = 0; i < group; i++) {
        guarded_free(&rows[i]);
        guarded_free(&floats[i]);
    }
    guarded_free(&y);
}

static void test_conversions(void **state) {
    (void)state;
    check_tables("widen, narrow", check_bf16, 400);
    check_bf16_tables("widen, narrow", check_bf16, 400);
    check_tables("group_rows, group_floats", check_groups, 200);
    check_bf16_tables("group_rows, group_floats", check_groups, 200);
}

static void test_every_slot_has_a_row(void **state) {
    (void)state;
    check_slots("kernelcheck_bf16");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_every_slot_has_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
