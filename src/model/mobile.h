/* Inverted residual blocks, which MobileNetV2 and V3 and the EfficientNets are made of. Their nodes
 * are named alike in all of them: stem_, blocks.STAGE.INDEX.expand_, depthwise_, squeeze_, project_
 * and head_, followed by conv, bn or the activation. */
#ifndef TL_MODEL_MOBILE_H
#define TL_MODEL_MOBILE_H

#include "model/build.h"
#include "model/model.h"

/* What differs with the framework that trained the weights. */
typedef struct tl_mobile_form {
    bool same_padding;      /* TensorFlow's; else k / 2 on all sides, as in PyTorch */
    const char *batch_norm; /* attributes */
} tl_mobile_form;

extern const tl_mobile_form tl_mobile_pytorch;
extern const tl_mobile_form tl_mobile_keras; /* epsilon 1e-3, momentum 0.99 */

typedef struct tl_mobile_conv {
    int filters, kernel, stride, groups;
} tl_mobile_conv;

/* NAME_conv, NAME_bn and, unless `activation` is NULL, NAME_ACTIVATION. */
void tl_mobile_conv_bn(tl_builder *b, const tl_mobile_form *form, const char *name,
                       tl_mobile_conv conv, const char *activation);

typedef struct tl_mobile_block {
    int channels; /* that come in */
    int wide;     /* after the expansion, which is left out when that is `channels` */
    int filters;  /* that go out; as many as come in, at stride 1, and they are added */
    int kernel, stride;
    const char *activation;
    /* Squeeze and excite (Hu et al. 2017, arXiv 1709.01507); 0 units for none. */
    int squeeze;
    const char *squeeze_activation, *gate;
} tl_mobile_block;
/* Under the prefix that is set. Sandler et al. 2018, arXiv 1801.04381. */
void tl_mobile_append(tl_builder *b, const tl_mobile_form *form, const tl_mobile_block *block);

/* Channels `exact` to the nearest multiple of 8, but never more than a tenth below. */
int tl_mobile_round(double exact);

/* timm's names of all but the head. A block without expansion is a class of its own there and calls
 * its projection what the others call their expansion; stage 0 has such blocks in all networks. */
#define TL_TIMM_MOBILE_RULES                                                                       \
    {"conv_stem", "stem_conv"}, {"bn1", "stem_bn"},                                                \
        {"blocks.0.*.conv_dw", "blocks.0.*.depthwise_conv"},                                       \
        {"blocks.0.*.bn1", "blocks.0.*.depthwise_bn"},                                             \
        {"blocks.0.*.conv_pw", "blocks.0.*.project_conv"},                                         \
        {"blocks.0.*.bn2", "blocks.0.*.project_bn"}, {"blocks.*.conv_pw", "blocks.*.expand_conv"}, \
        {"blocks.*.bn1", "blocks.*.expand_bn"}, {"blocks.*.conv_dw", "blocks.*.depthwise_conv"},   \
        {"blocks.*.bn2", "blocks.*.depthwise_bn"},                                                 \
        {"blocks.*.se.conv_reduce", "blocks.*.squeeze_reduce"},                                    \
        {"blocks.*.se.conv_expand", "blocks.*.squeeze_expand"},                                    \
        {"blocks.*.conv_pwl", "blocks.*.project_conv"}, {"blocks.*.bn3", "blocks.*.project_bn"}, { \
        "classifier", "classifier"                                                                 \
    }
extern const tl_naming tl_naming_timm_mobile; /* with a head like MobileNetV2's */
extern const tl_naming tl_naming_lukemelas;   /* EfficientNet-PyTorch */

#endif
