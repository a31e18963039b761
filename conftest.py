"""Test runs shorten the training cells of the notebooks: see MIXER_QUICK in the README."""

import os

os.environ.setdefault("MIXER_QUICK", "1")
