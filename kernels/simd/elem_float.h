/* Activations are floats, for whichever vec.h was included before: the elements that the other
 * templates of this folder load and store. */
#ifndef TL_KERNELS_SIMD_ELEM_FLOAT_H
#define TL_KERNELS_SIMD_ELEM_FLOAT_H

typedef float elem;
enum { ELEM_GROUP = 1 };

static inline vec elem_load(const elem *p) {
    return vec_load(p);
}
static inline vec elem_load_first(const elem *p, vec_mask mask) {
    return vec_load_first(p, mask);
}
static inline void elem_store(elem *p, vec x) {
    vec_store(p, x);
}
static inline void elem_store_first(elem *p, vec_mask mask, vec x) {
    vec_store_first(p, mask, x);
}
/* Vector lane i into element `lane` of the group p + i * ELEM_GROUP; element 0 comes first and
 * clears the others. */
static inline void elem_store_lane(elem *p, int lane, vec_mask mask, vec x) {
    (void)lane;
    vec_store_first(p, mask, x);
}
/* As it comes back when it is stored and loaded. */
static inline vec elem_rounded(vec x) {
    return x;
}
static inline vec_wide wide_elems(const elem *p, vec_mask mask) {
    return wide_floats(p, mask);
}

/* --- multiplication: ELEM_GROUP products at once, summed into a lane each ----------------------
 */

typedef vec elem_factors;

/* A vector of groups of B. */
static inline elem_factors elem_groups(const elem *b) {
    return vec_load(b);
}
/* One group of A in every lane. */
static inline elem_factors elem_spread(const elem *a) {
    return vec_set(*a);
}
/* The first `count` < ELEM_GROUP of a group, zeros for the others. */
static inline elem_factors elem_spread_first(const elem *a, int64_t count) {
    (void)count;
    return vec_set(*a);
}
static inline vec elem_multiply_add(elem_factors a, elem_factors b, vec sum) {
    return vec_fma(a, b, sum);
}

#endif
