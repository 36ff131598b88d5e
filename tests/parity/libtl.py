"""libtl through its shared library, as far as the scripts beside this one need it."""
import ctypes
import os

import numpy as np

BUILD = os.environ.get("TL_TEST_BUILD", "build")


class OptimizerOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("name", ctypes.c_char_p), ("style", ctypes.c_char_p),
                ("lr", ctypes.c_double), ("momentum", ctypes.c_double), ("nesterov", ctypes.c_bool),
                ("beta1", ctypes.c_double), ("beta2", ctypes.c_double), ("rho", ctypes.c_double),
                ("epsilon", ctypes.c_double), ("centered", ctypes.c_bool), ("weight_decay", ctypes.c_double)]


class TrainerOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("optimizer", ctypes.POINTER(OptimizerOptions)), ("batch", ctypes.c_int),
                ("batch_norm_training", ctypes.c_bool), ("clip_norm", ctypes.c_double),
                ("seed", ctypes.c_uint64)]


tl = ctypes.CDLL(os.path.join(BUILD, "libtl.so"))
for name in ("tl_last_error", "tl_backbone_name", "tl_model_class_name"):
    getattr(tl, name).restype = ctypes.c_char_p
for name in ("tl_tensor_const_data", "tl_tensor_data", "tl_tensor_shape", "tl_model_param"):
    getattr(tl, name).restype = ctypes.c_void_p
for name in ("tl_tensor_count", "tl_model_feature_count"):
    getattr(tl, name).restype = ctypes.c_int64
for name in ("tl_tensor_const_data", "tl_tensor_data", "tl_tensor_shape", "tl_tensor_count", "tl_tensor_rank"):
    getattr(tl, name).argtypes = [ctypes.c_void_p]


def call(name, *args):
    if getattr(tl, name)(*args):
        raise RuntimeError("libtl: " + tl.tl_last_error().decode())


context = ctypes.c_void_p()
call("tl_context_create", None, ctypes.byref(context))


seed = ctypes.c_uint64


def array_of(tensor):
    """A view of a tensor's floats."""
    rank = tl.tl_tensor_rank(tensor)
    shape = ctypes.cast(tl.tl_tensor_shape(tensor), ctypes.POINTER(ctypes.c_int64))[:rank]
    floats = ctypes.cast(tl.tl_tensor_const_data(tensor), ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(floats, tuple(shape))


def wrap(x):
    tensor = ctypes.c_void_p()
    call("tl_tensor_wrap", context, 0, x.ndim, (ctypes.c_int64 * x.ndim)(*x.shape),
         x.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(x.nbytes), ctypes.byref(tensor))
    return tensor


class Gradient:
    """What led from one value of a parameter to the next: a flat array that is computed where it is looked
    at, since VGG's take gigabytes."""

    def __init__(self, old, new, lr):
        self.old, self.new, self.lr = old.ravel(), new.ravel(), lr

    def ravel(self):
        return self

    def __getitem__(self, part):
        return (self.old[part] - self.new[part].astype(np.float64)) / self.lr


class Model:
    def __init__(self, name=None, empty=None):
        self.handle = ctypes.c_void_p()
        if empty:
            call("tl_model_create_empty", context, *empty, ctypes.byref(self.handle))
        else:
            call("tl_model_load", context, name.encode(), ctypes.byref(self.handle))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        tl.tl_model_free(self.handle)

    def call(self, name, *args):
        call(name, self.handle, *args)

    def run(self, x):
        """x is N H W C."""
        x = np.ascontiguousarray(x, np.float32)
        tensor, out = wrap(x), ctypes.c_void_p()
        try:
            self.call("tl_model_run", tensor, ctypes.byref(out))
            return array_of(out).copy()
        finally:
            tl.tl_tensor_free(out)
            tl.tl_tensor_free(tensor)

    def features(self, path):
        features = np.empty(tl.tl_model_feature_count(self.handle), np.float32)
        self.call("tl_model_features_file", path.encode(), features.ctypes.data_as(ctypes.c_void_p))
        return features

    def predict(self, path):
        """Class names and probabilities, the most probable first."""
        classes = tl.tl_model_class_count(self.handle)
        p = np.empty(classes, np.float32)
        self.call("tl_model_predict_file", path.encode(), p.ctypes.data_as(ctypes.c_void_p))
        return [(tl.tl_model_class_name(self.handle, int(i)).decode(), p[i]) for i in np.argsort(-p)]

    def views(self):
        """The parameters in place."""
        return [array_of(tl.tl_model_param(self.handle, i)) for i in range(tl.tl_model_param_count(self.handle))]

    def parameters(self):
        """Copies of them."""
        return [view.copy() for view in self.views()]

    def train(self, x, labels, lr, steps=1):
        """Steps of plain gradient descent on all parameters; the loss before each."""
        self.call("tl_model_freeze", b"", ctypes.c_bool(False))
        optimizer, options, trainer, losses = OptimizerOptions(), TrainerOptions(), ctypes.c_void_p(), []
        tl.tl_optimizer_options_init(ctypes.byref(optimizer), ctypes.c_size_t(ctypes.sizeof(optimizer)))
        tl.tl_trainer_options_init(ctypes.byref(options), ctypes.c_size_t(ctypes.sizeof(options)))
        optimizer.name, optimizer.style, optimizer.lr = b"sgd", b"pytorch", lr
        options.batch, options.optimizer = len(x), ctypes.pointer(optimizer)
        self.call("tl_trainer_create", ctypes.byref(options), ctypes.byref(trainer))
        x, labels = np.ascontiguousarray(x, np.float32), np.asarray(labels, np.int32)
        tensor, loss = wrap(x), ctypes.c_double()
        try:
            for _ in range(steps):
                call("tl_trainer_step", trainer, tensor, labels.ctypes.data_as(ctypes.c_void_p),
                     ctypes.byref(loss), None)
                losses.append(loss.value)
        finally:
            tl.tl_tensor_free(tensor)
            tl.tl_trainer_free(trainer)
        return losses

    def gradients(self, x, labels, before=None):
        """The loss and the gradients of all parameters, out of one step of descent: of a length that leaves
        no rounding in the difference. `before` is what parameters() gave for a model of the same file. The
        model is of no use afterwards; the gradients are valid as long as it is."""
        before, lr = before or self.parameters(), 1e4
        loss, = self.train(x, labels, lr)
        return loss, [Gradient(old, new, lr) for old, new in zip(before, self.views())]
