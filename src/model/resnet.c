/* ResNet-18 to -152 (He et al. 2015, arXiv 1512.03385), the "v1.5" form of torchvision: in a
 * bottleneck the 3x3 convolution carries the stride, not the first 1x1. Nodes are named as
 * torchvision's modules, so that its names differ from ours in the batch norms' terms only. */
#include "model/build.h"
#include "model/model.h"

typedef struct resnet_config {
    bool bottleneck; /* 1x1, 3x3, 1x1 with four times the channels; else two 3x3 */
    int repeats[4];  /* blocks of each stage */
} resnet_config;

/* torchvision's defaults: eps 1e-5; its momentum 0.1 keeps 0.9 of the old value; the running
 * variance is the unbiased one. */
#define RESNET_BATCH_NORM "epsilon=1e-5 momentum=0.9 unbiased=true"

static void conv_bn(tl_builder *b, const char *conv, const char *bn, int filters, int kernel,
                    int stride) {
    tl_build_with(b, "conv2d", conv, "filters=%d kernel=%d stride=%d pad=%d bias=false", filters,
                  kernel, stride, kernel / 2);
    tl_build_with(b, "batch_norm", bn, RESNET_BATCH_NORM);
}

static void basic_block(tl_builder *b, int width, int stride) {
    conv_bn(b, "conv1", "bn1", width, 3, stride);
    tl_build(b, "relu", "relu1");
    conv_bn(b, "conv2", "bn2", width, 3, 1);
}

static void bottleneck_block(tl_builder *b, int width, int stride) {
    conv_bn(b, "conv1", "bn1", width, 1, 1);
    tl_build(b, "relu", "relu1");
    conv_bn(b, "conv2", "bn2", width, 3, stride);
    tl_build(b, "relu", "relu2");
    conv_bn(b, "conv3", "bn3", 4 * width, 1, 1);
}

static void residual_block(tl_builder *b, const resnet_config *config, int width, int stride,
                           bool project) {
    int input = b->last;
    if (config->bottleneck)
        bottleneck_block(b, width, stride);
    else
        basic_block(b, width, stride);
    int branch = b->last;
    int shortcut = input;
    if (project) {
        b->last = input;
        conv_bn(b, "downsample.0", "downsample.1", config->bottleneck ? 4 * width : width, 1,
                stride);
        shortcut = b->last;
        b->last = branch;
    }
    tl_build_add(b, "add", shortcut);
    tl_build(b, "relu", "relu");
}

static tl_status build_resnet(tl_graph *graph, const void *settings, int classes, int *features) {
    const resnet_config *config = settings;
    tl_builder b = tl_builder_make(graph);
    conv_bn(&b, "conv1", "bn1", 64, 7, 2);
    tl_build(&b, "relu", "relu");
    tl_build_with(&b, "max_pool", "maxpool", "kernel=3 stride=2 pad=1");
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < config->repeats[stage]; i++) {
            tl_build_scope(&b, "layer%d.%d.", stage + 1, i);
            /* The first block of a stage changes the shape, but for the 64 channels that a basic
             * block finds after the stem. */
            bool project = i == 0 && (stage > 0 || config->bottleneck);
            residual_block(&b, config, 64 << stage, stage > 0 && i == 0 ? 2 : 1, project);
        }
    *features = b.last;
    b.prefix[0] = '\0';
    tl_build(&b, "global_avg_pool", "avgpool");
    tl_build_with(&b, "dense", "fc", "units=%d", classes);
    return b.status;
}

#define RESNET(depth, wide, a, b, c, d)                                                            \
    {                                                                                              \
        .name = "resnet" #depth, .input_size = 224, .classes = 1000, .build = build_resnet,        \
        .variant = (const tl_variant[]) {                                                          \
            {&tl_naming_torchvision, "torchvision", 0,                                             \
             &(const resnet_config){.bottleneck = (wide), .repeats = {a, b, c, d}}},               \
            {                                                                                      \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

const tl_backbone tl_resnet_backbones[] = {
    RESNET(18, false, 2, 2, 2, 2),  RESNET(34, false, 3, 4, 6, 3),  RESNET(50, true, 3, 4, 6, 3),
    RESNET(101, true, 3, 4, 23, 3), RESNET(152, true, 3, 8, 36, 3), {.name = NULL},
};
