/* Layer normalisation over the channels (the last dimension): Ba et al. 2016, in the form of
 * ConvNeXt (Liu et al. 2022), which normalises each pixel by itself. */
#include <math.h>
#include <string.h>

#include "layer/loop.h"
#include "layer/ops.h"

typedef struct layer_norm_attr {
    float epsilon;
} layer_norm_attr;

/* PyTorch's and ONNX's default; ConvNeXt's is 1e-6, Keras's 1e-3. */
static const tl_attr_spec layer_norm_attrs[] = {{.name = "epsilon",
                                                 .type = TL_ATTR_FLOAT,
                                                 .offset = offsetof(layer_norm_attr, epsilon),
                                                 .initial = 1e-5,
                                                 .min = 1e-12,
                                                 .max = 1},
                                                {0}};

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)attr, (void)input_count;
    tl_shape shape = tl_shape_make(1, tl_shape_channels(&in[0]));
    out->out = in[0];
    out->flops = 6.0 * (double)tl_shape_count(&in[0]);
    out->param_count = 2;
    out->param[0] =
        (tl_param_spec){.name = "gamma", .shape = shape, .init = TL_INIT_ONE, .learned = true};
    out->param[1] =
        (tl_param_spec){.name = "beta", .shape = shape, .init = TL_INIT_ZERO, .learned = true};
    return TL_OK;
}

/* Saved: mean and 1 / deviation of each row. Scratch of backward: the parameters' gradients of
 * every part of the rows, [parts][2][C]. */
static void memory(const tl_op_call *call, tl_op_memory *out) {
    out->saved = 2 * (size_t)tl_shape_rows(&call->out.shape) * sizeof(float);
    out->work_backward =
        TL_MAX_PARTS * 2 * (size_t)tl_shape_channels(&call->out.shape) * sizeof(double);
}

typedef struct layer_norm_job {
    const tl_op_call *call;
    int64_t rows, channels;
    tl_parts parts;
} layer_norm_job;

static layer_norm_job make_job(const tl_op_call *call) {
    int64_t rows = tl_shape_rows(&call->out.shape), channels = tl_shape_channels(&call->out.shape);
    return (layer_norm_job){call, rows, channels, tl_parts_of(rows, channels)};
}

/* --- forward --------------------------------------------------------------------------------- */

typedef struct row_statistics {
    float mean, inverse; /* 1 / deviation */
} row_statistics;

static row_statistics measure(const float *x, int64_t channels, float epsilon) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < channels; i++) sum += (double)x[i];
    double mean = sum / (double)channels;
    for (int64_t i = 0; i < channels; i++) {
        double centered = (double)x[i] - mean;
        squares += centered * centered;
    }
    double variance = squares / (double)channels;
    return (row_statistics){(float)mean, (float)(1 / sqrt(variance + (double)epsilon))};
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const layer_norm_job *job = arg;
    const tl_op_call *call = job->call;
    const layer_norm_attr *attr = call->attr;
    const float *gamma = call->param[0], *beta = call->param[1];
    int64_t c = job->channels, first;
    int64_t rows = tl_part_rows(&job->parts, job->rows, begin, end, &first);
    for (int64_t row = first; row < first + rows; row++) {
        const float *x = (const float *)call->in[0].data + row * c;
        float *y = (float *)call->out.data + row * c;
        row_statistics s = measure(x, c, attr->epsilon);
        if (call->backward_follows) memcpy((row_statistics *)call->saved + row, &s, sizeof s);
        for (int64_t i = 0; i < c; i++) y[i] = (x[i] - s.mean) * s.inverse * gamma[i] + beta[i];
    }
}

static void forward(const tl_op_call *call) {
    layer_norm_job job = make_job(call);
    tl_parallel(call->ctx, job.parts.count, forward_task, &job);
}

/* --- backward: with u = (x - mean) / deviation and g = dy gamma,
 *   dgamma = sum dy u, dbeta = sum dy, both over rows;
 *   dx = (g - mean(g) - u mean(g u)) / deviation, both over channels ----------------------------
 */

static void param_task(void *arg, int64_t begin, int64_t end) {
    const layer_norm_job *job = arg;
    const tl_op_call *call = job->call;
    int64_t c = job->channels;
    for (int64_t part = begin; part < end; part++) {
        double *beta = (double *)call->work + part * 2 * c, *gamma = beta + c;
        int64_t first, rows = tl_part_rows(&job->parts, job->rows, part, part + 1, &first);
        memset(beta, 0, 2 * (size_t)c * sizeof *beta);
        for (int64_t row = first; row < first + rows; row++) {
            const float *x = (const float *)call->in[0].data + row * c,
                        *dy = (const float *)call->grad_out + row * c;
            row_statistics s = ((const row_statistics *)call->saved)[row];
            for (int64_t i = 0; i < c; i++) {
                beta[i] += (double)dy[i];
                gamma[i] += (double)dy[i] * (double)((x[i] - s.mean) * s.inverse);
            }
        }
    }
}

static void add_param_gradients(const layer_norm_job *job) {
    const tl_op_call *call = job->call;
    float *gamma = call->grad_param[0], *beta = call->grad_param[1];
    int64_t c = job->channels;
    if (!gamma && !beta) return;
    tl_parallel(call->ctx, job->parts.count, param_task, (void *)job);
    double *sums = call->work;
    for (int64_t part = 1; part < job->parts.count; part++)
        for (int64_t i = 0; i < 2 * c; i++) sums[i] += sums[part * 2 * c + i];
    for (int64_t i = 0; i < c; i++) {
        if (beta) beta[i] += (float)sums[i];
        if (gamma) gamma[i] += (float)sums[c + i];
    }
}

static void backward_row(const tl_op_call *call, int64_t row, int64_t c) {
    const float *x = (const float *)call->in[0].data + row * c,
                *dy = (const float *)call->grad_out + row * c;
    const float *gamma = call->param[0];
    float *dx = (float *)call->grad_in[0] + row * c;
    row_statistics s = ((const row_statistics *)call->saved)[row];
    double sum = 0, dot = 0;
    for (int64_t i = 0; i < c; i++) {
        double g = (double)dy[i] * (double)gamma[i];
        sum += g;
        dot += g * (double)((x[i] - s.mean) * s.inverse);
    }
    float mean = (float)(sum / (double)c), slope = (float)(dot / (double)c);
    for (int64_t i = 0; i < c; i++) {
        float u = (x[i] - s.mean) * s.inverse;
        float value = (dy[i] * gamma[i] - mean - u * slope) * s.inverse;
        dx[i] = call->grad_add[0] ? dx[i] + value : value;
    }
}

static void backward_task(void *arg, int64_t begin, int64_t end) {
    const layer_norm_job *job = arg;
    int64_t first, rows = tl_part_rows(&job->parts, job->rows, begin, end, &first);
    for (int64_t row = first; row < first + rows; row++)
        backward_row(job->call, row, job->channels);
}

static void backward(const tl_op_call *call) {
    layer_norm_job job = make_job(call);
    add_param_gradients(&job);
    if (call->grad_in[0]) tl_parallel(call->ctx, job.parts.count, backward_task, &job);
}

const tl_op tl_op_layer_norm = {.name = "layer_norm",
                                .min_inputs = 1,
                                .max_inputs = 1,
                                .flags = TL_OP_KEEPS_INPUT | TL_OP_IN_PLACE,
                                .attr_size = sizeof(layer_norm_attr),
                                .attrs = layer_norm_attrs,
                                .infer = infer,
                                .memory = memory,
                                .forward = forward,
                                .backward = backward};
