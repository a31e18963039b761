"""The figures of notebooks 3 and 4: how they look and what they show.

To store new reference pictures after a wanted change run
``python tests/lessons/test_mixer_plots.py``, then look at them.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pictures import BASELINE, difference, photo, pixels, shrunk, stored
from PIL import Image

from mixer.lessons import plots


@pytest.fixture(autouse=True)
def _style() -> None:
    plots.use_style()


PARTS = {
    "one": {"stem": 1, "token_mixing": 3, "channel_mixing": 6},
    "two": {"stem": 0, "token_mixing": 5, "head": 5},
}
FOUND = {"ours": {"count": "", "logits": ""}, "A": {"count": "-12", "logits": "off by 0.1"}}
LOSS = [2.3 - 0.01 * step + 0.1 * (-1) ** step for step in range(60)]
TRUE, PREDICTED = torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 2, 2, 2])
ARRAYS = {
    "stem/kernel": (2, 2, 3, 8),
    "a/LayerNorm_0/scale": (8,),
    "a/token_mixing/Dense_0/kernel": (16, 16),
}
FIGURES: dict[str, Callable[[], Figure]] = {
    "part_shares": lambda: plots.part_shares({"parameters": PARTS, "multiplications": PARTS}),
    "findings_table": lambda: plots.findings_table(FOUND),
    "training": lambda: plots.training(range(60), LOSS, [20, 40, 60], [0.2, 0.3, 0.35], chance=0.1),
    "confusion": lambda: plots.confusion(TRUE, PREDICTED, ["cat", "dog", "a long name"]),
    "checkpoint_arrays": lambda: plots.checkpoint_arrays(ARRAYS),
    "parity_ladder": lambda: plots.parity_ladder(
        {"ours": [0, 1e-7, 2e-7], "wrong": [0, 1e-4, 3e-4]}, list("abc")
    ),
    "top_classes": lambda: plots.top_classes(
        [photo(8)] * 2, [["cat", "a long name"]] * 2, [[0.9, 0.1], [0.5, 0.4]]
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_it_did(name: str) -> None:
    fig = FIGURES[name]()
    assert isinstance(fig, Figure)
    assert difference(shrunk(fig), stored(name)) < 4.0
    # Fits a notebook
    assert fig.get_size_inches()[0] <= 9.01


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off(name: str) -> None:
    """A text that runs over the figure's edge would leave ink on the outermost dots."""
    picture = pixels(FIGURES[name]())
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_shares_fill_each_bar() -> None:
    ax = FIGURES["part_shares"]().axes[0]
    for row, parts in enumerate(PARTS.values()):
        bars = [
            bar
            for bar in ax.patches
            if isinstance(bar, Rectangle) and round(bar.get_y() + 0.36) == row
        ]
        total = sum(parts.values())
        np.testing.assert_allclose(
            [bar.get_width() for bar in bars], [part / total for part in parts.values()]
        )
    assert [text.get_text() for text in ax.texts] == ["10%", "30%", "60%", "50%", "50%"]


def test_the_legend_names_every_part_of_any_model() -> None:
    (legend,) = FIGURES["part_shares"]().legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "stem",
        "token mixing",
        "channel mixing",
        "head",
    ]


def test_a_part_has_one_colour_in_every_figure() -> None:
    color = plots.PART_COLORS["token_mixing"]
    shares = FIGURES["part_shares"]().legends[0]
    assert to_hex(shares.get_patches()[1].get_facecolor()) == color.lower()
    bars = FIGURES["checkpoint_arrays"]().axes[0].patches
    # On a linear axis
    assert [bar.get_width() for bar in bars] == [96, 8, 256]
    expected = [plots.PART_COLORS[part].lower() for part in ("stem", "norms", "token_mixing")]
    assert [to_hex(bar.get_facecolor()) for bar in bars] == expected
    (ax,) = plots.cost_curves([4, 8], {"embedding": [1, 1], "token mixing": [4, 1]}, "cost").axes
    assert [line.get_color() for line in ax.lines] == [plots.PART_COLORS["stem"], color]


def test_the_text_of_a_class_stands_above_its_bar() -> None:
    # Y grows downwards
    below = FIGURES["top_classes"]().axes[2]
    for text, bar in zip(below.texts, below.patches, strict=True):
        assert text.get_position()[1] <= bar.get_y()


def test_findings_are_written_where_they_were_made() -> None:
    (ax,) = plots.findings_table(FOUND).axes
    at = {tuple(text.get_position()): text.get_text() for text in ax.texts}
    assert [at[0.5, 0.5], at[1.5, 0.5]] == ["nothing", "nothing"]
    assert [at[0.5, 1.5], at[1.5, 1.5]] == ["-12", "off by 0.1"]


def test_the_running_mean_is_a_mean_of_the_steps_before() -> None:
    left, right = FIGURES["training"]().axes
    each, mean = left.lines
    np.testing.assert_allclose(each.get_ydata(), LOSS, rtol=1e-6)
    np.testing.assert_allclose(mean.get_ydata()[-1], np.mean(LOSS[-5:]), rtol=1e-6)
    assert mean.get_xdata()[-1] == 59
    # Guessing
    assert right.lines[1].get_ydata()[0] == 0.1


def test_the_ladder_says_where_there_is_no_error() -> None:
    (ax,) = FIGURES["parity_ladder"]().axes
    assert [(text.get_text(), text.get_position()[0]) for text in ax.texts] == [("exactly 0", 0)]


def test_token_matrices_are_numbered_from_one() -> None:
    (ax,) = plots.token_matrices({"a weight": torch.randn(8, 16)}).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "2", "4", "6", "8"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4", "8", "12", "16"]


def test_copies_along_the_diagonal_are_outlined() -> None:
    matrices = {"one": torch.randn(8, 16), "two": torch.randn(8, 16)}
    one, two = plots.token_matrices(matrices, copies={"two": 4}).axes
    assert not one.patches and len(two.patches) == 4
    assert [patch.get_xy() for patch in two.patches[:2]] == [(-0.5, -0.5), (3.5, 1.5)]
    assert two.patches[0].get_width() == 4 and two.patches[0].get_height() == 2


def test_confusion_gives_percent_of_each_true_class() -> None:
    (ax,) = FIGURES["confusion"]().axes
    shown = {
        tuple(int(v) for v in text.get_position()): text.get_text() for text in ax.texts
    }  # (predicted, true)
    assert shown == {(0, 0): "75", (1, 0): "25", (2, 1): "100", (2, 2): "100"}


if __name__ == "__main__":
    plots.use_style()
    for figure_name, make_figure in FIGURES.items():
        Image.fromarray(shrunk(make_figure()).round().astype(np.uint8)).save(
            BASELINE / f"{figure_name}.png", optimize=True
        )
