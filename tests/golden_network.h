/* Networks, inputs and losses that tests and golden/make_backbones.py make by the same formula. */
#ifndef TL_TESTS_GOLDEN_NETWORK_H
#define TL_TESTS_GOLDEN_NETWORK_H

#include "support.h"

#include "model/model.h"

/* --- weights that both sides make by one formula ---------------------------------------------- */

/* Uniform in [-1, 1): SplitMix64 from the FNV-1a hash of the name. */
static inline uint64_t seed_of(const char *name) {
    uint64_t seed = 0xCBF29CE484222325u;
    for (; *name; name++) seed = (seed ^ (unsigned char)*name) * 0x100000001B3u;
    return seed;
}

static inline double uniform(uint64_t seed, int64_t index) {
    uint64_t z = seed + (uint64_t)(index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 40) / (1 << 23) - 1;
}

static inline bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* Inputs of one output, in PyTorch's O I KH KW and O I and in Keras's KH KW I O, KH KW C 1 and I O.
 */
static inline int64_t fan_in(const char *name, const tl_shape *s) {
    int64_t count = tl_shape_count(s);
    if (!ends_with(name, "kernel")) return count / s->dim[0];
    bool depthwise = s->rank == 4 && s->dim[3] == 1;
    return depthwise ? s->dim[0] * s->dim[1] : count / s->dim[s->rank - 1];
}

static inline void make_values(const char *name, const tl_shape *shape, double gamma, float *out) {
    int64_t count = tl_shape_count(shape);
    double offset = 0, scale = 0.1;
    if (ends_with(name, "running_var") || ends_with(name, "moving_variance")) {
        offset = 1;
        scale = 0.5;
    } else if (shape->rank > 1) {
        scale = sqrt(6.0 / (double)fan_in(name, shape));
    } else if (ends_with(name, "weight") || ends_with(name, "gamma")) {
        offset = gamma;
        scale = 0.2;
    }
    uint64_t seed = seed_of(name);
    for (int64_t i = 0; i < count; i++) out[i] = (float)(offset + scale * uniform(seed, i));
}

/* --- a weights file in memory, as a framework would write it -----------------------------------
 */

typedef struct weights_file {
    char *bytes;
    size_t size;
} weights_file;

typedef struct file_options {
    const tl_backbone *backbone;
    const tl_variant *variant;
    int classes; /* 0: the file has no classifier */
    double gamma;
    const char *drop;   /* leave this tensor out */
    const char *add;    /* and put one of this name in, [2] */
    const char *widen;  /* one more row here */
    const char *poison; /* a NaN here */
} file_options;

static inline size_t add_tensor(char *header, size_t used, size_t capacity, const char *name,
                                const tl_shape *shape, size_t *begin) {
    size_t end = *begin + (size_t)tl_shape_count(shape) * sizeof(float);
    char text[TL_SHAPE_TEXT];
    used += (size_t)snprintf(header + used, capacity - used,
                             "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                             used > 1 ? "," : "", name, tl_shape_text(shape, text), *begin, end);
    *begin = end;
    return used;
}

static inline bool is(const char *name, const char *other) {
    return other && strcmp(name, other) == 0;
}

static inline void name_tensors(tl_context *ctx, const file_options *o,
                                char (**names)[TL_NAME_CAPACITY], tl_shape **shapes, int *count) {
    tl_graph *graph = NULL;
    int features = 0;
    const tl_naming *naming = o->variant->naming;
    assert_ok(tl_backbone_build(ctx, o->backbone, o->variant, o->classes ? o->classes : 1000, true,
                                &graph, &features));
    size_t most = (size_t)graph->param_count + 1;
    *names = malloc(most * sizeof **names);
    *shapes = malloc(most * sizeof **shapes);
    *count = 0;
    tl_name_walk walk = tl_name_walk_make(naming, graph, NULL);
    for (int i = 0; i < graph->param_count; i++) {
        const tl_param *param = &graph->param[i];
        char *name = (*names)[*count];
        assert_true(tl_name_translate(&walk, i, name));
        if (is(name, o->drop) || (o->classes == 0 && param->node > features)) continue;
        (*shapes)[*count] = tl_layout_shape(naming->layout, graph, param);
        if (is(name, o->widen)) (*shapes)[*count].dim[0]++;
        ++*count;
    }
    if (o->add) {
        snprintf((*names)[*count], TL_NAME_CAPACITY, "%s", o->add);
        (*shapes)[(*count)++] = tl_shape_make(1, INT64_C(2));
    }
    tl_graph_free(graph);
}

static inline weights_file make_file(tl_context *ctx, const file_options *o) {
    char(*names)[TL_NAME_CAPACITY];
    tl_shape *shapes;
    int count;
    name_tensors(ctx, o, &names, &shapes, &count);
    size_t capacity = (size_t)count * 256 + 16, used = 1, data = 0;
    char *header = malloc(capacity);
    header[0] = '{';
    for (int i = 0; i < count; i++)
        used = add_tensor(header, used, capacity, names[i], &shapes[i], &data);
    header[used++] = '}';
    while (used % 8) header[used++] = ' ';
    weights_file file = {malloc(8 + used + data), 8 + used + data};
    for (int i = 0; i < 8; i++) file.bytes[i] = (char)(used >> (8 * i));
    memcpy(file.bytes + 8, header, used);
    float *value = (float *)(void *)(file.bytes + 8 + used);
    for (int i = 0; i < count; i++) {
        make_values(names[i], &shapes[i], o->gamma, value);
        if (is(names[i], o->poison)) value[1] = NAN;
        value += tl_shape_count(&shapes[i]);
    }
    free(header);
    free(names);
    free(shapes);
    return file;
}

static inline const tl_variant *find_variant(const tl_backbone *backbone, const char *scheme) {
    for (const tl_variant *variant = backbone->variant; variant->naming; variant++)
        if (strcmp(variant->naming->scheme, scheme) == 0) return variant;
    fail_msg("%s has no naming %s", backbone->name, scheme);
    return NULL;
}

/* A backbone from a file of seeded weights by the names of a scheme. */
static inline tl_model *load_seeded(tl_context *ctx, const char *name, const char *scheme,
                                    int classes, double gamma) {
    const tl_backbone *backbone = tl_backbone_find(name);
    assert_non_null(backbone);
    file_options options = {.backbone = backbone,
                            .variant = find_variant(backbone, scheme),
                            .classes = classes,
                            .gamma = gamma};
    weights_file file = make_file(ctx, &options);
    tl_model *model = NULL;
    assert_ok(tl_model_load_memory(ctx, file.bytes, file.size, &model));
    free(file.bytes);
    return model;
}

static inline tl_tensor *make_input(tl_context *ctx, int batch, int height, int width) {
    tl_tensor *input = NULL;
    int64_t shape[4] = {batch, height, width, 3}, plane = (int64_t)height * width;
    assert_ok(tl_tensor_create(ctx, TL_F32, 4, shape, &input));
    float *x = tl_tensor_f32(input);
    uint64_t seed = seed_of("input");
    for (int64_t n = 0; n < batch; n++)
        for (int64_t i = 0; i < plane; i++)
            for (int64_t c = 0; c < 3; c++)
                *x++ = (float)(2 * uniform(seed, (n * 3 + c) * plane + i));
    return input;
}

/* Softmax cross-entropy of labels 1, 4, 7, ...: the mean loss and its gradient. */
static inline double cross_entropy(const float *logits, int batch, int classes, float *gradient) {
    double loss = 0;
    for (int n = 0; n < batch; n++, logits += classes, gradient += classes) {
        int label = 3 * n + 1;
        double largest = (double)logits[0], sum = 0;
        for (int i = 1; i < classes; i++) largest = fmax(largest, (double)logits[i]);
        for (int i = 0; i < classes; i++) sum += exp((double)logits[i] - largest);
        for (int i = 0; i < classes; i++)
            gradient[i] = (float)((exp((double)logits[i] - largest) / sum - (i == label)) / batch);
        loss += log(sum) - ((double)logits[label] - largest);
    }
    return loss / batch;
}

#endif
