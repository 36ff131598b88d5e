/* Maximum over windows. The first of equal values wins, as in PyTorch; NaN wins over all. */
#include <string.h>

#include "layer/ops.h"
#include "layer/pool.h"

/* The winner's place in its window is kept in a byte. */
enum { MAX_AREA = 256 };

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const tl_pool_attr *a = attr;
    TL_CHECK((int64_t)a->kernel[0] * a->kernel[1] <= MAX_AREA, TL_LIMIT,
             "max_pool: kernel %d,%d has more than %d elements; to pool over a whole picture use "
             "global_max_pool",
             a->kernel[0], a->kernel[1], MAX_AREA);
    return tl_pool_infer("max_pool", a, &in[0], out);
}

static void memory(const tl_op_call *call, tl_op_memory *out) {
    out->saved = (size_t)tl_shape_count(&call->out.shape);
}

/* Takes into `best` what is larger in x, and notes the place. */
static void compete(const float *x, int32_t place, float *best, int32_t *winner, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        bool wins = (x[i] > best[i]) | (x[i] != x[i]);
        best[i] = wins ? x[i] : best[i];
        winner[i] = wins ? place : winner[i];
    }
}

/* Counted over the whole window, padding included. */
static int32_t place_of(const tl_pool_pixel *pixel, int64_t h, int64_t w) {
    return (int32_t)((h - pixel->h.start) * pixel->axis[1].kernel + w - pixel->w.start);
}

static void forward_pixel(const tl_pool_pixel *pixel) {
    const tl_op_call *call = pixel->call;
    const float *x = call->in[0].data;
    float best[TL_POOL_BLOCK];
    int32_t winner[TL_POOL_BLOCK];
    memcpy(best, x + tl_pool_in_offset(pixel, pixel->h.begin, pixel->w.begin),
           (size_t)pixel->channels * sizeof(float));
    int32_t first = place_of(pixel, pixel->h.begin, pixel->w.begin);
    for (int64_t i = 0; i < pixel->channels; i++) winner[i] = first;
    for (int64_t h = pixel->h.begin; h < pixel->h.end; h++) {
        for (int64_t w = pixel->w.begin; w < pixel->w.end; w++) {
            int32_t place = place_of(pixel, h, w);
            compete(x + tl_pool_in_offset(pixel, h, w), place, best, winner, pixel->channels);
        }
    }
    memcpy(call->out.data + pixel->out, best, (size_t)pixel->channels * sizeof(float));
    if (!call->backward_follows) return;
    uint8_t *saved = (uint8_t *)call->saved + pixel->out;
    for (int64_t i = 0; i < pixel->channels; i++) saved[i] = (uint8_t)winner[i];
}

static void forward(const tl_op_call *call) {
    tl_pool_forward(call, forward_pixel);
}

/* Every place takes its share, most of it 0: this vectorises, where going from each winner to its
 * place does not. */
static void backward_pixel(const tl_pool_pixel *pixel) {
    const tl_op_call *call = pixel->call;
    const uint8_t *saved = (const uint8_t *)call->saved + pixel->out;
    const float *dy = call->grad_out + pixel->out;
    int32_t winner[TL_POOL_BLOCK];
    for (int64_t i = 0; i < pixel->channels; i++) winner[i] = saved[i];
    for (int64_t h = pixel->h.begin; h < pixel->h.end; h++) {
        for (int64_t w = pixel->w.begin; w < pixel->w.end; w++) {
            int32_t place = place_of(pixel, h, w);
            float *dx = call->grad_in[0] + tl_pool_in_offset(pixel, h, w);
            for (int64_t i = 0; i < pixel->channels; i++)
                dx[i] += (float)(winner[i] == place) * dy[i];
        }
    }
}

static void backward(const tl_op_call *call) {
    if (call->grad_in[0]) tl_pool_backward(call, backward_pixel);
}

const tl_op tl_op_max_pool = {.name = "max_pool",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .attr_size = sizeof(tl_pool_attr),
                              .attrs = &tl_pool_attrs[1],
                              .infer = infer,
                              .memory = memory,
                              .forward = forward,
                              .backward = backward};
