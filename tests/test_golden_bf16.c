/* One training step in bf16 beside PyTorch's by autocast, both measured against PyTorch's in float
 * (golden/make_backbones.py): ours must not be further off than PyTorch's own rounding, with room
 * for chance. */
#include "golden_network.h"

#include "golden/backbones.h"
#include "golden/backbones_bf16.h"

/* The step in float of the same case. */
static const golden_backbone *exact_of(const golden_backbone *rounded) {
    for (size_t i = 0; i < sizeof golden_pytorch / sizeof *golden_pytorch; i++) {
        const golden_backbone *g = &golden_pytorch[i];
        if (strcmp(g->name, rounded->name) == 0 && strcmp(g->scheme, rounded->scheme) == 0 &&
            g->batch == rounded->batch && g->height == rounded->height &&
            g->classes == rounded->classes)
            return g;
    }
    fail_msg("%s: no such case in float", rounded->name);
    return NULL;
}

/* Root of the mean, over groups of values, of a group's squared errors relative to its values. */
typedef struct distance {
    double sum;
    int groups;
} distance;

static void distance_add(distance *d, const double *got, const double *want, int count) {
    double errors = 0, values = 0;
    for (int i = 0; i < count; i++) {
        errors += (got[i] - want[i]) * (got[i] - want[i]);
        values += want[i] * want[i];
    }
    if (values == 0) return; /* of a filter that no picture reaches */
    d->sum += errors / values;
    d->groups++;
}

static double distance_of(const distance *d) {
    return sqrt(d->sum / d->groups);
}

/* A step's first and last logits, and the first values of some gradients. */
static golden_backbone run_step(tl_model *model, const golden_backbone *g, const tl_tensor *input) {
    golden_backbone ours = *g;
    tl_plan_options options = {.to = tl_graph_logits(model->graph),
                               .input = tl_tensor_get_shape(input),
                               .dtype = TL_BF16,
                               .training = true,
                               .batch_norm_training = g->batch_norm_training};
    tl_plan *plan = NULL;
    assert_ok(tl_plan_create(model->graph, &options, &plan));
    assert_ok(tl_plan_forward(plan, tl_tensor_const_f32(input), g->batch, 0, true));
    tl_view logits = tl_plan_output(plan);
    const float *value = logits.data;
    int64_t count = tl_shape_count(&logits.shape);
    for (int i = 0; i < GOLDEN_ANSWERS; i++) {
        ours.first[i] = (double)value[i];
        ours.last[i] = (double)value[count - GOLDEN_ANSWERS + i];
    }
    float *gradient = malloc((size_t)count * sizeof *gradient);
    cross_entropy(value, g->batch, (int)(count / g->batch), gradient);
    tl_plan_zero_gradients(plan);
    assert_ok(tl_plan_backward(plan, gradient));
    free(gradient);
    const float *gradients = tl_plan_gradients(plan, &count);
    for (golden_param *p = ours.gradient; p->name; p++) {
        int param = tl_graph_find_param(model->graph, p->name);
        assert_true(param >= 0);
        for (int i = 0; i < GOLDEN_GRADIENTS; i++)
            p->value[i] = (double)gradients[tl_plan_gradient_offset(plan, param) + i];
    }
    tl_plan_free(plan);
    return ours;
}

static void measure(const golden_backbone *got, const golden_backbone *want, distance d[2]) {
    distance_add(&d[0], got->first, want->first, GOLDEN_ANSWERS);
    distance_add(&d[0], got->last, want->last, GOLDEN_ANSWERS);
    for (int i = 0; want->gradient[i].name; i++)
        distance_add(&d[1], got->gradient[i].value, want->gradient[i].value, GOLDEN_GRADIENTS);
}

static void check_step(tl_context *ctx, const golden_backbone *g) {
    tl_model *model = load_seeded(ctx, g->name, g->scheme, g->classes, g->gamma);
    tl_tensor *input = make_input(ctx, g->batch, g->height, g->width);
    golden_backbone ours = run_step(model, g, input);
    const golden_backbone *exact = exact_of(g);
    distance mine[2] = {{0}}, theirs[2] = {{0}};
    measure(&ours, exact, mine);
    measure(g, exact, theirs);
    print_message("%s: logits %.2g from float's, PyTorch %.2g; gradients %.2g, PyTorch %.2g\n",
                  g->name, distance_of(&mine[0]), distance_of(&theirs[0]), distance_of(&mine[1]),
                  distance_of(&theirs[1]));
    for (int i = 0; i < 2; i++) {
        if (!(distance_of(&mine[i]) <= 2 * distance_of(&theirs[i])))
            fail_msg("%s: %s in bf16 are further from float's than PyTorch's are", g->name,
                     i ? "gradients" : "logits");
    }
    tl_tensor_free(input);
    tl_model_free(model);
}

static void test_steps_are_as_close_as_pytorch(void **state) {
    (void)state;
    tl_context *ctx = make_context(2, NULL);
    if (tl_context_check_dtype(ctx, TL_BF16) != TL_OK) {
        print_message("%s\n", tl_last_error());
        tl_context_free(ctx);
        skip();
    }
    for (size_t i = 0; i < sizeof golden_bf16 / sizeof *golden_bf16; i++)
        check_step(ctx, &golden_bf16[i]);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_are_as_close_as_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
