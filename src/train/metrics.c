/* Measures of a classifier, all taken from its confusion matrix. Definitions and the treatment of
 * 0/0 follow scikit-learn's precision_recall_fscore_support(labels=range(classes),
 * zero_division=0). */
#include <tl/train.h>

#include <float.h>
#include <math.h>

#include "base/context.h"

struct tl_evaluation {
    tl_context *ctx;
    int classes;
    int64_t count, correct;
    double loss;
    int64_t *confusion; /* [truth][answer] */
};

static int64_t *cell(const tl_evaluation *e, int truth, int answer) {
    return &e->confusion[(int64_t)truth * e->classes + answer];
}

/* --- making ------------------------------------------------------------------------------- */

/* The first of the largest, as numpy.argmax; -1 when a value is not finite. */
static int likeliest(const float *p, int classes) {
    int best = 0;
    for (int i = 0; i < classes; i++) {
        if (!isfinite(p[i])) return -1;
        if (p[i] > p[best]) best = i;
    }
    return best;
}

static tl_status add_answers(tl_evaluation *e, const float *probabilities, const int32_t *labels) {
    double sum = 0;
    for (int64_t i = 0; i < e->count; i++) {
        const float *p = probabilities + i * e->classes;
        int32_t truth = labels[i];
        TL_CHECK(truth >= 0 && truth < e->classes, TL_INVALID_ARGUMENT,
                 "evaluation: label %lld is %d, expected 0 to %d", (long long)i, (int)truth,
                 e->classes - 1);
        int answer = likeliest(p, e->classes);
        TL_CHECK(answer >= 0, TL_DIVERGED, "evaluation: a probability of answer %lld is not finite",
                 (long long)i);
        (*cell(e, truth, answer))++;
        e->correct += answer == truth;
        /* A probability that underflowed to 0 costs as much as the smallest float. */
        sum -= log(fmax((double)p[truth], FLT_MIN));
    }
    e->loss = sum / (double)e->count;
    return TL_OK;
}

tl_status tl_evaluation_create(tl_context *ctx, int classes, int64_t count,
                               const float *probabilities, const int32_t *labels,
                               tl_evaluation **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_evaluation_create: out is NULL");
    *out = NULL;
    TL_CHECK(ctx && probabilities && labels, TL_INVALID_ARGUMENT,
             "tl_evaluation_create: ctx, probabilities or labels is NULL");
    TL_CHECK(classes >= 1 && classes <= 65536, TL_INVALID_ARGUMENT,
             "tl_evaluation_create: classes is %d, expected 1 to 65536", classes);
    TL_CHECK(count >= 1, TL_INVALID_ARGUMENT,
             "tl_evaluation_create: count is %lld, expected at least 1", (long long)count);
    tl_evaluation *e = tl_alloc_zero(ctx, sizeof *e);
    TL_CHECK_MEMORY(e);
    *e = (tl_evaluation){.ctx = ctx, .classes = classes, .count = count};
    size_t cells = (size_t)classes * (size_t)classes;
    e->confusion = tl_alloc_zero(ctx, cells * sizeof *e->confusion);
    tl_status status = e->confusion ? add_answers(e, probabilities, labels) : TL_NO_MEMORY;
    if (status != TL_OK) {
        tl_evaluation_free(e);
        return status;
    }
    *out = e;
    return TL_OK;
}

void tl_evaluation_free(tl_evaluation *e) {
    if (!e) return;
    tl_free(e->ctx, e->confusion);
    tl_free(e->ctx, e);
}

/* --- reading ------------------------------------------------------------------------------ */

int64_t tl_evaluation_count(const tl_evaluation *e) {
    return e ? e->count : 0;
}

double tl_evaluation_loss(const tl_evaluation *e) {
    return e ? e->loss : 0;
}

static double ratio(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

double tl_evaluation_accuracy(const tl_evaluation *e) {
    return e ? ratio((double)e->correct, (double)e->count) : 0;
}

static bool is_class(const tl_evaluation *e, int index) {
    return e && index >= 0 && index < e->classes;
}

int64_t tl_evaluation_confusion(const tl_evaluation *e, int truth, int answer) {
    return is_class(e, truth) && is_class(e, answer) ? *cell(e, truth, answer) : 0;
}

int64_t tl_evaluation_support(const tl_evaluation *e, int index) {
    int64_t sum = 0;
    for (int i = 0; is_class(e, i); i++) sum += tl_evaluation_confusion(e, index, i);
    return sum;
}

static int64_t answered(const tl_evaluation *e, int index) {
    int64_t sum = 0;
    for (int i = 0; is_class(e, i); i++) sum += tl_evaluation_confusion(e, i, index);
    return sum;
}

double tl_evaluation_precision(const tl_evaluation *e, int index) {
    return ratio((double)tl_evaluation_confusion(e, index, index), (double)answered(e, index));
}

double tl_evaluation_recall(const tl_evaluation *e, int index) {
    return ratio((double)tl_evaluation_confusion(e, index, index),
                 (double)tl_evaluation_support(e, index));
}

double tl_evaluation_f1(const tl_evaluation *e, int index) {
    double hits = (double)tl_evaluation_confusion(e, index, index);
    return ratio(2 * hits, (double)(answered(e, index) + tl_evaluation_support(e, index)));
}

static double average(const tl_evaluation *e, bool by_support, double *precision, double *recall) {
    double p = 0, r = 0, f1 = 0, total = 0;
    for (int i = 0; is_class(e, i); i++) {
        double weight = by_support ? (double)tl_evaluation_support(e, i) : 1;
        p += weight * tl_evaluation_precision(e, i);
        r += weight * tl_evaluation_recall(e, i);
        f1 += weight * tl_evaluation_f1(e, i);
        total += weight;
    }
    if (precision) *precision = ratio(p, total);
    if (recall) *recall = ratio(r, total);
    return ratio(f1, total);
}

double tl_evaluation_macro(const tl_evaluation *e, double *precision, double *recall) {
    return average(e, false, precision, recall);
}

double tl_evaluation_weighted(const tl_evaluation *e, double *precision, double *recall) {
    return average(e, true, precision, recall);
}
