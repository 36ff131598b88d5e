/* Reference depthwise convolution: the specification of tl_depthwise_row and _grad. */
#include "ref/ref.h"

static float sum_taps(const tl_depthwise_row *d, int64_t at, int64_t channel) {
    float sum = 0.0f;
    for (int i = 0; i < d->kh; i++) {
        const float *x = (const float *)d->x[i] + at + channel;
        for (int j = 0; j < d->kw; j++)
            sum += x[j * d->x_tap] * d->w[i * d->w_row + j * d->w_tap + channel];
    }
    return sum;
}

void tl_ref_depthwise_row(const tl_depthwise_row *row) {
    for (int64_t p = 0; p < row->pixels; p++) {
        int64_t at = p * row->y_step;
        for (int64_t c = 0; c < row->c; c++) {
            float *y = (float *)row->y + at + c, value = sum_taps(row, p * row->x_step, c);
            if (row->accumulate) value += *y;
            if (row->bias) value += row->bias[c];
            if (row->residual) value += ((const float *)row->residual)[at + c];
            *y = tl_ref_act(row->act, value);
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
