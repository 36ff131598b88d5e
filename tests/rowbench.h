/* test_kernelcheck_rows --bench [ISA] [FILTER]: everything but convolutions, in GB/s of what is
 * read and written, each in turn with the reference so that a noisy machine slows both. Two sizes:
 * one that stays in the second-level cache and one that comes from memory. */
#ifndef TL_TESTS_ROWBENCH_H
#define TL_TESTS_ROWBENCH_H

#include "kernelbench.h"
#include "kernelcheck.h"
#include "ref/ref.h"

/* Buffers of n floats each: as rows of ROW_C channels, or as 8-bit pictures. */
enum { ROW_C = 256 };
typedef struct row_buffers {
    int64_t n;
    float *a, *b, *c, *d;
    double sums[2 * ROW_C];
    uint8_t *bytes, *more_bytes;
    tl_resample_axis axis; /* halves a row or column of pixels, with antialiasing */
} row_buffers;

typedef const struct tl_kernels *row_table;

static inline void row_act(row_table k, row_buffers *r, tl_act act) {
    k->act_forward(act, r->a, r->b, r->n);
}
static inline void row_act_back(row_table k, row_buffers *r, tl_act act) {
    k->act_backward(act, r->a, r->b, false, r->c, r->n);
}
static inline void row_relu(row_table k, row_buffers *r) {
    row_act(k, r, TL_ACT_RELU);
}
static inline void row_silu(row_table k, row_buffers *r) {
    row_act(k, r, TL_ACT_SILU);
}
static inline void row_hard_swish(row_table k, row_buffers *r) {
    row_act(k, r, TL_ACT_HARD_SWISH);
}
static inline void row_gelu(row_table k, row_buffers *r) {
    row_act(k, r, TL_ACT_GELU);
}
static inline void row_relu_back(row_table k, row_buffers *r) {
    row_act_back(k, r, TL_ACT_RELU);
}
static inline void row_silu_back(row_table k, row_buffers *r) {
    row_act_back(k, r, TL_ACT_SILU);
}
static inline void row_hard_swish_back(row_table k, row_buffers *r) {
    row_act_back(k, r, TL_ACT_HARD_SWISH);
}
static inline void row_add(row_table k, row_buffers *r) {
    k->add(r->a, r->b, r->c, r->n);
}
static inline void row_scale_shift(row_table k, row_buffers *r) {
    k->scale_shift(r->a, r->d, r->d + ROW_C, NULL, TL_ACT_NONE, r->b, r->n / ROW_C, ROW_C);
}
static inline void row_moments(row_table k, row_buffers *r) {
    k->moments(r->a, r->sums, r->sums + ROW_C, r->n / ROW_C, ROW_C);
}
static inline void row_moments_back(row_table k, row_buffers *r) {
    const tl_slopes s = {.x = r->a, .dy = r->b};
    k->moments_backward(&s, r->d, r->sums, r->sums + ROW_C, r->n / ROW_C, ROW_C);
}
static inline void row_affine3(row_table k, row_buffers *r) {
    const tl_slopes s = {.x = r->b, .dy = r->a};
    k->affine3(&s, r->d, r->d + ROW_C, r->d + 2 * ROW_C, false, r->c, r->n / ROW_C, ROW_C);
}
static inline void row_sgd(row_table k, row_buffers *r) {
    const tl_update u = {.lr = 1e-6f, .momentum = 0.9f};
    k->sgd(&u, r->a, r->b, r->c, r->n);
}
static inline void row_adam(row_table k, row_buffers *r) {
    const tl_update u = {
        .lr = 1e-6f, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8f, .correction2 = 0.5f};
    k->adam(&u, r->a, r->b, r->c, r->d, r->n);
}
static inline void row_rmsprop(row_table k, row_buffers *r) {
    const tl_update u = {.lr = 1e-6f, .momentum = 0.9f, .beta2 = 0.99, .epsilon = 1e-8f};
    k->rmsprop(&u, r->a, r->b, r->d, NULL, r->c, r->n);
}
static inline void row_sums(row_table k, row_buffers *r) {
    k->row_sums(r->a, ROW_C, r->sums, r->n / ROW_C, ROW_C);
}
static inline void row_softmax(row_table k, row_buffers *r) {
    for (int64_t i = 0; i + 1024 <= r->n; i += 1024) k->softmax(r->a + i, r->b + i, 1000);
}

/* 3 x 3 windows two apart, over rows of 64 channels of which each is as long as 56 pixels. */
enum { POOL_C = 64, POOL_PIXELS = 56 };
static inline tl_pool_row pool_row(void) {
    int64_t x_row = (2 * POOL_PIXELS + 1) * POOL_C;
    return (tl_pool_row){3,           3,      2 * POOL_C, x_row, POOL_C,      POOL_C,
                         POOL_PIXELS, POOL_C, 0,          3,     TL_ACT_NONE, 0.1f};
}
static inline void pool_each(row_table k, row_buffers *r, int which) {
    tl_pool_row p = pool_row();
    int64_t y_row = p.pixels * p.c;
    for (int64_t x = 0, y = 0; x + 3 * p.x_row <= r->n; x += 2 * p.x_row, y += y_row) {
        if (which == 0) k->max_pool(&p, r->a + x, r->b + y, NULL);
        if (which == 1) k->max_pool(&p, r->a + x, r->b + y, r->bytes + y);
        if (which == 2) k->max_pool_backward(&p, r->bytes + y, r->b + y, r->c + x);
        if (which == 3) k->avg_pool(&p, r->a + x, r->b + y);
    }
}
static inline void row_max_pool(row_table k, row_buffers *r) {
    pool_each(k, r, 0);
}
static inline void row_max_pool_winners(row_table k, row_buffers *r) {
    pool_each(k, r, 1);
}
static inline void row_max_pool_back(row_table k, row_buffers *r) {
    pool_each(k, r, 2);
}
static inline void row_avg_pool(row_table k, row_buffers *r) {
    pool_each(k, r, 3);
}

/* A picture of 512 pixels a row to one of 256. */
enum { PICTURE = 512 };
static inline void row_resample(row_table k, row_buffers *r) {
    for (int64_t at = 0; at + PICTURE * 3 <= r->n; at += PICTURE * 3)
        k->resample_row(&r->axis, r->bytes + at, PICTURE, r->more_bytes + at / 2);
}
static inline void row_resample_column(row_table k, row_buffers *r) {
    const int64_t row = PICTURE * 3;
    for (int64_t i = 0; (2 * i + 5) * row <= r->n; i++)
        k->resample_column(&r->axis, 1, r->bytes + 2 * i * row, row, r->more_bytes + i * row);
}
static inline void row_normalize(row_table k, row_buffers *r) {
    static const float mean[3] = {123, 116, 103}, std[3] = {58, 57, 57};
    k->normalize(r->bytes, false, mean, std, r->a, r->n / 3);
}

typedef struct row_bench {
    const char *name;
    double bytes; /* read and written for each of the n elements */
    void (*run)(row_table kernels, row_buffers *r);
} row_bench;

static const row_bench row_benches[] = {
    {"relu", 8, row_relu},
    {"relu backward", 12, row_relu_back},
    {"hard_swish", 8, row_hard_swish},
    {"hard_swish backward", 12, row_hard_swish_back},
    {"silu", 8, row_silu},
    {"silu backward", 12, row_silu_back},
    {"gelu", 8, row_gelu},
    {"add", 12, row_add},
    {"scale_shift", 8, row_scale_shift},
    {"affine3", 12, row_affine3},
    {"moments", 4, row_moments},
    {"moments_backward", 8, row_moments_back},
    {"row_sums", 4, row_sums},
    {"sgd, momentum", 20, row_sgd},
    {"adam", 28, row_adam},
    {"rmsprop, momentum", 28, row_rmsprop},
    {"max_pool 3x3/2", 5, row_max_pool},
    {"max_pool 3x3/2, winners", 5.25, row_max_pool_winners},
    {"max_pool 3x3/2 backward", 9.25, row_max_pool_back},
    {"avg_pool 3x3/2", 5, row_avg_pool},
    {"softmax 1000", 8, row_softmax},
    {"resample_row 512-256", 1.5, row_resample},
    {"resample_column 2:1", 1.5, row_resample_column},
    {"normalize", 5, row_normalize},
};

/* The weights of a triangle of 4 taps over every second sample. */
static inline tl_resample_axis row_axis(void) {
    tl_resample_axis axis = {.count = PICTURE / 2, .width = TL_RESAMPLE_ALIGN};
    const size_t count = (size_t)axis.count;
    axis.first = calloc(count, sizeof *axis.first);
    axis.used = calloc(count, sizeof *axis.used);
    axis.weight = calloc(count * TL_RESAMPLE_ALIGN, sizeof *axis.weight);
    for (int i = 0; i < axis.count; i++) {
        axis.first[i] = i == 0 ? 0 : i == axis.count - 1 ? PICTURE - 4 : 2 * i - 1;
        axis.used[i] = 4;
        for (int k = 0; k < 4; k++)
            axis.weight[i * TL_RESAMPLE_ALIGN + k] = (k % 3 ? 3 : 1) << (TL_RESAMPLE_POINT - 3);
    }
    return axis;
}

static inline double row_time(const row_bench *bench, row_table kernels, row_buffers *r, int runs) {
    double start = bench_now(true);
    for (int i = 0; i < runs; i++) bench->run(kernels, r);
    return (bench_now(true) - start) / runs;
}

static inline void row_bench_one(const row_bench *bench, row_table kernels, row_buffers *r) {
    double best[2] = {1e30, 1e30};
    int runs = r->n > 100000 ? 1 : 100;
    for (int turn = 0; turn < 7; turn++) {
        const double seconds[2] = {row_time(bench, &tl_kernels_ref, r, runs),
                                   row_time(bench, kernels, r, runs)};
        for (int i = 0; i < 2; i++)
            if (seconds[i] < best[i]) best[i] = seconds[i];
    }
    double gigabytes = bench->bytes * (double)r->n * 1e-9;
    printf("%-28s %8lld floats   ref %6.1f GB/s   %s %6.1f GB/s   %5.2f times\n", bench->name,
           (long long)r->n, gigabytes / best[0], kernels->name, gigabytes / best[1],
           best[0] / best[1]);
    fflush(stdout);
}

static inline row_table row_table_of(const char *isa) {
    const tl_isa *found[MAX_TABLES];
    int count = tl_isa_available(found, MAX_TABLES);
    const tl_isa *chosen = isa ? tl_isa_find(isa) : found[count - 1];
    return chosen ? chosen->f32 : NULL;
}

static inline int bench_rows(int argc, char **argv) {
    row_table kernels = row_table_of(argc > 0 ? argv[0] : NULL);
    const char *filter = argc > 1 ? argv[1] : "";
    if (!kernels) {
        fprintf(stderr, "%s: no such instruction set here\n", argv[0]);
        return 2;
    }
    static const int64_t sizes[] = {48 * 1024, 3 * 1024 * 1024};
    const int64_t most = sizes[1];
    row_buffers r = {.a = bench_floats((size_t)most),
                     .b = bench_floats((size_t)most),
                     .c = bench_floats((size_t)most),
                     .d = bench_floats((size_t)most),
                     .bytes = calloc((size_t)most, 1),
                     .more_bytes = calloc((size_t)most, 1),
                     .axis = row_axis()};
    for (int64_t i = 0; i < most; i++) r.d[i] = fabsf(r.d[i]); /* a mean of squares */
    for (size_t s = 0; s < 2; s++) {
        r.n = sizes[s];
        for (size_t i = 0; i < sizeof row_benches / sizeof *row_benches; i++)
            if (strstr(row_benches[i].name, filter)) row_bench_one(&row_benches[i], kernels, &r);
    }
    void *all[] = {r.a,          r.b,          r.c,         r.d,          r.bytes,
                   r.more_bytes, r.axis.first, r.axis.used, r.axis.weight};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    return 0;
}

#endif
