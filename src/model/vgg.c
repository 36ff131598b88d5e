/* VGG11, 13, 16 and 19 (Simonyan and Zisserman 2014, arXiv 1409.1556), with and without batch norm.
 * Nodes are named as Keras's layers: blockB_convC. Dropout between the dense layers, which only
 * training from scratch would use, is left out. */
#include <stdio.h>

#include "model/build.h"
#include "model/model.h"

enum { BLOCKS = 5 };
typedef struct vgg_config {
    int convs[BLOCKS];
    bool batch_norm;
} vgg_config;

static void conv_relu(tl_builder *b, const vgg_config *config, int number, int filters) {
    char name[16];
    snprintf(name, sizeof name, "conv%d", number);
    tl_build_with(b, "conv2d", name, "filters=%d kernel=3 pad=1", filters);
    snprintf(name, sizeof name, "bn%d", number);
    if (config->batch_norm) tl_build(b, "batch_norm", name);
    snprintf(name, sizeof name, "relu%d", number);
    tl_build(b, "relu", name);
}

static tl_status build_vgg(tl_graph *graph, const void *settings, int classes, int *features) {
    const vgg_config *config = settings;
    tl_builder b = tl_builder_make(graph);
    for (int block = 0; block < BLOCKS; block++) {
        tl_build_scope(&b, "block%d_", block + 1);
        int filters = block < 3 ? 64 << block : 512;
        for (int i = 0; i < config->convs[block]; i++) conv_relu(&b, config, i + 1, filters);
        tl_build_with(&b, "max_pool", "pool", "kernel=2 stride=2");
    }
    *features = b.last;
    tl_build_scope(&b, "%s", "");
    tl_build(&b, "flatten", "flatten");
    tl_build_with(&b, "dense", "fc1", "units=4096");
    tl_build(&b, "relu", "fc1_relu");
    tl_build_with(&b, "dense", "fc2", "units=4096");
    tl_build(&b, "relu", "fc2_relu");
    tl_build_with(&b, "dense", "predictions", "units=%d", classes);
    return b.status;
}

/* There the layers of all blocks are numbered through, activations and pools among them. */
static const tl_naming torchvision = {
    .scheme = "torchvision",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            {"features.@", "block*"},
            {"classifier.0", "fc1"},
            {"classifier.3", "fc2"},
            {"classifier.6", "predictions"},
            {NULL, NULL},
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};

/* timm writes the first two dense layers as convolutions: 7x7 over the map, then 1x1. */
static const tl_naming timm = {
    .scheme = "timm",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            {"features.@", "block*"},
            {"pre_logits.fc1", "fc1"},
            {"pre_logits.fc2", "fc2"},
            {"head.fc", "predictions"},
            {NULL, NULL},
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};

static const tl_naming keras = {
    .scheme = "keras",
    .layout = TL_LAYOUT_KERAS,
    .nodes = (const tl_name_rule[]){{"*", "*"}, {NULL, NULL}},
    .params = tl_keras_params,
    .ignored = tl_keras_ignored,
};

static const vgg_config vgg11 = {{1, 1, 2, 2, 2}, false}, vgg11_bn = {{1, 1, 2, 2, 2}, true},
                        vgg13 = {{2, 2, 2, 2, 2}, false}, vgg13_bn = {{2, 2, 2, 2, 2}, true},
                        vgg16 = {{2, 2, 3, 3, 3}, false}, vgg16_bn = {{2, 2, 3, 3, 3}, true},
                        vgg19 = {{2, 2, 4, 4, 4}, false}, vgg19_bn = {{2, 2, 4, 4, 4}, true};

#define PYTORCH(settings)                                                                          \
    {.naming = &torchvision, .preprocess = "torchvision", .config = &(settings)}, {                \
        .naming = &timm, .preprocess = "torchvision", .config = &(settings)                        \
    }
#define KERAS(settings)                                                                            \
    { .naming = &keras, .preprocess = "keras-caffe", .config = &(settings) }
#define VGG(network, ...)                                                                          \
    {                                                                                              \
        .name = #network, .input_size = 224, .classes = 1000, .build = build_vgg,                  \
        .variant = (const tl_variant[]) {                                                          \
            PYTORCH(network), __VA_ARGS__                                                          \
        }                                                                                          \
    }

const tl_backbone tl_vgg_backbones[] = {
    VGG(vgg11, {0}),
    VGG(vgg13, {0}),
    VGG(vgg16, KERAS(vgg16), {0}),
    VGG(vgg19, KERAS(vgg19), {0}),
    VGG(vgg11_bn, {0}),
    VGG(vgg13_bn, {0}),
    VGG(vgg16_bn, {0}),
    VGG(vgg19_bn, {0}),
    {.name = NULL},
};
