/* EfficientNet-Lite0 to -Lite4 (Liu, Tan et al. 2020): EfficientNet (arXiv 1905.11946) without
 * squeeze-and-excite, with ReLU6, stem and head not scaled. Rows and rules are those of the
 * TPU models' efficientnet_lite_builder.py. Stochastic depth and dropout, which the authors used
 * to train from scratch, are left out. */
#include <math.h>
#include <stdio.h>

#include "model/build.h"
#include "model/model.h"

typedef struct lite_config {
    double width, depth; /* multipliers of channels and of repeats */
} lite_config;

typedef struct lite_stage {
    int repeats, kernel, stride, expand, filters;
} lite_stage;

enum { STAGES = 7, STEM_FILTERS = 32, HEAD_FILTERS = 1280 };
static const lite_stage stages[STAGES] = {
    {1, 3, 1, 1, 16},  {2, 3, 2, 6, 24},  {2, 5, 2, 6, 40},  {3, 3, 2, 6, 80},
    {3, 5, 1, 6, 112}, {4, 5, 2, 6, 192}, {1, 3, 1, 6, 320},
};

/* To the nearest multiple of 8, but never more than a tenth below the exact value. */
static int scale_filters(int filters, double width) {
    double exact = filters * width;
    int rounded = (int)(exact + 4) / 8 * 8;
    if (rounded < 8) rounded = 8;
    if (rounded < 0.9 * exact) rounded += 8;
    return rounded;
}

/* The first and the last stage belong to stem and head and keep their single block. */
static int scale_repeats(int stage, double depth) {
    int repeats = stages[stage].repeats;
    return stage == 0 || stage == STAGES - 1 ? repeats : (int)ceil(repeats * depth);
}

/* TensorFlow's SAME padding, and its batch norm: Keras keeps 0.99 of the old value and does not
 * correct the variance. `name` is what the convolution's, norm's and activation's names share. */
static void conv_bn(tl_builder *b, const char *name, int filters, int kernel, int stride,
                    int groups, bool activate) {
    char text[64];
    snprintf(text, sizeof text, "%s_conv", name);
    tl_build_with(b, "conv2d", text,
                  "filters=%d kernel=%d stride=%d groups=%d padding=same bias=false", filters,
                  kernel, stride, groups);
    snprintf(text, sizeof text, "%s_bn", name);
    tl_build_with(b, "batch_norm", text, "epsilon=1e-3 momentum=0.99 unbiased=false");
    if (!activate) return;
    snprintf(text, sizeof text, "%s_relu6", name);
    tl_build(b, "relu6", text);
}

/* Inverted residual (Sandler et al. 2018, arXiv 1801.04381). */
static void inverted_residual(tl_builder *b, const lite_stage *stage, int input_filters,
                              int filters, int stride) {
    int input = b->last;
    int wide = input_filters * stage->expand;
    if (stage->expand != 1) conv_bn(b, "expand", wide, 1, 1, 1, true);
    conv_bn(b, "depthwise", wide, stage->kernel, stride, wide, true);
    conv_bn(b, "project", filters, 1, 1, 1, false);
    if (stride == 1 && input_filters == filters) tl_build_add(b, "add", input);
}

static tl_status build_lite(tl_graph *graph, const void *settings, int classes, int *features) {
    const lite_config *config = settings;
    tl_builder b = tl_builder_make(graph);
    int channels = STEM_FILTERS;
    conv_bn(&b, "stem", STEM_FILTERS, 3, 2, 1, true);
    for (int s = 0; s < STAGES; s++) {
        int filters = scale_filters(stages[s].filters, config->width);
        for (int i = 0; i < scale_repeats(s, config->depth); i++) {
            tl_build_scope(&b, "blocks.%d.%d.", s, i);
            inverted_residual(&b, &stages[s], channels, filters, i == 0 ? stages[s].stride : 1);
            channels = filters;
        }
    }
    b.prefix[0] = '\0';
    conv_bn(&b, "head", HEAD_FILTERS, 1, 1, 1, true);
    *features = b.last;
    tl_build(&b, "global_avg_pool", "pool");
    tl_build_with(&b, "dense", "classifier", "units=%d", classes);
    return b.status;
}

/* EfficientNet-PyTorch and its Lite offspring: blocks numbered through, batch norms counted from
 * 0, or from 1 where a block has no expansion. */
static const tl_naming lukemelas = {
    .scheme = "lukemelas",
    .nodes =
        (const tl_name_rule[]){
            {"_conv_stem", "stem_conv"},
            {"_bn0", "stem_bn"},
            {"_blocks.#._expand_conv", "blocks.#.expand_conv"},
            {"_blocks.#._bn0", "blocks.#.expand_bn"},
            {"_blocks.#._depthwise_conv", "blocks.#.depthwise_conv"},
            {"_blocks.#._bn1", "blocks.#.depthwise_bn"},
            {"_blocks.#._project_conv", "blocks.#.project_conv"},
            {"_blocks.#._bn2", "blocks.#.project_bn"},
            {"_conv_head", "head_conv"},
            {"_bn1", "head_bn"},
            {"_fc", "classifier"},
            {NULL, NULL},
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};

/* timm's tf_efficientnet_lite*: a block without expansion is a class of its own there and calls
 * its projection what the others call their expansion. (timm's efficientnet_lite0 without tf_ has
 * the same names but other padding; no file tells which it is.) */
static const tl_naming timm = {
    .scheme = "timm",
    .nodes =
        (const tl_name_rule[]){
            {"conv_stem", "stem_conv"},
            {"bn1", "stem_bn"},
            {"blocks.0.*.conv_dw", "blocks.0.*.depthwise_conv"},
            {"blocks.0.*.bn1", "blocks.0.*.depthwise_bn"},
            {"blocks.0.*.conv_pw", "blocks.0.*.project_conv"},
            {"blocks.0.*.bn2", "blocks.0.*.project_bn"},
            {"blocks.*.conv_pw", "blocks.*.expand_conv"},
            {"blocks.*.bn1", "blocks.*.expand_bn"},
            {"blocks.*.conv_dw", "blocks.*.depthwise_conv"},
            {"blocks.*.bn2", "blocks.*.depthwise_bn"},
            {"blocks.*.conv_pwl", "blocks.*.project_conv"},
            {"blocks.*.bn3", "blocks.*.project_bn"},
            {"conv_head", "head_conv"},
            {"bn2", "head_bn"},
            {"classifier", "classifier"},
            {NULL, NULL},
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};
static const tl_naming *const lite_namings[] = {&lukemelas, &timm, NULL};

#define LITE(number, size, file, w, d)                                                             \
    {                                                                                              \
        .name = "efficientnet_lite" #number, .input_size = (size), .classes = 1000,                \
        .preprocess = "efficientnet-lite", .weights = (file), .namings = lite_namings,             \
        .build = build_lite, .config = &(const lite_config) {                                      \
            .width = (w), .depth = (d)                                                             \
        }                                                                                          \
    }

const tl_backbone tl_efficientnet_lite_backbones[] = {
    LITE(0, 224, "efficientnet-lite0-57934424.pth", 1.0, 1.0),
    LITE(1, 240, "efficientnet-lite1-77cc7160.pth", 1.0, 1.1),
    LITE(2, 260, "efficientnet-lite2-9656183e.pth", 1.1, 1.2),
    LITE(3, 280, NULL, 1.2, 1.4),
    LITE(4, 300, NULL, 1.4, 1.8),
    {.name = NULL},
};
