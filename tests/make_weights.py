#!/usr/bin/env python3
"""Writes the tensors of a safetensors file as frameworks would, with Python's standard library alone.

usage: make_weights.py KIND IN OUT [--drop NAME] [--add NAME] [--widen NAME]

KIND: safetensors sharded pth checkpoint h5 weights.h5 keras. OUT is a folder for `sharded`. What is dropped
is left out, what is added has two elements, what is widened has one more in its first dimension.
"""
import argparse
import collections
import io
import json
import math
import pathlib
import pickle
import struct
import sys
import types
import zipfile


def load(path):
    """Names to shape and bytes, in the file's order."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    return {name: (tuple(row["shape"]), data[8 + length:][slice(*row["data_offsets"])])
            for name, row in header.items() if name != "__metadata__"}


def spoil(tensors, options):
    if options.drop:
        del tensors[options.drop]
    if options.add:
        tensors[options.add] = ((2,), struct.pack("<2f", 1, 2))
    if options.widen:
        shape, data = tensors[options.widen]
        wide = (shape[0] + 1, *shape[1:])
        tensors[options.widen] = (wide, data + bytes(4 * math.prod(wide) - len(data)))


# --- safetensors ----------------------------------------------------------------------------------

def write_safetensors(tensors, path):
    header, at = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values()))


def write_sharded(tensors, folder):
    folder.mkdir(exist_ok=True)
    names, places = list(tensors), {}
    for i, part in enumerate((names[:len(names) // 2], names[len(names) // 2:])):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        write_safetensors({name: tensors[name] for name in part}, folder / file)
        places.update(dict.fromkeys(part, file))
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


# --- .pth: the pickle of a dict, whose storages are files of the archive ----------------------------

class Storage:
    def __init__(self, key, count):
        self.key, self.count = key, count


class Tensor:
    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape

    def __reduce__(self):
        strides = tuple(math.prod(self.shape[i + 1:]) for i in range(len(self.shape)))
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, 0, self.shape, strides, False, collections.OrderedDict())


def imitate_torch():
    """Modules by whose names the pickle knows PyTorch's functions."""
    for module, name in (("torch", "FloatStorage"), ("torch._utils", "_rebuild_tensor_v2")):
        sys.modules[module] = types.ModuleType(module)
        thing = type(name, (), {}) if name == "FloatStorage" else lambda *unused: None
        thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
        setattr(sys.modules[module], name, thing)


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            return "storage", sys.modules["torch"].FloatStorage, thing.key, "cpu", thing.count
        return None


def write_pth(tensors, path, wrap):
    imitate_torch()
    state = collections.OrderedDict((name, Tensor(Storage(str(i), math.prod(shape)), shape))
                                    for i, (name, (shape, _)) in enumerate(tensors.items()))
    out = io.BytesIO()
    Pickler(out, 2).dump(wrap(state))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", out.getvalue())
        for i, (_, data) in enumerate(tensors.values()):
            archive.writestr(f"weights/data/{i}", data)
        archive.writestr("weights/version", "3\n")


def as_checkpoint(state):
    """What training scripts save: weights of the model that was wrapped for several processors, and the
    optimiser's state beside them."""
    state = collections.OrderedDict(("module." + name, tensor) for name, tensor in state.items())
    return {"epoch": 7, "arch": "network", "best_acc1": 71.5, "state_dict": state,
            "optimizer": {"state": {0: {"momentum_buffer": next(iter(state.values()))}},
                          "param_groups": [{"lr": 0.1, "nesterov": True, "params": [0]}]}}


# --- Keras's HDF5: superblock 0, headers of version 1, links in messages ------------------------------

class Hdf5:
    def __init__(self):
        self.data = bytearray(96)

    def put(self, data):
        self.data += bytes(-len(self.data) % 8)
        self.data += data
        return len(self.data) - len(data)

    def header(self, messages):
        body = b"".join(struct.pack("<HHI", kind, len(data), 0) + data for kind, data in messages)
        return self.put(struct.pack("<HHIQ", 1, len(messages), 1, len(body)) + body)

    def dataset(self, shape, data):
        space = struct.pack("<BBxxxxxx", 1, len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        kind = bytes.fromhex("11201f00 04000000 00002000 17080017 7f000000 00000000")
        layout = struct.pack("<BBQQ", 3, 1, self.put(data), len(data))
        return self.header([(1, space), (3, kind), (8, padded(layout))])

    def group(self, members, attributes=()):
        links = [(6, padded(struct.pack("<BBB", 1, 0, len(name)) + name.encode() + struct.pack("<Q", at)))
                 for name, at in members.items()]
        info = padded(struct.pack("<BBQQ", 0, 0, 2**64 - 1, 2**64 - 1))
        return self.header([(2, info)] + [(0x0C, attribute(*row)) for row in attributes] + links)

    def finish(self, root):
        self.data[:24] = b"\x89HDF\r\n\x1a\n" + struct.pack("<IBBBBHHI", 0, 0, 8, 8, 0, 4, 16, 0)
        self.data[24:96] = struct.pack("<QQQQQQIIQQ", 0, 2**64 - 1, len(self.data), 2**64 - 1, 0, root, 0, 0, 0, 0)
        return bytes(self.data)


def padded(data):
    return data + bytes(-len(data) % 8)


def attribute(name, texts):
    """A list of texts, or one."""
    alone = isinstance(texts, str)
    encoded = [text.encode() for text in ([texts] if alone else texts)]
    size = max(len(text) for text in encoded) + 1
    kind = struct.pack("<II", 0x13, size)
    space = struct.pack("<BBxxxxxx", 1, 0 if alone else 1) + (b"" if alone else struct.pack("<Q", len(encoded)))
    body = struct.pack("<HHHH", 1, len(name) + 1, len(kind), len(space)) + padded(name.encode() + b"\0")
    return padded(body + padded(kind) + padded(space) + b"".join(text.ljust(size, b"\0") for text in encoded))


def layers_of(tensors):
    layers = collections.OrderedDict()
    for name, tensor in tensors.items():
        layer, variable = name.split("/")
        layers.setdefault(layer, {})[variable] = tensor
    return layers


def legacy_h5(tensors):
    file, groups = Hdf5(), {}
    for layer, variables in layers_of(tensors).items():
        inner = file.group({variable + ":0": file.dataset(*tensor) for variable, tensor in variables.items()})
        names = [f"{layer}/{variable}:0" for variable in variables]
        groups[layer] = file.group({layer: inner}, [("weight_names", names)])
    # An attribute holds 64 KiB at most; longer lists are cut.
    names = list(groups)
    lists = [(f"layer_names{i}", names[i * 50:i * 50 + 50]) for i in range((len(names) + 49) // 50)]
    return file.finish(file.group(groups, lists))


def class_of(variables):
    if "gamma" in variables or "moving_mean" in variables:
        return "BatchNormalization"
    return "Conv2D" if len(variables["kernel"][0]) == 4 or variables["kernel"][0][0] < 4 else "Dense"


def modern_h5(tensors):
    """The file, and the config of its layers."""
    file, groups, config, seen = Hdf5(), {}, [], collections.Counter()
    for layer, variables in layers_of(tensors).items():
        kind = class_of(variables)
        snake = {"BatchNormalization": "batch_normalization", "Conv2D": "conv2d", "Dense": "dense"}[kind]
        group = snake + (f"_{seen[snake]}" if seen[snake] else "")
        seen[snake] += 1
        members = {str(i): file.dataset(*tensor) for i, tensor in enumerate(variables.values())}
        groups[group] = file.group({"vars": file.group(members, [("name", layer)])})
        config.append({"class_name": kind, "config": {"name": layer, "use_bias": "bias" in variables}})
    return file.finish(file.group({"layers": file.group(groups)})), config


def write_keras(tensors, path):
    data, config = modern_h5(tensors)
    model = {"class_name": "Functional", "config": {"name": "network", "layers": config}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.9.0"}')
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", data)


WRITERS = {
    "safetensors": write_safetensors,
    "sharded": write_sharded,
    "pth": lambda tensors, path: write_pth(tensors, path, lambda state: state),
    "checkpoint": lambda tensors, path: write_pth(tensors, path, as_checkpoint),
    "h5": lambda tensors, path: path.write_bytes(legacy_h5(tensors)),
    "weights.h5": lambda tensors, path: path.write_bytes(modern_h5(tensors)[0]),
    "keras": write_keras,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=WRITERS)
    parser.add_argument("source")
    parser.add_argument("out", type=pathlib.Path)
    for option in ("--drop", "--add", "--widen"):
        parser.add_argument(option)
    options = parser.parse_args()
    tensors = load(options.source)
    spoil(tensors, options)
    WRITERS[options.kind](tensors, options.out)


main()
