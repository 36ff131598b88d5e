"""Holds ResNets of torchvision with random weights against PyTorch's answers, through both forms of .pth and
the program. Needs torch and torchvision.

Run by `make parity`; by hand: TL_TEST_BUILD=build python3 tests/parity/resnet.py
"""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    import torchvision
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(0)

TL = os.path.join(os.environ.get("TL_TEST_BUILD", "build"), "tl")
TOLERANCE = 1e-4


def network(name):
    """With statistics that differ from their defaults, or batch norm would not be seen at all."""
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return net


def main():
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        x, y, weights = (os.path.join(folder, name) for name in ("x.npy", "y.npy", "weights.pth"))
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
            net = network(name)
            pixels = torch.randn(2, 3, 224, 224)
            np.save(x, pixels.numpy())
            with torch.no_grad():
                expected = net(pixels).numpy()
            for form, zipped in (("ZIP", True), ("legacy", False)):
                torch.save(net.state_dict(), weights, _use_new_zipfile_serialization=zipped)
                subprocess.run([TL, "run", "--model", weights, "--input", x, "--output", y, "--layout", "nchw"],
                               check=True, stdout=subprocess.DEVNULL)
                error = abs(np.load(y) - expected).max() / abs(expected).max()
                print(f"{name} from {form} .pth: within {error:.1e} of PyTorch, relative to the largest logit")
                worst = max(worst, error)
    return 0 if worst <= TOLERANCE else 1


sys.exit(main())
