/* Reference depthwise convolution: the specification of tl_depthwise_row and _grad. */
#include "ref/ref.h"

static float sum_taps(const tl_depthwise_row *d, int row, int64_t pixel, int64_t channel) {
    float sum = 0.0f;
    for (int i = 0; i < d->kh; i++) {
        const float *x = d->x[row * d->row_step + i];
        for (int j = 0; j < d->kw; j++) {
            int64_t column = d->first + pixel * d->step + j * d->tap;
            if (!x || column < 0 || column >= d->width) continue;
            sum += x[column * d->x_pixel + channel] * d->w[i * d->w_row + j * d->w_tap + channel];
        }
    }
    return sum;
}

void tl_ref_depthwise_row(const tl_depthwise_row *d) {
    for (int64_t i = 0; i < d->rows * d->pixels; i++) {
        int row = (int)(i / d->pixels);
        int64_t pixel = i % d->pixels, at = row * d->y_row + pixel * d->y_pixel;
        for (int64_t c = 0; c < d->c; c++) {
            float *y = (float *)d->y + at + c, value = sum_taps(d, row, pixel, c);
            if (d->accumulate) value += *y;
            if (d->bias) value += d->bias[c];
            if (d->residual) value += ((const float *)d->residual)[at + c];
            *y = tl_ref_act(d->act, value);
        }
    }
}

static void grad_tap(const tl_depthwise_grad *g, const float *x, float *dw) {
    const float *dy = g->dy;
    for (int64_t c = 0; c < g->c; c++) {
        float sum = 0.0f;
        for (int64_t p = 0; p < g->pixels; p++)
            sum += dy[p * g->dy_step + c] * x[p * g->x_step + c];
        dw[c] += sum;
    }
}

void tl_ref_depthwise_grad(const tl_depthwise_grad *grad) {
    for (int i = 0; i < grad->kh; i++) {
        for (int j = 0; j < grad->kw; j++)
            grad_tap(grad, (const float *)grad->x[i] + j * grad->x_tap,
                     grad->dw + i * grad->dw_row + j * grad->dw_tap);
    }
}
