#!/usr/bin/env python3
"""Trains the demo's classifier with PyTorch and with scikit-learn on the same pictures and split.

usage: examples/demo/compare.py BUILD     (after `make demo`)

Both take the backbone's features as `tl features` gives them, so that what is compared is the
training: the linear head, loss, optimiser and schedule. PyTorch runs the recipe of examples/demo/run
(Adam with Keras's rule, 20 epochs of batches of 16) for several seeds; scikit-learn fits logistic
regression to convergence. Fails when libtl is more than one point below the mean of either.
"""
import json
import pathlib
import subprocess
import sys

import numpy as np

POINTS_ALLOWED = 1.0
SEEDS = 5


def pictures(folder):
    classes = sorted(p.name for p in folder.iterdir())
    files = [(str(f), i) for i, c in enumerate(classes) for f in sorted((folder / c).glob("*.png"))]
    return [f for f, _ in files], np.array([i for _, i in files])


def features(build, files, out):
    subprocess.run([build + "/tl", "features", "--model", "efficientnet_lite0", "--out", out, *files],
                   check=True, stdout=subprocess.DEVNULL)
    return np.load(out)


def torch_accuracy(train, labels, val, val_labels, seed, epochs=20, batch=16):
    import torch

    torch.manual_seed(seed)
    x, y = torch.from_numpy(train), torch.from_numpy(labels)
    head = torch.nn.Linear(x.shape[1], int(labels.max()) + 1)
    torch.nn.init.xavier_uniform_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, eps=1e-7)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((head(torch.from_numpy(val)).argmax(1).numpy() == val_labels).mean())


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else "build"
    work = pathlib.Path(build) / "demo"
    train_files, y = pictures(work / "pictures" / "train")
    val_files, val_y = pictures(work / "pictures" / "val")
    x = features(build, train_files, str(work / "train.npy"))
    val_x = features(build, val_files, str(work / "val.npy"))

    evaluation = subprocess.run(
        [build + "/tl", "eval", "--model", str(work / "classifier.safetensors"), "--data",
         str(work / "pictures" / "val"), "--json"], check=True, capture_output=True, text=True)
    ours = json.loads(evaluation.stdout)["accuracy"]
    print(f"libtl         {100 * ours:.1f}% of {len(val_y)}")

    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    peers = {"scikit-learn": LogisticRegression(max_iter=5000).fit(x, y).score(val_x, val_y)}
    runs = [torch_accuracy(x, y, val_x, val_y, seed) for seed in range(SEEDS)]
    peers["PyTorch"] = float(np.mean(runs))
    print(f"scikit-learn  {100 * peers['scikit-learn']:.1f}%")
    print(f"PyTorch       {100 * peers['PyTorch']:.1f}% (mean of {SEEDS} seeds, "
          f"{100 * min(runs):.1f} to {100 * max(runs):.1f})")
    scores = cross_val_score(LogisticRegression(max_iter=5000), np.concatenate([x, val_x]),
                             np.concatenate([y, val_y]),
                             cv=StratifiedKFold(5, shuffle=True, random_state=0))
    print(f"for scale: 5-fold cross-validation over all pictures {100 * scores.mean():.1f}%")
    return 0 if 100 * ours >= 100 * max(peers.values()) - POINTS_ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
