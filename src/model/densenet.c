/* DenseNet (Huang et al. 2016, arXiv 1608.06993). Nodes are named as torchvision's modules. */
#include <stdio.h>

#include "model/build.h"
#include "model/model.h"

enum { BLOCKS = 4, GROWTH = 32, BOTTLENECK = 4 * GROWTH, STEM_FILTERS = 64 };
typedef struct densenet_config {
    int layers[BLOCKS];
    const char *batch_norm; /* attributes */
} densenet_config;

typedef struct densenet_builder {
    tl_builder b;
    const char *batch_norm;
} densenet_builder;

static void norm_relu(densenet_builder *n, const char *norm, const char *relu) {
    tl_build_with(&n->b, "batch_norm", norm, "%s", n->batch_norm);
    tl_build(&n->b, "relu", relu);
}

/* New channels from all those before, behind which they are put. */
static void dense_layer(densenet_builder *n) {
    int input = n->b.last;
    norm_relu(n, "norm1", "relu1");
    tl_build_with(&n->b, "conv2d", "conv1", "filters=%d kernel=1 bias=false", BOTTLENECK);
    norm_relu(n, "norm2", "relu2");
    tl_build_with(&n->b, "conv2d", "conv2", "filters=%d kernel=3 pad=1 bias=false", GROWTH);
    tl_build_join(&n->b, "concat", "concat", 2, (const int[]){input, n->b.last});
}

/* To half the channels and half the size. */
static void transition(densenet_builder *n, int filters) {
    norm_relu(n, "norm", "relu");
    tl_build_with(&n->b, "conv2d", "conv", "filters=%d kernel=1 bias=false", filters);
    tl_build_with(&n->b, "avg_pool", "pool", "kernel=2 stride=2");
}

static tl_status build_densenet(tl_graph *graph, const void *settings, int classes, int *features) {
    const densenet_config *config = settings;
    densenet_builder n = {tl_builder_make(graph), config->batch_norm};
    int channels = STEM_FILTERS;
    tl_build_scope(&n.b, "features.");
    tl_build_with(&n.b, "conv2d", "conv0", "filters=%d kernel=7 stride=2 pad=3 bias=false",
                  STEM_FILTERS);
    norm_relu(&n, "norm0", "relu0");
    tl_build_with(&n.b, "max_pool", "pool0", "kernel=3 stride=2 pad=1");
    for (int block = 0; block < BLOCKS; block++) {
        for (int i = 0; i < config->layers[block]; i++) {
            tl_build_scope(&n.b, "features.denseblock%d.denselayer%d.", block + 1, i + 1);
            dense_layer(&n);
        }
        channels += GROWTH * config->layers[block];
        if (block == BLOCKS - 1) break;
        channels /= 2;
        tl_build_scope(&n.b, "features.transition%d.", block + 1);
        transition(&n, channels);
    }
    tl_build_scope(&n.b, "%s", "");
    norm_relu(&n, "features.norm5", "relu");
    *features = n.b.last;
    tl_build(&n.b, "global_avg_pool", "avgpool");
    tl_build_with(&n.b, "dense", "classifier", "units=%d", classes);
    return n.b.status;
}

/* The published files are older than torchvision's present names. */
static const tl_naming published = {
    .scheme = "torchvision-2017",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            {"*.denselayer*.norm.*", "*.denselayer*.norm*"},
            {"*.denselayer*.conv.*", "*.denselayer*.conv*"},
            {"*", "*"},
            {NULL, NULL},
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};

static const tl_naming keras = {
    .scheme = "keras",
    .layout = TL_LAYOUT_KERAS,
    .nodes =
        (const tl_name_rule[]){
            {"conv1_conv", "features.conv0"},
            {"conv1_bn", "features.norm0"},
            {"conv+_block*_0_bn", "features.denseblock*.denselayer*.norm1"},
            {"conv+_block*_1_bn", "features.denseblock*.denselayer*.norm2"},
            {"conv+_block*_*_conv", "features.denseblock*.denselayer*.conv*"},
            {"pool+_bn", "features.transition*.norm"},
            {"pool+_conv", "features.transition*.conv"},
            {"bn", "features.norm5"},
            {"predictions", "classifier"},
            {NULL, NULL},
        },
    .params = tl_keras_params,
    .ignored = tl_keras_ignored,
};

/* timm's names are torchvision's. */
#define FORM(norm, ...) (&(const densenet_config){{__VA_ARGS__}, norm})
#define DENSENET(depth, ...)                                                                       \
    {                                                                                              \
        .name = "densenet" #depth, .input_size = 224, .classes = 1000, .build = build_densenet,    \
        .variant = (const tl_variant[]) {                                                          \
            {&tl_naming_torchvision, "torchvision", 0, FORM("", __VA_ARGS__), 0},                  \
                {&published, "torchvision", 0, FORM("", __VA_ARGS__), 0},                          \
                {&keras, "keras-torch", 0,                                                         \
                 FORM("epsilon=1.001e-5 momentum=0.99 unbiased=false", __VA_ARGS__), 0},           \
            {                                                                                      \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

const tl_backbone tl_densenet_backbones[] = {
    DENSENET(121, 6, 12, 24, 16),
    DENSENET(169, 6, 12, 32, 32),
    DENSENET(201, 6, 12, 48, 32),
    {.name = NULL},
};
