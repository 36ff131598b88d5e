/* What changes the shape or the order of an activation, and parts of its channels. */
#include "model/onnx_import.h"

#include <stdio.h>
#include <string.h>

/* --- to vectors ------------------------------------------------------------------------------- */

static tl_status flatten(tl_onnx_importer *im, const tl_onnx_entry *x) {
    tl_onnx_entry like = {.layout = TL_ONNX_FLAT};
    int node = x->node;
    if (x->layout == TL_ONNX_FLAT) return tl_onnx_define_node(im, x, x->node);
    if (tl_onnx_is_picture(x)) {
        bool ordered = x->layout == TL_ONNX_NHWC || x->shape.dim[2] * x->shape.dim[3] == 1;
        if (!ordered) memcpy(like.chw, x->shape.dim + 1, sizeof like.chw);
        TL_TRY(tl_onnx_emit(im, "flatten", "", 1, &x->node, &node));
    } else if (x->layout != TL_ONNX_POOLED) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "flattening half of a channel shuffle");
    }
    return tl_onnx_define_node(im, &like, node);
}

tl_status tl_onnx_flatten(tl_onnx_importer *im) {
    tl_onnx_entry x;
    int axis;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(tl_onnx_axis(im, tl_onnx_attr_int(im, "axis", 1), x.shape.rank, &axis));
    if (axis != 1) return tl_onnx_fail(im, TL_UNSUPPORTED, "flattening from axis %d", axis);
    return flatten(im, &x);
}

/* [N, C] with ones around: as `shape` says, or a vector again. */
static tl_status define_pooled(tl_onnx_importer *im, const tl_onnx_entry *x,
                               const tl_shape *shape) {
    tl_onnx_entry value = *x;
    if (shape->rank == 2) return flatten(im, x);
    value.layout = TL_ONNX_POOLED;
    value.shape = *shape;
    return tl_onnx_define(im, &value);
}

static bool is_pooled(const tl_onnx_entry *x) {
    return (x->layout == TL_ONNX_FLAT || x->layout == TL_ONNX_POOLED) && !x->chw[0];
}

/* Whether all dimensions but the batch and one are ones. */
static bool is_column(const tl_shape *shape) {
    int larger = 0;
    for (int i = 1; i < shape->rank; i++) larger += shape->dim[i] != 1;
    return shape->rank >= 2 && shape->dim[0] == 1 && larger <= 1;
}

/* --- Reshape ---------------------------------------------------------------------------------- */

/* [N, C, H, W] to [N, G, C / G, H, W]. */
static bool splits_groups(const tl_onnx_entry *x, const tl_shape *target) {
    const int64_t *d = target->dim, *s = x->shape.dim;
    return x->layout == TL_ONNX_NCHW && target->rank == 5 && d[0] == 1 && d[1] * d[2] == s[1] &&
           d[3] == s[2] && d[4] == s[3];
}

static bool joins_groups(const tl_onnx_entry *x, const tl_shape *target) {
    const int64_t *d = target->dim, *s = x->shape.dim;
    return x->layout == TL_ONNX_SHUFFLED && target->rank == 4 && d[0] == 1 && d[1] == s[1] * s[2] &&
           d[2] == s[3] && d[3] == s[4];
}

static tl_status shuffle(tl_onnx_importer *im, const tl_onnx_entry *x) {
    char attrs[32];
    int node = 0;
    const tl_onnx_entry like = {.layout = TL_ONNX_NCHW};
    snprintf(attrs, sizeof attrs, "groups=%lld", (long long)x->groups);
    TL_TRY(tl_onnx_emit(im, "channel_shuffle", attrs, 1, &x->node, &node));
    return tl_onnx_define_node(im, &like, node);
}

tl_status tl_onnx_reshape(tl_onnx_importer *im) {
    tl_onnx_entry x;
    tl_shape target;
    const tl_onnx_entry *ints = NULL;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(tl_onnx_ints(im, 1, &ints));
    TL_TRY(tl_onnx_reshaped(im, &x, ints, tl_shape_count(&x.shape), &target));
    if (tl_shape_equal(&target, &x.shape)) return tl_onnx_define_node(im, &x, x.node);
    if (target.rank == 2 && target.dim[0] == 1) return flatten(im, &x);
    if (splits_groups(&x, &target)) {
        x.layout = TL_ONNX_SPLIT;
        x.groups = target.dim[1];
        x.shape = target;
        return tl_onnx_define(im, &x);
    }
    if (joins_groups(&x, &target)) return shuffle(im, &x);
    if (is_pooled(&x) && is_column(&target)) return define_pooled(im, &x, &target);
    char from[TL_SHAPE_TEXT], to[TL_SHAPE_TEXT];
    return tl_onnx_fail(im, TL_UNSUPPORTED, "reshaping %s to %s", tl_shape_text(&x.shape, from),
                        tl_shape_text(&target, to));
}

/* --- Transpose -------------------------------------------------------------------------------- */

static const struct {
    tl_onnx_layout from, to;
    int rank;
    int64_t order[5];
} transpositions[] = {
    {TL_ONNX_NCHW, TL_ONNX_NHWC, 4, {0, 2, 3, 1}},
    {TL_ONNX_NHWC, TL_ONNX_NCHW, 4, {0, 3, 1, 2}},
    {TL_ONNX_SPLIT, TL_ONNX_SHUFFLED, 5, {0, 2, 1, 3, 4}},
};

static tl_status permute_shape(tl_onnx_importer *im, tl_onnx_entry *x, int64_t *order) {
    tl_shape permuted = x->shape;
    unsigned seen = 0;
    for (int i = 0; i < x->shape.rank; i++) order[i] = x->shape.rank - 1 - i;
    if (tl_onnx_attr_find(im->onnx, im->at, "perm")) {
        TL_TRY(tl_onnx_attr_ints(im, "perm", x->shape.rank, 0, order));
    }
    for (int i = 0; i < x->shape.rank; i++) {
        bool inside = order[i] >= 0 && order[i] < x->shape.rank;
        if (!inside || seen >> order[i] & 1) {
            return tl_onnx_fail(im, TL_CORRUPT, "perm is no permutation");
        }
        seen |= 1u << order[i];
        permuted.dim[i] = x->shape.dim[order[i]];
    }
    x->shape = permuted;
    return TL_OK;
}

tl_status tl_onnx_transpose(tl_onnx_importer *im) {
    tl_onnx_entry x;
    const tl_onnx_entry *entry = NULL;
    int64_t order[TL_MAX_RANK];
    TL_TRY(tl_onnx_input(im, 0, &entry));
    /* Zeros around height and width go on waiting, in whichever order. */
    x = *entry;
    if (entry->pending != TL_ONNX_PAD) TL_TRY(tl_onnx_settle(im, entry, &x));
    TL_TRY(permute_shape(im, &x, order));
    bool same = true;
    for (int i = 0; i < x.shape.rank; i++) same = same && order[i] == i;
    if (same || (x.layout == TL_ONNX_POOLED && order[0] == 0)) return tl_onnx_define(im, &x);
    for (size_t i = 0; i < sizeof transpositions / sizeof transpositions[0]; i++) {
        int rank = transpositions[i].rank;
        if (x.layout != transpositions[i].from || x.shape.rank != rank ||
            memcmp(order, transpositions[i].order, (size_t)rank * sizeof *order) != 0) {
            continue;
        }
        x.layout = transpositions[i].to;
        return tl_onnx_define(im, &x);
    }
    return tl_onnx_fail(im, TL_UNSUPPORTED, "this transposition");
}

/* --- Squeeze and Unsqueeze: only ones come and go --------------------------------------------- */

/* The axes, an input since opset 13, as bits of `rank` dimensions; 0 when there are none. */
static tl_status read_axes(tl_onnx_importer *im, int rank, unsigned *bits) {
    const tl_onnx_entry *input = NULL;
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, "axes");
    if (tl_onnx_has_input(im, 1)) TL_TRY(tl_onnx_ints(im, 1, &input));
    int count = input ? input->int_count : attr ? attr->count : 0;
    const int64_t *axes = input ? input->ints : attr ? attr->ints : NULL;
    *bits = 0;
    for (int i = 0; axes && i < count; i++) {
        int axis;
        TL_TRY(tl_onnx_axis(im, axes[i], rank, &axis));
        *bits |= 1u << axis;
    }
    return TL_OK;
}

static int count_bits(unsigned bits) {
    int count = 0;
    for (; bits; bits >>= 1) count += (int)(bits & 1);
    return count;
}

tl_status tl_onnx_squeeze(tl_onnx_importer *im) {
    tl_onnx_entry x;
    unsigned axes;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(read_axes(im, x.shape.rank, &axes));
    tl_shape shape = {.rank = 0};
    for (int i = 0; i < x.shape.rank; i++) {
        bool drop = axes ? axes >> i & 1 : i > 0 && x.shape.dim[i] == 1;
        if (drop && (i == 0 || x.shape.dim[i] != 1)) {
            return tl_onnx_fail(im, TL_CORRUPT, "axis %d has %lld elements, expected 1", i,
                                (long long)x.shape.dim[i]);
        }
        if (!drop) shape.dim[shape.rank++] = x.shape.dim[i];
    }
    if (tl_shape_equal(&shape, &x.shape)) return tl_onnx_define_node(im, &x, x.node);
    /* A picture of one pixel is a vector, whatever is done with it. */
    if (shape.rank == 2 && tl_onnx_is_picture(&x)) return flatten(im, &x);
    if (is_pooled(&x)) return define_pooled(im, &x, &shape);
    return tl_onnx_fail(im, TL_UNSUPPORTED, "of something else than pooled features");
}

tl_status tl_onnx_unsqueeze(tl_onnx_importer *im) {
    tl_onnx_entry x;
    unsigned axes;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(read_axes(im, TL_MAX_RANK, &axes));
    int rank = x.shape.rank + count_bits(axes);
    if (rank > TL_MAX_RANK) return tl_onnx_fail(im, TL_UNSUPPORTED, "rank %d", rank);
    TL_TRY(read_axes(im, rank, &axes));
    if (x.layout == TL_ONNX_PLANE && axes == 1u << 1) {
        const tl_onnx_entry like = {.layout = TL_ONNX_NCHW};
        return tl_onnx_define_node(im, &like, x.node);
    }
    if (!is_pooled(&x) || axes & 1) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "of something else than pooled features");
    }
    tl_shape shape = {.rank = rank};
    for (int i = 0, from = 0; i < rank; i++) {
        shape.dim[i] = axes >> i & 1 || from == x.shape.rank ? 1 : x.shape.dim[from++];
    }
    return define_pooled(im, &x, &shape);
}

/* --- channels --------------------------------------------------------------------------------- */

/* A picture of one pixel as pooled features, beside which it is joined. */
static tl_status pool_pixel(tl_onnx_importer *im, tl_onnx_entry *x) {
    int axis = tl_onnx_channel_axis(x), node = 0;
    if (!tl_onnx_is_picture(x) || tl_shape_count(&x->shape) != x->shape.dim[axis]) return TL_OK;
    TL_TRY(tl_onnx_emit(im, "flatten", "", 1, &x->node, &node));
    x->layout = TL_ONNX_POOLED;
    x->node = node;
    return TL_OK;
}

static tl_status concat_inputs(tl_onnx_importer *im, bool pooled, tl_onnx_entry *first,
                               int *inputs) {
    for (int i = 0; i < im->at->input_count; i++) {
        tl_onnx_entry x;
        TL_TRY(tl_onnx_activation(im, i, &x));
        if (pooled) TL_TRY(pool_pixel(im, &x));
        if (i == 0) *first = x;
        if (x.layout != first->layout || x.chw[0] || x.shape.rank != first->shape.rank ||
            tl_onnx_channel_axis(&x) != tl_onnx_channel_axis(first)) {
            return tl_onnx_fail(im, TL_UNSUPPORTED, "joining activations of different layouts");
        }
        inputs[i] = x.node;
    }
    return TL_OK;
}

tl_status tl_onnx_concat(tl_onnx_importer *im) {
    tl_onnx_entry first = {0};
    bool pooled = false;
    int axis, node = 0, count = im->at->input_count;
    for (int i = 0; i < count; i++) {
        const tl_onnx_entry *x = NULL;
        TL_TRY(tl_onnx_input(im, i, &x));
        pooled = pooled || (x->kind == TL_ONNX_NODE && x->layout == TL_ONNX_POOLED);
    }
    int *inputs = tl_alloc_array(im->onnx->ctx, (size_t)count, sizeof *inputs);
    TL_CHECK_MEMORY(inputs);
    tl_status status = concat_inputs(im, pooled, &first, inputs);
    if (status == TL_OK) status = tl_onnx_emit(im, "concat", "", count, inputs, &node);
    tl_free(im->onnx->ctx, inputs);
    TL_TRY(status);
    TL_TRY(tl_onnx_axis(im, tl_onnx_attr_int(im, "axis", 1), first.shape.rank, &axis));
    if (axis != tl_onnx_channel_axis(&first) || first.layout > TL_ONNX_POOLED) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "joining along another axis than the channels");
    }
    if (first.layout == TL_ONNX_POOLED) first.shape.dim[axis] = im->graph->node[node].shape.dim[1];
    return tl_onnx_define_node(im, &first, node);
}

/* Channels begin .. end - 1 of `x` as output `index`. */
static tl_status define_channels(tl_onnx_importer *im, const tl_onnx_entry *x, int64_t begin,
                                 int64_t end, int index) {
    char attrs[64];
    int node = 0;
    snprintf(attrs, sizeof attrs, "begin=%lld end=%lld", (long long)begin, (long long)end);
    TL_TRY(tl_onnx_emit(im, "slice", attrs, 1, &x->node, &node));
    tl_onnx_entry value = tl_onnx_laid_out(im, x, node);
    return tl_onnx_define_output(im, index, &value);
}

/* What a slice takes of each axis. */
typedef struct range {
    int64_t begin, end;
} range;

/* A list of bounds: an input since opset 10, an attribute before. */
typedef struct bounds {
    const int64_t *values; /* NULL: absent */
    int count;
} bounds;

static tl_status read_bounds(tl_onnx_importer *im, int input, const char *name, bounds *out) {
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, name);
    *out = (bounds){attr ? attr->ints : NULL, attr ? attr->count : 0};
    if (im->at->input_count == 1 || !tl_onnx_has_input(im, input)) return TL_OK;
    const tl_onnx_entry *x = NULL;
    TL_TRY(tl_onnx_ints(im, input, &x));
    if (x->batch) return tl_onnx_fail(im, TL_UNSUPPORTED, "up to the batch size");
    *out = (bounds){x->ints, x->int_count};
    return TL_OK;
}

/* Negative bounds count from the end; those past it are cut. */
static int64_t bound(int64_t value, int64_t size) {
    if (value < 0) value = value < -size ? 0 : value + size;
    return value < size ? value : size;
}

static tl_status read_ranges(tl_onnx_importer *im, const tl_shape *shape, range *out) {
    bounds begin, end, axes, steps;
    TL_TRY(read_bounds(im, 1, "starts", &begin));
    TL_TRY(read_bounds(im, 2, "ends", &end));
    TL_TRY(read_bounds(im, 3, "axes", &axes));
    TL_TRY(read_bounds(im, 4, "steps", &steps));
    if (begin.count != end.count || (axes.values && axes.count != begin.count) ||
        begin.count > shape->rank || (steps.values && steps.count != begin.count)) {
        return tl_onnx_fail(im, TL_CORRUPT, "%d starts, %d ends", begin.count, end.count);
    }
    for (int i = 0; i < shape->rank; i++) out[i] = (range){0, shape->dim[i]};
    for (int i = 0; i < begin.count; i++) {
        int axis;
        TL_TRY(tl_onnx_axis(im, axes.values ? axes.values[i] : i, shape->rank, &axis));
        if (steps.values && steps.values[i] != 1) {
            return tl_onnx_fail(im, TL_UNSUPPORTED, "a slice with steps");
        }
        out[axis] = (range){bound(begin.values[i], shape->dim[axis]),
                            bound(end.values[i], shape->dim[axis])};
        if (out[axis].begin >= out[axis].end) {
            return tl_onnx_fail(im, TL_CORRUPT, "nothing of axis %d", axis);
        }
    }
    return TL_OK;
}

static bool is_whole(const range *r, int64_t size) {
    return r->begin == 0 && r->end == size;
}

/* Height and width are cut by padding that waits to be joined with what follows. */
static tl_status slice_space(tl_onnx_importer *im, const tl_onnx_entry *x, const range *ranges) {
    int row = x->layout == TL_ONNX_NHWC ? 1 : 2;
    int64_t pad[4];
    for (int i = 0; i < 2; i++) {
        pad[i] = -ranges[row + i].begin;
        pad[i + 2] = ranges[row + i].end - x->shape.dim[row + i];
    }
    return tl_onnx_define_padded(im, x, pad);
}

tl_status tl_onnx_slice(tl_onnx_importer *im) {
    tl_onnx_entry x;
    range ranges[TL_MAX_RANK];
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(read_ranges(im, &x.shape, ranges));
    int channels = tl_onnx_channel_axis(&x), others = 0;
    bool all = is_whole(&ranges[channels], x.shape.dim[channels]);
    for (int i = 0; i < x.shape.rank; i++) {
        others += i != channels && !is_whole(&ranges[i], x.shape.dim[i]);
    }
    if (all && others == 0) return tl_onnx_define_node(im, &x, x.node);
    bool picture = tl_onnx_is_picture(&x);
    if (all && picture && is_whole(&ranges[0], 1)) return slice_space(im, &x, ranges);
    if (others > 0 || !(picture || (x.layout == TL_ONNX_FLAT && !x.chw[0]))) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a slice of other than channels, or of space");
    }
    return define_channels(im, &x, ranges[channels].begin, ranges[channels].end, 0);
}

/* The sizes are an input since opset 13, an attribute before; equal parts when there are none. */
static tl_status split_sizes(tl_onnx_importer *im, const int64_t **sizes, int *count) {
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, "split");
    *sizes = attr ? attr->ints : NULL;
    *count = attr ? attr->count : 0;
    if (!tl_onnx_has_input(im, 1)) return TL_OK;
    const tl_onnx_entry *input = NULL;
    TL_TRY(tl_onnx_ints(im, 1, &input));
    *sizes = input->ints;
    *count = input->int_count;
    return TL_OK;
}

tl_status tl_onnx_split(tl_onnx_importer *im) {
    tl_onnx_entry x;
    const int64_t *sizes = NULL;
    int axis, count, parts = im->at->output_count;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(tl_onnx_axis(im, tl_onnx_attr_int(im, "axis", 0), x.shape.rank, &axis));
    TL_TRY(split_sizes(im, &sizes, &count));
    int64_t total = x.shape.dim[axis], equal = parts ? (total + parts - 1) / parts : 0, begin = 0;
    if (axis != tl_onnx_channel_axis(&x) || !tl_onnx_is_picture(&x) || (sizes && count != parts)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a split of anything but the channels");
    }
    for (int i = 0; i < parts; i++) {
        int64_t size = sizes ? sizes[i] : equal < total - begin ? equal : total - begin;
        if (size < 1 || size > total - begin) {
            return tl_onnx_fail(im, TL_CORRUPT, "part %d has %lld of %lld channels", i,
                                (long long)size, (long long)total);
        }
        TL_TRY(define_channels(im, &x, begin, begin + size, i));
        begin += size;
    }
    return TL_OK;
}

/* One channel of a picture, which loses its axis: torchvision's transform_input. */
tl_status tl_onnx_gather(tl_onnx_importer *im) {
    tl_onnx_entry x;
    const tl_onnx_entry *index = NULL;
    int axis;
    TL_TRY(tl_onnx_activation(im, 0, &x));
    TL_TRY(tl_onnx_ints(im, 1, &index));
    TL_TRY(tl_onnx_axis(im, tl_onnx_attr_int(im, "axis", 0), x.shape.rank, &axis));
    if (x.layout != TL_ONNX_NCHW || axis != 1 || index->shape.rank != 0 || index->batch) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "of anything but one channel");
    }
    int64_t at = index->ints[0] < 0 ? index->ints[0] + x.shape.dim[1] : index->ints[0];
    if (at < 0 || at >= x.shape.dim[1]) {
        return tl_onnx_fail(im, TL_CORRUPT, "channel %lld of %lld", (long long)at,
                            (long long)x.shape.dim[1]);
    }
    x.layout = TL_ONNX_PLANE;
    x.shape = tl_shape_make(3, x.shape.dim[0], x.shape.dim[2], x.shape.dim[3]);
    return define_channels(im, &x, at, at + 1, 0);
}
