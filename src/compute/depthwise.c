/* Depthwise convolution: every pass is a walk over rows of pixels with the kernel table's row
 * functions. Rows that share input rows go in pairs. */
#include <string.h>

#include "compute/conv_parts.h"
#include "compute/cut.h"

/* Pointers to rows that are found on the stack: larger kernels take several calls. */
enum { MAX_ROWS = 64 };

/* One forward pass or one parity class of a backward one. */
typedef struct depthwise_job {
    const struct tl_kernels *kernels;
    tl_taps2 taps;
    int together; /* rows */
    int64_t c;
    const void *x;
    int64_t x_image, x_row;
    const float *w; /* [taps.y][taps.x][c] */
    void *y;
    int64_t y_image, y_row, y_pixel;
    bool accumulate;
    const tl_epilogue *epilogue;
} depthwise_job;

/* Rows y .. y + rows - 1 of an image, with tap rows [begin, end). */
static void run_taps(const depthwise_job *job, int64_t n, int64_t y, int rows, int begin, int end) {
    const int element = job->kernels->element;
    const tl_taps *ty = &job->taps.y, *tx = &job->taps.x;
    const tl_epilogue *e = end == ty->count ? job->epilogue : NULL;
    int64_t at = n * job->y_image + y * job->y_row;
    const void *x[MAX_ROWS];
    int row_step = (int)ty->stride, count = end - begin + (rows - 1) * row_step;
    for (int i = 0; i < count; i++) {
        int64_t in_y = y * ty->stride + ty->first + (begin + i) * ty->step;
        bool inside = in_y >= 0 && in_y < ty->in;
        x[i] = inside ? tl_element(job->x, n * job->x_image + in_y * job->x_row, element) : NULL;
    }
    tl_depthwise_row row = {
        .kh = end - begin,
        .kw = tx->count,
        .rows = rows,
        .row_step = row_step,
        .x = x,
        .x_pixel = job->c,
        .step = tx->stride,
        .tap = tx->step,
        .first = tx->first,
        .width = tx->in,
        .w = job->w + begin * tx->count * job->c,
        .w_row = tx->count * job->c,
        .w_tap = job->c,
        .y = tl_element_of(job->y, at, element),
        .y_pixel = job->y_pixel,
        .y_row = job->y_row,
        .pixels = tx->out,
        .c = job->c,
        .accumulate = job->accumulate || begin > 0,
        .bias = e ? e->bias : NULL,
        .residual = e && e->residual ? tl_element(e->residual, at, element) : NULL,
        .act = e ? e->act : TL_ACT_NONE,
    };
    job->kernels->depthwise_row(&row);
}

/* The rows that one call of the kernel can compute: neighbours share input rows when their taps are
 * neighbours. */
static int rows_together(const tl_taps *ty) {
    bool fits = ty->count + (TL_DEPTHWISE_ROWS - 1) * ty->stride <= MAX_ROWS;
    return fits && ty->step == 1 && ty->stride < ty->count ? TL_DEPTHWISE_ROWS : 1;
}

/* The rows of an image that go together as its group `group`. */
static void run_group(const depthwise_job *job, int64_t n, int64_t group) {
    const tl_taps *ty = &job->taps.y;
    int64_t y = group * job->together, left = ty->out - y;
    int rows = left < job->together ? (int)left : job->together, begin = 0;
    if (rows <= 0) return;
    do {
        int end = ty->count - begin < MAX_ROWS ? ty->count : begin + MAX_ROWS;
        run_taps(job, n, y, rows, begin, end);
        begin = end;
    } while (begin < ty->count);
}

static int64_t groups_of(int64_t rows, int together) {
    return (rows + together - 1) / together;
}

static void run_groups(void *arg, int64_t begin, int64_t end) {
    const depthwise_job *job = arg;
    int64_t groups = groups_of(job->taps.y.out, job->together);
    for (int64_t i = begin; i < end; i++) run_group(job, i / groups, i % groups);
}

/* --- forward ---------------------------------------------------------------------------------- */

static size_t weights_of(const tl_conv *conv) {
    return (size_t)(conv->kh * conv->kw * conv->ic);
}

size_t tl_depthwise_packed_bytes(const tl_conv *conv) {
    return weights_of(conv) * sizeof(float);
}

/* weights [c][kh][kw] to [taps.y][taps.x][c]. */
static void pack_taps(const tl_conv *conv, const tl_taps2 *taps, const float *weights,
                      const float *scale, float *packed) {
    for (int i = 0; i < taps->y.count; i++) {
        for (int j = 0; j < taps->x.count; j++) {
            const float *from = weights +
                                (taps->y.kernel_first + i * taps->y.kernel_step) * conv->kw +
                                taps->x.kernel_first + j * taps->x.kernel_step;
            for (int64_t c = 0; c < conv->ic; c++) {
                float w = from[c * conv->kh * conv->kw];
                *packed++ = scale ? w * scale[c] : w;
            }
        }
    }
}

void tl_depthwise_pack(const tl_conv *conv, const float *weights, const float *scale,
                       float *packed) {
    tl_taps2 taps = tl_taps2_forward(conv);
    pack_taps(conv, &taps, weights, scale, packed);
}

void tl_depthwise_forward(tl_context *ctx, const tl_conv *conv, const void *x, const float *packed,
                          const tl_epilogue *epilogue, void *y) {
    int64_t c = conv->ic;
    depthwise_job job = {.kernels = tl_conv_kernels(ctx, conv),
                         .taps = tl_taps2_forward(conv),
                         .c = c,
                         .x = x,
                         .x_image = conv->h * conv->w * c,
                         .x_row = conv->w * c,
                         .w = packed,
                         .y = y,
                         .y_image = conv->oh * conv->ow * c,
                         .y_row = conv->ow * c,
                         .y_pixel = c,
                         .epilogue = epilogue};
    job.together = rows_together(&job.taps.y);
    tl_parallel(ctx, conv->n * groups_of(conv->oh, job.together), run_groups, &job);
}

/* --- backward --------------------------------------------------------------------------------- */

/* What all rows of an input gradient share. The parity classes of stride_h neighbouring rows are
 * computed together, because they read the same rows of dy. */
typedef struct depthwise_data {
    const tl_conv *conv;
    depthwise_job whole; /* a class is this with its own taps, weights and place in dx */
    const float *packed;
} depthwise_data;

static void data_group(const depthwise_data *data, int64_t n, int64_t group) {
    const tl_conv *conv = data->conv;
    depthwise_job job = data->whole;
    job.w = data->packed;
    for (int py = 0; py < conv->stride_h; py++) {
        for (int px = 0; px < conv->stride_w; px++) {
            job.taps = tl_taps2_backward(conv, py, px);
            job.y = tl_element_of(data->whole.y, (py * conv->w + px) * job.c, job.kernels->element);
            run_group(&job, n, group);
            job.w += job.taps.y.count * job.taps.x.count * job.c;
        }
    }
}

static int64_t data_groups(const depthwise_data *data) {
    int64_t rows = (data->conv->h + data->conv->stride_h - 1) / data->conv->stride_h;
    return groups_of(rows, data->whole.together);
}

static void data_tasks(void *arg, int64_t begin, int64_t end) {
    const depthwise_data *data = arg;
    int64_t groups = data_groups(data);
    for (int64_t i = begin; i < end; i++) data_group(data, i / groups, i % groups);
}

void tl_depthwise_backward_data(tl_context *ctx, const tl_conv *conv, const void *dy,
                                const float *weights, bool add, void *dx, float *work) {
    int64_t c = conv->ic;
    float *packed = work;
    for (int py = 0; py < conv->stride_h; py++) {
        for (int px = 0; px < conv->stride_w; px++) {
            tl_taps2 taps = tl_taps2_backward(conv, py, px);
            pack_taps(conv, &taps, weights, NULL, packed);
            packed += taps.y.count * taps.x.count * c;
        }
    }
    depthwise_data data = {.conv = conv,
                           .whole = {.kernels = tl_conv_kernels(ctx, conv),
                                     .together = 1,
                                     .c = c,
                                     .x = dy,
                                     .x_image = conv->oh * conv->ow * c,
                                     .x_row = conv->ow * c,
                                     .y = dx,
                                     .y_image = conv->h * conv->w * c,
                                     .y_row = conv->stride_h * conv->w * c,
                                     .y_pixel = conv->stride_w * c,
                                     .accumulate = add},
                           .packed = work};
    if (conv->stride_h == 1) {
        tl_taps2 taps = tl_taps2_backward(conv, 0, 0);
        data.whole.together = rows_together(&taps.y);
    }
    tl_parallel(ctx, conv->n * data_groups(&data), data_tasks, &data);
}

/* Output rows are summed in chunks whose number follows from the shape, each into its own copy of
 * the gradient; then the copies are added in order. */
enum { GRAD_CHUNKS = 32 };

typedef struct depthwise_grad_job {
    const struct tl_kernels *kernels;
    const tl_conv *conv;
    tl_taps2 taps;
    const void *x, *dy;
    float *partial; /* [chunk][kh][kw][c] */
    float *dw;      /* [c][kh][kw] */
    int chunks;
} depthwise_grad_job;

static int grad_chunks(const tl_conv *conv) {
    int64_t rows = conv->n * conv->oh;
    return rows < GRAD_CHUNKS ? (int)rows : GRAD_CHUNKS;
}

size_t tl_depthwise_work_bytes(const tl_conv *conv, tl_conv_pass pass) {
    size_t weights = tl_depthwise_packed_bytes(conv);
    if (pass == TL_CONV_FORWARD) return 0;
    return pass == TL_CONV_BACKWARD_DATA ? weights : weights * (size_t)grad_chunks(conv);
}

static void grad_pixels(const depthwise_grad_job *job, int64_t n, int64_t y, int64_t begin,
                        int64_t end, int tap_begin, int tap_end, float *dw) {
    const tl_conv *conv = job->conv;
    const tl_taps *ty = &job->taps.y, *tx = &job->taps.x;
    int64_t c = conv->ic;
    int row_begin, row_end;
    tl_taps_of(ty, y, &row_begin, &row_end);
    for (int count; row_begin < row_end; row_begin += count) {
        const void *x[MAX_ROWS];
        count = row_end - row_begin < MAX_ROWS ? row_end - row_begin : MAX_ROWS;
        int64_t first = begin * tx->stride + tx->first + tap_begin * tx->step;
        for (int i = 0; i < count; i++) {
            int64_t in_y = y * ty->stride + ty->first + (row_begin + i) * ty->step;
            int64_t at = ((n * conv->h + in_y) * conv->w + first) * c;
            x[i] = tl_element(job->x, at, job->kernels->element);
        }
        tl_depthwise_grad grad = {
            .kh = count,
            .kw = tap_end - tap_begin,
            .x = x,
            .x_step = tx->stride * c,
            .x_tap = tx->step * c,
            .dy = tl_element(job->dy, ((n * conv->oh + y) * conv->ow + begin) * c,
                             job->kernels->element),
            .dy_step = c,
            .dw = dw + (row_begin * tx->count + tap_begin) * c,
            .dw_row = tx->count * c,
            .dw_tap = c,
            .pixels = end - begin,
            .c = c,
        };
        job->kernels->depthwise_grad(&grad);
    }
}

static void grad_row(const depthwise_grad_job *job, int64_t n, int64_t y, float *dw) {
    const tl_taps *tx = &job->taps.x;
    int64_t inside_begin, inside_end;
    tl_taps_inside(tx, &inside_begin, &inside_end);
    if (inside_begin < inside_end)
        grad_pixels(job, n, y, inside_begin, inside_end, 0, tx->count, dw);
    for (int64_t p = 0; p < tx->out; p++) {
        if (p == inside_begin && inside_begin < inside_end) p = inside_end;
        if (p >= tx->out) break;
        int tap_begin, tap_end;
        tl_taps_of(tx, p, &tap_begin, &tap_end);
        if (tap_begin < tap_end) grad_pixels(job, n, y, p, p + 1, tap_begin, tap_end, dw);
    }
}

static void grad_chunks_run(void *arg, int64_t begin, int64_t end) {
    const depthwise_grad_job *job = arg;
    size_t size = weights_of(job->conv);
    for (int64_t chunk = begin; chunk < end; chunk++) {
        float *dw = job->partial + (size_t)chunk * size;
        memset(dw, 0, size * sizeof(float));
        int64_t row, row_end;
        tl_cut_range(job->conv->n * job->conv->oh, (int)chunk, job->chunks, &row, &row_end);
        for (; row < row_end; row++) grad_row(job, row / job->conv->oh, row % job->conv->oh, dw);
    }
}

static void grad_combine(void *arg, int64_t begin, int64_t end) {
    const depthwise_grad_job *job = arg;
    int64_t size = (int64_t)weights_of(job->conv);
    int64_t taps = job->conv->kh * job->conv->kw, channels = job->conv->ic;
    for (int64_t tap = 0; tap < taps; tap++) {
        for (int64_t c = begin; c < end; c++) {
            float sum = 0.0f;
            for (int chunk = 0; chunk < job->chunks; chunk++)
                sum += job->partial[chunk * size + tap * channels + c];
            job->dw[c * taps + tap] += sum;
        }
    }
}

void tl_depthwise_backward_weights(tl_context *ctx, const tl_conv *conv, const void *x,
                                   const void *dy, float *dw, float *work) {
    depthwise_grad_job job = {.kernels = tl_conv_kernels(ctx, conv),
                              .conv = conv,
                              .taps = tl_taps2_forward(conv),
                              .x = x,
                              .dy = dy,
                              .partial = work,
                              .dw = dw,
                              .chunks = grad_chunks(conv)};
    tl_parallel(ctx, job.chunks, grad_chunks_run, &job);
    tl_parallel(ctx, conv->ic, grad_combine, &job);
}
