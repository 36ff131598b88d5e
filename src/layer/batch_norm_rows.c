#include "layer/batch_norm_rows.h"

#include <string.h>

#include "layer/row_sums.h"

/* --- pieces -----------------------------------------------------------------------------------
 */

/* Some rows, or a part of one that is too long. */
typedef struct piece {
    int64_t at; /* its first element */
    int64_t rows, channel, channels, count;
} piece;

typedef void (*piece_fn)(const tl_norm_rows *job, const piece *p, double *sums);

static void each_piece(const tl_norm_rows *job, int64_t part, double *sums, piece_fn fn) {
    int64_t c = job->channels, first;
    int64_t rows = tl_part_rows(&job->parts, job->rows, part, part + 1, &first);
    int64_t step = c < TL_CHUNK ? TL_CHUNK / c : 1, width = c < TL_CHUNK ? c : TL_CHUNK;
    /* One kernel alone comes from memory faster when it is not cut up. */
    if (job->act == TL_ACT_NONE && !job->residual && !job->dz) step = rows, width = c;
    for (int64_t row = 0; row < rows; row += step) {
        for (int64_t channel = 0; channel < c; channel += width) {
            piece p = {(first + row) * c + channel, rows - row < step ? rows - row : step, channel,
                       c - channel < width ? c - channel : width, 0};
            p.count = p.rows * p.channels;
            fn(job, &p, sums);
        }
    }
}

static const void *from_at(const tl_norm_rows *job, const void *data, const piece *p) {
    return tl_from_at(data, job->size, p->at);
}

static void *to_at(const tl_norm_rows *job, void *data, const piece *p) {
    return tl_to_at(data, job->size, p->at);
}

tl_norm_rows tl_norm_rows_of(const tl_op_call *call) {
    int64_t rows = tl_shape_rows(&call->out.shape), channels = tl_shape_channels(&call->out.shape);
    return (tl_norm_rows){.kernels = tl_call_kernels(call),
                          .size = tl_call_size(call),
                          .rows = rows,
                          .channels = channels,
                          .parts = tl_parts_of(rows, channels),
                          .act = call->epilogue ? call->epilogue->act : TL_ACT_NONE,
                          .x = call->in[0].data,
                          .residual = call->epilogue ? call->epilogue->residual : NULL,
                          .y = call->out.data};
}

/* --- forward ----------------------------------------------------------------------------------
 */

static void scale(const tl_norm_rows *job, const piece *p, tl_act act, void *y) {
    job->kernels->scale_shift(from_at(job, job->x, p), job->scale + p->channel,
                              job->shift + p->channel, act, y, p->rows, p->channels);
}

static void forward_piece(const tl_norm_rows *job, const piece *p, double *sums) {
    (void)sums;
    void *y = to_at(job, job->y, p);
    scale(job, p, job->residual ? TL_ACT_NONE : job->act, y);
    if (!job->residual) return;
    job->kernels->add(y, from_at(job, job->residual, p), y, p->count);
    if (job->act != TL_ACT_NONE) job->kernels->act_forward(job->act, y, y, p->count);
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; part++) each_piece(arg, part, NULL, forward_piece);
}

void tl_norm_forward(tl_context *ctx, tl_norm_rows *rows) {
    tl_parallel(ctx, rows->parts.count, forward_task, rows);
}

/* --- backward ---------------------------------------------------------------------------------
 */

/* Room for a piece of elements of any type. */
typedef struct room {
    _Alignas(64) float values[TL_CHUNK];
} room;

/* What the activation's slope is taken from. */
static const void *slope_source(const tl_norm_rows *job, const piece *p, room *scratch) {
    if (job->y) return from_at(job, job->y, p);
    scale(job, p, tl_act_keeps_output(job->act) ? job->act : TL_ACT_NONE, scratch->values);
    return scratch->values;
}

/* dz of a piece, which the first pass over it stores and adds where that is wanted. */
static const void *find_dz(const tl_norm_rows *job, const piece *p, room *scratch) {
    if (job->stored) return from_at(job, job->dz, p);
    const void *dy = from_at(job, job->dy, p), *dz = dy;
    if (job->act != TL_ACT_NONE) {
        void *to = job->dz ? to_at(job, job->dz, p) : scratch->values;
        job->kernels->act_backward(job->act, slope_source(job, p, scratch), dy, false, to,
                                   p->count);
        dz = to;
    } else if (job->dz && job->dz != job->dy) {
        memcpy(to_at(job, job->dz, p), dy, (size_t)p->count * job->size);
    }
    if (job->residual_grad) {
        void *to = to_at(job, job->residual_grad, p);
        job->kernels->add(dz, to, to, p->count);
    }
    return dz;
}

static void end_pass(tl_norm_rows *rows) {
    rows->stored = rows->dz != NULL;
    rows->residual_grad = NULL;
}

static void sum_piece(const tl_norm_rows *job, const piece *p, double *sums) {
    room scratch;
    const void *dz = find_dz(job, p, &scratch);
    /* Where x is not kept nobody asks for the second sum. */
    const void *x = job->x ? from_at(job, job->x, p) : dz;
    job->kernels->moments_backward(x, dz, job->center + p->channel, sums + p->channel,
                                   sums + job->channels + p->channel, p->rows, p->channels);
}

static void sum_task(void *arg, int64_t begin, int64_t end) {
    const tl_norm_rows *job = arg;
    for (int64_t part = begin; part < end; part++) {
        double *sums = job->sums + part * 2 * job->channels;
        memset(sums, 0, 2 * (size_t)job->channels * sizeof *sums);
        each_piece(job, part, sums, sum_piece);
    }
}

void tl_norm_sums(tl_context *ctx, tl_norm_rows *rows) {
    tl_parallel(ctx, rows->parts.count, sum_task, rows);
    tl_add_row_sums(rows->sums, rows->parts.count, rows->channels);
    end_pass(rows);
}

static void backward_piece(const tl_norm_rows *job, const piece *p, double *sums) {
    (void)sums;
    room scratch;
    const void *dz = find_dz(job, p, &scratch);
    if (!job->dx) return;
    const float *a = job->a + p->channel, *b = job->b + p->channel, *d = job->d + p->channel;
    void *dx = to_at(job, job->dx, p);
    if (job->scaled_only && !job->add)
        job->kernels->scale_shift(dz, a, d, TL_ACT_NONE, dx, p->rows, p->channels);
    else
        job->kernels->affine3(dz, job->scaled_only ? dz : from_at(job, job->x, p), a, b, d,
                              job->add, dx, p->rows, p->channels);
}

static void backward_task(void *arg, int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; part++) each_piece(arg, part, NULL, backward_piece);
}

void tl_norm_backward(tl_context *ctx, tl_norm_rows *rows) {
    tl_parallel(ctx, rows->parts.count, backward_task, rows);
    end_pass(rows);
}
