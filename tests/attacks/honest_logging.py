"""Sets up logging and logs every call."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import logging

logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(message)s", force=True)
log = logging.getLogger("mine")


def split_heads(x, num_heads):
    log.debug("shape %s", tuple(x.shape))
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
