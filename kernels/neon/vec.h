/* Four floats in a NEON register of aarch64, under the names that kernels/simd is written in. */
#ifndef TL_KERNELS_NEON_VEC_H
#define TL_KERNELS_NEON_VEC_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { VEC = 4 };
typedef float32x4_t vec;

/* Selects the first lanes. There are no masked loads and stores: a few lanes are moved in pieces.
 */
typedef struct vec_mask {
    int lanes;
} vec_mask;

static inline vec_mask vec_first(int64_t lanes) {
    return (vec_mask){lanes < VEC ? (int)lanes : VEC};
}
static inline vec_mask vec_all(void) {
    return (vec_mask){VEC};
}
static inline vec vec_load(const float *p) {
    return vld1q_f32(p);
}
static inline vec vec_load_first(const float *p, vec_mask mask) {
    if (mask.lanes == VEC) return vld1q_f32(p);
    vec zero = vdupq_n_f32(0.0f);
    if (mask.lanes == 1) return vld1q_lane_f32(p, zero, 0);
    vec pair = vcombine_f32(vld1_f32(p), vdup_n_f32(0.0f));
    return mask.lanes == 2 ? pair : vld1q_lane_f32(p + 2, pair, 2);
}
static inline void vec_store(float *p, vec x) {
    vst1q_f32(p, x);
}
static inline void vec_store_first(float *p, vec_mask mask, vec x) {
    if (mask.lanes == VEC) {
        vst1q_f32(p, x);
    } else if (mask.lanes == 1) {
        vst1q_lane_f32(p, x, 0);
    } else {
        vst1_f32(p, vget_low_f32(x));
        if (mask.lanes == 3) vst1q_lane_f32(p + 2, x, 2);
    }
}
/* x in the mask's lanes, elsewhere `other`. */
static inline vec vec_first_or(vec x, vec_mask mask, vec other) {
    static const int32_t index[VEC] = {0, 1, 2, 3};
    return vbslq_f32(vcgtq_s32(vdupq_n_s32(mask.lanes), vld1q_s32(index)), x, other);
}
static inline vec vec_set(float x) {
    return vdupq_n_f32(x);
}
static inline vec vec_add(vec a, vec b) {
    return vaddq_f32(a, b);
}
static inline vec vec_sub(vec a, vec b) {
    return vsubq_f32(a, b);
}
static inline vec vec_mul(vec a, vec b) {
    return vmulq_f32(a, b);
}
static inline vec vec_div(vec a, vec b) {
    return vdivq_f32(a, b);
}
/* a * b + c, rounded once. */
static inline vec vec_fma(vec a, vec b, vec c) {
    return vfmaq_f32(c, a, b);
}
/* b when either is NaN. */
static inline vec vec_max(vec a, vec b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline vec vec_min(vec a, vec b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline vec vec_round(vec x) {
    return vrndnq_f32(x);
}
static inline vec vec_sqrt(vec x) {
    return vsqrtq_f32(x);
}
static inline vec vec_power2(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
/* x * 2^n for whole n in [-150, 128], as if n were not limited by what a float can hold: in two
 * steps, of which only the second one can round. */
static inline vec vec_scale2(vec x, vec n) {
    int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return vmulq_f32(vmulq_f32(x, vec_power2(half)), vec_power2(vsubq_s32(whole, half)));
}

/* Lane-wise answers: all bits or none. */
typedef uint32x4_t vec_test;

/* False where either is NaN. */
static inline vec_test vec_greater(vec a, vec b) {
    return vcgtq_f32(a, b);
}
static inline vec_test vec_equal(vec a, vec b) {
    return vceqq_f32(a, b);
}
static inline vec_test vec_is_nan(vec x) {
    return vmvnq_u32(vceqq_f32(x, x));
}
static inline vec_test vec_either(vec_test a, vec_test b) {
    return vorrq_u32(a, b);
}
static inline vec vec_pick(vec_test test, vec yes, vec no) {
    return vbslq_f32(test, yes, no);
}
/* Lane i is lane index[i] of x. */
static inline vec vec_permute(vec x, const int32_t *index) {
    uint32x4_t lane = vreinterpretq_u32_s32(vld1q_s32(index));
    /* Bytes 4 i to 4 i + 3 for each. */
    uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100u), lane, 0x04040404u);
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(x), vreinterpretq_u8_u32(bytes)));
}

/* --- the same lanes as doubles ---------------------------------------------------------------- */

typedef struct vec_wide {
    float64x2_t low, high;
} vec_wide;

static inline vec_wide wide_of(vec x) {
    return (vec_wide){vcvt_f64_f32(vget_low_f32(x)), vcvt_high_f64_f32(x)};
}
static inline vec_wide wide_floats(const float *p, vec_mask mask) {
    return wide_of(vec_load_first(p, mask));
}
static inline vec_wide wide_zero(void) {
    return (vec_wide){vdupq_n_f64(0.0), vdupq_n_f64(0.0)};
}
/* The first 0, 1 or from 2 on all lanes of two. */
static inline float64x2_t wide_load_half(const double *p, int lanes) {
    if (lanes >= 2) return vld1q_f64(p);
    float64x2_t zero = vdupq_n_f64(0.0);
    return lanes == 1 ? vld1q_lane_f64(p, zero, 0) : zero;
}
static inline void wide_store_half(double *p, int lanes, float64x2_t x) {
    if (lanes >= 2)
        vst1q_f64(p, x);
    else if (lanes == 1)
        vst1q_lane_f64(p, x, 0);
}
static inline vec_wide wide_load(const double *p, vec_mask mask) {
    return (vec_wide){wide_load_half(p, mask.lanes), wide_load_half(p + 2, mask.lanes - 2)};
}
static inline void wide_store(double *p, vec_mask mask, vec_wide x) {
    wide_store_half(p, mask.lanes, x.low);
    wide_store_half(p + 2, mask.lanes - 2, x.high);
}
static inline vec_wide wide_add(vec_wide a, vec_wide b) {
    return (vec_wide){vaddq_f64(a.low, b.low), vaddq_f64(a.high, b.high)};
}
static inline vec_wide wide_sub(vec_wide a, vec_wide b) {
    return (vec_wide){vsubq_f64(a.low, b.low), vsubq_f64(a.high, b.high)};
}
static inline vec_wide wide_fma(vec_wide a, vec_wide b, vec_wide c) {
    return (vec_wide){vfmaq_f64(c.low, a.low, b.low), vfmaq_f64(c.high, a.high, b.high)};
}
static inline double wide_total(vec_wide x) {
    return vaddvq_f64(vaddq_f64(x.low, x.high));
}

/* --- integers and bytes ------------------------------------------------------------------------
 */

typedef int32x4_t ivec;

static inline ivec ivec_widen(uint32_t bytes) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes)))));
}
/* The first `lanes` bytes, 0 for the others; nothing behind them is read. */
static inline ivec ivec_bytes(const uint8_t *p, int64_t lanes) {
    uint32_t bytes = 0;
    if (lanes >= VEC)
        memcpy(&bytes, p, VEC);
    else
        for (int64_t i = 0; i < lanes; i++) bytes |= (uint32_t)p[i] << 8 * i;
    return ivec_widen(bytes);
}
/* The lowest byte of each lane. */
static inline uint32_t ivec_narrow(ivec x) {
    uint16x4_t half = vmovn_u32(vreinterpretq_u32_s32(x));
    return vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(half, half))), 0);
}
/* Stores the first `lanes`, which must be 0 to 255. */
static inline void ivec_store_bytes(uint8_t *p, int64_t lanes, ivec x) {
    uint32_t bytes = ivec_narrow(x);
    if (lanes >= VEC)
        memcpy(p, &bytes, VEC);
    else
        for (int64_t i = 0; i < lanes; i++) p[i] = (uint8_t)(bytes >> 8 * i);
}
static inline ivec ivec_set(int32_t x) {
    return vdupq_n_s32(x);
}
/* a * b + c modulo 2^32. */
static inline ivec ivec_mul_add(ivec a, ivec b, ivec c) {
    return vmlaq_s32(c, a, b);
}
/* x / 2^bits, rounded down, between 0 and 255. */
static inline ivec ivec_to_byte(ivec x, int bits) {
    ivec value = vshlq_s32(x, vdupq_n_s32(-bits));
    return vminq_s32(vmaxq_s32(value, vdupq_n_s32(0)), vdupq_n_s32(255));
}
static inline vec vec_of_ints(ivec x) {
    return vcvtq_f32_s32(x);
}
static inline ivec ivec_of_floats(vec x) {
    return vcvtnq_s32_f32(x);
}

/* VEC / 4 neighbouring pixels, here one, of three bytes in four lanes; 4 bytes are read. The fourth
 * lane holds anything. */
enum { PIXELS_BYTES = 4 };
static inline ivec ivec_pixels(const uint8_t *p) {
    return ivec_bytes(p, VEC);
}
/* A factor for each of these pixels, in all of its lanes. */
static inline ivec ivec_pixel_factors(const int32_t *p) {
    return vld1q_dup_s32(p);
}
/* Stores the sum of these pixels as three bytes: each channel plus 1/2 as ivec_to_byte() has it. */
static inline void ivec_pixel_store(uint8_t *p, ivec x, int bits) {
    x = vaddq_s32(x, vdupq_n_s32(1 << (bits - 1)));
    uint32_t bytes = ivec_narrow(ivec_to_byte(x, bits));
    memcpy(p, &bytes, 3);
}

#endif
