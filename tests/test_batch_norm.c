/* Batch normalisation in training against two passes in float64, on every instruction set: values
 * up to a thousand deviations from zero, as a badly scaled input makes them. */
#include "kernelcheck.h"

typedef struct bn_case {
    int64_t n, size, c; /* [n, size, size, c] */
} bn_case;

/* The exact answers for one channel. */
typedef struct bn_channel {
    double mean, variance, inverse, dgamma, dbeta;
} bn_channel;

enum { ROWS_SEED = 7 };
static const double epsilon = 1e-5;

static tl_tensor *make_tensor(tl_context *ctx, const bn_case *t) {
    const int64_t dims[] = {t->n, t->size, t->size, t->c};
    tl_tensor *tensor = NULL;
    assert_ok(tl_tensor_create(ctx, TL_F32, 4, dims, &tensor));
    return tensor;
}

/* Channel i lies 10^(i % 4) - 1 deviations from zero; the deviation is about 0.6. */
static double offset_of(int64_t channel) {
    return 0.6 * (pow(10.0, (double)(channel % 4)) - 1.0);
}

static bn_channel exact_channel(const float *x, const float *dy, int64_t rows, int64_t c) {
    bn_channel e = {0};
    for (int64_t r = 0; r < rows; r++) e.mean += (double)x[r * c] / (double)rows;
    for (int64_t r = 0; r < rows; r++)
        e.variance += pow((double)x[r * c] - e.mean, 2.0) / (double)rows;
    e.inverse = 1.0 / sqrt(e.variance + epsilon);
    for (int64_t r = 0; r < rows; r++) {
        e.dbeta += (double)dy[r * c];
        e.dgamma += (double)dy[r * c] * ((double)x[r * c] - e.mean) * e.inverse;
    }
    return e;
}

/* How many deviations the values lie from zero at most: they spread by 1 to both sides. */
static double far_of(const bn_channel *e) {
    return (fabs(e->mean) + 2.0) * e->inverse;
}

/* gamma is 1.5, beta 0.25. y = x scale + shift: x itself and the shift are rounded, each by half a
 * unit of what lies `far` deviations from zero. */
static void compare_channel(worst *w, const float *x, const float *dy, const float *y,
                            const float *dx, int64_t rows, int64_t c) {
    bn_channel e = exact_channel(x, dy, rows, c);
    double unit = 0x1p-24, n = (double)rows, far = far_of(&e);
    /* The terms of dx: of dy, and of x, which is far from zero, times little. The mean in dgamma is
     * rounded, too. */
    double slope = 4.0 * 1.5 * e.inverse * (1.0 + far * (fabs(e.dgamma) + fabs(e.dbeta)) / n);
    for (int64_t r = 0; r < rows; r++) {
        double u = ((double)x[r * c] - e.mean) * e.inverse;
        worst_compare(w, (double)y[r * c], 1.5 * u + 0.25, unit * (1.5 * 3.0 * far + 8.0));
        double want = 1.5 * e.inverse * ((double)dy[r * c] - e.dbeta / n - u * e.dgamma / n);
        worst_compare(w, (double)dx[r * c], want, unit * slope);
    }
}

static void compare_layer(worst *w, tl_layer *layer, const bn_case *t, const float *x,
                          const float *dy, const float *y, const float *dx) {
    int64_t rows = t->n * t->size * t->size;
    for (int64_t i = 0; i < t->c; i++) {
        compare_channel(w, x + i, dy + i, y + i, dx + i, rows, t->c);
        bn_channel e = exact_channel(x + i, dy + i, rows, t->c);
        double far = far_of(&e);
        double unit = 0x1p-24, sum = (double)rows;
        const double want[4] = {e.dgamma, e.dbeta, 0.1 * e.mean,
                                0.9 + 0.1 * e.variance * sum / (sum - 1.0)};
        const double bound[4] = {unit * (fabs(e.dgamma) + fabs(e.dbeta) * far + 1.0),
                                 unit * (fabs(e.dbeta) + 1.0), unit * (fabs(e.mean) + 1.0), unit};
        for (int p = 0; p < 4; p++) {
            const tl_tensor *got = p < 2 ? tl_layer_grad(layer, p) : tl_layer_param(layer, p);
            worst_compare(w, (double)((const float *)tl_tensor_const_data(got))[i], want[p],
                          bound[p]);
        }
    }
}

static void set_param(tl_layer *layer, int index, float value, int64_t c) {
    float *p = tl_tensor_data(tl_layer_param(layer, index));
    for (int64_t i = 0; i < c; i++) p[i] = value;
}

static void check_case(tl_context *ctx, const bn_case *t, worst *w) {
    tl_tensor *x = make_tensor(ctx, t), *dy = make_tensor(ctx, t);
    float *xs = tl_tensor_data(x), *dys = tl_tensor_data(dy);
    uint64_t seed = ROWS_SEED;
    for (int64_t i = 0; i < t->n * t->size * t->size * t->c; i++) {
        xs[i] = (float)(offset_of(i % t->c) + (double)support_random(&seed));
        dys[i] = support_random(&seed);
    }
    tl_layer *layer = NULL;
    const int64_t dims[] = {t->n, t->size, t->size, t->c};
    assert_ok(tl_layer_create(ctx, "batch_norm", "momentum=0.9 epsilon=1e-5", 1, (int[]){4}, dims,
                              1, &layer));
    set_param(layer, 0, 1.5f, t->c);
    set_param(layer, 1, 0.25f, t->c);
    const tl_tensor *in = x, *out = NULL, *grad = NULL;
    assert_ok(tl_layer_forward(layer, &in, true, &out));
    assert_ok(tl_layer_backward(layer, dy, &grad));
    compare_layer(w, layer, t, xs, dys, tl_tensor_const_data(out), tl_tensor_const_data(grad));
    tl_layer_free(layer);
    tl_tensor_free(x);
    tl_tensor_free(dy);
}

static void check_training(const struct tl_kernels *kernels, uint64_t *seed, worst *w) {
    (void)seed;
    static const bn_case cases[] = {{16, 9, 37}, {3, 1, 5}, {5, 13, 130}, {2, 40, 64}, {4, 30, 16}};
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.isa = kernels->name;
    options.threads = 2;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(ctx, &cases[i], w);
    tl_context_free(ctx);
}

static void test_training(void **state) {
    (void)state;
    check_tables("batch norm, training", check_training, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
