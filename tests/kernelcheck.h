/* Buffers that notice a stray access, and errors measured against a bound. */
#ifndef TL_TESTS_KERNELCHECK_H
#define TL_TESTS_KERNELCHECK_H

#include "support.h"

#include <sys/mman.h>

#include "kernels.h"

/* Floats that end where an unmapped page begins: reading past them is a crash. They begin at
 * whatever alignment that gives; the canaries before them are checked by guarded_free(). */
typedef struct guarded {
    float *data;
    size_t count;
    unsigned char *base;
    size_t mapped;
} guarded;

enum { GUARD_BYTE = 0xA5 };

static inline guarded guarded_make(size_t count) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = count * sizeof(float);
    size_t body = (size + page - 1) / page * page + page; /* at least one page of canaries */
    guarded g = {.count = count, .mapped = body + page};
    g.base = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.base == MAP_FAILED || mprotect(g.base + body, page, PROT_NONE) != 0)
        fail_msg("no memory for %zu floats", count);
    memset(g.base, GUARD_BYTE, body);
    g.data = (float *)(void *)(g.base + body - size);
    return g;
}

static inline void guarded_free(guarded *g) {
    size_t before = (size_t)((unsigned char *)g->data - g->base);
    for (size_t i = 0; i < before; i++) {
        if (g->base[i] != GUARD_BYTE)
            fail_msg("byte %zu before the buffer was written", before - i);
    }
    munmap(g->base, g->mapped);
    *g = (guarded){0};
}

static inline guarded guarded_random(size_t count, uint64_t *state) {
    guarded g = guarded_make(count);
    for (size_t i = 0; i < count; i++) g.data[i] = support_random(state);
    return g;
}

static inline guarded guarded_copy(const guarded *from) {
    guarded g = guarded_make(from->count);
    memcpy(g.data, from->data, from->count * sizeof(float));
    return g;
}

static inline int random_between(uint64_t *state, int low, int high) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return low + (int)((*state >> 33) % (uint64_t)(high - low + 1));
}

/* A sum in float64 with what is needed to bound the error of the same sum in float32. */
typedef struct exact {
    double value, magnitude; /* of the sum, and of the absolute terms */
    int64_t terms;
} exact;

static inline void exact_add(exact *sum, double term) {
    sum->value += term;
    sum->magnitude += fabs(term);
    sum->terms++;
}

/* A sum of n terms in float32 errs by at most about n * 2^-24 times the sum of the magnitudes
 * (Higham, Accuracy and Stability of Numerical Algorithms, 3.1); two roundings more for a product
 * that is not fused, and the epilogue's. */
static inline double exact_bound(const exact *sum) {
    return ((double)sum->terms + 8.0) * 0x1p-24 * sum->magnitude + 1e-30;
}

/* The largest error of one kernel as a share of its bound. */
typedef struct worst {
    double share, error, bound;
    int64_t compared;
} worst;

static inline void worst_compare(worst *w, double got, double want, double bound) {
    double error = fabs(got - want);
    w->compared++;
    if (!(error / bound > w->share) && error == error) return;
    *w = (worst){error / bound, error, bound, w->compared};
}

static inline void worst_report(const worst *w, const char *isa, const char *what) {
    printf("%-8s %-24s %9lld values, largest error %.2e of %.2e allowed (%.0f%%)\n", isa, what,
           (long long)w->compared, w->error, w->bound, 100.0 * w->share);
    if (!(w->share <= 1.0))
        fail_msg("%s: %s is off by %g, allowed %g", isa, what, w->error, w->bound);
}

/* --- every table --------------------------------------------------------------------------------
 */
enum { MAX_TABLES = 8 };

typedef void (*check_fn)(const struct tl_kernels *kernels, uint64_t *seed, worst *w);

static inline void check_tables(const char *what, check_fn check, int rounds) {
    const tl_isa *found[MAX_TABLES];
    int count = tl_isa_available(found, MAX_TABLES);
    for (int i = 0; i < count; i++) {
        const struct tl_kernels *table = found[i]->f32;
        if (i > 0 && table == found[i - 1]->f32) continue;
        worst w = {0};
        uint64_t seed = 11;
        for (int round = 0; round < rounds; round++) check(table, &seed, &w);
        worst_report(&w, table->name, what);
    }
}

#endif
