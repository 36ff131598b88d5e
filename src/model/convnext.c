/* ConvNeXt (Liu et al. 2022, arXiv 2201.03545). Nodes are named as timm's modules: stem, stages.S.
 * downsample and blocks.I, head. Stochastic depth, which only training from scratch would use, is
 * left out. */
#include "model/build.h"
#include "model/model.h"

enum { STAGES = 4 };
typedef struct convnext_config {
    int repeats[STAGES], filters[STAGES];
} convnext_config;

static void layer_norm(tl_builder *b, const char *name) {
    tl_build_with(b, "layer_norm", name, "epsilon=1e-6");
}

static void block(tl_builder *b, int filters) {
    int input = b->last;
    tl_build_with(b, "conv2d", "conv_dw", "filters=%d groups=%d kernel=7 pad=3", filters, filters);
    layer_norm(b, "norm");
    tl_build_with(b, "conv2d", "mlp.fc1", "filters=%d kernel=1", 4 * filters);
    tl_build(b, "gelu", "mlp.act");
    tl_build_with(b, "conv2d", "mlp.fc2", "filters=%d kernel=1", filters);
    tl_build_with(b, "scale_shift", "scale", "center=false");
    tl_build_add(b, "add", input);
}

static tl_status build_convnext(tl_graph *graph, const void *settings, int classes, int *features) {
    const convnext_config *config = settings;
    tl_builder b = tl_builder_make(graph);
    tl_build_with(&b, "conv2d", "stem.0", "filters=%d kernel=4 stride=4", config->filters[0]);
    layer_norm(&b, "stem.1");
    for (int stage = 0; stage < STAGES; stage++) {
        tl_build_scope(&b, "stages.%d.downsample.", stage);
        if (stage > 0) {
            layer_norm(&b, "0");
            tl_build_with(&b, "conv2d", "1", "filters=%d kernel=2 stride=2",
                          config->filters[stage]);
        }
        for (int i = 0; i < config->repeats[stage]; i++) {
            tl_build_scope(&b, "stages.%d.blocks.%d.", stage, i);
            block(&b, config->filters[stage]);
        }
    }
    *features = b.last;
    tl_build_scope(&b, "head.");
    tl_build(&b, "global_avg_pool", "global_pool");
    layer_norm(&b, "norm");
    tl_build_with(&b, "dense", "fc", "units=%d", classes);
    return b.status;
}

/* There stages and the steps between them are numbered through. */
#define TORCHVISION_STAGE(theirs, ours)                                                            \
    {theirs ".*.block.0", ours ".blocks.*.conv_dw"}, {theirs ".*.block.2", ours ".blocks.*.norm"}, \
        {theirs ".*.block.3", ours ".blocks.*.mlp.fc1"},                                           \
        {theirs ".*.block.5", ours ".blocks.*.mlp.fc2"}, {                                         \
        theirs ".*.layer_scale!", ours ".blocks.*.scale"                                           \
    }
static const tl_naming torchvision = {
    .scheme = "torchvision",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            {"features.0.*", "stem.*"},
            {"features.2.*", "stages.1.downsample.*"},
            {"features.4.*", "stages.2.downsample.*"},
            {"features.6.*", "stages.3.downsample.*"},
            TORCHVISION_STAGE("features.1", "stages.0"),
            TORCHVISION_STAGE("features.3", "stages.1"),
            TORCHVISION_STAGE("features.5", "stages.2"),
            TORCHVISION_STAGE("features.7", "stages.3"),
            {"classifier.0", "head.norm"},
            {"classifier.2", "head.fc"},
            {NULL, NULL},
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};

static const tl_naming timm = {
    .scheme = "timm",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes = (const tl_name_rule[]){{"*.gamma!", "*.scale"}, {"*", "*"}, {NULL, NULL}},
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};

static const tl_name_rule keras_nodes[] = {
    {"stem_conv", "stem.0"},
    {"stem_layernorm", "stem.1"},
    {"downsampling_layernorm_0", "stages.1.downsample.0"},
    {"downsampling_conv_0", "stages.1.downsample.1"},
    {"downsampling_layernorm_1", "stages.2.downsample.0"},
    {"downsampling_conv_1", "stages.2.downsample.1"},
    {"downsampling_layernorm_2", "stages.3.downsample.0"},
    {"downsampling_conv_2", "stages.3.downsample.1"},
    {"stage_*_block_*_depthwise_conv", "stages.*.blocks.*.conv_dw"},
    {"stage_*_block_*_layernorm", "stages.*.blocks.*.norm"},
    {"stage_*_block_*_pointwise_conv_1", "stages.*.blocks.*.mlp.fc1"},
    {"stage_*_block_*_pointwise_conv_2", "stages.*.blocks.*.mlp.fc2"},
    {"stage_*_block_*_layer_scale", "stages.*.blocks.*.scale"},
    {"head_layernorm", "head.norm"},
    {"head_dense", "head.fc"},
    {NULL, NULL},
};

/* Every layer's name begins with the network's there. */
#define KERAS(size)                                                                                \
    (&(const tl_naming){.scheme = "keras",                                                         \
                        .layout = TL_LAYOUT_KERAS,                                                 \
                        .nodes = keras_nodes,                                                      \
                        .params = tl_keras_params,                                                 \
                        .ignored = tl_keras_ignored,                                               \
                        .prefix = "convnext_" #size "_"})

#define CONVNEXT(size, crop, ...)                                                                  \
    {                                                                                              \
        .name = "convnext_" #size, .input_size = 224, .classes = 1000, .build = build_convnext,    \
        .variant = (const tl_variant[]) {                                                          \
            {&torchvision, "torchvision", (crop), &(const convnext_config){__VA_ARGS__}, 0},       \
                {&timm, "torchvision-bicubic", 236, &(const convnext_config){__VA_ARGS__}, 0},     \
                {KERAS(size), "keras-torch", 0, &(const convnext_config){__VA_ARGS__}, 0}, {       \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

const tl_backbone tl_convnext_backbones[] = {
    CONVNEXT(tiny, 236, {3, 3, 9, 3}, {96, 192, 384, 768}),
    CONVNEXT(small, 230, {3, 3, 27, 3}, {96, 192, 384, 768}),
    CONVNEXT(base, 232, {3, 3, 27, 3}, {128, 256, 512, 1024}),
    {.name = NULL},
};
