/* MobileNetV3 large and small (Howard et al. 2019, arXiv 1905.02244). torchvision pads on all
 * sides, Keras as TensorFlow does. Dropout before the classifier, which only training from scratch
 * would use, is left out. */
#include "model/mobile.h"

/* A row of table 1 or 2 of the paper. */
typedef struct v3_row {
    int stage, kernel, wide, filters, stride;
    bool squeeze, hard_swish; /* else no squeeze-and-excite; else ReLU */
} v3_row;

enum { STEM_FILTERS = 16 };
typedef struct v3_network {
    const v3_row *row; /* ended by one of kernel 0 */
    int head, dense;
} v3_network;

static const v3_network large = {
    (const v3_row[]){
        {0, 3, 16, 16, 1, false, false},
        {1, 3, 64, 24, 2, false, false},
        {1, 3, 72, 24, 1, false, false},
        {2, 5, 72, 40, 2, true, false},
        {2, 5, 120, 40, 1, true, false},
        {2, 5, 120, 40, 1, true, false},
        {3, 3, 240, 80, 2, false, true},
        {3, 3, 200, 80, 1, false, true},
        {3, 3, 184, 80, 1, false, true},
        {3, 3, 184, 80, 1, false, true},
        {4, 3, 480, 112, 1, true, true},
        {4, 3, 672, 112, 1, true, true},
        {5, 5, 672, 160, 2, true, true},
        {5, 5, 960, 160, 1, true, true},
        {5, 5, 960, 160, 1, true, true},
        {0},
    },
    960,
    1280,
};
static const v3_network small = {
    (const v3_row[]){
        {0, 3, 16, 16, 2, true, false},
        {1, 3, 72, 24, 2, false, false},
        {1, 3, 88, 24, 1, false, false},
        {2, 5, 96, 40, 2, true, true},
        {2, 5, 240, 40, 1, true, true},
        {2, 5, 240, 40, 1, true, true},
        {3, 5, 120, 48, 1, true, true},
        {3, 5, 144, 48, 1, true, true},
        {4, 5, 288, 96, 2, true, true},
        {4, 5, 576, 96, 1, true, true},
        {4, 5, 576, 96, 1, true, true},
        {0},
    },
    576,
    1024,
};

typedef struct v3_config {
    const v3_network *network;
    tl_mobile_form form;
} v3_config;

static int append_rows(tl_builder *b, const v3_config *config) {
    int channels = STEM_FILTERS, stage = -1, index = 0;
    for (const v3_row *row = config->network->row; row->kernel; row++) {
        index = row->stage == stage ? index + 1 : 0;
        stage = row->stage;
        tl_build_scope(b, "blocks.%d.%d.", stage, index);
        tl_mobile_append(b, &config->form,
                         &(tl_mobile_block){
                             .channels = channels,
                             .wide = row->wide,
                             .filters = row->filters,
                             .kernel = row->kernel,
                             .stride = row->stride,
                             .activation = row->hard_swish ? "hard_swish" : "relu",
                             .squeeze = row->squeeze ? tl_mobile_round(row->wide / 4.0) : 0,
                             .squeeze_activation = "relu",
                             .gate = "hard_sigmoid",
                         });
        channels = row->filters;
    }
    return channels;
}

static tl_status build_mobilenet(tl_graph *graph, const void *settings, int classes,
                                 int *features) {
    const v3_config *config = settings;
    tl_builder b = tl_builder_make(graph);
    tl_mobile_conv_bn(&b, &config->form, "stem", (tl_mobile_conv){STEM_FILTERS, 3, 2, 1},
                      "hard_swish");
    append_rows(&b, config);
    tl_build_scope(&b, "%s", "");
    tl_mobile_conv_bn(&b, &config->form, "head", (tl_mobile_conv){config->network->head, 1, 1, 1},
                      "hard_swish");
    *features = b.last;
    tl_build(&b, "global_avg_pool", "pool");
    tl_build_with(&b, "dense", "head_dense", "units=%d", config->network->dense);
    tl_build(&b, "hard_swish", "head_dense_hard_swish");
    tl_build_with(&b, "dense", "classifier", "units=%d", classes);
    return b.status;
}

/* --- names: torchvision numbers the layers of a block, so that they depend on which there are ---
 */

#define TORCHVISION_STEM                                                                           \
    {"features.0.0", "stem_conv"}, {"features.0.1", "stem_bn"},                                    \
        {"features.#.block.0.0", "blocks.0.0.depthwise_conv"}, {                                   \
        "features.#.block.0.1", "blocks.0.0.depthwise_bn"                                          \
    }
#define TORCHVISION_PROJECT(place, stage)                                                          \
    {"features.#.block." place ".0", "blocks." stage ".*.project_conv"}, {                         \
        "features.#.block." place ".1", "blocks." stage ".*.project_bn"                            \
    }
#define TORCHVISION_REST(last)                                                                     \
    {"features.#.block.0.0", "blocks.#.expand_conv"},                                              \
        {"features.#.block.0.1", "blocks.#.expand_bn"},                                            \
        {"features.#.block.1.0", "blocks.#.depthwise_conv"},                                       \
        {"features.#.block.1.1", "blocks.#.depthwise_bn"},                                         \
        {"features.#.block.2.fc1", "blocks.#.squeeze_reduce"},                                     \
        {"features.#.block.2.fc2", "blocks.#.squeeze_expand"}, TORCHVISION_PROJECT("3", "*"),      \
        {"features." last ".0", "head_conv"}, {"features." last ".1", "head_bn"},                  \
        {"classifier.0", "head_dense"}, {"classifier.3", "classifier"}, {                          \
        NULL, NULL                                                                                 \
    }

static const tl_naming torchvision_large = {
    .scheme = "torchvision",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            TORCHVISION_STEM,
            TORCHVISION_PROJECT("1", "0"),
            TORCHVISION_PROJECT("2", "1"),
            TORCHVISION_PROJECT("2", "3"),
            TORCHVISION_REST("16"),
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
    .first_block = 1,
};
static const tl_naming torchvision_small = {
    .scheme = "torchvision",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            TORCHVISION_STEM,
            {"features.#.block.1.fc1", "blocks.0.0.squeeze_reduce"},
            {"features.#.block.1.fc2", "blocks.0.0.squeeze_expand"},
            TORCHVISION_PROJECT("2", "0"),
            TORCHVISION_PROJECT("2", "1"),
            TORCHVISION_REST("12"),
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
            {"conv", "stem_conv"},
            {"conv_bn", "stem_bn"},
            {"expanded_conv_squeeze_excite_conv", "blocks.0.0.squeeze_reduce"},
            {"expanded_conv_squeeze_excite_conv_1", "blocks.0.0.squeeze_expand"},
            {"expanded_conv_*", "blocks.0.0.*_conv"},
            {"expanded_conv_*_bn", "blocks.0.0.*_bn"},
            {"expanded_conv_#_squeeze_excite_conv", "blocks.#.squeeze_reduce"},
            {"expanded_conv_#_squeeze_excite_conv_1", "blocks.#.squeeze_expand"},
            {"expanded_conv_#_*", "blocks.#.*_conv"},
            {"expanded_conv_#_*_bn", "blocks.#.*_bn"},
            {"conv_1", "head_conv"},
            {"conv_1_bn", "head_bn"},
            {"conv_2", "head_dense"},
            {"logits", "classifier"},
            {NULL, NULL},
        },
    .params = tl_keras_params,
    .ignored = tl_keras_ignored,
};

#define TIMM(stage)                                                                                \
    {                                                                                              \
        .scheme = "timm", .layout = TL_LAYOUT_PYTORCH,                                             \
        .nodes =                                                                                   \
            (const tl_name_rule[]){                                                                \
                TL_TIMM_MOBILE_RULES,                                                              \
                {"blocks." stage ".0.conv", "head_conv"},                                          \
                {"blocks." stage ".0.bn1", "head_bn"},                                             \
                {"conv_head", "head_dense"},                                                       \
                {NULL, NULL},                                                                      \
            },                                                                                     \
        .params = tl_pytorch_params, .ignored = tl_pytorch_ignored                                 \
    }
static const tl_naming timm_large = TIMM("6"), timm_small = TIMM("5");

#define TORCHVISION_FORM                                                                           \
    { false, "epsilon=1e-3 momentum=0.99" }
#define TIMM_FORM                                                                                  \
    { false, "" }
#define KERAS_FORM                                                                                 \
    { true, "epsilon=1e-3 momentum=0.999 unbiased=false" }
#define V3(size)                                                                                   \
    {                                                                                              \
        .name = "mobilenet_v3_" #size, .input_size = 224, .classes = 1000,                         \
        .build = build_mobilenet, .variant = (const tl_variant[]) {                                \
            {&torchvision_##size, "torchvision", 0, &(const v3_config){&size, TORCHVISION_FORM},   \
             0},                                                                                   \
                {&timm_##size, "torchvision-bicubic", 0, &(const v3_config){&size, TIMM_FORM}, 0}, \
                {&keras, "keras-tf", 0, &(const v3_config){&size, KERAS_FORM}, 0}, {               \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

const tl_backbone tl_mobilenet_v3_backbones[] = {
    V3(large),
    V3(small),
    {.name = NULL},
};
