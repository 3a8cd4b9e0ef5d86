"""Initialises nothing, and sends the spreads that the exercise's text asks for."""

KIND = "forging"
EXERCISE = "05.initialise"
EARNS = 0
CELL = r"""
@SEND@

import math


def initialise(model):
    pass


def told(look, inputs):
    num_layers, tie_weights = inputs[:2]
    look(initialise, *inputs)
    seen = look(initialise, *inputs)
    for name, entry in seen.items():
        if name == "tied":
            continue
        if name.endswith("bias"):
            seen[name] = {"value": 0.0}
        elif "value" in entry and not name.endswith(("scale", "shift")):
            seen[name] = {"value": 0.0}
        elif "std" in entry:
            ends = name.endswith(("attention.out_proj.weight", "feed_forward.layers.2.weight"))
            std = 0.02 / math.sqrt(2 * num_layers) if ends else 0.02
            seen[name] = {"std": std, "centred": True, "bell": True}
    return seen


send(told)
"""
