/* Pooling for whichever vec.h was included before: channels run along the vector. */
#ifndef TL_KERNELS_SIMD_POOL_H
#define TL_KERNELS_SIMD_POOL_H

#include "simd/each.h"

/* Whether x takes the place of the best so far. A NaN, once there, stays. */
SIMD_INLINE vec_test beats(vec x, vec best) {
    return vec_either(vec_greater(x, best), vec_is_nan(x));
}

/* The largest of one window, its place in *place. */
SIMD_INLINE vec largest_of(const tl_pool_row *p, const elem *x, vec_mask mask, const bool places,
                           vec *place) {
    vec best = elem_load_first(x, mask), winner = vec_set((float)p->first_place);
    for (int i = 0; i < p->kh; i++) {
        const elem *from = x + i * p->x_row;
        for (int j = 0; j < p->kw; j++, from += p->x_tap) {
            vec value = elem_load_first(from, mask);
            vec_test wins = beats(value, best);
            best = vec_pick(wins, value, best);
            if (places) {
                float here = (float)(p->first_place + i * p->place_row + j);
                winner = vec_pick(wins, vec_set(here), winner);
            }
        }
    }
    *place = winner;
    return best;
}

/* The activation of the largest; no place has won where its slope is 0. */
SIMD_INLINE vec activate_largest(tl_act act, vec best, vec *place) {
    const vec none = vec_set(TL_NO_PLACE);
    if (act == TL_ACT_NONE) return best;
    *place = vec_pick(vec_greater(best, vec_set(0.0f)), *place, none);
    if (act == TL_ACT_RELU6) *place = vec_pick(vec_greater(vec_set(6.0f), best), *place, none);
    return vec_act_straight(act, best);
}

static void simd_max_pool(const tl_pool_row *p, const void *in, void *out, uint8_t *winner) {
    const elem *x = in;
    elem *y = out;
    for (int64_t pixel = 0; pixel < p->pixels; pixel++, x += p->x_step, y += p->y_step) {
        vec place;
        if (!winner) {
#define BODY(i, mask)                                                                              \
    do {                                                                                           \
        vec best = largest_of(p, x + (i), mask, false, &place);                                    \
        elem_store_first(y + (i), mask, vec_act_straight(p->act, best));                           \
    } while (0)
            FOR_VECTORS(p->c, BODY);
#undef BODY
            continue;
        }
#define BODY(i, mask)                                                                              \
    do {                                                                                           \
        vec best = largest_of(p, x + (i), mask, true, &place);                                     \
        elem_store_first(y + (i), mask, activate_largest(p->act, best, &place));                   \
        ivec_store_bytes(winner + (i), p->c - (i), ivec_of_floats(place));                         \
    } while (0)
        FOR_VECTORS(p->c, BODY);
#undef BODY
        winner += p->y_step;
    }
}

/* Every place takes its share, most of it 0, rather than each winner going to its place. */
SIMD_INLINE void share_out(const tl_pool_row *p, vec place, vec dy, elem *dx, vec_mask mask) {
    for (int i = 0; i < p->kh; i++) {
        elem *to = dx + i * p->x_row;
        for (int j = 0; j < p->kw; j++, to += p->x_tap) {
            vec here = vec_set((float)(p->first_place + i * p->place_row + j));
            vec share = vec_pick(vec_equal(place, here), dy, vec_set(0.0f));
            elem_put(to, mask, true, share);
        }
    }
}

static void simd_max_pool_backward(const tl_pool_row *p, const uint8_t *winner, const void *slopes,
                                   void *result) {
    const elem *dy = slopes;
    elem *dx = result;
    for (int64_t pixel = 0; pixel < p->pixels; pixel++, dx += p->x_step) {
#define BODY(i, mask)                                                                              \
    share_out(p, vec_of_ints(ivec_bytes(winner + (i), p->c - (i))),                                \
              elem_load_first(dy + (i), mask), dx + (i), mask)
        FOR_VECTORS(p->c, BODY);
#undef BODY
        winner += p->y_step;
        dy += p->y_step;
    }
}

SIMD_INLINE vec window_sum(const tl_pool_row *p, const elem *x, vec_mask mask) {
    vec sum = vec_set(0.0f);
    for (int i = 0; i < p->kh; i++) {
        const elem *from = x + i * p->x_row;
        for (int j = 0; j < p->kw; j++, from += p->x_tap)
            sum = vec_add(sum, elem_load_first(from, mask));
    }
    return sum;
}

static void simd_avg_pool(const tl_pool_row *p, const void *in, void *out) {
    const elem *x = in;
    elem *y = out;
    const vec weight = vec_set(p->weight);
    for (int64_t pixel = 0; pixel < p->pixels; pixel++, x += p->x_step, y += p->y_step) {
#define BODY(i, mask) elem_store_first(y + (i), mask, vec_mul(window_sum(p, x + (i), mask), weight))
        FOR_VECTORS(p->c, BODY);
#undef BODY
    }
}

SIMD_INLINE void add_to_window(const tl_pool_row *p, vec share, elem *dx, vec_mask mask) {
    for (int i = 0; i < p->kh; i++) {
        elem *to = dx + i * p->x_row;
        for (int j = 0; j < p->kw; j++, to += p->x_tap) elem_put(to, mask, true, share);
    }
}

static void simd_avg_pool_backward(const tl_pool_row *p, const void *slopes, void *result) {
    const elem *dy = slopes;
    elem *dx = result;
    const vec weight = vec_set(p->weight);
    for (int64_t pixel = 0; pixel < p->pixels; pixel++, dx += p->x_step, dy += p->y_step) {
#define BODY(i, mask)                                                                              \
    add_to_window(p, vec_mul(elem_load_first(dy + (i), mask), weight), dx + (i), mask)
        FOR_VECTORS(p->c, BODY);
#undef BODY
    }
}

#endif
