/* SqueezeNet (Iandola et al. 2016, arXiv 1602.07360). Nodes are named as torchvision's modules. Its
 * classifier is a convolution over the map, whose answers are averaged. */
#include <stdio.h>

#include "model/build.h"
#include "model/model.h"

/* One row of torchvision's Sequential from index 3 on: a fire module, or a pool where squeeze is 0.
 */
typedef struct squeezenet_row {
    int squeeze, expand;
} squeezenet_row;

enum { ROWS = 10 };
typedef struct squeezenet_config {
    int filters, kernel; /* of the first convolution */
    squeezenet_row row[ROWS];
} squeezenet_config;

static void conv_relu(tl_builder *b, const char *name, const char *relu, int filters, int kernel) {
    tl_build_with(b, "conv2d", name, "filters=%d kernel=%d pad=%d", filters, kernel, kernel / 2);
    tl_build(b, "relu", relu);
}

static void fire(tl_builder *b, const squeezenet_row *row) {
    conv_relu(b, "squeeze", "squeeze_activation", row->squeeze, 1);
    int squeezed = b->last;
    conv_relu(b, "expand1x1", "expand1x1_activation", row->expand, 1);
    int narrow = b->last;
    b->last = squeezed;
    conv_relu(b, "expand3x3", "expand3x3_activation", row->expand, 3);
    tl_build_join(b, "concat", "concat", 2, (const int[]){narrow, b->last});
}

static tl_status build_squeezenet(tl_graph *graph, const void *settings, int classes,
                                  int *features) {
    static const char pool[] = "kernel=3 stride=2 ceil_mode=true";
    const squeezenet_config *config = settings;
    tl_builder b = tl_builder_make(graph);
    tl_build_with(&b, "conv2d", "features.0", "filters=%d kernel=%d stride=2", config->filters,
                  config->kernel);
    tl_build(&b, "relu", "features.1");
    tl_build_with(&b, "max_pool", "features.2", pool);
    for (int i = 0; i < ROWS; i++) {
        tl_build_scope(&b, "features.%d.", i + 3);
        if (config->row[i].squeeze)
            fire(&b, &config->row[i]);
        else
            tl_build_with(&b, "max_pool", "pool", pool);
    }
    *features = b.last;
    tl_build_scope(&b, "%s", "");
    tl_build_with(&b, "conv2d", "classifier.1", "filters=%d kernel=1", classes);
    tl_build(&b, "relu", "classifier.2");
    tl_build(&b, "global_avg_pool", "classifier.3");
    return b.status;
}

static const squeezenet_config version_1_0 = {
    96,
    7,
    {{16, 64},
     {16, 64},
     {32, 128},
     {0},
     {32, 128},
     {48, 192},
     {48, 192},
     {64, 256},
     {0},
     {64, 256}},
};
static const squeezenet_config version_1_1 = {
    64,
    3,
    {{16, 64},
     {16, 64},
     {0},
     {32, 128},
     {32, 128},
     {0},
     {48, 192},
     {48, 192},
     {64, 256},
     {64, 256}},
};

const tl_backbone tl_squeezenet_backbones[] = {
    {.name = "squeezenet1_0",
     .input_size = 224,
     .classes = 1000,
     .build = build_squeezenet,
     .variant =
         (const tl_variant[]){{&tl_naming_torchvision, "torchvision", 0, &version_1_0, 0}, {0}}},
    {.name = "squeezenet1_1",
     .input_size = 224,
     .classes = 1000,
     .build = build_squeezenet,
     .variant =
         (const tl_variant[]){{&tl_naming_torchvision, "torchvision", 0, &version_1_1, 0}, {0}}},
    {.name = NULL},
};
