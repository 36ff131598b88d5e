#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tensor/tensor.h"

tl_shape tl_shape_make(int rank, ...) {
    tl_shape shape = {.rank = rank};
    va_list args;
    va_start(args, rank);
    for (int i = 0; i < rank; i++) shape.dim[i] = va_arg(args, int64_t);
    va_end(args);
    return shape;
}

int64_t tl_shape_count(const tl_shape *shape) {
    int64_t count = 1;
    bool zero = false;
    for (int i = 0; i < shape->rank; i++) {
        int64_t dim = shape->dim[i];
        if (dim < 0) return -1;
        /* A zero elsewhere must not hide an overflow: [2^62, 4, 0] is refused in any order. */
        if (dim == 0) {
            zero = true;
        } else if (__builtin_mul_overflow(count, dim, &count)) {
            return -1;
        }
    }
    return zero ? 0 : count;
}

bool tl_shape_equal(const tl_shape *a, const tl_shape *b) {
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

const char *tl_shape_text(const tl_shape *shape, char buffer[TL_SHAPE_TEXT]) {
    size_t used = (size_t)snprintf(buffer, TL_SHAPE_TEXT, "[");
    for (int i = 0; i < shape->rank && used < TL_SHAPE_TEXT; i++) {
        used += (size_t)snprintf(buffer + used, TL_SHAPE_TEXT - used, "%s%" PRId64, i ? ", " : "",
                                 shape->dim[i]);
    }
    if (used < TL_SHAPE_TEXT) snprintf(buffer + used, TL_SHAPE_TEXT - used, "]");
    return buffer;
}
