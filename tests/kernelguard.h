/* Buffers that touch an unmapped page, so that a stray access is a fault, which is reported with
 * the name of the kernel that ran. */
#ifndef TL_TESTS_KERNELGUARD_H
#define TL_TESTS_KERNELGUARD_H

#include "support.h"

#include <signal.h>
#include <sys/mman.h>

/* Where the unmapped page lies. Buffers in front of it begin at whatever alignment their size
 * gives, buffers behind it with the page. On the other side are canaries. */
typedef enum guard_side { GUARD_BEHIND, GUARD_BEFORE } guard_side;

/* What is being checked; signal handlers read it. */
static struct guard {
    guard_side side;
    const char *isa, *kernel;
    struct sigaction old_segv, old_bus;
} guard;

/* `size` bytes; as many floats as fit are said to be there. */
typedef struct guarded {
    float *data;
    size_t count, size;
    guard_side side;
    unsigned char *base;
    size_t mapped;
} guarded;

enum { GUARD_BYTE = 0xA5 };

static inline guarded guarded_bytes_make(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (size + page - 1) / page * page + page; /* at least one page of canaries */
    guarded g = {
        .count = size / sizeof(float), .size = size, .side = guard.side, .mapped = body + page};
    g.base = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.base == MAP_FAILED) fail_msg("no memory for %zu bytes", size);
    memset(g.base, GUARD_BYTE, g.mapped);
    unsigned char *unmapped = g.base + (g.side == GUARD_BEHIND ? body : 0);
    if (mprotect(unmapped, page, PROT_NONE) != 0) fail_msg("no guard page");
    g.data = (float *)(void *)(g.side == GUARD_BEHIND ? unmapped - size : unmapped + page);
    return g;
}

static inline guarded guarded_make(size_t count) {
    return guarded_bytes_make(count * sizeof(float));
}

static inline void guarded_free(guarded *g) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    bool behind = g->side == GUARD_BEHIND;
    const unsigned char *data = (const unsigned char *)g->data;
    const unsigned char *from = behind ? g->base : data + g->size;
    const unsigned char *to = behind ? data : g->base + g->mapped;
    if (!behind) assert_true(data == g->base + page);
    for (const unsigned char *p = from; p < to; p++) {
        if (*p != GUARD_BYTE)
            fail_msg("%s %s wrote %s a buffer", guard.isa ? guard.isa : "",
                     guard.kernel ? guard.kernel : "something", behind ? "before" : "behind");
    }
    munmap(g->base, g->mapped);
    *g = (guarded){0};
}

static inline void free_all(guarded **all, int count) {
    for (int i = 0; i < count; i++) guarded_free(all[i]);
}

static inline guarded guarded_random(size_t count, uint64_t *state) {
    guarded g = guarded_make(count);
    for (size_t i = 0; i < count; i++) g.data[i] = support_random(state);
    return g;
}

/* Anything: pointers, offsets. */
static inline guarded guarded_of(const void *data, size_t size) {
    guarded g = guarded_bytes_make(size);
    if (size) memcpy(g.data, data, size);
    return g;
}

static inline guarded guarded_copy(const guarded *from) {
    return guarded_of(from->data, from->size);
}

/* Names the kernel, then leaves the fault to whoever had the signal before: it comes again. */
static void guard_fault(int number, siginfo_t *info, void *context) {
    (void)info;
    (void)context;
    dprintf(STDOUT_FILENO, "%s %s reached the unmapped page %s a buffer\n", guard.isa, guard.kernel,
            guard.side == GUARD_BEHIND ? "behind" : "before");
    sigaction(number, number == SIGBUS ? &guard.old_bus : &guard.old_segv, NULL);
}

static inline void guard_begin(const char *isa, const char *kernel, guard_side side) {
    struct sigaction action = {.sa_sigaction = guard_fault, .sa_flags = SA_SIGINFO};
    guard.isa = isa;
    guard.kernel = kernel;
    guard.side = side;
    sigaction(SIGSEGV, &action, &guard.old_segv);
    sigaction(SIGBUS, &action, &guard.old_bus);
}

static inline void guard_end(void) {
    sigaction(SIGSEGV, &guard.old_segv, NULL);
    sigaction(SIGBUS, &guard.old_bus, NULL);
    guard.isa = guard.kernel = NULL;
    guard.side = GUARD_BEHIND;
}

/* kernels->slot for a call of it: what happens now is its doing. */
#define RUN(kernels, slot) (guard.kernel = #slot, (kernels)->slot)

#endif
