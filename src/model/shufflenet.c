/* ShuffleNetV2 (Ma et al. 2018, arXiv 1807.11164). Nodes are named as torchvision's modules. */
#include "model/build.h"
#include "model/model.h"

enum { STAGES = 3 };
static const int repeats[STAGES] = {4, 8, 4};
typedef struct shufflenet_config {
    int filters[STAGES], last;
} shufflenet_config;

static void conv_bn(tl_builder *b, const char *conv, const char *bn, int filters,
                    const char *window) {
    tl_build_with(b, "conv2d", conv, "filters=%d bias=false %s", filters, window);
    tl_build(b, "batch_norm", bn);
}

static void depthwise_bn(tl_builder *b, const char *conv, const char *bn, int filters, int stride) {
    tl_build_with(b, "conv2d", conv, "filters=%d groups=%d kernel=3 stride=%d pad=1 bias=false",
                  filters, filters, stride);
    tl_build(b, "batch_norm", bn);
}

static void main_branch(tl_builder *b, int filters, int stride) {
    conv_bn(b, "branch2.0", "branch2.1", filters, "kernel=1");
    tl_build(b, "relu", "branch2.2");
    depthwise_bn(b, "branch2.3", "branch2.4", filters, stride);
    conv_bn(b, "branch2.5", "branch2.6", filters, "kernel=1");
    tl_build(b, "relu", "branch2.7");
}

/* Half of the channels pass; the block works on the other half. */
static void unit(tl_builder *b, int filters) {
    int input = b->last;
    tl_build_with(b, "slice", "pass", "begin=0 end=%d", filters);
    int pass = b->last;
    b->last = input;
    tl_build_with(b, "slice", "split", "begin=%d end=%d", filters, 2 * filters);
    main_branch(b, filters, 1);
    tl_build_join(b, "concat", "concat", 2, (const int[]){pass, b->last});
    tl_build_with(b, "channel_shuffle", "shuffle", "groups=2");
}

/* The first of a stage: all channels into both branches, half the size. */
static void unit_down(tl_builder *b, int channels, int filters) {
    int input = b->last;
    depthwise_bn(b, "branch1.0", "branch1.1", channels, 2);
    conv_bn(b, "branch1.2", "branch1.3", filters, "kernel=1");
    tl_build(b, "relu", "branch1.4");
    int side = b->last;
    b->last = input;
    main_branch(b, filters, 2);
    tl_build_join(b, "concat", "concat", 2, (const int[]){side, b->last});
    tl_build_with(b, "channel_shuffle", "shuffle", "groups=2");
}

static tl_status build_shufflenet(tl_graph *graph, const void *settings, int classes,
                                  int *features) {
    const shufflenet_config *config = settings;
    tl_builder b = tl_builder_make(graph);
    int channels = 24;
    conv_bn(&b, "conv1.0", "conv1.1", channels, "kernel=3 stride=2 pad=1");
    tl_build(&b, "relu", "conv1.2");
    tl_build_with(&b, "max_pool", "maxpool", "kernel=3 stride=2 pad=1");
    for (int stage = 0; stage < STAGES; stage++) {
        for (int i = 0; i < repeats[stage]; i++) {
            tl_build_scope(&b, "stage%d.%d.", stage + 2, i);
            if (i == 0)
                unit_down(&b, channels, config->filters[stage] / 2);
            else
                unit(&b, config->filters[stage] / 2);
        }
        channels = config->filters[stage];
    }
    tl_build_scope(&b, "%s", "");
    conv_bn(&b, "conv5.0", "conv5.1", config->last, "kernel=1");
    tl_build(&b, "relu", "conv5.2");
    *features = b.last;
    tl_build(&b, "global_avg_pool", "pool");
    tl_build_with(&b, "dense", "fc", "units=%d", classes);
    return b.status;
}

#define SHUFFLENET(factor, crop, ...)                                                              \
    {                                                                                              \
        .name = "shufflenet_v2_" factor, .input_size = 224, .classes = 1000,                       \
        .build = build_shufflenet, .variant = (const tl_variant[]) {                               \
            {&tl_naming_torchvision, "torchvision", (crop),                                        \
             &(const shufflenet_config){__VA_ARGS__}, 0},                                          \
            {                                                                                      \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

const tl_backbone tl_shufflenet_backbones[] = {
    SHUFFLENET("x0_5", 0, {48, 96, 192}, 1024),
    SHUFFLENET("x1_0", 0, {116, 232, 464}, 1024),
    SHUFFLENET("x1_5", 232, {176, 352, 704}, 1024),
    SHUFFLENET("x2_0", 232, {244, 488, 976}, 2048),
    {.name = NULL},
};
