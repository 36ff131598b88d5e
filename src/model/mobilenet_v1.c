/* MobileNet (Howard et al. 2017, arXiv 1704.04861), as Keras has it. Dropout before the classifier,
 * which only training from scratch would use, is left out. */
#include "model/mobile.h"

/* Of each depthwise separable block. */
static const struct {
    int filters, stride;
} blocks[] = {
    {64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2},  {512, 1},
    {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1},
};
enum { BLOCKS = sizeof blocks / sizeof blocks[0], STEM_FILTERS = 32 };

/* Keras pads below and right before the strided ones, whatever the size: on odd sizes that is not
 * TensorFlow's SAME. */
static void depthwise(tl_builder *b, int channels, int stride) {
    tl_build_with(b, "conv2d", "depthwise_conv",
                  "filters=%d kernel=3 stride=%d groups=%d bias=false pad=%s", channels, stride,
                  channels, stride == 1 ? "1" : "0,0,1,1");
    tl_build_with(b, "batch_norm", "depthwise_bn", "%s", tl_mobile_keras.batch_norm);
    tl_build(b, "relu6", "depthwise_relu6");
}

static tl_status build_mobilenet(tl_graph *graph, const void *form, int classes, int *features) {
    tl_builder b = tl_builder_make(graph);
    int channels = STEM_FILTERS;
    tl_mobile_conv_bn(&b, form, "stem", (tl_mobile_conv){STEM_FILTERS, 3, 2, 1}, "relu6");
    for (int i = 0; i < BLOCKS; i++) {
        tl_build_scope(&b, "blocks.%d.", i + 1);
        depthwise(&b, channels, blocks[i].stride);
        channels = blocks[i].filters;
        tl_mobile_conv_bn(&b, form, "pointwise", (tl_mobile_conv){channels, 1, 1, 1}, "relu6");
    }
    *features = b.last;
    tl_build_scope(&b, "%s", "");
    tl_build(&b, "global_avg_pool", "pool");
    tl_build_with(&b, "dense", "classifier", "units=%d", classes);
    return b.status;
}

static const tl_naming keras = {
    .scheme = "keras",
    .layout = TL_LAYOUT_KERAS,
    .nodes =
        (const tl_name_rule[]){
            {"conv1", "stem_conv"},
            {"conv1_bn", "stem_bn"},
            {"conv_dw_*", "blocks.*.depthwise_conv"},
            {"conv_dw_*_bn", "blocks.*.depthwise_bn"},
            {"conv_pw_*", "blocks.*.pointwise_conv"},
            {"conv_pw_*_bn", "blocks.*.pointwise_bn"},
            {"conv_preds", "classifier"},
            {NULL, NULL},
        },
    .params = tl_keras_params,
    .ignored = tl_keras_ignored,
};

const tl_backbone tl_mobilenet_v1_backbones[] = {
    {.name = "mobilenet_v1",
     .input_size = 224,
     .classes = 1000,
     .build = build_mobilenet,
     .variant = (const tl_variant[]){{&keras, "keras-tf", 0, &tl_mobile_keras, 0}, {0}}},
    {.name = NULL},
};
