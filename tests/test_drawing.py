"""What runs and lessons draw with."""

import os
import subprocess
import sys

import numpy as np
from PIL import Image

from mixer import drawing


def test_curves_in_percent_beside_the_share_that_guessing_gets_right():
    series = {"a": [0.1, 0.965], "b": [0.2, 0.3]}
    (ax,) = drawing.curves([1, 2], series, percent=True, chance=0.1).axes
    assert [line.get_marker() for line in ax.lines[:2]] == ["o", "o"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.yaxis.get_major_formatter()(0.965) == "96.5%"
    assert list(ax.lines[2].get_ydata()) == [0.1, 0.1] and ax.get_ylim()[0] == 0
    # One line needs no legend, and an x of its own may be given for each.
    (ax,) = drawing.curves({"a": range(21)}, {"a": np.arange(21)}).axes
    assert ax.get_legend() is None and ax.lines[0].get_marker() == "None"


def test_a_picture_of_training():
    loss = np.arange(24.0)
    left, right = drawing.training(range(24), loss, [12, 24], [0.4, 0.6], chance=0.25).axes
    # The mean of two of 24 steps is drawn at the last of them.
    assert left.lines[1].get_xdata().tolist() == list(range(1, 24))
    assert left.lines[1].get_ydata().tolist() == (loss[1:] - 0.5).tolist()
    assert right.lines[0].get_ydata().tolist() == [0.4, 0.6]


def test_files_are_drawn_though_a_backend_is_named_that_is_not_here(tmp_path):
    path = str(tmp_path / "figure.png")
    code = f"from mixer import drawing as d; d.save_figure(d.new_figure(2, 1), {path!r})"
    environment = {**os.environ, "MPLBACKEND": "gone"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert Image.open(path).size == (200, 100)
