/* The reference kernels, one by one: other instruction sets take from here what they have not
 * (yet) vectorised. Contracts stand in kernels.h. */
#ifndef TL_KERNELS_REF_H
#define TL_KERNELS_REF_H

#include "kernels.h"

enum { TL_REF_MR = 4, TL_REF_NR = 16, TL_REF_NR_NARROW = 8 };

/* Matrix multiplication (gemm.c), depthwise (depthwise.c) and Winograd (winograd.c) convolution. */
void tl_ref_gemm_tile(const tl_gemm_tile *tile, int64_t rows, int columns);
/* group_rows() and group_floats() where a group is one float. */
void tl_ref_group_rows(const void *const *rows, int64_t from, int64_t groups, int64_t n, void *y,
                       int64_t y_step);
void tl_ref_group_floats(const float *x, int64_t x_step, int64_t count, void *y, int64_t n);
void tl_ref_gemm_nothing(void); /* gemm_begin() and gemm_end() where no register is set up */
void tl_ref_depthwise_row(const tl_depthwise_row *row);
void tl_ref_depthwise_grad(const tl_depthwise_grad *grad);
void tl_ref_winograd_input(const tl_winograd_input *tile);
void tl_ref_winograd_output(const tl_winograd_output *tile);
void tl_ref_winograd_weights(const tl_winograd_weights *plane);
void tl_ref_winograd_gradient(const tl_winograd_input *tile);
void tl_ref_winograd_filter(const tl_winograd_filter *tile);

/* Between the types (bf16.c). */
void tl_ref_widen(const void *x, float *y, int64_t n);
void tl_ref_narrow(const float *x, void *y, int64_t n);

/* Element-wise (elementwise.c). */
float tl_ref_act(tl_act act, float x); /* one value; what every epilogue computes */
void tl_ref_act_forward(tl_act act, const void *x, void *y, int64_t n);
void tl_ref_act_backward(tl_act act, const void *v, const void *dy, bool add, void *dx, int64_t n);
void tl_ref_add(const void *a, const void *b, void *y, int64_t n);
void tl_ref_mul(const void *a, const void *b, void *y, int64_t n);
void tl_ref_scale_shift(const void *x, const float *scale, const float *shift, const void *residual,
                        tl_act act, void *y, int64_t rows, int64_t c);
void tl_ref_moments(const void *x, double *sum, double *sum2, int64_t rows, int64_t c);
void tl_ref_moments_backward(const tl_slopes *slopes, const float *center, double *sum,
                             double *sum_x, int64_t rows, int64_t c);
void tl_ref_affine3(const tl_slopes *slopes, const float *a, const float *b, const float *d,
                    bool add, void *dx, int64_t rows, int64_t c);

void tl_ref_row_sums(const void *x, int64_t x_step, double *sum, int64_t rows, int64_t c);

/* Pooling (pool.c). */
void tl_ref_max_pool(const tl_pool_row *row, const void *x, void *y, uint8_t *winner);
void tl_ref_max_pool_backward(const tl_pool_row *row, const uint8_t *winner, const void *dy,
                              void *dx);
void tl_ref_avg_pool(const tl_pool_row *row, const void *x, void *y);
void tl_ref_avg_pool_backward(const tl_pool_row *row, const void *dy, void *dx);

/* Softmax (softmax.c). */
void tl_ref_softmax(const void *x, void *y, int64_t n);
void tl_ref_softmax_backward(const void *y, const void *dy, bool add, void *dx, int64_t n);

/* Pictures (picture.c). */
void tl_ref_resample_pixel(const tl_resample_axis *axis, int i, const uint8_t *in, uint8_t *out);
void tl_ref_resample_row(const tl_resample_axis *axis, const uint8_t *in, int in_pixels,
                         uint8_t *out);
void tl_ref_resample_column(const tl_resample_axis *axis, int i, const uint8_t *in, int64_t n,
                            uint8_t *out);
void tl_ref_normalize(const uint8_t *x, bool swap, const float mean[3], const float std[3],
                      float *y, int64_t pixels);

/* Optimisers (optimizer.c). */
void tl_ref_sgd(const tl_update *u, float *w, const float *g, float *velocity, int64_t n);
void tl_ref_adam(const tl_update *u, float *w, const float *g, float *m, float *v, int64_t n);
void tl_ref_rmsprop(const tl_update *u, float *w, const float *g, float *v, float *mean,
                    float *velocity, int64_t n);

extern const struct tl_kernels tl_kernels_ref;

#endif
