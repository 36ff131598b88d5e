/* test_kernelcheck --bench|--bench-bf16 [ISA] [THREADS] [FILTER] [BATCH]: layers of real networks,
 * each timed in turn with a loop of nothing but multiply-adds, so that a noisy machine slows both.
 * Prints the best of several runs as GFLOP/s and as a share of that ceiling. */
#ifndef TL_TESTS_KERNELBENCH_H
#define TL_TESTS_KERNELBENCH_H

#include "support.h"

#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "amx/amx.h"
#include "compute/conv.h"
#include "ref/ref.h"
#include "simd/unroll.h"

/* With one thread its own processor time, which other programs disturb less. */
static inline double bench_now(bool alone) {
    struct timespec t;
    clock_gettime(alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct bench_layer {
    const char *name;
    int n, size, ic, oc, kernel, stride, groups;
} bench_layer;

static const bench_layer bench_layers[] = {
    {"resnet50 stem 7x7/2", 1, 224, 3, 64, 7, 2, 1},
    {"resnet50 56 1x1 64-64", 1, 56, 64, 64, 1, 1, 1},
    {"resnet50 56 1x1 64-256", 1, 56, 64, 256, 1, 1, 1},
    {"resnet50 56 1x1 256-64", 1, 56, 256, 64, 1, 1, 1},
    {"resnet50 56 3x3 64", 1, 56, 64, 64, 3, 1, 1},
    {"resnet50 56 3x3/2 128", 1, 56, 128, 128, 3, 2, 1},
    {"resnet50 28 1x1 512-128", 1, 28, 512, 128, 1, 1, 1},
    {"resnet50 28 1x1 128-512", 1, 28, 128, 512, 1, 1, 1},
    {"resnet50 28 3x3 128", 1, 28, 128, 128, 3, 1, 1},
    {"resnet50 14 1x1 1024-256", 1, 14, 1024, 256, 1, 1, 1},
    {"resnet50 14 1x1 256-1024", 1, 14, 256, 1024, 1, 1, 1},
    {"resnet50 14 3x3 256", 1, 14, 256, 256, 3, 1, 1},
    {"resnet50 14 1x1/2 1024-2048", 1, 14, 1024, 2048, 1, 2, 1},
    {"resnet50 7 1x1 2048-512", 1, 7, 2048, 512, 1, 1, 1},
    {"resnet50 7 1x1 512-2048", 1, 7, 512, 2048, 1, 1, 1},
    {"resnet50 7 3x3 512", 1, 7, 512, 512, 3, 1, 1},
    {"vgg16 224 3x3 3-64", 1, 224, 3, 64, 3, 1, 1},
    {"vgg16 224 3x3 64", 1, 224, 64, 64, 3, 1, 1},
    {"vgg16 112 3x3 128", 1, 112, 128, 128, 3, 1, 1},
    {"vgg16 56 3x3 256", 1, 56, 256, 256, 3, 1, 1},
    {"vgg16 28 3x3 512", 1, 28, 512, 512, 3, 1, 1},
    {"vgg16 dense 25088-4096", 1, 1, 25088, 4096, 1, 1, 1},
    {"lite0 stem 3x3/2", 1, 224, 3, 32, 3, 2, 1},
    {"lite0 112 dw3x3 32", 1, 112, 32, 32, 3, 1, 32},
    {"lite0 112 1x1 32-16", 1, 112, 32, 16, 1, 1, 1},
    {"lite0 112 1x1 16-96", 1, 112, 16, 96, 1, 1, 1},
    {"lite0 112 dw3x3/2 96", 1, 112, 96, 96, 3, 2, 96},
    {"lite0 56 1x1 96-24", 1, 56, 96, 24, 1, 1, 1},
    {"lite0 56 1x1 24-144", 1, 56, 24, 144, 1, 1, 1},
    {"lite0 56 dw5x5/2 144", 1, 56, 144, 144, 5, 2, 144},
    {"lite0 28 1x1 144-40", 1, 28, 144, 40, 1, 1, 1},
    {"lite0 28 dw5x5 240", 1, 28, 240, 240, 5, 1, 240},
    {"lite0 14 dw5x5 480", 1, 14, 480, 480, 5, 1, 480},
    {"lite0 14 1x1 480-112", 1, 14, 480, 112, 1, 1, 1},
    {"lite0 14 dw5x5 672", 1, 14, 672, 672, 5, 1, 672},
    {"lite0 7 dw5x5 1152", 1, 7, 1152, 1152, 5, 1, 1152},
    {"lite0 7 1x1 1152-192", 1, 7, 1152, 192, 1, 1, 1},
    {"lite0 7 1x1 192-1152", 1, 7, 192, 1152, 1, 1, 1},
    {"lite0 7 1x1 320-1280", 1, 7, 320, 1280, 1, 1, 1},
};

static inline tl_conv bench_conv(const bench_layer *layer, int n) {
    int64_t pad = layer->kernel / 2;
    int64_t out = (layer->size + 2 * pad - layer->kernel) / layer->stride + 1;
    return (tl_conv){.n = n,
                     .h = layer->size,
                     .w = layer->size,
                     .ic = layer->ic,
                     .oh = out,
                     .ow = out,
                     .oc = layer->oc,
                     .kh = layer->kernel,
                     .kw = layer->kernel,
                     .stride_h = layer->stride,
                     .stride_w = layer->stride,
                     .dilation_h = 1,
                     .dilation_w = 1,
                     .pad_top = (int)pad,
                     .pad_left = (int)pad,
                     .groups = layer->groups};
}

/* --- the ceiling: sixteen chains of multiply-adds that touch no memory
 * ---------------------------- */

enum { CEILING_CHAINS = 16, CEILING_STEPS = 50000 };

/* Runs the chains and returns something that depends on all of them. */
typedef float (*bench_chains)(float factor);

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static inline float bench_chains_avx512(float factor) {
    __m512 sum[CEILING_CHAINS], scale = _mm512_set1_ps(factor);
    UNROLL
    for (int i = 0; i < CEILING_CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int step = 0; step < CEILING_STEPS; step++) {
        UNROLL
        for (int i = 0; i < CEILING_CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], scale, scale);
    }
    UNROLL
    for (int i = 1; i < CEILING_CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f,avx512bf16"))) static inline float bench_chains_bf16(float factor) {
    __m512 sum[CEILING_CHAINS];
    __m512bh scale = (__m512bh)_mm512_castps_si512(_mm512_set1_ps(factor));
    UNROLL
    for (int i = 0; i < CEILING_CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int step = 0; step < CEILING_STEPS; step++) {
        UNROLL
        for (int i = 0; i < CEILING_CHAINS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], scale, scale);
    }
    UNROLL
    for (int i = 1; i < CEILING_CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

/* Four tiles of sums, as the kernel has them: a chain each. */
__attribute__((target("amx-tile,amx-bf16"))) static inline float bench_chains_amx(float factor) {
    (void)factor;
    float sums[16][16];
    tl_amx_gemm_begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    for (int step = 0; step < CEILING_STEPS; step++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, sums, sizeof sums[0]);
    tl_amx_gemm_end();
    return sums[0][0];
}

/* Of sixteen registers two are needed for other things. */
__attribute__((target("avx2,fma"))) static inline float bench_chains_avx2(float factor) {
    enum { CHAINS = CEILING_CHAINS / 2 };
    __m256 sum[CHAINS], scale = _mm256_set1_ps(factor);
    UNROLL
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_set1_ps((float)i);
    for (int step = 0; step < 4 * CEILING_STEPS; step++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_fmadd_ps(sum[i], scale, scale);
    }
    UNROLL
    for (int i = 1; i < CHAINS; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
    return _mm256_cvtss_f32(sum[0]);
}
#endif

/* Plain multiplications and additions, as the reference has them; a sixteenth of the work. */
static inline float bench_chains_ref(float factor) {
    float sum[CEILING_CHAINS] = {0};
    for (int step = 0; step < CEILING_STEPS; step++) {
        for (int i = 0; i < CEILING_CHAINS; i++) sum[i] = sum[i] * factor + factor;
    }
    float total = 0.0f;
    for (int i = 0; i < CEILING_CHAINS; i++) total += sum[i];
    return total;
}

typedef struct bench_ceiling {
    bench_chains chains;
    double flop; /* of one call */
} bench_ceiling;

static inline bench_ceiling bench_make_ceiling(const char *isa, bool bf16) {
    double flop = 2.0 * CEILING_CHAINS * CEILING_STEPS;
#if defined(__x86_64__)
    if (bf16 && strcmp(isa, "amx") == 0)
        return (bench_ceiling){bench_chains_amx, 2.0 * 4 * 16 * 16 * 32 * CEILING_STEPS};
    if (bf16) return (bench_ceiling){bench_chains_bf16, 32 * flop};
    if (strcmp(isa, "amx") == 0) return (bench_ceiling){bench_chains_avx512, 16 * flop};
    if (strncmp(isa, "avx512", 6) == 0) return (bench_ceiling){bench_chains_avx512, 16 * flop};
    if (strcmp(isa, "avx2") == 0) return (bench_ceiling){bench_chains_avx2, 16 * flop};
#endif
    (void)isa;
    (void)bf16;
    return (bench_ceiling){bench_chains_ref, flop};
}

static inline void bench_ceiling_task(void *arg, int64_t begin, int64_t end) {
    const bench_ceiling *ceiling = arg;
    volatile float factor = 0.5f, kept;
    for (int64_t slot = begin; slot < end; slot++) kept = ceiling->chains(factor);
    (void)kept;
}

static inline double bench_ceiling_gflops(tl_context *ctx, const bench_ceiling *ceiling) {
    int threads = tl_context_threads(ctx);
    double start = bench_now(threads == 1);
    tl_parallel(ctx, threads, bench_ceiling_task, (void *)(uintptr_t)ceiling);
    return 1e-9 * threads * ceiling->flop / (bench_now(threads == 1) - start);
}

/* --- layers --------------------------------------------------------------------------------------
 */

typedef struct bench_buffers {
    float *x, *w, *packed, *y, *dx, *dw, *work;
} bench_buffers;

static inline float *bench_floats(size_t count) {
    float *p = aligned_alloc(64, (count + 31) / 16 * 16 * sizeof(float));
    uint64_t seed = count;
    for (size_t i = 0; i < count; i++) p[i] = support_random(&seed);
    return p;
}

static inline void bench_pass(tl_context *ctx, const tl_conv *c, const bench_buffers *b, int pass) {
    tl_epilogue e = {.act = TL_ACT_RELU};
    if (pass == 0) tl_conv_forward(ctx, c, b->x, b->packed, &e, b->y, b->work);
    if (pass == 1) tl_conv_backward_data(ctx, c, b->y, b->w, false, b->dx, b->work);
    if (pass == 2) tl_conv_backward_weights(ctx, c, b->x, b->y, b->dw, NULL, b->work);
    if (pass == 3) tl_conv_pack(ctx, c, b->w, NULL, b->packed);
}

static inline void bench_one(tl_context *ctx, const bench_layer *layer, int n, bool bf16,
                             const bench_ceiling *ceiling) {
    tl_conv c = bench_conv(layer, n);
    c.bf16 = bf16;
    size_t xs = (size_t)(c.n * c.h * c.w * c.ic), ys = (size_t)(c.n * c.oh * c.ow * c.oc);
    size_t ws = (size_t)(c.oc * c.kh * c.kw * c.ic / c.groups), work = 0;
    for (int pass = 0; pass < 3; pass++) {
        size_t size = tl_conv_work_bytes(ctx, &c, (tl_conv_pass)pass) / sizeof(float);
        if (size > work) work = size;
    }
    bench_buffers b = {bench_floats(xs),
                       bench_floats(ws),
                       bench_floats(tl_conv_packed_bytes(ctx, &c) / sizeof(float)),
                       bench_floats(ys),
                       bench_floats(xs),
                       bench_floats(ws),
                       bench_floats(work)};
    if (bf16) { /* in place: from the front on, each is read before it is written over */
        tl_ref_narrow(b.x, b.x, (int64_t)xs);
        tl_ref_narrow(b.y, b.y, (int64_t)ys);
    }
    tl_conv_pack(ctx, &c, b.w, NULL, b.packed);
    bool alone = tl_context_threads(ctx) == 1;
    double flop = 2.0 * (double)ys * (double)ws / (double)c.oc, best[4], top = 0.0;
    for (int pass = 0; pass < 4; pass++) {
        best[pass] = 1e30;
        double begin = bench_now(alone);
        for (int run = 0; run < 40 && (run < 4 || bench_now(alone) - begin < 0.15); run++) {
            double start = bench_now(alone);
            bench_pass(ctx, &c, &b, pass);
            double seconds = bench_now(alone) - start;
            if (seconds < best[pass]) best[pass] = seconds;
            double gflops = bench_ceiling_gflops(ctx, ceiling);
            if (gflops > top) top = gflops;
        }
    }
    printf("%-28s n=%-3d", layer->name, n);
    for (int pass = 0; pass < 3; pass++)
        printf(" %9.3f ms %6.1f %3.0f%%", best[pass] * 1e3, flop * 1e-9 / best[pass],
               flop * 1e-7 / best[pass] / top);
    printf(" pack %7.3f ms\n", best[3] * 1e3);
    fflush(stdout);
    float *all[] = {b.x, b.w, b.packed, b.y, b.dx, b.dw, b.work};
    for (size_t i = 0; i < 7; i++) free(all[i]);
}

static inline int bench(int argc, char **argv, bool bf16) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.isa = argc > 0 ? argv[0] : NULL;
    options.threads = argc > 1 ? atoi(argv[1]) : 1;
    const char *filter = argc > 2 ? argv[2] : "";
    tl_context *ctx = NULL;
    if (tl_context_create(&options, &ctx) != TL_OK) {
        fprintf(stderr, "%s\n", tl_last_error());
        return 2;
    }
    if (bf16 && !tl_context_bf16_kernels(ctx)) {
        fprintf(stderr, "%s has no arithmetic on bf16\n", tl_context_isa(ctx));
        tl_context_free(ctx);
        return 2;
    }
    bench_ceiling ceiling = bench_make_ceiling(tl_context_isa(ctx), bf16);
    for (int i = 0; i < 5; i++) (void)bench_ceiling_gflops(ctx, &ceiling);
    printf("%s %s, %d threads, ceiling %.1f GFLOP/s\n", tl_context_isa(ctx), bf16 ? "bf16" : "f32",
           options.threads, bench_ceiling_gflops(ctx, &ceiling));
    printf("%-34s forward                    backward data              backward weights\n", "");
    const int batches[2] = {argc > 3 ? atoi(argv[3]) : 1, 16};
    for (int b = 0; b < (argc > 3 ? 1 : 2); b++) {
        for (size_t i = 0; i < sizeof bench_layers / sizeof bench_layers[0]; i++) {
            if (strstr(bench_layers[i].name, filter))
                bench_one(ctx, &bench_layers[i], batches[b], bf16, &ceiling);
        }
    }
    tl_context_free(ctx);
    return 0;
}

#endif
