/* Reference depthwise convolution: the specification of tl_depthwise_row and _grad. */
#include "ref/ref.h"

static float sum_taps(const tl_depthwise_row *d, int64_t at, int64_t channel) {
    float sum = 0.0f;
    for (int i = 0; i < d->kh; i++) {
        for (int j = 0; j < d->kw; j++)
            sum +=
                d->x[i][at + j * d->x_tap + channel] * d->w[i * d->w_row + j * d->w_tap + channel];
    }
    return sum;
}

void tl_ref_depthwise_row(const tl_depthwise_row *row) {
    for (int64_t p = 0; p < row->pixels; p++) {
        int64_t at = p * row->y_step;
        for (int64_t c = 0; c < row->c; c++) {
            float value = sum_taps(row, p * row->x_step, c);
            if (row->accumulate) value += row->y[at + c];
            if (row->bias) value += row->bias[c];
            if (row->residual) value += row->residual[at + c];
            row->y[at + c] = tl_ref_act(row->act, value);
        }
    }
}

static void grad_tap(const tl_depthwise_grad *g, const float *x, float *dw) {
    for (int64_t c = 0; c < g->c; c++) {
        float sum = 0.0f;
        for (int64_t p = 0; p < g->pixels; p++)
            sum += g->dy[p * g->dy_step + c] * x[p * g->x_step + c];
        dw[c] += sum;
    }
}

void tl_ref_depthwise_grad(const tl_depthwise_grad *grad) {
    for (int i = 0; i < grad->kh; i++) {
        for (int j = 0; j < grad->kw; j++)
            grad_tap(grad, grad->x[i] + j * grad->x_tap,
                     grad->dw + i * grad->dw_row + j * grad->dw_tap);
    }
}
