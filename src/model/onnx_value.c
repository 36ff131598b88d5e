/* The table of values, attributes, and nodes of ours. */
#include "model/onnx_import.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/stream.h"

/* --- the table -------------------------------------------------------------------------------- */

static uint32_t hash_text(const tl_onnx *onnx, tl_onnx_text text) {
    uint32_t hash = 0x811c9dc5u;
    for (uint32_t i = text.begin; i < text.end; i++) hash = (hash ^ onnx->bytes[i]) * 0x01000193u;
    return hash ^ hash >> 15;
}

tl_status tl_onnx_table_create(tl_onnx *onnx, int64_t names, tl_onnx_table *table) {
    int64_t slots = 16;
    while (slots < 2 * names) slots *= 2;
    *table = (tl_onnx_table){.onnx = onnx, .mask = (uint32_t)slots - 1};
    TL_CHECK(slots <= INT32_MAX / 2, TL_LIMIT, "%s: too many names", onnx->name);
    table->capacity = (int)names;
    TL_TRY(tl_onnx_allocate(onnx, names, sizeof *table->entry, &table->entry));
    return tl_onnx_allocate(onnx, slots, sizeof *table->slot, &table->slot);
}

void tl_onnx_table_free(tl_onnx_table *table) {
    if (!table->onnx) return;
    tl_context *ctx = table->onnx->ctx;
    for (int i = 0; i < table->count; i++) tl_free(ctx, table->entry[i].ints);
    tl_free(ctx, table->entry);
    tl_free(ctx, table->slot);
    *table = (tl_onnx_table){0};
}

tl_onnx_entry *tl_onnx_lookup(tl_onnx_table *table, tl_onnx_text name, bool create) {
    uint32_t at = hash_text(table->onnx, name) & table->mask;
    while (table->slot[at]) {
        tl_onnx_entry *entry = &table->entry[table->slot[at] - 1];
        if (tl_onnx_same(table->onnx, entry->name, name)) return entry;
        at = (at + 1) & table->mask;
    }
    if (!create) return NULL;
    assert(table->count < table->capacity);
    tl_onnx_entry *entry = &table->entry[table->count++];
    entry->name = name;
    table->slot[at] = table->count;
    return entry;
}

/* --- failures --------------------------------------------------------------------------------- */

tl_status tl_onnx_fail(const tl_onnx_importer *im, tl_status status, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const tl_onnx *onnx = im->onnx;
    return tl_fail(status, "%s: node '%.*s' (%.*s, opset %lld) at offset %u: %s", onnx->name,
                   TL_ONNX_TEXT(onnx, im->at->name), TL_ONNX_TEXT(onnx, im->at->type),
                   (long long)onnx->opset, im->at->offset, text);
}

/* --- inputs ----------------------------------------------------------------------------------- */

bool tl_onnx_has_input(const tl_onnx_importer *im, int index) {
    return index < im->at->input_count && im->at->input[index].begin != im->at->input[index].end;
}

tl_status tl_onnx_value_of(tl_onnx_importer *im, tl_onnx_text name, const tl_onnx_entry **out) {
    const tl_onnx_entry *entry = tl_onnx_lookup(&im->values, name, false);
    if (!entry || entry->kind == TL_ONNX_ABSENT) {
        return tl_onnx_fail(im, TL_CORRUPT,
                            "input '%.*s' is made by no node before this one (a cycle, or a name "
                            "that does not exist)",
                            TL_ONNX_TEXT(im->onnx, name));
    }
    *out = entry;
    return TL_OK;
}

tl_status tl_onnx_input(tl_onnx_importer *im, int index, const tl_onnx_entry **out) {
    if (!tl_onnx_has_input(im, index)) {
        return tl_onnx_fail(im, TL_CORRUPT, "input %d is missing", index);
    }
    return tl_onnx_value_of(im, im->at->input[index], out);
}

/* Our node is named after the ONNX node that waited. */
static tl_status emit_pending(tl_onnx_importer *im, const char *op, const char *attrs,
                              tl_onnx_entry *x) {
    const tl_onnx_node *at = im->at;
    int node = x->node;
    im->at = x->pending_at;
    tl_status status = tl_onnx_emit(im, op, attrs, 1, &x->node, &node);
    im->at = at;
    if (status == TL_OK) *x = tl_onnx_laid_out(im, x, node);
    return status;
}

static tl_status emit_padding(tl_onnx_importer *im, tl_onnx_entry *x) {
    char attrs[96];
    snprintf(attrs, sizeof attrs, "pad=%lld,%lld,%lld,%lld", (long long)x->pad[0],
             (long long)x->pad[1], (long long)x->pad[2], (long long)x->pad[3]);
    return emit_pending(im, "zero_pad", attrs, x);
}

tl_status tl_onnx_settle(tl_onnx_importer *im, const tl_onnx_entry *entry, tl_onnx_entry *out) {
    if (entry->kind != TL_ONNX_NODE) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "input '%.*s' is a constant",
                            TL_ONNX_TEXT(im->onnx, entry->name));
    }
    *out = *entry;
    switch (entry->pending) {
    case TL_ONNX_NOTHING:
        return TL_OK;
    case TL_ONNX_SIGMOID:
        return emit_pending(im, "sigmoid", "", out);
    case TL_ONNX_HARD_SIGMOID:
        return emit_pending(im, "hard_sigmoid", "", out);
    case TL_ONNX_PAD:
        return emit_padding(im, out);
    }
    return TL_OK;
}

tl_status tl_onnx_activation(tl_onnx_importer *im, int index, tl_onnx_entry *out) {
    const tl_onnx_entry *entry = NULL;
    *out = (tl_onnx_entry){0};
    TL_TRY(tl_onnx_input(im, index, &entry));
    return tl_onnx_settle(im, entry, out);
}

tl_status tl_onnx_ints(tl_onnx_importer *im, int index, const tl_onnx_entry **out) {
    TL_TRY(tl_onnx_input(im, index, out));
    if ((*out)->kind != TL_ONNX_SHAPE) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "input %d is not known before the network runs",
                            index);
    }
    return TL_OK;
}

tl_status tl_onnx_one_int(tl_onnx_importer *im, int index, int64_t initial, int64_t *out) {
    *out = initial;
    if (!tl_onnx_has_input(im, index)) return TL_OK;
    const tl_onnx_entry *x = NULL;
    TL_TRY(tl_onnx_ints(im, index, &x));
    if (x->int_count != 1 || x->batch) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "input %d is not one number", index);
    }
    *out = x->ints[0];
    return TL_OK;
}

tl_status tl_onnx_weight(tl_onnx_importer *im, const tl_onnx_entry *entry) {
    if (entry->kind != TL_ONNX_WEIGHT) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "input '%.*s' is not a constant",
                            TL_ONNX_TEXT(im->onnx, entry->name));
    }
    tl_dtype dtype = entry->tensor->dtype;
    if (dtype != TL_F32 && dtype != TL_F16 && dtype != TL_BF16 && dtype != TL_F64) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "input '%.*s' is %s, expected floats",
                            TL_ONNX_TEXT(im->onnx, entry->name), tl_dtype_name(dtype));
    }
    return TL_OK;
}

void tl_onnx_read_row(const tl_onnx_tensor *tensor, int64_t row, int64_t length, float *out) {
    size_t bytes = (size_t)length * tl_dtype_size(tensor->dtype);
    tl_convert_to_f32(tensor->dtype, (const char *)tensor->data + (size_t)row * bytes, out, length);
}

tl_status tl_onnx_one_float(tl_onnx_importer *im, int index, float *out) {
    const tl_onnx_entry *entry = NULL;
    TL_TRY(tl_onnx_input(im, index, &entry));
    TL_TRY(tl_onnx_weight(im, entry));
    if (entry->tensor->count != 1) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "input %d is not one number", index);
    }
    tl_onnx_read_row(entry->tensor, 0, 1, out);
    return TL_OK;
}

/* --- outputs ---------------------------------------------------------------------------------- */

tl_status tl_onnx_define_output(tl_onnx_importer *im, int index, const tl_onnx_entry *value) {
    const tl_onnx_node *at = im->at;
    if (index >= at->output_count || at->output[index].begin == at->output[index].end) {
        return tl_onnx_fail(im, TL_CORRUPT, "output %d has no name", index);
    }
    tl_onnx_text name = at->output[index];
    tl_onnx_entry *entry = tl_onnx_lookup(&im->values, name, true);
    if (entry->kind != TL_ONNX_ABSENT) {
        return tl_onnx_fail(im, TL_CORRUPT, "'%.*s' has been made before",
                            TL_ONNX_TEXT(im->onnx, name));
    }
    *entry = *value;
    entry->name = name;
    return TL_OK;
}

tl_status tl_onnx_define(tl_onnx_importer *im, const tl_onnx_entry *value) {
    return tl_onnx_define_output(im, 0, value);
}

tl_status tl_onnx_define_ints(tl_onnx_importer *im, const tl_shape *shape, const int64_t *ints,
                              uint64_t batch) {
    int64_t count = tl_shape_count(shape);
    if (count > TL_ONNX_MAX_INTS) {
        return tl_onnx_fail(im, TL_UNSUPPORTED, "arithmetic on more than %d integers",
                            TL_ONNX_MAX_INTS);
    }
    tl_onnx_entry value = {
        .kind = TL_ONNX_SHAPE, .shape = *shape, .int_count = (int)count, .batch = batch};
    TL_TRY(tl_onnx_allocate(im->onnx, count, sizeof *ints, &value.ints));
    if (count) memcpy(value.ints, ints, (size_t)count * sizeof *ints);
    tl_status status = tl_onnx_define(im, &value);
    if (status != TL_OK) tl_free(im->onnx->ctx, value.ints);
    return status;
}

static tl_shape onnx_shape(const tl_shape *s, tl_onnx_layout layout) {
    if (layout != TL_ONNX_NCHW) return *s;
    return tl_shape_make(4, s->dim[0], s->dim[3], s->dim[1], s->dim[2]);
}

tl_onnx_entry tl_onnx_laid_out(const tl_onnx_importer *im, const tl_onnx_entry *like, int node) {
    tl_onnx_entry value = *like;
    value.kind = TL_ONNX_NODE;
    value.node = node;
    value.pending = TL_ONNX_NOTHING;
    if (value.layout <= TL_ONNX_FLAT) {
        value.shape = onnx_shape(&im->graph->node[node].shape, value.layout);
    }
    return value;
}

tl_status tl_onnx_define_node(tl_onnx_importer *im, const tl_onnx_entry *like, int node) {
    tl_onnx_entry value = tl_onnx_laid_out(im, like, node);
    return tl_onnx_define(im, &value);
}

/* --- shapes ----------------------------------------------------------------------------------- */

int tl_onnx_channel_axis(const tl_onnx_entry *x) {
    int last = x->shape.rank - 1;
    if (x->layout == TL_ONNX_POOLED && x->shape.dim[1] == 1) return last;
    return x->layout == TL_ONNX_NHWC ? last : 1;
}

bool tl_onnx_is_picture(const tl_onnx_entry *x) {
    return x->layout == TL_ONNX_NCHW || x->layout == TL_ONNX_NHWC;
}

tl_status tl_onnx_axis(const tl_onnx_importer *im, int64_t axis, int rank, int *out) {
    *out = 0;
    if (axis < -rank || axis >= rank) {
        return tl_onnx_fail(im, TL_CORRUPT, "axis %lld of %d", (long long)axis, rank);
    }
    *out = (int)(axis < 0 ? axis + rank : axis);
    return TL_OK;
}

/* --- attributes ------------------------------------------------------------------------------- */

int64_t tl_onnx_attr_int(const tl_onnx_importer *im, const char *name, int64_t initial) {
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, name);
    return attr && attr->type == TL_ONNX_INT ? attr->i : initial;
}

float tl_onnx_attr_float(const tl_onnx_importer *im, const char *name, float initial) {
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, name);
    return attr && attr->type == TL_ONNX_FLOAT ? attr->f : initial;
}

tl_status tl_onnx_attr_ints(const tl_onnx_importer *im, const char *name, int count,
                            int64_t initial, int64_t *out) {
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, name);
    if (!attr) {
        for (int i = 0; i < count; i++) out[i] = initial;
        return TL_OK;
    }
    if (attr->type != TL_ONNX_INTS || attr->count != count) {
        return tl_onnx_fail(im, TL_CORRUPT, "%s has %d values, expected %d", name, attr->count,
                            count);
    }
    memcpy(out, attr->ints, (size_t)count * sizeof *out);
    return TL_OK;
}

bool tl_onnx_attr_is(const tl_onnx_importer *im, const char *name, const char *value) {
    const tl_onnx_attr *attr = tl_onnx_attr_find(im->onnx, im->at, name);
    return attr && tl_onnx_is(im->onnx, attr->s, value);
}

/* --- our nodes -------------------------------------------------------------------------------- */

/* "layer1.0.conv1.weight" is the best source of a name: it is what the framework's user knows.
 * Else the node's, else its output's. */
static tl_onnx_text base_name(tl_onnx_importer *im) {
    static const char suffix[] = ".weight";
    const uint32_t length = sizeof suffix - 1;
    const tl_onnx *onnx = im->onnx;
    if (tl_onnx_has_input(im, 1)) {
        tl_onnx_text text = im->at->input[1];
        if (text.end - text.begin > length &&
            memcmp(onnx->bytes + text.end - length, suffix, length) == 0) {
            text.end -= length;
            return text;
        }
    }
    tl_onnx_text text = im->at->name;
    if (text.begin == text.end) text = im->at->output[0];
    /* PyTorch begins paths with a slash. */
    if (text.begin < text.end && onnx->bytes[text.begin] == '/') text.begin++;
    return text;
}

static bool is_printable(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 127) return false;
    }
    return length > 0 && tl_utf8_valid(text, length);
}

/* A name that no node of ours has yet; NULL when memory is out. */
static char *unique_name(tl_onnx_importer *im) {
    tl_context *ctx = im->onnx->ctx;
    tl_onnx_text text = base_name(im);
    const char *bytes = (const char *)im->onnx->bytes + text.begin;
    if (!is_printable(bytes, text.end - text.begin)) {
        return tl_format(ctx, "node.%d", im->graph->node_count);
    }
    char *name = tl_format(ctx, "%.*s", TL_ONNX_TEXT(im->onnx, text));
    if (!name || tl_graph_find_node(im->graph, name) < 0) return name;
    tl_free(ctx, name);
    return tl_format(ctx, "%.*s_%d", TL_ONNX_TEXT(im->onnx, text), im->graph->node_count);
}

tl_status tl_onnx_emit(tl_onnx_importer *im, const char *op, const char *attrs, int input_count,
                       const int *inputs, int *node) {
    char *name = unique_name(im);
    TL_CHECK_MEMORY(name);
    tl_status status = tl_graph_add(im->graph, op, name, attrs, input_count, inputs, node);
    tl_free(im->onnx->ctx, name);
    if (status == TL_OK || status == TL_NO_MEMORY) return status;
    char text[512];
    snprintf(text, sizeof text, "%s", tl_last_error());
    /* Attributes out of an operator's range come from the file. */
    return tl_onnx_fail(im, status == TL_INVALID_ARGUMENT ? TL_UNSUPPORTED : status, "%s", text);
}

float *tl_onnx_param(tl_onnx_importer *im, int node, const char *name) {
    const tl_node *n = &im->graph->node[node];
    size_t prefix = strlen(n->name) + 1;
    int i = n->first_param, end = i + n->param_count;
    while (i < end && strcmp(im->graph->param[i].name + prefix, name) != 0) i++;
    assert(i < end);
    return tl_tensor_f32(im->graph->param[i].value);
}
