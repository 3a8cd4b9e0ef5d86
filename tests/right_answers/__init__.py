"""Right answers by other routes than the solutions': none may ever be called wrong.

``RIGHT`` of ``chNN.py`` maps an exercise's id to its answers, each under the name of its style.
"""
