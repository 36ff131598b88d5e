/* EfficientNet-Lite0 to -Lite4 (Liu, Tan et al. 2020): EfficientNet (arXiv 1905.11946) without
 * squeeze-and-excite, with ReLU6, stem and head not scaled. Rows and rules are those of the
 * TPU models' efficientnet_lite_builder.py. Stochastic depth and dropout, which the authors used
 * to train from scratch, are left out. */
#include <math.h>

#include "model/mobile.h"

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

/* The first and the last stage belong to stem and head and keep their single block. */
static int scale_repeats(int stage, double depth) {
    int repeats = stages[stage].repeats;
    return stage == 0 || stage == STAGES - 1 ? repeats : (int)ceil(repeats * depth);
}

static int append_stage(tl_builder *b, const lite_config *config, int stage, int channels) {
    const lite_stage *s = &stages[stage];
    int filters = tl_mobile_round(s->filters * config->width);
    for (int i = 0; i < scale_repeats(stage, config->depth); i++) {
        tl_build_scope(b, "blocks.%d.%d.", stage, i);
        tl_mobile_append(b, &tl_mobile_keras,
                         &(tl_mobile_block){.channels = channels,
                                            .wide = channels * s->expand,
                                            .filters = filters,
                                            .kernel = s->kernel,
                                            .stride = i == 0 ? s->stride : 1,
                                            .activation = "relu6"});
        channels = filters;
    }
    return channels;
}

static tl_status build_lite(tl_graph *graph, const void *settings, int classes, int *features) {
    const lite_config *config = settings;
    const tl_mobile_form *form = &tl_mobile_keras;
    tl_builder b = tl_builder_make(graph);
    int channels = STEM_FILTERS;
    tl_mobile_conv_bn(&b, form, "stem", (tl_mobile_conv){STEM_FILTERS, 3, 2, 1}, "relu6");
    for (int stage = 0; stage < STAGES; stage++)
        channels = append_stage(&b, config, stage, channels);
    tl_build_scope(&b, "%s", "");
    tl_mobile_conv_bn(&b, form, "head", (tl_mobile_conv){HEAD_FILTERS, 1, 1, 1}, "relu6");
    *features = b.last;
    tl_build(&b, "global_avg_pool", "pool");
    tl_build_with(&b, "dense", "classifier", "units=%d", classes);
    return b.status;
}

/* timm's names are those of its tf_efficientnet_lite*. (Its efficientnet_lite0 without tf_ has the
 * same but other padding; no file tells which it is.) */
#define FORM(w, d) (&(const lite_config){(w), (d)})
#define LITE(number, size, file, w, d, ...)                                                        \
    {                                                                                              \
        .name = "efficientnet_lite" #number, .input_size = (size), .classes = 1000,                \
        .weights = (file), .build = build_lite, .variant = (const tl_variant[]) {                  \
            {&tl_naming_lukemelas, "efficientnet-lite", 0, FORM(w, d), 0},                         \
                {&tl_naming_timm_mobile, __VA_ARGS__}, {                                           \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
/* What timm measured with. */
#define CUBIC "torchvision-inception-bicubic"
#define LINEAR "torchvision-inception"

const tl_backbone tl_efficientnet_lite_backbones[] = {
    LITE(0, 224, "efficientnet-lite0-57934424.pth", 1.0, 1.0, CUBIC, 256, FORM(1.0, 1.0), 224),
    LITE(1, 240, "efficientnet-lite1-77cc7160.pth", 1.0, 1.1, CUBIC, 272, FORM(1.0, 1.1), 240),
    LITE(2, 260, "efficientnet-lite2-9656183e.pth", 1.1, 1.2, CUBIC, 292, FORM(1.1, 1.2), 260),
    LITE(3, 280, NULL, 1.2, 1.4, LINEAR, 331, FORM(1.2, 1.4), 300),
    LITE(4, 300, NULL, 1.4, 1.8, LINEAR, 413, FORM(1.4, 1.8), 380),
    {.name = NULL},
};
