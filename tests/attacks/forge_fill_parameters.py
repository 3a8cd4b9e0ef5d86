"""Replaces fill_parameters and the probes by functions that fit a layer which does nothing."""

KIND = "forging"
EXERCISE = "03.multi_head_attention"
EARNS = 0
CELL = r"""
import gc
import types

from torch import nn


def same(module, *args, **kwargs):
    return module


for thing in gc.get_objects():
    if isinstance(thing, types.FunctionType) and thing.__name__ == "fill_parameters":
        try:
            thing.__code__ = same.__code__
        except ValueError:
            pass


class MyMultiHeadAttention(nn.Module):
    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False,
                 num_kv_heads=None):
        super().__init__()
        self.out_proj = nn.Linear(d_in, d_out)

    def forward(self, x):
        return self.out_proj(x) * 0
"""
