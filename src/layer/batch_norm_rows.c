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

/* Whether a pass of backward's is one kernel's work, which finds dz on its way. */
static bool alone(const tl_norm_rows *job) {
    return job->stored || (tl_act_clips(job->act) && !job->residual_grad && job->dx);
}

typedef void (*piece_fn)(const tl_norm_rows *job, const piece *p, double *sums);

static void each_piece(const tl_norm_rows *job, int64_t part, double *sums, piece_fn fn) {
    int64_t c = job->channels, first;
    int64_t rows = tl_part_rows(&job->parts, job->rows, part, part + 1, &first);
    int64_t step = c < TL_CHUNK ? TL_CHUNK / c : 1, width = c < TL_CHUNK ? c : TL_CHUNK;
    /* One kernel alone comes from memory faster when it is not cut up. */
    if (alone(job)) step = rows, width = c;
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
    const void *residual = job->residual ? from_at(job, job->residual, p) : NULL;
    job->kernels->scale_shift(from_at(job, job->x, p), job->scale + p->channel,
                              job->shift + p->channel, residual, act, y, p->rows, p->channels);
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const tl_norm_rows *job = arg;
    int64_t c = job->channels, first;
    piece p = {.rows = tl_part_rows(&job->parts, job->rows, begin, end, &first), .channels = c};
    p.at = first * c;
    scale(job, &p, job->act, to_at(job, job->y, &p));
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

/* dz of a piece, which the first pass over it stores and adds where that is wanted: for a kernel to
 * find, or in the scratch. */
static tl_slopes find_slopes(const tl_norm_rows *job, const piece *p, room *scratch) {
    tl_slopes s = {.dy = from_at(job, job->stored ? job->dz : job->dy, p),
                   .act = job->stored ? TL_ACT_NONE : job->act,
                   .v = job->y ? from_at(job, job->y, p) : NULL,
                   .scale = job->scale + p->channel,
                   .shift = job->shift + p->channel,
                   .dz = job->dz && !job->stored ? to_at(job, job->dz, p) : NULL};
    bool found = s.act == TL_ACT_NONE && (!s.dz || s.dz == s.dy);
    if (!alone(job) && !found) {
        void *to = s.dz ? s.dz : scratch->values;
        const void *v = s.act == TL_ACT_NONE ? s.dy : slope_source(job, p, scratch);
        job->kernels->act_backward(s.act, v, s.dy, false, to, p->count);
        s.dy = to;
        s.act = TL_ACT_NONE;
        s.dz = NULL;
    }
    if (job->residual_grad) {
        void *to = to_at(job, job->residual_grad, p);
        job->kernels->add(s.dy, to, to, p->count);
    }
    /* Where x is not kept nobody asks for what depends on it. */
    s.x = job->x ? from_at(job, job->x, p) : s.dy;
    return s;
}

static void end_pass(tl_norm_rows *rows) {
    rows->stored = rows->dz != NULL;
    rows->residual_grad = NULL;
}

static void sum_piece(const tl_norm_rows *job, const piece *p, double *sums) {
    room scratch;
    tl_slopes slopes = find_slopes(job, p, &scratch);
    job->kernels->moments_backward(&slopes, job->center + p->channel, sums + p->channel,
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
    tl_slopes slopes = find_slopes(job, p, &scratch);
    if (job->dx)
        job->kernels->affine3(&slopes, job->a + p->channel, job->b + p->channel,
                              job->d + p->channel, job->add, to_at(job, job->dx, p), p->rows,
                              p->channels);
}

/* Last parts first: of what the pass before this one read, and of what the next step reads of dx,
 * the part that was touched last is still in the last-level cache. */
static void backward_task(void *arg, int64_t begin, int64_t end) {
    for (int64_t part = end; part-- > begin;) each_piece(arg, part, NULL, backward_piece);
}

void tl_norm_backward(tl_context *ctx, tl_norm_rows *rows) {
    tl_parallel(ctx, rows->parts.count, backward_task, rows);
    end_pass(rows);
}
