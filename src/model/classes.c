/* A model's classes: how many its last node answers, their names and their probabilities. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

/* A single unit's probability p stands for two classes, 1 - p and p. */
static bool answers_one_unit(const tl_model *model) {
    const tl_node *node = &model->graph->node[tl_graph_output(model->graph)];
    return node->shape.rank == 2 && node->shape.dim[1] == 1 &&
           strcmp(node->op->name, "sigmoid") == 0;
}

int tl_model_count_classes(const tl_model *model) {
    const tl_graph *graph = model->graph;
    const tl_shape *shape = &graph->node[tl_graph_output(graph)].shape;
    bool vector = tl_graph_output(graph) > 0 && shape->rank == 2 && shape->dim[1] <= TL_MAX_CLASSES;
    if (!vector) return 0;
    return answers_one_unit(model) ? 2 : (int)shape->dim[1];
}

enum { NUMBER_CAPACITY = 12 };

static size_t name_size(const char *const *names, int index) {
    return names ? strlen(names[index]) + 1 : NUMBER_CAPACITY;
}

tl_status tl_model_set_classes(tl_model *model, const char *const *names) {
    int count = tl_model_count_classes(model);
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += name_size(names, i);
    char *text = tl_alloc(model->ctx, bytes);
    const char **pointers = tl_alloc_array(model->ctx, (size_t)count, sizeof *pointers);
    if (!text || !pointers) {
        tl_free(model->ctx, text);
        tl_free(model->ctx, pointers);
        return TL_NO_MEMORY;
    }
    char *next = text;
    for (int i = 0; i < count; i++) {
        size_t size = name_size(names, i);
        if (names)
            memcpy(next, names[i], size);
        else
            snprintf(next, size, "%d", i);
        pointers[i] = next;
        next += size;
    }
    tl_free(model->ctx, model->class_text);
    tl_free(model->ctx, model->class_name);
    model->class_text = text;
    model->class_name = pointers;
    model->class_count = count;
    return TL_OK;
}

int tl_model_class_count(const tl_model *model) {
    return model ? model->class_count : 0;
}

const char *tl_model_class_name(const tl_model *model, int index) {
    bool inside = model && index >= 0 && index < model->class_count;
    return inside ? model->class_name[index] : NULL;
}

bool tl_model_has_independent_units(const tl_model *model) {
    const tl_node *node = &model->graph->node[tl_graph_output(model->graph)];
    return strcmp(node->op->name, "sigmoid") == 0 && tl_shape_count(&node->shape) > 1;
}

/* Shifted by the largest logit, so that no exponential overflows. */
static void softmax(const float *logits, int count, float *out) {
    float largest = logits[0];
    for (int i = 1; i < count; i++) largest = logits[i] > largest ? logits[i] : largest;
    double sum = 0;
    for (int i = 0; i < count; i++) sum += exp((double)logits[i] - (double)largest);
    for (int i = 0; i < count; i++)
        out[i] = (float)(exp((double)logits[i] - (double)largest) / sum);
}

void tl_model_probabilities(const tl_model *model, const float *output, int64_t n, float *out) {
    const tl_node *node = &model->graph->node[tl_graph_output(model->graph)];
    int classes = model->class_count;
    if (answers_one_unit(model)) {
        for (int64_t i = 0; i < n; i++) {
            out[2 * i] = 1.0f - output[i];
            out[2 * i + 1] = output[i];
        }
    } else if (node->op->flags & TL_OP_PROBABILITY) {
        memcpy(out, output, (size_t)n * (size_t)classes * sizeof *out);
    } else {
        for (int64_t i = 0; i < n; i++) softmax(output + i * classes, classes, out + i * classes);
    }
}
