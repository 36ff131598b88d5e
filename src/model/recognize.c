/* Recognises a weights file: every backbone under every naming scheme is held against the file's
 * names and shapes, and the one that explains all of it is built and filled. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

/* A weights file and which of its tensors the backbone under trial has a place for. */
typedef struct candidate_file {
    const tl_weights *weights;
    bool *used;
} candidate_file;

/* --- how well a backbone and a scheme explain a file ---------------------------------------------
 */

typedef struct finding {
    int count;
    char text[160]; /* the first few */
} finding;

static void note(finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(finding *f, const char *format, ...) {
    enum { MOST_NOTED = 3 };
    f->count++;
    size_t used = strlen(f->text);
    if (f->count > MOST_NOTED + 1) return;
    if (f->count > 1) used += (size_t)snprintf(f->text + used, sizeof f->text - used, ", ");
    if (used >= sizeof f->text) return;
    va_list args;
    va_start(args, format);
    if (f->count <= MOST_NOTED)
        vsnprintf(f->text + used, sizeof f->text - used, format, args);
    else
        snprintf(f->text + used, sizeof f->text - used, "...");
    va_end(args);
}

typedef struct fit {
    const tl_backbone *backbone;
    const tl_naming *naming;
    int classes;
    int matched;
    finding missing, extra, reshaped;
} fit;

static int misfits(const fit *f) {
    return f->missing.count + f->extra.count + f->reshaped.count;
}

/* PyTorch's shape of a parameter of ours: a convolution's O KH KW I is O I KH KW there. */
static tl_shape external_shape(const tl_shape *ours) {
    if (ours->rank != 4) return *ours;
    return tl_shape_make(4, ours->dim[0], ours->dim[3], ours->dim[1], ours->dim[2]);
}

static void compare_param(const tl_param *param, const char *external, const candidate_file *file,
                          fit *f) {
    int found = tl_weights_find(file->weights, external);
    if (found < 0) {
        note(&f->missing, "%s", external);
        return;
    }
    file->used[found] = true;
    tl_shape expected = external_shape(&param->shape);
    const tl_shape *shape = &file->weights->item[found].shape;
    char is[TL_SHAPE_TEXT], wanted[TL_SHAPE_TEXT];
    if (tl_shape_equal(shape, &expected))
        f->matched++;
    else
        note(&f->reshaped, "%s is %s, not %s", external, tl_shape_text(shape, is),
             tl_shape_text(&expected, wanted));
}

static void compare_graph(const tl_graph *graph, const candidate_file *file, fit *f) {
    memset(file->used, 0, (size_t)file->weights->count * sizeof *file->used);
    tl_block_counter counter = {.number = -1};
    char external[TL_NAME_CAPACITY];
    for (int i = 0; i < graph->param_count; i++) {
        const tl_param *param = &graph->param[i];
        if (tl_name_translate(f->naming, param->name, &counter, external))
            compare_param(param, external, file, f);
        else
            note(&f->missing, "%s", param->name);
    }
    for (int i = 0; i < file->weights->count; i++) {
        const char *name = file->weights->item[i].name;
        if (!file->used[i] && !tl_name_ignored(f->naming, name)) note(&f->extra, "%s", name);
    }
}

/* A checkpoint that was fine-tuned elsewhere answers classes of its own: as many as its
 * classifier's weights [classes, inputs] have rows. */
static int file_classes(const tl_graph *graph, const candidate_file *file, const fit *f) {
    tl_block_counter counter = {.number = -1};
    char external[TL_NAME_CAPACITY];
    const tl_node *classifier = &graph->node[tl_graph_output(graph)];
    if (!tl_name_translate(f->naming, graph->param[classifier->first_param].name, &counter,
                           external))
        return f->backbone->classes;
    int found = tl_weights_find(file->weights, external);
    const tl_shape *shape = found >= 0 ? &file->weights->item[found].shape : NULL;
    bool plausible =
        shape && shape->rank == 2 && shape->dim[0] >= 1 && shape->dim[0] <= TL_MAX_CLASSES;
    return plausible ? (int)shape->dim[0] : f->backbone->classes;
}

static tl_status build_hollow(const candidate_file *file, fit *f, tl_graph **graph, int *features) {
    tl_context *ctx = file->weights->ctx;
    f->classes = f->backbone->classes;
    TL_TRY(tl_backbone_build(ctx, f->backbone, f->classes, true, graph, features));
    int classes = file_classes(*graph, file, f);
    if (classes == f->classes) return TL_OK;
    f->classes = classes;
    tl_graph_free(*graph);
    return tl_backbone_build(ctx, f->backbone, classes, true, graph, features);
}

static tl_status try_fit(const candidate_file *file, fit *f) {
    tl_graph *graph = NULL;
    int features = 0;
    TL_TRY(build_hollow(file, f, &graph, &features));
    compare_graph(graph, file, f);
    tl_graph_free(graph);
    return TL_OK;
}

static tl_status find_best(const candidate_file *file, fit *best) {
    bool first = true;
    const tl_backbone *backbone = NULL;
    for (int i = 0; (backbone = tl_backbone_at(i)); i++)
        for (const tl_naming *const *naming = backbone->namings; *naming; naming++) {
            fit f = {.backbone = backbone, .naming = *naming};
            TL_TRY(try_fit(file, &f));
            if (first || misfits(&f) < misfits(best)) *best = f;
            first = false;
            if (misfits(best) == 0) return TL_OK;
        }
    return TL_OK;
}

static tl_status refuse(const candidate_file *file, const fit *best) {
    const tl_weights *weights = file->weights;
    char known[TL_BACKBONE_NAMES];
    TL_CHECK(best->matched > 0, TL_UNSUPPORTED,
             "%s: none of its %d tensors (the first is '%.64s') belongs to a known backbone: %s",
             weights->source.name, weights->count, weights->count ? weights->item[0].name : "",
             tl_backbone_names(known));
    return tl_fail(TL_UNSUPPORTED,
                   "%s: not quite %s with %s names: %d tensors fit; missing %d (%s); left over %d "
                   "(%s); of another shape %d (%s)",
                   weights->source.name, best->backbone->name, best->naming->scheme, best->matched,
                   best->missing.count, best->missing.text, best->extra.count, best->extra.text,
                   best->reshaped.count, best->reshaped.text);
}

/* --- filling
 * -------------------------------------------------------------------------------------- */

tl_status tl_check_finite(const char *name, const float *values, int64_t count) {
    bool finite = true;
    for (int64_t i = 0; i < count; i++) finite &= isfinite(values[i]) != 0;
    if (finite) return TL_OK;
    int64_t first = 0;
    while (isfinite(values[first])) first++;
    return tl_fail(TL_CORRUPT, "%s: element %lld is %g, expected a finite number", name,
                   (long long)first, (double)values[first]);
}

/* O I KH KW to O KH KW I. */
static void reorder_kernel(const float *from, const tl_shape *to_shape, float *to) {
    int64_t outputs = to_shape->dim[0], taps = to_shape->dim[1] * to_shape->dim[2];
    int64_t inputs = to_shape->dim[3];
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t i = 0; i < inputs; i++) *to++ = from[(o * inputs + i) * taps + tap];
}

static tl_status read_param(const tl_weights *weights, int index, tl_param *param) {
    float *value = tl_tensor_f32(param->value);
    int64_t count = tl_tensor_count(param->value);
    /* With one tap or one input both orders are the same. */
    bool reorder = param->shape.rank == 4 && param->shape.dim[3] > 1 &&
                   param->shape.dim[1] * param->shape.dim[2] > 1;
    float *read = reorder ? tl_alloc_array(weights->ctx, (size_t)count, sizeof *read) : value;
    TL_CHECK_MEMORY(read);
    tl_status status = tl_weights_read(weights, index, read);
    if (status == TL_OK) status = tl_check_finite(weights->item[index].name, read, count);
    if (status == TL_OK && reorder) reorder_kernel(read, &param->shape, value);
    if (reorder) tl_free(weights->ctx, read);
    return status;
}

static tl_status fill(const candidate_file *file, const tl_naming *naming, tl_graph *graph) {
    tl_block_counter counter = {.number = -1};
    char external[TL_NAME_CAPACITY];
    TL_TRY(tl_graph_allocate(graph));
    for (int i = 0; i < graph->param_count; i++) {
        tl_param *param = &graph->param[i];
        bool translated = tl_name_translate(naming, param->name, &counter, external);
        int found = translated ? tl_weights_find(file->weights, external) : -1;
        TL_CHECK(found >= 0, TL_UNSUPPORTED, "%s: no tensor for %s", file->weights->source.name,
                 param->name);
        tl_status status = read_param(file->weights, found, param);
        if (status != TL_OK) return tl_fail_in(status, "%s", file->weights->source.name);
    }
    return TL_OK;
}

static tl_status build_filled(const candidate_file *file, const fit *best, tl_model **out) {
    tl_graph *graph = NULL;
    int features = 0;
    TL_TRY(tl_backbone_build(file->weights->ctx, best->backbone, best->classes, true, &graph,
                             &features));
    tl_status status = fill(file, best->naming, graph);
    if (status != TL_OK) {
        tl_graph_free(graph);
        return status;
    }
    TL_TRY(tl_backbone_wrap(best->backbone, graph, features, out));
    (*out)->format = file->weights->format;
    if (best->classes == TL_IMAGENET_CLASSES)
        status = tl_model_set_classes(*out, tl_imagenet_classes);
    if (status != TL_OK) {
        tl_model_free(*out);
        *out = NULL;
    }
    return status;
}

tl_status tl_model_from_weights(const tl_weights *weights, tl_model **out) {
    *out = NULL;
    candidate_file file = {.weights = weights};
    file.used = tl_alloc_array(weights->ctx, (size_t)weights->count, sizeof *file.used);
    TL_CHECK_MEMORY(file.used);
    fit best = {0};
    tl_status status = find_best(&file, &best);
    if (status == TL_OK && misfits(&best) > 0) status = refuse(&file, &best);
    if (status == TL_OK) status = build_filled(&file, &best, out);
    tl_free(weights->ctx, file.used);
    return status;
}
