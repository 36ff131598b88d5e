"""Writes tests/golden/onnx/*.onnx, small networks as PyTorch exports them, and tests/golden/onnx.h,
their answers.

usage: /usr/bin/python3 tests/golden/make_onnx.py

Weights are random with realistic batch-norm statistics. Inputs come from an integer formula over
N H W C that the test repeats. Seeds for tests/fuzz are the same files.
"""
import os
import warnings

import torch
import torch.nn.functional as F
from torch import nn

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "onnx")


def conv_bn(i, o, kernel=3, **options):
    return nn.Sequential(nn.Conv2d(i, o, kernel, bias=False, **options), nn.BatchNorm2d(o))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6, eps=1e-3)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand = conv_bn(3, 8, 1)
        self.depthwise = conv_bn(8, 8, 5, padding=2, stride=2, groups=8)
        self.grouped = nn.Conv2d(8, 4, 3, groups=2, dilation=2, padding=(2, 1))
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu6(self.depthwise(F.relu6(self.expand(x) * 4)) * 3)
        return F.softmax(self.fc(self.grouped(x).mean([2, 3])), 1)


class SqueezeExcite(nn.Module):
    """The gates of MobileNetV3 and EfficientNet, SiLU and hard-swish."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 6, padding=1)
        self.down, self.up = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.down2, self.up2 = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = F.hardswish(self.stem(x) * 3)
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        x = F.hardsigmoid(gate * 5) * x
        gate = self.up2(F.silu(self.down2(x.mean([2, 3], keepdim=True))))
        x = F.silu(torch.sigmoid(gate) * x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Pools(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.max_pool2d(self.a(x), 3, 2, ceil_mode=True)
        y = F.avg_pool2d(x, 3, 1, 1, count_include_pad=True)
        z = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = F.leaky_relu(F.max_pool2d(self.b(y - 0.5) + z / 2, 2, 2, padding=1), 0.1)
        x = torch.cat([F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(x, 1)], 1)
        return self.fc(torch.flatten(x, 1))


class DenseBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.ModuleList(nn.BatchNorm2d(c) for c in (3, 5, 7))
        self.conv = nn.ModuleList(nn.Conv2d(c, 2, 3, padding=1, bias=False) for c in (3, 5, 7))
        self.fc = nn.Linear(9, 4)

    def forward(self, x):
        for norm, conv in zip(self.norm, self.conv):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return self.fc(F.avg_pool2d(F.relu(x), (x.shape[2], x.shape[3])).flatten(1))


class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.branch = conv_bn(4, 4, 1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        left, right = x.chunk(2, dim=1)
        x = torch.cat([left, F.relu(self.branch(right))], 1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        return self.fc(x.mean([2, 3]))


class Flatten(nn.Module):
    """Height and width above 1 before the dense layers: VGG and AlexNet."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=3)
        self.fc1, self.fc2 = nn.Linear(4 * 3 * 2, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), (1, 2))
        x = F.dropout(torch.flatten(x, 1), 0.4, self.training)
        return self.fc2(F.relu(self.fc1(x)))


class Squeeze(nn.Module):
    """A convolution is the classifier: SqueezeNet."""

    def __init__(self):
        super().__init__()
        self.squeeze = nn.Conv2d(3, 4, 1)
        self.expand1, self.expand3 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.classifier = nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        x = torch.cat([F.relu(self.expand1(x)), F.relu(self.expand3(x))], 1)
        return F.adaptive_avg_pool2d(F.relu(self.classifier(x)), 1).flatten(1)


class Keras(nn.Module):
    """What tf2onnx makes of a Keras network: N H W C outside, Transpose, Pad, MatMul and Add."""

    def __init__(self):
        super().__init__()
        self.stem, self.block = conv_bn(3, 6, stride=2), conv_bn(6, 6, padding=1)
        self.kernel = nn.Parameter(torch.randn(6, 4))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x):
        x = x.permute(0, 3, 1, 2) / 127.5 - 1.0
        x = F.relu(self.stem(F.pad(x, (0, 1, 0, 1))))
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        y = F.relu6(self.block(x) + 3) * (1 / 6)
        x = (x * y).permute(0, 2, 3, 1)
        return torch.softmax(torch.matmul(x.mean([1, 2]), self.kernel) + self.bias, -1)


class ConvNext(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 2, stride=2)
        self.norm, self.norm2 = nn.LayerNorm(6, eps=1e-6), nn.LayerNorm(6, eps=1e-6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.wide, self.narrow = nn.Linear(6, 8), nn.Linear(8, 6)
        self.layer_scale = nn.Parameter(torch.rand(6, 1, 1))
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = self.norm(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.norm2(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)
        return self.fc(F.adaptive_avg_pool2d(x + self.layer_scale * y, 1).flatten(1))


class TransformInput(nn.Module):
    """torchvision's Inception networks with their published weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 3)

    def forward(self, x):
        planes = [torch.unsqueeze(x[:, c], 1) * (0.2 + c) + (0.1 - c) for c in range(3)]
        x = F.relu(self.conv(torch.cat(planes, 1)))
        return self.fc(x.mean([2, 3]))


class Crop(nn.Module):
    """Zeros that no window can pad by itself, and a picture cut: Keras's ResNet50V2 and NASNet."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = F.max_pool2d(F.pad(self.conv(x) - 0.7, (1, 0, 2, 1)), 3, 2)
        x = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.fc(x[:, :, :-1].mean([2, 3]))


PRESERVE = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
DYNAMIC = {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
# name, network, height and width, opset, options
CASES = [
    ("residual_unfolded", Residual, (9, 8), 13, PRESERVE),
    ("residual_opset7", Residual, (9, 8), 7, {}),
    ("depthwise", Depthwise, (8, 9), 11, DYNAMIC),
    ("squeeze_excite", SqueezeExcite, (7, 6), 13, {}),
    ("squeeze_excite_opset14", SqueezeExcite, (7, 6), 14, DYNAMIC),
    ("pools", Pools, (12, 11), 11, {}),
    ("dense_block", DenseBlock, (6, 5), 9, PRESERVE),
    ("shuffle_dynamic", Shuffle, (8, 7), 13, DYNAMIC),
    ("shuffle_split", Shuffle, (8, 7), 13, {}),
    ("flatten", Flatten, (9, 12), 12, PRESERVE),
    ("squeeze", Squeeze, (6, 7), 13, DYNAMIC),
    ("keras", Keras, (16, 14), 13, DYNAMIC),
    ("convnext", ConvNext, (8, 6), 13, {}),
    ("convnext_opset17", ConvNext, (8, 6), 17, {}),
    ("transform_input", TransformInput, (7, 7), 13, DYNAMIC),
    ("crop", Crop, (11, 12), 13, {}),
]


def realistic(network):
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def values(height, width):
    """Two pictures in N H W C."""
    count = 2 * height * width * 3
    return torch.tensor([((i * 37 + 11) % 101 - 50) / 25 for i in range(count)],
                        dtype=torch.float32).reshape(2, height, width, 3)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    rows, out = [], []
    for seed, (name, kind, (height, width), opset, options) in enumerate(CASES):
        torch.manual_seed(seed)
        network = realistic(kind())
        x = values(height, width)
        fed = x if kind is Keras else x.permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            y = network(fed)
        # Files without a dynamic axis are for one picture.
        example = fed if "dynamic_axes" in options else fed[:1]
        torch.onnx.export(network, example, os.path.join(FOLDER, name + ".onnx"),
                          opset_version=opset, input_names=["x"], output_names=["y"], **options)
        numbers = ", ".join(f"{v:.9g}" for v in y.reshape(-1).tolist())
        out.append(f"static const double golden_{name}[] = {{{numbers}}};\n")
        rows.append(f'    {{"{name}", {height}, {width}, {y.shape[1]}, golden_{name}}},\n')
    with open(os.path.join(HERE, "onnx.h"), "w") as header:
        header.write(f"/* Made by tests/golden/make_onnx.py with PyTorch {torch.__version__}. */\n")
        header.write("/* clang-format off */\n")
        header.writelines(out)
        header.write("static const golden_network golden_networks[] = {\n")
        header.writelines(rows)
        header.write("};\n")


main()
