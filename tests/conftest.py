"""Settings that every test shares, set before any test imports torch."""

import os

# One thread per process: the runner starts several, and results must not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# No kernel that a test starts writes a learner's journal.
os.environ.setdefault("COURSE_PROGRESS", "0")
# Tests never reach for a network: these make the libraries say so at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis

# No test may fail because the machine was busy.
hypothesis.settings.register_profile("course", deadline=None)
hypothesis.settings.load_profile("course")
