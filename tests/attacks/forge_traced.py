"""Installs trace and profile functions that overwrite what other frames hold."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import ctypes
import sys
import threading


def tracer(frame, event, argument):
    for name in ("expected", "got", "passed", "points", "status", "wrong"):
        if name in frame.f_locals:
            frame.f_locals[name] = None
            ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
    return tracer


sys.settrace(tracer)
sys.setprofile(tracer)
threading.settrace(tracer)


def split_heads(x, num_heads):
    return x
"""
