"""Runs commands of the shell through Jupyter's magics."""

KIND = "files"
EXERCISE = "03.split_heads"
# Jupyter's own lines are left out, and the rest is right.
EARNS = 2
CELL = r"""
!touch /tmp/MALLORY @GRADES@/MALLORY
%cd @GRADES@
%env LD_PRELOAD=/tmp/MALLORY.so
listing = !cat @CANARY@
%run -i @REPO@/course_pkg/checks/ch03.py


def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)
"""
