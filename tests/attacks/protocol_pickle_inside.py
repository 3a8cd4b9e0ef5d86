"""Sends a well-formed reply whose byte strings and texts are pickles."""

KIND = "protocol"
EXERCISE = "03.split_heads"
EARNS = 0
CELL = r"""
@SEND@

import pickle


class Payload:
    def __reduce__(self):
        return os.system, ("touch '@GRADES@/MALLORY'",)


body = pickle.dumps(Payload())
push(message(reply_tree(["l", ["y", len(body)], body.decode("latin-1")]), body))
os._exit(0)
"""
