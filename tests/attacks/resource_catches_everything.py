"""Never ends, and catches every exception that would stop it."""

KIND = "resources"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
while True:
    try:
        while True:
            pass
    except BaseException:
        continue
"""
