"""Times libtl beside ONNX Runtime, OpenVINO and PyTorch: same networks, same weights, one run.

Every contestant lives in a process of its own. In each round all of them are timed one after the
other, so that a noisy machine slows each in turn; the ratio of two contestants is the ratio of
their minima over all rounds. Before a network is timed its answers are compared.

usage: bench.py --build build [--rounds 5] [--threads 1,2] [--batch 1,16] [--only resnet50,...]
                [--mode infer,train,bf16,start,tutorial] [--keras PYTHON] [--pictures 200] [--json FILE]

In mode bf16 libtl and the peers that can compute in bf16; ONNX Runtime, which cannot, stays in f32.
"""
import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time

NETS = {"resnet50": 224, "inception_v3": 299, "mobilenet_v2": 224, "efficientnet_lite0": 224, "vgg16": 224}
TRAINED = ["resnet50", "mobilenet_v2", "vgg16"]
BF16 = ["resnet50", "vgg16", "mobilenet_v2"]
HERE = os.path.abspath(__file__)


# --- networks ---------------------------------------------------------------------------------

def build_network(name):
    """A PyTorch module with seeded weights and batch-norm statistics that a trained one might have."""
    import torch
    import torchvision.models as models
    torch.manual_seed(0)
    if name == "efficientnet_lite0":
        import timm
        module = timm.create_model("tf_efficientnet_lite0")
    else:
        extra = {"init_weights": False} if name == "inception_v3" else {}
        module = getattr(models, name)(**extra)
    for key, buffer in module.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        if key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return module


def export(folder, name):
    import torch
    module = build_network(name).eval()
    torch.save(module.state_dict(), f"{folder}/{name}.pth")
    side = NETS[name]
    x = torch.randn(2, 3, side, side)
    torch.onnx.export(module, (x,), f"{folder}/{name}.onnx", opset_version=17, dynamo=False,
                      input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}})
    import numpy
    with torch.no_grad():
        numpy.save(f"{folder}/{name}.x.npy", x.numpy())
        numpy.save(f"{folder}/{name}.y.npy", module(x).numpy())


# --- contestants: each answers "go N" with the least seconds of N runs -------------------------

def worker(kind, name, folder, batch, threads, mode):
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    import numpy
    x = numpy.random.default_rng(0).standard_normal((batch, 3, NETS[name], NETS[name])).astype("float32")
    run = {"onnxruntime": ort_runner, "openvino": openvino_runner, "pytorch": torch_runner}[kind](
        name, folder, x, threads, mode)
    run()
    print("ready", flush=True)
    for line in sys.stdin:
        least = 1e9
        for _ in range(int(line.split()[1])):
            start = time.perf_counter()
            run()
            least = min(least, time.perf_counter() - start)
        print(least, flush=True)


def ort_runner(name, folder, x, threads, mode):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def openvino_runner(name, folder, x, threads, mode):
    import openvino
    core = openvino.Core()
    model = core.read_model(f"{folder}/{name}.onnx")
    model.reshape(list(x.shape))
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if mode.endswith("bf16") else "f32"})
    return lambda: compiled(x)[0]


def torch_runner(name, folder, x, threads, mode):
    import torch
    torch.set_num_threads(threads)
    module = build_network(name)
    candidates = []
    for layout in (torch.contiguous_format, torch.channels_last):
        m = module.to(memory_format=layout)
        data = torch.from_numpy(x).to(memory_format=layout)
        runner = torch_run(m, data, mode)
        runner()
        start = time.perf_counter()
        runner()
        candidates.append((time.perf_counter() - start, layout))
    layout = min(candidates, key=lambda c: c[0])[1]
    m, data = module.to(memory_format=layout), torch.from_numpy(x).to(memory_format=layout)
    return torch_run(m, data, mode)


def torch_run(module, data, mode):
    """A forward pass or a training step; in mode *-bf16 what autocast covers is in bf16."""
    run = torch_step if mode.startswith("train") else torch_forward
    return run(module, data, mode.endswith("bf16"))


def torch_forward(module, data, bf16=False):
    import torch
    module.eval()

    def run():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return module(data).float().numpy()
    return run


def torch_step(module, data, bf16=False):
    import torch
    module.train()
    labels = torch.arange(data.shape[0]) % 1000
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-6)

    def run():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(module(data), labels)
        loss.backward()
        optimizer.step()
    return run


class Peer:
    """A framework in a process of its own."""

    def __init__(self, kind, name, folder, batch, threads, mode):
        self.process = subprocess.Popen(
            [sys.executable, HERE, "--worker", kind, name, folder, str(batch), str(threads), mode],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{kind} did not start with {name}")

    def seconds(self, runs):
        self.process.stdin.write(f"go {runs}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Libtl:
    """The program's own benchmark; it warms up by itself."""

    def __init__(self, build, name, batch, threads, mode):
        self.batch = batch
        what, _, dtype = mode.partition("-")
        self.command = [f"{build}/tl", "bench", "--arch", name, "--mode", what, "--dtype", dtype or "f32",
                        "--batch", str(batch), "--threads", str(threads), "--json", "--iters"]

    def seconds(self, runs):
        answer = subprocess.run(self.command + [str(runs)], capture_output=True, text=True, check=True)
        return json.loads(answer.stdout)["ms_per_image_min"] * self.batch / 1e3

    def close(self):
        pass


# --- comparisons --------------------------------------------------------------------------------

def agree(build, folder, name):
    """Largest difference between libtl's and PyTorch's answers, relative to the largest answer."""
    import numpy
    out = f"{folder}/{name}.tl.npy"
    subprocess.run([f"{build}/tl", "run", "--model", f"{folder}/{name}.pth", "--input", f"{folder}/{name}.x.npy",
                    "--output", out, "--layout", "nchw"], check=True, capture_output=True)
    want = numpy.load(f"{folder}/{name}.y.npy")
    return float(numpy.abs(numpy.load(out) - want).max() / numpy.abs(want).max())


def compare(args, folder, name, batch, threads, mode, peers):
    contestants = {"libtl": Libtl(args.build, name, batch, threads, mode)}
    for kind in peers:
        try:
            contestants[kind] = Peer(kind, name, folder, batch, threads, mode)
        except RuntimeError as error:
            print(f"[  SKIPPED ] {error}", flush=True)
    # libtl's runs are a process of their own each time, whose first are slower: enough of them.
    runs = 2 if mode.startswith("train") else 3 if batch > 1 else 20
    least = {kind: min(c.seconds(runs) for _ in range(1)) for kind, c in contestants.items()}
    for _ in range(args.rounds):
        for kind, contestant in contestants.items():
            least[kind] = min(least[kind], contestant.seconds(runs))
    for contestant in contestants.values():
        contestant.close()
    row = {"network": name, "mode": mode, "batch": batch, "threads": threads,
           "ms": {k: 1e3 * v / batch for k, v in least.items()},
           "ratio": {k: least["libtl"] / v for k, v in least.items() if k != "libtl"}}
    cells = "  ".join(f"{k} {row['ms'][k]:8.2f} ms" + (f" ({row['ratio'][k]:.2f})" if k in row["ratio"] else "")
                      for k in least)
    print(f"{mode:10} {name:20} batch {batch:2} threads {threads}: {cells}", flush=True)
    return row


# A process counts the memory of the one it was forked from until it has become a program of its own: jobs are
# started by a small one.
LAUNCHER = """
import json, os, sys, time
for line in sys.stdin:
    command = json.loads(line)
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        try:
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    _, status, usage = os.wait4(pid, 0)
    print(json.dumps([status, time.perf_counter() - start, usage.ru_maxrss / 1024]), flush=True)
"""


def measured(command):
    """Seconds and peak megabytes of a whole process."""
    launcher = subprocess.run([sys.executable, "-S", "-c", LAUNCHER], input=json.dumps(command) + "\n",
                              capture_output=True, text=True, check=True)
    status, seconds, peak = json.loads(launcher.stdout)
    if status:
        raise RuntimeError(f"{command[0]} failed")
    return seconds, peak


FIRST_ANSWER = """
import numpy, onnxruntime, sys
o = onnxruntime.SessionOptions()
o.intra_op_num_threads = int(sys.argv[3])
s = onnxruntime.InferenceSession(sys.argv[1], o, providers=["CPUExecutionProvider"])
s.run(None, {"x": numpy.load(sys.argv[2])[:1]})
"""

TRAIN_STEPS = """
import sys
sys.argv = ["bench.py"]
sys.path.insert(0, "%s")
import bench, numpy
run = bench.torch_step(bench.build_network("resnet50"), __import__("torch").randn(16, 3, 224, 224))
run(); run()
"""


def first_answer(args, folder, name, threads):
    """Commands from a process's start to its first answer: libtl's without and with packed weights kept."""
    import numpy
    one = f"{folder}/{name}.one.npy"
    numpy.save(one, numpy.load(f"{folder}/{name}.x.npy")[:1])
    ours = [f"{args.build}/tl", "run", "--model", f"{folder}/{name}.pth", "--input", one, "--output",
            f"{folder}/out.npy", "--layout", "nchw", "--threads", str(threads)]
    return {"libtl": ours, "libtl cached": ours + ["--packed-cache", "auto"]}


def least_of(args, commands):
    """The least seconds and megabytes of each, all interleaved; what the first round writes is there later."""
    least = {}
    for round in range(args.rounds + 2):
        for kind, command in commands.items():
            seconds, peak = measured(command)
            old = least.get(kind, (1e9, 1e9))
            if round:
                least[kind] = (min(seconds, old[0]), min(peak, old[1]))
    return least


def start_rows(mode, threads, least, peer):
    """One row of seconds and one of megabytes, each with libtl's ratios to the peer."""
    rows = []
    for which, unit, key in ((0, "s", mode), (1, "mb", "memory " + mode)):
        rows.append({"mode": key, "threads": threads, unit: {k: round(v[which], 4) for k, v in least.items()},
                     "ratio": {k: round(v[which] / least[peer][which], 3) for k, v in least.items() if k != peer}})
    return rows


def whole_process(args, folder):
    """Start to first answer, and peak memory: ResNet50 beside ONNX Runtime, VGG16 beside importing PyTorch."""
    rows = []
    for threads in map(int, args.threads.split(",")):
        commands = first_answer(args, folder, "resnet50", threads)
        commands["onnxruntime"] = [sys.executable, "-c", FIRST_ANSWER, f"{folder}/resnet50.onnx",
                                   f"{folder}/resnet50.one.npy", str(threads)]
        rows += start_rows("start", threads, least_of(args, commands), "onnxruntime")
        if os.path.exists(f"{folder}/vgg16.y.npy"):
            commands = first_answer(args, folder, "vgg16", threads)
            commands["import torch"] = [sys.executable, "-c", "import torch"]
            rows += start_rows("start vgg16", threads, least_of(args, commands), "import torch")
    rows.append(training_memory(args))
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def training_memory(args):
    """Peak megabytes of training ResNet50."""
    ours = [f"{args.build}/tl", "bench", "--arch", "resnet50", "--mode", "train", "--batch", "16", "--iters", "1"]
    theirs = [sys.executable, "-c", TRAIN_STEPS % os.path.dirname(HERE)]
    train = {"libtl": measured(ours)[1], "pytorch": measured(theirs)[1]}
    return {"mode": "memory train", "mb": train, "ratio": train["libtl"] / train["pytorch"]}


KERAS_JOB = """
import sys, keras
data = keras.utils.image_dataset_from_directory(sys.argv[1], image_size=(224, 224), batch_size=32, label_mode="int")
classes = len(data.class_names)
base = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
base.trainable = False
model = keras.Sequential([base, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(256, activation="relu"),
                          keras.layers.Dense(classes, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(data.map(lambda x, y: (keras.applications.resnet50.preprocess_input(x), y)), epochs=30, verbose=0)
"""


def keras_python(args):
    """The interpreter that has Keras: --keras, this one, or the one of BUILD/peers-tf."""
    if args.keras:
        return args.keras
    if importlib.util.find_spec("keras"):
        return sys.executable
    return f"{args.build}/peers-tf/bin/python"


def make_pictures(root, count):
    """JPEG files of 640 x 480 in four classes: smooth colours with some detail, as photographs have."""
    import numpy
    from PIL import Image
    rng = numpy.random.default_rng(0)
    for i in range(count):
        label = i % 4
        os.makedirs(f"{root}/class{label}", exist_ok=True)
        pixels = rng.integers(0, 255, (30, 40, 3), dtype=numpy.uint8)
        pixels[..., label % 3] //= 2 + label // 3
        picture = Image.fromarray(pixels).resize((640, 480), Image.BICUBIC)
        picture.save(f"{root}/class{label}/{i}.jpg", quality=90)


def tutorial(args, folder):
    """ResNet50 frozen, a head of 256, 30 epochs over a folder, no augmentation; whole processes, each with all
    of the machine's threads."""
    root = f"{folder}/pictures"
    make_pictures(root, args.pictures)
    ours = [f"{args.build}/tl", "finetune", "--backbone", f"{folder}/resnet50.pth", "--data", root, "--epochs", "30",
            "--patience", "0", "--head", "256,relu", "--val-split", "0.1", "--out", f"{folder}/job.safetensors"]
    row = {"mode": "tutorial", "pictures": args.pictures,
           "s": {"libtl": min(measured(ours)[0] for _ in range(2)),
                 "keras": measured([keras_python(args), "-c", KERAS_JOB, root])[0]}}
    row["ratio"] = row["s"]["libtl"] / row["s"]["keras"]
    print(json.dumps(row), flush=True)
    return [row]


def versions():
    found = {}
    for module in ("torch", "onnxruntime", "openvino", "tensorflow", "keras"):
        if importlib.util.find_spec(module):
            from importlib.metadata import version, PackageNotFoundError
            for package in (module, module + "-cpu"):
                try:
                    found[module] = version(package)
                except PackageNotFoundError:
                    pass
    return found


def processor():
    with open("/proc/cpuinfo") as info:
        match = re.search(r"model name\s*: (.*)", info.read())
    return f"{match.group(1) if match else platform.machine()}, {os.cpu_count()} cores"


def ceiling(build):
    """GFLOP/s of nothing but multiply-adds on one core (ceiling.c)."""
    program = f"{build}/peers-ceiling"
    subprocess.run(["cc", "-O3", "-march=native", "-ffp-contract=fast",
                    os.path.join(os.path.dirname(HERE), "ceiling.c"), "-o", program], check=True)
    answer = subprocess.run([program], capture_output=True, text=True)
    return float(answer.stdout.split()[0]) if answer.returncode == 0 and answer.stdout else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--only", default=",".join(NETS))
    parser.add_argument("--mode", default="infer,train,bf16,start,tutorial")
    parser.add_argument("--keras", metavar="PYTHON", help="interpreter that has Keras, for --mode tutorial")
    parser.add_argument("--pictures", type=int, default=200, help="of --mode tutorial")
    parser.add_argument("--json")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    print(processor(), versions(), flush=True)
    rows = []
    top = ceiling(args.build)
    if top:
        print(f"multiply-add ceiling of one core: {top:.1f} GFLOP/s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for name in dict.fromkeys(args.only.split(",") + ["resnet50"]):
            try:
                export(folder, name)
                error = agree(args.build, folder, name)
            except Exception as problem:
                print(f"[  SKIPPED ] {name}: {type(problem).__name__}: {str(problem)[:200]}", flush=True)
                continue
            print(f"{name}: largest difference from PyTorch {error:.1e}", flush=True)
            if error > 1e-4:
                sys.exit(f"{name}: the answers disagree, nothing is timed")
            if name in args.only.split(","):
                names.append(name)
        modes = args.mode.split(",")
        for threads in map(int, args.threads.split(",")):
            for name in names if "infer" in modes else []:
                for batch in map(int, args.batch.split(",")):
                    rows.append(compare(args, folder, name, batch, threads, "infer",
                                        ["onnxruntime", "openvino", "pytorch"]))
            for name in names if "train" in modes else []:
                if name in TRAINED:
                    rows.append(compare(args, folder, name, 16, threads, "train", ["pytorch"]))
            for name in names if "bf16" in modes else []:
                if name in BF16:
                    rows.append(compare(args, folder, name, 16, threads, "infer-bf16",
                                        ["onnxruntime", "openvino"]))
                    rows.append(compare(args, folder, name, 16, threads, "train-bf16", ["pytorch"]))
        if "start" in modes:
            rows += whole_process(args, folder)
        if "tutorial" in modes:
            rows += tutorial(args, folder)
    if args.json:
        with open(args.json, "w") as out:
            json.dump({"machine": processor(), "versions": versions(), "ceiling": top, "rows": rows}, out, indent=1)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--worker":
        worker(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]), sys.argv[7])
    else:
        main()
