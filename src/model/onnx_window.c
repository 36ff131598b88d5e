/* What slides over pictures: convolution, pooling, the padding before them; pooling of everything.
 */
#include "model/onnx_import.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct window {
    int64_t kernel[2], stride[2], dilation[2], pad[4]; /* pad: top, left, bottom, right */
    bool same;
} window;

enum { MAX_WINDOW = 4096, MAX_PAD = 1024 }; /* of every number: sums of them stay small */

static bool any_negative(const int64_t pad[4]) {
    return pad[0] < 0 || pad[1] < 0 || pad[2] < 0 || pad[3] < 0;
}

static bool same_padding(const tl_onnx_importer *im) {
    return tl_onnx_attr_is(im, "auto_pad", "SAME_UPPER") ||
           tl_onnx_attr_is(im, "auto_pad", "SAME_LOWER");
}

/* A picture for a window to slide over, with zeros that wait around it unless `settle` or they
 * cannot be a window's. ONNX's windows know no other order than N C H W. */
static tl_status picture(tl_onnx_importer *im, bool settle, tl_onnx_entry *x, int64_t pad[4]) {
    const tl_onnx_entry *entry = NULL;
    TL_TRY(tl_onnx_input(im, 0, &entry));
    memset(pad, 0, 4 * sizeof *pad);
    bool waits = entry->kind == TL_ONNX_NODE && entry->pending == TL_ONNX_PAD;
    if (waits && !settle && !any_negative(entry->pad)) {
        *x = *entry;
        memcpy(pad, entry->pad, 4 * sizeof *pad);
    } else {
        TL_TRY(tl_onnx_settle(im, entry, x));
    }
    if (x->layout != TL_ONNX_NCHW && x->layout != TL_ONNX_POOLED) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a window over something else than N C H W");
    }
    return TL_OK;
}

static tl_status auto_pad(tl_onnx_importer *im, window *w, const tl_onnx_entry *x) {
    if (!tl_onnx_attr_find(im->onnx, im->at, "auto_pad")) return TL_OK;
    if (tl_onnx_attr_is(im, "auto_pad", "NOTSET")) return TL_OK;
    memset(w->pad, 0, sizeof w->pad);
    if (tl_onnx_attr_is(im, "auto_pad", "VALID")) return TL_OK;
    if (tl_onnx_attr_is(im, "auto_pad", "SAME_UPPER")) {
        w->same = true;
        return TL_OK;
    }
    if (!tl_onnx_attr_is(im, "auto_pad", "SAME_LOWER")) {
        return tl_onnx_fail(im, TL_CORRUPT, "auto_pad is no padding");
    }
    /* The odd element goes before: only our explicit padding can say that. */
    const tl_shape *s = &im->graph->node[x->node].shape;
    for (int i = 0; i < 2; i++) {
        int64_t size = s->dim[1 + i], out = (size + w->stride[i] - 1) / w->stride[i];
        int64_t total = (out - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1 - size;
        if (total < 0) total = 0;
        w->pad[i] = (total + 1) / 2;
        w->pad[i + 2] = total / 2;
    }
    return TL_OK;
}

static tl_status check_window(const tl_onnx_importer *im, const window *w,
                              const int64_t pending[4]) {
    for (int i = 0; i < 2; i++) {
        if (w->stride[i] < 1 || w->dilation[i] < 1 || w->stride[i] > MAX_WINDOW ||
            w->dilation[i] > MAX_WINDOW || w->kernel[i] < 0 || w->kernel[i] > MAX_WINDOW) {
            return tl_onnx_fail(im, TL_CORRUPT, "kernel, stride or dilation outside 1 to %d",
                                MAX_WINDOW);
        }
    }
    for (int i = 0; i < 4; i++) {
        if (w->pad[i] < 0 || w->pad[i] > MAX_WINDOW || pending[i] < 0 || pending[i] > MAX_WINDOW) {
            return tl_onnx_fail(im, TL_UNSUPPORTED, "padding outside 0 to %d", MAX_WINDOW);
        }
    }
    return TL_OK;
}

/* Of a picture, with the kernel's size from the attribute or from `weight`. */
static tl_status read_window(tl_onnx_importer *im, const tl_onnx_entry *x, const tl_shape *weight,
                             const int64_t pending[4], window *w) {
    *w = (window){0};
    TL_TRY(tl_onnx_attr_ints(im, "kernel_shape", 2, 0, w->kernel));
    TL_TRY(tl_onnx_attr_ints(im, "strides", 2, 1, w->stride));
    TL_TRY(tl_onnx_attr_ints(im, "dilations", 2, 1, w->dilation));
    TL_TRY(tl_onnx_attr_ints(im, "pads", 4, 0, w->pad));
    for (int i = 0; weight && i < 2; i++) {
        if (w->kernel[i] == 0) w->kernel[i] = weight->dim[2 + i];
        if (w->kernel[i] != weight->dim[2 + i]) {
            return tl_onnx_fail(im, TL_CORRUPT, "kernel_shape is not the weights'");
        }
    }
    TL_TRY(check_window(im, w, pending));
    TL_TRY(auto_pad(im, w, x));
    TL_TRY(check_window(im, w, pending));
    for (int i = 0; i < 4; i++) w->pad[i] += pending[i];
    return TL_OK;
}

static int print_window(const window *w, bool dilation, char *text, size_t size) {
    int used = snprintf(text, size, "kernel=%d,%d stride=%d,%d ", (int)w->kernel[0],
                        (int)w->kernel[1], (int)w->stride[0], (int)w->stride[1]);
    if (dilation) {
        used += snprintf(text + used, size - (size_t)used, "dilation=%d,%d ", (int)w->dilation[0],
                         (int)w->dilation[1]);
    }
    if (w->same) return used + snprintf(text + used, size - (size_t)used, "padding=same ");
    return used + snprintf(text + used, size - (size_t)used, "pad=%d,%d,%d,%d ", (int)w->pad[0],
                           (int)w->pad[1], (int)w->pad[2], (int)w->pad[3]);
}

/* --- convolution ------------------------------------------------------------------------------ */

/* O I KH KW to O KH KW I. */
static tl_status fill_kernel(tl_onnx_importer *im, const tl_onnx_entry *w, float *to) {
    int64_t inputs = w->shape.dim[1], area = w->shape.dim[2] * w->shape.dim[3];
    float *filter = tl_alloc_array(im->onnx->ctx, (size_t)(inputs * area), sizeof *filter);
    TL_CHECK_MEMORY(filter);
    for (int64_t o = 0; o < w->shape.dim[0]; o++) {
        tl_onnx_read_row(w->tensor, o, inputs * area, filter);
        for (int64_t k = 0; k < area; k++) {
            for (int64_t i = 0; i < inputs; i++) *to++ = filter[i * area + k];
        }
    }
    tl_free(im->onnx->ctx, filter);
    return TL_OK;
}

static tl_status check_kernel(tl_onnx_importer *im, const tl_onnx_entry *w, const tl_onnx_entry *x,
                              int64_t groups) {
    TL_TRY(tl_onnx_weight(im, w));
    if (w->shape.rank != 4) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "weights of rank %d, expected 4", w->shape.rank);
    }
    int64_t channels = x->shape.dim[tl_onnx_channel_axis(x)];
    if (groups < 1 || groups > channels || channels % groups ||
        w->shape.dim[1] != channels / groups || w->shape.dim[0] % groups) {
        return tl_onnx_fail(im, TL_SHAPE,
                            "%lld channels in %lld groups do not fit weights for %lld",
                            (long long)channels, (long long)groups, (long long)w->shape.dim[1]);
    }
    return TL_OK;
}

/* Adds the node that print_window() and `more` describe and fills its parameters. */
static tl_status emit_conv(tl_onnx_importer *im, const tl_onnx_entry *x, const tl_onnx_entry *w,
                           const char *op, const char *attrs) {
    int node = 0;
    TL_TRY(tl_onnx_emit(im, op, attrs, 1, &x->node, &node));
    TL_TRY(fill_kernel(im, w, tl_onnx_param(im, node, "weight")));
    if (tl_onnx_has_input(im, 2)) TL_TRY(tl_onnx_fill_bias(im, node, 2, w->shape.dim[0], 1.0f));
    tl_onnx_entry like = *x;
    if (x->layout == TL_ONNX_POOLED) like.shape.dim[1] = w->shape.dim[0];
    return tl_onnx_define_node(im, &like, node);
}

/* A 1x1 convolution of pooled features is a dense layer. */
static tl_status conv_pooled(tl_onnx_importer *im, const tl_onnx_entry *x, const tl_onnx_entry *w,
                             const window *win, int64_t groups) {
    char attrs[64];
    bool padded = win->pad[0] || win->pad[1] || win->pad[2] || win->pad[3];
    if (win->kernel[0] != 1 || win->kernel[1] != 1 || padded || groups != 1 || x->shape.rank != 4 ||
        tl_onnx_channel_axis(x) != 1) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a window over pooled features");
    }
    snprintf(attrs, sizeof attrs, "units=%lld bias=%d", (long long)w->shape.dim[0],
             tl_onnx_has_input(im, 2));
    return emit_conv(im, x, w, "dense", attrs);
}

tl_status tl_onnx_conv(tl_onnx_importer *im) {
    tl_onnx_entry x;
    window win;
    int64_t pending[4];
    const tl_onnx_entry *w = NULL;
    int64_t groups = tl_onnx_attr_int(im, "group", 1);
    TL_TRY(picture(im, same_padding(im), &x, pending));
    TL_TRY(tl_onnx_input(im, 1, &w));
    TL_TRY(check_kernel(im, w, &x, groups));
    TL_TRY(read_window(im, &x, &w->shape, pending, &win));
    if (x.layout == TL_ONNX_POOLED) return conv_pooled(im, &x, w, &win, groups);
    char attrs[256];
    int used = print_window(&win, true, attrs, sizeof attrs);
    snprintf(attrs + used, sizeof attrs - (size_t)used, "filters=%lld groups=%lld bias=%d",
             (long long)w->shape.dim[0], (long long)groups, tl_onnx_has_input(im, 2));
    return emit_conv(im, &x, w, "conv2d", attrs);
}

/* --- pooling ---------------------------------------------------------------------------------- */

static bool any_pad(const int64_t pad[4]) {
    return pad[0] || pad[1] || pad[2] || pad[3];
}

/* Whether zeros written out before a pooling may become its own padding. They are elements: for a
 * mean they count, for a maximum they change nothing where no value is below them. */
static bool may_pad(tl_onnx_importer *im, bool max) {
    const tl_onnx_attr *own = tl_onnx_attr_find(im->onnx, im->at, "pads");
    const tl_onnx_entry *x = tl_onnx_lookup(&im->values, im->at->input[0], false);
    bool pads = same_padding(im);
    for (int i = 0; own && i < own->count && own->ints; i++) pads = pads || own->ints[i] != 0;
    if (!max) return !pads || tl_onnx_attr_int(im, "count_include_pad", 0);
    if (!x || x->kind != TL_ONNX_NODE) return false;
    tl_act act = im->graph->node[x->node].op->act;
    return !pads && (act == TL_ACT_RELU || act == TL_ACT_RELU6);
}

tl_status tl_onnx_pool(tl_onnx_importer *im) {
    tl_onnx_entry x;
    window win;
    int64_t zeros[4];
    char attrs[256];
    bool max = tl_onnx_is(im->onnx, im->at->type, "MaxPool");
    bool count_pads = tl_onnx_attr_int(im, "count_include_pad", 0) != 0;
    TL_TRY(picture(im, !tl_onnx_has_input(im, 0) || !may_pad(im, max), &x, zeros));
    TL_TRY(read_window(im, &x, NULL, zeros, &win));
    if (x.layout != TL_ONNX_NCHW || win.dilation[0] != 1 || win.dilation[1] != 1) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "pooling with dilation, or of pooled features");
    }
    int used = print_window(&win, false, attrs, sizeof attrs);
    if (!win.same) {
        used += snprintf(attrs + used, sizeof attrs - (size_t)used, "ceil_mode=%d ",
                         tl_onnx_attr_int(im, "ceil_mode", 0) != 0);
    }
    if (!max) {
        snprintf(attrs + used, sizeof attrs - (size_t)used, "count_include_pad=%d",
                 count_pads || any_pad(zeros));
    }
    int node = 0;
    TL_TRY(tl_onnx_emit(im, max ? "max_pool" : "avg_pool", attrs, 1, &x.node, &node));
    return tl_onnx_define_node(im, &x, node);
}

/* --- padding ---------------------------------------------------------------------------------- */

static tl_status read_pads(tl_onnx_importer *im, int64_t pads[8]) {
    const tl_onnx_entry *input = NULL;
    if (tl_onnx_attr_find(im->onnx, im->at, "pads")) {
        return tl_onnx_attr_ints(im, "pads", 8, 0, pads);
    }
    TL_TRY(tl_onnx_ints(im, 1, &input));
    if (input->int_count != 8 || input->batch || tl_onnx_has_input(im, 3)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "padding of other than all four axes");
    }
    memcpy(pads, input->ints, 8 * sizeof *pads);
    return TL_OK;
}

static tl_status check_fill(tl_onnx_importer *im) {
    float value = tl_onnx_attr_float(im, "value", 0.0f);
    if (tl_onnx_has_input(im, 2)) TL_TRY(tl_onnx_one_float(im, 2, &value));
    bool constant =
        !tl_onnx_attr_find(im->onnx, im->at, "mode") || tl_onnx_attr_is(im, "mode", "constant");
    if (constant && value == 0.0f) return TL_OK;
    return tl_onnx_fail(im, TL_UNSUPPORTED, "padding with anything but zeros");
}

/* Zeros around height and width wait for the window that reads them. */
tl_status tl_onnx_pad(tl_onnx_importer *im) {
    tl_onnx_entry x;
    int64_t pads[8];
    bool any = false;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(read_pads(im, pads));
    for (int i = 0; i < 8; i++) {
        any = any || pads[i] != 0;
        if (pads[i] < -MAX_PAD || pads[i] > MAX_PAD) {
            return tl_onnx_fail(im, TL_UNSUPPORTED, "padding outside %d to %d", -MAX_PAD, MAX_PAD);
        }
    }
    if (!any) return tl_onnx_define_node(im, &x, x.node);
    TL_TRY(check_fill(im));
    int row = x.layout == TL_ONNX_NHWC ? 1 : 2, channel = tl_onnx_channel_axis(&x);
    if (pads[0] || pads[4] || pads[channel] || pads[channel + 4] || !tl_onnx_is_picture(&x)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "padding of other axes than height and width");
    }
    const int64_t pad[4] = {pads[row], pads[row + 1], pads[row + 4], pads[row + 5]};
    return tl_onnx_define_padded(im, &x, pad);
}

tl_status tl_onnx_define_padded(tl_onnx_importer *im, const tl_onnx_entry *x,
                                const int64_t pad[4]) {
    tl_onnx_entry value = *x;
    value.pending = TL_ONNX_PAD;
    value.pending_at = im->at;
    memcpy(value.pad, pad, 4 * sizeof *pad);
    return tl_onnx_define(im, &value);
}

/* --- pooling of everything -------------------------------------------------------------------- */

static tl_status pool_all(tl_onnx_importer *im, const tl_onnx_entry *x, const char *op, bool keep) {
    tl_onnx_entry like = {.layout = keep ? TL_ONNX_POOLED : TL_ONNX_FLAT};
    int64_t c = x->shape.dim[tl_onnx_channel_axis(x)];
    like.shape = x->layout == TL_ONNX_NHWC
                     ? tl_shape_make(4, (int64_t)1, (int64_t)1, (int64_t)1, c)
                     : tl_shape_make(4, (int64_t)1, c, (int64_t)1, (int64_t)1);
    int node = 0;
    TL_TRY(tl_onnx_emit(im, op, "", 1, &x->node, &node));
    return tl_onnx_define_node(im, &like, node);
}

static tl_status global_pool(tl_onnx_importer *im, const char *op) {
    tl_onnx_entry x;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    if (x.layout != TL_ONNX_NCHW) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "global pooling over something else than N C H W");
    }
    return pool_all(im, &x, op, true);
}

tl_status tl_onnx_global_average(tl_onnx_importer *im) {
    return global_pool(im, "global_avg_pool");
}

tl_status tl_onnx_global_max(tl_onnx_importer *im) {
    return global_pool(im, "global_max_pool");
}

/* The two axes of a mean; they are an input since opset 18. */
static tl_status mean_axes(tl_onnx_importer *im, const tl_onnx_entry *x, int axis[2]) {
    int64_t axes[2] = {0, 0};
    const tl_onnx_entry *input = NULL;
    if (tl_onnx_has_input(im, 1)) {
        TL_TRY(tl_onnx_ints(im, 1, &input));
        if (input->int_count == 2) memcpy(axes, input->ints, sizeof axes);
    } else {
        const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, "axes");
        if (attr && attr->count == 2) TL_TRY(tl_onnx_attr_ints(im, "axes", 2, 0, axes));
    }
    for (int i = 0; i < 2; i++) TL_TRY(tl_onnx_axis(im, axes[i], x->shape.rank, &axis[i]));
    return TL_OK;
}

/* A mean over height and width. */
tl_status tl_onnx_reduce_mean(tl_onnx_importer *im) {
    tl_onnx_entry x;
    int axis[2];
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(mean_axes(im, &x, axis));
    int first = x.layout == TL_ONNX_NHWC ? 1 : 2;
    bool spatial = axis[0] + axis[1] == 2 * first + 1 && (axis[0] == first || axis[1] == first);
    if (!spatial || !tl_onnx_is_picture(&x)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a mean over other axes than height and width");
    }
    return pool_all(im, &x, "global_avg_pool", tl_onnx_attr_int(im, "keepdims", 1) != 0);
}
