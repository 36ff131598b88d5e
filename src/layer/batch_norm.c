/* Batch normalisation: Ioffe and Szegedy 2015. Keras and PyTorch differ in the defaults of epsilon
 * and momentum, in what momentum means (here Keras's: the part of the old value that is kept) and
 * in the running variance, which PyTorch corrects by n / (n - 1) and Keras does not. */
#include <math.h>
#include <string.h>

#include "layer/batch_norm_rows.h"
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

/* --- memory: saved holds mean and 1 / deviation of the batch, scale and shift [4][C] in float;
 * scratch holds sums over rows in double, followed by coefficients [6][C] in float ---------- */

static void memory(const tl_op_call *call, tl_op_memory *out) {
    size_t c = (size_t)tl_shape_channels(&call->out.shape);
    out->saved = 4 * c * sizeof(float);
    out->work_forward = tl_row_sums_size((int64_t)c) + 6 * c * sizeof(float);
    out->work_backward = out->work_forward;
    out->followed = tl_row_sums_size((int64_t)c);
}

static double *sums_of(const tl_op_call *call) {
    return call->work;
}

static float *coefficients_of(const tl_op_call *call) {
    size_t sums = tl_row_sums_size(tl_shape_channels(&call->out.shape));
    return (float *)((char *)call->work + sums);
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
static void use_batch_statistics(const tl_op_call *call, const double *sums, float *scale,
                                 float *shift) {
    const batch_norm_attr *attr = call->attr;
    batch_norm_params p = params_of(attr, call->param);
    int64_t c = tl_shape_channels(&call->out.shape);
    double n = (double)tl_shape_rows(&call->out.shape);
    /* PyTorch refuses one row; it has no spread to correct. */
    double correction = attr->unbiased && n > 1 ? n / (n - 1) : 1;
    for (int64_t i = 0; i < c; i++) {
        double mean = sums[i] / n;
        /* Exact enough in double: squares of floats are exact, and rounding must not go below 0. */
        double variance = fmax(sums[c + i] / n - mean * mean, 0);
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
        saved[2 * c + i] = scale[i];
        saved[3 * c + i] = shift[i];
    }
}

static void follow(const tl_op_call *call, const tl_followed *rows) {
    int64_t c = tl_shape_channels(&call->out.shape);
    double *sums = (double *)call->followed + rows->part * 2 * c;
    if (rows->first) memset(sums, 0, 2 * (size_t)c * sizeof *sums);
    const void *x = tl_from_at(call->in[0].data, tl_call_size(call), rows->begin * c);
    tl_call_kernels(call)->moments(x, sums, sums + c, rows->end - rows->begin, c);
}

static const double *batch_sums(const tl_op_call *call, const tl_norm_rows *rows) {
    double *sums = call->followed_parts ? call->followed : sums_of(call);
    if (call->followed_parts)
        tl_add_row_sums(sums, call->followed_parts, rows->channels);
    else
        tl_row_sums(call, rows->x, NULL, NULL, rows->rows, rows->channels, sums);
    return sums;
}

static void forward(const tl_op_call *call) {
    tl_norm_rows rows = tl_norm_rows_of(call);
    float *scale = coefficients_of(call), *shift = scale + rows.channels;
    if (call->training) {
        use_batch_statistics(call, batch_sums(call, &rows), scale, shift);
    } else {
        affine(call, scale, shift);
    }
    rows.scale = scale;
    rows.shift = shift;
    tl_norm_forward(call->ctx, &rows);
}

/* --- backward
 * ------------------------------------------------------------------------------------------ */

/* With u = (x - mean) / deviation and g = gamma / deviation:
 *   dgamma = sum dy u, dbeta = sum dy,
 *   dx = g (dy - dbeta / n - u dgamma / n), or g dy where the statistics are frozen.
 * dx is written as dy a + x b + shift for each channel. */
static void backward_coefficients(const tl_op_call *call, const tl_norm_rows *rows,
                                  const float *inverse, float *a, float *b, float *d) {
    const batch_norm_attr *attr = call->attr;
    batch_norm_params p = params_of(attr, call->param);
    double n = (double)rows->rows;
    for (int64_t i = 0; i < rows->channels; i++) {
        double g = (p.gamma ? (double)p.gamma[i] : 1.0) * (double)inverse[i];
        a[i] = (float)g;
        b[i] = d[i] = 0;
        if (!call->training) continue;
        double dgamma = rows->sums[rows->channels + i] * (double)inverse[i];
        double slope = -g * (double)inverse[i] * dgamma / n;
        b[i] = (float)slope;
        d[i] = (float)(-g * rows->sums[i] / n - slope * (double)rows->center[i]);
    }
}

static void add_param_gradients(const tl_norm_rows *rows, const batch_norm_params *gradient,
                                const float *inverse) {
    const double *sum_dy = rows->sums, *sum_dy_x = rows->sums + rows->channels;
    for (int64_t i = 0; i < rows->channels; i++) {
        if (gradient->gamma) gradient->gamma[i] += (float)(sum_dy_x[i] * (double)inverse[i]);
        if (gradient->beta) gradient->beta[i] += (float)sum_dy[i];
    }
}

/* What forward normalised with, into [3][C] where it has to be computed: the batch's statistics, or
 * the running ones. Returns 1 / deviation. */
static const float *use_forward_statistics(const tl_op_call *call, tl_norm_rows *rows, float *to) {
    const batch_norm_attr *attr = call->attr;
    int64_t c = rows->channels;
    if (call->training) {
        const float *saved = call->saved;
        rows->center = saved;
        rows->scale = saved + 2 * c;
        rows->shift = saved + 3 * c;
        return saved + c;
    }
    batch_norm_params p = params_of(attr, call->param);
    rows->center = p.mean;
    for (int64_t i = 0; i < c; i++)
        to[i] = (float)(1 / sqrt((double)p.variance[i] + (double)attr->epsilon));
    affine(call, to + c, to + 2 * c);
    rows->scale = to + c;
    rows->shift = to + 2 * c;
    return to;
}

/* Between its passes dz is kept where a gradient comes anyway, if there is such a place. */
static void place_gradients(const tl_op_call *call, tl_norm_rows *rows) {
    rows->dy = call->grad_out;
    rows->dx = call->grad_in[0];
    rows->add = rows->dx && call->grad_add[0];
    if (call->grad_residual_add) rows->residual_grad = call->grad_residual;
    if (call->grad_residual && !call->grad_residual_add)
        rows->dz = call->grad_residual;
    else if (!tl_act_clips(rows->act) && rows->dx && !rows->add)
        rows->dz = rows->dx;
}

static void backward(const tl_op_call *call) {
    tl_norm_rows rows = tl_norm_rows_of(call);
    float *a = coefficients_of(call), *b = a + rows.channels, *d = b + rows.channels;
    const float *inverse = use_forward_statistics(call, &rows, d + rows.channels);
    place_gradients(call, &rows);
    rows.sums = sums_of(call);
    batch_norm_params gradient = params_of(call->attr, call->grad_param);
    bool param_wanted = gradient.gamma || gradient.beta;
    if (param_wanted || (call->training && rows.dx)) tl_norm_sums(call->ctx, &rows);
    if (param_wanted) add_param_gradients(&rows, &gradient, inverse);
    if (!rows.dx && !call->grad_residual) return;
    backward_coefficients(call, &rows, inverse, a, b, d);
    rows.a = a;
    rows.b = b;
    rows.d = d;
    tl_norm_backward(call->ctx, &rows);
}

const tl_op tl_op_batch_norm = {.name = "batch_norm",
                                .min_inputs = 1,
                                .max_inputs = 1,
                                .flags = TL_OP_INPUT_TO_TRAIN | TL_OP_IN_PLACE | TL_OP_STATISTICS |
                                         TL_OP_CHEAP | TL_OP_BF16 | TL_OP_TAIL,
                                .attr_size = sizeof(batch_norm_attr),
                                .attrs = batch_norm_attrs,
                                .infer = infer,
                                .memory = memory,
                                .forward = forward,
                                .rows = tl_op_same_rows,
                                .backward = backward,
                                .follow = follow,
                                .affine = affine};
