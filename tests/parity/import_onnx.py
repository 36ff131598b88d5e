"""Holds ONNX networks against ONNX Runtime: as they are imported, in training, and exported again.

usage: import_onnx.py [NAME or FILE.onnx ...]

Exports what the installed frameworks offer (torchvision and timm by both of PyTorch's exporters, Keras
with tf2onnx) into $TL_TEST_BUILD/parity/onnx, once, and compares everything that lies there, or what
was named. The frameworks and ONNX Runtime may belong to different interpreters: run the script with
each. Random weights, realistic batch-norm statistics, random inputs.

Training: after one small step of gradient descent on all parameters the loss must have fallen by what
the gradients promise, the sum of their squares times the step.
"""
import glob
import os
import sys

try:
    import numpy as np
except ImportError:
    print("SKIPPED: needs the Python module numpy")
    sys.exit(0)
import libtl

FOLDER = os.path.join(libtl.BUILD, "parity", "onnx")
TOLERANCE, FALL_TOLERANCE = 1e-4, 0.1

TORCHVISION = ["resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x1_0", "densenet121", "efficientnet_b0",
               "mobilenet_v3_small", "inception_v3", "vgg11_bn", "convnext_tiny",
               # None of these is a backbone by name.
               "googlenet", "mnasnet1_0", "mnasnet0_5", "regnet_x_400mf", "regnet_y_400mf", "alexnet",
               "efficientnet_v2_s", "densenet161"]
TIMM = ["resnet26d", "hardcorenas_a", "ghostnet_100"]
# By PyTorch's newer exporter, with its default opset.
DYNAMO = ["resnet18", "googlenet", "regnet_y_400mf", "efficientnet_v2_s", "mobilenet_v3_small", "shufflenet_v2_x0_5",
          "densenet121", "mnasnet1_0"]
KERAS = ["MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50", "DenseNet121", "EfficientNetB0", "InceptionV3",
         # None of these is a backbone by name.
         "ResNet50V2", "EfficientNetV2B0", "NASNetMobile", "Xception", "InceptionResNetV2", "ConvNeXtTiny"]


# --- exporting ------------------------------------------------------------------------------------

def wanted(name):
    path = os.path.join(FOLDER, name + ".onnx")
    return path if not os.path.exists(path) and (len(sys.argv) == 1 or name in sys.argv[1:]) else None


def randomize_torch(network):
    import torch
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def export_torch(network, path, size, dynamo):
    import torch
    # The newer exporter writes a fixed batch, as it does when nothing else is said.
    options = {"dynamo": True, "external_data": False, "verbose": False} if dynamo else \
        {"dynamo": False, "opset_version": 13, "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    try:
        torch.onnx.export(randomize_torch(network), (torch.randn(2, 3, size, size),), path, input_names=["x"],
                          output_names=["y"], **options)
    except Exception as error:  # what an exporter cannot do is no fault of ours
        print(f"SKIPPED {os.path.basename(path)}: its exporter fails: {str(error)[:100]}")


def export_torchvision():
    try:
        import torch
        import torchvision.models as models
    except ImportError as error:
        print(f"SKIPPED exporting from torchvision: {error}")
        return
    torch.manual_seed(0)
    for name in TORCHVISION + [name + "_dynamo" for name in DYNAMO]:
        path, dynamo = wanted("torchvision_" + name), name.endswith("_dynamo")
        if not path:
            continue
        name = name.removesuffix("_dynamo")
        # transform_input is what the pretrained weights of these two come with.
        options = {"init_weights": False, "transform_input": True} if name in ("googlenet", "inception_v3") else {}
        export_torch(getattr(models, name)(**options), path, 299 if name == "inception_v3" else 224, dynamo)


def export_timm():
    try:
        import timm
        import torch
    except ImportError as error:
        print(f"SKIPPED exporting from timm: {error}")
        return
    torch.manual_seed(0)
    for name in TIMM:
        path = wanted("timm_" + name)
        if path:
            export_torch(timm.create_model(name), path, 224, False)


def export_keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import tf2onnx  # noqa: F401, what keras exports with
    except ImportError as error:
        print(f"SKIPPED exporting from Keras: {error}")
        return
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    for name in KERAS:
        path = wanted("keras_" + name)
        if not path:
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
            print(f"SKIPPED keras_{name}: its exporter fails: {str(error)[:100]}")


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
        _, gradients = model.gradients(x, labels)
    squares = sum(float((g * g).sum()) for _, g in gradients)
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


def main():
    os.makedirs(FOLDER, exist_ok=True)
    export_torchvision()
    export_timm()
    export_keras()
    paths = [name if name.endswith(".onnx") else os.path.join(FOLDER, name + ".onnx") for name in sys.argv[1:]]
    paths = [path for path in paths or sorted(glob.glob(os.path.join(FOLDER, "*.onnx"))) if os.path.exists(path)]
    try:
        import onnxruntime
    except ImportError as error:
        print(f"SKIPPED comparing {len(paths)} ONNX networks: {error}")
        return 0
    print(f"{'network':34} {'imported':>9} {'exported':>9} top 5 {'loss falls':>10}   (relative errors against "
          f"ONNX Runtime {onnxruntime.__version__}, tolerance {TOLERANCE:g}; of the promised fall)")
    failures = 0
    for path in paths:
        name = os.path.basename(path).removesuffix(".onnx")
        try:
            error, exported, top, fall = compare(path)
        except BadExport as problem:
            print(f"{name:34} SKIPPED: {problem}")
            continue
        except RuntimeError as problem:
            print(f"{name:34} FAILED: {problem}")
            failures += 1
            continue
        good = max(error, exported) <= TOLERANCE and top and abs(fall - 1) <= FALL_TOLERANCE
        failures += not good
        print(f"{name:34} {error:9.1e} {exported:9.1e} {'same ' if top else 'OTHER'} {fall:10.3f}"
              f"{'' if good else '  FAILED'}", flush=True)
    print(f"{len(paths)} networks, {failures} failed")
    return 1 if failures else 0


sys.exit(main())
