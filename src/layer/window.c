#include "layer/window.h"

const char *const tl_padding_choices[] = {"explicit", "same", NULL};

/* tf.nn: "Notes on padding"; the same in Keras for every layer with padding="same". */
static void infer_same(tl_window *window, int64_t extent) {
    window->out = (window->in + window->stride - 1) / window->stride;
    int64_t total = (window->out - 1) * window->stride + extent - window->in;
    if (total < 0) total = 0;
    window->before = (int)(total / 2);
    window->after = (int)(total - total / 2);
}

tl_status tl_window_infer(const char *op, const char *axis, tl_padding padding, bool ceil_mode,
                          tl_window *window) {
    TL_CHECK(window->in > 0, TL_SHAPE, "%s: the input has no elements along its %s", op, axis);
    int64_t extent = (int64_t)(window->kernel - 1) * window->dilation + 1;
    if (padding == TL_PADDING_SAME) {
        infer_same(window, extent);
        return TL_OK;
    }
    int64_t room = window->in + window->before + window->after - extent;
    TL_CHECK(room >= 0, TL_SHAPE,
             "%s: the kernel spans %lld elements of %s, the input with its padding has %lld", op,
             (long long)extent, axis, (long long)(room + extent));
    window->out = (ceil_mode ? room + window->stride - 1 : room) / window->stride + 1;
    /* torch.nn.MaxPool2d: windows that would start in the padding after are dropped. */
    if (ceil_mode && (window->out - 1) * window->stride >= window->in + window->before)
        window->out--;
    return TL_OK;
}
