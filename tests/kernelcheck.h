/* Every table's kernels over guarded buffers, errors measured against a bound, and whether every
 * slot of the table is checked at all. */
#ifndef TL_TESTS_KERNELCHECK_H
#define TL_TESTS_KERNELCHECK_H

#include "kernelguard.h"
#include "kernels.h"

static inline int random_between(uint64_t *state, int low, int high) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return low + (int)((*state >> 33) % (uint64_t)(high - low + 1));
}

static inline uint8_t *bytes_of(const guarded *g) {
    return (uint8_t *)g->data;
}

static inline guarded guarded_bytes(size_t size, uint64_t *seed) {
    guarded g = guarded_bytes_make(size);
    for (size_t i = 0; i < size; i++) bytes_of(&g)[i] = (uint8_t)random_between(seed, 0, 255);
    return g;
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
    if (w->bound > 0 && !(error / bound > w->share) && error == error) return;
    *w = (worst){error / bound, error, bound, w->compared};
}

static inline void worst_report(const worst *w, const char *isa, const char *what) {
    if (w->bound == 0.0)
        printf("%-8s %-24s %9lld values, all equal\n", isa, what, (long long)w->compared);
    else
        printf("%-8s %-24s %9lld values, largest error %.2e of %.2e allowed (%.0f%%)\n", isa, what,
               (long long)w->compared, w->error, w->bound, 100.0 * w->share);
    if (!(w->share <= 1.0))
        fail_msg("%s: %s is off by %g, allowed %g", isa, what, w->error, w->bound);
}

/* --- every table --------------------------------------------------------------------------------
 */
enum { MAX_TABLES = 8 };

typedef void (*check_fn)(const struct tl_kernels *kernels, uint64_t *seed, worst *w);

/* The checks of this program, for check_slots(). */
static struct checks {
    int count;
    check_fn row[64];
} checks;

static inline void check_table(const struct tl_kernels *table, const char *what, check_fn check,
                               int rounds) {
    worst w = {0};
    for (int side = GUARD_BEHIND; side <= GUARD_BEFORE; side++) {
        uint64_t seed = 11;
        guard_begin(table->name, what, (guard_side)side);
        for (int round = 0; round < rounds; round++) check(table, &seed, &w);
        guard_end();
    }
    worst_report(&w, table->name, what);
}

/* The tables of float. */
static inline void check_tables(const char *what, check_fn check, int rounds) {
    const tl_isa *found[MAX_TABLES];
    int count = tl_isa_available(found, MAX_TABLES);
    for (int i = 0; i < count; i++) {
        if (i == 0 || found[i]->f32 != found[i - 1]->f32)
            check_table(found[i]->f32, what, check, rounds);
    }
    checks.row[checks.count++] = check;
}

/* --- rows of pools ------------------------------------------------------------------------------
 */

typedef struct pool_case {
    tl_pool_row row;
    size_t x_size, y_size;
} pool_case;

/* A window of up to `side` x `side`, so many pixels and channels at most. */
static inline pool_case random_pool(uint64_t *seed, int side, int pixels, int channels) {
    tl_pool_row r = {.kh = random_between(seed, 1, side),
                     .kw = random_between(seed, 1, side),
                     .pixels = random_between(seed, 1, pixels),
                     .c = random_between(seed, 1, channels),
                     .first_place = random_between(seed, 0, 7),
                     .act = (tl_act)random_between(seed, TL_ACT_NONE, TL_ACT_RELU6),
                     .weight = 0.3f};
    r.place_row = r.kw + random_between(seed, 0, 2);
    r.x_tap = r.c + random_between(seed, 0, 5);
    r.x_step = r.x_tap * random_between(seed, 1, 3);
    r.x_row = (r.pixels - 1) * r.x_step + r.kw * r.x_tap;
    r.y_step = r.c + random_between(seed, 0, 5);
    int64_t last = (r.pixels - 1) * r.x_step + (r.kh - 1) * r.x_row + (r.kw - 1) * r.x_tap;
    return (pool_case){r, (size_t)(last + r.c), (size_t)((r.pixels - 1) * r.y_step + r.c)};
}

/* --- every slot ---------------------------------------------------------------------------------
 */

/* The slots of the table, each with the program that checks it. */
#define KERNEL_SLOTS(SLOT)                                                                         \
    SLOT(gemm_begin, "kernelcheck_products")                                                       \
    SLOT(gemm_tile, "kernelcheck_products")                                                        \
    SLOT(gemm_end, "kernelcheck_products")                                                         \
    SLOT(group_rows, "kernelcheck_bf16")                                                           \
    SLOT(group_floats, "kernelcheck_bf16")                                                         \
    SLOT(depthwise_row, "kernelcheck_products")                                                    \
    SLOT(depthwise_grad, "kernelcheck_products")                                                   \
    SLOT(winograd_input, "kernelcheck_products")                                                   \
    SLOT(winograd_output, "kernelcheck_products")                                                  \
    SLOT(winograd_weights, "kernelcheck_products")                                                 \
    SLOT(winograd_gradient, "kernelcheck_products")                                                \
    SLOT(winograd_filter, "kernelcheck_products")                                                  \
    SLOT(widen, "kernelcheck_bf16")                                                                \
    SLOT(narrow, "kernelcheck_bf16")                                                               \
    SLOT(act_forward, "kernelcheck")                                                               \
    SLOT(act_backward, "kernelcheck")                                                              \
    SLOT(add, "kernelcheck")                                                                       \
    SLOT(mul, "kernelcheck")                                                                       \
    SLOT(scale_shift, "kernelcheck")                                                               \
    SLOT(moments, "kernelcheck")                                                                   \
    SLOT(moments_backward, "kernelcheck")                                                          \
    SLOT(affine3, "kernelcheck")                                                                   \
    SLOT(row_sums, "kernelcheck_rows")                                                             \
    SLOT(max_pool, "kernelcheck_rows")                                                             \
    SLOT(max_pool_backward, "kernelcheck_rows")                                                    \
    SLOT(avg_pool, "kernelcheck_rows")                                                             \
    SLOT(avg_pool_backward, "kernelcheck_rows")                                                    \
    SLOT(softmax, "kernelcheck_rows")                                                              \
    SLOT(softmax_backward, "kernelcheck_rows")                                                     \
    SLOT(resample_row, "kernelcheck_rows")                                                         \
    SLOT(resample_column, "kernelcheck_rows")                                                      \
    SLOT(normalize, "kernelcheck_rows")                                                            \
    SLOT(sgd, "kernelcheck")                                                                       \
    SLOT(adam, "kernelcheck")                                                                      \
    SLOT(rmsprop, "kernelcheck")

typedef void (*any_kernel)(void);

typedef struct kernel_slot {
    const char *name, *program;
    size_t offset;
} kernel_slot;

static const kernel_slot kernel_slots[] = {
#define SLOT(slot, program) {#slot, program, offsetof(struct tl_kernels, slot)},
    KERNEL_SLOTS(SLOT)
#undef SLOT
};
enum { SLOTS = (int)(sizeof kernel_slots / sizeof *kernel_slots) };

/* One that is not in the list above would make the table longer. */
_Static_assert(sizeof(struct tl_kernels) ==
                   offsetof(struct tl_kernels, gemm_begin) + SLOTS * sizeof(any_kernel),
               "every slot of struct tl_kernels belongs into KERNEL_SLOTS");

/* A table whose every kernel is an address where nothing is: the fault says which was called. */
enum { POISON_STEP = 16 };
static struct poisoned {
    struct tl_kernels table;
    sigjmp_buf back;
    uintptr_t called;
} poisoned;

static void poison_fault(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    poisoned.called = (uintptr_t)info->si_addr;
    siglongjmp(poisoned.back, 1);
}

static inline void set_slot(int slot, any_kernel kernel) {
    memcpy((char *)&poisoned.table + kernel_slots[slot].offset, &kernel, sizeof kernel);
}

static inline any_kernel get_slot(const struct tl_kernels *table, int slot) {
    any_kernel kernel;
    memcpy(&kernel, (const char *)table + kernel_slots[slot].offset, sizeof kernel);
    return kernel;
}

/* Runs a check with the poisoned table; the slot that it called, or -1 when it came to its end. */
static inline int poisoned_call(check_fn check) {
    static worst ignored;
    uint64_t seed = 11;
    if (sigsetjmp(poisoned.back, 1) != 0) {
        int slot = (int)(poisoned.called / POISON_STEP) - 1;
        if (slot < 0 || slot >= SLOTS) fail_msg("a fault at %#zx", (size_t)poisoned.called);
        return slot;
    }
    check(&poisoned.table, &seed, &ignored);
    return -1;
}

/* Marks the slots that a check calls: each that is met is given its kernel back. */
static inline void mark_called(const struct tl_kernels *table, check_fn check, bool called[SLOTS]) {
    poisoned.table = *table;
    for (int i = 0; i < SLOTS; i++) set_slot(i, (any_kernel)(uintptr_t)(POISON_STEP * (i + 1)));
    for (int slot; (slot = poisoned_call(check)) >= 0;) {
        called[slot] = true;
        set_slot(slot, get_slot(table, slot));
    }
}

/* Every slot that is this program's was called by one of the checks before. */
static inline void check_slots(const char *program) {
    struct sigaction action = {.sa_sigaction = poison_fault, .sa_flags = SA_SIGINFO}, segv, bus;
    const tl_isa *found[MAX_TABLES];
    int count = tl_isa_available(found, MAX_TABLES);
    sigaction(SIGSEGV, &action, &segv);
    sigaction(SIGBUS, &action, &bus);
    bool called[SLOTS] = {false};
    for (int i = 0; i < checks.count; i++)
        mark_called(found[count - 1]->f32, checks.row[i], called);
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGBUS, &bus, NULL);
    for (int i = 0; i < SLOTS; i++) {
        if (strcmp(kernel_slots[i].program, program) == 0 && !called[i])
            fail_msg("no check calls %s", kernel_slots[i].name);
    }
}

#endif
