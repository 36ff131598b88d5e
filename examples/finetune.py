#!/usr/bin/env python3
"""Trains a classifier through the shared library with Python's standard ctypes and nothing else.

usage: finetune.py BACKBONE FOLDER MODEL     (TL_LIBRARY names libtl.so; default build/libtl.so)
"""
import ctypes
import os
import sys


def main():
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    tl = ctypes.CDLL(os.environ.get("TL_LIBRARY", "build/libtl.so"))
    for name in ("tl_last_error", "tl_status_name", "tl_report_json"):
        getattr(tl, name).restype = ctypes.c_char_p

    def call(function, *arguments):
        status = function(*arguments)
        if status != 0:
            raise RuntimeError(f"{tl.tl_status_name(status).decode()}: {tl.tl_last_error().decode()}")

    ctx, options, report = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    try:
        call(tl.tl_context_create, None, ctypes.byref(ctx))
        call(tl.tl_finetune_options_create, ctx, ctypes.byref(options))
        settings = {"backbone": sys.argv[1], "data": sys.argv[2], "out": sys.argv[3],
                    "epochs": "10", "seed": "1"}
        for key, value in settings.items():
            call(tl.tl_finetune_options_set, options, os.fsencode(key), os.fsencode(value))
        call(tl.tl_finetune, ctx, options, None, ctypes.byref(report))
        print(tl.tl_report_json(report).decode())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        tl.tl_report_free(report)
        tl.tl_finetune_options_free(options)
        tl.tl_context_free(ctx)
    return 0


if __name__ == "__main__":
    sys.exit(main())
