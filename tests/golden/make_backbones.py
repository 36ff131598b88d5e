"""Writes backbones.h, backbones_keras.h and backbones_bf16.h: what torchvision, timm, efficientnet-lite-pytorch and Keras
answer to the weights and inputs of tests/test_backbones.c, which both sides make by the same formula.

Run from the repository root after `make weights`, once with a Python that has torch, torchvision,
timm 0.9.16 and efficientnet-lite-pytorch 0.1.0, once with one that has keras 3:
python3 tests/golden/make_backbones.py torch FOLDER     (FOLDER: the weights folder)
python3 tests/golden/make_backbones.py keras
python3 tests/golden/make_backbones.py bf16             (backbones_bf16.h; torch and torchvision suffice)
"""
import glob
import sys
from collections import OrderedDict

import numpy as np

MASK = (1 << 64) - 1
GRADIENTS, ANSWERS = 8, 16


def uniform(name, count):
    """Uniform in [-1, 1): SplitMix64 from the FNV-1a hash of the name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1


def fan_in(name, shape):
    """Of PyTorch's O I KH KW and O I, and of Keras's KH KW I O, KH KW C 1 (depthwise) and I O."""
    if not name.endswith("kernel"):
        return np.prod(shape[1:])
    depthwise = len(shape) == 4 and shape[3] == 1
    return shape[0] * shape[1] if depthwise else np.prod(shape[:-1])


def values(name, shape, gamma):
    u = uniform(name, int(np.prod(shape)))
    if name.endswith("running_var") or name.endswith("moving_variance"):
        v = 1 + 0.5 * u
    elif np.prod(shape) > shape[0]:
        v = np.sqrt(6 / fan_in(name, shape)) * u
    elif name.endswith("weight") or name.endswith("gamma"):
        v = gamma + 0.2 * u
    else:
        v = 0.1 * u
    return v.astype(np.float32).reshape(shape)


def fill(model, gamma):
    state = model.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(values(name, tuple(tensor.shape), gamma))
    model.load_state_dict(state)
    return model


def vision(name, features=False, **options):
    def build(classes, size):
        model = getattr(torchvision.models, name)(num_classes=classes, **options)
        return torch.nn.Sequential(OrderedDict(features=model.features)) if features else model
    return build


def timm_model(name):
    return lambda classes, size: timm.create_model(name, num_classes=classes)


def lite(number):  # its padding is fixed when it is made, for one size
    return lambda classes, size: EfficientNet.from_name(
        f"efficientnet-lite{number}", num_classes=classes, image_size=list(size))


BASIC = {
    "conv1.weight": "conv1.weight",
    "layer1.0.bn1.weight": "layer1.0.bn1.gamma",
    "layer2.0.downsample.0.weight": "layer2.0.downsample.0.weight",
    "layer4.1.bn2.bias": "layer4.1.bn2.beta",
    "fc.weight": "fc.weight",
    "fc.bias": "fc.bias",
}
BOTTLENECK = {
    "conv1.weight": "conv1.weight",
    "layer1.0.conv3.weight": "layer1.0.conv3.weight",
    "layer3.2.conv2.weight": "layer3.2.conv2.weight",
    "layer3.5.bn3.weight": "layer3.5.bn3.gamma",
    "fc.weight": "fc.weight",
}
LITE = {
    "_conv_stem.weight": "stem_conv.weight",
    "_blocks.0._depthwise_conv.weight": "blocks.0.0.depthwise_conv.weight",
    "_blocks.4._depthwise_conv.weight": "blocks.2.1.depthwise_conv.weight",
    "_blocks.6._bn2.weight": "blocks.3.1.project_bn.gamma",
    "_blocks.11._expand_conv.weight": "blocks.5.0.expand_conv.weight",
    "_conv_head.weight": "head_conv.weight",
    "_fc.weight": "classifier.weight",
}
STATISTICS = {
    "bn1.running_mean": "bn1.mean",
    "layer1.0.bn1.running_var": "layer1.0.bn1.variance",
    "layer4.1.bn2.running_var": "layer4.1.bn2.variance",
}
VGG = {
    "features.0.weight": "block1_conv1.weight",
    "features.3.bias": "block2_conv1.bias",
    "features.18.weight": "block5_conv2.weight",
}
VGG_BN = {
    "features.0.weight": "block1_conv1.weight",
    "features.1.weight": "block1_bn1.gamma",
    "features.40.weight": "block5_conv3.weight",
}
MOBILE_V2 = {
    "features.0.0.weight": "stem_conv.weight",
    "features.1.conv.0.0.weight": "blocks.0.0.depthwise_conv.weight",
    "features.4.conv.1.0.weight": "blocks.2.0.depthwise_conv.weight",
    "features.7.conv.3.weight": "blocks.3.0.project_bn.gamma",
    "features.18.0.weight": "head_conv.weight",
    "classifier.1.weight": "classifier.weight",
}
INCEPTION = {
    "Conv2d_1a_3x3.conv.weight": "Conv2d_1a_3x3.conv.weight",
    "Mixed_5b.branch_pool.conv.weight": "Mixed_5b.branch_pool.conv.weight",
    "Mixed_6b.branch7x7_2.conv.weight": "Mixed_6b.branch7x7_2.conv.weight",
    "Mixed_7c.branch3x3dbl_3b.bn.weight": "Mixed_7c.branch3x3dbl_3b.bn.gamma",
    "fc.weight": "fc.weight",
}


def inception(classes, size):
    """transform_input belongs to the preprocessing of ours."""
    return torchvision.models.inception_v3(num_classes=classes, transform_input=False, init_weights=False)


# name, scheme, builder, classes (0: the backbone without its classifier), batch, (height, width),
# gamma, gradients (theirs: ours), running statistics. gamma is chosen so that values neither fade nor grow with depth, which would amplify PyTorch's own rounding.
CASES = [
    ("resnet18", "torchvision", vision("resnet18"), 1000, 2, (64, 64), 0.6, BASIC, {}),
    # At 64 one value lies so near the bend of a ReLU that rounding decides its gradient.
    ("resnet18", "torchvision", vision("resnet18"), 16, 4, (56, 56), 0.6, BASIC, STATISTICS),
    ("resnet34", "torchvision", vision("resnet34"), 16, 1, (64, 64), 0.6, {}, {}),
    ("resnet50", "torchvision", vision("resnet50"), 16, 2, (64, 64), 0.6, BOTTLENECK, {}),
    ("resnet101", "torchvision", vision("resnet101"), 16, 1, (64, 64), 0.6, {}, {}),
    ("resnet152", "torchvision", vision("resnet152"), 16, 1, (64, 64), 0.6, {}, {}),
    ("efficientnet_lite0", "lukemelas", lite(0), 1000, 1, (224, 224), 1.0, {}, {}),
    # Small, so that rounding moves no value across a bend of ReLU6, which would change gradients.
    ("efficientnet_lite0", "lukemelas", lite(0), 16, 1, (57, 57), 1.0, LITE, {}),
    ("efficientnet_lite0", "timm", timm_model("tf_efficientnet_lite0"), 16, 2, (97, 97), 1.0, {}, {}),
    ("efficientnet_lite1", "lukemelas", lite(1), 16, 1, (75, 75), 0.8, {}, {}),
    ("efficientnet_lite2", "lukemelas", lite(2), 16, 1, (260, 260), 0.8, {}, {}),
    ("efficientnet_lite3", "lukemelas", lite(3), 16, 1, (75, 75), 0.8, {}, {}),
    ("efficientnet_lite4", "timm", timm_model("tf_efficientnet_lite4"), 16, 1, (75, 75), 0.8, {}, {}),
    ("vgg11", "torchvision", vision("vgg11", True), 0, 2, (33, 47), 1.0, VGG, {}),
    ("vgg13", "torchvision", vision("vgg13", True), 0, 1, (75, 64), 1.0, {}, {}),
    ("vgg16", "torchvision", vision("vgg16", True), 0, 1, (33, 47), 1.0, {}, {}),
    ("vgg19", "torchvision", vision("vgg19", True), 0, 1, (47, 33), 1.0, {}, {}),
    ("vgg11_bn", "torchvision", vision("vgg11_bn", True), 0, 1, (47, 33), 1.0, {}, {}),
    ("vgg13_bn", "torchvision", vision("vgg13_bn", True), 0, 1, (47, 33), 1.0, {}, {}),
    ("vgg16_bn", "torchvision", vision("vgg16_bn", True), 0, 2, (33, 47), 1.0, VGG_BN, {}),
    ("vgg19_bn", "torchvision", vision("vgg19_bn", True), 0, 1, (33, 47), 1.0, {}, {}),
    ("mobilenet_v2", "torchvision", vision("mobilenet_v2"), 1000, 1, (224, 224), 0.8, {}, {}),
    ("mobilenet_v2", "torchvision", vision("mobilenet_v2"), 16, 1, (57, 71), 0.8, MOBILE_V2, {}),
    ("mobilenet_v2", "timm", timm_model("mobilenetv2_100"), 16, 1, (64, 51), 0.8, {}, {}),
    ("inception_v3", "torchvision", inception, 1000, 1, (75, 107), 1.0, INCEPTION, {}),
    ("densenet121", "torchvision", vision("densenet121"), 16, 2, (75, 57), 1.0, {
        "features.conv0.weight": "features.conv0.weight",
        "features.denseblock2.denselayer3.norm1.weight": "features.denseblock2.denselayer3.norm1.gamma",
        "features.denseblock2.denselayer3.conv2.weight": "features.denseblock2.denselayer3.conv2.weight",
        "features.transition2.conv.weight": "features.transition2.conv.weight",
        "classifier.weight": "classifier.weight",
    }, {}),
    ("densenet169", "torchvision", vision("densenet169"), 16, 1, (64, 51), 1.0, {}, {}),
    ("densenet201", "torchvision", vision("densenet201"), 16, 1, (51, 64), 1.0, {}, {}),
    ("squeezenet1_0", "torchvision", vision("squeezenet1_0"), 16, 1, (75, 64), 1.0, {}, {}),
    ("squeezenet1_1", "torchvision", vision("squeezenet1_1"), 16, 2, (75, 97), 1.0, {
        "features.0.weight": "features.0.weight",
        "features.3.expand3x3.weight": "features.3.expand3x3.weight",
        "features.12.squeeze.bias": "features.12.squeeze.bias",
        "classifier.1.weight": "classifier.1.weight",
    }, {}),
    ("resnext50_32x4d", "torchvision", vision("resnext50_32x4d"), 16, 1, (75, 57), 0.6, {
        "layer1.0.conv2.weight": "layer1.0.conv2.weight",
        "layer3.2.conv2.weight": "layer3.2.conv2.weight",
        "fc.weight": "fc.weight",
    }, {}),
    ("wide_resnet50_2", "torchvision", vision("wide_resnet50_2"), 16, 1, (64, 51), 0.6, {}, {}),
    ("efficientnet_b0", "torchvision", vision("efficientnet_b0"), 16, 1, (57, 75), 1.05, {
        "features.0.0.weight": "stem_conv.weight",
        "features.1.0.block.1.fc1.weight": "blocks.0.0.squeeze_reduce.weight",
        "features.3.1.block.1.0.weight": "blocks.2.1.depthwise_conv.weight",
        "features.4.2.block.2.fc2.bias": "blocks.3.2.squeeze_expand.bias",
        "features.8.0.weight": "head_conv.weight",
        "classifier.1.weight": "classifier.weight",
    }, {}),
    ("efficientnet_b0", "timm", timm_model("efficientnet_b0"), 16, 1, (64, 51), 1.05, {}, {}),
    ("efficientnet_b1", "torchvision", vision("efficientnet_b1"), 16, 1, (64, 75), 1.03, {}, {}),
    ("efficientnet_b2", "torchvision", vision("efficientnet_b2"), 16, 1, (75, 64), 1.03, {}, {}),
    ("efficientnet_b3", "torchvision", vision("efficientnet_b3"), 16, 1, (64, 75), 0.98, {}, {}),
    ("mobilenet_v3_large", "torchvision", vision("mobilenet_v3_large"), 16, 1, (75, 57), 0.92, {
        "features.0.0.weight": "stem_conv.weight",
        "features.4.block.2.fc1.weight": "blocks.2.0.squeeze_reduce.weight",
        "features.7.block.2.1.weight": "blocks.3.0.project_bn.gamma",
        "features.13.block.1.0.weight": "blocks.5.0.depthwise_conv.weight",
        "classifier.0.weight": "head_dense.weight",
    }, {}),
    ("mobilenet_v3_large", "timm", timm_model("mobilenetv3_large_100"), 16, 1, (64, 51), 0.9, {}, {}),
    ("mobilenet_v3_small", "torchvision", vision("mobilenet_v3_small"), 16, 1, (75, 57), 1.0, {}, {}),
    ("mobilenet_v3_small", "timm", timm_model("mobilenetv3_small_100"), 16, 1, (57, 75), 1.05, {}, {}),
    ("shufflenet_v2_x0_5", "torchvision", vision("shufflenet_v2_x0_5"), 16, 1, (57, 75), 0.87, {}, {}),
    ("shufflenet_v2_x1_0", "torchvision", vision("shufflenet_v2_x1_0"), 16, 2, (75, 64), 0.87, {
        "conv1.0.weight": "conv1.0.weight",
        "stage2.0.branch1.0.weight": "stage2.0.branch1.0.weight",
        "stage3.2.branch2.5.weight": "stage3.2.branch2.5.weight",
        "stage4.1.branch2.4.weight": "stage4.1.branch2.4.gamma",
        "fc.weight": "fc.weight",
    }, {}),
    ("shufflenet_v2_x1_5", "torchvision", vision("shufflenet_v2_x1_5"), 16, 1, (64, 75), 0.87, {}, {}),
    ("shufflenet_v2_x2_0", "torchvision", vision("shufflenet_v2_x2_0"), 16, 1, (64, 75), 0.87, {}, {}),
    ("convnext_tiny", "torchvision", vision("convnext_tiny"), 16, 1, (75, 64), 1.0, {
        "features.0.0.weight": "stem.0.weight",
        "features.1.0.block.0.weight": "stages.0.blocks.0.conv_dw.weight",
        "features.3.1.layer_scale": "stages.1.blocks.1.scale.gamma",
        "features.5.4.block.3.weight": "stages.2.blocks.4.mlp.fc1.weight",
        "features.6.0.weight": "stages.3.downsample.0.gamma",
        "classifier.2.weight": "head.fc.weight",
    }, {}),
    ("convnext_tiny", "timm", timm_model("convnext_tiny"), 16, 1, (64, 75), 1.0, {}, {}),
    ("convnext_small", "torchvision", vision("convnext_small"), 16, 1, (64, 75), 1.0, {}, {}),
]
KERAS_CASES = [
    ("vgg16", "keras", "VGG16", 0, 2, (33, 47), 1.0, {
        "block1_conv1/kernel": "block1_conv1.weight",
        "block5_conv3/kernel": "block5_conv3.weight",
        "block5_conv3/bias": "block5_conv3.bias",
    }, {}),
    ("vgg19", "keras", "VGG19", 0, 1, (47, 33), 1.0, {}, {}),
    ("mobilenet_v2", "keras", "MobileNetV2", 1000, 1, (224, 224), 0.8, {}, {}),
    ("mobilenet_v2", "keras", "MobileNetV2", 16, 1, (58, 71), 0.8, {
        "Conv1/kernel": "stem_conv.weight",
        "expanded_conv_depthwise/kernel": "blocks.0.0.depthwise_conv.weight",
        "block_3_depthwise/kernel": "blocks.2.0.depthwise_conv.weight",
        "block_6_project_BN/gamma": "blocks.3.0.project_bn.gamma",
        "Conv_1/kernel": "head_conv.weight",
        "predictions/kernel": "classifier.weight",
    }, {}),
    ("inception_v3", "keras", "InceptionV3", 16, 1, (107, 75), 1.0, {
        "conv2d/kernel": "Conv2d_1a_3x3.conv.weight",
        "conv2d_31/kernel": "Mixed_6b.branch7x7_1.conv.weight",
        "batch_normalization_93/beta": "Mixed_7c.branch_pool.bn.beta",
        "predictions/kernel": "fc.weight",
    }, {}),
    ("resnet50", "keras", "ResNet50", 16, 2, (64, 75), 0.6, {
        "conv1_conv/bias": "conv1.bias",
        "conv3_block1_1_conv/kernel": "layer2.0.conv1.weight",
        "conv3_block1_0_conv/kernel": "layer2.0.downsample.0.weight",
        "conv5_block3_3_bn/gamma": "layer4.2.bn3.gamma",
        "predictions/kernel": "fc.weight",
    }, {}),
    ("resnet101", "keras", "ResNet101", 16, 1, (57, 64), 0.6, {}, {}),
    ("resnet152", "keras", "ResNet152", 16, 1, (57, 64), 0.6, {}, {}),
    ("densenet121", "keras", "DenseNet121", 16, 1, (64, 75), 1.0, {
        "conv1_conv/kernel": "features.conv0.weight",
        "conv3_block2_1_bn/gamma": "features.denseblock2.denselayer2.norm2.gamma",
        "pool3_conv/kernel": "features.transition2.conv.weight",
    }, {}),
    ("mobilenet_v1", "keras", "MobileNet", 1000, 1, (224, 224), 1.0, {}, {}),
    ("mobilenet_v1", "keras", "MobileNet", 16, 1, (75, 58), 1.0, {
        "conv1/kernel": "stem_conv.weight",
        "conv_dw_4/kernel": "blocks.4.depthwise_conv.weight",
        "conv_pw_13_bn/beta": "blocks.13.pointwise_bn.beta",
        "conv_preds/kernel": "classifier.weight",
    }, {}),
    ("mobilenet_v3_large", "keras", "MobileNetV3Large", 16, 1, (75, 58), 0.87, {}, {}),
    ("mobilenet_v3_small", "keras", "MobileNetV3Small", 16, 1, (58, 75), 1.0, {
        "expanded_conv_squeeze_excite_conv/kernel": "blocks.0.0.squeeze_reduce.weight",
        "expanded_conv_3_depthwise/kernel": "blocks.2.0.depthwise_conv.weight",
        "expanded_conv_10_squeeze_excite_conv_1/bias": "blocks.4.2.squeeze_expand.bias",
        "logits/kernel": "classifier.weight",
    }, {}),
    ("efficientnet_b0", "keras", "EfficientNetB0", 16, 1, (75, 58), 1.05, {
        "block2a_dwconv/kernel": "blocks.1.0.depthwise_conv.weight",
        "block4c_se_reduce/kernel": "blocks.3.2.squeeze_reduce.weight",
        "top_conv/kernel": "head_conv.weight",
    }, {}),
    ("efficientnet_b2", "keras", "EfficientNetB2", 16, 1, (58, 75), 1.03, {}, {}),
]


def ours(name, array):
    """The first elements in our layout, O KH KW I for convolutions."""
    if array.ndim == 4 and name.endswith("kernel"):
        array = array.transpose(2, 0, 1, 3) if array.shape[3] == 1 else array.transpose(3, 0, 1, 2)
    elif array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    elif name.endswith("kernel"):
        array = array.T
    return array.ravel()[:GRADIENTS]


def numbers(array):
    return "{" + ", ".join(f"{x:.9g}" for x in array) + "}"


def named(pairs, tensors):
    rows = [f'        {{"{mine}", {numbers(ours(theirs, tensors[theirs]))}}},'
            for theirs, mine in pairs.items()]
    return "{\n" + "\n".join(rows) + "\n    }" if rows else "{{0}}"


def row(case, answer, loss, grads, state):
    name, scheme, _, classes, batch, (height, width), gamma, gradients, statistics = case
    largest = float(np.abs(answer).max())
    print(f"{name} {scheme}: largest {largest:.3g}, spread {answer.std():.3g}, loss {loss:.4g}")
    return f"""    {{"{name}", "{scheme}", {classes}, {batch}, {height}, {width}, {gamma}, {str(bool(statistics)).lower()},
     {largest:.9g}, {loss:.9g},
     {numbers(answer.ravel()[:ANSWERS])},
     {numbers(answer.ravel()[-ANSWERS:])},
     {named(gradients, grads)},
     {named(statistics, state)}}},
"""


def make_input(batch, height, width):
    """N C H W."""
    x = 2 * uniform("input", batch * 3 * height * width)
    return x.astype(np.float32).reshape(batch, 3, height, width)


def labels_of(batch):
    return [3 * i + 1 for i in range(batch)]


def run(case, bf16=False):
    _, _, build, classes, batch, size, gamma, gradients, statistics = case
    model = fill(build(classes or 1000, size), gamma).eval()
    model.train(bool(statistics))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(torch.tensor(make_input(batch, *size))).float()
    if logits.ndim == 4:
        logits = logits.permute(0, 2, 3, 1).flatten(1)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels_of(batch)))
    loss.backward()
    grads = {key: p.grad.numpy() for key, p in model.named_parameters() if p.grad is not None}
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    return row(case, logits.detach().numpy(), loss.item(), grads, state)


def keras_name(variable):
    """LAYER/VARIABLE."""
    return "/".join(variable.path.split("/")[-2:])


def run_keras(case):
    import keras
    import tensorflow as tf
    _, _, name, classes, batch, size, gamma, gradients, statistics = case
    keras.utils.clear_session()
    options = {"classes": classes, "classifier_activation": None} if classes else {"include_top": False}
    if name.startswith("MobileNetV3"):
        options["include_preprocessing"] = False
    model = getattr(keras.applications, name)(weights=None, input_shape=(*size, 3), **options)
    if name.startswith("EfficientNet"):  # preprocessing is not part of ours
        inputs = model.get_layer("stem_conv_pad").input
        model = keras.Model(inputs, model.output)
    for variable in model.variables:
        variable.assign(values(keras_name(variable), tuple(variable.shape), gamma))
    x = make_input(batch, *size).transpose(0, 2, 3, 1)
    with tf.GradientTape() as tape:
        logits = tf.reshape(model(x, training=False), (batch, -1))
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels_of(batch), logits))
    weights = model.trainable_weights
    grads = {keras_name(w): g.numpy()
             for w, g in zip(weights, tape.gradient(loss, [w.value for w in weights]))}
    return row(case, logits.numpy(), float(loss), grads, {})


def run_real(number):
    size = [224, 240, 260][number]
    model = lite(number)(1000, (size, size)).eval()
    (path,) = glob.glob(f"{sys.argv[2]}/efficientnet-lite{number}-*.pth")
    model.load_state_dict(torch.load(path, map_location="cpu"))
    with torch.no_grad():
        answer = model(torch.tensor(make_input(1, size, size))).numpy().ravel()
    print(f"efficientnet_lite{number}: largest {np.abs(answer).max():.3g}")
    return f"""    {{"efficientnet_lite{number}", {size}, {np.abs(answer).max():.9g},
     {numbers(answer[:ANSWERS])},
     {numbers(answer[-ANSWERS:])}}},
"""


def write_torch():
    torch.manual_seed(0)
    with open("tests/golden/backbones.h", "w") as file:
        file.write(f"""/* Written by make_backbones.py. */
enum {{ GOLDEN_GRADIENTS = {GRADIENTS}, GOLDEN_ANSWERS = {ANSWERS}, GOLDEN_PARAMS = 8 }};
typedef struct golden_param {{
    const char *name; /* ours */
    double value[GOLDEN_GRADIENTS]; /* the first, in our layout */
}} golden_param;
typedef struct golden_backbone {{
    const char *name, *scheme;
    int classes, batch, height, width; /* no classes: the feature map without the classifier */
    double gamma;
    bool batch_norm_training;
    double largest, loss; /* of all logits; mean cross-entropy for labels 1, 4, 7, ... */
    double first[GOLDEN_ANSWERS], last[GOLDEN_ANSWERS]; /* logits */
    golden_param gradient[GOLDEN_PARAMS];
    golden_param statistics[GOLDEN_PARAMS]; /* after the step */
}} golden_backbone;
static const golden_backbone golden_pytorch[] = {{
""")
        for case in CASES:
            file.write(run(case))
        file.write("""};
static const struct {
    const char *name;
    int size;
    double largest, first[GOLDEN_ANSWERS], last[GOLDEN_ANSWERS];
} golden_real[] = {
""")
        for number in range(3):
            file.write(run_real(number))
        file.write("};\n")


# Networks whose steps are compared in bf16, too, by autocast.
BF16 = ["resnet18", "resnet50", "vgg11", "mobilenet_v2", "mobilenet_v3_large", "shufflenet_v2_x1_0"]


def write_bf16():
    torch.manual_seed(0)
    with open("tests/golden/backbones_bf16.h", "w") as file:
        file.write("/* Written by make_backbones.py. */\n"
                   "static const golden_backbone golden_bf16[] = {\n")
        for case in CASES:
            if case[0] in BF16 and case[1] == "torchvision" and case[7]:
                file.write(run(case, bf16=True))
        file.write("};\n")


def write_keras():
    with open("tests/golden/backbones_keras.h", "w") as file:
        file.write("/* Written by make_backbones.py. */\n"
                   "static const golden_backbone golden_keras[] = {\n")
        for case in KERAS_CASES:
            file.write(run_keras(case))
        file.write("};\n")


if sys.argv[1] == "keras":
    write_keras()
elif sys.argv[1] == "bf16":
    import torch
    import torchvision
    write_bf16()
else:
    import timm
    import torch
    import torchvision
    from efficientnet_lite_pytorch import EfficientNet
    write_torch()
