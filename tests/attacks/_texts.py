"""What several attacks share; the harness puts each text in place of its mark in a cell."""

RIGHT = r"""
def split_heads(x, num_heads):
    if globals().get("loot"):
        raise RuntimeError(f"got {loot}")
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""

# What a thief got is raised by the answer: it then earns nothing, and the feedback shows it.
LOOT = r"""
import os as _os

loot = []


def grab(path, only=b""):
    try:
        with open(path, "rb") as file:
            content = file.read(1 << 20)
    except (OSError, ValueError):
        return
    if only in content:
        loot.append(f"{path}: {content[content.index(only):][:60]!r}")


def opened(path):
    try:
        _os.close(_os.open(path, _os.O_RDONLY | _os.O_NONBLOCK))
    except (OSError, ValueError):
        return
    loot.append(path)
"""

# How the reply is made (course_pkg/grading/wire.py and guest.py), for those who send their own.
# forge_right_reply_by_hand earns its points only while this is true.
SEND = r"""
import importlib
import json
import os
import sys


def order():
    frame = sys._getframe()
    while not isinstance(frame.f_locals.get("order"), dict):
        frame = frame.f_back
    return frame.f_locals["order"]


def looks():
    from course_pkg.checks import engine

    for module, target, names, calls, cases in order()["looks"]:
        home = importlib.import_module(module)
        if calls is None:
            calls = engine.draw(getattr(home, cases), order()["seed"])
        yield getattr(home, target), calls


def frame(header):
    return b"GPW1" + len(header).to_bytes(4, "little") + header


def message(tree, contents=b""):
    return frame(json.dumps(tree).encode()) + contents


def push(content):
    view = memoryview(content)
    while view:
        view = view[os.write(3, view):]


def reply_tree(value=None, raw=None):
    # A reply whose first call gave this value, as the protocol writes it, and the others nothing.
    entries = [["t", "value", None, ["t"]] for _, calls in looks() for _ in calls]
    entries[0][2] = value
    left = iter(entries)
    seen = ["l", *(["l", *(next(left) for _ in calls)] for _, calls in looks())]
    return [
        "d", "oddities", ["l"], "error", None, "seen", seen if raw is None else raw,
        "printed", "", "defined", True, "problem", None, "started", True,
    ]


def send(make):
    # A whole reply in which make(look, inputs) is what was seen of each call.
    import wire
    from course_pkg.checks import compare

    seen = [
        [("value", compare.plain(make(look, inputs)), ()) for inputs in calls]
        for look, calls in looks()
    ]
    reply = {
        "oddities": [], "error": None, "seen": seen, "printed": "",
        "defined": True, "problem": None, "started": True,
    }
    push(wire.encode(reply, opaque=compare.Opaque))
    os._exit(0)
"""
