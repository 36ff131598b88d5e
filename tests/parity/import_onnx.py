#!/usr/bin/env python3
"""Compares imported ONNX networks with ONNX Runtime, one row a network.

usage: import_onnx.py [FILE.onnx ...]

Without files it exports what the installed frameworks offer (torchvision, Keras with tf2onnx) into
$TL_TEST_BUILD/parity/onnx, once, and compares everything that lies there. The frameworks and ONNX
Runtime may belong to different interpreters: run the script with each. Random weights, realistic
batch-norm statistics, random inputs.
"""
import ctypes
import glob
import os
import sys

BUILD = os.environ.get("TL_TEST_BUILD", "build")
FOLDER = os.path.join(BUILD, "parity", "onnx")
TOLERANCE = 1e-4

TORCHVISION = ["resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x1_0", "densenet121",
               "googlenet", "mnasnet1_0", "efficientnet_b0", "regnet_y_400mf",
               "mobilenet_v3_small", "inception_v3", "vgg11_bn", "alexnet", "convnext_tiny"]
KERAS = ["MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50", "ResNet50V2", "DenseNet121",
         "EfficientNetB0", "EfficientNetV2B0", "NASNetMobile", "InceptionV3", "Xception",
         "ConvNeXtTiny"]


# --- exporting ------------------------------------------------------------------------------------

def export_torchvision():
    try:
        import torch
        import torchvision.models as models
    except ImportError as error:
        print(f"SKIPPED exporting from torchvision: {error}")
        return
    torch.manual_seed(0)
    for name in TORCHVISION:
        path = os.path.join(FOLDER, f"torchvision_{name}.onnx")
        if os.path.exists(path):
            continue
        inception = name in ("googlenet", "inception_v3")
        # transform_input is what the pretrained weights of these two come with.
        options = {"init_weights": False, "transform_input": True} if inception else {}
        network = getattr(models, name)(**options)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, std=0.1)
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
        size = 299 if name == "inception_v3" else 224
        torch.onnx.export(network.eval(), torch.randn(1, 3, size, size), path, opset_version=13,
                          input_names=["x"], output_names=["y"],
                          dynamic_axes={"x": {0: "n"}, "y": {0: "n"}})


def export_keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import numpy as np
        import tf2onnx  # noqa: F401, what keras exports with
    except ImportError as error:
        print(f"SKIPPED exporting from Keras: {error}")
        return
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    for name in KERAS:
        path = os.path.join(FOLDER, f"keras_{name}.onnx")
        if os.path.exists(path):
            continue
        network = getattr(keras.applications, name)(weights=None, classifier_activation=None)
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                weights = [rng.normal(0, 0.1, w.shape) for w in layer.get_weights()]
                weights[-1] = rng.uniform(0.5, 1.5, weights[-1].shape)
                if layer.scale:
                    weights[0] = rng.uniform(0.5, 1.5, weights[0].shape)
                layer.set_weights(weights)
        network(np.zeros((1,) + tuple(d or 224 for d in network.input_shape[1:]), "float32"))
        try:
            network.export(path, format="onnx", verbose=False)
        except Exception as error:  # tf2onnx fails on some networks, which is no fault of ours
            print(f"SKIPPED keras_{name}: its exporter fails: {error}")


# --- libtl through its shared library -------------------------------------------------------------

class Library:
    def __init__(self):
        self.tl = ctypes.CDLL(os.path.join(BUILD, "libtl.so"))
        self.tl.tl_last_error.restype = ctypes.c_char_p
        for name in ("tl_tensor_data", "tl_tensor_shape"):
            getattr(self.tl, name).restype = ctypes.c_void_p
            getattr(self.tl, name).argtypes = [ctypes.c_void_p]
        self.context = ctypes.c_void_p()
        self.call("tl_context_create", None, ctypes.byref(self.context))

    def call(self, name, *args):
        if getattr(self.tl, name)(*args) != 0:
            raise RuntimeError(self.tl.tl_last_error().decode())

    def run(self, path, x):
        """x and the answer are N H W C."""
        import numpy as np
        model, tensor, answer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("tl_model_load", self.context, path.encode(), ctypes.byref(model))
        try:
            dims = (ctypes.c_int64 * x.ndim)(*x.shape)
            self.call("tl_tensor_create", self.context, 0, x.ndim, dims, ctypes.byref(tensor))
            x = np.ascontiguousarray(x, np.float32)
            ctypes.memmove(self.tl.tl_tensor_data(tensor), x.ctypes.data, x.nbytes)
            self.call("tl_model_run", model, tensor, ctypes.byref(answer))
            rank = self.tl.tl_tensor_rank(answer)
            shape = ctypes.cast(self.tl.tl_tensor_shape(answer), ctypes.POINTER(ctypes.c_int64))
            shape = tuple(shape[:rank])
            floats = ctypes.cast(self.tl.tl_tensor_data(answer), ctypes.POINTER(ctypes.c_float))
            return np.ctypeslib.as_array(floats, shape).copy()
        finally:
            self.tl.tl_tensor_free(answer)
            self.tl.tl_tensor_free(tensor)
            self.tl.tl_model_free(model)


# --- comparing ------------------------------------------------------------------------------------

class BadExport(Exception):
    """A file that its exporter got wrong, so that there is nothing to compare with."""


def reference(path, rng):
    """A random batch in N H W C and ONNX Runtime's answer to it."""
    import numpy as np
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BadExport(f"ONNX Runtime refuses it: {str(error)[:200]}") from error
    node = session.get_inputs()[0]
    if len(session.get_inputs()) > 1:
        raise BadExport("its exporter made inputs of its constants")
    fixed = [d if isinstance(d, int) else None for d in node.shape]
    last = fixed[3] == 3
    height, width = (fixed[1], fixed[2]) if last else (fixed[2], fixed[3])
    x = rng.normal(size=(fixed[0] or 2, height or 224, width or 224, 3)).astype(np.float32)
    fed = x if last else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x, session.run(None, {node.name: fed})[0]


def compare(library, path):
    import numpy as np
    x, expected = reference(path, np.random.default_rng(0))
    got = library.run(path, x)
    if got.ndim == 4:
        got = got.transpose(0, 3, 1, 2)
    error = np.abs(got - expected).max() / np.abs(expected).max()
    top = all(set(a.argsort()[-5:]) == set(b.argsort()[-5:]) for a, b in
              zip(got.reshape(len(got), -1), expected.reshape(len(expected), -1)))
    return error, top


def main():
    paths = sys.argv[1:]
    if not paths:
        os.makedirs(FOLDER, exist_ok=True)
        export_torchvision()
        export_keras()
        paths = sorted(glob.glob(os.path.join(FOLDER, "*.onnx")))
    try:
        import numpy  # noqa: F401
        import onnxruntime
    except ImportError as error:
        print(f"SKIPPED comparing {len(paths)} ONNX networks: {error}")
        return 0
    if not paths:
        print("SKIPPED: no ONNX networks to compare, and no framework to export them with")
        return 0
    print(f"{'network':40} {'relative error':>14}  top 5   (ONNX Runtime "
          f"{onnxruntime.__version__}, tolerance {TOLERANCE:g})")
    library = Library()
    failures = 0
    for path in paths:
        name = os.path.basename(path)[:-len(".onnx")]
        try:
            error, top = compare(library, path)
        except BadExport as problem:
            print(f"{name:40} SKIPPED: {problem}")
            continue
        except RuntimeError as problem:
            print(f"{name:40} FAILED: {problem}")
            failures += 1
            continue
        good = error <= TOLERANCE and top
        failures += not good
        print(f"{name:40} {error:14.2e}  {'same' if top else 'OTHER'}{'' if good else '  FAILED'}")
    print(f"{len(paths)} networks, {failures} failed")
    return 1 if failures else 0


sys.exit(main())
