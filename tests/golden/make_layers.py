"""Writes tests/golden/layers.h: outputs and gradients of single layers as PyTorch computes them.

usage: /usr/bin/python3 tests/golden/make_layers.py > tests/golden/layers.h

Inputs come from integer formulas that the test repeats, so only answers are stored. Everything is
in N H W C order.
"""
import sys

import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def pattern(count, step, start, modulus, half, scale):
    return torch.tensor([((i * step + start) % modulus - half) / scale for i in range(count)],
                        dtype=torch.float32)


def values(shape):
    return pattern(shape.numel(), 37, 11, 101, 50, 7.5).reshape(shape)


def slopes(shape):
    return pattern(shape.numel(), 29, 7, 83, 41, 32.0).reshape(shape)


def nchw(x):
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous() if x.dim() == 4 else x


def numbers(tensor):
    return ", ".join(f"{v:.9g}f" if ("." in f"{v:.9g}" or "e" in f"{v:.9g}") else f"{v:.9g}.0f"
                     for v in tensor.detach().reshape(-1).tolist())


def same_pads(size, kernel, stride):
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def max_pool_same(x, kernel, stride):
    top, bottom = same_pads(x.shape[2], kernel, stride)
    left, right = same_pads(x.shape[3], kernel, stride)
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=float("-inf")), kernel, stride)


def avg_pool_same(x, kernel, stride):
    top, bottom = same_pads(x.shape[2], kernel, stride)
    left, right = same_pads(x.shape[3], kernel, stride)
    pads = (left, right, top, bottom)
    total = F.avg_pool2d(F.pad(x, pads), kernel, stride)
    return total / F.avg_pool2d(F.pad(torch.ones_like(x), pads), kernel, stride)


def shuffle(x, groups):
    """F.channel_shuffle has no gradient in every version of PyTorch."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


CASES = [
    ("max_pool", "kernel=3 stride=2 pad=1", (1, 6, 7, 3), lambda x: F.max_pool2d(x, 3, 2, 1)),
    ("max_pool", "kernel=3,2 stride=2 ceil_mode=1", (1, 6, 7, 2),
     lambda x: F.max_pool2d(x, (3, 2), 2, 0, ceil_mode=True)),
    ("max_pool", "kernel=2", (2, 5, 4, 2), lambda x: F.max_pool2d(x, 2)),
    ("max_pool", "kernel=3 stride=2 padding=same", (1, 6, 5, 3), lambda x: max_pool_same(x, 3, 2)),
    ("avg_pool", "kernel=3 stride=2 pad=1 count_include_pad=1", (1, 6, 7, 3),
     lambda x: F.avg_pool2d(x, 3, 2, 1)),
    ("avg_pool", "kernel=3 stride=2 pad=1", (1, 6, 7, 3),
     lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    ("avg_pool", "kernel=3 stride=3 pad=1 ceil_mode=1 count_include_pad=1", (1, 6, 6, 2),
     lambda x: F.avg_pool2d(x, 3, 3, 1, ceil_mode=True)),
    ("avg_pool", "kernel=3 stride=2 ceil_mode=1 count_include_pad=1", (1, 6, 8, 2),
     lambda x: F.avg_pool2d(x, 3, 2, 0, ceil_mode=True)),
    ("avg_pool", "kernel=3 stride=1 padding=same", (1, 4, 5, 2), lambda x: avg_pool_same(x, 3, 1)),
    ("global_avg_pool", "", (2, 5, 3, 3), lambda x: x.mean((2, 3))),
    ("global_max_pool", "", (2, 5, 3, 3), lambda x: F.adaptive_max_pool2d(x, 1).flatten(1)),
    ("relu", "", (1, 101), torch.relu),
    ("relu6", "", (1, 101), F.relu6),
    ("sigmoid", "", (1, 101), torch.sigmoid),
    ("silu", "", (1, 101), F.silu),
    ("hard_swish", "", (1, 101), F.hardswish),
    ("hard_sigmoid", "", (1, 101), F.hardsigmoid),
    ("gelu", "", (1, 101), F.gelu),
    ("leaky_relu", "alpha=0.2", (1, 101), lambda x: F.leaky_relu(x, 0.2)),
    ("slice", "begin=2 end=5", (1, 3, 2, 7), lambda x: x[:, 2:5]),
    ("channel_shuffle", "groups=2", (1, 3, 2, 6), lambda x: shuffle(x, 2)),
    ("softmax", "", (3, 7), lambda x: F.softmax(x, 1)),
]


def norm_case(attrs, shape, training, eps, momentum):
    """PyTorch's momentum is one minus ours. Parameters: gamma, beta, mean, variance."""
    channels = shape[-1]
    gamma = (values(torch.Size([channels])) / 8 + 1).requires_grad_()
    beta = slopes(torch.Size([channels])).requires_grad_()
    mean = slopes(torch.Size([channels])) / 2
    variance = values(torch.Size([channels])).abs() + 0.5
    x = values(torch.Size(shape)).requires_grad_()
    y = nhwc(F.batch_norm(nchw(x), mean, variance, gamma, beta, training, 1 - momentum, eps))
    y.backward(slopes(y.shape))
    params = [gamma.grad, beta.grad, mean, variance]
    return ("batch_norm", attrs, shape, training, y, x.grad, torch.stack(params))


def layer_norm_case(attrs, shape, eps):
    gamma = (values(torch.Size([shape[-1]])) / 8 + 1).requires_grad_()
    beta = slopes(torch.Size([shape[-1]])).requires_grad_()
    x = values(torch.Size(shape)).requires_grad_()
    y = F.layer_norm(x, shape[-1:], gamma, beta, eps)
    y.backward(slopes(y.shape))
    return ("layer_norm", attrs, shape, False, y, x.grad, torch.stack([gamma.grad, beta.grad]))


def plain_case(op, attrs, shape, function):
    x = values(torch.Size(shape)).requires_grad_()
    y = nhwc(function(nchw(x)))
    y.backward(slopes(y.shape))
    return (op, attrs, shape, False, y, x.grad, None)


def main():
    cases = [plain_case(*case) for case in CASES]
    cases.append(norm_case("epsilon=1e-3 momentum=0.99", (2, 3, 4, 3), False, 1e-3, 0.99))
    cases.append(norm_case("epsilon=1e-5 momentum=0.9", (2, 3, 4, 3), True, 1e-5, 0.9))
    cases.append(norm_case("epsilon=1e-3 momentum=0.75", (5, 4), True, 1e-3, 0.75))
    cases.append(layer_norm_case("epsilon=1e-6", (2, 2, 3, 5), 1e-6))
    out = sys.stdout
    out.write(f"/* Made by tests/golden/make_layers.py with PyTorch {torch.__version__}. */\n")
    out.write("/* clang-format off */\n")
    for i, (op, attrs, shape, training, y, gradient, params) in enumerate(cases):
        out.write(f"static const float golden_out_{i}[] = {{{numbers(y)}}};\n")
        out.write(f"static const float golden_grad_{i}[] = {{{numbers(gradient)}}};\n")
        if params is not None:
            out.write(f"static const float golden_params_{i}[] = {{{numbers(params)}}};\n")
    out.write("static const golden_layer golden_layers[] = {\n")
    for i, (op, attrs, shape, training, y, gradient, params) in enumerate(cases):
        dims = ", ".join(str(d) for d in shape)
        out.write(f'    {{"{op}", "{attrs}", {{{len(shape)}, {{{dims}}}}}, {str(training).lower()}, '
                  f"{y.numel()}, golden_out_{i}, golden_grad_{i}, "
                  f"{f'golden_params_{i}' if params is not None else 'NULL'}}},\n")
    out.write("};\n")


main()
