/* Sums over rows of channels, for what is learned or measured per channel. Rows are cut into parts
 * by their number alone, whose sums are added up in order. */
#ifndef TL_LAYER_ROW_SUMS_H
#define TL_LAYER_ROW_SUMS_H

#include "layer/op.h"

/* Bytes of scratch for sums over rows of `channels`. */
size_t tl_row_sums_size(int64_t channels);
/* Into sums[0 .. C-1] and sums[C .. 2C-1], the beginning of the scratch:
 *   with dy     the sums of dy and of dy (x - center);
 *   without dy  the sums of x and of x squared. */
void tl_row_sums(const tl_op_call *call, const void *x, const void *dy, const float *center,
                 int64_t rows, int64_t channels, double *sums);
/* Adds the sums of each of the parts [parts][2][C] to those of the first. */
void tl_add_row_sums(double *sums, int64_t parts, int64_t channels);

#endif
