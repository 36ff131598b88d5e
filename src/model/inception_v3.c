/* InceptionV3 (Szegedy et al. 2015, arXiv 1512.00567). Nodes are named as torchvision's modules.
 * The auxiliary classifier and dropout, which only training from scratch would use, are left out;
 * so is torchvision's transform_input, which is part of the preprocessing here. */
#include <stdio.h>

#include "model/build.h"
#include "model/model.h"

typedef struct inception_config {
    const char *batch_norm; /* attributes */
    const char *avg_pool;   /* whether its padding counts */
} inception_config;

typedef struct inception_builder {
    tl_builder b;
    const inception_config *config;
} inception_builder;

typedef struct inception_conv {
    const char *name;
    int filters, height, width; /* of the kernel */
    int stride;                 /* 1: padded to keep the size; 2: not padded */
} inception_conv;

static void conv_bn(inception_builder *n, const inception_conv *c, bool pad) {
    char text[64];
    snprintf(text, sizeof text, "%s.conv", c->name);
    tl_build_with(&n->b, "conv2d", text, "filters=%d kernel=%d,%d stride=%d pad=%d,%d bias=false",
                  c->filters, c->height, c->width, c->stride, pad ? c->height / 2 : 0,
                  pad ? c->width / 2 : 0);
    snprintf(text, sizeof text, "%s.bn", c->name);
    tl_build_with(&n->b, "batch_norm", text, "%s", n->config->batch_norm);
    snprintf(text, sizeof text, "%s.relu", c->name);
    tl_build(&n->b, "relu", text);
}

static int conv_from(inception_builder *n, int input, inception_conv c) {
    n->b.last = input;
    conv_bn(n, &c, c.stride == 1);
    return n->b.last;
}

/* One after the other, up to a NULL name. */
static int chain(inception_builder *n, int input, const inception_conv *convs) {
    n->b.last = input;
    for (; convs->name; convs++) conv_bn(n, convs, convs->stride == 1);
    return n->b.last;
}

static int pooled(inception_builder *n, int input, int filters) {
    n->b.last = input;
    tl_build_with(&n->b, "avg_pool", "pool", "kernel=3 stride=1 pad=1 %s", n->config->avg_pool);
    return conv_from(n, n->b.last, (inception_conv){"branch_pool", filters, 1, 1, 1});
}

static int shrunk(inception_builder *n, int input) {
    n->b.last = input;
    tl_build_with(&n->b, "max_pool", "pool", "kernel=3 stride=2");
    return n->b.last;
}

#define CHAIN(...) ((const inception_conv[]){__VA_ARGS__, {0}})

/* Figure 5 of the paper. */
static void mixed_35(inception_builder *n, const char *name, int pool_filters) {
    tl_build_scope(&n->b, "%s.", name);
    int in = n->b.last;
    int a = conv_from(n, in, (inception_conv){"branch1x1", 64, 1, 1, 1});
    int b = chain(n, in, CHAIN({"branch5x5_1", 48, 1, 1, 1}, {"branch5x5_2", 64, 5, 5, 1}));
    int c = chain(n, in,
                  CHAIN({"branch3x3dbl_1", 64, 1, 1, 1}, {"branch3x3dbl_2", 96, 3, 3, 1},
                        {"branch3x3dbl_3", 96, 3, 3, 1}));
    int d = pooled(n, in, pool_filters);
    tl_build_join(&n->b, "concat", "concat", 4, (const int[]){a, b, c, d});
}

/* Figure 10: to half the size. */
static void reduce_35(inception_builder *n, const char *name) {
    tl_build_scope(&n->b, "%s.", name);
    int in = n->b.last;
    int a = conv_from(n, in, (inception_conv){"branch3x3", 384, 3, 3, 2});
    int b = chain(n, in,
                  CHAIN({"branch3x3dbl_1", 64, 1, 1, 1}, {"branch3x3dbl_2", 96, 3, 3, 1},
                        {"branch3x3dbl_3", 96, 3, 3, 2}));
    int c = shrunk(n, in);
    tl_build_join(&n->b, "concat", "concat", 3, (const int[]){a, b, c});
}

/* Figure 6: 7x7 as 1x7 and 7x1. */
static void mixed_17(inception_builder *n, const char *name, int narrow) {
    tl_build_scope(&n->b, "%s.", name);
    int in = n->b.last;
    int a = conv_from(n, in, (inception_conv){"branch1x1", 192, 1, 1, 1});
    int b = chain(n, in,
                  CHAIN({"branch7x7_1", narrow, 1, 1, 1}, {"branch7x7_2", narrow, 1, 7, 1},
                        {"branch7x7_3", 192, 7, 1, 1}));
    int c = chain(n, in,
                  CHAIN({"branch7x7dbl_1", narrow, 1, 1, 1}, {"branch7x7dbl_2", narrow, 7, 1, 1},
                        {"branch7x7dbl_3", narrow, 1, 7, 1}, {"branch7x7dbl_4", narrow, 7, 1, 1},
                        {"branch7x7dbl_5", 192, 1, 7, 1}));
    int d = pooled(n, in, 192);
    tl_build_join(&n->b, "concat", "concat", 4, (const int[]){a, b, c, d});
}

static void reduce_17(inception_builder *n, const char *name) {
    tl_build_scope(&n->b, "%s.", name);
    int in = n->b.last;
    int a = chain(n, in, CHAIN({"branch3x3_1", 192, 1, 1, 1}, {"branch3x3_2", 320, 3, 3, 2}));
    int b = chain(n, in,
                  CHAIN({"branch7x7x3_1", 192, 1, 1, 1}, {"branch7x7x3_2", 192, 1, 7, 1},
                        {"branch7x7x3_3", 192, 7, 1, 1}, {"branch7x7x3_4", 192, 3, 3, 2}));
    int c = shrunk(n, in);
    tl_build_join(&n->b, "concat", "concat", 3, (const int[]){a, b, c});
}

/* 1x3 and 3x1 side by side. */
static int fork(inception_builder *n, const char *name, int input) {
    char row[32], column[32];
    snprintf(row, sizeof row, "%sa", name);
    snprintf(column, sizeof column, "%sb", name);
    int a = conv_from(n, input, (inception_conv){row, 384, 1, 3, 1});
    int b = conv_from(n, input, (inception_conv){column, 384, 3, 1, 1});
    snprintf(row, sizeof row, "%s.concat", name);
    tl_build_join(&n->b, "concat", row, 2, (const int[]){a, b});
    return n->b.last;
}

/* Figure 7. */
static void mixed_8(inception_builder *n, const char *name) {
    tl_build_scope(&n->b, "%s.", name);
    int in = n->b.last;
    int a = conv_from(n, in, (inception_conv){"branch1x1", 320, 1, 1, 1});
    int b = conv_from(n, in, (inception_conv){"branch3x3_1", 384, 1, 1, 1});
    b = fork(n, "branch3x3_2", b);
    int c = chain(n, in, CHAIN({"branch3x3dbl_1", 448, 1, 1, 1}, {"branch3x3dbl_2", 384, 3, 3, 1}));
    c = fork(n, "branch3x3dbl_3", c);
    int d = pooled(n, in, 192);
    tl_build_join(&n->b, "concat", "concat", 4, (const int[]){a, b, c, d});
}

static void stem(inception_builder *n) {
    conv_bn(n, &(inception_conv){"Conv2d_1a_3x3", 32, 3, 3, 2}, false);
    conv_bn(n, &(inception_conv){"Conv2d_2a_3x3", 32, 3, 3, 1}, false);
    conv_bn(n, &(inception_conv){"Conv2d_2b_3x3", 64, 3, 3, 1}, true);
    tl_build_with(&n->b, "max_pool", "maxpool1", "kernel=3 stride=2");
    conv_bn(n, &(inception_conv){"Conv2d_3b_1x1", 80, 1, 1, 1}, false);
    conv_bn(n, &(inception_conv){"Conv2d_4a_3x3", 192, 3, 3, 1}, false);
    tl_build_with(&n->b, "max_pool", "maxpool2", "kernel=3 stride=2");
}

static tl_status build_inception(tl_graph *graph, const void *config, int classes, int *features) {
    inception_builder n = {.b = tl_builder_make(graph), .config = config};
    stem(&n);
    mixed_35(&n, "Mixed_5b", 32);
    mixed_35(&n, "Mixed_5c", 64);
    mixed_35(&n, "Mixed_5d", 64);
    reduce_35(&n, "Mixed_6a");
    mixed_17(&n, "Mixed_6b", 128);
    mixed_17(&n, "Mixed_6c", 160);
    mixed_17(&n, "Mixed_6d", 160);
    mixed_17(&n, "Mixed_6e", 192);
    reduce_17(&n, "Mixed_7a");
    mixed_8(&n, "Mixed_7b");
    mixed_8(&n, "Mixed_7c");
    *features = n.b.last;
    tl_build_scope(&n.b, "%s", "");
    tl_build(&n.b, "global_avg_pool", "avgpool");
    tl_build_with(&n.b, "dense", "fc", "units=%d", classes);
    return n.b.status;
}

static const tl_naming torchvision = {
    .scheme = "torchvision",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes = (const tl_name_rule[]){{"*", "*"}, {NULL, NULL}},
    .params = tl_pytorch_params,
    .ignored = (const char *const[]){"*.num_batches_tracked", "AuxLogits.*", NULL},
};

/* Keras makes the layers in the same order and names none of them. */
static const tl_naming keras = {
    .scheme = "keras",
    .layout = TL_LAYOUT_KERAS,
    .nodes =
        (const tl_name_rule[]){
            {"conv2d%", "*.conv"},
            {"batch_normalization%", "*.bn"},
            {"predictions", "fc"},
            {NULL, NULL},
        },
    .params = tl_keras_params,
    .ignored = tl_keras_ignored,
};

static const inception_config pytorch_form = {"epsilon=1e-3", "count_include_pad=true"};
static const inception_config keras_form = {"epsilon=1e-3 momentum=0.99 unbiased=false scale=false",
                                            "count_include_pad=false"};

const tl_backbone tl_inception_backbones[] = {
    {.name = "inception_v3",
     .input_size = 299,
     .classes = 1000,
     .build = build_inception,
     .variant =
         (const tl_variant[]){
             {&torchvision, "torchvision-inception", 342, &pytorch_form, 0},
             {&keras, "keras-tf", 0, &keras_form, 0},
             {0},
         }},
    {.name = NULL},
};
