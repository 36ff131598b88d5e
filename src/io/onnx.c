#include "io/onnx_parser.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

/* What a file can make us allocate beside its own bytes and the network's weights: enough for every
 * real network, and within 16 MiB + 4 times the file together with them. */
#define STRUCT_BUDGET(size) ((uint64_t)8 * 1024 * 1024 + (uint64_t)(size))

/* How many fields of a number the rest of the message holds. */
static tl_status count_fields(tl_pb reader, uint32_t number, int *count) {
    *count = 0;
    tl_pb_field field;
    do {
        TL_TRY(tl_pb_next(&reader, &field));
        if (field.number == number) (*count)++;
    } while (field.number);
    return TL_OK;
}

/* --- attributes and nodes --------------------------------------------------------------------- */

static tl_status read_attr_tensor(tl_onnx *onnx, const tl_pb *r, const tl_pb_field *field,
                                  tl_onnx_attr *attr) {
    TL_TRY(tl_pb_expect(r, field, TL_PB_BYTES, "a tensor attribute"));
    TL_CHECK(!attr->tensor, TL_CORRUPT, "%s: offset %u: an attribute with two tensors", r->name,
             field->offset);
    TL_TRY(tl_onnx_allocate(onnx, 1, sizeof *attr->tensor, &attr->tensor));
    return tl_onnx_read_tensor(onnx, tl_pb_enter(r, field->span), attr->tensor);
}

/* Files before IR version 3 have no type field; it follows from the field that is there. */
static tl_status read_attr_field(tl_onnx *onnx, const tl_pb *r, const tl_pb_field *field,
                                 tl_onnx_attr *attr, tl_onnx_attr_type *implied) {
    uint32_t bits;
    int64_t type;
    switch (field->number) {
    case 1:
        return tl_onnx_text_field(r, field, "an attribute's name", &attr->name);
    case 2:
        TL_TRY(tl_pb_expect(r, field, TL_PB_FIXED32, "a float attribute"));
        bits = (uint32_t)field->value;
        memcpy(&attr->f, &bits, sizeof bits);
        *implied = TL_ONNX_FLOAT;
        return TL_OK;
    case 3:
        *implied = TL_ONNX_INT;
        return tl_onnx_int_field(r, field, "an int attribute", &attr->i);
    case 4:
        *implied = TL_ONNX_STRING;
        return tl_onnx_text_field(r, field, "a string attribute", &attr->s);
    case 5:
        *implied = TL_ONNX_TENSOR;
        return read_attr_tensor(onnx, r, field, attr);
    case 6:
    case 11:
        /* Control flow: the importer names the node; the inside is not read. */
        *implied = TL_ONNX_GRAPH;
        return tl_pb_expect(r, field, TL_PB_BYTES, "a graph attribute");
    case 7:
        *implied = TL_ONNX_FLOATS;
        return TL_OK;
    case 8:
        *implied = TL_ONNX_INTS;
        return TL_OK;
    case 9:
        *implied = TL_ONNX_STRINGS;
        return TL_OK;
    case 20:
        TL_TRY(tl_onnx_int_field(r, field, "an attribute's type", &type));
        TL_CHECK(type >= 0 && type <= 14, TL_CORRUPT, "%s: offset %u: attribute type %" PRId64,
                 r->name, field->offset, type);
        attr->type = (tl_onnx_attr_type)type;
        return TL_OK;
    default:
        return TL_OK;
    }
}

static tl_status read_attr(tl_onnx *onnx, tl_pb r, tl_onnx_attr *attr) {
    tl_pb whole = r;
    tl_onnx_attr_type implied = (tl_onnx_attr_type)0;
    tl_pb_field field;
    do {
        TL_TRY(tl_pb_next(&r, &field));
        TL_TRY(read_attr_field(onnx, &r, &field, attr, &implied));
    } while (field.number);
    if (!attr->type) attr->type = implied;
    int64_t count = 0;
    if (attr->type == TL_ONNX_INTS) {
        TL_TRY(tl_onnx_read_numbers(onnx, whole, 8, TL_PB_VARINT, sizeof *attr->ints, &attr->ints,
                                    &count));
    } else if (attr->type == TL_ONNX_FLOATS) {
        TL_TRY(tl_onnx_read_numbers(onnx, whole, 7, TL_PB_FIXED32, sizeof *attr->floats,
                                    &attr->floats, &count));
    }
    attr->count = (int)count;
    return TL_OK;
}

static tl_status allocate_node(tl_onnx *onnx, tl_pb r, tl_onnx_node *node) {
    int inputs, outputs, attrs;
    TL_TRY(count_fields(r, 1, &inputs));
    TL_TRY(count_fields(r, 2, &outputs));
    TL_TRY(count_fields(r, 5, &attrs));
    TL_TRY(tl_onnx_allocate(onnx, inputs, sizeof *node->input, &node->input));
    TL_TRY(tl_onnx_allocate(onnx, outputs, sizeof *node->output, &node->output));
    return tl_onnx_allocate(onnx, attrs, sizeof *node->attr, &node->attr);
}

static tl_status read_node(tl_onnx *onnx, tl_pb r, tl_onnx_node *node) {
    node->offset = r.position;
    TL_TRY(allocate_node(onnx, r, node));
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&r, &field));
        switch (field.number) {
        case 0:
            return TL_OK;
        case 1:
            TL_TRY(tl_onnx_text_field(&r, &field, "a node's input",
                                      &node->input[node->input_count++]));
            break;
        case 2:
            TL_TRY(tl_onnx_text_field(&r, &field, "a node's output",
                                      &node->output[node->output_count++]));
            break;
        case 3:
            TL_TRY(tl_onnx_text_field(&r, &field, "a node's name", &node->name));
            break;
        case 4:
            TL_TRY(tl_onnx_text_field(&r, &field, "op_type", &node->type));
            break;
        case 5:
            TL_TRY(tl_pb_expect(&r, &field, TL_PB_BYTES, "an attribute"));
            /* Counted first, so that a failure inside frees what it holds. */
            node->attr_count++;
            TL_TRY(read_attr(onnx, tl_pb_enter(&r, field.span), &node->attr[node->attr_count - 1]));
            break;
        case 7:
            TL_TRY(tl_onnx_text_field(&r, &field, "a node's domain", &node->domain));
            break;
        default:
            break;
        }
    }
}

/* --- inputs and outputs ----------------------------------------------------------------------- */

static tl_status read_dimension(tl_pb r, int64_t *out) {
    *out = -1;
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&r, &field));
        if (!field.number) return TL_OK;
        if (field.number != 1) continue;
        TL_TRY(tl_onnx_int_field(&r, &field, "dim_value", out));
        TL_CHECK(*out >= 0, TL_CORRUPT, "%s: offset %u: dimension %" PRId64, r.name, field.offset,
                 *out);
    }
}

static tl_status read_value_shape(tl_pb r, tl_onnx_value *value) {
    value->rank = 0;
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&r, &field));
        if (!field.number) return TL_OK;
        if (field.number != 1) continue;
        TL_TRY(tl_pb_expect(&r, &field, TL_PB_BYTES, "a dimension"));
        TL_CHECK(value->rank < TL_MAX_RANK, TL_UNSUPPORTED, "%s: offset %u: rank above %d", r.name,
                 field.offset, TL_MAX_RANK);
        TL_TRY(read_dimension(tl_pb_enter(&r, field.span), &value->dim[value->rank++]));
    }
}

/* ValueInfoProto.type.tensor_type.shape: three messages inside one another. */
static tl_status find_message(tl_pb r, uint32_t number, const char *what, tl_pb_span *out) {
    *out = (tl_pb_span){0, 0};
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&r, &field));
        if (!field.number) return TL_OK;
        if (field.number == number) TL_TRY(tl_onnx_text_field(&r, &field, what, out));
    }
}

static tl_status read_value(tl_pb r, tl_onnx_value *value) {
    *value = (tl_onnx_value){.rank = -1, .offset = r.position};
    tl_pb_span span;
    TL_TRY(find_message(r, 1, "a value's name", &value->name));
    TL_TRY(find_message(r, 2, "a value's type", &span));
    TL_TRY(find_message(tl_pb_enter(&r, span), 1, "tensor_type", &span));
    TL_TRY(find_message(tl_pb_enter(&r, span), 2, "shape", &span));
    if (span.begin == span.end) return TL_OK;
    return read_value_shape(tl_pb_enter(&r, span), value);
}

/* --- graph and model -------------------------------------------------------------------------- */

static tl_status read_graph_field(tl_onnx *onnx, const tl_pb *r, const tl_pb_field *field) {
    tl_pb inner = tl_pb_enter(r, field->span);
    switch (field->number) {
    case 1:
        onnx->node_count++;
        return read_node(onnx, inner, &onnx->node[onnx->node_count - 1]);
    case 5:
        onnx->initializer_count++;
        return tl_onnx_read_tensor(onnx, inner, &onnx->initializer[onnx->initializer_count - 1]);
    case 11:
        return read_value(inner, &onnx->input[onnx->input_count++]);
    case 12:
        return read_value(inner, &onnx->output[onnx->output_count++]);
    case 15:
        return tl_fail(TL_UNSUPPORTED, "%s: offset %u: sparse initializers", onnx->name,
                       field->offset);
    default:
        return TL_OK;
    }
}

static tl_status read_graph(tl_onnx *onnx, tl_pb r) {
    int nodes, initializers, inputs, outputs;
    TL_CHECK(!onnx->node && !onnx->initializer, TL_CORRUPT, "%s: offset %u: a second graph",
             onnx->name, r.position);
    TL_TRY(count_fields(r, 1, &nodes));
    TL_TRY(count_fields(r, 5, &initializers));
    TL_TRY(count_fields(r, 11, &inputs));
    TL_TRY(count_fields(r, 12, &outputs));
    TL_TRY(tl_onnx_allocate(onnx, nodes, sizeof *onnx->node, &onnx->node));
    TL_TRY(tl_onnx_allocate(onnx, initializers, sizeof *onnx->initializer, &onnx->initializer));
    TL_TRY(tl_onnx_allocate(onnx, inputs, sizeof *onnx->input, &onnx->input));
    TL_TRY(tl_onnx_allocate(onnx, outputs, sizeof *onnx->output, &onnx->output));
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&r, &field));
        if (!field.number) return TL_OK;
        TL_TRY(tl_pb_expect(&r, &field, TL_PB_BYTES, "a part of the graph"));
        TL_TRY(read_graph_field(onnx, &r, &field));
    }
}

static tl_status read_opset(tl_onnx *onnx, tl_pb r) {
    tl_onnx_text domain = {0, 0};
    int64_t version = 0;
    for (;;) {
        tl_pb_field field;
        TL_TRY(tl_pb_next(&r, &field));
        if (!field.number) break;
        if (field.number == 1) TL_TRY(tl_onnx_text_field(&r, &field, "an opset's domain", &domain));
        if (field.number == 2)
            TL_TRY(tl_onnx_int_field(&r, &field, "an opset's version", &version));
    }
    bool standard = domain.begin == domain.end || tl_onnx_is(onnx, domain, "ai.onnx");
    if (standard) onnx->opset = version;
    return TL_OK;
}

static tl_status read_metadata(tl_onnx *onnx, const tl_pb *r, const tl_pb_field *field) {
    TL_TRY(tl_pb_expect(r, field, TL_PB_BYTES, "metadata_props"));
    tl_onnx_text *pair = &onnx->metadata[2 * onnx->metadata_count++];
    return tl_onnx_read_entry(tl_pb_enter(r, field->span), &pair[0], &pair[1]);
}

static tl_status read_model_field(tl_onnx *onnx, const tl_pb *r, const tl_pb_field *field) {
    switch (field->number) {
    case 1:
        return tl_onnx_int_field(r, field, "ir_version", &onnx->ir_version);
    case 2:
        return tl_onnx_text_field(r, field, "producer_name", &onnx->producer);
    case 7:
        TL_TRY(tl_pb_expect(r, field, TL_PB_BYTES, "graph"));
        return read_graph(onnx, tl_pb_enter(r, field->span));
    case 8:
        TL_TRY(tl_pb_expect(r, field, TL_PB_BYTES, "opset_import"));
        return read_opset(onnx, tl_pb_enter(r, field->span));
    case 14:
        return read_metadata(onnx, r, field);
    default:
        return TL_OK;
    }
}

static tl_status read_model(tl_onnx *onnx) {
    tl_pb r = {onnx->name, onnx->bytes, 0, onnx->size};
    int metadata;
    TL_TRY(count_fields(r, 14, &metadata));
    TL_TRY(tl_onnx_allocate(onnx, 2 * (int64_t)metadata, sizeof *onnx->metadata, &onnx->metadata));
    tl_pb_field field;
    do {
        TL_TRY(tl_pb_next(&r, &field));
        TL_TRY(read_model_field(onnx, &r, &field));
    } while (field.number);
    TL_CHECK(onnx->node_count > 0, TL_CORRUPT, "%s: the model has no graph or no nodes",
             onnx->name);
    TL_CHECK(onnx->opset > 0, TL_CORRUPT, "%s: no opset_import for the standard operators",
             onnx->name);
    return TL_OK;
}

/* --- interface -------------------------------------------------------------------------------- */

bool tl_onnx_sniff(const tl_source *source) {
    /* Every writer begins with ir_version: field 1, a varint below 128, then comes another field.
     * A safetensors file may begin like that as well: its header's length in 8 bytes, then '{'. */
    unsigned char head[9] = {0};
    size_t size = source->size < sizeof head ? (size_t)source->size : sizeof head;
    if (size < 3 || tl_source_read(source, 0, head, size) != TL_OK) return false;
    bool safetensors = head[8] == '{' && tl_le32(head + 4) == 0;
    int wire = head[2] & 7;
    bool field = head[2] >= 8 && (wire <= TL_PB_BYTES || wire == TL_PB_FIXED32);
    return head[0] == 0x08 && head[1] > 0 && head[1] < 0x40 && field && !safetensors;
}

static tl_status set_origin(tl_onnx *onnx, const tl_source *source) {
    onnx->name = tl_strdup(onnx->ctx, source->name);
    TL_CHECK_MEMORY(onnx->name);
    if (source->memory) return TL_OK;
    const char *slash = strrchr(source->name, '/');
    int length = slash ? (int)(slash - source->name) : 1;
    onnx->folder = tl_format(onnx->ctx, "%.*s", length, slash ? source->name : ".");
    TL_CHECK_MEMORY(onnx->folder);
    return TL_OK;
}

tl_status tl_onnx_read(tl_context *ctx, const tl_source *source, tl_onnx **out) {
    *out = NULL;
    TL_CHECK(source->size <= INT32_MAX, TL_LIMIT,
             "%s: has %" PRIu64 " bytes; ONNX files end at 2 GiB", source->name, source->size);
    tl_onnx *onnx = tl_alloc_zero(ctx, sizeof *onnx);
    TL_CHECK_MEMORY(onnx);
    onnx->ctx = ctx;
    size_t size = 0;
    tl_status status = set_origin(onnx, source);
    if (status == TL_OK) status = tl_source_read_all(source, INT32_MAX, &onnx->bytes, &size);
    onnx->size = (uint32_t)size;
    onnx->budget = STRUCT_BUDGET(size);
    if (status == TL_OK) status = read_model(onnx);
    if (status != TL_OK) {
        tl_onnx_free(onnx);
        return status;
    }
    *out = onnx;
    return TL_OK;
}

static void free_node(tl_context *ctx, tl_onnx_node *node) {
    for (int i = 0; i < node->attr_count; i++) {
        tl_onnx_attr *attr = &node->attr[i];
        if (attr->tensor) tl_free(ctx, attr->tensor->owned);
        tl_free(ctx, attr->tensor);
        tl_free(ctx, attr->ints);
        tl_free(ctx, attr->floats);
    }
    tl_free(ctx, node->attr);
    tl_free(ctx, node->input);
    tl_free(ctx, node->output);
}

void tl_onnx_free(tl_onnx *onnx) {
    if (!onnx) return;
    tl_context *ctx = onnx->ctx;
    for (int i = 0; i < onnx->node_count; i++) free_node(ctx, &onnx->node[i]);
    for (int i = 0; i < onnx->initializer_count; i++) tl_free(ctx, onnx->initializer[i].owned);
    tl_free(ctx, onnx->node);
    tl_free(ctx, onnx->initializer);
    tl_free(ctx, onnx->input);
    tl_free(ctx, onnx->output);
    tl_free(ctx, onnx->metadata);
    tl_free(ctx, onnx->external);
    tl_free(ctx, onnx->bytes);
    tl_free(ctx, onnx->folder);
    tl_free(ctx, onnx->name);
    tl_free(ctx, onnx);
}

bool tl_onnx_is(const tl_onnx *onnx, tl_onnx_text text, const char *value) {
    size_t length = strlen(value);
    return text.end - text.begin == length && memcmp(onnx->bytes + text.begin, value, length) == 0;
}

bool tl_onnx_same(const tl_onnx *onnx, tl_onnx_text a, tl_onnx_text b) {
    uint32_t length = a.end - a.begin;
    return length == b.end - b.begin &&
           memcmp(onnx->bytes + a.begin, onnx->bytes + b.begin, length) == 0;
}

const tl_onnx_attr *tl_onnx_attr_find(const tl_onnx *onnx, const tl_onnx_node *node,
                                      const char *name) {
    for (int i = 0; i < node->attr_count; i++) {
        if (tl_onnx_is(onnx, node->attr[i].name, name)) return &node->attr[i];
    }
    return NULL;
}
