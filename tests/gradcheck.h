/* Runs one operator by its descriptor alone and checks everything that the descriptor promises:
 * gradients against finite differences, both ways of delivering them, flags, memory, threads. */
#ifndef TL_TESTS_GRADCHECK_H
#define TL_TESTS_GRADCHECK_H

#include "support.h"

#include "layer/op.h"

enum { GRADCHECK_INPUTS = 4 };

typedef enum gradcheck_values {
    VALUES_ANY,       /* uniform in [-1, 1) */
    VALUES_OFF_KINKS, /* in [-8, 8), no nearer than KINK_GAP to -3, 0, 3, 6 */
    VALUES_DISTINCT   /* no two nearer than KINK_GAP */
} gradcheck_values;

typedef struct gradcheck_case {
    const char *op, *attrs;
    bool training;
    gradcheck_values values;
    int input_count;
    tl_shape in[GRADCHECK_INPUTS];
} gradcheck_case;

/* Central differences with steps h and h / 2, extrapolated to 0 (Richardson): the error is of
 * order h^4 plus float rounding over h. Values keep KINK_GAP away from kinks, so that no step
 * crosses one. A gradient may differ by TOLERANCE of the largest gradient of its tensor. */
static const double GRADCHECK_STEP = 0.04;
static const double GRADCHECK_TOLERANCE = 1e-3;
#define KINK_GAP 0.1f

/* --- one operator with all the memory it works on -----------------------------------------------
 */

typedef struct op_run {
    tl_context *ctx;
    const tl_op *op;
    void *attr;
    tl_op_shapes shapes;
    tl_op_memory memory;
    int64_t in_size[GRADCHECK_INPUTS], out_size, param_size[TL_MAX_PARAMS];
    tl_view in[GRADCHECK_INPUTS];
    float *out, *grad_out;
    float *param[TL_MAX_PARAMS];
    float *grad_in[GRADCHECK_INPUTS], *grad_param[TL_MAX_PARAMS];
    void *saved, *work_forward, *work_backward;
    float *packed;
    tl_op_call call;
} op_run;

/* Exactly as large as asked for, so that a sanitizer sees the first byte beyond. */
static inline void *run_alloc(op_run *run, size_t bytes) {
    void *block = tl_alloc(run->ctx, bytes);
    assert_non_null(block);
    memset(block, 0xff, bytes); /* NaN: what is not written shows */
    return block;
}

static inline float *run_floats(op_run *run, int64_t count) {
    return run_alloc(run, (size_t)count * sizeof(float));
}

static inline void shuffle_distinct(float *values, int64_t count, uint64_t *state) {
    for (int64_t i = 0; i < count; i++) values[i] = 2 * KINK_GAP * (float)(i - count / 2);
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = (int64_t)((double)(support_random(state) + 1) / 2 * (double)(i + 1));
        float swap = values[i];
        values[i] = values[j];
        values[j] = swap;
    }
}

static inline void fill_values(gradcheck_values kind, float *values, int64_t count,
                               uint64_t *state) {
    if (kind == VALUES_DISTINCT) {
        shuffle_distinct(values, count, state);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        values[i] = support_random(state);
        if (kind != VALUES_OFF_KINKS) continue;
        values[i] *= 8;
        float kink = 3 * roundf(values[i] / 3);
        if (fabsf(values[i] - kink) < KINK_GAP) values[i] = kink + 2 * KINK_GAP;
    }
}

static inline void fill_param(const tl_param_spec *spec, float *values, int64_t count,
                              uint64_t *state) {
    fill_values(VALUES_ANY, values, count, state);
    /* Where a variance near 0 would make everything too steep for finite differences. */
    if (strcmp(spec->name, "variance") == 0)
        for (int64_t i = 0; i < count; i++) values[i] = 1.5f + values[i];
}

static inline void run_create(op_run *run, tl_context *ctx, const gradcheck_case *test) {
    memset(run, 0, sizeof *run);
    uint64_t state = 12345;
    run->ctx = ctx;
    run->op = tl_op_find(test->op);
    assert_non_null(run->op);
    run->attr = run_alloc(run, run->op->attr_size);
    tl_attr_init(run->op, run->attr);
    assert_ok(tl_attr_parse(run->op, test->attrs, run->attr));
    assert_ok(tl_op_infer(run->op, run->attr, test->input_count, test->in, &run->shapes));
    run->out_size = tl_shape_count(&run->shapes.out);
    run->out = run_floats(run, run->out_size);
    run->grad_out = run_floats(run, run->out_size);
    fill_values(VALUES_ANY, run->grad_out, run->out_size, &state);
    for (int i = 0; i < test->input_count; i++) {
        run->in_size[i] = tl_shape_count(&test->in[i]);
        run->in[i] = (tl_view){.data = run_floats(run, run->in_size[i]), .shape = test->in[i]};
        run->grad_in[i] = run_floats(run, run->in_size[i]);
        fill_values(test->values, run->in[i].data, run->in_size[i], &state);
    }
    for (int i = 0; i < run->shapes.param_count; i++) {
        const tl_param_spec *spec = &run->shapes.param[i];
        run->param_size[i] = tl_shape_count(&spec->shape);
        run->param[i] = run_floats(run, run->param_size[i]);
        fill_param(spec, run->param[i], run->param_size[i], &state);
        if (spec->learned) run->grad_param[i] = run_floats(run, run->param_size[i]);
    }
    run->call = (tl_op_call){.ctx = ctx,
                             .attr = run->attr,
                             .input_count = test->input_count,
                             .in = run->in,
                             .out = {.data = run->out, .shape = run->shapes.out},
                             .param_count = run->shapes.param_count,
                             .param = run->param,
                             .training = test->training,
                             .seed = 7,
                             .stream = 3};
    if (run->op->memory) run->op->memory(&run->call, &run->memory);
    run->saved = run_alloc(run, run->memory.saved);
    run->work_forward = run_alloc(run, run->memory.work_forward);
    run->work_backward = run_alloc(run, run->memory.work_backward);
    run->packed = run_alloc(run, run->memory.packed);
}

static inline void run_free(op_run *run) {
    for (int i = 0; i < GRADCHECK_INPUTS; i++) {
        tl_free(run->ctx, run->in[i].data);
        tl_free(run->ctx, run->grad_in[i]);
    }
    for (int i = 0; i < TL_MAX_PARAMS; i++) {
        tl_free(run->ctx, run->param[i]);
        tl_free(run->ctx, run->grad_param[i]);
    }
    void *rest[] = {run->attr,  run->out,          run->grad_out,     run->packed,
                    run->saved, run->work_forward, run->work_backward};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) tl_free(run->ctx, rest[i]);
}

static inline void run_forward(op_run *run, const float *scale, const tl_epilogue *epilogue,
                               bool backward_follows) {
    tl_op_pack(run->op, &run->call, scale, run->packed);
    memset(run->work_forward, 0xff, run->memory.work_forward);
    tl_op_call call = run->call;
    call.packed = run->op->pack ? run->packed : NULL;
    call.work = run->work_forward;
    call.saved = backward_follows ? run->saved : NULL;
    call.backward_follows = backward_follows;
    call.epilogue = epilogue;
    run->op->forward(&call);
}

/* grad_in and grad_param are arrays of the caller's, as in tl_op_call. What backward may not look
 * at is not there. */
static inline void run_backward(op_run *run, float *const *grad_in, const bool *grad_add,
                                float *const *grad_param) {
    memset(run->work_backward, 0xff, run->memory.work_backward);
    tl_op_call call = run->call;
    tl_view in[GRADCHECK_INPUTS];
    memcpy(in, run->in, sizeof in);
    void *gradients[GRADCHECK_INPUTS];
    for (int i = 0; i < call.input_count; i++) gradients[i] = grad_in[i];
    bool trains = call.training;
    for (int i = 0; i < call.param_count; i++) trains = trains || grad_param[i];
    bool keeps =
        run->op->flags & (trains ? TL_OP_KEEPS_INPUT | TL_OP_INPUT_TO_TRAIN : TL_OP_KEEPS_INPUT);
    for (int i = 0; i < call.input_count; i++)
        if (!keeps) in[i].data = NULL;
    call.in = in;
    if (!(run->op->flags & TL_OP_KEEPS_OUTPUT)) call.out.data = NULL;
    call.saved = run->saved;
    call.work = run->work_backward;
    call.backward_follows = true;
    call.grad_out = run->grad_out;
    call.grad_in = gradients;
    call.grad_add = grad_add;
    call.grad_param = grad_param;
    run->op->backward(&call);
}

/* --- what is checked
 * ---------------------------------------------------------------------------------- */

static const bool gradcheck_write[GRADCHECK_INPUTS] = {false};
static const bool gradcheck_add[GRADCHECK_INPUTS] = {true, true, true, true};

static inline void fill_constant(float *values, int64_t count, float value) {
    for (int64_t i = 0; i < count; i++) values[i] = value;
}

/* The loss whose gradient is checked: the sum of grad_out times out, in double. */
static inline double run_loss(op_run *run) {
    run_forward(run, NULL, NULL, false);
    double loss = 0;
    for (int64_t i = 0; i < run->out_size; i++)
        loss += (double)run->grad_out[i] * (double)run->out[i];
    return loss;
}

static inline double central_difference(op_run *run, float *value, double step) {
    float middle = *value;
    float above = (float)((double)middle + step), below = (float)((double)middle - step);
    *value = above;
    double loss_above = run_loss(run);
    *value = below;
    double loss_below = run_loss(run);
    *value = middle;
    return (loss_above - loss_below) / ((double)above - (double)below);
}

static inline void compare_gradient(op_run *run, const char *label, const char *what, float *values,
                                    const float *gradient, int64_t count) {
    double largest = 0;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs((double)gradient[i]));
    for (int64_t i = 0; i < count; i++) {
        double coarse = central_difference(run, &values[i], GRADCHECK_STEP);
        double fine = central_difference(run, &values[i], GRADCHECK_STEP / 2);
        double expected = (4 * fine - coarse) / 3;
        if (!(fabs((double)gradient[i] - expected) <= GRADCHECK_TOLERANCE * (largest + 0.1)))
            fail_msg("%s: gradient of %s[%lld] is %g, finite differences give %g (largest %g)",
                     label, what, (long long)i, (double)gradient[i], expected, largest);
    }
}

/* Written gradients of inputs, added gradients of parameters, against finite differences. */
static inline void check_finite_differences(op_run *run, const char *label) {
    run_forward(run, NULL, NULL, true);
    for (int i = 0; i < run->shapes.param_count; i++)
        if (run->grad_param[i]) fill_constant(run->grad_param[i], run->param_size[i], 0);
    run_backward(run, run->grad_in, gradcheck_write, run->grad_param);
    char what[32];
    for (int i = 0; i < run->call.input_count; i++) {
        snprintf(what, sizeof what, "input %d", i);
        compare_gradient(run, label, what, run->in[i].data, run->grad_in[i], run->in_size[i]);
    }
    for (int i = 0; i < run->shapes.param_count; i++)
        if (run->grad_param[i])
            compare_gradient(run, label, run->shapes.param[i].name, run->param[i],
                             run->grad_param[i], run->param_size[i]);
}

static inline void expect_sums(const char *label, const char *what, const float *sums,
                               const float *gradient, float start, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float expected = start + gradient[i];
        if (!(fabsf(sums[i] - expected) <= 2e-5f * (1 + fabsf(expected))))
            fail_msg("%s: added gradient of %s[%lld] is %g, expected %g", label, what, (long long)i,
                     (double)sums[i], (double)expected);
    }
}

/* A second backward adds to what is there, for inputs and parameters. Expects the gradients of
 * check_finite_differences() in run. */
static inline void check_adding(op_run *run, const char *label) {
    float *in[GRADCHECK_INPUTS], *param[TL_MAX_PARAMS] = {NULL};
    for (int i = 0; i < run->call.input_count; i++) {
        in[i] = run_floats(run, run->in_size[i]);
        fill_constant(in[i], run->in_size[i], 0.75f);
    }
    for (int i = 0; i < run->shapes.param_count; i++) {
        if (!run->grad_param[i]) continue;
        param[i] = run_floats(run, run->param_size[i]);
        fill_constant(param[i], run->param_size[i], -0.25f);
    }
    run_forward(run, NULL, NULL, true);
    run_backward(run, in, gradcheck_add, param);
    for (int i = 0; i < run->call.input_count; i++) {
        expect_sums(label, "an input", in[i], run->grad_in[i], 0.75f, run->in_size[i]);
        tl_free(run->ctx, in[i]);
    }
    for (int i = 0; i < run->shapes.param_count; i++) {
        if (!param[i]) continue;
        expect_sums(label, run->shapes.param[i].name, param[i], run->grad_param[i], -0.25f,
                    run->param_size[i]);
        tl_free(run->ctx, param[i]);
    }
}

static inline void expect_same_bits(const char *label, const char *what, const float *a,
                                    const float *b, int64_t count) {
    if (memcmp(a, b, (size_t)count * sizeof(float)) != 0)
        fail_msg("%s: %s is not the same bit for bit", label, what);
}

/* Each gradient alone, with all others unwanted, is the same; and none at all is fine. */
static inline void check_unwanted(op_run *run, const char *label) {
    float *in[GRADCHECK_INPUTS] = {NULL}, *param[TL_MAX_PARAMS] = {NULL};
    run_backward(run, in, gradcheck_write, param);
    for (int i = 0; i < run->call.input_count; i++) {
        in[i] = run_floats(run, run->in_size[i]);
        run_backward(run, in, gradcheck_write, param);
        expect_sums(label, "an input alone", in[i], run->grad_in[i], 0, run->in_size[i]);
        tl_free(run->ctx, in[i]);
        in[i] = NULL;
    }
    for (int i = 0; i < run->shapes.param_count; i++) {
        if (!run->grad_param[i]) continue;
        param[i] = run_floats(run, run->param_size[i]);
        fill_constant(param[i], run->param_size[i], 0);
        run_backward(run, in, gradcheck_write, param);
        expect_sums(label, "a parameter alone", param[i], run->grad_param[i], 0,
                    run->param_size[i]);
        tl_free(run->ctx, param[i]);
        param[i] = NULL;
    }
}

/* TL_OP_IN_PLACE: out over in[0], grad_in[0] over grad_out. Destroys both in run. */
static inline void check_in_place(op_run *run, const char *label) {
    if (!(run->op->flags & TL_OP_IN_PLACE)) return;
    run_forward(run, NULL, NULL, true);
    float *grad_in[GRADCHECK_INPUTS] = {NULL};
    for (int i = 1; i < run->call.input_count; i++) grad_in[i] = run_floats(run, run->in_size[i]);
    grad_in[0] = run->grad_out;
    float *no_param[TL_MAX_PARAMS] = {NULL};
    run_backward(run, grad_in, gradcheck_write, no_param);
    for (int i = 0; i < run->call.input_count; i++)
        expect_same_bits(label, "a gradient in place", grad_in[i], run->grad_in[i],
                         run->in_size[i]);
    for (int i = 1; i < run->call.input_count; i++) tl_free(run->ctx, grad_in[i]);
    run->call.out.data = run->in[0].data;
    run_forward(run, NULL, NULL, false);
    run->call.out.data = run->out;
    expect_same_bits(label, "forward in place", run->in[0].data, run->out, run->out_size);
}

static inline void check_view(op_run *run, const char *label) {
    if (!(run->op->flags & TL_OP_VIEW)) return;
    if ((run->op->flags & TL_OP_RANDOM) && run->call.training) return;
    run_forward(run, NULL, NULL, false);
    expect_same_bits(label, "a view", run->in[0].data, run->out, run->out_size);
}

static inline void expect_near(const char *label, const char *what, const float *found,
                               const float *expected, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(found[i] - expected[i]) <= 2e-5f * (1 + fabsf(expected[i]))))
            fail_msg("%s: %s[%lld] is %g, expected %g", label, what, (long long)i, (double)found[i],
                     (double)expected[i]);
}

/* op->affine: the same as forward without training. */
static inline void check_affine(op_run *run, const char *label) {
    if (!run->op->affine || run->call.training) return;
    int64_t c = run->shapes.out.dim[run->shapes.out.rank - 1];
    float *scale = run_floats(run, c), *shift = run_floats(run, c);
    float *expected = run_floats(run, run->out_size);
    run->op->affine(&run->call, scale, shift);
    const float *x = run->in[0].data;
    for (int64_t i = 0; i < run->out_size; i++) expected[i] = x[i] * scale[i % c] + shift[i % c];
    run_forward(run, NULL, NULL, false);
    expect_near(label, "output", run->out, expected, run->out_size);
    tl_free(run->ctx, scale);
    tl_free(run->ctx, shift);
    tl_free(run->ctx, expected);
}

/* TL_OP_EPILOGUE: act(scale * (out without bias) + bias + residual). */
static inline void check_epilogue(op_run *run, const char *label) {
    if (!(run->op->flags & TL_OP_EPILOGUE)) return;
    int64_t c = run->shapes.out.dim[run->shapes.out.rank - 1];
    float *scale = run_floats(run, c), *bias = run_floats(run, c);
    float *residual = run_floats(run, run->out_size), *expected = run_floats(run, run->out_size);
    uint64_t state = 99;
    fill_values(VALUES_ANY, scale, c, &state);
    fill_values(VALUES_ANY, bias, c, &state);
    fill_values(VALUES_ANY, residual, run->out_size, &state);
    const float *own = run->shapes.param_count > 1 ? run->param[1] : NULL;
    for (int act = TL_ACT_NONE; act <= TL_ACT_RELU6; act++) {
        run_forward(run, NULL, NULL, false);
        for (int64_t i = 0; i < run->out_size; i++) {
            float plain = run->out[i] - (own ? own[i % c] : 0);
            float value = plain * scale[i % c] + bias[i % c] + residual[i];
            if (act != TL_ACT_NONE && value < 0) value = 0;
            expected[i] = act == TL_ACT_RELU6 && value > 6 ? 6 : value;
        }
        tl_epilogue epilogue = {.bias = bias, .residual = residual, .act = (tl_act)act};
        run_forward(run, scale, &epilogue, false);
        expect_near(label, "output with epilogue", run->out, expected, run->out_size);
    }
    tl_free(run->ctx, scale);
    tl_free(run->ctx, bias);
    tl_free(run->ctx, residual);
    tl_free(run->ctx, expected);
}

/* A smaller batch wants no more memory, and the same packed parameters. */
static inline void check_memory(op_run *run, const char *label) {
    if (!run->op->memory) return;
    tl_op_call call = run->call;
    tl_view in[GRADCHECK_INPUTS];
    memcpy(in, run->in, sizeof in);
    call.in = in;
    tl_op_memory last = run->memory;
    for (int64_t batch = run->shapes.out.dim[0] - 1; batch > 0; batch--) {
        for (int i = 0; i < call.input_count; i++) in[i].shape.dim[0] = batch;
        call.out.shape.dim[0] = batch;
        tl_op_memory memory = {0};
        run->op->memory(&call, &memory);
        if (memory.saved > last.saved || memory.work_forward > last.work_forward ||
            memory.work_backward > last.work_backward || memory.packed != last.packed)
            fail_msg("%s: memory for a batch of %lld is not within that of the next larger", label,
                     (long long)batch);
        last = memory;
    }
}

static inline void gradcheck_label(const gradcheck_case *test, char *label, size_t size) {
    char shape[TL_SHAPE_TEXT];
    snprintf(label, size, "%s %s on %d x %s%s", test->op, test->attrs ? test->attrs : "",
             test->input_count, tl_shape_text(&test->in[0], shape),
             test->training ? ", training" : "");
}

/* Everything above for one case. */
static inline void gradcheck(tl_context *ctx, const gradcheck_case *test) {
    char label[256];
    gradcheck_label(test, label, sizeof label);
    op_run run;
    run_create(&run, ctx, test);
    check_finite_differences(&run, label);
    check_adding(&run, label);
    check_unwanted(&run, label);
    check_view(&run, label);
    check_affine(&run, label);
    check_epilogue(&run, label);
    check_memory(&run, label);
    check_in_place(&run, label);
    run_free(&run);
}

/* The same bits from contexts of one and of several threads. */
static inline void check_threads(tl_context *one, tl_context *several, const gradcheck_case *test) {
    char label[256];
    gradcheck_label(test, label, sizeof label);
    op_run run[2];
    for (int k = 0; k < 2; k++) {
        run_create(&run[k], k ? several : one, test);
        run_forward(&run[k], NULL, NULL, true);
        for (int i = 0; i < run[k].shapes.param_count; i++)
            if (run[k].grad_param[i]) fill_constant(run[k].grad_param[i], run[k].param_size[i], 0);
        run_backward(&run[k], run[k].grad_in, gradcheck_write, run[k].grad_param);
    }
    expect_same_bits(label, "the output", run[0].out, run[1].out, run[0].out_size);
    for (int i = 0; i < test->input_count; i++)
        expect_same_bits(label, "an input's gradient", run[0].grad_in[i], run[1].grad_in[i],
                         run[0].in_size[i]);
    for (int i = 0; i < run[0].shapes.param_count; i++) {
        expect_same_bits(label, "a parameter", run[0].param[i], run[1].param[i],
                         run[0].param_size[i]);
        if (run[0].grad_param[i])
            expect_same_bits(label, "a parameter's gradient", run[0].grad_param[i],
                             run[1].grad_param[i], run[0].param_size[i]);
    }
    run_free(&run[0]);
    run_free(&run[1]);
}

#endif
