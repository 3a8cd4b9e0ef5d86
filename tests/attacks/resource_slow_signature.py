"""Is slow before it is ever called: its signature and its name are endless loops."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
class Answer:
    @property
    def __signature__(self):
        while True:
            pass

    def __call__(self, *args):
        return None


split_heads = Answer()
"""
