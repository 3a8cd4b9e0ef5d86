"""Takes the block from the module that holds the references of earlier exercises."""

KIND = "forging"
EXERCISE = "04.transformer_block"
EARNS = 0
CELL = r"""
import gc
import sys


def found():
    for module in list(sys.modules.values()):
        thing = getattr(module, "TransformerBlock", None)
        if isinstance(thing, type) and thing is not globals().get("MyTransformerBlock"):
            return thing
    for thing in gc.get_objects():
        if isinstance(thing, type) and thing.__name__ == "TransformerBlock":
            return thing
    return None


try:
    from course_pkg.transformer import TransformerBlock as MyTransformerBlock
except Exception:
    MyTransformerBlock = found()
"""
