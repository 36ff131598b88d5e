"""Runs the parity scripts with this Python and adds up what they find.

usage: TL_TEST_BUILD=build PYTHON tests/parity/run.py [SCRIPT ...] [-- NAME ...]

Says first which frameworks this Python has, and at the end what failed and what was skipped for want of
one. Frameworks may belong to several interpreters: run it with each. NAMEs go to the scripts, which then
compare these networks only.
"""
import importlib.metadata
import os
import subprocess
import sys

SCRIPTS = ["architectures", "published", "import_onnx", "opsets", "preprocessing", "evaluation"]
TAKE_NAMES = ("architectures", "import_onnx")
MODULES = ["numpy", "torch", "torchvision", "timm", "safetensors", "keras", "tensorflow", "h5py", "onnx", "onnxruntime",
           "onnxscript", "tf2onnx", "PIL", "sklearn", "skimage", "efficientnet_lite_pytorch"]


def say_what_is_here():
    packages = importlib.metadata.packages_distributions()
    missing = [module for module in MODULES if module not in packages]
    found = [f"{module} {importlib.metadata.version(packages[module][0])}" for module in MODULES if module in packages]
    print(f"# Python {sys.version.split()[0]}, {sys.executable}: {', '.join(found)}")
    if missing:
        print(f"# NOT HERE, and skipped what needs it: {' '.join(missing)}")
    return missing


def run(script, names):
    """The status, and the lines that it printed."""
    print(f"\n== {script}", flush=True)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), script + ".py")
    arguments = names if script in TAKE_NAMES else []
    lines = []
    with subprocess.Popen([sys.executable, path, *arguments], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    return process.returncode, lines


def add_up(totals, status, lines):
    """Adds the last line's numbers; a script that did not come to its end has failed."""
    try:
        for part in lines[-1].split(", "):
            count, name = part.split(" ")
            totals[name] += int(count)
    except (IndexError, KeyError, ValueError):
        totals["failed"] += 1
        return ["did not come to its end  FAILED"]
    marked = [line for line in lines if line.startswith("SKIPPED") or line.endswith("FAILED")]
    return marked + ([f"status {status}  FAILED"] if status > 1 or status < 0 else [])


def main():
    arguments, names = sys.argv[1:], []
    if "--" in arguments:
        names = arguments[arguments.index("--") + 1:]
        arguments = arguments[:arguments.index("--")]
    missing = say_what_is_here()
    totals, marked = {"passed": 0, "failed": 0, "skipped": 0}, []
    for script in arguments or SCRIPTS:
        marked += [f"{script}: {line}" for line in add_up(totals, *run(script, names))]
    print("\n== parity")
    print("\n".join(marked))
    if missing:
        print(f"this Python has no {' '.join(missing)}")
    print(", ".join(f"{count} {name}" for name, count in totals.items()))
    if totals["passed"] + totals["failed"] == 0:
        print("parity: nothing was compared")
    sys.exit(0 if totals["passed"] and not totals["failed"] else 1)


main()
