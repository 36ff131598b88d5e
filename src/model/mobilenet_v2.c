/* MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381). torchvision pads on all sides, Keras as
 * TensorFlow does. Dropout before the classifier, which only training from scratch would use, is
 * left out. */
#include "model/mobile.h"

/* Table 2 of the paper: expansion, channels, repeats, stride. */
typedef struct mobilenet_stage {
    int expand, filters, repeats, stride;
} mobilenet_stage;

enum { STAGES = 7, STEM_FILTERS = 32, HEAD_FILTERS = 1280 };
static const mobilenet_stage stages[STAGES] = {
    {1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2},  {6, 64, 4, 2},
    {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
};

static int append_stage(tl_builder *b, const tl_mobile_form *form, int stage, int channels) {
    const mobilenet_stage *s = &stages[stage];
    for (int i = 0; i < s->repeats; i++) {
        tl_build_scope(b, "blocks.%d.%d.", stage, i);
        tl_mobile_append(b, form,
                         &(tl_mobile_block){.channels = channels,
                                            .wide = channels * s->expand,
                                            .filters = s->filters,
                                            .kernel = 3,
                                            .stride = i == 0 ? s->stride : 1,
                                            .activation = "relu6"});
        channels = s->filters;
    }
    return channels;
}

static tl_status build_mobilenet(tl_graph *graph, const void *form, int classes, int *features) {
    tl_builder b = tl_builder_make(graph);
    int channels = STEM_FILTERS;
    tl_mobile_conv_bn(&b, form, "stem", (tl_mobile_conv){STEM_FILTERS, 3, 2, 1}, "relu6");
    for (int stage = 0; stage < STAGES; stage++) channels = append_stage(&b, form, stage, channels);
    tl_build_scope(&b, "%s", "");
    tl_mobile_conv_bn(&b, form, "head", (tl_mobile_conv){HEAD_FILTERS, 1, 1, 1}, "relu6");
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
            {"features.#.conv.0.0", "blocks.0.0.depthwise_conv"},
            {"features.#.conv.0.1", "blocks.0.0.depthwise_bn"},
            {"features.#.conv.1", "blocks.0.0.project_conv"},
            {"features.#.conv.2", "blocks.0.0.project_bn"},
            {"features.#.conv.0.0", "blocks.#.expand_conv"},
            {"features.#.conv.0.1", "blocks.#.expand_bn"},
            {"features.#.conv.1.0", "blocks.#.depthwise_conv"},
            {"features.#.conv.1.1", "blocks.#.depthwise_bn"},
            {"features.#.conv.2", "blocks.#.project_conv"},
            {"features.#.conv.3", "blocks.#.project_bn"},
            {"features.18.0", "head_conv"},
            {"features.18.1", "head_bn"},
            {"classifier.1", "classifier"},
            {NULL, NULL},
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
    .first_block = 1,
};

static const tl_naming keras = {
    .scheme = "keras",
    .layout = TL_LAYOUT_KERAS,
    .nodes =
        (const tl_name_rule[]){
            {"Conv1", "stem_conv"},
            {"bn_Conv1", "stem_bn"},
            {"expanded_conv_depthwise", "blocks.0.0.depthwise_conv"},
            {"expanded_conv_depthwise_BN", "blocks.0.0.depthwise_bn"},
            {"expanded_conv_project", "blocks.0.0.project_conv"},
            {"expanded_conv_project_BN", "blocks.0.0.project_bn"},
            {"block_#_*_BN", "blocks.#.*_bn"},
            {"block_#_*", "blocks.#.*_conv"},
            {"Conv_1", "head_conv"},
            {"Conv_1_bn", "head_bn"},
            {"predictions", "classifier"},
            {NULL, NULL},
        },
    .params = tl_keras_params,
    .ignored = tl_keras_ignored,
};

static const tl_mobile_form keras_form = {true, "epsilon=1e-3 momentum=0.999 unbiased=false"};

const tl_backbone tl_mobilenet_v2_backbones[] = {
    {.name = "mobilenet_v2",
     .input_size = 224,
     .classes = 1000,
     .build = build_mobilenet,
     .variant =
         (const tl_variant[]){
             {&torchvision, "torchvision", 0, &tl_mobile_pytorch, 0},
             {&tl_naming_timm_mobile, "torchvision-bicubic", 0, &tl_mobile_pytorch, 0},
             {&keras, "keras-tf", 0, &keras_form, 0},
             {0},
         }},
    {.name = NULL},
};
