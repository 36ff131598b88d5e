#!/usr/bin/env python3
"""Writes test inputs with Python's standard library alone.

usage: make_inputs.py pictures FOLDER COUNT [SIZE]   three class folders of COUNT PNG pictures each
       make_inputs.py npy FILE SEED D0 D1 ...         a float32 array of random numbers
       make_inputs.py transpose IN OUT                [N H W C] to [N C H W]
       make_inputs.py shape FILE                      prints an array's shape
       make_inputs.py difference A B                  prints the largest difference
"""
import array
import ast
import pathlib
import random
import struct
import sys
import zlib


def png(width, height, pixel):
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def pictures(folder, count, size=40):
    """Classes differ by their strongest channel; the noise and the stripes are no help."""
    rng = random.Random(1)
    for channel, name in enumerate(("blue", "green", "red")):
        target = pathlib.Path(folder) / name
        target.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            period = rng.randrange(3, 9)

            def pixel(x, y):
                value = [rng.randrange(40, 110) + (30 if x // period % 2 else 0) for _ in range(3)]
                value[2 - channel] += 110
                return value

            (target / f"{i:03d}.png").write_bytes(png(size, size + i % 5, pixel))


def save(path, shape, values):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        f.write(array.array("f", values).tobytes())


def load(path):
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    (length,) = struct.unpack("<H", data[8:10])
    header = ast.literal_eval(data[10:10 + length].decode())
    assert header["descr"] == "<f4" and not header["fortran_order"], header
    values = array.array("f")
    values.frombytes(data[10 + length:])
    return header["shape"], values


def transpose(source, target):
    (n, h, w, c), values = load(source)
    moved = [values[((i * h + y) * w + x) * c + k]
             for i in range(n) for k in range(c) for y in range(h) for x in range(w)]
    save(target, (n, c, h, w), moved)


def main():
    job, *rest = sys.argv[1:]
    if job == "pictures":
        pictures(rest[0], *map(int, rest[1:]))
    elif job == "npy":
        rng = random.Random(int(rest[1]))
        shape = [int(d) for d in rest[2:]]
        count = 1
        for d in shape:
            count *= d
        save(rest[0], shape, [rng.uniform(-1, 1) for _ in range(count)])
    elif job == "transpose":
        transpose(*rest)
    elif job == "shape":
        print(*load(rest[0])[0])
    elif job == "difference":
        (a_shape, a), (b_shape, b) = load(rest[0]), load(rest[1])
        assert a_shape == b_shape, (a_shape, b_shape)
        print(max(abs(x - y) for x, y in zip(a, b)))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
