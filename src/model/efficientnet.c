/* EfficientNet-B0 to -B3 (Tan and Le 2019, arXiv 1905.11946). torchvision and timm pad on all
 * sides, Keras and EfficientNet-PyTorch as TensorFlow does. Stochastic depth and dropout, which
 * only training from scratch would use, are left out. */
#include <math.h>

#include "model/mobile.h"

typedef struct efficientnet_stage {
    int repeats, kernel, stride, expand, filters;
} efficientnet_stage;

enum { STAGES = 7, STEM_FILTERS = 32, HEAD_FILTERS = 1280 };
/* Table 1 of the paper. */
static const efficientnet_stage stages[STAGES] = {
    {1, 3, 1, 1, 16},  {2, 3, 2, 6, 24},  {2, 5, 2, 6, 40},  {3, 3, 2, 6, 80},
    {3, 5, 1, 6, 112}, {4, 5, 2, 6, 192}, {1, 3, 1, 6, 320},
};

typedef struct efficientnet_config {
    double width, depth; /* multipliers of channels and of repeats */
    const tl_mobile_form *form;
} efficientnet_config;

static int append_stage(tl_builder *b, const efficientnet_config *config, int stage, int channels) {
    const efficientnet_stage *s = &stages[stage];
    int filters = tl_mobile_round(s->filters * config->width);
    int repeats = (int)ceil(s->repeats * config->depth);
    for (int i = 0; i < repeats; i++) {
        tl_build_scope(b, "blocks.%d.%d.", stage, i);
        tl_mobile_append(b, config->form,
                         &(tl_mobile_block){.channels = channels,
                                            .wide = channels * s->expand,
                                            .filters = filters,
                                            .kernel = s->kernel,
                                            .stride = i == 0 ? s->stride : 1,
                                            .activation = "silu",
                                            .squeeze = channels / 4,
                                            .squeeze_activation = "silu",
                                            .gate = "sigmoid"});
        channels = filters;
    }
    return channels;
}

static tl_status build_efficientnet(tl_graph *graph, const void *settings, int classes,
                                    int *features) {
    const efficientnet_config *config = settings;
    tl_builder b = tl_builder_make(graph);
    int channels = tl_mobile_round(STEM_FILTERS * config->width);
    tl_mobile_conv_bn(&b, config->form, "stem", (tl_mobile_conv){channels, 3, 2, 1}, "silu");
    for (int stage = 0; stage < STAGES; stage++)
        channels = append_stage(&b, config, stage, channels);
    tl_build_scope(&b, "%s", "");
    channels = tl_mobile_round(HEAD_FILTERS * config->width);
    tl_mobile_conv_bn(&b, config->form, "head", (tl_mobile_conv){channels, 1, 1, 1}, "silu");
    *features = b.last;
    tl_build(&b, "global_avg_pool", "pool");
    tl_build_with(&b, "dense", "classifier", "units=%d", classes);
    return b.status;
}

static const tl_naming torchvision = {
    .scheme = "torchvision",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            {"features.0.0", "stem_conv"},
            {"features.0.1", "stem_bn"},
            {"features.1.*.block.0.0", "blocks.0.*.depthwise_conv"},
            {"features.1.*.block.0.1", "blocks.0.*.depthwise_bn"},
            {"features.1.*.block.1.fc1", "blocks.0.*.squeeze_reduce"},
            {"features.1.*.block.1.fc2", "blocks.0.*.squeeze_expand"},
            {"features.1.*.block.2.0", "blocks.0.*.project_conv"},
            {"features.1.*.block.2.1", "blocks.0.*.project_bn"},
            {"features.+.*.block.0.0", "blocks.*.*.expand_conv"},
            {"features.+.*.block.0.1", "blocks.*.*.expand_bn"},
            {"features.+.*.block.1.0", "blocks.*.*.depthwise_conv"},
            {"features.+.*.block.1.1", "blocks.*.*.depthwise_bn"},
            {"features.+.*.block.2.fc1", "blocks.*.*.squeeze_reduce"},
            {"features.+.*.block.2.fc2", "blocks.*.*.squeeze_expand"},
            {"features.+.*.block.3.0", "blocks.*.*.project_conv"},
            {"features.+.*.block.3.1", "blocks.*.*.project_bn"},
            {"features.8.0", "head_conv"},
            {"features.8.1", "head_bn"},
            {"classifier.1", "classifier"},
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
            {"stem_*", "stem_*"},
            {"block+$_dwconv", "blocks.*.*.depthwise_conv"},
            {"block+$_bn", "blocks.*.*.depthwise_bn"},
            {"block+$_se_*", "blocks.*.*.squeeze_*"},
            {"block+$_*", "blocks.*.*.*"},
            {"top_*", "head_*"},
            {"predictions", "classifier"},
            {NULL, NULL},
        },
    .params = tl_keras_params,
    .ignored = tl_keras_ignored,
};

#define FORM(w, d, padding) (&(const efficientnet_config){(w), (d), (padding)})
#define EFFICIENTNET(number, size, w, d, torchvision_size, torchvision_resize)                     \
    {                                                                                              \
        .name = "efficientnet_b" #number, .input_size = (size), .classes = 1000,                   \
        .build = build_efficientnet, .variant = (const tl_variant[]) {                             \
            {&torchvision, "torchvision-bicubic", (torchvision_resize),                            \
             FORM(w, d, &tl_mobile_pytorch), (torchvision_size)},                                  \
                {&tl_naming_timm_mobile, "torchvision-bicubic", 0, FORM(w, d, &tl_mobile_pytorch), \
                 0},                                                                               \
                {&tl_naming_lukemelas, "torchvision-bicubic", 0, FORM(w, d, &tl_mobile_keras), 0}, \
                {&keras, "keras-torch", 0, FORM(w, d, &tl_mobile_keras), 0}, {                     \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

const tl_backbone tl_efficientnet_backbones[] = {
    EFFICIENTNET(0, 224, 1.0, 1.0, 224, 256),
    EFFICIENTNET(1, 240, 1.0, 1.1, 240, 256),
    EFFICIENTNET(2, 260, 1.1, 1.2, 288, 288),
    EFFICIENTNET(3, 300, 1.2, 1.4, 300, 320),
    {.name = NULL},
};
