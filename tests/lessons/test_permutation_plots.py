"""The figures of notebook 7, and a gallery of units: how they look.

To store new reference pictures after a wanted change run
``python tests/lessons/test_permutation_plots.py``, then look at them.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pictures import BASELINE, difference, shrunk, stored
from PIL import Image

from mixer.lessons import plots


def waves(count: int, size: int = 8) -> torch.Tensor:
    """Smooth grids, each with a wave of its own: (count, size, size)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    angle = torch.arange(count).view(-1, 1, 1) * 0.7
    return (0.9 * (x * angle.cos() + y * angle.sin()) + angle).sin() * torch.exp(
        -((x - 3.5) ** 2) / 20
    )


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return [
        ((waves(count * 3).view(count, 3, 8, 8)[k] + 1) * 127).byte().numpy() for k in range(count)
    ]


def some_runs(drop: float = 0.2) -> list[dict[str, object]]:
    return [
        {
            "model": model,
            "shuffle": shuffle,
            "steps": [10, 20, 30],
            "test_accuracy": [0.2, 0.3, 0.5 - k * weight * drop],
        }
        for model, weight in (("mixer", 0.3), ("cnn", 1.0))
        for k, shuffle in enumerate(("original", "all pixels"))
    ]


SCORES = {"one": [0.5, 0.4, 0.3], "two": [0.8, 0.8, 0.7]}
NAMES = {"mixer": "Mixer", "cnn": "convolutional network"}
FIGURES: dict[str, Callable[[], Figure]] = {
    "shuffled_images": lambda: plots.shuffled_images(
        {"original": pictures(4), "all pixels": pictures(4)[::-1]}
    ),
    "weight_rows": lambda: plots.weight_rows({"learned": waves(6), "its twin": waves(6).flip(-1)}),
    "shuffle_curves": lambda: plots.shuffle_curves(some_runs(), NAMES),
    "shift_curves": lambda: plots.shift_curves(
        [0, 1, 2], SCORES, {name: [1, 0.8, 0.7] for name in SCORES}, 4
    ),
    "unit_gallery": lambda: plots.unit_gallery(
        {"block 1": waves(16), "block 2": -waves(16)}, columns=4
    ),
}


def test_rows_of_a_group_share_a_scale() -> None:
    rows = {"before": waves(3), "change": 0.1 * waves(3), "small change": 0.01 * waves(3)}
    figure = plots.weight_rows(rows, scales=[["change", "small change"]])
    before, change, small = (ax.images[0] for ax in figure.axes[:3])
    assert before.get_clim() == (-1, 1)
    largest = float(abs(rows["change"]).max())
    assert change.get_clim() == small.get_clim() == (-largest, largest)
    labels = [ax.get_ylabel() for ax in figure.axes[3:]]
    assert labels == ["of its largest", "weight", "weight"]


def test_guessing_is_marked_and_no_line_leaves_its_panel() -> None:
    runs = some_runs()
    # The second panel reaches further than the first.
    runs[-1]["test_accuracy"] = [0.2, 0.6, 0.9]
    for ax in plots.shuffle_curves(runs, NAMES).axes:
        assert [text.get_text() for text in ax.texts] == ["guessing"]
        low, high = ax.get_ylim()
        assert all(
            low <= min(line.get_ydata()) <= max(line.get_ydata()) <= high for line in ax.lines
        )


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_it_did(name: str) -> None:
    plots.use_style()
    assert difference(shrunk(FIGURES[name]()), stored(name)) < 5.0


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (
            "weight_rows",
            lambda: plots.weight_rows({"learned": waves(6), "its twin": -waves(6).flip(-1)}),
        ),
        ("shuffle_curves", lambda: plots.shuffle_curves(some_runs(drop=-0.4), NAMES)),
        (
            "unit_gallery",
            lambda: plots.unit_gallery({"block 1": waves(16), "block 2": waves(16)}, columns=4),
        ),
    ],
)
def test_another_figure_is_noticed(name: str, other: Callable[[], Figure]) -> None:
    plots.use_style()
    assert difference(shrunk(other()), stored(name)) > 7.0


if __name__ == "__main__":
    plots.use_style()
    for name, draw in FIGURES.items():
        Image.fromarray(shrunk(draw(), 400).round().astype(np.uint8)).save(
            BASELINE / f"{name}.png", optimize=True
        )
