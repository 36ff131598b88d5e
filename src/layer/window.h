/* Sliding windows: the geometry that convolutions and poolings share. */
#ifndef TL_LAYER_WINDOW_H
#define TL_LAYER_WINDOW_H

#include "base/context.h"

/* Choices of the attribute "padding", and their text. */
typedef enum tl_padding { TL_PADDING_EXPLICIT, TL_PADDING_SAME } tl_padding;
extern const char *const tl_padding_choices[];

/* One axis of a window over `in` elements. */
typedef struct tl_window {
    int64_t in, out;
    int kernel, stride, dilation;
    int before, after; /* padding */
} tl_window;

/* Sets window->out, and with SAME also before and after, from the other fields.
 * EXPLICIT: PyTorch's rule; with `ceil_mode` the last window may reach past the padding but must
 * begin within input or padding before it. SAME: TensorFlow's rule, out = ceil(in / stride), the
 * odd element of padding after.
 * Errors: SHAPE, naming `op` and `axis` ("height"), when no window fits. */
tl_status tl_window_infer(const char *op, const char *axis, tl_padding padding, bool ceil_mode,
                          tl_window *window);

#endif
