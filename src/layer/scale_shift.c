/* One factor and one offset for each channel: constants of imported networks, the layer scale of
 * CaiT and ConvNeXt (Touvron et al. 2021, Liu et al. 2022). */
#include <string.h>

#include "layer/loop.h"
#include "layer/ops.h"
#include "layer/row_sums.h"

typedef struct scale_shift_attr {
    int32_t scale, center, learned;
} scale_shift_attr;

static const tl_attr_spec scale_shift_attrs[] = {{.name = "scale",
                                                  .type = TL_ATTR_BOOL,
                                                  .offset = offsetof(scale_shift_attr, scale),
                                                  .initial = 1,
                                                  .max = 1},
                                                 {.name = "center",
                                                  .type = TL_ATTR_BOOL,
                                                  .offset = offsetof(scale_shift_attr, center),
                                                  .initial = 1,
                                                  .max = 1},
                                                 {.name = "learned",
                                                  .type = TL_ATTR_BOOL,
                                                  .offset = offsetof(scale_shift_attr, learned),
                                                  .initial = 1,
                                                  .max = 1},
                                                 {0}};

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const scale_shift_attr *a = attr;
    tl_param_spec spec = {.shape = tl_shape_make(1, tl_shape_channels(&in[0])),
                          .learned = a->learned};
    TL_CHECK(a->scale || a->center, TL_INVALID_ARGUMENT,
             "scale_shift: scale and center are both 0, expected at least one");
    out->out = in[0];
    out->flops = 2.0 * (double)tl_shape_count(&in[0]);
    if (a->scale) {
        spec.name = "gamma";
        spec.init = TL_INIT_ONE;
        out->param[out->param_count++] = spec;
    }
    if (a->center) {
        spec.name = "beta";
        spec.init = TL_INIT_ZERO;
        out->param[out->param_count++] = spec;
    }
    return TL_OK;
}

/* Scratch: sums over rows in double, of which backward alone has need, then two rows of
 * coefficients. */
static void memory(const tl_op_call *call, tl_op_memory *out) {
    int64_t c = tl_shape_channels(&call->out.shape);
    out->work_forward = 2 * (size_t)c * sizeof(float);
    out->work_backward = tl_row_sums_size(c) + out->work_forward;
}

static void affine(const tl_op_call *call, float *scale, float *shift) {
    const scale_shift_attr *a = call->attr;
    int64_t c = tl_shape_channels(&call->out.shape);
    for (int64_t i = 0; i < c; i++) {
        scale[i] = a->scale ? call->param[0][i] : 1.0f;
        shift[i] = a->center ? call->param[a->scale][i] : 0.0f;
    }
}

typedef struct scale_shift_job {
    const struct tl_kernels *kernels;
    const void *from;
    const float *scale, *shift;
    void *to;
    size_t size;
    int64_t rows, channels;
    tl_parts parts;
    bool add;
} scale_shift_job;

static scale_shift_job make_job(const tl_op_call *call, const float *scale, const float *shift) {
    int64_t rows = tl_shape_rows(&call->out.shape), channels = tl_shape_channels(&call->out.shape);
    return (scale_shift_job){.kernels = tl_call_kernels(call),
                             .size = tl_call_size(call),
                             .scale = scale,
                             .shift = shift,
                             .rows = rows,
                             .channels = channels,
                             .parts = tl_parts_of(rows, channels)};
}

static void apply_task(void *arg, int64_t begin, int64_t end) {
    const scale_shift_job *job = arg;
    int64_t c = job->channels;
    int64_t first, rows = tl_part_rows(&job->parts, job->rows, begin, end, &first);
    const void *from = tl_from_at(job->from, job->size, first * c);
    void *to = tl_to_at(job->to, job->size, first * c);
    if (job->add) { /* with a shift of 0 */
        const tl_slopes slopes = {.x = from, .dy = from};
        job->kernels->affine3(&slopes, job->scale, job->shift, job->shift, true, to, rows, c);
    } else {
        job->kernels->scale_shift(from, job->scale, job->shift, NULL, TL_ACT_NONE, to, rows, c);
    }
}

static void forward(const tl_op_call *call) {
    float *scale = call->work, *shift = scale + tl_shape_channels(&call->out.shape);
    affine(call, scale, shift);
    scale_shift_job job = make_job(call, scale, shift);
    job.from = call->in[0].data;
    job.to = call->out.data;
    tl_parallel(call->ctx, job.parts.count, apply_task, &job);
}

/* dgamma = sum dy x, dbeta = sum dy. */
static void add_param_gradients(const tl_op_call *call, const float *zero) {
    const scale_shift_attr *a = call->attr;
    int64_t c = tl_shape_channels(&call->out.shape);
    float *gamma = a->scale ? call->grad_param[0] : NULL;
    float *beta = a->center ? call->grad_param[a->scale] : NULL;
    if (!gamma && !beta) return;
    double *sums = call->work;
    tl_row_sums(call, call->in[0].data, call->grad_out, zero, tl_shape_rows(&call->out.shape), c,
                sums);
    for (int64_t i = 0; i < c; i++) {
        if (beta) beta[i] += (float)sums[i];
        if (gamma) gamma[i] += (float)sums[c + i];
    }
}

/* dx = dy gamma. */
static void backward(const tl_op_call *call) {
    int64_t c = tl_shape_channels(&call->out.shape);
    float *scale = (float *)((char *)call->work + tl_row_sums_size(c)), *zero = scale + c;
    affine(call, scale, zero);
    memset(zero, 0, (size_t)c * sizeof *zero);
    add_param_gradients(call, zero);
    if (!call->grad_in[0]) return;
    scale_shift_job job = make_job(call, scale, zero);
    job.from = call->grad_out;
    job.to = call->grad_in[0];
    job.add = call->grad_add[0];
    tl_parallel(call->ctx, job.parts.count, apply_task, &job);
}

const tl_op tl_op_scale_shift = {.name = "scale_shift",
                                 .min_inputs = 1,
                                 .max_inputs = 1,
                                 .flags = TL_OP_KEEPS_INPUT | TL_OP_IN_PLACE | TL_OP_BF16,
                                 .attr_size = sizeof(scale_shift_attr),
                                 .attrs = scale_shift_attrs,
                                 .infer = infer,
                                 .memory = memory,
                                 .forward = forward,
                                 .rows = tl_op_same_rows,
                                 .backward = backward,
                                 .affine = affine};
