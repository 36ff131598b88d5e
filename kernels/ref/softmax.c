/* Reference softmax of one row. */
#include "ref/ref.h"

#include <math.h>

/* The largest value is subtracted first, so that exp() cannot overflow. */
void tl_ref_softmax(const void *in, void *out, int64_t n) {
    const float *x = in;
    float *y = out;
    float largest = x[0];
    for (int64_t i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - largest);
        sum += (double)y[i];
    }
    float scale = (float)(1.0 / sum);
    for (int64_t i = 0; i < n; i++) y[i] *= scale;
}

void tl_ref_softmax_backward(const void *out, const void *slopes, bool add, void *result,
                             int64_t n) {
    const float *y = out, *dy = slopes;
    float *dx = result;
    double dot = 0;
    for (int64_t i = 0; i < n; i++) dot += (double)dy[i] * (double)y[i];
    for (int64_t i = 0; i < n; i++) {
        float value = y[i] * (dy[i] - (float)dot);
        dx[i] = add ? dx[i] + value : value;
    }
}
