"""Leaves files for the next student in every folder that can be written."""

KIND = "persistence"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import os

for folder in (
    "/tmp", "/dev/shm", "/var/tmp", "/run", "/run/lock", "/home", os.path.expanduser("~"), ".",
    "/", "/opt", "/srv", "/mnt", "/etc", "/usr/local/bin", "/var/spool/cron/crontabs",
    "@GRADES@", "@REPO@", os.path.dirname("@OTHER@"), os.path.dirname("@CANARY@"),
):
    try:
        with open(f"{folder}/MALLORY_was_here", "w") as file:
            file.write("MALLORY")
    except OSError:
        pass


@RIGHT@
"""
