#!/usr/bin/python3
"""Writes tests/golden/pth/: small .pth files in both of torch.save()'s forms, and the tensors that
torch.load() gives, one a line: name, dtype, dimensions, ":" and the values. Also the seeds of
tests/fuzz/fuzz_weights.c: what the files consist of, behind the letter that says how to wrap it.

Made with PyTorch 1.13, script_* with 2.15; run from the repository's root."""
import argparse
import collections
import pathlib
import pickle
import zipfile

import numpy
import torch

FOLDER = pathlib.Path("tests/golden/pth")
SEEDS = pathlib.Path("tests/fuzz/corpus/fuzz_weights")
LEGACY_PREAMBLE = 3  # pickles


def values(*shape):
    count = 1
    for size in shape:
        count *= size
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, generator=generator).reshape(shape)


def all_kinds():
    state = collections.OrderedDict()
    state["f32"] = values(2, 3, 2)
    state["f64"] = values(3).double()
    state["f16"] = torch.tensor([0.0, -0.0, 1.5, 65504.0, 6e-8, -2.25]).half()
    state["bf16"] = values(5).bfloat16()
    state["i8"] = torch.tensor([-128, 0, 127], dtype=torch.int8)
    state["u8"] = torch.tensor([0, 255], dtype=torch.uint8)
    state["i16"] = torch.tensor([-300, 300], dtype=torch.int16)
    state["i32"] = torch.tensor([-70000, 70000], dtype=torch.int32)
    state["i64"] = torch.tensor(12345)
    state["bool"] = torch.tensor([True, False, True])
    state["parameter"] = torch.nn.Parameter(values(4))
    state["transposed"] = values(3, 4).t()
    state["channels_last"] = values(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    base = values(40)
    state["middle"] = base[7:19].reshape(3, 4)
    state["every_third"] = base[1::3]
    state["expanded"] = values(3, 1).expand(3, 4)
    state["empty"] = torch.zeros(0, 5)
    state["one"] = torch.ones(1, 1, 1)
    return state


def checkpoint():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(values(*parameter.shape))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(values(4, 3)).sum().backward()
    optimizer.step()
    wrapped = torch.nn.DataParallel(model)
    average = {name: tensor * 0 for name, tensor in model.state_dict().items()}
    return {
        "epoch": 3,
        "best": torch.tensor(0.5),
        "arch": "tiny",
        "scale": 0.25,
        "big": 1 << 80,
        "names": ["a", "b", None, True, (1, 2, 3, 4)],
        "sizes": torch.Size([1, 2]),
        "tags": {"x"},
        "dtype": torch.float32,
        "optimizer": optimizer.state_dict(),
        "state_dict_ema": average,
        "state_dict": wrapped.state_dict(),
    }


def script_checkpoint():
    """What torchvision's and timm's training scripts save, but for the weights that were not averaged."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(values(*parameter.shape))
    return {
        "model_ema": torch.optim.swa_utils.AveragedModel(model).state_dict(),
        "args": argparse.Namespace(lr=0.1, data=pathlib.Path("pictures")),
        "metric": numpy.float64(76.5),
    }


def write(expected, name, content, **options):
    path = FOLDER / (name + ".pth")
    torch.save(content, path, **options)
    loaded = torch.load(path, weights_only=False)
    for wrapper in ("state_dict_ema", "model_ema"):
        loaded = loaded.get(wrapper, loaded)
    loaded.pop("n_averaged", None)
    lines = []
    for key, tensor in loaded.items():
        dtype = str(tensor.dtype).replace("torch.", "")
        numbers = [float(x).hex() for x in tensor.detach().float().flatten().tolist()]
        shape = " ".join(map(str, tensor.shape))
        lines.append(f"{key.replace('module.', '')} {dtype} {shape} : {' '.join(numbers)}")
    (FOLDER / (expected + ".txt")).write_text("\n".join(lines) + "\n")


def write_seeds():
    SEEDS.mkdir(parents=True, exist_ok=True)
    for path in sorted(FOLDER.glob("*.pth")):
        if zipfile.is_zipfile(path):
            content = b"z" + zipfile.ZipFile(path).read(path.stem + "/data.pkl")
        else:
            with open(path, "rb") as file:
                for _ in range(LEGACY_PREAMBLE):
                    pickle.load(file)
                content = b"l" + file.read()
        (SEEDS / path.stem).write_bytes(content)
    state = {"a": torch.ones(2, 3)}
    torch.save(state, SEEDS / "whole_zip")
    # The one storage that the fuzzer's archive has: "0", of 64 bytes.
    torch.save({"a": torch.zeros(4, 4).t()}, SEEDS / "one_zip")
    content = zipfile.ZipFile(SEEDS / "one_zip").read("one_zip/data.pkl")
    (SEEDS / "one_zip").write_bytes(b"z" + content)
    torch.save(state, SEEDS / "whole_legacy", _use_new_zipfile_serialization=False)
    entry = '{"dtype":"F16","shape":[2,16],"data_offsets":[0,64]}'
    header = '{"__metadata__":{"k":"v\\u00e4"},"a":%s}' % entry
    (SEEDS / "safetensors").write_bytes(b"s" + header.encode())


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    state = all_kinds()
    wrapped = checkpoint()
    for form, options in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})):
        write("kinds", "kinds_" + form, state, **options)
        write("checkpoint", "checkpoint_" + form, wrapped, **options)
        write("script", "script_" + form, script_checkpoint(), **options)
        write("kinds", "protocol4_" + form, state, pickle_protocol=4, **options)
    write_seeds()


if __name__ == "__main__":
    main()
