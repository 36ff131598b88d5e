/* Pictures of 8-bit RGB, for whichever vec.h was included before. Integers throughout, or the
 * reference's own roundings: every instruction set gives the same bytes. */
#ifndef TL_KERNELS_SIMD_PICTURE_H
#define TL_KERNELS_SIMD_PICTURE_H

#include "ref/ref.h"
#include "simd/each.h"

enum { CHANNELS = 3, TAPS = VEC / 4 /* pixels of a vector */, COLUMN_VECS = 4 };

/* Output sample i, or false when the vectors would read past `in_bytes`. */
SIMD_INLINE bool resample_pixel(const tl_resample_axis *axis, int i, const uint8_t *in,
                                int64_t in_bytes, uint8_t *out) {
    int used = axis->used[i];
    int64_t first = (int64_t)axis->first[i] * CHANNELS;
    int64_t groups = (used + TAPS - 1) / TAPS;
    if (first + (groups - 1) * TAPS * CHANNELS + PIXELS_BYTES > in_bytes) return false;
    const uint8_t *p = in + first;
    const int32_t *weight = axis->weight + (int64_t)i * axis->width;
    ivec sum = ivec_set(0);
    for (int64_t g = 0; g < groups; g++, p += TAPS * CHANNELS, weight += TAPS)
        sum = ivec_mul_add(ivec_pixels(p), ivec_pixel_factors(weight), sum);
    ivec_pixel_store(out, sum, TL_RESAMPLE_POINT);
    return true;
}

static void simd_resample_row(const tl_resample_axis *axis, const uint8_t *in, int in_pixels,
                              uint8_t *out) {
    for (int i = 0; i < axis->count; i++, out += CHANNELS)
        if (!resample_pixel(axis, i, in, (int64_t)in_pixels * CHANNELS, out))
            tl_ref_resample_pixel(axis, i, in, out);
}

/* `vecs` vectors of one output row's bytes, or `lanes` bytes of one. */
SIMD_INLINE void resample_bytes(const uint8_t *in, int64_t row, const int32_t *weight, int used,
                                const int vecs, int64_t lanes, uint8_t *out) {
    ivec sum[COLUMN_VECS];
#pragma GCC unroll 4
    for (int j = 0; j < vecs; j++) sum[j] = ivec_set(1 << (TL_RESAMPLE_POINT - 1));
    for (int k = 0; k < used; k++, in += row) {
        ivec factor = ivec_set(weight[k]);
#pragma GCC unroll 4
        for (int j = 0; j < vecs; j++)
            sum[j] = ivec_mul_add(ivec_bytes(in + j * VEC, lanes), factor, sum[j]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < vecs; j++)
        ivec_store_bytes(out + j * VEC, lanes, ivec_to_byte(sum[j], TL_RESAMPLE_POINT));
}

static void simd_resample_column(const tl_resample_axis *axis, int i, const uint8_t *in, int64_t n,
                                 uint8_t *out) {
    const int32_t *weight = axis->weight + (int64_t)i * axis->width;
    int used = axis->used[i];
    int64_t x = 0;
    for (; x + COLUMN_VECS * VEC <= n; x += COLUMN_VECS * VEC)
        resample_bytes(in + x, n, weight, used, COLUMN_VECS, VEC, out + x);
    for (; x < n; x += VEC) resample_bytes(in + x, n, weight, used, 1, n - x, out + x);
}

/* --- normalisation: as many whole pixels as a vector holds ---------------------------------------
 */
enum { PIXELS = VEC / CHANNELS, USED = PIXELS * CHANNELS };

SIMD_INLINE vec normalized(ivec bytes, const int32_t *from, vec mean, vec std) {
    return vec_div(vec_sub(vec_permute(vec_of_ints(bytes), from), mean), std);
}

static void simd_normalize(const uint8_t *x, bool swap, const float mean[3], const float std[3],
                           float *y, int64_t pixels) {
    float lane_mean[VEC], lane_std[VEC];
    int32_t lane_from[VEC];
    for (int i = 0; i < VEC; i++) {
        lane_mean[i] = mean[i % CHANNELS];
        lane_std[i] = std[i % CHANNELS];
        lane_from[i] = swap && i < USED ? i + 2 - 2 * (i % CHANNELS) : i;
    }
    const vec centre = vec_load(lane_mean), spread = vec_load(lane_std);
    int64_t left = pixels * CHANNELS;
    /* Lanes past the last whole pixel are read and written where the next one lies. */
    for (; left >= VEC; left -= USED, x += USED, y += USED)
        vec_store(y, normalized(ivec_bytes(x, VEC), lane_from, centre, spread));
    for (; left > 0; left -= USED, x += USED, y += USED) {
        int64_t lanes = left < USED ? left : USED;
        vec value = normalized(ivec_bytes(x, lanes), lane_from, centre, spread);
        vec_store_first(y, vec_first(lanes), value);
    }
}

#endif
