#!/usr/bin/python3
"""Writes tests/golden/keras/: a small network in each form that Keras saves, files of h5py with every
kind of number and in HDF5's newer format, and the tensors in them, one a line: name, dtype, dimensions,
":" and the values.

Made with Keras 3.15 and h5py 3.14; run from the repository's root."""
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import h5py  # noqa: E402
import keras  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402

FOLDER = pathlib.Path("tests/golden/keras")
SEEDS = pathlib.Path("tests/fuzz/corpus/fuzz_weights")
DTYPES = ["float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64"]


def line(name, array):
    numbers = [float(x).hex() for x in np.asarray(array, np.float64).flatten()]
    return f"{name} {array.dtype} {' '.join(map(str, array.shape))} : {' '.join(numbers)}"


def write_list(name, lines):
    (FOLDER / (name + ".txt")).write_text("\n".join(lines) + "\n")


def network():
    layers = keras.layers
    inner = keras.Sequential([layers.Input((4, 4, 3)), layers.Conv2D(2, 1, use_bias=False, name="squeeze"),
                              layers.BatchNormalization(name="inner_bn")], name="inner")
    model = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(3, 3, 2, padding="same", name="stem"),
                              layers.BatchNormalization(scale=False, name="stem_bn"), inner,
                              layers.DepthwiseConv2D(3, name="depthwise"), layers.Flatten(),
                              layers.Dense(2, name="predictions")], name="small")
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def write_network():
    model = network()
    lines = []
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.Model):
            # libtl's names are those of the files of Keras 2.
            prefix = "depthwise_" if layer.name == "depthwise" else ""
            for v in layer.weights:
                name = v.name.replace("kernel", prefix + "kernel")
                lines.append(line(f"{layer.name}/{name}", np.asarray(v.value)))
    model.save(FOLDER / "small.keras")
    model.save(FOLDER / "small.h5")
    model.save_weights(FOLDER / "small.weights.h5")
    write_list("small", lines)


def values(dtype):
    return np.array([0, 1, 3, 5, 100, 127] if "uint" in dtype else [0, 1, -3, 5, -100, 127], dtype).reshape(2, 3)


def write_kinds():
    """Keras 2's form, with its list of layers cut in two."""
    lines = []
    with h5py.File(FOLDER / "kinds.h5", "w") as file:
        file.attrs["layer_names0"] = np.array([dtype.encode() for dtype in DTYPES[:5]])
        file.attrs["layer_names1"] = np.array([dtype.encode() for dtype in DTYPES[5:]])
        for dtype in DTYPES:
            group = file.create_group(dtype)
            group.attrs["weight_names"] = np.array([f"{dtype}/kernel:0".encode()])
            group.create_group(dtype)["kernel:0"] = values(dtype)
            lines.append(line(f"{dtype}/kernel", values(dtype)))
        file[DTYPES[0]][DTYPES[0]]["unused"] = np.zeros(3, ">f4")
    write_list("kinds", lines)


# How a dataset may be stored: shape, dtype and the options of h5py.
CHUNKED = {"plain": ((7, 5), "float32", {"chunks": (4, 2)}),
           "resizable": ((6,), "float32", {"maxshape": (None,)}),
           "gzip": ((3, 3, 4, 5), "float32", {"chunks": (2, 3, 4, 3), "compression": "gzip"}),
           "sum": ((5, 3), "int8", {"chunks": (3, 3), "fletcher32": True}),
           "every": ((17, 7), "float64", {"chunks": (8, 7), "compression": 9, "shuffle": True, "fletcher32": True}),
           "half": ((9, 10), "float16", {"chunks": (9, 10), "compression": "gzip", "shuffle": True}),
           "many": ((100, 1), "uint8", {"chunks": (1, 1)}),
           "none": ((0, 3), "float32", {"maxshape": (None, 3), "compression": "gzip"})}


def write_chunks():
    """B-trees of one and of several levels, chunks over the edge, every filter; one dataset that is refused,
    but is no weight."""
    lines, random = [], np.random.default_rng(2)
    with h5py.File(FOLDER / "chunks.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in CHUNKED]
        for name, (shape, dtype, options) in CHUNKED.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
            array = (8 * random.normal(size=shape)).round().astype(dtype)
            group.create_group(name).create_dataset("kernel:0", data=array, **options)
            lines.append(line(f"{name}/kernel", array))
        file["plain"].create_dataset("unused", data=np.ones(100), compression="lzf")
    write_list("chunks", lines)


def write_latest():
    """Superblock 3 and object headers of version 2; texts in the global heap; bfloat16 as Keras marks it."""
    lines = []
    with h5py.File(FOLDER / "latest.weights.h5", "w", libver="latest") as file:
        for i, dtype in enumerate(["float32", "bfloat16"]):
            variables = file.create_group(f"layers/dense_{i}/vars")
            variables.attrs["name"] = f"{dtype}_layer"
            array = values("float32").astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
            if dtype == "bfloat16":
                variables.create_dataset("0", data=array.view("V2"))
                variables["0"].attrs["dtype"] = "bfloat16"
            else:
                variables["0"] = array
            lines.append(line(f"{dtype}_layer/kernel", array))
    write_list("latest", lines)


def write_seeds():
    """For tests/fuzz/fuzz_weights.c: HDF5 in both forms, and the parts of an archive."""
    latest = (FOLDER / "latest.weights.h5").read_bytes()
    layers = [{"class_name": "Dense", "config": {"name": name, "use_bias": False}} for name in ("a", "b")]
    config = {"class_name": "Functional", "config": {"layers": layers}}
    (SEEDS / "latest_h5").write_bytes(latest)
    (SEEDS / "archive_keras").write_bytes(b"k" + json.dumps(config).encode() + b"\0" + latest)
    with h5py.File(SEEDS / "legacy_h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("a").attrs["weight_names"] = [b"a/kernel:0"]
        file["a"].create_group("a")["kernel:0"] = values("float32")


    with h5py.File(SEEDS / "chunks_h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file.create_group("a").attrs["weight_names"] = [b"a/kernel:0"]
        file["a"].create_dataset("a/kernel:0", data=values("float32"), chunks=(2, 2), compression="gzip",
                                 shuffle=True, fletcher32=True)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_network()
    write_kinds()
    write_chunks()
    write_latest()
    write_seeds()


main()
