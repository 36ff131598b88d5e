/* The backbones that are known, by name and by number. */
#include <stdio.h>
#include <string.h>

#include "model/model.h"

static const tl_backbone *const families[] = {
    tl_efficientnet_lite_backbones, tl_resnet_backbones,       tl_vgg_backbones,
    tl_inception_backbones,         tl_densenet_backbones,     tl_squeezenet_backbones,
    tl_mobilenet_v1_backbones,      tl_mobilenet_v2_backbones, tl_mobilenet_v3_backbones,
    tl_efficientnet_backbones,      tl_shufflenet_backbones,   tl_convnext_backbones,
};
enum { FAMILIES = sizeof families / sizeof families[0] };

const tl_backbone *tl_backbone_at(int index) {
    for (int family = 0; family < FAMILIES && index >= 0; family++)
        for (const tl_backbone *b = families[family]; b->name; b++)
            if (index-- == 0) return b;
    return NULL;
}

int tl_backbone_count(void) {
    int count = 0;
    while (tl_backbone_at(count)) count++;
    return count;
}

const char *tl_backbone_name(int index) {
    const tl_backbone *backbone = tl_backbone_at(index);
    return backbone ? backbone->name : NULL;
}

static bool same_name(const char *a, const char *b) {
    while (*a && (*a == '-' ? '_' : *a) == (*b == '-' ? '_' : *b)) a++, b++;
    return *a == *b;
}

const tl_backbone *tl_backbone_find(const char *name) {
    const tl_backbone *backbone = NULL;
    for (int i = 0; (backbone = tl_backbone_at(i)); i++)
        if (same_name(backbone->name, name)) return backbone;
    return NULL;
}

const char *tl_backbone_names(char text[TL_BACKBONE_NAMES]) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; tl_backbone_name(i) && used < TL_BACKBONE_NAMES; i++)
        used += (size_t)snprintf(text + used, TL_BACKBONE_NAMES - used, "%s%s", i ? ", " : "",
                                 tl_backbone_name(i));
    return text;
}

tl_status tl_backbone_require(const char *name, const tl_backbone **out) {
    *out = tl_backbone_find(name);
    char names[TL_BACKBONE_NAMES];
    TL_CHECK(*out, TL_NOT_FOUND, "unknown backbone '%s'; there are %s", name,
             tl_backbone_names(names));
    return TL_OK;
}

tl_status tl_backbone_build(tl_context *ctx, const tl_backbone *backbone, const tl_variant *variant,
                            int classes, bool hollow, tl_graph **graph, int *features) {
    int size = variant->input_size ? variant->input_size : backbone->input_size;
    TL_TRY(tl_graph_create(ctx, size, size, 3, graph));
    (*graph)->hollow = true; /* all of it is known before any memory is asked for */
    tl_status status = backbone->build(*graph, variant->config, classes, features);
    if (status == TL_OK && !hollow) status = tl_graph_allocate(*graph);
    if (status != TL_OK) {
        tl_graph_free(*graph);
        *graph = NULL;
        return tl_fail_in(status, "%s", backbone->name);
    }
    return TL_OK;
}

tl_status tl_backbone_wrap(const tl_backbone *backbone, const tl_variant *variant, tl_graph *graph,
                           int features, tl_model **out) {
    TL_TRY(tl_model_wrap(graph, backbone->name, features, out));
    tl_status status = tl_model_set_preprocess(*out, variant->preprocess);
    if (status != TL_OK) {
        tl_model_free(*out);
        *out = NULL;
        return status;
    }
    if (variant->resize) (*out)->preprocess.resize = variant->resize;
    return TL_OK;
}
