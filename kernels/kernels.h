/* Kernels: the innermost loops, one table of function pointers per instruction set. This is the
 * lowest layer: it knows plain memory and nothing of the library. Folder ref is the
 * specification: plain C, no fast-math; tests/kernelcheck holds every other folder against it.
 * The drivers that cut a job into blocks and threads are in src/compute.
 *
 * A table works on activations of one type, its element: float or bf16 (the upper half of a float,
 * as uint16_t). They are behind pointers to void; strides count elements. What is behind a pointer
 * to float is a float in every table: weights of depthwise rows, biases, coefficients, gradients
 * of weights, optimiser state. Arithmetic is in float throughout; an element that is stored is
 * rounded to nearest even. */
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
    TL_ACT_HARD_SWISH,
    TL_ACT_HARD_SIGMOID, /* slope 1/6, offset 0.5: MobileNetV3, PyTorch */
    TL_ACT_GELU          /* with the error function, not its approximation by tanh */
} tl_act;

/* Whether its slope is taken from its output; otherwise it is from its input. */
static inline bool tl_act_keeps_output(tl_act act) {
    return act == TL_ACT_RELU || act == TL_ACT_RELU6 || act == TL_ACT_SIGMOID ||
           act == TL_ACT_HARD_SIGMOID;
}

/* Whether its slope is 1 where its input, or output, lies between two bounds and 0 elsewhere. */
static inline bool tl_act_clips(tl_act act) {
    return act == TL_ACT_NONE || act == TL_ACT_RELU || act == TL_ACT_RELU6;
}

/* --- matrix multiplication ------------------------------------------------------------------- */

/* A column of register tiles of a batch-reduce matrix multiplication (Georganas et al.,
 * "High-Performance Deep Learning via a Single Building Block", arXiv 1906.06440):
 *     C[rows x columns] (+)= sum over r < taps of A_r[rows x k] * B_r[k x columns]
 * Rows of A are given by pointers, so that a convolution reads its input where it lies; rows of
 * C by offsets, so that it writes every second pixel as easily as neighbours. Where rows are evenly
 * spaced one pointer does for any number of them. Each element is summed in the order of r and k by
 * itself: cutting C into tiles differently changes no bit.
 * Values of k are taken in groups of the table's `group`, which lie next to each other in A and B:
 * 1 of float, 2 of bf16, whose instructions multiply and add pairs. */
typedef struct tl_gemm_tile {
    int64_t taps, k;
    const void *const *a;  /* [taps][table's mr] rows; only the first `rows` of a tap are read */
    int64_t a_row;         /* from row to row in every tap, when that is the same for all: then only
                              a tap's first pointer is read, and rows may be more than mr. 0
                              otherwise */
    int64_t a_offset;      /* added to every pointer in a */
    int64_t a_step;        /* from one group of k to the next; a row's length, times the group, when
                              A is transposed */
    const void *b;         /* column j of B_r[k] lies at
                              b + r * b_tap + k / group * b_step + j * group + k % group */
    int64_t b_tap, b_step; /* columns are read up to the next multiple of the table's nr_narrow,
                              or of nr when there are more than nr_narrow; an unfinished last group
                              is filled up with zeros */
    void *c;
    bool c_float;         /* c and residual hold floats, whatever the table's element */
    const int64_t *c_row; /* [rows] places in c and residual; NULL: row i is at i * c_apart */
    int64_t c_apart;
    int64_t c_offset;     /* added to every place */
    bool accumulate;      /* add to what C holds */
    const float *bias;    /* [columns] or NULL */
    const void *residual; /* as c, or NULL */
    tl_act act;           /* after bias and residual */
    bool fetch_added; /* what C holds, or the residual, is far: fetch it before a tile's products */
    const void *next; /* from here on the first tile fetches 64 bytes for each group of its
                         products into the second-level cache meanwhile; NULL for none */
    int64_t next_row; /* a tile that begins with row i fetches from i * next_row bytes later
                         on; 0: from where the tile before it ended */
} tl_gemm_tile;

/* Where row i is in c and residual. */
static inline int64_t tl_gemm_place(const tl_gemm_tile *t, int64_t i) {
    return t->c_offset + (t->c_row ? t->c_row[i] : i * t->c_apart);
}

/* Bytes from what a tile of that many rows fetches to what the next one does. */
static inline int64_t tl_gemm_fetched(const tl_gemm_tile *t, int64_t rows, int group) {
    return t->next_row ? rows * t->next_row : t->taps * ((t->k + group - 1) / group) * 64;
}

/* Moves on past the first rows, but for `next`. */
static inline void tl_gemm_move(tl_gemm_tile *t, int64_t rows) {
    if (t->a_row)
        t->a_offset += rows * t->a_row;
    else
        t->a += rows;
    if (t->c_row)
        t->c_row += rows;
    else
        t->c_offset += rows * t->c_apart;
}

/* --- depthwise convolution -------------------------------------------------------------------- */

/* Neighbouring pixels of neighbouring output rows:
 *     y[r][p][c] = epilogue((y[r][p][c] +) sum over i, j of
 *                           x[r * row_step + i][first + p * step + j * tap][c] * w[i][j][c])
 * Rows of x that are NULL and columns outside [0, width) are zeros, of which nothing is read. Each
 * element is summed in the order of i and j by itself. */
typedef struct tl_depthwise_row {
    int kh, kw;
    int rows, row_step;   /* of output, at most TL_DEPTHWISE_ROWS */
    const void *const *x; /* [kh + (rows - 1) * row_step] column 0 of each input row */
    int64_t x_pixel;      /* from column to column */
    int64_t step, tap;    /* columns from pixel to pixel, from tap to tap */
    int64_t first, width;
    const float *w; /* w[i][j] lies at w + i * w_row + j * w_tap */
    int64_t w_row, w_tap;
    void *y;
    int64_t y_pixel, y_row; /* from pixel to pixel, from row to row */
    int64_t pixels, c;
    bool accumulate;
    const float *bias;    /* [c] or NULL */
    const void *residual; /* as y, elsewhere, or NULL */
    tl_act act;
} tl_depthwise_row;

enum { TL_DEPTHWISE_ROWS = 2 };

/* The gradient of the weights, from pixels of one row all of whose taps lie inside the input:
 *     dw[i][j][c] += sum over p of dy[p][c] * x[i][p * x_step + j * x_tap + c] */
typedef struct tl_depthwise_grad {
    int kh, kw;
    const void *const *x;
    int64_t x_step, x_tap;
    const void *dy;
    int64_t dy_step;
    float *dw; /* laid out as w above */
    int64_t dw_row, dw_tap;
    int64_t pixels, c;
} tl_depthwise_grad;

/* --- pooling ---------------------------------------------------------------------------------- */

/* Neighbouring pixels of one output row whose windows have the same places inside the input: kh
 * rows of kw. Place (i, j) of pixel p lies at p * x_step + i * x_row + j * x_tap. */
typedef struct tl_pool_row {
    int kh, kw;
    int64_t x_step, x_row, x_tap;
    int64_t y_step; /* from pixel to pixel, of outputs and of winners */
    int64_t pixels, c;
    /* Maximum: place (i, j) is known as first_place + i * place_row + j, less than TL_NO_PLACE. */
    int first_place, place_row;
    tl_act act; /* done on the largest: none, RELU or RELU6 */
    /* Average: what the sum is multiplied with. */
    float weight;
} tl_pool_row;
enum { TL_NO_PLACE = 255 };

/* --- gradients of normalised rows ------------------------------------------------------------- */

/* dz = dy act'(v) of rows of c channels, for an activation that clips. */
typedef struct tl_slopes {
    const void *x, *dy;
    tl_act act;
    const void *v;              /* as in act_backward; NULL: x * scale[c] + shift[c] */
    const float *scale, *shift; /* not read where v is given or nothing clips */
    void *dz;                   /* where it is stored, which may be dy; or NULL */
} tl_slopes;

/* --- pictures of 8-bit RGB -------------------------------------------------------------------- */

/* One axis of a separable resampling in fixed point. Output sample i is
 *     clip((1/2 + sum over k < used[i] of in[first[i] + k] * weight[i * width + k]) / 2^POINT). */
enum { TL_RESAMPLE_POINT = 22 };
typedef struct tl_resample_axis {
    int count; /* output samples */
    int width; /* a multiple of TL_RESAMPLE_ALIGN; weights beyond used[i] are 0 */
    int *first, *used;
    int32_t *weight;
} tl_resample_axis;
enum { TL_RESAMPLE_ALIGN = 4 };

/* --- Winograd convolution ---------------------------------------------------------- */

/* F(m, r) gives m neighbouring outputs of a filter of r taps from the m + r - 1 inputs under them,
 * by as many multiplications (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * arXiv 1509.09308): along both axes of a tile of m x m outputs or, where the filter is a line,
 * along that. There are, in the points of interpolation, which with infinity are as many as inputs:
 *
 *     F(2, 3)           both axes    0, 1, -1
 *     F(4, 3)           both, one    0, +-sqrt(1/2), +-sqrt(2), which err less than 0, +-1, +-2
 *                                    (Barabasz et al., arXiv 1803.10986)
 *     F(2, 5)           both         the same
 *     F(3, 7)           one          +-0.24, +-0.68, +-1.11, +-2.42, by search for small errors
 *
 * Points of a tile are numbered row by row. */
typedef struct tl_winograd {
    int m, r; /* m = 0: not by this method */
    int axes; /* 1 or 2 */
} tl_winograd;
enum { TL_WINOGRAD_POINTS = 36 }; /* of a tile at most */

/* side of a tile for each axis, multiplied */
static inline int tl_winograd_area(tl_winograd f, int side) {
    return f.axes == 2 ? side * side : side;
}
static inline int tl_winograd_points(tl_winograd f) {
    return tl_winograd_area(f, f.m + f.r - 1);
}

/* Products are taken of elements, like any others, and summed into floats. Where the table's group
 * of k must lie together and its values are not neighbours anyway, they are written one by one:
 * `lane` says which, 0 comes first and clears the others. */

/* v[p * v_step + channel] of point p from the inputs x[p][first + channel]; grouped,
 * v[p * v_step + channel * group + lane]. */
typedef struct tl_winograd_input {
    tl_winograd f;
    const void *const *x;    /* [points] pixels; zeros where the tile leaves the image */
    const void *const *next; /* pixels of the next call, which are fetched; or x */
    int64_t first, c;        /* of the pixels' channels */
    void *v;
    int64_t v_step;
    bool grouped;
    int lane;
} tl_winograd_input;

/* The outputs y[y_at[pixel] + channel] from the products t[p * t_step + channel]. */
typedef struct tl_winograd_output {
    tl_winograd f;
    const float *t;
    int64_t t_step, c;
    void *y;
    const int64_t *y_at; /* [area of m] offsets of pixels, negative where there is none */
    const int64_t *next; /* those of the next call, which are fetched; or y_at */
    bool accumulate;
    const float *bias;    /* [c] or NULL */
    const void *residual; /* as y, or NULL */
    tl_act act;
} tl_winograd_output;

/* v[p * v_step + filter * group + lane], of one channel, from the weights w[tap * w_tap + filter].
 */
typedef struct tl_winograd_weights {
    tl_winograd f;
    const float *w;
    int64_t w_tap;
    void *v;
    int64_t v_step, c; /* c filters */
    int lane;
} tl_winograd_weights;

/* The gradients of 3 x 3 weights, dw[tap * dw_tap + channel] +=, from the sums over all tiles
 * t[p * t_step + channel] of a transformed input times a transformed gradient of outputs. */
typedef struct tl_winograd_filter {
    tl_winograd f;
    const float *t;
    int64_t t_step, c;
    float *dw;
    int64_t dw_tap;
} tl_winograd_filter;

/* --- the table ------------------------------------------------------------------------------ */

/* Settings of one optimiser update over a flat range; see src/train/optimizer.c for the rules. */
typedef struct tl_update {
    float lr;       /* learning rate, corrections included where the rule has them */
    float momentum; /* SGD, RMSprop; the velocity may be NULL when it is 0 */
    /* Adam; RMSprop keeps its decay in beta2. Double, because 1 - 0.999f is off by 1e-5. */
    double beta1, beta2;
    float epsilon;
    float decay;       /* coupled weight decay, added to the gradient */
    float shrink;      /* decoupled weight decay: w *= 1 - shrink before the step */
    float correction2; /* PyTorch Adam: sqrt(1 - beta2^t) divides sqrt(v) before epsilon */
    bool nesterov;
    bool keras;    /* Keras's form where the two frameworks differ */
    bool centered; /* RMSprop; otherwise `mean` may be NULL */
} tl_update;

struct tl_kernels {
    const char *name; /* of its instruction set */
    int element;      /* bytes of one: 4 of float, 2 of bf16 */

    /* Register tiles: columns <= nr; up to nr_narrow columns take half the work. Rows that are not
     * evenly spaced are at most mr; of others multiples of mr do best.
     * gemm_begin() comes before the first and gemm_end() after the last of a thread's calls of
     * gemm_tile() in one parallel section: an instruction set may have to set registers up, and
     * must not leave them so. */
    int mr, nr, nr_narrow;
    int group; /* values of k that lie together, see tl_gemm_tile */
    void (*gemm_begin)(void);
    void (*gemm_tile)(const tl_gemm_tile *tile, int64_t rows, int columns);
    void (*gemm_end)(void);

    /* n columns, from column `from` on, of groups of `group` rows as these lie together:
     *     y[g * y_step + j * group + i] = rows[g * group + i][from + j]
     * A row that is NULL is of zeros. */
    void (*group_rows)(const void *const *rows, int64_t from, int64_t groups, int64_t n, void *y,
                       int64_t y_step);
    /* The same from `count` rows of n floats, such as parameters, x_step apart; groups lie one
     * after the other, the last is filled up with zeros. */
    void (*group_floats)(const float *x, int64_t x_step, int64_t count, void *y, int64_t n);

    void (*depthwise_row)(const tl_depthwise_row *row);
    void (*depthwise_grad)(const tl_depthwise_grad *grad);

    /* bf16 to float, float to bf16; n of them. A NaN stays one. Subnormal values may become 0. */
    void (*widen)(const void *x, float *y, int64_t n);
    void (*narrow)(const float *x, void *y, int64_t n);

    /* Element-wise, n elements; y may be x. */
    void (*act_forward)(tl_act act, const void *x, void *y, int64_t n);
    /* dx = (or += when add) dy * act'(x), where `v` is the output if tl_act_keeps_output(), else
     * the input. dx may be dy. */
    void (*act_backward)(tl_act act, const void *v, const void *dy, bool add, void *dx, int64_t n);
    void (*add)(const void *a, const void *b, void *y, int64_t n);
    void (*mul)(const void *a, const void *b, void *y, int64_t n);

    /* Rows of c channels: y = act(x * scale[c] + shift[c] + residual); residual may be NULL. */
    void (*scale_shift)(const void *x, const float *scale, const float *shift, const void *residual,
                        tl_act act, void *y, int64_t rows, int64_t c);
    /* sum[c] += x, sum2[c] += x^2 in float64. */
    void (*moments)(const void *x, double *sum, double *sum2, int64_t rows, int64_t c);
    /* sum[c] += dz, sum_x[c] += dz * (x - center[c]) in float64. */
    void (*moments_backward)(const tl_slopes *slopes, const float *center, double *sum,
                             double *sum_x, int64_t rows, int64_t c);
    /* dx = (or += when add) dz * a[c] + x * b[c] + d[c]; dx may be dy. */
    void (*affine3)(const tl_slopes *slopes, const float *a, const float *b, const float *d,
                    bool add, void *dx, int64_t rows, int64_t c);

    /* sum[c] += x in float64, of rows x_step apart. */
    void (*row_sums)(const void *x, int64_t x_step, double *sum, int64_t rows, int64_t c);

    /* Largest of each window, and the activation of it; NaN wins over all, the first of equal
     * values wins. Writes the winner's place to `winner` unless that is NULL: TL_NO_PLACE where the
     * activation's slope is 0. */
    void (*max_pool)(const tl_pool_row *row, const void *x, void *y, uint8_t *winner);
    /* dx += dy at the winner's place. */
    void (*max_pool_backward)(const tl_pool_row *row, const uint8_t *winner, const void *dy,
                              void *dx);
    /* Sum of each window times the weight. */
    void (*avg_pool)(const tl_pool_row *row, const void *x, void *y);
    /* dx += dy times the weight at every place. */
    void (*avg_pool_backward)(const tl_pool_row *row, const void *dy, void *dx);

    /* One row of n: y = e^x / sum of e^x, y may be x. NaN or +infinity in x makes all of it NaN. */
    void (*softmax)(const void *x, void *y, int64_t n);
    /* dx = (or += when add) y (dy - sum of dy y); dx may be dy. */
    void (*softmax_backward)(const void *y, const void *dy, bool add, void *dx, int64_t n);

    /* NULL, all of them, where Winograd's method does not pay. Tables of bf16 know
     * F(2, 3) alone: rounded to 8 bits, others would err several times as much as a direct way. */
    void (*winograd_input)(const tl_winograd_input *tile);
    void (*winograd_output)(const tl_winograd_output *tile);
    void (*winograd_weights)(const tl_winograd_weights *plane);
    /* The two that the gradient of weights takes are of 3 x 3 filters alone. As winograd_input, for
     * x[m * m], the gradients of outputs; always grouped: */
    void (*winograd_gradient)(const tl_winograd_input *tile);
    void (*winograd_filter)(const tl_winograd_filter *tile);

    /* What follows works on floats and bytes alone; tables of bf16 leave it NULL. */

    /* Bit for bit the same in every table. One row of `in_pixels` to axis->count pixels: */
    void (*resample_row)(const tl_resample_axis *axis, const uint8_t *in, int in_pixels,
                         uint8_t *out);
    /* Output row i from whole rows of n bytes; in is row axis->first[i], rows lie n apart. */
    void (*resample_column)(const tl_resample_axis *axis, int i, const uint8_t *in, int64_t n,
                            uint8_t *out);
    /* y = (x - mean) / std for each of 3 channels, in the other order when `swap`: then y[0] is of
     * x[2]. mean and std are in y's order. */
    void (*normalize)(const uint8_t *x, bool swap, const float mean[3], const float std[3],
                      float *y, int64_t pixels);

    /* Optimiser updates over n weights w with gradients g and their state. */
    void (*sgd)(const tl_update *u, float *w, const float *g, float *velocity, int64_t n);
    void (*adam)(const tl_update *u, float *w, const float *g, float *m, float *v, int64_t n);
    void (*rmsprop)(const tl_update *u, float *w, const float *g, float *v, float *mean,
                    float *velocity, int64_t n);
};

/* An instruction set. Those that differ in bf16 alone share the table of floats. */
typedef struct tl_isa {
    const char *name; /* "ref", "avx2", "avx512", "avx512bf16", "amx", "neon" */
    const struct tl_kernels *f32;
    const struct tl_kernels *bf16; /* NULL: no arithmetic on bf16 */
} tl_isa;

/* An instruction set by name; NULL when this build or machine has none such. */
const tl_isa *tl_isa_find(const char *name);
/* Those that this build and machine offer, lowest first; returns how many. */
int tl_isa_available(const tl_isa **found, int capacity);

/* CRC-32 (of ISO 3309) of many bytes, made into the CRC of few: that of `residue`, begun at 0, is
 * that of `data` continuing the shift register `state`. `size` is a multiple of 16, 64 or more.
 * It belongs to no table, since it makes no difference to any number. NULL when this machine has no
 * instruction for it. */
typedef void (*tl_crc32_fold_fn)(uint32_t state, const unsigned char *data, size_t size,
                                 unsigned char residue[16]);
tl_crc32_fold_fn tl_kernels_crc32_fold(void);

#endif
