/* Batch normalisation: Ioffe and Szegedy 2015. Keras and PyTorch differ in the defaults of epsilon
 * and momentum, in what momentum means (here Keras's: the part of the old value that is kept) and
 * in the running variance, which PyTorch corrects by n / (n - 1) and Keras does not. */
#include <math.h>
#include <string.h>

#include "layer/loop.h"
#include "layer/ops.h"
#include "layer/row_sums.h"

typedef struct batch_norm_attr {
    float epsilon, momentum;
    int32_t center, scale, unbiased;
} batch_norm_attr;

static const tl_attr_spec batch_norm_attrs[] = {{.name = "epsilon",
                                                 .type = TL_ATTR_FLOAT,
                                                 .offset = offsetof(batch_norm_attr, epsilon),
                                                 .initial = 1e-5,
                                                 .min = 1e-12,
                                                 .max = 1},
                                                {.name = "momentum",
                                                 .type = TL_ATTR_FLOAT,
                                                 .offset = offsetof(batch_norm_attr, momentum),
                                                 .initial = 0.9,
                                                 .max = 1},
                                                {.name = "center",
                                                 .type = TL_ATTR_BOOL,
                                                 .offset = offsetof(batch_norm_attr, center),
                                                 .initial = 1,
                                                 .max = 1},
                                                {.name = "scale",
                                                 .type = TL_ATTR_BOOL,
                                                 .offset = offsetof(batch_norm_attr, scale),
                                                 .initial = 1,
                                                 .max = 1},
                                                {.name = "unbiased",
                                                 .type = TL_ATTR_BOOL,
                                                 .offset = offsetof(batch_norm_attr, unbiased),
                                                 .initial = 1,
                                                 .max = 1},
                                                {0}};

static tl_status infer(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out) {
    (void)input_count;
    const batch_norm_attr *a = attr;
    tl_shape shape = tl_shape_make(1, tl_shape_channels(&in[0]));
    out->out = in[0];
    out->flops = 2.0 * (double)tl_shape_count(&in[0]);
    tl_param_spec *param = out->param;
    if (a->scale)
        *param++ =
            (tl_param_spec){.name = "gamma", .shape = shape, .init = TL_INIT_ONE, .learned = true};
    if (a->center)
        *param++ =
            (tl_param_spec){.name = "beta", .shape = shape, .init = TL_INIT_ZERO, .learned = true};
    *param++ = (tl_param_spec){.name = "mean", .shape = shape, .init = TL_INIT_ZERO};
    *param++ = (tl_param_spec){.name = "variance", .shape = shape, .init = TL_INIT_ONE};
    out->param_count = (int)(param - out->param);
    return TL_OK;
}

/* Parameters, or their gradients, by role; NULL for gamma or beta where there is none. */
typedef struct batch_norm_params {
    float *gamma, *beta, *mean, *variance;
} batch_norm_params;

static batch_norm_params params_of(const batch_norm_attr *attr, float *const *param) {
    batch_norm_params p = {0};
    if (attr->scale) p.gamma = *param++;
    if (attr->center) p.beta = *param++;
    p.mean = *param++;
    p.variance = *param;
    return p;
}

/* --- memory: saved holds mean and 1 / deviation of the batch [2][C] in float; scratch holds sums
 * over rows in double, followed by coefficients [4][C] in float ---------- */

static void memory(const tl_op_call *call, tl_op_memory *out) {
    size_t c = (size_t)tl_shape_channels(&call->out.shape);
    out->saved = 2 * c * sizeof(float);
    out->work_forward = tl_row_sums_size((int64_t)c) + 4 * c * sizeof(float);
    out->work_backward = out->work_forward;
}

static double *sums_of(const tl_op_call *call) {
    return call->work;
}

static float *coefficients_of(const tl_op_call *call) {
    size_t sums = tl_row_sums_size(tl_shape_channels(&call->out.shape));
    return (float *)((char *)call->work + sums);
}

/* --- passes over rows
 * -------------------------------------------------------------------------------- */

typedef struct batch_norm_job {
    const struct tl_kernels *kernels;
    const void *x, *grad_out;
    void *y, *grad_in;
    size_t size;
    const float *center;        /* [C] */
    const float *a, *b, *shift; /* [C] */
    double *sums;
    int64_t rows, channels;
    tl_parts parts;
    bool add;
} batch_norm_job;

static batch_norm_job make_job(const tl_op_call *call) {
    int64_t rows = tl_shape_rows(&call->out.shape), channels = tl_shape_channels(&call->out.shape);
    return (batch_norm_job){.kernels = tl_call_kernels(call),
                            .size = tl_call_size(call),
                            .x = call->in[0].data,
                            .y = call->out.data,
                            .sums = sums_of(call),
                            .rows = rows,
                            .channels = channels,
                            .parts = tl_parts_of(rows, channels)};
}

static void scale_shift_task(void *arg, int64_t begin, int64_t end) {
    const batch_norm_job *job = arg;
    int64_t first, rows = tl_part_rows(&job->parts, job->rows, begin, end, &first);
    job->kernels->scale_shift(
        tl_from_at(job->x, job->size, first * job->channels), job->a, job->shift, TL_ACT_NONE,
        tl_to_at(job->y, job->size, first * job->channels), rows, job->channels);
}

static void total_sums(const tl_op_call *call, const batch_norm_job *job) {
    tl_row_sums(call, job->x, job->grad_out, job->center, job->rows, job->channels, job->sums);
}

/* --- forward
 * ----------------------------------------------------------------------------------------- */

static void affine(const tl_op_call *call, float *scale, float *shift) {
    const batch_norm_attr *attr = call->attr;
    batch_norm_params p = params_of(attr, call->param);
    int64_t c = tl_shape_channels(&call->out.shape);
    for (int64_t i = 0; i < c; i++) {
        double factor = (p.gamma ? (double)p.gamma[i] : 1.0) /
                        sqrt((double)p.variance[i] + (double)attr->epsilon);
        scale[i] = (float)factor;
        shift[i] = (float)((p.beta ? (double)p.beta[i] : 0.0) - (double)p.mean[i] * factor);
    }
}

static float blend(float momentum, float old, double fresh) {
    return (float)((double)momentum * (double)old + (1.0 - (double)momentum) * fresh);
}

/* Batch statistics from the sums: scale and shift that apply them, running statistics, and what
 * backward needs. */
static void use_batch_statistics(const tl_op_call *call, const batch_norm_job *job, float *scale,
                                 float *shift) {
    const batch_norm_attr *attr = call->attr;
    batch_norm_params p = params_of(attr, call->param);
    int64_t c = job->channels;
    double n = (double)job->rows;
    /* PyTorch refuses one row; it has no spread to correct. */
    double correction = attr->unbiased && job->rows > 1 ? n / (n - 1) : 1;
    for (int64_t i = 0; i < c; i++) {
        double mean = job->sums[i] / n;
        /* Exact enough in double: squares of floats are exact, and rounding must not go below 0. */
        double variance = fmax(job->sums[c + i] / n - mean * mean, 0);
        double inverse = 1 / sqrt(variance + (double)attr->epsilon);
        double factor = p.gamma ? (double)p.gamma[i] * inverse : inverse;
        scale[i] = (float)factor;
        shift[i] = (float)((p.beta ? (double)p.beta[i] : 0.0) - mean * factor);
        p.mean[i] = blend(attr->momentum, p.mean[i], mean);
        p.variance[i] = blend(attr->momentum, p.variance[i], variance * correction);
        if (!call->backward_follows) continue;
        float *saved = call->saved;
        saved[i] = (float)mean;
        saved[c + i] = (float)inverse;
    }
}

static void forward(const tl_op_call *call) {
    batch_norm_job job = make_job(call);
    float *scale = coefficients_of(call), *shift = scale + job.channels;
    if (call->training) {
        total_sums(call, &job);
        use_batch_statistics(call, &job, scale, shift);
    } else {
        affine(call, scale, shift);
    }
    job.a = scale;
    job.shift = shift;
    tl_parallel(call->ctx, job.parts.count, scale_shift_task, &job);
}

/* --- backward
 * ------------------------------------------------------------------------------------------ */

static void affine3_task(void *arg, int64_t begin, int64_t end) {
    const batch_norm_job *job = arg;
    int64_t c = job->channels;
    int64_t first, rows = tl_part_rows(&job->parts, job->rows, begin, end, &first);
    job->kernels->affine3(tl_from_at(job->grad_out, job->size, first * c),
                          tl_from_at(job->x, job->size, first * c), job->a, job->b, job->shift,
                          job->add, tl_to_at(job->grad_in, job->size, first * c), rows, c);
}

/* The same where b and shift are 0: x need not be read. */
static void scale_gradient_task(void *arg, int64_t begin, int64_t end) {
    const batch_norm_job *job = arg;
    int64_t c = job->channels;
    int64_t first, rows = tl_part_rows(&job->parts, job->rows, begin, end, &first);
    job->kernels->scale_shift(tl_from_at(job->grad_out, job->size, first * c), job->a, job->shift,
                              TL_ACT_NONE, tl_to_at(job->grad_in, job->size, first * c), rows, c);
}

/* With u = (x - mean) / deviation and g = gamma / deviation:
 *   dgamma = sum dy u, dbeta = sum dy,
 *   dx = g (dy - dbeta / n - u dgamma / n), or g dy where the statistics are frozen.
 * dx is written as dy a + x b + shift for each channel. */
static void backward_coefficients(const tl_op_call *call, const batch_norm_job *job,
                                  const float *inverse, float *a, float *b, float *shift) {
    const batch_norm_attr *attr = call->attr;
    batch_norm_params p = params_of(attr, call->param);
    double n = (double)job->rows;
    for (int64_t i = 0; i < job->channels; i++) {
        double g = (p.gamma ? (double)p.gamma[i] : 1.0) * (double)inverse[i];
        a[i] = (float)g;
        b[i] = shift[i] = 0;
        if (!call->training) continue;
        double dgamma = job->sums[job->channels + i] * (double)inverse[i];
        double slope = -g * (double)inverse[i] * dgamma / n;
        b[i] = (float)slope;
        shift[i] = (float)(-g * job->sums[i] / n - slope * (double)job->center[i]);
    }
}

static void add_param_gradients(const batch_norm_job *job, const batch_norm_params *gradient,
                                const float *inverse) {
    const double *sum_dy = job->sums, *sum_dy_x = job->sums + job->channels;
    for (int64_t i = 0; i < job->channels; i++) {
        if (gradient->gamma) gradient->gamma[i] += (float)(sum_dy_x[i] * (double)inverse[i]);
        if (gradient->beta) gradient->beta[i] += (float)sum_dy[i];
    }
}

/* The statistics that forward normalised with: the batch's, or the running ones, whose 1 /
 * deviation is computed into `inverse`. */
static void use_forward_statistics(const tl_op_call *call, batch_norm_job *job, float *inverse) {
    const batch_norm_attr *attr = call->attr;
    int64_t c = job->channels;
    if (call->training) {
        const float *saved = call->saved;
        job->center = saved;
        memcpy(inverse, saved + c, (size_t)c * sizeof(float));
        return;
    }
    batch_norm_params p = params_of(attr, call->param);
    job->center = p.mean;
    for (int64_t i = 0; i < c; i++)
        inverse[i] = (float)(1 / sqrt((double)p.variance[i] + (double)attr->epsilon));
}

static void backward(const tl_op_call *call) {
    batch_norm_job job = make_job(call);
    job.grad_out = call->grad_out;
    /* Where the input is not kept its factor is 0, but something is read. */
    if (!job.x) job.x = call->grad_out;
    float *a = coefficients_of(call), *b = a + job.channels, *shift = b + job.channels;
    float *inverse = shift + job.channels;
    use_forward_statistics(call, &job, inverse);
    batch_norm_params gradient = params_of(call->attr, call->grad_param);
    bool param_wanted = gradient.gamma || gradient.beta;
    if (param_wanted || (call->training && call->grad_in[0])) total_sums(call, &job);
    if (param_wanted) add_param_gradients(&job, &gradient, inverse);
    if (!call->grad_in[0]) return;
    backward_coefficients(call, &job, inverse, a, b, shift);
    job.a = a;
    job.b = b;
    job.shift = shift;
    job.grad_in = call->grad_in[0];
    job.add = call->grad_add[0];
    bool scaled_only = !call->training && !job.add;
    tl_parallel(call->ctx, job.parts.count, scaled_only ? scale_gradient_task : affine3_task, &job);
}

const tl_op tl_op_batch_norm = {.name = "batch_norm",
                                .min_inputs = 1,
                                .max_inputs = 1,
                                .flags = TL_OP_INPUT_TO_TRAIN | TL_OP_IN_PLACE | TL_OP_STATISTICS |
                                         TL_OP_CHEAP | TL_OP_BF16,
                                .attr_size = sizeof(batch_norm_attr),
                                .attrs = batch_norm_attrs,
                                .infer = infer,
                                .memory = memory,
                                .forward = forward,
                                .rows = tl_op_same_rows,
                                .backward = backward,
                                .affine = affine};
