/* Recognises a weights file: every backbone in every variant is held against the file's names and
 * shapes, and the one that explains all of it is built and filled. A file without any of the
 * classifier's tensors gives the network without it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

/* A weights file and which of its tensors the backbone under trial has a place for. */
typedef struct candidate_file {
    tl_weights *weights;
    bool *used;
} candidate_file;

/* --- how well a backbone and a scheme explain a file ---------------------------------------------
 */

typedef struct finding {
    int count;
    char text[240]; /* the first few */
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
    const tl_variant *variant;
    int classes;
    int matched;
    int headless; /* missing tensors of the classifier; 0 when some of them are there */
    finding missing, extra, reshaped;
} fit;

static int misfits(const fit *f) {
    return f->missing.count + f->extra.count + f->reshaped.count - f->headless;
}

static void compare_param(const tl_graph *graph, const tl_param *param, const char *external,
                          const candidate_file *file, fit *f) {
    int found = tl_name_find(f->variant->naming, file->weights, external);
    tl_layout layout = f->variant->naming->layout;
    tl_shape expected = tl_layout_shape(layout, graph, param);
    char is[TL_SHAPE_TEXT], wanted[TL_SHAPE_TEXT];
    if (found < 0) {
        note(&f->missing, "%s %s", external, tl_shape_text(&expected, wanted));
        return;
    }
    file->used[found] = true;
    const tl_shape *shape = &file->weights->item[found].shape;
    if (tl_layout_fits(layout, graph, param, shape))
        f->matched++;
    else
        note(&f->reshaped, "%s is %s, not %s", external, tl_shape_text(shape, is),
             tl_shape_text(&expected, wanted));
}

/* Whether the first parameters of the walk found nothing: that network it is not, and files of
 * other things are to be refused quickly. */
static bool is_foreign(const fit *f, int compared) {
    enum { FIRST = 16 };
    return compared == FIRST && f->matched == 0 && f->reshaped.count == 0;
}

static void compare_graph(const tl_graph *graph, int features, const candidate_file *file, fit *f) {
    memset(file->used, 0, (size_t)file->weights->count * sizeof *file->used);
    const tl_naming *naming = f->variant->naming;
    tl_name_walk walk = tl_name_walk_make(naming, graph, file->weights);
    char external[TL_NAME_CAPACITY];
    int backbone_missing = 0, backbone_params = 0;
    for (int i = 0; i < graph->param_count; i++) {
        const tl_param *param = &graph->param[i];
        if (is_foreign(f, i)) {
            f->missing.count = graph->param_count;
            f->extra.count = file->weights->count;
            return;
        }
        if (tl_name_translate(&walk, i, external))
            compare_param(graph, param, external, file, f);
        else
            note(&f->missing, "%s", param->name);
        if (param->node > features) continue;
        backbone_missing = f->missing.count;
        backbone_params = i + 1;
    }
    int head_missing = f->missing.count - backbone_missing;
    if (head_missing == graph->param_count - backbone_params) f->headless = head_missing;
    for (int i = 0; i < file->weights->count; i++) {
        const tl_weight *item = &file->weights->item[i];
        char shape[TL_SHAPE_TEXT];
        if (file->used[i] || tl_name_ignored(naming, item->name)) continue;
        note(&f->extra, "%s %s", item->name, tl_shape_text(&item->shape, shape));
    }
}

/* The last node with parameters gives the classes. */
static int classifier_param(const tl_graph *graph) {
    return graph->node[graph->param[graph->param_count - 1].node].first_param;
}

/* A checkpoint that was fine-tuned elsewhere answers classes of its own: as many as its
 * classifier's weights have outputs. */
static int file_classes(const tl_graph *graph, const candidate_file *file, const fit *f) {
    const tl_naming *naming = f->variant->naming;
    tl_name_walk walk = tl_name_walk_make(naming, graph, NULL);
    char external[TL_NAME_CAPACITY];
    int param = classifier_param(graph);
    int found = tl_name_translate(&walk, param, external)
                    ? tl_name_find(naming, file->weights, external)
                    : -1;
    const tl_shape *shape = found >= 0 ? &file->weights->item[found].shape : NULL;
    if (!shape || shape->rank < 2) return f->backbone->classes;
    int64_t outputs = shape->dim[naming->layout == TL_LAYOUT_KERAS ? shape->rank - 1 : 0];
    return outputs >= 1 && outputs <= TL_MAX_CLASSES ? (int)outputs : f->backbone->classes;
}

static tl_status build_hollow(const candidate_file *file, fit *f, tl_graph **graph, int *features) {
    tl_context *ctx = file->weights->ctx;
    f->classes = f->backbone->classes;
    TL_TRY(tl_backbone_build(ctx, f->backbone, f->variant, f->classes, true, graph, features));
    int classes = file_classes(*graph, file, f);
    if (classes == f->classes) return TL_OK;
    f->classes = classes;
    tl_graph_free(*graph);
    return tl_backbone_build(ctx, f->backbone, f->variant, classes, true, graph, features);
}

static tl_status try_fit(const candidate_file *file, fit *f) {
    tl_graph *graph = NULL;
    int features = 0;
    TL_TRY(build_hollow(file, f, &graph, &features));
    compare_graph(graph, features, file, f);
    tl_graph_free(graph);
    return TL_OK;
}

/* Whether names are put together as they are in files of that layout. */
static bool has_separator(const tl_weights *weights, tl_layout layout) {
    for (int i = 0; i < weights->count; i++)
        if (strchr(weights->item[i].name, layout == TL_LAYOUT_KERAS ? '/' : '.')) return true;
    return false;
}

static tl_status find_best(const candidate_file *file, fit *best) {
    bool first = true;
    const tl_backbone *backbone = NULL;
    for (int i = 0; (backbone = tl_backbone_at(i)); i++)
        for (const tl_variant *variant = backbone->variant; variant->naming; variant++) {
            fit f = {.backbone = backbone, .variant = variant};
            if (!has_separator(file->weights, variant->naming->layout)) continue;
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
                   weights->source.name, best->backbone->name, best->variant->naming->scheme,
                   best->matched, best->missing.count, best->missing.text, best->extra.count,
                   best->extra.text, best->reshaped.count, best->reshaped.text);
}

/* --- filling
 * -------------------------------------------------------------------------------------- */

/* Where values of a file go. */
typedef struct filling {
    tl_weights *weights;
    const tl_naming *naming;
    tl_graph *graph;
} filling;

static tl_status fill(const filling *f, int *index) {
    tl_name_walk walk = tl_name_walk_make(f->naming, f->graph, f->weights);
    char external[TL_NAME_CAPACITY];
    for (int i = 0; i < f->graph->param_count; i++) {
        bool translated = tl_name_translate(&walk, i, external);
        index[i] = translated ? tl_name_find(f->naming, f->weights, external) : -1;
        TL_CHECK(index[i] >= 0, TL_UNSUPPORTED, "%s: no tensor for %s", f->weights->source.name,
                 f->graph->param[i].name);
    }
    tl_status status = tl_model_fill_graph(f->graph, f->weights, index, &f->naming->layout);
    return status == TL_OK ? TL_OK : tl_fail_in(status, "%s", f->weights->source.name);
}

static tl_status find_and_fill(const filling *f) {
    int *index = tl_alloc_array(f->graph->ctx, (size_t)f->graph->param_count, sizeof *index);
    TL_CHECK_MEMORY(index);
    tl_status status = fill(f, index);
    tl_free(f->graph->ctx, index);
    return status;
}

static tl_status build_filled(const candidate_file *file, const fit *best, tl_model **out) {
    tl_graph *graph = NULL;
    int features = 0;
    TL_TRY(tl_backbone_build(file->weights->ctx, best->backbone, best->variant, best->classes, true,
                             &graph, &features));
    if (best->headless) tl_graph_truncate(graph, features);
    tl_status status = find_and_fill(&(filling){file->weights, best->variant->naming, graph});
    if (status != TL_OK) {
        tl_graph_free(graph);
        return status;
    }
    TL_TRY(tl_backbone_wrap(best->backbone, best->variant, graph, features, out));
    (*out)->format = file->weights->format;
    (*out)->wrapper = file->weights->wrapper;
    if (!best->headless && best->classes == TL_IMAGENET_CLASSES) {
        const char *names[TL_IMAGENET_CLASSES];
        tl_imagenet_class_names(names);
        status = tl_model_set_classes(*out, names);
    }
    if (status != TL_OK) {
        tl_model_free(*out);
        *out = NULL;
    }
    return status;
}

tl_status tl_model_from_weights(tl_weights *weights, tl_model **out) {
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
