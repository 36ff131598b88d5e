#include "train/loss.h"

#include <math.h>
#include <stddef.h>

#include "base/float_state.h"

int tl_loss_units(const tl_loss *loss) {
    return loss->kind == TL_LOSS_SIGMOID ? 1 : loss->classes;
}

static int largest(const float *values, int count) {
    int best = 0;
    for (int i = 1; i < count; i++)
        if (values[i] > values[best]) best = i;
    return best;
}

/* log(sum(exp(z))) is taken after subtracting the maximum, so that it never overflows; both
 * outputs follow from it, since softmax(z)_i = exp(z_i - log sum exp z). */
static double softmax_one(const float *z, int classes, int label, double scale, float *gradient,
                          float *probabilities) {
    double top = z[largest(z, classes)];
    double sum = 0;
    for (int i = 0; i < classes; i++) sum += exp((double)z[i] - top);
    double log_sum = top + log(sum);
    for (int i = 0; i < classes; i++) {
        double p = exp((double)z[i] - log_sum);
        if (gradient) gradient[i] = (float)((p - (i == label ? 1.0 : 0.0)) * scale);
        if (probabilities) probabilities[i] = (float)p;
    }
    return log_sum - (double)z[label];
}

/* max(z, 0) - z y + log(1 + exp(-|z|)): the form that neither overflows nor loses digits, as in
 * TensorFlow's sigmoid_cross_entropy_with_logits. */
static double sigmoid_one(float logit, int label, double scale, float *gradient,
                          float *probabilities) {
    double z = (double)logit;
    double small = exp(-fabs(z));
    double away = small / (1 + small), near = 1 / (1 + small);
    double p = z >= 0 ? near : away;
    if (gradient) *gradient = (float)((p - label) * scale);
    if (probabilities) {
        probabilities[0] = (float)(z >= 0 ? away : near);
        probabilities[1] = (float)p;
    }
    return fmax(z, 0) - z * label + log1p(small);
}

tl_loss_result tl_loss_compute(const tl_loss *loss, const float *logits, const int32_t *labels,
                               int64_t n, float *gradient, float *probabilities) {
    TL_FLOAT_SCOPE;
    tl_loss_result result = {0, 0};
    int units = tl_loss_units(loss);
    double scale = 1.0 / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const float *z = logits + i * units;
        float *dz = gradient ? gradient + i * units : NULL;
        float *p = probabilities ? probabilities + i * loss->classes : NULL;
        int answer;
        if (loss->kind == TL_LOSS_SIGMOID) {
            result.sum += sigmoid_one(*z, labels[i], scale, dz, p);
            answer = *z > 0 ? 1 : 0;
        } else {
            result.sum += softmax_one(z, loss->classes, labels[i], scale, dz, p);
            answer = largest(z, loss->classes);
        }
        result.correct += answer == labels[i];
    }
    return result;
}
