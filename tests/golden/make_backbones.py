"""Writes backbones.h: what torchvision, timm and efficientnet-lite-pytorch answer to the weights and
inputs of tests/test_backbones.c, which both sides make by the same formula.

Run from the repository root after `make weights`, with torch, torchvision, timm 0.4.12 and
efficientnet-lite-pytorch 0.1.0 installed: python3 tests/golden/make_backbones.py FOLDER
(FOLDER: the weights folder)
"""
import glob
import sys

import numpy as np
import timm
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet

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


def values(name, shape, gamma):
    u = uniform(name, int(np.prod(shape)))
    if name.endswith("running_var"):
        v = 1 + 0.5 * u
    elif len(shape) > 1:
        v = np.sqrt(6 / np.prod(shape[1:])) * u
    elif name.endswith("weight"):
        v = gamma + 0.2 * u
    else:
        v = 0.1 * u
    return torch.tensor(v.astype(np.float32).reshape(shape))


def fill(model, gamma):
    state = model.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = values(name, tuple(tensor.shape), gamma)
    model.load_state_dict(state)
    return model


def resnet(depth):
    return lambda classes, size: getattr(torchvision.models, f"resnet{depth}")(num_classes=classes)


def lite(number):  # its padding is fixed when it is made, for one size
    return lambda classes, size: EfficientNet.from_name(
        f"efficientnet-lite{number}", num_classes=classes, image_size=size)


def timm_lite(number):
    return lambda classes, size: timm.create_model(
        f"tf_efficientnet_lite{number}", num_classes=classes)


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
# name, scheme, builder, classes, batch, size, gamma, gradients, running statistics. gamma is chosen
# so that values neither fade nor grow with depth, which would amplify PyTorch's own rounding.
CASES = [
    ("resnet18", "torchvision", resnet(18), 1000, 2, 64, 0.6, BASIC, {}),
    ("resnet18", "torchvision", resnet(18), 16, 4, 64, 0.6, BASIC, STATISTICS),
    ("resnet34", "torchvision", resnet(34), 16, 1, 64, 0.6, {}, {}),
    ("resnet50", "torchvision", resnet(50), 16, 2, 64, 0.6, BOTTLENECK, {}),
    ("resnet101", "torchvision", resnet(101), 16, 1, 64, 0.6, {}, {}),
    ("resnet152", "torchvision", resnet(152), 16, 1, 64, 0.6, {}, {}),
    ("efficientnet_lite0", "lukemelas", lite(0), 1000, 1, 224, 1.0, {}, {}),
    # Small, so that rounding moves no value across a bend of ReLU6, which would change gradients.
    ("efficientnet_lite0", "lukemelas", lite(0), 16, 1, 57, 1.0, LITE, {}),
    ("efficientnet_lite0", "timm", timm_lite(0), 16, 2, 97, 1.0, {}, {}),
    ("efficientnet_lite1", "lukemelas", lite(1), 16, 1, 75, 0.8, {}, {}),
    ("efficientnet_lite2", "lukemelas", lite(2), 16, 1, 260, 0.8, {}, {}),
    ("efficientnet_lite3", "lukemelas", lite(3), 16, 1, 75, 0.8, {}, {}),
    ("efficientnet_lite4", "timm", timm_lite(4), 16, 1, 75, 0.8, {}, {}),
]


def ours(tensor):
    """The first elements in our layout, O KH KW I for convolutions."""
    array = tensor.detach().numpy()
    if array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    return array.ravel()[:GRADIENTS]


def numbers(array):
    return "{" + ", ".join(f"{x:.9g}" for x in array) + "}"


def named(pairs, tensors):
    rows = [f'        {{"{ours_}", {numbers(ours(tensors[theirs]))}}},' for theirs, ours_ in pairs.items()]
    return "{\n" + "\n".join(rows) + "\n    }" if rows else "{{0}}"


def run(case):
    name, scheme, build, classes, batch, size, gamma, gradients, statistics = case
    model = fill(build(classes, size), gamma).eval()
    model.train(bool(statistics))
    x = torch.tensor((2 * uniform("input", batch * 3 * size * size)).astype(np.float32))
    logits = model(x.reshape(batch, 3, size, size))
    labels = torch.tensor([3 * i + 1 for i in range(batch)])
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    grads = {key: parameter.grad for key, parameter in model.named_parameters()}
    answer = logits.detach().numpy()
    largest = float(np.abs(answer).max())
    print(f"{name} {scheme}: largest {largest:.3g}, spread {answer.std():.3g}, loss {loss.item():.4g}")
    return f"""    {{"{name}", "{scheme}", {classes}, {batch}, {size}, {gamma}, {str(bool(statistics)).lower()},
     {largest:.9g}, {loss.item():.9g},
     {numbers(answer.ravel()[:ANSWERS])},
     {numbers(answer.ravel()[-ANSWERS:])},
     {named(gradients, grads)},
     {named(statistics, model.state_dict())}}},
"""


def run_real(number):
    size = [224, 240, 260][number]
    model = lite(number)(1000, size).eval()
    (path,) = glob.glob(f"{sys.argv[1]}/efficientnet-lite{number}-*.pth")
    model.load_state_dict(torch.load(path, map_location="cpu"))
    x = torch.tensor((2 * uniform("input", 3 * size * size)).astype(np.float32))
    with torch.no_grad():
        answer = model(x.reshape(1, 3, size, size)).numpy().ravel()
    print(f"efficientnet_lite{number}: largest {np.abs(answer).max():.3g}")
    return f"""    {{"efficientnet_lite{number}", {size}, {np.abs(answer).max():.9g},
     {numbers(answer[:ANSWERS])},
     {numbers(answer[-ANSWERS:])}}},
"""


def main():
    torch.manual_seed(0)
    with open("tests/golden/backbones.h", "w") as file:
        file.write(f"""/* Written by make_backbones.py. */
enum {{ GOLDEN_GRADIENTS = {GRADIENTS}, GOLDEN_ANSWERS = {ANSWERS}, GOLDEN_PARAMS = 8 }};
typedef struct golden_param {{
    const char *name; /* ours */
    double value[GOLDEN_GRADIENTS]; /* the first, in our layout */
}} golden_param;
static const struct golden_backbone {{
    const char *name, *scheme;
    int classes, batch, size;
    double gamma;
    bool batch_norm_training;
    double largest, loss; /* of all logits; mean cross-entropy for labels 1, 4, 7, ... */
    double first[GOLDEN_ANSWERS], last[GOLDEN_ANSWERS]; /* logits */
    golden_param gradient[GOLDEN_PARAMS];
    golden_param statistics[GOLDEN_PARAMS]; /* after the step */
}} golden_backbones[] = {{
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


main()
