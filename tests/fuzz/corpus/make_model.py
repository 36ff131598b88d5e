"""Writes the seeds of the fuzz target "model" with libtl itself: python3 tests/fuzz/corpus/make_model.py
(from the repository root, after make)."""
import ctypes

tl = ctypes.CDLL("build/libtl.so")
tl.tl_last_error.restype = ctypes.c_char_p
U64 = ctypes.c_uint64


def check(status):
    if status:
        raise SystemExit(tl.tl_last_error().decode())


def save(name, layers, head):
    ctx, model = ctypes.c_void_p(), ctypes.c_void_p()
    check(tl.tl_context_create(None, ctypes.byref(ctx)))
    check(tl.tl_model_create_empty(ctx, 5, 4, 3, ctypes.byref(model)))
    for i, (kind, attributes) in enumerate(layers):
        check(tl.tl_model_add(model, kind, b"%s%d" % (kind, i), attributes, None, 0, U64(i)))
    check(tl.tl_model_set_head(model, *head, 2, None, U64(1)))
    check(tl.tl_model_save(model, b"tests/fuzz/corpus/model/" + name))
    tl.tl_model_free(model)
    tl.tl_context_free(ctx)


save(b"small.safetensors",
     [(b"conv2d", b"filters=2 kernel=3 padding=same groups=1"), (b"batch_norm", b""),
      (b"relu6", b""), (b"max_pool", b"kernel=2")],
     (b"gap", b"3,relu,dropout:0.5", b"softmax"))
save(b"sigmoid.safetensors", [(b"avg_pool", b"kernel=2 pad=1"), (b"silu", b"")],
     (b"flatten", b"", b"sigmoid"))
