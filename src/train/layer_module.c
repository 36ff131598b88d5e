/* One operator by itself: its descriptor is called directly, with buffers of its own. A graph
 * would need nodes for every input and plan memory that nobody shares. */
#include <tl/train.h>

#include <string.h>

#include "base/rng.h"
#include "graph/graph.h"

struct tl_layer {
    tl_context *ctx;
    const tl_op *op;
    void *attr;
    int input_count, param_count;
    tl_view *in; /* data: those of the last forward */
    tl_tensor *output;
    tl_tensor **grad_in;
    tl_param param[TL_MAX_PARAMS];
    tl_tensor *grad[TL_MAX_PARAMS]; /* NULL where the parameter is not learned */
    void *saved, *work;
    float *packed;
    uint64_t seed, step;
    bool trained; /* the last forward was a training one: backward may follow */
};

/* The buffers of one call, borrowed from the layer. */
typedef struct call_buffers {
    float *param[TL_MAX_PARAMS];
    float *grad_param[TL_MAX_PARAMS];
} call_buffers;

static tl_op_call make_call(tl_layer *layer, call_buffers *buffers) {
    for (int i = 0; i < layer->param_count; i++) {
        buffers->param[i] = tl_tensor_f32(layer->param[i].value);
        buffers->grad_param[i] = layer->grad[i] ? tl_tensor_f32(layer->grad[i]) : NULL;
    }
    return (tl_op_call){.ctx = layer->ctx,
                        .attr = layer->attr,
                        .input_count = layer->input_count,
                        .in = layer->in,
                        .out = tl_tensor_view(layer->output),
                        .param_count = layer->param_count,
                        .param = buffers->param,
                        .seed = layer->seed,
                        .stream = layer->step,
                        .saved = layer->saved,
                        .work = layer->work,
                        .packed = layer->packed,
                        .grad_param = buffers->grad_param};
}

/* --- making ------------------------------------------------------------------------------- */

static tl_status read_shapes(tl_layer *layer, const int *ranks, const int64_t *shapes) {
    for (int i = 0; i < layer->input_count; i++) {
        TL_CHECK(ranks[i] >= 1 && ranks[i] <= TL_MAX_RANK, TL_INVALID_ARGUMENT,
                 "%s: rank of input %d is %d, expected 1 to %d", layer->op->name, i, ranks[i],
                 TL_MAX_RANK);
        tl_shape *shape = &layer->in[i].shape;
        shape->rank = ranks[i];
        memcpy(shape->dim, shapes, (size_t)ranks[i] * sizeof *shapes);
        shapes += ranks[i];
        char text[TL_SHAPE_TEXT];
        TL_CHECK(tl_shape_count(shape) > 0, TL_SHAPE, "%s: input %d is %s, expected elements",
                 layer->op->name, i, tl_shape_text(shape, text));
    }
    return TL_OK;
}

static tl_status infer(tl_layer *layer, tl_op_shapes *shapes) {
    tl_shape *in = tl_alloc_array(layer->ctx, (size_t)layer->input_count, sizeof *in);
    TL_CHECK_MEMORY(in);
    for (int i = 0; i < layer->input_count; i++) in[i] = layer->in[i].shape;
    memset(shapes, 0, sizeof *shapes);
    tl_status status = layer->op->infer(layer->attr, layer->input_count, in, shapes);
    tl_free(layer->ctx, in);
    return status;
}

static tl_status make_params(tl_layer *layer, const tl_op_shapes *shapes) {
    layer->param_count = shapes->param_count;
    for (int i = 0; i < shapes->param_count; i++) {
        const tl_param_spec *spec = &shapes->param[i];
        tl_param *param = &layer->param[i];
        *param = (tl_param){.learned = spec->learned,
                            .trainable = spec->learned,
                            .fan_in = spec->fan_in,
                            .fan_out = spec->fan_out,
                            .init = spec->init};
        param->name = tl_strdup(layer->ctx, spec->name);
        TL_CHECK_MEMORY(param->name);
        TL_TRY(tl_tensor_new(layer->ctx, TL_F32, &spec->shape, &param->value));
        tl_param_draw(param, tl_rng_make(layer->seed, TL_RNG_INIT, 0, (uint64_t)i));
        if (spec->learned) TL_TRY(tl_tensor_new(layer->ctx, TL_F32, &spec->shape, &layer->grad[i]));
    }
    return TL_OK;
}

static tl_status make_buffers(tl_layer *layer, const tl_shape *out) {
    tl_context *ctx = layer->ctx;
    TL_TRY(tl_tensor_new(ctx, TL_F32, out, &layer->output));
    for (int i = 0; i < layer->input_count; i++)
        TL_TRY(tl_tensor_new(ctx, TL_F32, &layer->in[i].shape, &layer->grad_in[i]));
    if (!layer->op->memory) return TL_OK;
    call_buffers buffers;
    tl_op_call call = make_call(layer, &buffers);
    call.training = call.backward_follows = true;
    tl_op_memory memory = {0};
    layer->op->memory(&call, &memory);
    size_t work = memory.work_forward;
    if (memory.work_backward > work) work = memory.work_backward;
    layer->saved = tl_alloc_zero(ctx, memory.saved);
    TL_CHECK_MEMORY(layer->saved);
    layer->work = tl_alloc_zero(ctx, work);
    TL_CHECK_MEMORY(layer->work);
    layer->packed = tl_alloc_zero(ctx, memory.packed);
    TL_CHECK_MEMORY(layer->packed);
    return TL_OK;
}

static tl_status prepare(tl_layer *layer, const char *attributes, const int *ranks,
                         const int64_t *shapes) {
    tl_context *ctx = layer->ctx;
    size_t inputs = (size_t)layer->input_count;
    layer->attr = tl_alloc_zero(ctx, layer->op->attr_size);
    TL_CHECK_MEMORY(layer->attr);
    layer->in = tl_alloc_zero(ctx, inputs * sizeof *layer->in);
    TL_CHECK_MEMORY(layer->in);
    layer->grad_in = tl_alloc_zero(ctx, inputs * sizeof *layer->grad_in);
    TL_CHECK_MEMORY(layer->grad_in);
    tl_attr_init(layer->op, layer->attr);
    TL_TRY(tl_attr_parse(layer->op, attributes, layer->attr));
    TL_TRY(read_shapes(layer, ranks, shapes));
    tl_op_shapes inferred;
    TL_TRY(infer(layer, &inferred));
    TL_TRY(make_params(layer, &inferred));
    return make_buffers(layer, &inferred.out);
}

static tl_status check_arguments(const tl_op *op, const char *type, int input_count) {
    enum { MOST_INPUTS = 1024 };
    TL_CHECK(op, TL_NOT_FOUND, "tl_layer_create: unknown layer type '%s'", type);
    TL_CHECK(input_count >= 1 && input_count >= op->min_inputs, TL_INVALID_ARGUMENT,
             "%s: takes at least %d inputs, got %d", type, op->min_inputs, input_count);
    int most = op->max_inputs ? op->max_inputs : MOST_INPUTS;
    TL_CHECK(input_count <= most, TL_INVALID_ARGUMENT, "%s: takes at most %d inputs, got %d", type,
             most, input_count);
    return TL_OK;
}

tl_status tl_layer_create(tl_context *ctx, const char *type, const char *attributes,
                          int input_count, const int *ranks, const int64_t *shapes, uint64_t seed,
                          tl_layer **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_layer_create: out is NULL");
    *out = NULL;
    TL_CHECK(ctx && type && ranks && shapes, TL_INVALID_ARGUMENT,
             "tl_layer_create: ctx, type, ranks or shapes is NULL");
    const tl_op *op = tl_op_find(type);
    TL_TRY(check_arguments(op, type, input_count));
    tl_layer *layer = tl_alloc_zero(ctx, sizeof *layer);
    TL_CHECK_MEMORY(layer);
    layer->ctx = ctx;
    layer->op = op;
    layer->input_count = input_count;
    layer->seed = seed;
    tl_status status = prepare(layer, attributes, ranks, shapes);
    if (status != TL_OK) {
        tl_layer_free(layer);
        return status;
    }
    *out = layer;
    return TL_OK;
}

void tl_layer_free(tl_layer *layer) {
    if (!layer) return;
    tl_context *ctx = layer->ctx;
    for (int i = 0; layer->grad_in && i < layer->input_count; i++)
        tl_tensor_free(layer->grad_in[i]);
    for (int i = 0; i < TL_MAX_PARAMS; i++) {
        tl_free(ctx, layer->param[i].name);
        tl_tensor_free(layer->param[i].value);
        tl_tensor_free(layer->grad[i]);
    }
    tl_tensor_free(layer->output);
    tl_free(ctx, layer->attr);
    tl_free(ctx, layer->in);
    tl_free(ctx, layer->grad_in);
    tl_free(ctx, layer->saved);
    tl_free(ctx, layer->work);
    tl_free(ctx, layer->packed);
    tl_free(ctx, layer);
}

/* --- running ------------------------------------------------------------------------------ */

static tl_status check_tensor(const tl_layer *layer, const char *what, const tl_tensor *tensor,
                              const tl_shape *want) {
    TL_CHECK(tensor && tl_tensor_dtype(tensor) == TL_F32, TL_INVALID_ARGUMENT,
             "%s: %s must be an f32 tensor", layer->op->name, what);
    tl_shape got = tl_tensor_get_shape(tensor);
    char got_text[TL_SHAPE_TEXT], want_text[TL_SHAPE_TEXT];
    TL_CHECK(tl_shape_equal(&got, want), TL_SHAPE, "%s: %s is %s, expected %s", layer->op->name,
             what, tl_shape_text(&got, got_text), tl_shape_text(want, want_text));
    return TL_OK;
}

/* Operators only read their inputs, but a view has no const form. */
static float *unconst(const tl_tensor *tensor) {
    return (float *)(uintptr_t)tl_tensor_const_f32(tensor);
}

tl_status tl_layer_forward(tl_layer *layer, const tl_tensor *const *inputs, bool training,
                           const tl_tensor **output) {
    TL_CHECK(layer && inputs && output, TL_INVALID_ARGUMENT,
             "tl_layer_forward: layer, inputs or output is NULL");
    *output = NULL;
    for (int i = 0; i < layer->input_count; i++)
        TL_TRY(check_tensor(layer, "an input", inputs[i], &layer->in[i].shape));
    for (int i = 0; i < layer->input_count; i++) layer->in[i].data = unconst(inputs[i]);
    if (training) layer->step++;
    call_buffers buffers;
    tl_op_call call = make_call(layer, &buffers);
    call.training = call.backward_follows = layer->trained = training;
    tl_op_pack(layer->op, &call, NULL, layer->packed);
    layer->op->forward(&call);
    *output = layer->output;
    return TL_OK;
}

tl_status tl_layer_backward(tl_layer *layer, const tl_tensor *grad_output,
                            const tl_tensor **grad_inputs) {
    TL_CHECK(layer, TL_INVALID_ARGUMENT, "tl_layer_backward: layer is NULL");
    TL_CHECK(layer->trained, TL_INVALID_ARGUMENT,
             "%s: backward needs a forward with training set before it", layer->op->name);
    tl_view out = tl_tensor_view(layer->output);
    TL_TRY(check_tensor(layer, "the output's gradient", grad_output, &out.shape));
    size_t inputs = (size_t)layer->input_count;
    void **grad_in = tl_alloc_array(layer->ctx, inputs, sizeof *grad_in);
    TL_CHECK_MEMORY(grad_in);
    bool *grad_add = tl_alloc_zero(layer->ctx, inputs * sizeof *grad_add);
    if (!grad_add) {
        tl_free(layer->ctx, grad_in);
        return TL_NO_MEMORY;
    }
    for (int i = 0; i < layer->input_count; i++) grad_in[i] = tl_tensor_f32(layer->grad_in[i]);
    call_buffers buffers;
    tl_op_call call = make_call(layer, &buffers);
    call.training = call.backward_follows = true;
    call.grad_out = tl_tensor_const_f32(grad_output);
    call.grad_in = grad_in;
    call.grad_add = grad_add;
    layer->op->backward(&call);
    for (int i = 0; grad_inputs && i < layer->input_count; i++) grad_inputs[i] = layer->grad_in[i];
    tl_free(layer->ctx, grad_in);
    tl_free(layer->ctx, grad_add);
    return TL_OK;
}

static bool has_param(const tl_layer *layer, int index) {
    return layer && index >= 0 && index < layer->param_count;
}

void tl_layer_zero_grad(tl_layer *layer) {
    for (int i = 0; has_param(layer, i); i++)
        if (layer->grad[i])
            memset(tl_tensor_data(layer->grad[i]), 0, tl_tensor_bytes(layer->grad[i]));
}

/* --- parameters --------------------------------------------------------------------------- */

int tl_layer_param_count(const tl_layer *layer) {
    return layer ? layer->param_count : 0;
}

const char *tl_layer_param_name(const tl_layer *layer, int index) {
    return has_param(layer, index) ? layer->param[index].name : NULL;
}

tl_tensor *tl_layer_param(tl_layer *layer, int index) {
    return has_param(layer, index) ? layer->param[index].value : NULL;
}

const tl_tensor *tl_layer_grad(const tl_layer *layer, int index) {
    return has_param(layer, index) ? layer->grad[index] : NULL;
}
