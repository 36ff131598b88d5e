#include <string.h>

#include "compute/conv_parts.h"

/* Above this a tap by itself is long enough. */
enum { JOIN_CHANNELS = 8 };

static int element_of(const tl_conv *c) {
    return c->bf16 ? (int)sizeof(uint16_t) : (int)sizeof(float);
}

tl_joined tl_conv_joined(const tl_conv *c) {
    tl_joined j = {0};
    j.used = c->groups == 1 && c->dilation_w == 1 && c->kw > 1 && c->ic <= JOIN_CHANNELS;
    if (!j.used) return j;
    int64_t reach = (c->ow - 1) * c->stride_w + c->kw;
    j.copied = c->pad_left > 0 || reach > c->w;
    j.width = j.copied ? reach : c->w;
    if (j.copied) j.bytes = (size_t)(c->n * c->h * j.width * c->ic * element_of(c));
    j.k = c->kw * c->ic;
    j.taps = (tl_taps2){tl_taps_forward(c->h, c->oh, c->kh, c->stride_h, c->dilation_h, c->pad_top),
                        tl_taps_forward(j.width - c->kw + 1, c->ow, 1, c->stride_w, 1, 0)};
    return j;
}

typedef struct pad_task {
    const tl_conv *conv;
    const tl_joined *joined;
    const char *x;
    char *padded;
} pad_task;

static void pad_rows(void *arg, int64_t begin, int64_t end) {
    const pad_task *task = arg;
    const tl_conv *c = task->conv;
    int64_t room = task->joined->width - c->pad_left;
    if (room < 0) room = 0;
    int64_t pixel = c->ic * element_of(c); /* all in bytes */
    int64_t left = (task->joined->width - room) * pixel;
    int64_t copied = (c->w < room ? c->w : room) * pixel;
    int64_t total = task->joined->width * pixel;
    for (int64_t row = begin; row < end; row++) {
        char *to = task->padded + row * total;
        memset(to, 0, (size_t)left);
        memcpy(to + left, task->x + row * c->w * pixel, (size_t)copied);
        memset(to + left + copied, 0, (size_t)(total - left - copied));
    }
}

const void *tl_conv_pad(tl_context *ctx, const tl_conv *conv, const tl_joined *joined,
                        const void *x, void *padded) {
    if (!joined->copied) return x;
    pad_task task = {conv, joined, x, padded};
    tl_parallel(ctx, conv->n * conv->h, pad_rows, &task);
    return padded;
}
