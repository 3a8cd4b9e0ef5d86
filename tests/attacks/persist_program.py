"""Starts programs that go on without it: sleep, a shell, Python itself."""

KIND = "persistence"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import subprocess
import sys

for command in (
    ["sleep", "98765"], ["sh", "-c", "sleep 98765 & sleep 98765"],
    [sys.executable, "-c", "import time; time.sleep(98765)"], ["setsid", "sleep", "98765"],
    ["at", "now"], ["systemd-run", "sleep", "98765"],
):
    try:
        subprocess.Popen(command, start_new_session=True)
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError):
        pass


@RIGHT@
"""
