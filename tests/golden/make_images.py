#!/usr/bin/python3
"""Makes the pictures and expected values of test_image.c, test_bad_images.c and test_dataset.c.

Oracles: Pillow 9.4 (decoding, resizing, colour), torchvision 0.14 (geometry), PyTorch 1.13
(resizing without antialias), and numpy with scipy.ndimage for Keras's affine transformation.
Usage: tests/golden/make_images.py (writes next to itself)
"""
import io
import math
import os
import struct
import zlib

import numpy as np
import scipy.ndimage
import torch
import torchvision.transforms as T
from PIL import Image, ImageEnhance, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
GOOD = os.path.join(HERE, "images")
BAD = os.path.join(HERE, "bad_images")
M64 = (1 << 64) - 1


# --- the library's random numbers (src/base/rng.c) ---------------------------------------------
def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


class Rng:
    GAMMA = 0x9E3779B97F4A7C15

    def __init__(self, seed, use, a, b):
        key = mix((seed + self.GAMMA) & M64)
        key = mix(key ^ ((use * self.GAMMA) & M64))
        key = mix(key ^ ((a + self.GAMMA) & M64))
        self.state = mix(key ^ ((b + self.GAMMA) & M64))

    def next(self):
        self.state = (self.state + self.GAMMA) & M64
        return mix(self.state)

    def uniform(self):
        return (self.next() >> 40) * 2.0 ** -24

    def below(self, count):
        limit = M64 - M64 % count
        value = self.next()
        while value >= limit:
            value = self.next()
        return value % count

    def range(self, low, high):
        low, high = np.float32(low), np.float32(high)
        return np.float32(low + np.float32(np.float32(high - low) * np.float32(self.uniform())))


# --- pictures ----------------------------------------------------------------------------------
def noise(width, height, seed=1):
    """The same bytes as noise_image() in the tests."""
    state, out = seed, bytearray()
    for _ in range(width * height * 3):
        state = (state * 6364136223846793005 + 1442695040888963407) & M64
        out.append(state >> 56)
    return np.frombuffer(bytes(out), np.uint8).reshape(height, width, 3)


def smooth(width, height):
    y, x = np.mgrid[0:height, 0:width].astype(float)
    rgb = np.stack([255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1),
                    127 + 100 * np.sin(x / 5 + y / 7)], -1)
    return rgb.astype(np.uint8)


def save(name, data, expected):
    with open(os.path.join(GOOD, name), "wb") as f:
        f.write(data)
    np.save(os.path.join(GOOD, name + ".npy"), np.ascontiguousarray(expected, dtype=np.uint8))


def on_white(image):
    rgba = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(white)


def pil(data):
    return on_white(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# --- PNG ---------------------------------------------------------------------------------------
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def ihdr(width, height, depth, colour, interlace=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def pack_rows(samples, depth):
    out = b""
    for y, row in enumerate(samples.reshape(samples.shape[0], -1)):
        if depth == 16:
            line = row.astype(">u2").tobytes()
        elif depth == 8:
            line = row.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(v), "0%db" % depth) for v in row)
            bits += "0" * (-len(bits) % 8)
            line = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
        if y % 2 and depth >= 8:  # every other row with the Sub filter
            step = samples.shape[2] * depth // 8
            line = b"\1" + bytes((line[i] - (line[i - step] if i >= step else 0)) & 255
                                 for i in range(len(line)))
        else:
            line = b"\0" + line
        out += line
    return out


PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2)]


def png(samples, depth, colour, extra=b"", interlace=0):
    height, width = samples.shape[:2]
    if interlace:
        raw = b"".join(pack_rows(samples[y::dy, x::dx], depth) for x, y, dx, dy in PASSES
                       if samples[y::dy, x::dx].size)
    else:
        raw = pack_rows(samples, depth)
    data = zlib.compress(raw, 9)
    half = len(data) // 2
    return (SIGNATURE + ihdr(width, height, depth, colour, interlace) + extra +
            chunk(b"IDAT", data[:half]) + chunk(b"IDAT", data[half:]) + chunk(b"IEND", b""))


def make_pngs():
    width, height = 21, 13
    rgb = noise(width, height)
    grey = rgb[..., :1]
    alpha = noise(width, height, 7)[..., :1]
    scale = {1: 255, 2: 85, 4: 17}
    for depth in (1, 2, 4):
        small = grey >> (8 - depth)
        save("grey%d.png" % depth, png(small, depth, 0), np.repeat(small * scale[depth], 3, 2))
    save("grey8.png", png(grey, 8, 0), np.repeat(grey, 3, 2))
    wide = grey.astype(int) * 256 + alpha
    save("grey16.png", png(wide, 16, 0), np.repeat(grey, 3, 2))
    save("rgb8.png", png(rgb, 8, 2), rgb)
    save("rgb8_interlaced.png", png(rgb, 8, 2, interlace=1), rgb)
    save("rgb16.png", png(rgb.astype(int) * 256 + 99, 16, 2), rgb)
    for name, samples, depth, colour in (
            ("grey_alpha.png", np.concatenate([grey, alpha], 2), 8, 4),
            ("rgba.png", np.concatenate([rgb, alpha], 2), 8, 6)):
        data = png(samples, depth, colour)
        save(name, data, pil(data))
    rgba16 = np.concatenate([rgb, alpha], 2).astype(int) * 256 + 17
    save("rgba16_interlaced.png", png(rgba16, 16, 6, interlace=1),
         pil(png(np.concatenate([rgb, alpha], 2), 8, 6)))
    key = chunk(b"tRNS", struct.pack(">HHH", *[int(v) for v in rgb[0, 0]]))
    data = png(rgb, 8, 2, extra=key)
    save("rgb_key.png", data, pil(data))
    palette = noise(16, 1, 3).reshape(16, 3)
    index = grey >> 4
    plte = chunk(b"PLTE", palette.tobytes())
    save("palette4.png", png(index, 4, 3, extra=plte), palette[index[..., 0]])
    data = png(index, 8, 3, extra=plte + chunk(b"tRNS", bytes(range(0, 200, 20))))
    save("palette8_alpha.png", data, pil(data))
    # Indices 10 to 15 have no colour: black, as libpng gives.
    short = np.concatenate([palette[:10], np.zeros((6, 3), np.uint8)])
    save("palette_short.png", png(index, 4, 3, extra=chunk(b"PLTE", palette[:10].tobytes())),
         short[index[..., 0]])
    exif = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    data = png(rgb, 8, 2, extra=chunk(b"eXIf", exif))
    save("exif6.png", data, np.rot90(rgb, -1))


# --- JPEG --------------------------------------------------------------------------------------
def segments(data):
    """(marker, offset, end) of every segment, entropy-coded data with its SOS."""
    at, out = 2, []
    while data[at + 1] != 0xD9:
        marker, end = data[at + 1], at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
        if marker == 0xDA:
            while data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7:
                end += 1
        out.append((marker, at, end))
        at = end
    return out


def exif_block(orientation):
    return (b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" +
            struct.pack("<HH", orientation, 0) + b"\0\0\0\0")


def restart_jpeg():
    """Two grey MCUs with a restart marker between: each a zero DC difference and an end of block
    in the standard tables (00 and 1010), padded with ones."""
    base = encoded(Image.new("L", (16, 8), 128), "JPEG", quality=75)
    sos = [s for s in segments(base) if s[0] == 0xDA][0]
    header_end = sos[1] + 2 + struct.unpack(">H", base[sos[1] + 2:sos[1] + 4])[0]
    dri = b"\xff\xdd\0\4\0\1"
    return base[:sos[1]] + dri + base[sos[1]:header_end] + b"\x2b\xff\xd0\x2b\xff\xd9"


def make_jpegs():
    image = Image.fromarray(smooth(45, 31))
    for name, picture, options in (
            ("rgb444.jpg", image, dict(quality=92, subsampling=0)),
            ("rgb420.jpg", image, dict(quality=90, subsampling=2)),
            ("rgb422.jpg", image, dict(quality=90, subsampling=1)),
            ("progressive.jpg", image, dict(quality=85, progressive=True)),
            ("grey.jpg", image.convert("L"), dict(quality=90)),
            ("cmyk.jpg", image.convert("CMYK"), dict(quality=95))):
        data = encoded(picture, "JPEG", **options)
        save(name, data, pil(data))
    small = Image.fromarray(smooth(24, 16))
    for orientation in range(1, 9):
        data = encoded(small, "JPEG", quality=90, exif=exif_block(orientation))
        save("exif%d.jpg" % orientation, data, pil(data))
    save("restart.jpg", restart_jpeg(), pil(restart_jpeg()))


# --- BMP ---------------------------------------------------------------------------------------
def bmp(width, height, depth, pixels, compression=0, masks=b"", palette=b"", header=40):
    offset = 14 + header + len(masks) * (header == 40) + len(palette)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, depth)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, depth, compression,
                           len(pixels), 2835, 2835, len(palette) // 4, 0)
        info += (masks + b"\0" * header)[:header - 40] if header > 40 else masks
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + info + palette + pixels


def rows(samples):
    """Bottom up, each row padded to four bytes."""
    return b"".join(r.tobytes() + b"\0" * (-len(r.tobytes()) % 4) for r in samples[::-1])


def make_bmps():
    width, height = 19, 11
    rgb = noise(width, height)
    for name, mode in (("rgb24.bmp", "RGB"), ("grey8.bmp", "L"), ("bits1.bmp", "1")):
        data = encoded(Image.fromarray(rgb).convert(mode), "BMP")
        save(name, data, pil(data))
    bgr = rgb[..., ::-1]
    save("top_down.bmp", bmp(width, -height, 24, rows(bgr[::-1])), rgb)
    save("core.bmp", bmp(width, height, 24, rows(bgr), header=12), rgb)
    extra = noise(width, height, 5)[..., :1]
    save("rgbx32.bmp", bmp(width, height, 32, rows(np.concatenate([bgr, extra], 2))), rgb)
    v = rgb.astype(int)
    word = ((v[..., 0] >> 3) << 11 | (v[..., 1] >> 2) << 5 | v[..., 2] >> 3).astype("<u2")
    expected = np.stack([(v[..., 0] >> 3) * 255 // 31, (v[..., 1] >> 2) * 255 // 63,
                         (v[..., 2] >> 3) * 255 // 31], -1)
    save("rgb565.bmp", bmp(width, height, 16, rows(word), 3,
                           struct.pack("<III", 0xF800, 0x07E0, 0x001F)), expected)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = bmp(width, height, 32, rows(np.concatenate([bgr, extra], 2)), 3, masks, header=108)
    save("rgba32.bmp", data, on_white(Image.fromarray(np.concatenate([rgb, extra], 2))))
    palette = noise(16, 1, 3).reshape(16, 3)
    index = rgb[..., 0] >> 4
    pairs = np.pad(index, ((0, 0), (0, 1)))
    table = np.concatenate([palette[:, ::-1], np.zeros((16, 1), np.uint8)], 1).tobytes()
    save("palette4.bmp", bmp(width, height, 4, rows((pairs[:, ::2] << 4 | pairs[:, 1::2])),
                             palette=table), palette[index])


# --- resizing and geometry: only checksums are kept ------------------------------------------------
FILTERS = [Image.NEAREST, Image.BILINEAR, Image.BICUBIC]


def crc(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def make_resize():
    rng = np.random.default_rng(2)
    lines = []
    for case in range(120):
        width, height, to_width, to_height = [int(v) for v in rng.integers(1, 90, 4)]
        box = (0.0, 0.0, float(width), float(height))
        if case % 3 == 1:  # any box
            x, y = np.sort(rng.random(2) * width), np.sort(rng.random(2) * height)
            box = tuple(float(np.float32(v)) for v in (x[0], y[0], x[1], y[1]))
        if case % 3 == 2 and width > 2 and height > 2:  # whole pixels, sometimes a mere crop
            box = (1.0, 1.0, float(width - 1), float(height - 1))
            if case % 2:
                to_width = width - 2
        picture = Image.fromarray(noise(width, height, case))
        for index, kind in enumerate(FILTERS):
            out = np.asarray(picture.resize((to_width, to_height), kind, box=box))
            lines.append("%d %d %d %.9g %.9g %.9g %.9g %d %d %d %u" %
                         ((width, height, case) + box + (index, to_width, to_height, crc(out))))
    with open(os.path.join(HERE, "resize.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


def efficientnet_crop(image, size):
    """tpu/models/official/efficientnet/preprocessing.py: _decode_and_center_crop."""
    width, height = image.size
    side = int(np.float32(size / (size + 32)) * np.float32(min(width, height)))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    return image.resize((size, size), Image.BICUBIC, box=(left, top, left + side, top + side))


def make_fit():
    rng = np.random.default_rng(3)
    lines = []
    for case in range(40):
        width, height = [int(v) for v in rng.integers(10, 400, 2)]
        size = [224, 96, 160, 33][case % 4]
        image = Image.fromarray(noise(width, height, case))
        resized = round(size * 256 / 224)
        torchvision = T.CenterCrop(size)(T.Resize(resized)(image))
        lines.append("torchvision %d %d %d %d %u" % (width, height, case, size, crc(torchvision)))
        lines.append("efficientnet-lite %d %d %d %d %u" %
                     (width, height, case, size, crc(efficientnet_crop(image, size))))
    with open(os.path.join(HERE, "fit.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")
    image = noise(25, 18, 9)
    tensor = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    for name, width, height in (("smaller", 10, 8), ("larger", 32, 24)):
        out = torch.nn.functional.interpolate(tensor, size=(height, width), mode="bilinear",
                                              align_corners=False)
        np.save(os.path.join(HERE, "stretch_%s.npy" % name),
                out[0].permute(1, 2, 0).numpy().astype(np.float32))


# --- augmentation --------------------------------------------------------------------------------
AUGMENT = 4  # TL_RNG_AUGMENT


def keras_affine(image, theta, tx, ty, shear, zx, zy):
    """keras.preprocessing.image.apply_affine_transform: angles in degrees, x counts rows."""
    theta, shear = np.deg2rad(theta), np.deg2rad(shear)
    rotation = np.array([[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0],
                         [0, 0, 1]])
    shift = np.array([[1, 0, tx], [0, 1, ty], [0, 0, 1]])
    shear = np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
    zoom = np.array([[zx, 0, 0], [0, zy, 0], [0, 0, 1]])
    matrix = rotation @ shift @ shear @ zoom
    h, w = image.shape[:2]
    ox, oy = h / 2 - 0.5, w / 2 - 0.5
    matrix = (np.array([[1, 0, ox], [0, 1, oy], [0, 0, 1]]) @ matrix @
              np.array([[1, 0, -ox], [0, 1, -oy], [0, 0, 1]]))
    return np.stack([scipy.ndimage.affine_transform(image[..., c].astype(float), matrix[:2, :2],
                                                    matrix[:2, 2], order=1, mode="nearest")
                     for c in range(3)], -1)


def reach(rng, value):
    return float(np.float32(value)) * (2 * rng.uniform() - 1)


def make_augment():
    image = smooth(28, 20)
    for case, (rotation, shift, shear, zoom) in enumerate(
            [(40, 0, 0, 0), (0, 0.2, 0, 0), (0, 0, 20, 0), (0, 0, 0, 0.2), (40, 0.2, 0.2, 0.2)]):
        rng = Rng(11, AUGMENT, 3, case)
        theta = reach(rng, rotation)
        tx, ty = reach(rng, shift) * image.shape[0], reach(rng, shift) * image.shape[1]
        angle = reach(rng, shear)
        zx, zy = 1 + reach(rng, zoom), 1 + reach(rng, zoom)
        out = keras_affine(image, theta, tx, ty, angle, zx, zy)
        np.save(os.path.join(HERE, "affine%d.npy" % case), out.astype(np.float32))
    lines = []
    picture = Image.fromarray(noise(31, 23, 4))
    for case in range(10):
        rng = Rng(11, AUGMENT, 3, case)
        out = ImageEnhance.Brightness(picture).enhance(float(rng.range(1 - np.float32(0.4),
                                                                       1 + np.float32(0.4))))
        out = ImageEnhance.Contrast(out).enhance(float(rng.range(1 - np.float32(0.3),
                                                                 1 + np.float32(0.3))))
        lines.append("brightness:0.4,contrast:0.3 %d %u" % (case, crc(out)))
    for case in range(10):
        rng = Rng(11, AUGMENT, 3, case)
        lines.append("crop:0.08 %d %u" % (case, crc(random_crop(picture, rng, (31, 23)))))
    with open(os.path.join(HERE, "augment.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


def random_crop(picture, rng, size):
    """torchvision's RandomResizedCrop.get_params with the library's random numbers."""
    width, height = picture.size
    smallest = float(np.float32(0.08))
    low, high = math.log(3 / 4), math.log(4 / 3)
    for _ in range(10):
        target = width * height * (smallest + (1 - smallest) * rng.uniform())
        aspect = math.exp(low + (high - low) * rng.uniform())
        w = math.floor(math.sqrt(target * aspect) + 0.5)
        h = math.floor(math.sqrt(target / aspect) + 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.below(width - w + 1), rng.below(height - h + 1)
            return picture.resize(size, Image.BILINEAR, box=(left, top, left + w, top + h))
    raise AssertionError("no box in ten attempts: choose another seed")


# --- bad pictures --------------------------------------------------------------------------------
def bad(name, data):
    with open(os.path.join(BAD, name), "wb") as f:
        f.write(data)


def bad_pngs():
    idat, end = chunk(b"IDAT", zlib.compress(b"\0" * 4)), chunk(b"IEND", b"")
    start = SIGNATURE
    bad("zero_width.png", start + ihdr(0, 5, 8, 2) + idat + end)
    bad("huge.png", start + ihdr(65535, 65535, 8, 2) + idat + end)
    bad("too_little_data.png", start + ihdr(30000, 3000, 8, 2) + idat + end)
    bomb = zlib.compress(b"\0" * (8 << 20), 9)
    bad("inflated.png", start + ihdr(1, 1, 8, 2) + chunk(b"IDAT", bomb) + end)
    bad("chunk_length.png", start + ihdr(1, 1, 8, 2) + struct.pack(">I", 1 << 31) + b"IDAT" + idat)
    bad("no_plte.png", start + ihdr(2, 2, 8, 3) + idat + end)
    bad("no_ihdr.png", start + idat + end)
    bad("no_idat.png", start + ihdr(1, 1, 8, 2) + end)
    good = bytearray(start + ihdr(1, 1, 8, 2) + idat + end)
    good[29] ^= 1
    bad("bad_crc.png", bytes(good))
    bad("few_rows.png", start + ihdr(1, 9, 8, 2) + idat + end)
    bad("bad_filter.png", start + ihdr(1, 1, 8, 2) + chunk(b"IDAT", zlib.compress(b"\7abc")) + end)
    bad("bad_zlib.png", start + ihdr(1, 1, 8, 2) + chunk(b"IDAT", b"\x78\x9c\xff\xff\xff\xff") + end)
    bad("depth.png", start + ihdr(1, 1, 7, 2) + idat + end)
    bad("critical.png", start + ihdr(1, 1, 8, 2) + chunk(b"ABCD", b"") + idat + end)
    bad("apple.png", start + chunk(b"CgBI", b"\x50\0\x20\6") + ihdr(1, 1, 8, 2) + idat + end)


def bad_jpegs():
    image = Image.fromarray(smooth(45, 31))
    data = encoded(image, "JPEG", quality=90)
    parts = {m: (a, b) for m, a, b in segments(data)}

    def patched(at, value):
        out = bytearray(data)
        out[at:at + len(value)] = value
        return bytes(out)

    sof = parts[0xC0][0]
    bad("twelve_bits.jpg", patched(sof + 4, b"\x0c"))
    bad("zero_height.jpg", patched(sof + 5, b"\0\0"))
    bad("huge.jpg", patched(sof + 5, b"\xff\xff\xff\xff"))
    bad("too_little_data.jpg", patched(sof + 5, struct.pack(">HH", 9000, 9000)))
    bad("arithmetic.jpg", patched(sof + 1, b"\xc9"))
    bad("lossless.jpg", patched(sof + 1, b"\xc3"))
    bad("components.jpg", patched(sof + 9, b"\x02"))
    bad("second_frame.jpg", data[:sof] + data[sof:parts[0xC0][1]] * 2 + data[parts[0xC0][1]:])
    dht = b"\xff\xc4" + struct.pack(">H", 2 + 17 + 255 * 2) + b"\x10" + b"\0" * 14 + b"\xff\xff"
    bad("huffman_overflow.jpg", data[:sof] + dht + b"\1" * 510 + data[sof:])
    dht = b"\xff\xc4" + struct.pack(">H", 2 + 17 + 3) + b"\x10\x03" + b"\0" * 15 + b"\1\2\3"
    bad("huffman_code.jpg", data[:sof] + dht + data[sof:])
    tables = [s for s in segments(data) if s[0] == 0xC4]
    bad("no_huffman.jpg", data[:tables[0][1]] + data[tables[-1][2]:])
    quant = [s for s in segments(data) if s[0] == 0xDB]
    bad("no_quantisation.jpg", data[:quant[0][1]] + data[quant[-1][2]:])
    sos = parts[0xDA][0]
    bad("no_scan.jpg", data[:sos] + b"\xff\xd9")
    bad("cut_scan.jpg", data[:sos + 18] + b"\xff\xd9")
    bad("no_restarts.jpg", data[:sos] + b"\xff\xdd\0\4\0\1" + data[sos:])
    progressive = encoded(image, "JPEG", quality=85, progressive=True)
    last = segments(progressive)[-1]
    again = progressive[last[1]:last[2]]
    bad("progressive_bomb.jpg", progressive[:last[2]] + again * 200 + b"\xff\xd9")
    cmyk = encoded(image.resize((9, 9)).convert("CMYK"), "JPEG")
    adobe = [s for s in segments(cmyk) if s[0] == 0xEE][0]
    bad("unknown_four.jpg", cmyk[:adobe[1]] + cmyk[adobe[2]:])
    bad("segment_length.jpg", data[:2] + b"\xff\xe1\0\1" + data[2:])


def extreme_jpegs():
    """Valid to the letter, except that their scans end early or their numbers overflow."""
    base = encoded(Image.new("L", (16, 8), 128), "JPEG", quality=75)
    scan = [s for s in segments(base) if s[0] == 0xDA][0][1] + 10
    # DC 00, four times AC 0/1 (00) with a one, AC 0/10 by its code of 16 bits: its ten bits of
    # value are missing, and the bit reader finds the marker only when it looks for them.
    bad("overread.jpg", base[:scan] + b"\x09\x27\xfe\x0f\xff\xd9")
    # Differences of 15 bits times a quantiser of 65535, in a DC table with the one symbol 15.
    dqt = b"\xff\xdb\0\x83\x10" + b"\xff\xff" * 64
    dht = b"\xff\xc4\0\x14\0\1" + b"\0" * 15 + b"\x0f"
    sos = scan - 10
    block = "0" + "1" * 15 + "1010"
    bits = (block * 2).ljust(48, "1")
    data = bytes(int(bits[i:i + 8], 2) for i in range(0, 48, 8)).replace(b"\xff", b"\xff\0")
    bad("overflow.jpg", base[:sos] + dqt + dht + base[sos:scan] + data + b"\xff\xd9")


def bad_bmps():
    pixels = b"\0" * 16
    bad("run_lengths.bmp", bmp(2, 2, 8, pixels, compression=1))
    bad("compression.bmp", bmp(2, 2, 24, pixels, compression=77))
    bad("depth.bmp", bmp(2, 2, 5, pixels))
    bad("huge.bmp", bmp(65535, 65535, 24, pixels))
    bad("zero.bmp", bmp(0, 2, 24, pixels))
    bad("lowest.bmp", bmp(2, -(1 << 31), 24, pixels))
    bad("masks.bmp", bmp(2, 2, 32, pixels, 3, struct.pack("<III", 0x5, 0xFF00, 0xFF0000)))
    bad("no_mask.bmp", bmp(2, 2, 32, pixels, 3, struct.pack("<III", 0, 0, 0)))
    bad("header.bmp", b"BM" + struct.pack("<IHHII", 60, 0, 0, 54, 13) + b"\0" * 50)
    data = bytearray(bmp(2, 2, 24, pixels))
    data[10:14] = struct.pack("<I", 20)
    bad("offset.bmp", bytes(data))
    data[10:14] = struct.pack("<I", 0xFFFFFFF0)
    bad("far_offset.bmp", bytes(data))


def make_bad():
    bad_pngs()
    bad_jpegs()
    extreme_jpegs()
    bad_bmps()
    bad("empty.png", b"")
    bad("text.jpg", b"This is no picture.\n")
    bad("webp.jpg", b"RIFF\x24\0\0\0WEBPVP8 ")
    bad("gif.png", b"GIF89a\1\0\1\0")


if __name__ == "__main__":
    for folder in (GOOD, BAD):
        os.makedirs(folder, exist_ok=True)
    make_pngs()
    make_jpegs()
    make_bmps()
    make_resize()
    make_fit()
    make_augment()
    make_bad()
