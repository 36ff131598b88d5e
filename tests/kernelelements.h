/* Checks that serve tables of either type: operands are elements of the table's, which are exact
 * as floats, and a stored element may be rounded once. */
#ifndef TL_TESTS_KERNELELEMENTS_H
#define TL_TESTS_KERNELELEMENTS_H

#include "kernelcheck.h"

#include "ref_bf16.h"

/* The tables of bf16: the reference's, and what the machine has. */
static inline void check_bf16_tables(const char *what, check_fn check, int rounds) {
    const tl_isa *found[MAX_TABLES];
    int count = tl_isa_available(found, MAX_TABLES);
    check_table(&ref_bf16, what, check, rounds);
    for (int i = 0; i < count; i++)
        if (found[i]->bf16) check_table(found[i]->bf16, what, check, rounds);
}

static inline void check_all_tables(const char *what, check_fn check, int rounds) {
    check_tables(what, check, rounds);
    check_bf16_tables(what, check, rounds);
}

static inline bool is_narrow(const struct tl_kernels *kernels) {
    return kernels->element < (int)sizeof(float);
}

static inline guarded random_elements(const struct tl_kernels *kernels, size_t n, uint64_t *seed) {
    guarded floats = guarded_random(n, seed);
    if (!is_narrow(kernels)) return floats;
    guarded half = guarded_bytes_make(n * sizeof(bf16));
    tl_ref_narrow(floats.data, half.data, (int64_t)n);
    guarded_free(&floats);
    return half;
}

static inline double element_at(const struct tl_kernels *kernels, const void *from, int64_t i) {
    return (double)(is_narrow(kernels) ? ref_bf16_get(((const bf16 *)from)[i])
                                       : ((const float *)from)[i]);
}

/* The address of element i. */
static inline void *element_ptr(const struct tl_kernels *kernels, void *from, int64_t i) {
    return (char *)from + i * kernels->element;
}

/* What storing a value may add to its error: half a unit of 8 bits. */
static inline double stored_bound(const struct tl_kernels *kernels, double value) {
    return is_narrow(kernels) ? 0x1p-8 * fabs(value) : 0.0;
}

#endif
