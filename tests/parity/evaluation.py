"""Holds precision, recall, F1, support, averages and the confusion matrix against scikit-learn's on random
answers, with classes that never occur and classes that are never answered.

Run by `make parity`; by hand: TL_TEST_BUILD=build python3 tests/parity/evaluation.py
"""
import ctypes
import os
import sys

import outcome

if not outcome.have("evaluation", "numpy", "sklearn"):
    outcome.finish()
import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

tl = ctypes.CDLL(os.path.join(os.environ.get("TL_TEST_BUILD", "build"), "libtl.so"))
tl.tl_last_error.restype = ctypes.c_char_p
tl.tl_evaluation_create.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64] + 3 * [ctypes.c_void_p]
for name in ("loss", "accuracy", "precision", "recall", "f1", "macro", "weighted"):
    getattr(tl, "tl_evaluation_" + name).restype = ctypes.c_double
for name in ("support", "confusion"):
    getattr(tl, "tl_evaluation_" + name).restype = ctypes.c_int64


def ours(context, probabilities, labels):
    classes = probabilities.shape[1]
    handle = ctypes.c_void_p()
    if tl.tl_evaluation_create(context, classes, len(labels), probabilities.ctypes.data, labels.ctypes.data,
                               ctypes.byref(handle)):
        sys.exit("libtl: " + tl.tl_last_error().decode())
    per_class = [[getattr(tl, "tl_evaluation_" + what)(handle, i) for i in range(classes)]
                 for what in ("precision", "recall", "f1", "support")]
    values = [tl.tl_evaluation_loss(handle), tl.tl_evaluation_accuracy(handle)] + sum(per_class, [])
    for average in (tl.tl_evaluation_macro, tl.tl_evaluation_weighted):
        precision, recall = ctypes.c_double(), ctypes.c_double()
        f1 = average(handle, ctypes.byref(precision), ctypes.byref(recall))
        values += [precision.value, recall.value, f1]
    values += [tl.tl_evaluation_confusion(handle, i, j) for i in range(classes) for j in range(classes)]
    tl.tl_evaluation_free(handle)
    return np.array(values)


def theirs(probabilities, labels):
    every = range(probabilities.shape[1])
    answers = probabilities.argmax(1)

    def measures(average):
        return precision_recall_fscore_support(labels, answers, labels=every, average=average, zero_division=0)

    values = [log_loss(labels, probabilities.astype(np.float64), labels=every), accuracy_score(labels, answers)]
    values += np.concatenate(measures(None)).tolist()
    values += [*measures("macro")[:3], *measures("weighted")[:3]]
    return np.array(values + confusion_matrix(labels, answers, labels=every).ravel().tolist())


def main():
    context = ctypes.c_void_p()
    tl.tl_context_create(None, ctypes.byref(context))
    worst, random = 0, np.random.RandomState(0)
    for classes, count in ((2, 1), (2, 50), (3, 7), (10, 500), (37, 60)):
        probabilities = random.dirichlet(np.full(classes, 0.3), count).astype(np.float32)
        probabilities = np.ascontiguousarray(np.clip(probabilities, 1e-6, 1))
        labels = random.randint(0, classes, count).astype(np.int32)
        probabilities /= probabilities.sum(1, keepdims=True)
        worst = max(worst, abs(ours(context, probabilities, labels) - theirs(probabilities, labels)).max())
    tl.tl_context_free(context)
    outcome.row(f"evaluation: within {worst:.1e} of scikit-learn's, 5 sets of answers", worst <= 1e-6)
    outcome.finish()


main()
