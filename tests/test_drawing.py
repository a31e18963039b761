"""What runs and lessons draw with."""

import subprocess
import sys

import matplotlib
import numpy as np
import torch
from PIL import Image

from mixer import drawing


def ticks_of(axis, *places):
    return [axis.get_major_formatter()(place) for place in places]


def test_to_numpy_takes_any_tensor():
    values = torch.tensor([0.5, 2.0], requires_grad=True)
    for tensor in (values, values.bfloat16(), [0.5, 2.0]):
        found = drawing.to_numpy(tensor)
        assert isinstance(found, np.ndarray) and found.tolist() == [0.5, 2.0]
    assert drawing.to_numpy(torch.tensor([3])).dtype == np.int64


def test_the_style_is_set_for_the_session():
    with matplotlib.rc_context():
        drawing.use_style()
        assert matplotlib.rcParams["figure.dpi"] == drawing.DPI == 100
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == drawing.CYCLE
        assert not matplotlib.rcParams["axes.spines.top"]
    fig = drawing.new_figure(6.0, 2.0)
    assert fig.get_size_inches().tolist() == [6.0, 2.0]


def test_lines_of_curves_are_told_apart_and_named():
    series = {str(number): [0.1, 0.965] for number in range(8)}
    (ax,) = drawing.curves([1, 2], series, ylabel="accuracy", percent=True, chance=0.1).axes
    lines = ax.get_lines()[:8]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 8
    assert [line.get_marker() for line in lines] == ["o"] * 8
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(series)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "accuracy")
    assert ticks_of(ax.yaxis, 0.6, 0.965) == ["60%", "96.5%"]
    assert list(ax.get_lines()[8].get_ydata()) == [0.1, 0.1] and ax.get_ylim()[0] == 0
    assert [text.get_text() for text in ax.texts] == ["guessing"]
    # One line needs no legend, and an x of its own may be given for each.
    (ax,) = drawing.curves({"a": range(21)}, {"a": np.arange(21)}, beside=True).axes
    assert ax.get_legend() is None and ax.get_lines()[0].get_marker() == "None"
    assert ax.figure.get_size_inches()[0] == drawing.WIDTH


def test_a_picture_of_training():
    loss = np.arange(24.0)
    fig = drawing.training(range(24), loss, [12, 24], [0.4, 0.6], chance=0.25)
    left, right = fig.axes
    every, mean = left.get_lines()
    assert every.get_ydata().tolist() == loss.tolist()
    # A window of two of 24 steps, drawn at the last of them.
    assert mean.get_xdata().tolist() == list(range(1, 24))
    assert mean.get_ydata().tolist() == (loss[1:] - 0.5).tolist()
    assert [text.get_text() for text in left.get_legend().get_texts()][
        1
    ] == "mean of the last 2 steps"
    test, guessing = right.get_lines()
    assert test.get_ydata().tolist() == [0.4, 0.6] and list(guessing.get_ydata()) == [0.25] * 2
    assert len(drawing.training(range(23), loss[:23], [1], [0.5], chance=0.1).axes[0].lines) == 1


def test_bare_axes_keep_their_title():
    ax = drawing.bare(drawing.new_figure().subplots(), "a patch")
    assert ax.get_title() == "a patch" and not len(ax.get_xticks()) and not len(ax.get_yticks())
    assert not any(spine.get_visible() for spine in ax.spines.values())
    assert all(spine.get_visible() for spine in drawing.bare(ax, frame=True).spines.values())


def test_files_are_drawn_though_a_backend_is_named_that_is_not_here(tmp_path):
    """As by a command that a cell of a notebook starts."""
    path = tmp_path / "figure.png"
    code = (
        "import os; os.environ['MPLBACKEND'] = 'gone'\n"
        "from mixer import drawing\n"
        f"drawing.save_figure(drawing.new_figure(2, 1), {str(path)!r})\n"
        "assert os.environ['MPLBACKEND'] == 'gone'"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert Image.open(path).size == (200, 100) and Image.open(path).format == "PNG"
