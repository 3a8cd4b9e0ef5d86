"""Returns a dict whose items, keys and length differ each time they are asked for."""

KIND = "forging"
EXERCISE = "03.from_torch"
EARNS = 0
CELL = r"""
class Lying(dict):
    def items(self):
        return [("W_query.weight", 1), ("W_query.weight", 2)]

    def keys(self):
        return ["W_query.weight"]

    def __len__(self):
        return 10**6

    def __getitem__(self, key):
        return self

    def __contains__(self, key):
        return True

    def __eq__(self, other):
        return True


def from_torch(state_dict):
    return Lying(state_dict)
"""
