"""Holds every architecture at full size, in every naming scheme and kind of file, against the framework
that the scheme comes from: random weights with realistic batch-norm statistics go through a file into
libtl. A row has the largest error of the logits relative to the largest logit, on a batch of the nominal
size and on an asymmetric picture of odd sizes.

For one network of each family (with --gradients for every one) it also has the error of the gradient of
all parameters, by its length, against the framework in float64; and beside it that of the framework in
single floats. Of ten million activations some lie so close to a ReLU's bend or a pooling's second largest
that rounding decides on which side, and with it on where a gradient goes. In a layer of n units rounding
by e moves some n e of them, each turns the gradient by about 1 / sqrt(n) of its length: sqrt(e) together,
1e-3 for each layer that does so, whatever the size. So an error above 1e-3 is good when over several
inputs it is no larger than twice the framework's own. `make check` holds small networks of each family,
none of whose activations lies there, to 1e-3 in every element.

The frameworks may belong to different interpreters; each part runs where its framework is:
TL_TEST_BUILD=build PYTHON tests/parity/architectures.py [--gradients] [NAME ...]
"""
import copy
import itertools
import os
import sys
import tempfile

import outcome

if not outcome.have("every architecture", "numpy"):
    outcome.finish()
import numpy as np
import libtl
from random_weights import randomize_keras, randomize_torch

TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3
# How many inputs decide where one is not within the tolerance.
INPUTS = 16

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
    "vgg13": ("vgg13", "vgg13", None),
    "vgg16": ("vgg16", "vgg16", "VGG16"),
    "vgg19": ("vgg19", "vgg19", "VGG19"),
    "vgg11_bn": ("vgg11_bn", "vgg11_bn", None),
    "vgg13_bn": ("vgg13_bn", "vgg13_bn", None),
    "vgg16_bn": ("vgg16_bn", "vgg16_bn", None),
    "vgg19_bn": ("vgg19_bn", "vgg19_bn", None),
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
    "convnext_tiny": ("convnext_tiny", "convnext_tiny", "ConvNeXtTiny"),
    "convnext_small": ("convnext_small", "convnext_small", "ConvNeXtSmall"),
    "convnext_base": ("convnext_base", "convnext_base", "ConvNeXtBase"),
}
SIZES = {"inception_v3": 299, "efficientnet_b1": 240, "efficientnet_b2": 260, "efficientnet_b3": 300,
         "efficientnet_lite1": 240, "efficientnet_lite2": 260, "efficientnet_lite3": 280,
         "efficientnet_lite4": 300}
# One of each family, and of timm those that are not torchvision's by other names.
WITH_GRADIENTS = {"resnet18", "resnet50", "resnext50_32x4d", "vgg11_bn", "vgg16", "inception_v3", "densenet121",
                  "squeezenet1_1", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
                  "efficientnet_lite0", "shufflenet_v2_x1_0", "convnext_tiny"}
TIMM_IS_TORCHVISION = ("resn", "vgg", "inception", "densenet")
LABELS = [3, 700]


def make_inputs(name):
    """A batch of the nominal size and an asymmetric picture of odd sizes; VGG takes one size only."""
    random, size = np.random.default_rng(0), SIZES.get(name, 224)
    shapes = [(len(LABELS), size, size, 3)]
    if not name.startswith("vgg"):
        shapes.append((1, size + 31, size - 46, 3))
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


# --- comparing ------------------------------------------------------------------------------------

def compare_logits(ours, theirs):
    """The largest error, and whether the five best are the same; they may only change places where the
    values are the same within the tolerance."""
    worst, same = 0, True
    for a, b in zip(ours, theirs):
        worst = max(worst, np.abs(a - b).max() / np.abs(b).max())
        top, found = np.argsort(-b, axis=1)[:, :5], np.argsort(-a, axis=1)[:, :5]
        gap = np.abs(np.take_along_axis(b, top, 1) - np.take_along_axis(b, found, 1)).max()
        same = same and gap <= TOLERANCE * np.abs(b).max()
    return worst, same


def permutations(values):
    """An array's other layouts, of a matrix also those of a flattened map in the other order."""
    for order in itertools.permutations(range(values.ndim)):
        yield lambda x, order=order: x.transpose(order)
    if values.ndim == 2 and values.shape[1] % 49 == 0:
        yield lambda x: x.reshape(len(x), -1, 49).transpose(0, 2, 1)
    if values.ndim == 2 and values.shape[0] % 49 == 0:
        yield lambda x: x.T


class Pairing:
    """Which of our parameters is which of theirs, and in which layout: known by their values, once for a model."""

    def __init__(self, ours, theirs):
        places = {np.sort(p, axis=None).tobytes(): i for i, p in enumerate(ours)}
        self.pairs = []
        for p in theirs:
            i = places[np.sort(p, axis=None).tobytes()]
            flat = ours[i].ravel()
            self.pairs.append((i, next(f for f in permutations(p) if np.array_equal(f(p).ravel(), flat))))

    def error(self, ours, theirs):
        """Of our gradients, against theirs."""
        return relative_error((layout(g), ours[i]) for (i, layout), g in zip(self.pairs, theirs))


def relative_error(pairs):
    """The length of the difference of all gradients relative to that of the exact ones, which come first."""
    squares = error_squares = 0
    for exact, found in pairs:
        exact, found = exact.ravel(), found.ravel()
        # In pieces that stay in a cache: VGG has a hundred million.
        for i in range(0, len(exact), 1 << 16):
            piece = exact[i:i + (1 << 16)]
            error = piece - found[i:i + (1 << 16)]
            squares += np.vdot(piece, piece)
            error_squares += np.vdot(error, error)
    return (error_squares / squares) ** 0.5


def check_gradients(path, x, gradients):
    """Our error against theirs in float64, their own in single floats, and whether the former is good."""
    single, double = gradients
    random, errors, pairing = np.random.default_rng(1), [], None
    with libtl.Model(path) as model:
        parameters = model.parameters()
    while not errors or (errors[0][0] > GRADIENT_TOLERANCE and len(errors) < INPUTS):
        exact = double(x)
        pairing = pairing or Pairing(parameters, double.parameters())
        with libtl.Model(path) as model:
            ours = pairing.error(model.gradients(x, LABELS, parameters)[1], exact)
        errors.append((ours, relative_error(zip(exact, single(x)))))
        x = random.normal(size=x.shape).astype(np.float32)
    ours, theirs = np.sqrt(np.mean(np.square(errors), axis=0))
    return ours, theirs, ours <= max(GRADIENT_TOLERANCE, 2 * theirs)


def report(name, scheme, kind, path, inputs, theirs, gradients):
    """One row; `gradients` gives theirs for an input, in single and in double, or is None where they are not
    compared."""
    row = f"{name:20} {scheme:12} {kind:11}"
    try:
        with libtl.Model(path) as model:
            ours = [model.run(x).reshape(len(x), -1) for x in inputs]
        worst, same = compare_logits(ours, theirs)
        good, text = worst <= TOLERANCE and same, ""
        if gradients:
            error, own, right = check_gradients(path, inputs[0], gradients)
            good, text = good and right, f"{error:9.2g} {own:8.2g}"
    except RuntimeError as problem:
        outcome.fail(row, problem)
        return
    outcome.row(f"{row} {worst:8.2g}  {'same ' if same else 'OTHER'} {text}", good)


# --- PyTorch --------------------------------------------------------------------------------------

class TorchGradients:
    """From an input to the gradients of all parameters, which stay valid until the next one."""

    def __init__(self, model, dtype):
        self.model, self.dtype = copy.deepcopy(model).to(dtype), dtype

    def __call__(self, x):
        import torch
        self.model.zero_grad()
        logits = self.model(torch.tensor(x.transpose(0, 3, 1, 2), dtype=self.dtype))
        torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS)).backward()
        return [p.grad.numpy() for p in self.used()]

    def used(self):
        """The auxiliary classifier of Inception has no gradient."""
        return [p for p in self.model.parameters() if p.grad is not None]

    def parameters(self):
        return [p.detach().float().numpy() for p in self.used()]


def torch_rows(folder, name, scheme, model, with_gradients, save):
    """`save` maps a kind of file to what writes it."""
    import torch
    inputs = make_inputs(name)
    tensors = [torch.tensor(x.transpose(0, 3, 1, 2)) for x in inputs]
    randomize_torch(model, tensors[0])
    with torch.no_grad():
        theirs = [model(x).numpy() for x in tensors]
    gradients = [TorchGradients(model, dtype) for dtype in (torch.float32, torch.float64)] if with_gradients else None
    for kind, write in save.items():
        path = os.path.join(folder, "weights." + kind)
        write(model, path)
        report(name, scheme, kind, path, inputs, theirs, gradients)
        os.remove(path)
        gradients = None


def run_torchvision(folder, names):
    if not outcome.have("torchvision's schemes", "torch", "torchvision"):
        return
    import torch
    import torchvision
    print(f"# torchvision {torchvision.__version__}, PyTorch {torch.__version__}")
    torch.manual_seed(0)
    save = {"pth": lambda model, path: torch.save(model.state_dict(), path),
            "pth-legacy": lambda model, path: torch.save(model.state_dict(), path,
                                                         _use_new_zipfile_serialization=False)}
    for name, with_gradients in names:
        if NETWORKS[name][0]:
            # transform_input is preprocessing in libtl.
            options = {"transform_input": False, "init_weights": False} if "inception" in name else {}
            model = getattr(torchvision.models, NETWORKS[name][0])(**options)
            torch_rows(folder, name, "torchvision", model, with_gradients, save)


def run_timm(folder, names):
    if not outcome.have("timm's schemes", "torch", "timm", "safetensors"):
        return
    import safetensors.torch
    import timm
    import torch
    print(f"# timm {timm.__version__}, PyTorch {torch.__version__}")
    torch.manual_seed(0)
    save = {"safetensors": lambda model, path: safetensors.torch.save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, path)}
    for name, with_gradients in names:
        if NETWORKS[name][1]:
            model = timm.create_model(NETWORKS[name][1])
            with_gradients = with_gradients and not name.startswith(TIMM_IS_TORCHVISION)
            torch_rows(folder, name, "timm", model, with_gradients, save)


# --- Keras ----------------------------------------------------------------------------------------

def make_keras(function):
    """The model, and the part of it that begins behind what EfficientNet does with its pixels, which is not
    part of libtl's network."""
    import keras
    options = {"include_preprocessing": False} if function.startswith(("MobileNetV3", "ConvNeXt")) else {}
    model = getattr(keras.applications, function)(weights=None, classifier_activation=None, **options)
    network = model
    if function.startswith("EfficientNet"):
        network = keras.Model(model.get_layer("stem_conv_pad").input, model.output)
    return model, network


def keras_in_double(function, model):
    """The same network in float64."""
    import keras
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    double, network = make_keras(function)
    double.set_weights(model.get_weights())
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    return network


class KerasGradients:
    """As TorchGradients."""

    def __init__(self, network):
        self.network = network

    def __call__(self, x):
        import tensorflow as tf
        with tf.GradientTape() as tape:
            logits = self.network(x.astype(self.network.compute_dtype), training=False)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(np.array(LABELS), logits))
        return [np.asarray(g) for g in tape.gradient(loss, [v.value for v in self.network.trainable_variables])]

    def parameters(self):
        return [np.asarray(v.value, np.float32) for v in self.network.trainable_variables]


def run_keras(folder, names):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not outcome.have("Keras's schemes", "keras", "h5py"):
        return
    import keras
    print(f"# Keras {keras.__version__} on {keras.backend.backend()}")
    for name, with_gradients in names:
        function = NETWORKS[name][2]
        if not function:
            continue
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        # Keras decides on its padding for the size that it is built for.
        inputs = make_inputs(name)[:1]
        model, network = make_keras(function)
        randomize_keras(model, network, inputs[0])
        theirs = [np.asarray(network(x, training=False)) for x in inputs]
        # Through TensorFlow, where it is Keras's backend; ConvNeXt's grouped convolutions take it more than ten
        # minutes a gradient.
        with_gradients = with_gradients and keras.backend.backend() == "tensorflow" and "convnext" not in name
        gradients = [KerasGradients(network), KerasGradients(keras_in_double(function, model))] \
            if with_gradients else None
        for kind in ("keras", "h5", "weights.h5"):
            path = os.path.join(folder, "network." + kind)
            model.save_weights(path) if kind == "weights.h5" else model.save(path)
            report(name, "keras", kind, path, inputs, theirs, gradients)
            os.remove(path)
            gradients = None


def main():
    known = [libtl.tl.tl_backbone_name(i).decode() for i in range(libtl.tl.tl_backbone_count())]
    if sorted(known) != sorted(NETWORKS):
        sys.exit(f"parity: this script and libtl differ in {set(known) ^ set(NETWORKS)}")
    wanted = [argument for argument in sys.argv[1:] if argument != "--gradients"]
    every = "--gradients" in sys.argv
    names = [(name, every or name in WITH_GRADIENTS)
             for name in NETWORKS if name in wanted or not wanted]
    print(f"{'network':20} {'scheme':12} {'file':11} {'logits':>8}  top 5 {'gradient':>9} {'its own':>8}   (relative "
          f"errors; tolerances {TOLERANCE:g} and {GRADIENT_TOLERANCE:g} or twice the framework's own)")
    with tempfile.TemporaryDirectory() as folder:
        for part in (run_torchvision, run_timm, run_keras):
            part(folder, names)
    outcome.finish()


main()
