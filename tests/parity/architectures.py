"""Holds every architecture at full size, in every naming scheme, against the framework that the scheme
comes from: random weights with realistic batch-norm statistics go through a weights file into libtl.
One row each, with the largest error of the logits relative to the largest logit.

The frameworks may belong to different interpreters; each part runs where its framework is:
TL_TEST_BUILD=build PYTHON tests/parity/architectures.py [NAME ...]
"""
import ctypes
import json
import os
import re
import struct
import sys
import tempfile

# The scripts beside this one are no modules: one of them is called keras.py.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path = [folder for folder in sys.path if os.path.abspath(folder or ".") != HERE]

try:
    import numpy as np
except ImportError:
    print("SKIPPED: needs the Python module numpy")
    sys.exit(0)

BUILD = os.environ.get("TL_TEST_BUILD", "build")
TOLERANCE = 1e-4

# Ours: torchvision's, timm's and Keras's function, where it has one.
NETWORKS = {
    "resnet18": ("resnet18", "resnet18", None),
    "resnet34": ("resnet34", "resnet34", None),
    "resnet50": ("resnet50", "resnet50", "ResNet50"),
    "resnet101": ("resnet101", "resnet101", "ResNet101"),
    "resnet152": ("resnet152", "resnet152", "ResNet152"),
    "resnext50_32x4d": ("resnext50_32x4d", "resnext50_32x4d", None),
    "resnext101_32x8d": ("resnext101_32x8d", "resnext101_32x8d", None),
    "wide_resnet50_2": ("wide_resnet50_2", "wide_resnet50_2", None),
    "wide_resnet101_2": ("wide_resnet101_2", "wide_resnet101_2", None),
    "vgg11": ("vgg11", "vgg11", None),
    "vgg13": ("vgg13", None, None),
    "vgg16": ("vgg16", None, "VGG16"),
    "vgg19": ("vgg19", None, "VGG19"),
    "vgg11_bn": ("vgg11_bn", None, None),
    "vgg13_bn": ("vgg13_bn", None, None),
    "vgg16_bn": ("vgg16_bn", "vgg16_bn", None),
    "vgg19_bn": ("vgg19_bn", None, None),
    "inception_v3": ("inception_v3", "inception_v3", "InceptionV3"),
    "densenet121": ("densenet121", "densenet121", "DenseNet121"),
    "densenet169": ("densenet169", "densenet169", "DenseNet169"),
    "densenet201": ("densenet201", "densenet201", "DenseNet201"),
    "squeezenet1_0": ("squeezenet1_0", None, None),
    "squeezenet1_1": ("squeezenet1_1", None, None),
    "mobilenet_v1": (None, None, "MobileNet"),
    "mobilenet_v2": ("mobilenet_v2", "mobilenetv2_100", "MobileNetV2"),
    "mobilenet_v3_large": ("mobilenet_v3_large", "mobilenetv3_large_100", "MobileNetV3Large"),
    "mobilenet_v3_small": ("mobilenet_v3_small", "mobilenetv3_small_100", "MobileNetV3Small"),
    "efficientnet_b0": ("efficientnet_b0", "efficientnet_b0", "EfficientNetB0"),
    "efficientnet_b1": ("efficientnet_b1", "efficientnet_b1", "EfficientNetB1"),
    "efficientnet_b2": ("efficientnet_b2", "efficientnet_b2", "EfficientNetB2"),
    "efficientnet_b3": ("efficientnet_b3", "efficientnet_b3", "EfficientNetB3"),
    "efficientnet_lite0": (None, "tf_efficientnet_lite0", None),
    "efficientnet_lite1": (None, "tf_efficientnet_lite1", None),
    "efficientnet_lite2": (None, "tf_efficientnet_lite2", None),
    "efficientnet_lite3": (None, "tf_efficientnet_lite3", None),
    "efficientnet_lite4": (None, "tf_efficientnet_lite4", None),
    "shufflenet_v2_x0_5": ("shufflenet_v2_x0_5", None, None),
    "shufflenet_v2_x1_0": ("shufflenet_v2_x1_0", None, None),
    "shufflenet_v2_x1_5": ("shufflenet_v2_x1_5", None, None),
    "shufflenet_v2_x2_0": ("shufflenet_v2_x2_0", None, None),
    "convnext_tiny": ("convnext_tiny", "convnext_tiny", None),
    "convnext_small": ("convnext_small", "convnext_small", None),
    "convnext_base": ("convnext_base", "convnext_base", None),
}

tl = ctypes.CDLL(os.path.join(BUILD, "libtl.so"))
tl.tl_last_error.restype = ctypes.c_char_p
tl.tl_backbone_name.restype = ctypes.c_char_p
tl.tl_tensor_const_data.restype = ctypes.POINTER(ctypes.c_float)
tl.tl_tensor_count.restype = ctypes.c_int64


def check(status):
    if status:
        raise RuntimeError("libtl: " + tl.tl_last_error().decode())


def run_libtl(context, path, inputs):
    """The logits for each N H W C input of the network in a weights file."""
    model, answers = ctypes.c_void_p(), []
    check(tl.tl_model_load(context, path.encode(), ctypes.byref(model)))
    for x in inputs:
        x = np.ascontiguousarray(x)
        tensor, out = ctypes.c_void_p(), ctypes.c_void_p()
        check(tl.tl_tensor_wrap(context, 0, 4, (ctypes.c_int64 * 4)(*x.shape),
                                x.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(x.nbytes),
                                ctypes.byref(tensor)))
        check(tl.tl_model_run(model, tensor, ctypes.byref(out)))
        count = tl.tl_tensor_count(out)
        answer = np.ctypeslib.as_array(tl.tl_tensor_const_data(out), (count,))
        answers.append(answer.reshape(len(x), -1).copy())
        tl.tl_tensor_free(out)
        tl.tl_tensor_free(tensor)
    tl.tl_model_free(model)
    return answers


def make_inputs(name, size):
    """A batch of the nominal size and an asymmetric picture of odd sizes; VGG takes one size only."""
    random = np.random.default_rng(0)
    shapes = [(2, size, size, 3)]
    if not name.startswith("vgg"):
        shapes.append((1, size + 31, size - 46, 3))
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


def report(name, scheme, ours, theirs):
    worst, same = 0, True
    for a, b in zip(ours, theirs):
        worst = max(worst, np.abs(a - b).max() / np.abs(b).max())
        # Ranks may only differ where the values are the same within the tolerance.
        top = np.argsort(-b, axis=1)[:, :5]
        found = np.argsort(-a, axis=1)[:, :5]
        gap = np.abs(np.take_along_axis(b, top, 1) - np.take_along_axis(b, found, 1)).max()
        same = same and gap <= TOLERANCE * np.abs(b).max()
    good = worst <= TOLERANCE and same
    print(f"{name:22} {scheme:12} {worst:8.2g}  top-5 {'same' if same else 'DIFFERENT'}"
          f"{'' if good else '  FAILED'}", flush=True)
    return good


# --- PyTorch --------------------------------------------------------------------------------------

def randomize_torch(model, x):
    """Parameters of trained size, statistics from a batch. Branches are weaker than what they are added to
    and most units are open, as in trained networks: else a deep one amplifies rounding errors so much that
    PyTorch itself is 1e-4 away from its answers in float64."""
    import torch
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.3, 0.7)
            torch.nn.init.normal_(module.bias, 0.3, 0.1)
            module.momentum = 1.0
    for module in model.modules():
        if hasattr(module, "downsample") and hasattr(module, "bn2"):
            torch.nn.init.uniform_(getattr(module, "bn3", module.bn2).weight, 0.1, 0.3)
    for key, parameter in model.named_parameters():
        if key.endswith("layer_scale") or key.endswith("gamma"):
            torch.nn.init.uniform_(parameter, 0.1, 0.5)
        elif key.endswith("bias") and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def torch_row(context, folder, name, scheme, model, size):
    import torch
    inputs = make_inputs(name, size)
    tensors = [torch.tensor(x.transpose(0, 3, 1, 2)) for x in inputs]
    randomize_torch(model, tensors[0])
    with torch.no_grad():
        theirs = [model(x).numpy() for x in tensors]
    path = os.path.join(folder, "weights.pth")
    torch.save(model.state_dict(), path)
    return report(name, scheme, run_libtl(context, path, inputs), theirs)


def input_size(name):
    sizes = {"inception_v3": 299, "efficientnet_b1": 240, "efficientnet_b2": 260, "efficientnet_b3": 300,
             "efficientnet_lite1": 240, "efficientnet_lite2": 260, "efficientnet_lite3": 280,
             "efficientnet_lite4": 300}
    return sizes.get(name, 224)


def run_torchvision(context, folder, names):
    try:
        import torch
        import torchvision.models as models
    except ImportError as error:
        print(f"SKIPPED torchvision's schemes: {error}")
        return True
    torch.manual_seed(0)
    good = True
    for name in names:
        if NETWORKS[name][0]:
            # transform_input is preprocessing in libtl.
            options = {"transform_input": False, "init_weights": False} if "inception" in name else {}
            model = getattr(models, NETWORKS[name][0])(**options)
            good = torch_row(context, folder, name, "torchvision", model, input_size(name)) and good
    return good


def run_timm(context, folder, names):
    try:
        import timm
        import torch
    except ImportError as error:
        print(f"SKIPPED timm's schemes: {error}")
        return True
    torch.manual_seed(0)
    good = True
    for name in names:
        if NETWORKS[name][1]:
            model = timm.create_model(NETWORKS[name][1])
            good = torch_row(context, folder, name, "timm", model, input_size(name)) and good
    return good


# --- Keras ----------------------------------------------------------------------------------------

def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def keras_name(variable):
    """LAYER/VARIABLE."""
    return "/".join(variable.path.split("/")[-2:])


def make_keras(name, function, x):
    import keras
    options = {"include_preprocessing": False} if function.startswith("MobileNetV3") else {}
    model = getattr(keras.applications, function)(weights=None, classifier_activation=None, **options)
    if function.startswith("EfficientNet"):  # its preprocessing is not part of libtl's network
        model = keras.Model(model.get_layer("stem_conv_pad").input, model.output)
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    for variable in model.trainable_variables:
        if variable.path.endswith("_3_bn/gamma"):
            variable.assign(random.uniform(0.1, 0.3, variable.shape))
        elif variable.path.endswith("gamma"):
            variable.assign(random.uniform(0.3, 0.7, variable.shape))
        elif variable.path.endswith("beta"):
            variable.assign(random.normal(0.3, 0.1, variable.shape))
        elif variable.path.endswith("bias"):
            variable.assign(random.normal(0, 0.1, variable.shape))
    model(x, training=True)
    return model


def run_keras(context, folder, names):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
    except ImportError as error:
        print(f"SKIPPED Keras's schemes: {error}")
        return True
    good = True
    for name in names:
        function = NETWORKS[name][2]
        if not function:
            continue
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        # Keras decides on its padding for the size that it is built for.
        inputs = make_inputs(name, input_size(name))[:1]
        model = make_keras(name, function, inputs[0])
        theirs = [np.asarray(model(x, training=False)) for x in inputs]
        path = os.path.join(folder, "weights.safetensors")
        write_safetensors(path, {keras_name(v): np.asarray(v.value) for v in model.variables
                                 if not re.search("seed", v.path)})
        good = report(name, "keras", run_libtl(context, path, inputs), theirs) and good
    return good


def main():
    known = [tl.tl_backbone_name(i).decode() for i in range(tl.tl_backbone_count())]
    if sorted(known) != sorted(NETWORKS):
        sys.exit(f"parity: this script and libtl differ in {set(known) ^ set(NETWORKS)}")
    names = sys.argv[1:] or list(NETWORKS)
    context = ctypes.c_void_p()
    check(tl.tl_context_create(None, ctypes.byref(context)))
    with tempfile.TemporaryDirectory() as folder:
        good = all([part(context, folder, names) for part in (run_torchvision, run_timm, run_keras)])
    tl.tl_context_free(context)
    if not good:
        sys.exit("parity: an answer differs")


main()
