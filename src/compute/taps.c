#include "compute/taps.h"

tl_taps tl_taps_forward(int64_t in, int64_t out, int kernel, int stride, int dilation, int pad) {
    return (tl_taps){.out = out,
                     .in = in,
                     .stride = stride,
                     .first = -pad,
                     .step = dilation,
                     .count = kernel,
                     .kernel_first = 0,
                     .kernel_step = 1};
}

tl_taps tl_taps_backward(int64_t in, int64_t out, int kernel, int stride, int dilation, int pad,
                         int parity) {
    tl_taps taps = {.out = out > parity ? (out - parity + stride - 1) / stride : 0,
                    .in = in,
                    .stride = 1,
                    .step = 1};
    int previous = -1;
    for (int k = kernel - 1; k >= 0; k--) {
        int64_t distance = (int64_t)parity + pad - (int64_t)k * dilation;
        if (distance % stride != 0) continue;
        if (taps.count == 0) {
            taps.first = distance / stride;
            taps.kernel_first = k;
        } else if (taps.count == 1) {
            taps.step = distance / stride - taps.first;
            taps.kernel_step = k - previous;
        }
        previous = k;
        taps.count++;
    }
    return taps;
}

bool tl_taps_padded(const tl_taps *t) {
    if (t->count == 0 || t->out == 0) return false;
    int64_t last = (t->out - 1) * t->stride + t->first + (t->count - 1) * t->step;
    return t->first < 0 || last >= t->in;
}

void tl_taps_inside(const tl_taps *t, int64_t *begin, int64_t *end) {
    int64_t room = t->in - t->first - (t->count - 1) * t->step; /* o * stride < room */
    *begin = t->first < 0 ? (-t->first + t->stride - 1) / t->stride : 0;
    *end = room > 0 ? (room + t->stride - 1) / t->stride : 0;
    if (*end > t->out) *end = t->out;
    if (*begin > *end) *begin = *end;
}

void tl_taps_of(const tl_taps *t, int64_t o, int *begin, int *end) {
    int64_t at = o * t->stride + t->first;
    *begin = 0;
    while (*begin < t->count && at + *begin * t->step < 0) ++*begin;
    *end = t->count;
    while (*end > *begin && at + (*end - 1) * t->step >= t->in) --*end;
}
