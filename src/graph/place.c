/* The arena of a plan: an offset for every buffer. */
#include <stdlib.h>

#include "graph/plan.h"

static int largest_first(const void *left, const void *right) {
    const tl_buffer *a = *(tl_buffer *const *)left, *b = *(tl_buffer *const *)right;
    if (a->size != b->size) return a->size < b->size ? 1 : -1;
    return a < b ? -1 : a > b;
}

/* The lowest end of the smallest gap that fits among buffers in use at the same time. `placed` is
 * sorted by offset. */
static size_t find_gap(const tl_buffer *buffer, tl_buffer *const *placed, int count) {
    size_t end = 0, best = SIZE_MAX, offset = SIZE_MAX;
    for (int i = 0; i < count; i++) {
        const tl_buffer *other = placed[i];
        if (other->last < buffer->first || other->first > buffer->last) continue;
        if (other->offset >= end) {
            size_t gap = other->offset - end;
            if (gap >= buffer->size && gap < best) {
                best = gap;
                offset = end;
            }
        }
        if (other->offset + other->size > end) end = other->offset + other->size;
    }
    return offset == SIZE_MAX ? end : offset;
}

/* Largest first, each into the tightest gap: "greedy by size" of Pisarchyk and Lee, "Efficient
 * memory management for deep neural net inference", 2020. */
tl_status tl_plan_place_buffers(tl_plan *plan, size_t *total) {
    size_t count = (size_t)plan->buffer_count;
    tl_buffer **order = tl_alloc_array(plan->ctx, 2 * count, sizeof *order);
    TL_CHECK_MEMORY(order);
    tl_buffer **placed = order + count;
    for (size_t i = 0; i < count; i++) order[i] = &plan->buffer[i];
    qsort(order, count, sizeof *order, largest_first);

    tl_status status = TL_OK;
    *total = 0;
    for (size_t i = 0; i < count; i++) {
        tl_buffer *buffer = order[i];
        buffer->offset = find_gap(buffer, placed, (int)i);
        size_t end;
        if (__builtin_add_overflow(buffer->offset, buffer->size, &end) || end > PTRDIFF_MAX) {
            status = tl_fail(TL_LIMIT, "plan: the size of the arena overflows");
            break;
        }
        if (end > *total) *total = end;
        size_t at = i;
        for (; at > 0 && placed[at - 1]->offset > buffer->offset; at--) placed[at] = placed[at - 1];
        placed[at] = buffer;
    }
    tl_free(plan->ctx, order);
    return status;
}
