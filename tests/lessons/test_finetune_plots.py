"""The figure of notebook 5: how it looks and what it shows.

To store a new reference picture after a wanted change run
``python tests/lessons/test_finetune_plots.py``, then look at it.
"""

import numpy as np
import pytest
from matplotlib.figure import Figure
from pictures import BASELINE, difference, pixels, shrunk, stored
from PIL import Image

from mixer.lessons import plots

COUNTS = (500, 5_000, 50_000)
ACCURACY = {"pre-trained": [0.35, 0.45, 0.5], "from scratch": [0.2, 0.28, 0.3]}


@pytest.fixture(autouse=True)
def _style() -> None:
    plots.use_style()


def figure() -> Figure:
    return plots.few_labels(COUNTS, ACCURACY, chance=0.1)


def test_figure_looks_as_it_did() -> None:
    assert difference(shrunk(figure()), stored("few_labels")) < 4.0
    other = plots.few_labels(
        COUNTS, {name: values[::-1] for name, values in ACCURACY.items()}, chance=0.1
    )
    assert difference(shrunk(other), stored("few_labels")) > 4.0


def test_few_labels_of_several_seeds_show_the_mean_and_each_run():
    several = {name: [values, [v + 0.1 for v in values]] for name, values in ACCURACY.items()}
    ax = plots.few_labels(COUNTS, several, chance=0.1).axes[0]
    means, rings = ax.lines[: len(ACCURACY)], ax.lines[len(ACCURACY) : -1]
    for line, (name, values) in zip(means, ACCURACY.items(), strict=True):
        assert line.get_label() == name
        assert line.get_ydata() == pytest.approx([v + 0.05 for v in values])
    assert len(rings) == 2 * len(ACCURACY)
    for number, values in enumerate(ACCURACY.values()):
        low, high = rings[2 * number : 2 * number + 2]
        assert low.get_ydata() == pytest.approx(values)
        assert high.get_ydata() == pytest.approx([v + 0.1 for v in values])
        # Side by side, so that equal runs are seen
        assert (low.get_xdata() < COUNTS).all() and (high.get_xdata() > COUNTS).all()


def test_nothing_is_cut_off() -> None:
    picture = pixels(figure())
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_lines_ticks_and_the_level_of_guessing() -> None:
    ax = figure().axes[0]
    *lines, guessing = ax.lines
    for line, values in zip(lines, ACCURACY.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), COUNTS)
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert list(guessing.get_ydata()) == [0.1, 0.1]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["500", "5,000", "50,000"]
    assert ax.get_xscale() == "log" and ax.get_ylim()[0] == 0


if __name__ == "__main__":
    plots.use_style()
    Image.fromarray(shrunk(figure()).round().astype(np.uint8)).save(
        BASELINE / "few_labels.png", optimize=True
    )
