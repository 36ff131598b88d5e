#include "model/mobile.h"

#include <stdio.h>

const tl_mobile_form tl_mobile_pytorch = {false, ""};
const tl_mobile_form tl_mobile_keras = {true, "epsilon=1e-3 momentum=0.99 unbiased=false"};

static void activate(tl_builder *b, const char *name, const char *activation) {
    char text[64];
    snprintf(text, sizeof text, "%s_%s", name, activation);
    tl_build(b, activation, text);
}

void tl_mobile_conv_bn(tl_builder *b, const tl_mobile_form *form, const char *name,
                       tl_mobile_conv conv, const char *activation) {
    char text[64], padding[16];
    snprintf(padding, sizeof padding, form->same_padding ? "padding=same" : "pad=%d",
             conv.kernel / 2);
    snprintf(text, sizeof text, "%s_conv", name);
    tl_build_with(b, "conv2d", text, "filters=%d kernel=%d stride=%d groups=%d bias=false %s",
                  conv.filters, conv.kernel, conv.stride, conv.groups, padding);
    snprintf(text, sizeof text, "%s_bn", name);
    tl_build_with(b, "batch_norm", text, "%s", form->batch_norm);
    if (activation) activate(b, name, activation);
}

/* Gates every channel by a small network of the channels' averages. */
static void squeeze_excite(tl_builder *b, const tl_mobile_block *block) {
    int input = b->last;
    tl_build(b, "global_avg_pool", "squeeze_pool");
    tl_build_with(b, "dense", "squeeze_reduce", "units=%d", block->squeeze);
    activate(b, "squeeze", block->squeeze_activation);
    tl_build_with(b, "dense", "squeeze_expand", "units=%d", block->wide);
    tl_build(b, block->gate, "squeeze_gate");
    tl_build_join(b, "multiply", "squeeze_excite", 2, (const int[]){input, b->last});
}

void tl_mobile_append(tl_builder *b, const tl_mobile_form *form, const tl_mobile_block *block) {
    int input = b->last, wide = block->wide;
    if (wide != block->channels)
        tl_mobile_conv_bn(b, form, "expand", (tl_mobile_conv){wide, 1, 1, 1}, block->activation);
    tl_mobile_conv_bn(b, form, "depthwise",
                      (tl_mobile_conv){wide, block->kernel, block->stride, wide},
                      block->activation);
    if (block->squeeze) squeeze_excite(b, block);
    tl_mobile_conv_bn(b, form, "project", (tl_mobile_conv){block->filters, 1, 1, 1}, NULL);
    if (block->stride == 1 && block->channels == block->filters) tl_build_add(b, "add", input);
}

int tl_mobile_round(double exact) {
    int rounded = (int)(exact + 4) / 8 * 8;
    if (rounded < 8) rounded = 8;
    if (rounded < 0.9 * exact) rounded += 8;
    return rounded;
}

const tl_naming tl_naming_timm_mobile = {
    .scheme = "timm",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            TL_TIMM_MOBILE_RULES,
            {"conv_head", "head_conv"},
            {"bn2", "head_bn"},
            {NULL, NULL},
        },
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};

/* EfficientNet-PyTorch and its Lite offspring: blocks numbered through, batch norms counted from
 * 0, or from 1 where a block has no expansion. */
const tl_naming tl_naming_lukemelas = {
    .scheme = "lukemelas",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes =
        (const tl_name_rule[]){
            {"_conv_stem", "stem_conv"},
            {"_bn0", "stem_bn"},
            {"_blocks.#._expand_conv", "blocks.#.expand_conv"},
            {"_blocks.#._bn0", "blocks.#.expand_bn"},
            {"_blocks.#._depthwise_conv", "blocks.#.depthwise_conv"},
            {"_blocks.#._bn1", "blocks.#.depthwise_bn"},
            {"_blocks.#._se_reduce", "blocks.#.squeeze_reduce"},
            {"_blocks.#._se_expand", "blocks.#.squeeze_expand"},
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
