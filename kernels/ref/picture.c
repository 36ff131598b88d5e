/* Reference kernels for pictures of 8-bit RGB. */
#include "ref/ref.h"

enum { CHANNELS = 3, POINT = TL_RESAMPLE_POINT, HALF = 1 << (POINT - 1) };

static uint8_t to_byte(int32_t sum) {
    int32_t value = sum >> POINT;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

void tl_ref_resample_pixel(const tl_resample_axis *axis, int i, const uint8_t *in, uint8_t *out) {
    const uint8_t *p = in + (int64_t)axis->first[i] * CHANNELS;
    const int32_t *weight = axis->weight + (int64_t)i * axis->width;
    int32_t r = HALF, g = HALF, b = HALF;
    for (int k = 0; k < axis->used[i]; k++, p += CHANNELS) {
        r += p[0] * weight[k];
        g += p[1] * weight[k];
        b += p[2] * weight[k];
    }
    out[0] = to_byte(r);
    out[1] = to_byte(g);
    out[2] = to_byte(b);
}

void tl_ref_resample_row(const tl_resample_axis *axis, const uint8_t *in, int in_pixels,
                         uint8_t *out) {
    (void)in_pixels; /* the taps of no sample lie beyond */
    for (int i = 0; i < axis->count; i++) tl_ref_resample_pixel(axis, i, in, out + i * CHANNELS);
}

void tl_ref_resample_column(const tl_resample_axis *axis, int i, const uint8_t *in, int64_t n,
                            uint8_t *out) {
    enum { BLOCK = 256 }; /* bytes whose sums lie on the stack */
    const int32_t *weight = axis->weight + (int64_t)i * axis->width;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t count = n - begin < BLOCK ? n - begin : BLOCK;
        int32_t sum[BLOCK];
        for (int64_t x = 0; x < count; x++) sum[x] = HALF;
        for (int k = 0; k < axis->used[i]; k++) {
            const uint8_t *row = in + k * n + begin;
            for (int64_t x = 0; x < count; x++) sum[x] += row[x] * weight[k];
        }
        for (int64_t x = 0; x < count; x++) out[begin + x] = to_byte(sum[x]);
    }
}

/* There are 256 values for each channel. */
void tl_ref_normalize(const uint8_t *x, bool swap, const float mean[3], const float std[3],
                      float *y, int64_t pixels) {
    float value[CHANNELS][256];
    for (int c = 0; c < CHANNELS; c++)
        for (int v = 0; v < 256; v++) value[c][v] = ((float)v - mean[c]) / std[c];
    const int first = swap ? 2 : 0, last = 2 - first;
    for (int64_t i = 0; i < pixels; i++, x += CHANNELS, y += CHANNELS) {
        y[0] = value[0][x[first]];
        y[1] = value[1][x[1]];
        y[2] = value[2][x[last]];
    }
}
