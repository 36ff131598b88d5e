"""Holds what the presets make of pictures against the frameworks that they are called after: torchvision's
transforms and Pillow for PyTorch's, what image_dataset_from_directory() does and preprocess_input() for
Keras's. Pictures of
odd, asymmetric, small and large sizes; a row has the largest difference in steps of a pixel's 256 values.

Run by `make parity`; by hand: TL_TEST_BUILD=build PYTHON tests/parity/preprocessing.py
"""
import os
import tempfile

import outcome

if not outcome.have("preprocessing", "numpy", "PIL"):
    outcome.finish()
import numpy as np
from PIL import Image
import libtl

SIZE = 224
# Width and height.
PICTURES = [(224, 224), (640, 480), (481, 1023), (1500, 333), (257, 255), (97, 61), (31, 400)]
# Bit-equal where Pillow shrinks the width first; newer ones begin with the height of tall pictures, and
# round in between. Keras does not round at all.
TOLERANCE = 3.0


def make_picture(width, height, path):
    """Smooth, with edges and noise."""
    random = np.random.default_rng(width)
    y, x = np.mgrid[0:height, 0:width]
    base = 128 + 80 * np.sin(x[..., None] / [7, 13, 29]) * np.cos(y[..., None] / [11, 5, 17])
    base[height // 3:height // 2] += 60
    pixels = np.clip(base + random.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def ours(preset, path):
    with libtl.Model(empty=(SIZE, SIZE, 3)) as model:
        model.call("tl_model_add", b"flatten", b"all", b"", None, 0, libtl.seed(0))
        model.call("tl_model_set_head", b"flatten", b"", b"softmax", 2, None, libtl.seed(0))
        model.call("tl_model_set_preprocess", preset.encode())
        return model.features(path).reshape(SIZE, SIZE, 3)


def torchvision_presets():
    from torchvision.transforms import functional as f
    from torchvision.transforms import InterpolationMode

    def transform(mode, mean, deviation):
        def apply(path):
            image = f.resize(Image.open(path), 256, interpolation=mode)
            x = f.to_tensor(f.center_crop(image, SIZE))
            return f.normalize(x, mean, deviation).numpy().transpose(1, 2, 0), 255 * np.array(deviation)
        return apply

    bilinear, bicubic = InterpolationMode.BILINEAR, InterpolationMode.BICUBIC
    imagenet, half = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ([0.5] * 3, [0.5] * 3)
    return {"torchvision": transform(bilinear, *imagenet), "torchvision-bicubic": transform(bicubic, *imagenet),
            "torchvision-inception": transform(bilinear, *half),
            "torchvision-inception-bicubic": transform(bicubic, *half)}


def pillow_presets():
    def lite(path):
        image = Image.open(path)
        # preprocessing.py of the TPU reference
        side = int(SIZE / (SIZE + 32) * min(image.size))
        left, top = (image.width - side + 1) // 2, (image.height - side + 1) // 2
        square = image.resize((SIZE, SIZE), Image.BICUBIC, (left, top, left + side, top + side))
        return (np.asarray(square, np.float32) - 127) / 128, np.full(3, 128)
    return {"efficientnet-lite": lite}


def keras_presets():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    from keras.applications import densenet, mobilenet_v2, resnet50

    def preset(module, scale):
        def apply(path):
            pixels = keras.utils.img_to_array(keras.utils.load_img(path))
            # As image_dataset_from_directory() does it.
            x = np.asarray(keras.ops.image.resize(pixels, (SIZE, SIZE), interpolation="bilinear"))
            return module.preprocess_input(x.copy()), np.array(scale)
        return apply
    return {"keras-caffe": preset(resnet50, [1] * 3), "keras-tf": preset(mobilenet_v2, [127.5] * 3),
            "keras-torch": preset(densenet, 255 * np.array([0.229, 0.224, 0.225]))}


def compare(preset, apply, folder):
    worst = 0
    for width, height in PICTURES:
        path = os.path.join(folder, f"{width}x{height}.png")
        theirs, scale = apply(path)
        worst = max(worst, (np.abs(ours(preset, path) - theirs) * scale).max())
    outcome.row(f"{preset:30} {worst:8.2g} of 256 steps, {len(PICTURES)} pictures", worst <= TOLERANCE + 1e-3)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for width, height in PICTURES:
            make_picture(width, height, os.path.join(folder, f"{width}x{height}.png"))
        for presets, module in ((torchvision_presets, "torchvision"), (pillow_presets, "PIL"), (keras_presets, "keras")):
            if outcome.have(f"the presets of {module}", module):
                for preset, apply in presets().items():
                    compare(preset, apply, folder)
    outcome.finish()


main()
