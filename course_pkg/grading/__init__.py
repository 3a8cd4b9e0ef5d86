"""Grading what a class handed in, without ever trusting it.

A submission is read as data; its code runs in a sandbox and gives raw values back; this process
holds them against the checks. Needs Linux with bubblewrap, Docker or Podman.
"""
