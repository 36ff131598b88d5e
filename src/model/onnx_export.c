#include "model/onnx_export.h"

#include <jansson.h>
#include <string.h>

/* onnx.proto: IR version 8 came with ONNX 1.10; opset 17 has LayerNormalization. */
enum { IR_VERSION = 8, OPSET = 17, TYPE_FLOAT = 1, TYPE_INT64 = 7 };

/* --- constants
 * ---------------------------------------------------------------------------------------- */

tl_status tl_onnx_add_constant(tl_onnx_exporter *ex, const char *suffix, tl_onnx_constant constant,
                               const char **name) {
    tl_status status = TL_NO_MEMORY;
    if (ex->constant_count == ex->constant_capacity) {
        int capacity = ex->constant_capacity ? 2 * ex->constant_capacity : 64;
        void *moved = tl_realloc(ex->ctx, ex->constant, (size_t)capacity * sizeof *ex->constant);
        if (!moved) goto done;
        ex->constant = moved;
        ex->constant_capacity = capacity;
    }
    constant.name = tl_format(ex->ctx, "%s.%s", ex->graph->node[ex->at].name, suffix);
    if (!constant.name) goto done;
    ex->constant[ex->constant_count++] = constant;
    *name = constant.name;
    return TL_OK;
done:
    tl_free(ex->ctx, (void *)constant.ints);
    return status;
}

static size_t constant_bytes(const tl_onnx_constant *c) {
    return (size_t)tl_shape_count(&c->shape) * (c->ints ? sizeof(int64_t) : sizeof(float));
}

/* TensorProto up to its raw data: dims 1, data_type 2, name 8, raw_data 9. */
static void put_constant_head(tl_pb_buffer *out, const tl_onnx_constant *c) {
    for (int i = 0; i < c->shape.rank; i++) tl_pb_put_varint(out, 1, (uint64_t)c->shape.dim[i]);
    tl_pb_put_varint(out, 2, c->ints ? TYPE_INT64 : TYPE_FLOAT);
    tl_pb_put_text(out, 8, c->name);
    tl_pb_put_length(out, 9, constant_bytes(c));
}

/* From our order to ONNX's. */
static void reorder(const tl_onnx_constant *c, const float *from, float *to) {
    for (int64_t o = 0; o < c->outer; o++, from += c->area * c->inner) {
        for (int64_t i = 0; i < c->inner; i++) {
            for (int64_t a = 0; a < c->area; a++) *to++ = from[a * c->inner + i];
        }
    }
}

/* The constant's values; `values` has room for them, and again as many behind them. */
static tl_status read_values(const tl_onnx_exporter *ex, const tl_onnx_constant *c, float *values) {
    int64_t count = tl_shape_count(&c->shape);
    if (c->param < 0) {
        for (int64_t i = 0; i < count; i++) values[i] = c->fill;
        return TL_OK;
    }
    float *ours = c->area == 1 ? values : values + count;
    TL_TRY(tl_graph_read_param(ex->graph, c->param, ours));
    if (c->area > 1) reorder(c, ours, values);
    return TL_OK;
}

static tl_status write_constant_data(const tl_onnx_exporter *ex, tl_writer *writer,
                                     const tl_onnx_constant *c) {
    size_t bytes = constant_bytes(c);
    if (c->ints) return tl_writer_write(writer, c->ints, bytes);
    float *values = tl_alloc(ex->ctx, c->area > 1 ? 2 * bytes : bytes);
    TL_CHECK_MEMORY(values);
    tl_status status = read_values(ex, c, values);
    if (status == TL_OK) status = tl_writer_write(writer, values, bytes);
    tl_free(ex->ctx, values);
    return status;
}

/* --- the parts of the file
 * ------------------------------------------------------------------------------- */

/* ValueInfoProto: name 1, type 2 { tensor_type 1 { elem_type 1, shape 2 { dim 1 } } }. */
static void put_value(tl_pb_buffer *graph, uint32_t field, const char *name,
                      const tl_shape *shape) {
    tl_pb_buffer dim = {.ctx = graph->ctx}, dims = dim, tensor = dim, type = dim, value = dim;
    tl_pb_put_text(&dim, 2, "N");
    tl_pb_put_message(&dims, 1, &dim);
    static const int order[] = {0, 3, 1, 2};
    for (int i = 1; i < shape->rank; i++) {
        tl_pb_put_varint(&dim, 1, (uint64_t)shape->dim[shape->rank == 4 ? order[i] : i]);
        tl_pb_put_message(&dims, 1, &dim);
    }
    tl_pb_put_varint(&tensor, 1, TYPE_FLOAT);
    tl_pb_put_message(&tensor, 2, &dims);
    tl_pb_put_message(&type, 1, &tensor);
    tl_pb_put_text(&value, 1, name);
    tl_pb_put_message(&value, 2, &type);
    tl_pb_put_message(graph, field, &value);
    tl_pb_release(&dim);
    tl_pb_release(&dims);
    tl_pb_release(&tensor);
    tl_pb_release(&type);
    tl_pb_release(&value);
}

/* StringStringEntryProto as metadata_props; the text is consumed and may be NULL. */
static void put_metadata(tl_pb_buffer *model, const char *key, char *value) {
    tl_pb_buffer entry = {.ctx = model->ctx};
    if (!value) {
        model->failed = true;
        return;
    }
    tl_pb_put_text(&entry, 1, key);
    tl_pb_put_text(&entry, 2, value);
    tl_pb_put_message(model, 14, &entry);
    tl_pb_release(&entry);
    tl_free(model->ctx, value);
}

/* What comes before the graph: ir_version 1, producer 2, opset_import 8, metadata_props 14. */
static void put_model_head(tl_pb_buffer *out, const tl_model *model) {
    tl_pb_buffer opset = {.ctx = out->ctx};
    tl_pb_put_varint(out, 1, IR_VERSION);
    tl_pb_put_text(out, 2, "libtl");
    tl_pb_put_text(out, 3, tl_version());
    tl_pb_put_text(&opset, 1, "");
    tl_pb_put_varint(&opset, 2, OPSET);
    tl_pb_put_message(out, 8, &opset);
    tl_pb_release(&opset);
    put_metadata(out, TL_SAVED_KEY_BACKBONE, tl_strdup(out->ctx, model->backbone));
    if (model->class_count > 0) {
        put_metadata(out, TL_SAVED_KEY_CLASSES,
                     tl_json_text(out->ctx, tl_model_classes_json(model), JSON_COMPACT));
    }
    if (model->preprocess_known && tl_model_sees_pictures(model)) {
        put_metadata(
            out, TL_SAVED_KEY_PREPROCESS,
            tl_json_text(out->ctx, tl_preprocess_to_json(&model->preprocess), JSON_COMPACT));
    }
}

/* --- nodes
 * --------------------------------------------------------------------------------------------------
 */

static tl_status emit_nodes(tl_onnx_exporter *ex) {
    for (ex->at = 1; ex->at < ex->graph->node_count; ex->at++) {
        const tl_node *node = &ex->graph->node[ex->at];
        tl_onnx_emitter emit = tl_onnx_emitter_find(node->op);
        TL_CHECK(emit, TL_UNSUPPORTED, "layer '%s': ONNX export of %s is not supported", node->name,
                 node->op->name);
        TL_TRY(emit(ex));
    }
    TL_CHECK(!ex->nodes.failed && !ex->message.failed, TL_NO_MEMORY, "out of memory");
    return TL_OK;
}

/* GraphProto: node 1 and initializer 5 are written apart; name 2, input 11, output 12. */
static void put_graph_tail(tl_pb_buffer *out, const tl_graph *graph) {
    const tl_node *last = &graph->node[tl_graph_output(graph)];
    tl_pb_put_text(out, 2, "libtl");
    put_value(out, 11, graph->node[0].name, &graph->node[0].shape);
    put_value(out, 12, last->name, &last->shape);
}

/* --- the file
 * -------------------------------------------------------------------------------------------------
 */

static tl_status write_buffer(tl_writer *writer, const tl_pb_buffer *buffer) {
    TL_CHECK(!buffer->failed, TL_NO_MEMORY, "out of memory");
    return tl_writer_write(writer, buffer->data, buffer->size);
}

/* The graph's length: its small parts, and for each constant tag, length, head and data. */
static uint64_t graph_size(const tl_onnx_exporter *ex, const tl_pb_buffer *tail) {
    uint64_t size = ex->nodes.size + tail->size;
    tl_pb_buffer head = {.ctx = ex->ctx}, outer = head;
    for (int i = 0; i < ex->constant_count; i++) {
        head.size = outer.size = 0;
        put_constant_head(&head, &ex->constant[i]);
        uint64_t message = head.size + constant_bytes(&ex->constant[i]);
        tl_pb_put_length(&outer, 5, message);
        size += outer.size + message;
    }
    tl_pb_release(&head);
    tl_pb_release(&outer);
    return size;
}

static tl_status write_constants(const tl_onnx_exporter *ex, tl_writer *writer) {
    tl_pb_buffer head = {.ctx = ex->ctx}, outer = head;
    tl_status status = TL_OK;
    for (int i = 0; i < ex->constant_count && status == TL_OK; i++) {
        const tl_onnx_constant *c = &ex->constant[i];
        head.size = outer.size = 0;
        put_constant_head(&head, c);
        tl_pb_put_length(&outer, 5, head.size + constant_bytes(c));
        status = write_buffer(writer, &outer);
        if (status == TL_OK) status = write_buffer(writer, &head);
        if (status == TL_OK) status = write_constant_data(ex, writer, c);
    }
    tl_pb_release(&head);
    tl_pb_release(&outer);
    return status;
}

static tl_status write_model(tl_onnx_exporter *ex, const tl_model *model, const char *path) {
    tl_pb_buffer head = {.ctx = ex->ctx}, tail = head;
    tl_writer writer = {.fd = -1};
    put_model_head(&head, model);
    put_graph_tail(&tail, ex->graph);
    uint64_t size = graph_size(ex, &tail);
    tl_pb_put_length(&head, 7, size);
    tl_status status = TL_OK;
    if (size + head.size > INT32_MAX) {
        status = tl_fail(TL_LIMIT, "%s: %llu bytes; ONNX files end at 2 GiB", path,
                         (unsigned long long)(size + head.size));
    }
    if (status == TL_OK) status = tl_writer_open(ex->ctx, path, &writer);
    if (status == TL_OK) status = write_buffer(&writer, &head);
    if (status == TL_OK) status = write_buffer(&writer, &ex->nodes);
    if (status == TL_OK) status = write_constants(ex, &writer);
    if (status == TL_OK) status = write_buffer(&writer, &tail);
    if (status == TL_OK) {
        status = tl_writer_commit(&writer);
    } else {
        tl_writer_abandon(&writer);
    }
    tl_pb_release(&head);
    tl_pb_release(&tail);
    return status;
}

static void release(tl_onnx_exporter *ex) {
    for (int i = 0; i < ex->constant_count; i++) {
        tl_free(ex->ctx, ex->constant[i].name);
        tl_free(ex->ctx, (void *)ex->constant[i].ints);
    }
    tl_free(ex->ctx, ex->constant);
    tl_pb_release(&ex->nodes);
    tl_pb_release(&ex->message);
}

/* Weights that are still in the file they came from: the constants point at their values. */
static tl_status hold_weights(tl_graph *graph) {
    for (int i = 0; i < graph->param_count; i++) TL_TRY(tl_graph_hold_param(graph, i));
    return TL_OK;
}

tl_status tl_model_export_onnx(const tl_model *model, const char *path) {
    TL_CHECK(model && path, TL_INVALID_ARGUMENT, "tl_model_export_onnx: an argument is NULL");
    TL_CHECK(model->graph->node_count > 1, TL_INVALID_ARGUMENT,
             "tl_model_export_onnx: the model has no layers");
    TL_TRY(hold_weights(model->graph));
    tl_onnx_exporter ex = {.ctx = model->ctx,
                           .graph = model->graph,
                           .nodes = {.ctx = model->ctx},
                           .message = {.ctx = model->ctx}};
    tl_status status = emit_nodes(&ex);
    if (status == TL_OK) status = write_model(&ex, model, path);
    release(&ex);
    return status;
}
