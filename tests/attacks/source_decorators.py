"""A cell of 20,000 decorators and an f-string nested to its limit."""

KIND = "files"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = "@x\n" * 20_000 + "def f(): pass\n" + "y = f'{1:{2:{3:{4}}}}'\n"
