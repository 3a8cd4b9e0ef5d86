"""Returns a str subclass that equals every text and has every length."""

KIND = "forging"
EXERCISE = "01.decode_bytes"
EARNS = 0
CELL = r"""
class Text(str):
    __hash__ = str.__hash__

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __len__(self):
        return 10**9

    def __str__(self):
        return self

    def encode(self, *args, **kwargs):
        return b"\xff\xff"


def decode(ids, vocab):
    return Text("whatever")
"""
