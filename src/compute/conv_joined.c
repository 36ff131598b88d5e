#include <string.h>

#include "compute/conv_parts.h"

/* Above this a tap by itself is long enough. */
enum { JOIN_CHANNELS = 8 };

tl_joined tl_conv_joined(const tl_conv *c) {
    tl_joined j = {0};
    j.used = c->groups == 1 && c->dilation_w == 1 && c->kw > 1 && c->ic <= JOIN_CHANNELS;
    if (!j.used) return j;
    int64_t reach = (c->ow - 1) * c->stride_w + c->kw;
    j.copied = c->pad_left > 0 || reach > c->w;
    j.width = j.copied ? reach : c->w;
    if (j.copied) j.floats = (size_t)(c->n * c->h * j.width * c->ic);
    j.k = c->kw * c->ic;
    j.taps = (tl_taps2){tl_taps_forward(c->h, c->oh, c->kh, c->stride_h, c->dilation_h, c->pad_top),
                        tl_taps_forward(j.width - c->kw + 1, c->ow, 1, c->stride_w, 1, 0)};
    return j;
}

typedef struct pad_task {
    const tl_conv *conv;
    const tl_joined *joined;
    const float *x;
    float *padded;
} pad_task;

static void pad_rows(void *arg, int64_t begin, int64_t end) {
    const pad_task *task = arg;
    const tl_conv *c = task->conv;
    int64_t room = task->joined->width - c->pad_left;
    if (room < 0) room = 0;
    int64_t left = (task->joined->width - room) * c->ic;
    int64_t copied = (c->w < room ? c->w : room) * c->ic;
    int64_t total = task->joined->width * c->ic;
    for (int64_t row = begin; row < end; row++) {
        float *to = task->padded + row * total;
        memset(to, 0, (size_t)left * sizeof(float));
        memcpy(to + left, task->x + row * c->w * c->ic, (size_t)copied * sizeof(float));
        memset(to + left + copied, 0, (size_t)(total - left - copied) * sizeof(float));
    }
}

const float *tl_conv_pad(tl_context *ctx, const tl_conv *conv, const tl_joined *joined,
                         const float *x, float *padded) {
    if (!joined->copied) return x;
    pad_task task = {conv, joined, x, padded};
    tl_parallel(ctx, conv->n * conv->h, pad_rows, &task);
    return padded;
}
