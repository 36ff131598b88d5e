/* ResNet-18 to -152 (He et al. 2015, arXiv 1512.03385), ResNeXt (Xie et al. 2016, arXiv 1611.05431)
 * and Wide ResNet (Zagoruyko and Komodakis 2016, arXiv 1605.07146). torchvision's form is "v1.5":
 * in a bottleneck the 3x3 convolution carries the stride. Keras's is the paper's: the first 1x1
 * does, and convolutions have biases. Nodes are named as torchvision's modules. */
#include "model/build.h"
#include "model/model.h"

typedef struct resnet_config {
    bool bottleneck;         /* 1x1, 3x3, 1x1 with four times the channels; else two 3x3 */
    int repeats[4];          /* blocks of each stage */
    int groups, group_width; /* of a bottleneck's 3x3 in the first stage */
    bool keras;
} resnet_config;

typedef struct resnet_builder {
    tl_builder b;
    const resnet_config *config;
} resnet_builder;

typedef struct resnet_conv {
    int filters, kernel, stride, groups;
} resnet_conv;

/* torchvision's defaults: eps 1e-5; its momentum 0.1 keeps 0.9 of the old value; the running
 * variance is the unbiased one. Keras's file says 1.001e-5. */
static void conv_bn(resnet_builder *r, const char *conv, const char *bn, resnet_conv c) {
    bool keras = r->config->keras;
    tl_build_with(&r->b, "conv2d", conv, "filters=%d kernel=%d stride=%d groups=%d pad=%d bias=%d",
                  c.filters, c.kernel, c.stride, c.groups, c.kernel / 2, keras);
    tl_build_with(&r->b, "batch_norm", bn, "%s",
                  keras ? "epsilon=1.001e-5 momentum=0.99 unbiased=false"
                        : "epsilon=1e-5 momentum=0.9 unbiased=true");
}

static void basic_block(resnet_builder *r, int width, int stride) {
    conv_bn(r, "conv1", "bn1", (resnet_conv){width, 3, stride, 1});
    tl_build(&r->b, "relu", "relu1");
    conv_bn(r, "conv2", "bn2", (resnet_conv){width, 3, 1, 1});
}

static void bottleneck_block(resnet_builder *r, int width, int stride) {
    const resnet_config *config = r->config;
    int groups = config->groups;
    int inner = width / 64 * config->group_width * groups;
    conv_bn(r, "conv1", "bn1", (resnet_conv){inner, 1, config->keras ? stride : 1, 1});
    tl_build(&r->b, "relu", "relu1");
    conv_bn(r, "conv2", "bn2", (resnet_conv){inner, 3, config->keras ? 1 : stride, groups});
    tl_build(&r->b, "relu", "relu2");
    conv_bn(r, "conv3", "bn3", (resnet_conv){4 * width, 1, 1, 1});
}

static void residual_block(resnet_builder *r, int width, int stride, bool project) {
    tl_builder *b = &r->b;
    int input = b->last;
    bool bottleneck = r->config->bottleneck;
    if (bottleneck)
        bottleneck_block(r, width, stride);
    else
        basic_block(r, width, stride);
    int branch = b->last;
    int shortcut = input;
    if (project) {
        b->last = input;
        conv_bn(r, "downsample.0", "downsample.1",
                (resnet_conv){bottleneck ? 4 * width : width, 1, stride, 1});
        shortcut = b->last;
        b->last = branch;
    }
    tl_build_add(b, "add", shortcut);
    tl_build(b, "relu", "relu");
}

static tl_status build_resnet(tl_graph *graph, const void *settings, int classes, int *features) {
    const resnet_config *config = settings;
    resnet_builder r = {.b = tl_builder_make(graph), .config = config};
    tl_builder *b = &r.b;
    conv_bn(&r, "conv1", "bn1", (resnet_conv){64, 7, 2, 1});
    tl_build(b, "relu", "relu");
    tl_build_with(b, "max_pool", "maxpool", "kernel=3 stride=2 pad=1");
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < config->repeats[stage]; i++) {
            tl_build_scope(b, "layer%d.%d.", stage + 1, i);
            /* The first block of a stage changes the shape, but for the 64 channels that a basic
             * block finds after the stem. */
            bool project = i == 0 && (stage > 0 || config->bottleneck);
            residual_block(&r, 64 << stage, stage > 0 && i == 0 ? 2 : 1, project);
        }
    *features = b->last;
    tl_build_scope(b, "%s", "");
    tl_build(b, "global_avg_pool", "avgpool");
    tl_build_with(b, "dense", "fc", "units=%d", classes);
    return b->status;
}

static const tl_naming keras = {
    .scheme = "keras",
    .layout = TL_LAYOUT_KERAS,
    .nodes =
        (const tl_name_rule[]){
            {"conv1_conv", "conv1"},
            {"conv1_bn", "bn1"},
            {"conv+_block+_0_conv", "layer*.*.downsample.0"},
            {"conv+_block+_0_bn", "layer*.*.downsample.1"},
            {"conv+_block+_*_conv", "layer*.*.conv*"},
            {"conv+_block+_*_bn", "layer*.*.bn*"},
            {"predictions", "fc"},
            {NULL, NULL},
        },
    .params = tl_keras_params,
    .ignored = tl_keras_ignored,
};

#define FORM(wide, group_count, width, is_keras, ...)                                              \
    (&(const resnet_config){.bottleneck = (wide),                                                  \
                            .repeats = {__VA_ARGS__},                                              \
                            .groups = (group_count),                                               \
                            .group_width = (width),                                                \
                            .keras = (is_keras)})
/* timm's names are torchvision's. */
#define TORCHVISION(bottleneck, groups, width, ...)                                                \
    {                                                                                              \
        &tl_naming_torchvision, "torchvision", 0,                                                  \
            FORM(bottleneck, groups, width, false, __VA_ARGS__), 0                                 \
    }
#define KERAS(...)                                                                                 \
    { &keras, "keras-caffe", 0, FORM(true, 1, 64, true, __VA_ARGS__), 0 }
#define RESNET(network, ...)                                                                       \
    {                                                                                              \
        .name = (network), .input_size = 224, .classes = 1000, .build = build_resnet,              \
        .variant = (const tl_variant[]) {                                                          \
            __VA_ARGS__, {                                                                         \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

const tl_backbone tl_resnet_backbones[] = {
    RESNET("resnet18", TORCHVISION(false, 1, 64, 2, 2, 2, 2)),
    RESNET("resnet34", TORCHVISION(false, 1, 64, 3, 4, 6, 3)),
    RESNET("resnet50", TORCHVISION(true, 1, 64, 3, 4, 6, 3), KERAS(3, 4, 6, 3)),
    RESNET("resnet101", TORCHVISION(true, 1, 64, 3, 4, 23, 3), KERAS(3, 4, 23, 3)),
    RESNET("resnet152", TORCHVISION(true, 1, 64, 3, 8, 36, 3), KERAS(3, 8, 36, 3)),
    RESNET("resnext50_32x4d", TORCHVISION(true, 32, 4, 3, 4, 6, 3)),
    RESNET("resnext101_32x8d", TORCHVISION(true, 32, 8, 3, 4, 23, 3)),
    RESNET("wide_resnet50_2", TORCHVISION(true, 1, 128, 3, 4, 6, 3)),
    RESNET("wide_resnet101_2", TORCHVISION(true, 1, 128, 3, 4, 23, 3)),
    {.name = NULL},
};
