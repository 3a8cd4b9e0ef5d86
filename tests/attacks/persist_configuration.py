"""Writes what shells, Python, PyTorch, Jupyter and the loader read from a home when they start."""

KIND = "persistence"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import os

home = os.path.expanduser("~")
for name in (
    ".bashrc", ".profile", ".config/matplotlib/matplotlibrc", ".ipython/profile_default/startup/0",
    ".local/lib/python3.11/site-packages/usercustomize.py", ".cache/torch/MALLORY", ".pdbrc",
    ".config/autostart/MALLORY.desktop", ".ssh/authorized_keys", ".jupyter/jupyter_config.py",
):
    for root in (home, "/root", "/"):
        try:
            os.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
            with open(f"{root}/{name}", "w") as file:
                file.write("# MALLORY\n")
        except OSError:
            pass
for name in ("LD_PRELOAD", "PYTHONSTARTUP", "PYTHONPATH", "BASH_ENV"):
    os.environ[name] = "/tmp/MALLORY.so"


@RIGHT@
"""
