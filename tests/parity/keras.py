"""Holds the networks of keras.applications against libtl's answers from each file that Keras writes:
.keras, .weights.h5 and the .h5 of Keras 2. Weights are random, with realistic batch statistics. Needs
keras with a backend; where it is missing that is said and nothing is compared.

Run by `make parity`; by hand: TL_TEST_BUILD=build python3 tests/parity/keras.py [NETWORK...]
"""
import os
import subprocess
import sys
import tempfile

sys.path = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
try:
    import numpy as np
    import keras
except ImportError as missing:
    print(f"skipped: needs the Python module {missing.name}")
    sys.exit(0)

TL = os.path.join(os.environ.get("TL_TEST_BUILD", "build"), "tl")
TOLERANCE = 1e-4
NETWORKS = {"VGG16": 224, "VGG19": 224, "ResNet50": 224, "ResNet101": 224, "ResNet152": 224,
            "InceptionV3": 299, "MobileNet": 224, "MobileNetV2": 224, "DenseNet121": 224,
            "EfficientNetB0": 224}
KINDS = ["keras", "weights.h5", "h5"]


def randomise(model, rng):
    """He's initialisation, and batch statistics as a trained network has them."""
    for layer in (part for part in model._flatten_layers(include_self=False)):
        if not layer.weights:
            continue
        values = []
        for w in layer.weights:
            name, shape = w.name, tuple(w.shape)
            if "kernel" in name:
                fan_in = np.prod(shape[:2]) if "Depthwise" in type(layer).__name__ else np.prod(shape[:-1])
                values.append(rng.normal(0, (2 / fan_in) ** .5, shape))
            elif "gamma" in name or "variance" in name:
                values.append(rng.uniform(.5, 1.5, shape))
            elif name == "count":
                values.append(np.zeros(shape))
            else:
                values.append(rng.normal(0, .1, shape))
        layer.set_weights(values)


def run_tl(path, x, folder):
    np.save(folder + "/x.npy", x)
    done = subprocess.run([TL, "run", "--model", path, "--input", folder + "/x.npy", "--output",
                           folder + "/y.npy"], capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip()
    return np.load(folder + "/y.npy").reshape(len(x), -1), ""


def compare(name, size, folder):
    rng = np.random.default_rng(7)
    keras.backend.clear_session()
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    randomise(model, rng)
    x = rng.normal(size=(2, size, size, 3)).astype(np.float32)
    expected = np.asarray(model(x, training=False))
    good = True
    for kind in KINDS:
        path = f"{folder}/{name}.{kind}"
        model.save_weights(path) if kind == "weights.h5" else model.save(path)
        answer, error = run_tl(path, x, folder)
        os.remove(path)
        if answer is None and kind == "weights.h5" and "without the model's config" in error:
            print(f"{name:16} {kind:11} refused: its batch norms cannot be told without a config")
            continue
        if answer is None:
            print(f"{name:16} {kind:11} FAILED: {error}")
            good = False
            continue
        # The published networks end in a softmax, which a file of weights does not tell.
        difference = answer - expected
        if np.allclose(answer.sum(1), 1, atol=1e-3):
            shifted = np.exp(expected - expected.max(1, keepdims=True))
            difference = answer - shifted / shifted.sum(1, keepdims=True)
        worst = np.abs(difference).max() / np.abs(answer).max()
        good &= bool(worst <= TOLERANCE)
        print(f"{name:16} {kind:11} largest error {worst:.2g}", flush=True)
    return good


def main():
    names = sys.argv[1:] or [n for n in NETWORKS if n.lower().replace("_", "") in known()]
    with tempfile.TemporaryDirectory() as folder:
        results = [compare(name, NETWORKS[name], folder) for name in names]
    sys.exit(not all(results))


def known():
    """What `tl backbones` lists, in Keras's spelling."""
    listed = subprocess.run([TL, "backbones"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0].replace("_", "") for line in listed.splitlines() if line.strip()}


main()
