"""Holds ONNX networks against ONNX Runtime: as they are imported, in training, and exported again.

usage: import_onnx.py [NAME or FILE.onnx ...]

Exports what the installed frameworks offer (torchvision and timm by both of PyTorch's exporters, Keras
with tf2onnx) into $TL_TEST_BUILD/parity/onnx, once, and compares everything that lies there, or what
was named. The frameworks and ONNX Runtime may belong to different interpreters: run the script with
each. Random weights, batch-norm statistics of a batch, random inputs. A * marks networks that are no
backbone by name.

Training: after one small step of gradient descent on all parameters the loss must have fallen by what
the gradients promise, the sum of their squares times the step.
"""
import glob
import os
import sys

import outcome

if not outcome.have("every ONNX network", "numpy"):
    outcome.finish()
import numpy as np
import libtl
from random_weights import randomize_keras, randomize_torch

FOLDER = os.path.join(libtl.BUILD, "parity", "onnx")
TOLERANCE, FALL_TOLERANCE = 1e-4, 0.1

# What torchvision, timm and Keras call networks that libtl knows by name, and others.
TORCHVISION = ["resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x1_0", "densenet121", "efficientnet_b0",
               "mobilenet_v3_small", "inception_v3", "vgg11_bn", "convnext_tiny"]
OTHER_TORCHVISION = ["googlenet", "mnasnet1_0", "mnasnet0_5", "regnet_x_400mf", "regnet_y_400mf", "alexnet",
                     "efficientnet_v2_s", "densenet161"]
OTHER_TIMM = ["resnet26d", "hardcorenas_a", "ghostnet_100", "repvgg_a0", "dla34", "res2net50_26w_4s"]
KERAS = ["MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50", "DenseNet121", "EfficientNetB0", "InceptionV3",
         "ConvNeXtTiny"]
OTHER_KERAS = ["ResNet50V2", "EfficientNetV2B0", "NASNetMobile", "Xception", "InceptionResNetV2"]
# By PyTorch's newer exporter, with its default opset: for a batch of two, and for any.
DYNAMO = ["resnet18", "googlenet", "regnet_y_400mf", "efficientnet_v2_s", "mobilenet_v3_small", "shufflenet_v2_x0_5",
          "densenet121", "mnasnet1_0", "convnext_tiny"]
DYNAMIC = ["mobilenet_v2", "regnet_x_400mf", "shufflenet_v2_x1_0", "convnext_tiny"]


# --- exporting ------------------------------------------------------------------------------------

def wanted(name):
    path = os.path.join(FOLDER, name + ".onnx")
    return path if not os.path.exists(path) and (len(sys.argv) == 1 or name in sys.argv[1:]) else None


def export_torch(network, path, size, kind):
    import torch
    x = torch.randn(2, 3, size, size)
    options = {"dynamo": True, "external_data": False, "verbose": False}
    if kind == "dynamic":
        options["dynamic_shapes"] = ({0: torch.export.Dim("n")},)
    elif not kind:
        options = {"dynamo": False, "opset_version": 13, "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    try:
        torch.onnx.export(randomize_torch(network, x), (x,), path, input_names=["x"], output_names=["y"], **options)
    except Exception as error:  # what an exporter cannot do is no fault of ours
        outcome.skip(os.path.basename(path), f"its exporter fails: {error}")


def export_torchvision():
    if not outcome.have("exporting from torchvision", "torch", "torchvision", "onnxscript"):
        return
    import torch
    import torchvision.models as models
    torch.manual_seed(0)
    for name, kind in [(name, "") for name in TORCHVISION + OTHER_TORCHVISION] + \
            [(name, "dynamo") for name in DYNAMO] + [(name, "dynamic") for name in DYNAMIC]:
        path = wanted("torchvision_" + name + ("_" + kind if kind else ""))
        if path:
            # transform_input is what the pretrained weights of these two come with.
            options = {"init_weights": False, "transform_input": True} if name in ("googlenet", "inception_v3") else {}
            export_torch(getattr(models, name)(**options), path, 299 if name == "inception_v3" else 224, kind)


def export_timm():
    if not outcome.have("exporting from timm", "torch", "timm"):
        return
    import timm
    import torch
    torch.manual_seed(0)
    for name in OTHER_TIMM:
        path = wanted("timm_" + name)
        if path:
            export_torch(timm.create_model(name), path, 224, "")


def export_keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not outcome.have("exporting from Keras", "keras", "tf2onnx"):
        return
    import keras
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    for name in KERAS + OTHER_KERAS:
        path = wanted("keras_" + name)
        if not path:
            continue
        network = getattr(keras.applications, name)(weights=None, classifier_activation=None)
        shape = (2,) + tuple(d or 224 for d in network.input_shape[1:])
        randomize_keras(network, network, random.normal(size=shape).astype("float32"))
        try:
            network.export(path, format="onnx", verbose=False)
        except Exception as error:  # tf2onnx fails on some networks, which is no fault of ours
            outcome.skip("keras_" + name, f"its exporter fails: {error}")


# --- comparing ------------------------------------------------------------------------------------

class BadExport(Exception):
    """A file that its exporter got wrong, so that there is nothing to compare with."""


def open_session(path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BadExport(f"ONNX Runtime refuses it: {str(error)[:200]}") from error
    if len(session.get_inputs()) > 1:
        raise BadExport("its exporter made inputs of its constants")
    return session


def answer(session, x):
    """To x in N H W C, in whichever order the file has it."""
    node = session.get_inputs()[0]
    last = node.shape[3] == 3
    return session.run(None, {node.name: x if last else np.ascontiguousarray(x.transpose(0, 3, 1, 2))})[0]


def make_input(session, rng):
    fixed = [d if isinstance(d, int) else None for d in session.get_inputs()[0].shape]
    height, width = fixed[1:3] if fixed[3] == 3 else fixed[2:4]
    return rng.normal(size=(fixed[0] or 2, height or 224, width or 224, 3)).astype(np.float32)


def difference(got, expected):
    if got.ndim == 4:
        got = got.transpose(0, 3, 1, 2)
    got, expected = got.reshape(len(got), -1), expected.reshape(len(expected), -1)
    top = all(set(a.argsort()[-5:]) == set(b.argsort()[-5:]) for a, b in zip(got, expected))
    return np.abs(got - expected).max() / np.abs(expected).max(), top


def fall_of_loss(path, x):
    """By how much the loss falls in a step, of what the gradients promise; they do so for steps that are small
    enough."""
    labels = [7 * i + 3 for i in range(len(x))]
    with libtl.Model(path) as model:
        squares = sum(float((g[:] ** 2).sum()) for g in model.gradients(x, labels)[1])
    for promised in (1e-2, 1e-3, 1e-4):
        with libtl.Model(path) as model:
            before, after = model.train(x, labels, promised / squares, steps=2)
        fall = (before - after) / promised
        if abs(fall - 1) <= FALL_TOLERANCE:
            break
    return fall


def compare(path):
    """Errors of the answers and of those of the file exported again, the same five best, and the fall."""
    session = open_session(path)
    x = make_input(session, np.random.default_rng(0))
    expected = answer(session, x)
    again = path + ".again"
    with libtl.Model(path) as model:
        error, top = difference(model.run(x), expected)
        model.call("tl_model_export_onnx", again.encode())
    try:
        exported, top_again = difference(answer(open_session(again), x), expected)
    finally:
        os.remove(again)
    return error, exported, top and top_again, fall_of_loss(path, x)


def has_no_name(file):
    return any(file.startswith(f"{origin}_{name}") for origin, names in (
        ("torchvision", OTHER_TORCHVISION), ("timm", OTHER_TIMM), ("keras", OTHER_KERAS)) for name in names)


def report(path):
    """One row."""
    name = os.path.basename(path).removesuffix(".onnx")
    label = f"{name}{' *' if has_no_name(name) else ''}"
    try:
        error, exported, top, fall = compare(path)
    except BadExport as problem:
        outcome.skip(name, problem)
        return False
    except RuntimeError as problem:
        outcome.fail(f"{label:34}", problem)
        return False
    good = max(error, exported) <= TOLERANCE and top and abs(fall - 1) <= FALL_TOLERANCE
    return outcome.row(f"{label:34} {error:9.1e} {exported:9.1e} {'same ' if top else 'OTHER'} {fall:10.3f}", good)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    export_torchvision()
    export_timm()
    export_keras()
    paths = [name if name.endswith(".onnx") else os.path.join(FOLDER, name + ".onnx") for name in sys.argv[1:]]
    paths = [path for path in paths or sorted(glob.glob(os.path.join(FOLDER, "*.onnx"))) if os.path.exists(path)]
    if outcome.have(f"comparing {len(paths)} ONNX networks", "onnxruntime"):
        import onnxruntime
        print(f"{'network':34} {'imported':>9} {'exported':>9} top 5 {'loss falls':>10}   (relative errors against ONNX "
              f"Runtime {onnxruntime.__version__}, tolerance {TOLERANCE:g}; of the promised fall; * no name in libtl)")
        others = [path for path in paths if report(path) and has_no_name(os.path.basename(path))]
        print(f"{len(others)} of these are no backbone by name, and run and fine-tune")
    outcome.finish()


main()
