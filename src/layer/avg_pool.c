/* Average over windows. */
#include "layer/ops.h"
#include "layer/pool.h"

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    return tl_pool_infer("avg_pool", attr, &in[0], out);
}

/* Elements that are divided by, along one axis. With count_include_pad the padding counts, but not
 * what ceil_mode adds beyond it: torch.nn.AvgPool2d. */
static int64_t divisor_of(const tl_window *window, const tl_pool_span *span, bool with_pad) {
    if (!with_pad) return span->end - span->begin;
    int64_t end = span->start + window->kernel, limit = window->in + window->after;
    return (end < limit ? end : limit) - span->start;
}

static float weight_of(const tl_pool_pixel *pixel) {
    const tl_pool_attr *attr = pixel->call->attr;
    bool with_pad = attr->count_include_pad != 0;
    int64_t area = divisor_of(&pixel->axis[0], &pixel->h, with_pad) *
                   divisor_of(&pixel->axis[1], &pixel->w, with_pad);
    return 1.0f / (float)area;
}

static void forward_pixel(const tl_pool_pixel *pixel) {
    float sum[TL_POOL_BLOCK] = {0};
    for (int64_t h = pixel->h.begin; h < pixel->h.end; h++) {
        for (int64_t w = pixel->w.begin; w < pixel->w.end; w++) {
            const float *x = pixel->call->in[0].data + tl_pool_in_offset(pixel, h, w);
            for (int64_t i = 0; i < pixel->channels; i++) sum[i] += x[i];
        }
    }
    float weight = weight_of(pixel);
    float *y = pixel->call->out.data + pixel->out;
    for (int64_t i = 0; i < pixel->channels; i++) y[i] = sum[i] * weight;
}

static void forward(const tl_op_call *call) {
    tl_pool_forward(call, forward_pixel);
}

static void backward_pixel(const tl_pool_pixel *pixel) {
    const float *dy = pixel->call->grad_out + pixel->out;
    float weight = weight_of(pixel);
    for (int64_t h = pixel->h.begin; h < pixel->h.end; h++) {
        for (int64_t w = pixel->w.begin; w < pixel->w.end; w++) {
            float *dx = pixel->call->grad_in[0] + tl_pool_in_offset(pixel, h, w);
            for (int64_t i = 0; i < pixel->channels; i++) dx[i] += dy[i] * weight;
        }
    }
}

static void backward(const tl_op_call *call) {
    if (call->grad_in[0]) tl_pool_backward(call, backward_pixel);
}

const tl_op tl_op_avg_pool = {.name = "avg_pool",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .attr_size = sizeof(tl_pool_attr),
                              .attrs = tl_pool_attrs,
                              .infer = infer,
                              .forward = forward,
                              .backward = backward};
