"""Test runs shorten the training cells of the notebooks: see MIXER_QUICK in CONTRIBUTING.md."""

import os

os.environ.setdefault("MIXER_QUICK", "1")
