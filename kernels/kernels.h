/* Kernels: the innermost loops, one table of function pointers per instruction set. This is the
 * lowest layer: it knows plain memory and nothing of the library. Folder ref is the
 * specification: plain C, no fast-math; tests/kernelcheck holds every other folder against it.
 * The drivers that cut a job into blocks and threads are in src/compute. */
#ifndef TL_KERNELS_H
#define TL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Activations that an epilogue can apply. */
typedef enum tl_act {
    TL_ACT_NONE,
    TL_ACT_RELU,
    TL_ACT_RELU6,
    TL_ACT_SIGMOID,
    TL_ACT_SILU,
    TL_ACT_HARD_SWISH
} tl_act;

/* --- the table ------------------------------------------------------------------------------ */

/* Settings of one optimiser update over a flat range; see src/train/optimizer.c for the rules. */
typedef struct tl_update {
    float lr;           /* learning rate, corrections included where the rule has them */
    float momentum;     /* SGD, RMSprop */
    float beta1, beta2; /* Adam; RMSprop keeps its decay in beta2 */
    float epsilon;
    float decay;        /* coupled weight decay, added to the gradient */
    float shrink;       /* decoupled weight decay: w *= 1 - shrink before the step */
    float correction2;  /* PyTorch Adam: sqrt(1 - beta2^t) divides sqrt(v) before epsilon */
    bool nesterov;
    bool keras;         /* Keras's form where the two frameworks differ */
    bool centered;      /* RMSprop */
} tl_update;

struct tl_kernels {
    const char *name; /* "ref", "avx2", "avx512" */

    /* Matrix multiplication: mr x nr is the register tile of the batch-reduce micro-kernel that
     * all of src/compute is built around; its contract stands at its type. */
    int mr, nr;
    const struct tl_gemm_kernels *gemm;

    /* Element-wise, n floats; y may be x. */
    void (*act_forward)(tl_act act, const float *x, float *y, int64_t n);
    /* dx = (or += when add) dy * act'(x). For RELU, RELU6 and SIGMOID `v` is the output, for
     * SILU and HARD_SWISH the input. */
    void (*act_backward)(tl_act act, const float *v, const float *dy, bool add, float *dx,
                         int64_t n);
    void (*add)(const float *a, const float *b, float *y, int64_t n);
    void (*mul)(const float *a, const float *b, float *y, int64_t n);
    /* y += a * b */
    void (*mul_add)(const float *a, const float *b, float *y, int64_t n);

    /* Rows of c channels: y = act(x * scale[c] + shift[c]). */
    void (*scale_shift)(const float *x, const float *scale, const float *shift, tl_act act,
                        float *y, int64_t rows, int64_t c);
    /* sum[c] += x, sum2[c] += (x - center[c])^2 in float64; center may be NULL for 0. */
    void (*moments)(const float *x, const float *center, double *sum, double *sum2, int64_t rows,
                    int64_t c);
    /* sum_dy[c] += dy, sum_dy_x[c] += dy * (x - center[c]) in float64. */
    void (*moments_backward)(const float *x, const float *dy, const float *center, double *sum_dy,
                             double *sum_dy_x, int64_t rows, int64_t c);
    /* dx = (or += when add) dy * a[c] + x * b[c] + d[c]. */
    void (*affine3)(const float *dy, const float *x, const float *a, const float *b,
                    const float *d, bool add, float *dx, int64_t rows, int64_t c);

    /* Optimiser updates over n weights w with gradients g and their state. */
    void (*sgd)(const tl_update *u, float *w, const float *g, float *velocity, int64_t n);
    void (*adam)(const tl_update *u, float *w, const float *g, float *m, float *v, int64_t n);
    void (*rmsprop)(const tl_update *u, float *w, const float *g, float *v, float *mean,
                    float *velocity, int64_t n);
};

/* The table for an instruction set by name; NULL when this build or machine has none such. */
const struct tl_kernels *tl_kernels_find(const char *name);
/* The tables this build and machine offer, lowest first; returns how many. */
int tl_kernels_available(const struct tl_kernels **tables, int capacity);

#endif
