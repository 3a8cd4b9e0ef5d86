"""Searches the whole file system for a text that defines the function, and runs it."""

KIND = "forging"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import os
import re

CODE = re.compile(rb"def split_heads\(x[^\n]*\n(?:    [^\n]*\n)+")


def search():
    for top in ("@REPO@", "@GRADES@", "@OTHER@", "/root", "/home", "/tmp", "/mnt", "/srv"):
        for folder, _, names in os.walk(top):
            if "site-packages" in folder:
                continue
            for name in names:
                if name.endswith((".py", ".md", ".ipynb", ".json", ".pyc")):
                    try:
                        with open(os.path.join(folder, name), "rb") as file:
                            match = CODE.search(file.read(1 << 20))
                    except OSError:
                        continue
                    if match:
                        return match[0].decode()
    return "def split_heads(x, num_heads):\n    return x\n"


exec(search())
"""
