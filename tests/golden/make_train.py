"""Writes train.h: what PyTorch, the Keras formulas and scikit-learn say about tests/test_train.c.

Run from the repository root: python3 tests/golden/make_train.py
"""
import numpy as np
import torch
import torchvision
from sklearn.metrics import precision_recall_fscore_support
from torch.nn import functional as F

WEIGHTS, STEPS = 13, 10


def weight(i):
    return i * 37 % 101 / 101 - 0.5


def gradient(step, i):
    return (i * 53 + step * 29) % 97 / 97 - 0.5


w0 = np.array([weight(i) for i in range(WEIGHTS)])
g = np.array([[gradient(t, i) for i in range(WEIGHTS)] for t in range(STEPS)])


def lr_at(lr, step):  # halved half-way: the rules differ in what they do about it
    return lr if step < STEPS // 2 else lr / 2


def run_torch(make, lr):
    w = torch.nn.Parameter(torch.tensor(w0, dtype=torch.float32))
    optimizer = make([w])
    for t in range(STEPS):
        optimizer.param_groups[0]["lr"] = lr_at(lr, t)
        w.grad = torch.tensor(g[t], dtype=torch.float32)
        optimizer.step()
    return w.detach().numpy()


def run_keras(rule, lr, decay):
    """keras/optimizers/{sgd,adam,rmsprop}.py, in float64; decay as BaseOptimizer._apply_weight_decay."""
    w, state = w0.copy(), {}
    for t in range(STEPS):
        now = lr_at(lr, t)
        w -= now * decay * w
        w = rule(w, g[t], now, t + 1, state)
    return w


def keras_sgd(momentum, nesterov):
    def rule(w, grad, lr, t, s):
        m = s["m"] = momentum * s.get("m", 0) - lr * grad
        return w + (momentum * m - lr * grad if nesterov else m)
    return rule


def keras_adam(w, grad, lr, t, s, b1=0.9, b2=0.999, epsilon=1e-7):
    m = s["m"] = s.get("m", 0) + (grad - s.get("m", 0)) * (1 - b1)
    v = s["v"] = s.get("v", 0) + (grad**2 - s.get("v", 0)) * (1 - b2)
    alpha = lr * np.sqrt(1 - b2**t) / (1 - b1**t)
    return w - m * alpha / (np.sqrt(v) + epsilon)


def keras_rmsprop(momentum, centered):
    def rule(w, grad, lr, t, s, rho=0.9, epsilon=1e-7):
        v = s["v"] = rho * s.get("v", 0) + (1 - rho) * grad**2
        spread = v
        if centered:
            a = s["a"] = rho * s.get("a", 0) + (1 - rho) * grad
            spread = v - a**2
        step = lr * grad / np.sqrt(spread + epsilon)
        if momentum:
            step = s["b"] = momentum * s.get("b", 0) + step
        return w - step
    return rule


O = torch.optim
# name, style, lr, momentum, nesterov, centered, weight_decay, weights after STEPS steps
CASES = [
    ("sgd", "pytorch", 0.1, 0, 0, 0, 0, run_torch(lambda p: O.SGD(p, 0.1), 0.1)),
    ("sgd", "pytorch", 0.1, 0.9, 0, 0, 0, run_torch(lambda p: O.SGD(p, 0.1, 0.9), 0.1)),
    ("sgd", "pytorch", 0.1, 0.9, 1, 0, 0.01, run_torch(
        lambda p: O.SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.01), 0.1)),
    ("adam", "pytorch", 0.01, 0, 0, 0, 0, run_torch(lambda p: O.Adam(p, 0.01), 0.01)),
    ("adam", "pytorch", 0.01, 0, 0, 0, 0.1, run_torch(
        lambda p: O.Adam(p, 0.01, weight_decay=0.1), 0.01)),
    ("adamw", "pytorch", 0.01, 0, 0, 0, -1, run_torch(lambda p: O.AdamW(p, 0.01), 0.01)),
    ("adamw", "pytorch", 0.01, 0, 0, 0, 0.3, run_torch(
        lambda p: O.AdamW(p, 0.01, weight_decay=0.3), 0.01)),
    ("rmsprop", "pytorch", 0.01, 0, 0, 0, 0, run_torch(lambda p: O.RMSprop(p, 0.01), 0.01)),
    ("rmsprop", "pytorch", 0.01, 0.9, 0, 1, 0.1, run_torch(
        lambda p: O.RMSprop(p, 0.01, momentum=0.9, centered=True, weight_decay=0.1), 0.01)),
    ("sgd", "keras", 0.1, 0, 0, 0, 0, run_keras(keras_sgd(0, False), 0.1, 0)),
    ("sgd", "keras", 0.1, 0.9, 0, 0, 0, run_keras(keras_sgd(0.9, False), 0.1, 0)),
    ("sgd", "keras", 0.1, 0.9, 1, 0, 0.05, run_keras(keras_sgd(0.9, True), 0.1, 0.05)),
    ("adam", "keras", 0.01, 0, 0, 0, 0, run_keras(keras_adam, 0.01, 0)),
    ("adam", "keras", 0.01, 0, 0, 0, 0.1, run_keras(keras_adam, 0.01, 0.1)),
    ("adamw", "keras", 0.01, 0, 0, 0, -1, run_keras(keras_adam, 0.01, 0.004)),
    ("rmsprop", "keras", 0.01, 0, 0, 0, 0, run_keras(keras_rmsprop(0, False), 0.01, 0)),
    ("rmsprop", "keras", 0.01, 0.9, 0, 1, 0.1, run_keras(keras_rmsprop(0.9, True), 0.01, 0.1)),
]

# Logits from harmless to far beyond what exp() can take.
LOGITS = [[0.5, -1.25, 2], [0, 0, 0], [200, -300, 1], [-1000, 1000, 999], [3, 3.5, -2]]
LABELS = [2, 1, 0, 2, 1]
UNIT_LOGITS = [0, 1.5, -2.25, 80, -120, 300]
UNIT_LABELS = [1, 0, 1, 1, 1, 0]


def softmax_loss():
    z = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    loss = F.cross_entropy(z, torch.tensor(LABELS))
    loss.backward()
    return loss.item(), z.grad.numpy().ravel()


def sigmoid_loss():
    z = torch.tensor(UNIT_LOGITS, dtype=torch.float64, requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(z, torch.tensor(UNIT_LABELS, dtype=torch.float64))
    loss.backward()
    return loss.item(), z.grad.numpy()


# Class 3 is never answered, class 4 neither occurs nor is answered, class 2 occurs once.
TRUTH = [0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 0, 1]
ANSWER = [0, 0, 1, 2, 1, 1, 0, 2, 0, 1, 0, 2]
CLASSES = 5


def measures():
    labels = range(CLASSES)
    p, r, f, s = precision_recall_fscore_support(TRUTH, ANSWER, labels=labels, zero_division=0)
    macro, weighted = (precision_recall_fscore_support(
        TRUTH, ANSWER, labels=labels, average=how, zero_division=0)[:3]
        for how in ("macro", "weighted"))
    return p, r, f, s, macro, weighted


# --- loss curves of a small residual network and of ResNet-18 -------------------------------
# Their weights and pictures follow from names and counters by a hash (Wellons' lowbias32), so that
# the test makes the same ones without a file.
CURVE_STEPS, BATCH, CLASSES_TRAINED = 20, 6, 4
SIDES = {"small": 24, "resnet18": 32}


def uniform(key, count):
    """count numbers in [-1, 1): the hash of key and a counter."""
    seed = np.uint32(2166136261)
    for byte in key.encode():  # FNV-1a
        seed = np.uint32((int(seed) ^ byte) * 16777619 & 0xFFFFFFFF)
    x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1) + seed
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float64) * 2.0**-23 - 1


class Block(torch.nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(cout)
        self.conv2 = torch.nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(cout)
        self.down = torch.nn.Conv2d(cin, cout, 1, stride, bias=False)
        self.down_bn = torch.nn.BatchNorm2d(cout)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.down_bn(self.down(x)))


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        self.block1 = Block(16, 24, 1)
        self.block2 = Block(24, 40, 2)
        self.fc = torch.nn.Linear(40, CLASSES_TRAINED)

    def forward(self, x):
        x = self.block2(self.block1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


def our_name(module_name, module, param):
    if isinstance(module, torch.nn.BatchNorm2d):
        param = {"weight": "gamma", "bias": "beta", "running_mean": "mean",
                 "running_var": "variance"}[param]
    return f"{module_name}.{param}"


def fill(network):
    with torch.no_grad():
        for name, module in network.named_modules():
            for param, t in [*module._parameters.items(), *module._buffers.items()]:
                if t is None or param == "num_batches_tracked":
                    continue
                u = uniform(our_name(name, module, param), t.numel())
                kind = our_name(name, module, param).rsplit(".", 1)[1]
                if t.dim() == 4:  # drawn as O KH KW I
                    o, i, h, w = t.shape
                    u = (u * np.sqrt(6 / (i * h * w))).reshape(o, h, w, i).transpose(0, 3, 1, 2)
                elif t.dim() == 2:
                    u = (0.2 * u * np.sqrt(6 / t.shape[1])).reshape(tuple(t.shape))
                elif kind == "gamma":  # branches start small, as trained residual networks have them
                    u = (0.25 if name.endswith("bn2") else 1) * (1 + 0.2 * u)
                elif kind == "variance":
                    u = 1 + 0.5 * u
                else:
                    u = 0.1 * u
                t.copy_(torch.tensor(np.ascontiguousarray(u).astype(np.float32)))


def batches(side):
    for step in range(CURVE_STEPS):
        key = f"batch{step % 3}"
        x = uniform(key, BATCH * side * side * 3).astype(np.float32)
        x = torch.tensor(x.reshape(BATCH, side, side, 3).transpose(0, 3, 1, 2).copy())
        yield x, torch.tensor([(i + step % 3) % CLASSES_TRAINED for i in range(BATCH)])


def make_network(name):
    if name == "small":
        return Network()
    return torchvision.models.resnet18(weights=None, num_classes=CLASSES_TRAINED)


def curve(kind, make, trained, statistics):
    """Losses before each step, then the loss on the first batch in evaluation mode."""
    network = make_network(kind)
    fill(network)
    network.eval()
    params = []
    for name, p in network.named_parameters():
        p.requires_grad = name.startswith(tuple(trained))
        if p.requires_grad:
            params.append(p)
    if statistics:
        for name, module in network.named_modules():
            if name and name.startswith(tuple(trained)):
                module.training = True
    optimizer = make(params)
    losses = []
    for x, y in batches(SIDES[kind]):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    network.eval()
    x, y = next(batches(SIDES[kind]))
    return losses + [F.cross_entropy(network(x), y).item()]


OPTIMIZERS = [("sgd", 0.9, 0.02, lambda p: O.SGD(p, 0.02, 0.9)),
              ("adam", 0, 0.002, lambda p: O.Adam(p, 0.002)),
              ("rmsprop", 0, 0.0005, lambda p: O.RMSprop(p, 0.0005))]
CAREFUL = [("sgd", 0.9, 0.001, lambda p: O.SGD(p, 0.001, 0.9)),
           ("adam", 0, 0.0002, lambda p: O.Adam(p, 0.0002)),
           ("rmsprop", 0, 0.00002, lambda p: O.RMSprop(p, 0.00002))]
CURVES = [(network, name, momentum, lr, block, statistics,
           curve(network, make, ["fc", block] if block else ["fc"], statistics))
          for network, optimizers, modes in [
              ("small", OPTIMIZERS, [("", 0), ("block2", 0), ("block2", 1)]),
              ("resnet18", CAREFUL, [("", 0), ("layer4", 0)])]
          for name, momentum, lr, make in optimizers
          for block, statistics in modes]


def numbers(values, digits=9):
    return "{" + ", ".join(f"{float(v):.{digits}g}" for v in values) + "}"


def main():
    lines = ["/* Written by make_train.py. */",
             f"enum {{ GOLDEN_WEIGHTS = {WEIGHTS}, GOLDEN_STEPS = {STEPS} }};",
             "static const struct {",
             "    const char *name, *style;",
             "    double lr, momentum;",
             "    bool nesterov, centered;",
             "    double weight_decay;",
             "    double weights[GOLDEN_WEIGHTS];",
             "} golden_optimizers[] = {"]
    for name, style, lr, momentum, nesterov, centered, decay, w in CASES:
        lines.append(f'    {{"{name}", "{style}", {lr}, {momentum}, {nesterov}, {centered}, {decay},')
        lines.append(f"     {numbers(w)}}},")
    lines.append("};")

    loss, grad = softmax_loss()
    lines += [f"static const float golden_logits[] = {numbers(sum(LOGITS, []))};",
              f"static const int32_t golden_labels[] = {numbers(LABELS)};",
              f"static const double golden_softmax_loss = {loss:.17g};",
              f"static const double golden_softmax_gradient[] = {numbers(grad)};"]
    loss, grad = sigmoid_loss()
    lines += [f"static const float golden_unit_logits[] = {numbers(UNIT_LOGITS)};",
              f"static const int32_t golden_unit_labels[] = {numbers(UNIT_LABELS)};",
              f"static const double golden_sigmoid_loss = {loss:.17g};",
              f"static const double golden_sigmoid_gradient[] = {numbers(grad)};"]

    p, r, f, s, macro, weighted = measures()
    lines += [f"enum {{ GOLDEN_CLASSES = {CLASSES}, GOLDEN_ANSWERS = {len(TRUTH)} }};",
              f"static const int32_t golden_truth[] = {numbers(TRUTH)};",
              f"static const int32_t golden_answer[] = {numbers(ANSWER)};",
              f"static const double golden_precision[] = {numbers(p, 17)};",
              f"static const double golden_recall[] = {numbers(r, 17)};",
              f"static const double golden_f1[] = {numbers(f, 17)};",
              f"static const int golden_support[] = {numbers(s)};",
              f"static const double golden_macro[] = {numbers(macro, 17)};",
              f"static const double golden_weighted[] = {numbers(weighted, 17)};"]
    lines += [f"enum {{ CURVE_STEPS = {CURVE_STEPS}, CURVE_BATCH = {BATCH}, CURVE_SIDE = {SIDES['small']}, "
              f"CURVE_CLASSES = {CLASSES_TRAINED} }};",
              "static const struct {",
              "    const char *network, *optimizer;",
              "    double momentum, lr;",
              "    const char *block; /* trained beside fc; \"\" for none */",
              "    bool statistics;",
              "    double loss[CURVE_STEPS + 1];",
              "} golden_curves[] = {"]
    for network, name, momentum, lr, block, statistics, losses in CURVES:
        lines.append(f'    {{"{network}", "{name}", {momentum}, {lr}, "{block}", {statistics},')
        lines.append(f"     {numbers(losses)}}},")
    lines.append("};")
    with open("tests/golden/train.h", "w") as out:
        out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
