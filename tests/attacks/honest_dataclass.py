"""Uses a dataclass, an enumeration and pattern matching."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import dataclasses
import enum


class Axis(enum.IntEnum):
    TOKENS = 1
    HEADS = 2


@dataclasses.dataclass(frozen=True)
class Split:
    heads: int
    width: int

    def apply(self, x):
        return x.unflatten(-1, (self.heads, self.width)).transpose(Axis.TOKENS, Axis.HEADS)


def split_heads(x, num_heads):
    match x.shape:
        case (_, _, width):
            return Split(num_heads, width // num_heads).apply(x)
"""
