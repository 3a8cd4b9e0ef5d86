"""Raises an error whose text, repr, name and traceback raise errors themselves."""

KIND = "reports"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Meta(type):
    @property
    def __name__(cls):
        raise SystemExit("no name")


class Silent(Exception, metaclass=Meta):
    def __str__(self):
        raise SystemExit("no text")

    __repr__ = __str__
    __traceback__ = property(__str__)


def split_heads(x, num_heads):
    raise Silent()
"""
