/* Constants and the arithmetic on shapes that exporters write out (Shape, Gather, Concat, ...
 * before a Reshape). Everything here is done at import; the batch size, unknown then, is carried as
 * a mark. */
#include "model/onnx_import.h"

#include <string.h>

static tl_shape vector_shape(int64_t count) {
    return tl_shape_make(1, count);
}

/* Integer tensors of a few elements are what shapes are computed from; all others are weights. */
static tl_status define_tensor(tl_onnx_importer *im, const tl_onnx_tensor *tensor) {
    bool integers = tensor->dtype == TL_I64 || tensor->dtype == TL_I32;
    if (integers && tensor->count <= TL_ONNX_MAX_INTS) {
        int64_t ints[TL_ONNX_MAX_INTS];
        for (int64_t i = 0; i < tensor->count; i++) {
            size_t size = tl_dtype_size(tensor->dtype);
            const char *from = (const char *)tensor->data + (size_t)i * size;
            int32_t narrow;
            if (size == sizeof narrow) {
                memcpy(&narrow, from, size);
                ints[i] = narrow;
            } else {
                memcpy(&ints[i], from, size);
            }
        }
        return tl_onnx_define_ints(im, &tensor->shape, ints, 0);
    }
    tl_onnx_entry value = {.kind = TL_ONNX_WEIGHT, .shape = tensor->shape, .tensor = tensor};
    return tl_onnx_define(im, &value);
}

tl_status tl_onnx_define_initializer(tl_onnx_importer *im, tl_onnx_tensor *tensor) {
    tl_onnx_node constant = {.output_count = 1, .output = &tensor->name, .offset = tensor->offset};
    im->at = &constant;
    tl_status status = define_tensor(im, tensor);
    im->at = NULL;
    return status;
}

static tl_status fold_constant(tl_onnx_importer *im) {
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, "value");
    if (attr && attr->tensor) return define_tensor(im, attr->tensor);
    attr = tl_onnx_attr_find(im->onnx, im->at, "value_int");
    if (attr) return tl_onnx_define_ints(im, &(tl_shape){.rank = 0}, &attr->i, 0);
    attr = tl_onnx_attr_find(im->onnx, im->at, "value_ints");
    if (attr && attr->count <= TL_ONNX_MAX_INTS) {
        tl_shape shape = vector_shape(attr->count);
        return tl_onnx_define_ints(im, &shape, attr->ints, 0);
    }
    return tl_onnx_fail(im, TL_UNSUPPORTED, "a constant without a tensor");
}

static tl_status fold_shape(tl_onnx_importer *im) {
    const tl_onnx_entry *x = NULL;
    TL_TRY(tl_onnx_input(im, 0, &x));
    int64_t start = tl_onnx_attr_int(im, "start", 0);
    int64_t end = tl_onnx_attr_int(im, "end", x->shape.rank);
    if (start < 0) start += x->shape.rank;
    if (end < 0) end += x->shape.rank;
    if (start < 0 || end > x->shape.rank || start > end) {
        return tl_onnx_fail(im, TL_CORRUPT, "start and end are outside the shape");
    }
    tl_shape shape = vector_shape(end - start);
    uint64_t batch = x->kind == TL_ONNX_NODE && start == 0 && end > 0 ? 1 : 0;
    return tl_onnx_define_ints(im, &shape, x->shape.dim + start, batch);
}

tl_status tl_onnx_reshaped(const tl_onnx_importer *im, const tl_onnx_entry *x,
                           const tl_onnx_entry *target, int64_t count, tl_shape *out) {
    if (target->int_count > TL_MAX_RANK) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "rank %d", target->int_count);
    }
    out->rank = target->int_count;
    int unknown = -1;
    for (int i = 0; i < target->int_count; i++) {
        int64_t dim = target->ints[i];
        if (dim == 0 && i < x->shape.rank) dim = x->shape.dim[i];
        if (i == 0 && x->kind == TL_ONNX_NODE && dim == im->batch) dim = 1;
        if (dim == -1 && unknown >= 0) return tl_onnx_fail(im, TL_CORRUPT, "two dimensions of -1");
        if (dim == -1) unknown = i;
        out->dim[i] = dim == -1 ? 1 : dim;
    }
    int64_t known = tl_shape_count(out);
    if (unknown >= 0 && known > 0) out->dim[unknown] = count / known;
    if (tl_shape_count(out) != count) {
        char from[TL_SHAPE_TEXT], to[TL_SHAPE_TEXT];
        return tl_onnx_fail(im, TL_SHAPE, "%s cannot become %s", tl_shape_text(&x->shape, from),
                            tl_shape_text(out, to));
    }
    return TL_OK;
}

/* Same integers, possibly of another shape: Cast, Squeeze, Unsqueeze, Identity, Floor. */
static tl_status fold_same(tl_onnx_importer *im) {
    const tl_onnx_entry *x = NULL;
    TL_TRY(tl_onnx_ints(im, 0, &x));
    bool scalar = tl_onnx_is(im->onnx, im->at->type, "Squeeze") && x->int_count == 1;
    tl_shape shape = scalar ? (tl_shape){.rank = 0} : vector_shape(x->int_count);
    if (tl_onnx_is(im->onnx, im->at->type, "Cast") ||
        tl_onnx_is(im->onnx, im->at->type, "Identity")) {
        shape = x->shape;
    }
    return tl_onnx_define_ints(im, &shape, x->ints, x->batch);
}

static tl_status fold_gather(tl_onnx_importer *im) {
    const tl_onnx_entry *x = NULL, *index = NULL;
    TL_TRY(tl_onnx_ints(im, 0, &x));
    TL_TRY(tl_onnx_ints(im, 1, &index));
    int64_t ints[TL_ONNX_MAX_INTS];
    uint64_t batch = 0;
    for (int i = 0; i < index->int_count; i++) {
        int64_t at = index->ints[i] < 0 ? index->ints[i] + x->int_count : index->ints[i];
        if (at < 0 || at >= x->int_count) {
            return tl_onnx_fail(im, TL_CORRUPT, "index %lld of %d elements",
                                (long long)index->ints[i], x->int_count);
        }
        ints[i] = x->ints[at];
        batch |= (x->batch >> at & 1) << i;
    }
    return tl_onnx_define_ints(im, &index->shape, ints, batch);
}

static tl_status fold_concat(tl_onnx_importer *im) {
    int64_t ints[TL_ONNX_MAX_INTS];
    uint64_t batch = 0;
    int count = 0;
    for (int i = 0; i < im->at->input_count; i++) {
        const tl_onnx_entry *x = NULL;
        TL_TRY(tl_onnx_ints(im, i, &x));
        if (count + x->int_count > TL_ONNX_MAX_INTS) {
            return tl_onnx_fail(im, TL_UNSUPPORTED, "arithmetic on more than %d integers",
                                TL_ONNX_MAX_INTS);
        }
        if (x->int_count == 0) continue;
        memcpy(ints + count, x->ints, (size_t)x->int_count * sizeof *ints);
        batch |= x->batch << count;
        count += x->int_count;
    }
    tl_shape shape = vector_shape(count);
    return tl_onnx_define_ints(im, &shape, ints, batch);
}

/* Starts, ends and steps are inputs since opset 10 and attributes before. */
static tl_status slice_bound(tl_onnx_importer *im, int input, const char *attr, int64_t initial,
                             int64_t *out) {
    if (im->at->input_count > 1) return tl_onnx_one_int(im, input, initial, out);
    return tl_onnx_attr_ints(im, attr, 1, initial, out);
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

/* Rows of the first axis, forwards or backwards. */
static tl_status fold_slice(tl_onnx_importer *im) {
    const tl_onnx_entry *x = NULL;
    int64_t start, end, axis, step, ints[TL_ONNX_MAX_INTS];
    TL_TRY(tl_onnx_ints(im, 0, &x));
    int64_t size = x->shape.rank > 0 ? x->shape.dim[0] : 1;
    int64_t width = size > 0 ? x->int_count / size : 0;
    TL_TRY(slice_bound(im, 4, "steps", 1, &step));
    TL_TRY(slice_bound(im, 1, "starts", 0, &start));
    TL_TRY(slice_bound(im, 2, "ends", size, &end));
    TL_TRY(slice_bound(im, 3, "axes", 0, &axis));
    if (axis != 0 || (step != 1 && step != -1)) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "a slice with steps, or of inner axes");
    }
    /* Backwards the last row that is taken may be the first, which lies before `end`. */
    start = clamp(start < 0 ? start + size : start, 0, step > 0 ? size : size - 1);
    end = clamp(end < 0 ? (end < -size ? -1 : end + size) : end, step > 0 ? 0 : -1, size);
    int64_t rows = step > 0 ? end - start : start - end;
    uint64_t batch = 0;
    int count = 0;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < width; i++) {
            int64_t at = (start + r * step) * width + i;
            batch |= (x->batch >> at & 1) << count;
            ints[count++] = x->ints[at];
        }
    }
    tl_shape shape = x->shape;
    if (shape.rank == 0) shape = vector_shape(1);
    shape.dim[0] = rows > 0 ? rows : 0;
    return tl_onnx_define_ints(im, &shape, ints, batch);
}

static tl_status fold_reshape(tl_onnx_importer *im) {
    const tl_onnx_entry *x = NULL, *target = NULL;
    TL_TRY(tl_onnx_ints(im, 0, &x));
    TL_TRY(tl_onnx_ints(im, 1, &target));
    tl_shape shape;
    TL_TRY(tl_onnx_reshaped(im, x, target, x->int_count, &shape));
    return tl_onnx_define_ints(im, &shape, x->ints, x->batch);
}

static tl_status fold_transpose(tl_onnx_importer *im) {
    const tl_onnx_entry *x = NULL;
    int64_t order[2], ints[TL_ONNX_MAX_INTS];
    TL_TRY(tl_onnx_ints(im, 0, &x));
    TL_TRY(tl_onnx_attr_ints(im, "perm", 2, -1, order));
    if (x->shape.rank != 2 || order[0] == 0 || x->batch) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "of these integers");
    }
    int64_t rows = x->shape.dim[0], columns = x->shape.dim[1];
    for (int64_t i = 0; i < x->int_count; i++) {
        ints[i] = x->ints[i % rows * columns + i / rows];
    }
    tl_shape shape = tl_shape_make(2, columns, rows);
    return tl_onnx_define_ints(im, &shape, ints, 0);
}

/* Zeros, or another number, of a shape. */
static tl_status fold_constant_of_shape(tl_onnx_importer *im) {
    const tl_onnx_entry *x = NULL;
    int64_t ints[TL_ONNX_MAX_INTS], value = 0;
    TL_TRY(tl_onnx_ints(im, 0, &x));
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, "value");
    const tl_onnx_tensor *tensor = attr ? attr->tensor : NULL;
    bool integer = tensor && tensor->dtype == TL_I64 && tensor->count == 1;
    if (!integer || x->int_count != 1 || x->batch || x->ints[0] < 0 ||
        x->ints[0] > TL_ONNX_MAX_INTS) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "of other than a few integers");
    }
    memcpy(&value, tensor->data, sizeof value);
    for (int64_t i = 0; i < x->ints[0]; i++) ints[i] = value;
    tl_shape shape = vector_shape(x->ints[0]);
    return tl_onnx_define_ints(im, &shape, ints, 0);
}

typedef bool (*int_operation)(int64_t a, int64_t b, int64_t *out);

static bool add_ints(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
static bool subtract_ints(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_sub_overflow(a, b, out);
}
static bool multiply_ints(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static bool divide_ints(int64_t a, int64_t b, int64_t *out) {
    if (b == 0 || (a == INT64_MIN && b == -1)) return false;
    *out = a / b;
    return true;
}

/* Element by element, one side may be a single number. Nothing is computed from a batch size but
 * its product or quotient with 1. */
static tl_status fold_binary(tl_onnx_importer *im, int_operation operation) {
    const tl_onnx_entry *a = NULL, *b = NULL;
    TL_TRY(tl_onnx_ints(im, 0, &a));
    TL_TRY(tl_onnx_ints(im, 1, &b));
    if (a->int_count != b->int_count && a->int_count != 1 && b->int_count != 1) {
        return tl_onnx_fail(im, TL_CORRUPT, "%d and %d elements", a->int_count, b->int_count);
    }
    const tl_onnx_entry *longer = a->int_count >= b->int_count ? a : b;
    int64_t ints[TL_ONNX_MAX_INTS];
    for (int i = 0; i < longer->int_count; i++) {
        int64_t x = a->ints[a->int_count == 1 ? 0 : i], y = b->ints[b->int_count == 1 ? 0 : i];
        if (!operation(x, y, &ints[i])) return tl_onnx_fail(im, TL_CORRUPT, "an integer overflows");
    }
    if ((a->batch | b->batch) != 0) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "arithmetic on the batch size");
    }
    return tl_onnx_define_ints(im, &longer->shape, ints, 0);
}

static tl_status fold_add(tl_onnx_importer *im) {
    return fold_binary(im, add_ints);
}
static tl_status fold_sub(tl_onnx_importer *im) {
    return fold_binary(im, subtract_ints);
}
static tl_status fold_mul(tl_onnx_importer *im) {
    return fold_binary(im, multiply_ints);
}
static tl_status fold_div(tl_onnx_importer *im) {
    return fold_binary(im, divide_ints);
}

/* --- weights ---------------------------------------------------------------------------------- */

/* A cast changes nothing: the tensor knows its own type. */
static tl_status weight_same(tl_onnx_importer *im, const tl_onnx_entry *x) {
    tl_onnx_entry value = *x;
    return tl_onnx_define(im, &value);
}

static tl_status weight_transpose(tl_onnx_importer *im, const tl_onnx_entry *x) {
    tl_onnx_entry value = *x;
    int64_t order[2] = {1, 0};
    if (x->shape.rank != 2)
        return tl_onnx_fail(im, TL_UNSUPPORTED, "of a constant of other rank than 2");
    TL_TRY(tl_onnx_attr_ints(im, "perm", 2, -1, order));
    if (order[0] != 0) {
        value.transposed = !value.transposed;
        value.shape = tl_shape_make(2, x->shape.dim[1], x->shape.dim[0]);
    }
    return tl_onnx_define(im, &value);
}

static tl_status weight_reshape(tl_onnx_importer *im, const tl_onnx_entry *x) {
    const tl_onnx_entry *target = NULL;
    TL_TRY(tl_onnx_ints(im, 1, &target));
    tl_onnx_entry value = *x;
    if (x->transposed) return tl_onnx_fail(im, TL_UNSUPPORTED, "of this constant");
    TL_TRY(tl_onnx_reshaped(im, x, target, x->tensor->count, &value.shape));
    return tl_onnx_define(im, &value);
}

static tl_status weight_unsqueeze(tl_onnx_importer *im, const tl_onnx_entry *x) {
    tl_onnx_entry value = *x;
    int64_t axis = 0;
    int at = 0;
    TL_TRY(tl_onnx_has_input(im, 1) ? tl_onnx_one_int(im, 1, 0, &axis)
                                    : tl_onnx_attr_ints(im, "axes", 1, 0, &axis));
    TL_TRY(tl_onnx_axis(im, axis, x->shape.rank + 1, &at));
    if (x->transposed || x->shape.rank == TL_MAX_RANK) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "of this constant");
    }
    for (int i = value.shape.rank++; i > at; i--) value.shape.dim[i] = value.shape.dim[i - 1];
    value.shape.dim[at] = 1;
    return tl_onnx_define(im, &value);
}

static const struct {
    const char *type;
    tl_status (*fold)(tl_onnx_importer *im, const tl_onnx_entry *x);
} weight_folds[] = {{"Cast", weight_same},
                    {"Identity", weight_same},
                    {"Transpose", weight_transpose},
                    {"Reshape", weight_reshape},
                    {"Unsqueeze", weight_unsqueeze}};

static tl_status fold_weight(tl_onnx_importer *im, const tl_onnx_entry *x, bool *done) {
    for (size_t i = 0; i < sizeof weight_folds / sizeof weight_folds[0]; i++) {
        if (!tl_onnx_is(im->onnx, im->at->type, weight_folds[i].type)) continue;
        *done = true;
        return weight_folds[i].fold(im, x);
    }
    return TL_OK;
}

/* --- all -------------------------------------------------------------------------------------- */

static const struct {
    const char *type;
    tl_onnx_handler fold;
} folds[] = {
    {"Cast", fold_same},
    {"Squeeze", fold_same},
    {"Unsqueeze", fold_same},
    {"Identity", fold_same},
    {"Floor", fold_same},
    {"Reshape", fold_reshape},
    {"Transpose", fold_transpose},
    {"ConstantOfShape", fold_constant_of_shape},
    {"Gather", fold_gather},
    {"Concat", fold_concat},
    {"Slice", fold_slice},
    {"Add", fold_add},
    {"Sub", fold_sub},
    {"Mul", fold_mul},
    {"Div", fold_div},
};

tl_status tl_onnx_fold(tl_onnx_importer *im, bool *done) {
    const tl_onnx *onnx = im->onnx;
    *done = true;
    if (tl_onnx_is(onnx, im->at->type, "Constant")) return fold_constant(im);
    if (tl_onnx_is(onnx, im->at->type, "Shape")) return fold_shape(im);
    *done = false;
    if (!tl_onnx_has_input(im, 0)) return TL_OK;
    const tl_onnx_entry *x = NULL;
    TL_TRY(tl_onnx_input(im, 0, &x));
    if (x->kind == TL_ONNX_WEIGHT) return fold_weight(im, x, done);
    if (x->kind != TL_ONNX_SHAPE) return TL_OK;
    for (size_t i = 0; i < sizeof folds / sizeof folds[0]; i++) {
        if (!tl_onnx_is(onnx, im->at->type, folds[i].type)) continue;
        *done = true;
        return folds[i].fold(im);
    }
    return TL_OK;
}
