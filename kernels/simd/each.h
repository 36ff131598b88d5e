/* Loops over elements, for whichever vec.h was included before. */
#ifndef TL_KERNELS_SIMD_EACH_H
#define TL_KERNELS_SIMD_EACH_H

#include "kernels.h"

#define SIMD_INLINE static inline __attribute__((always_inline))

/* BODY(i, mask) for elements i to i + VEC - 1 of n: whole vectors, for which the mask is a constant
 * that costs nothing, then one with what is left. */
#define FOR_VECTORS(n, BODY)                                                                       \
    do {                                                                                           \
        int64_t at = 0;                                                                            \
        for (; at + VEC <= (n); at += VEC) BODY(at, vec_all());                                    \
        if (at < (n)) BODY(at, vec_first((n)-at));                                                 \
    } while (0)

/* Stores x, or adds it to what is there. */
SIMD_INLINE void elem_put(elem *to, vec_mask mask, bool add, vec x) {
    elem_store_first(to, mask, add ? vec_add(elem_load_first(to, mask), x) : x);
}

#endif
