"""Holds every ONNX operator in every opset from 7 to 21 against ONNX Runtime: one small network for each, in
the form that the operator has in that opset (attributes that became inputs, new defaults). A row has the
opsets and the largest error.

Run by `make parity`; by hand: TL_TEST_BUILD=build PYTHON tests/parity/opsets.py
"""
import os
import tempfile

import outcome

if not outcome.have("operators by opset", "numpy", "onnx", "onnxruntime"):
    outcome.finish()
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
import libtl

OPSETS, TOLERANCE = range(7, 22), 1e-5
SHAPE = (2, 3, 9, 8)


class Network:
    """x, some nodes, y."""

    def __init__(self, opset):
        self.opset, self.nodes, self.constants = opset, [], []
        self.random = np.random.default_rng(0)

    def constant(self, values, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def weights(self, *shape):
        return self.constant(self.random.normal(size=shape))

    def node(self, op, *inputs, outputs=1, **attributes):
        names = [f"{op}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def listed(self, op, x, since, **attributes):
        """Attributes that are inputs since an opset, lists of integers."""
        if self.opset < since:
            return self.node(op, x, **attributes)
        return self.node(op, x, *(self.constant(values, np.int64) for values in attributes.values()))

    def save(self, y, path):
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        value = helper.make_tensor_value_info
        graph = helper.make_graph(self.nodes, "g", [value("x", 1, ["n", *SHAPE[1:]])], [value("y", 1, None)],
                                  self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8), path)


# --- one function an operator: what it makes of x -------------------------------------------------

def channels_last(n, y="x"):
    return n.node("Transpose", y, perm=[0, 2, 3, 1])


def pooled(n):
    return n.node("Flatten", n.node("GlobalAveragePool", "x"))


def flat(n):
    return n.node("Flatten", "x")


def clip(n):
    if n.opset < 11:
        return n.node("Clip", "x", min=0.0, max=6.0)
    return n.node("Clip", "x", n.constant(0), n.constant(6))


def dropout(n):
    return n.node("Dropout", "x", ratio=0.3) if n.opset < 12 else n.node("Dropout", "x", n.constant(0.3))


def pad(n):
    around = [0, 0, 1, 2, 0, 0, 0, 1]
    padded = n.node("Pad", "x", pads=around) if n.opset < 11 else \
        n.node("Pad", "x", n.constant(around, np.int64), n.constant(0))
    return n.node("Conv", padded, n.weights(4, 3, 3, 3))


def reduce_mean(n):
    if n.opset < 18:
        return n.node("ReduceMean", "x", axes=[2, 3], keepdims=0)
    return n.node("ReduceMean", "x", n.constant([2, 3], np.int64), keepdims=0)


def split(n):
    parts = [1, 2]
    a, b = n.node("Split", "x", outputs=2, axis=1, split=parts) if n.opset < 13 else \
        n.node("Split", "x", n.constant(parts, np.int64), outputs=2, axis=1)
    return n.node("Concat", b, a, axis=1)


def gather(n):
    channels = [n.listed("Unsqueeze", n.node("Gather", "x", n.constant(i, np.int64), axis=1), 13, axes=[1])
                for i in (2, 0)]
    return n.node("Concat", *channels, axis=1)


def shapes(n):
    """What exporters write before a Reshape to a vector."""
    batch = n.node("Gather", n.node("Shape", "x"), n.constant(0, np.int64), axis=0)
    rest = n.constant([int(np.prod(SHAPE[1:]))], np.int64)
    target = n.node("Concat", n.listed("Unsqueeze", batch, 13, axes=[0]), rest, axis=0)
    return n.node("Gemm", n.node("Reshape", "x", target), n.weights(5, 216), n.weights(5), transB=1)


def shuffle(n):
    grown = n.node("Conv", "x", n.weights(6, 3, 1, 1))
    split_up = n.node("Reshape", grown, n.constant([-1, 2, 3, 9, 8], np.int64))
    turned = n.node("Transpose", split_up, perm=[0, 2, 1, 3, 4])
    return n.node("Reshape", turned, n.constant([-1, 6, 9, 8], np.int64))


def layer_norm(n):
    normed = n.node("LayerNormalization", channels_last(n), n.weights(3), n.weights(3), axis=-1, epsilon=1e-6)
    return n.node("Transpose", normed, perm=[0, 3, 1, 2])


def layer_norm_by_hand(n):
    def mean(x):
        return n.node("ReduceMean", x, axes=[-1]) if n.opset < 18 else \
            n.node("ReduceMean", x, n.constant([-1], np.int64))
    x = channels_last(n)
    centred = n.node("Sub", x, mean(x))
    variance = mean(n.node("Pow", centred, n.constant(2)))
    scaled = n.node("Div", centred, n.node("Sqrt", n.node("Add", variance, n.constant(1e-6))))
    normed = n.node("Add", n.node("Mul", scaled, n.weights(3)), n.weights(3))
    return n.node("Transpose", normed, perm=[0, 3, 1, 2])


def gelu_by_hand(n):
    share = n.node("Add", n.node("Erf", n.node("Div", "x", n.constant(2 ** 0.5))), n.constant(1))
    return n.node("Mul", n.node("Mul", "x", share), n.constant(0.5))


WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
# Each with the opset that it came in.
OPERATORS = {
    "Add": (7, lambda n: n.node("Add", n.node("Add", "x", n.weights(3, 1, 1)), "x")),
    "AveragePool": (7, lambda n: n.node("AveragePool", "x", **WINDOW)),
    "AveragePool, pads counted": (7, lambda n: n.node("AveragePool", "x", count_include_pad=1, **WINDOW)),
    "AveragePool, ceil_mode": (10, lambda n: n.node("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 3],
                                                    ceil_mode=1)),
    "BatchNormalization": (7, lambda n: n.node("BatchNormalization", "x", n.weights(3), n.weights(3), n.weights(3),
                                               n.constant([0.5, 1, 2]), epsilon=1e-3)),
    "Cast": (7, lambda n: n.node("Cast", "x", to=1)),
    "Clip": (7, clip),
    "Concat": (7, lambda n: n.node("Concat", "x", n.node("Relu", "x"), axis=1)),
    "Conv": (7, lambda n: n.node("Conv", "x", n.weights(6, 1, 3, 3), n.weights(6), group=3, strides=[2, 1],
                                 dilations=[1, 2], pads=[1, 2, 0, 1])),
    "Conv, SAME_UPPER": (7, lambda n: n.node("Conv", "x", n.weights(4, 3, 3, 3), auto_pad="SAME_UPPER",
                                             strides=[2, 2])),
    "Div": (7, lambda n: n.node("Div", "x", n.constant(3))),
    "Dropout": (7, dropout),
    "Erf (GELU)": (9, gelu_by_hand),
    "Flatten": (7, lambda n: n.node("Gemm", flat(n), n.weights(216, 5))  # its bias is optional since 11
                if n.opset > 10 else n.node("MatMul", flat(n), n.weights(216, 5))),
    "Gather": (7, gather),
    "Gelu": (20, lambda n: n.node("Gelu", "x")),
    "Gemm": (7, lambda n: n.node("Gemm", flat(n), n.weights(216, 5), n.weights(5), alpha=0.5)),
    "GlobalAveragePool": (7, lambda n: n.node("GlobalAveragePool", "x")),
    "GlobalMaxPool": (7, lambda n: n.node("GlobalMaxPool", "x")),
    "HardSigmoid times x": (7, lambda n: n.node("Mul", "x", n.node("HardSigmoid", "x", alpha=1 / 6))),
    "HardSwish": (14, lambda n: n.node("HardSwish", "x")),
    "Identity": (7, lambda n: n.node("Identity", "x")),
    "LayerNormalization": (17, layer_norm),
    "layer norm of nine nodes": (7, layer_norm_by_hand),
    "LeakyRelu": (7, lambda n: n.node("LeakyRelu", "x", alpha=0.2)),
    "MatMul": (7, lambda n: n.node("MatMul", flat(n), n.weights(216, 5))),
    "MaxPool": (7, lambda n: n.node("MaxPool", "x", **WINDOW)),
    "MaxPool, ceil_mode": (10, lambda n: n.node("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1)),
    "Mul": (7, lambda n: n.node("Mul", "x", n.weights(1, 3, 1, 1))),
    "Pad": (7, pad),
    "ReduceMean": (7, reduce_mean),
    "Relu": (7, lambda n: n.node("Relu", "x")),
    "Reshape": (7, lambda n: n.node("MatMul", n.node("Reshape", "x", n.constant([0, -1], np.int64)),
                                    n.weights(216, 5))),
    "Shape, Gather, Concat": (7, shapes),
    "Sigmoid": (7, lambda n: n.node("Sigmoid", pooled(n))),
    "Sigmoid times x": (7, lambda n: n.node("Mul", "x", n.node("Sigmoid", "x"))),
    "Slice": (7, lambda n: n.listed("Slice", "x", 10, starts=[1], ends=[3], axes=[1])),
    "Slice of height and width": (7, lambda n: n.node("Conv", n.listed("Slice", "x", 10, starts=[1, 2], ends=[8, 99],
                                                                       axes=[2, 3]), n.weights(4, 3, 3, 3))),
    "Softmax": (7, lambda n: n.node("Softmax", pooled(n))),
    "Split": (7, split),
    "Squeeze": (7, lambda n: n.listed("Squeeze", n.node("GlobalAveragePool", "x"), 13, axes=[2, 3])),
    "Sub": (7, lambda n: n.node("Sub", "x", n.weights(3, 1, 1))),
    "Transpose": (7, lambda n: n.node("Transpose", channels_last(n), perm=[0, 3, 1, 2])),
    "channel shuffle": (7, shuffle),
    "Unsqueeze": (7, lambda n: n.node("Conv", n.listed("Unsqueeze", pooled(n), 13, axes=[2, 3]), n.weights(4, 3, 1, 1))),
}


def compare(build, opset, path, x):
    """The largest error, relative to the largest answer."""
    network = Network(opset)
    network.save(build(network), path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    expected = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    with libtl.Model(path) as model:
        got = model.run(x.transpose(0, 2, 3, 1))
    if got.ndim == 4:
        got = got.transpose(0, 3, 1, 2)
    return np.abs(got.reshape(expected.shape) - expected).max() / np.abs(expected).max()


def main():
    x = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    print(f"{'operator':28} {'opsets':8} {'error':>8}   (relative, against ONNX Runtime {onnxruntime.__version__}, "
          f"tolerance {TOLERANCE:g})")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.onnx")
        for name, (since, build) in OPERATORS.items():
            worst, problems = 0, ""
            for opset in OPSETS:
                if opset < since:
                    continue
                try:
                    worst = max(worst, compare(build, opset, path, x))
                except Exception as error:
                    problems = problems or f" opset {opset}: {str(error)[:160]}"
            outcome.row(f"{name:28} {since:2} to {OPSETS[-1]} {worst:8.1e}{problems}", worst <= TOLERANCE and not problems)
    outcome.finish()


main()
