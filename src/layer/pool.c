#include "layer/pool.h"

#include <assert.h>
#include <string.h>

#include "layer/loop.h"

const tl_attr_spec tl_pool_attrs[] = {
    {.name = "count_include_pad",
     .type = TL_ATTR_BOOL,
     .offset = offsetof(tl_pool_attr, count_include_pad),
     .max = 1},
    {.name = "kernel",
     .type = TL_ATTR_PAIR,
     .offset = offsetof(tl_pool_attr, kernel),
     .initial = 1,
     .min = 1,
     .max = 1024,
     .required = true},
    {.name = "stride", .type = TL_ATTR_PAIR, .offset = offsetof(tl_pool_attr, stride), .max = 1024},
    {.name = "pad", .type = TL_ATTR_PADS, .offset = offsetof(tl_pool_attr, pad), .max = 1023},
    {.name = "padding",
     .type = TL_ATTR_CHOICE,
     .offset = offsetof(tl_pool_attr, padding),
     .choices = tl_padding_choices},
    {.name = "ceil_mode",
     .type = TL_ATTR_BOOL,
     .offset = offsetof(tl_pool_attr, ceil_mode),
     .max = 1},
    {0}};

/* Axis 0 is height, 1 is width; pads are top, left, bottom, right. */
static tl_status infer_axis(const char *op, const tl_pool_attr *attr, const tl_shape *in, int axis,
                            tl_window *window) {
    static const char *const axis_names[2] = {"height", "width"};
    *window = (tl_window){.in = in->dim[1 + axis],
                          .kernel = attr->kernel[axis],
                          .stride = attr->stride[axis] ? attr->stride[axis] : attr->kernel[axis],
                          .dilation = 1,
                          .before = attr->pad[axis],
                          .after = attr->pad[axis + 2]};
    /* Otherwise a window could lie in the padding as a whole and have no value. */
    TL_CHECK(window->before < window->kernel && window->after < window->kernel, TL_INVALID_ARGUMENT,
             "%s: pad of %s is %d,%d, expected less than the kernel's %d", op, axis_names[axis],
             window->before, window->after, window->kernel);
    return tl_window_infer(op, axis_names[axis], (tl_padding)attr->padding, attr->ceil_mode != 0,
                           window);
}

tl_status tl_pool_infer(const char *op, const tl_pool_attr *attr, const tl_shape *in,
                        tl_op_shapes *out) {
    char text[TL_SHAPE_TEXT];
    TL_CHECK(in->rank == 4, TL_SHAPE, "%s: the input is %s, expected [N, H, W, C]", op,
             tl_shape_text(in, text));
    bool explicit_only =
        attr->ceil_mode || attr->pad[0] || attr->pad[1] || attr->pad[2] || attr->pad[3];
    TL_CHECK(attr->padding != TL_PADDING_SAME || !explicit_only, TL_INVALID_ARGUMENT,
             "%s: pad and ceil_mode are given with padding=same, which determines both", op);
    tl_window height, width;
    TL_TRY(infer_axis(op, attr, in, 0, &height));
    TL_TRY(infer_axis(op, attr, in, 1, &width));
    out->out = tl_shape_make(4, in->dim[0], height.out, width.out, in->dim[3]);
    out->flops = (double)height.kernel * width.kernel * (double)in->dim[0] * (double)height.out *
                 (double)width.out * (double)in->dim[3];
    return TL_OK;
}

/* --- walking -----------------------------------------------------------------------------------
 */

enum { BLOCK = 64 }; /* channels at a time */

typedef struct pool_job {
    const tl_op_call *call;
    const struct tl_kernels *kernels;
    size_t size; /* of one element */
    tl_window axis[2];
    int64_t channels, blocks;
    tl_pool_fn fn;
} pool_job;

static pool_job make_job(const tl_op_call *call, tl_pool_fn fn) {
    int64_t channels = call->out.shape.dim[3];
    pool_job job = {.call = call,
                    .kernels = tl_call_kernels(call),
                    .size = tl_call_size(call),
                    .channels = channels,
                    .blocks = (channels + BLOCK - 1) / BLOCK,
                    .fn = fn};
    for (int i = 0; i < 2; i++) {
        tl_status status = infer_axis("pool", call->attr, &call->in[0].shape, i, &job.axis[i]);
        assert(status == TL_OK); /* the same attributes and shape passed inference */
        (void)status;
    }
    return job;
}

static tl_pool_span span_of(const tl_window *window, int64_t index) {
    int64_t start = index * window->stride - window->before;
    int64_t end = start + window->kernel;
    return (tl_pool_span){start, start > 0 ? start : 0, end < window->in ? end : window->in};
}

/* Pixels from `column` on whose windows lie inside the input as a whole; at least one pixel in any
 * case. */
static int64_t run_length(const tl_window *window, int64_t column) {
    int64_t left = column * window->stride - window->before;
    int64_t fitting = window->in - window->kernel - left;
    if (left < 0 || fitting < 0) return 1;
    int64_t count = fitting / window->stride + 1;
    return count < window->out - column ? count : window->out - column;
}

/* What does not change along an output row. */
static tl_pool_run make_run(const pool_job *job, int64_t row, int64_t block) {
    int64_t channels = job->channels, left = channels - block * BLOCK;
    return (tl_pool_run){.call = job->call,
                         .kernels = job->kernels,
                         .size = job->size,
                         .axis = job->axis,
                         .h = span_of(&job->axis[0], row % job->axis[0].out),
                         .row = {.x_step = job->axis[1].stride * channels,
                                 .x_row = job->axis[1].in * channels,
                                 .x_tap = channels,
                                 .y_step = channels,
                                 .c = left < BLOCK ? left : BLOCK,
                                 .place_row = job->axis[1].kernel}};
}

/* The pixels of one output row in one block of channels. */
static void walk_row(const pool_job *job, int64_t row, int64_t block) {
    const tl_window *axis = job->axis;
    tl_pool_run run = make_run(job, row, block);
    run.row.kh = (int)(run.h.end - run.h.begin);
    int64_t first = block * BLOCK;
    int64_t in_row = row / axis[0].out * axis[0].in + run.h.begin;
    for (int64_t column = 0; column < axis[1].out; column += run.row.pixels) {
        run.w = span_of(&axis[1], column);
        run.row.kw = (int)(run.w.end - run.w.begin);
        run.row.pixels = run_length(&axis[1], column);
        /* Places are counted over the whole window, padding included. */
        run.row.first_place =
            (int)((run.h.begin - run.h.start) * axis[1].kernel + run.w.begin - run.w.start);
        run.in = (in_row * axis[1].in + run.w.begin) * job->channels + first;
        run.out = (row * axis[1].out + column) * job->channels + first;
        job->fn(&run);
    }
}

static void forward_task(void *arg, int64_t begin, int64_t end) {
    const pool_job *job = arg;
    for (int64_t i = begin; i < end; i++) walk_row(job, i / job->blocks, i % job->blocks);
}

void tl_pool_forward(const tl_op_call *call, tl_pool_fn fn) {
    pool_job job = make_job(call, fn);
    tl_parallel(call->ctx, call->out.shape.dim[0] * job.axis[0].out * job.blocks, forward_task,
                &job);
}

static void zero_block(const pool_job *job, int64_t sample, int64_t block) {
    int64_t first = block * BLOCK, left = job->channels - first;
    int64_t count = left < BLOCK ? left : BLOCK;
    int64_t pixels = job->axis[0].in * job->axis[1].in;
    for (int64_t i = 0; i < pixels; i++) {
        int64_t at = (sample * pixels + i) * job->channels + first;
        memset(tl_to_at(job->call->grad_in[0], job->size, at), 0, (size_t)count * job->size);
    }
}

/* Windows overlap within a sample's channels and nowhere else. */
static void backward_task(void *arg, int64_t begin, int64_t end) {
    const pool_job *job = arg;
    int64_t rows = job->axis[0].out;
    for (int64_t i = begin; i < end; i++) {
        int64_t sample = i / job->blocks, block = i % job->blocks;
        if (!job->call->grad_add[0]) zero_block(job, sample, block);
        for (int64_t row = 0; row < rows; row++) walk_row(job, sample * rows + row, block);
    }
}

void tl_pool_backward(const tl_op_call *call, tl_pool_fn fn) {
    pool_job job = make_job(call, fn);
    tl_parallel(call->ctx, call->out.shape.dim[0] * job.blocks, backward_task, &job);
}
