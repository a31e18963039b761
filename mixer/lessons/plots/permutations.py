"""Notebook 7: shuffled images, re-indexed weights, and what shuffles do to accuracy."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from torch import Tensor

from mixer.drawing import (
    COLORS,
    CYCLE,
    WIDTH,
    Style,
    figure_of,
    mark_guessing,
    new_figure,
    percent_ticks,
    to_numpy,
)
from mixer.lessons.plots.output import (
    LINE_STYLES,
    MARKERS,
    bare,
    each_to_one,
    show_signed,
    tile,
    to_rgb,
)
from mixer.lessons.plots.units import place, sheet


def shuffled_images(rows: Mapping[str, Sequence[Any] | Tensor]) -> Figure:
    """Rows of images with a label at the left, such as the same ones in several orders of pixels.

    Args:
        rows: label -> images, as ``to_rgb`` takes them; as many in each row.
    """
    count = len(next(iter(rows.values())))
    fig = new_figure(WIDTH, WIDTH * 0.82 / count * len(rows))
    axes = fig.subplots(len(rows), count, squeeze=False)
    at_the_left: Style = {"rotation": 0, "ha": "right", "va": "center", "labelpad": 8}
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            bare(ax).imshow(to_rgb(image), interpolation="nearest")
        line[0].set_ylabel(label.replace(" and ", "\nand "), **at_the_left)
    return fig


def weight_rows(rows: Mapping[str, ArrayLike | Tensor]) -> Figure:
    """Rows of small signed grids, a label above each row, each grid over its largest weight.

    Args:
        rows: label -> grids (N, h, w), as many in each row.
    """
    most = max(len(to_numpy(grids)) for grids in rows.values())
    fig = new_figure(WIDTH, min(1.9, 0.4 + 6.8 / most) * len(rows))
    axes = fig.subplots(len(rows), 1, squeeze=False).ravel()
    for ax, (label, grids) in zip(axes, rows.items(), strict=True):
        values = each_to_one(to_numpy(grids))
        show_signed(bare(ax), tile(values, len(values)))
        ax.set_title(label, loc="left")
    bar = fig.colorbar(axes[0].images[0], ax=list(axes), pad=0.01, aspect=8 * len(rows))
    bar.set_label("weight / largest of its picture", fontsize=9)
    return fig


def shuffle_curves(
    runs: Sequence[Mapping[str, Any]], names: Mapping[str, str], chance: float = 0.1
) -> Figure:
    """Test accuracy while training, a panel for each network, a line for each order of the pixels.

    Args:
        runs: as in ``results("permutation")``: each with ``model``, ``shuffle``, ``steps`` and
            ``test_accuracy``. Each run of a kind is a thin line, their mean a thick one.
        names: ``model`` of a run -> title of its panel.
        chance: the share that guessing gets right.
    """
    fig = new_figure(WIDTH, 3.2)
    axes = fig.subplots(1, len(names), sharey=True, squeeze=False).ravel()
    shuffles = list(dict.fromkeys(run["shuffle"] for run in runs))
    for ax, (model, title) in zip(axes, names.items(), strict=True):
        for number, shuffle in enumerate(shuffles):
            kind = [run for run in runs if run["model"] == model and run["shuffle"] == shuffle]
            steps, accuracy = kind[0]["steps"], np.array([run["test_accuracy"] for run in kind])
            ax.plot(steps, accuracy.T, color=CYCLE[number], linewidth=0.7, alpha=0.5)
            common: Style = {"color": CYCLE[number], "marker": MARKERS[number], "markersize": 4}
            ax.plot(steps, accuracy.mean(0), LINE_STYLES[number], label=shuffle, **common)
        ax.set_title(title)
        ax.set_xlabel("step")
        ax.grid(axis="y")
    for ax in axes:
        # Once all is drawn: it fixes the limits, which the panels share.
        mark_guessing(ax, chance)
    axes[0].set_ylabel("test accuracy")
    percent_ticks(axes[0].yaxis)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="pixels")
    return fig


def shuffle_card(
    original: ArrayLike | Tensor,
    shuffled: ArrayLike | Tensor,
    probabilities: Mapping[str, tuple[float, float]],
    accuracy: Mapping[str, float],
    chosen: str,
    *,
    truth: str,
    count: int,
) -> Figure:
    """An image before and after a shuffle, what a model says, and its accuracy under each shuffle.

    Args:
        original, shuffled: what ``to_rgb`` takes.
        probabilities: class -> the probability that the model gives it before and after, 0 to 1.
        accuracy: kind of shuffle -> share of test images that the model gets right.
        chosen: the kind that is shown.
        truth: the class of the image.
        count: the number of those test images.
    """
    ax = sheet(9.0, 3.9)
    place(ax, to_rgb(original), 0.1, 0.3, 1.6, f"before: {truth}", room=1.6)
    place(ax, to_rgb(shuffled), 0.1, 2.2, 1.6, "after", room=1.6)

    ax.text(4.0, 0.23, "what the model says", ha="center", va="bottom", fontsize=9)
    pitch = 3.0 / len(probabilities)
    for index, (name, (before, after)) in enumerate(probabilities.items()):
        top = 0.4 + index * pitch
        label = f"{name} ✓" if name == truth else name
        ax.text(3.2, top + 0.26, label, ha="right", va="center", fontsize=9)
        _bar(ax, 3.3, top, 0.24, before, COLORS["grey"])
        _bar(ax, 3.3, top + 0.27, 0.24, after, COLORS["blue"])
    for left, color, label in ((3.3, COLORS["grey"], "before"), (4.2, COLORS["blue"], "after")):
        ax.add_artist(Rectangle((left, 3.55), 0.22, 0.14, facecolor=color, linewidth=0))
        ax.text(left + 0.3, 3.62, label, va="center", fontsize=9)

    ax.text(7.8, 0.23, f"right, of {count} images", ha="center", va="bottom", fontsize=9)
    pitch = 3.0 / len(accuracy)
    for index, (name, share) in enumerate(accuracy.items()):
        top = 0.4 + index * pitch
        weight = "bold" if name == chosen else "normal"
        text = textwrap.fill(name, 16)
        ax.text(6.9, top + 0.2, text, ha="right", va="center", fontsize=9, fontweight=weight)
        _bar(ax, 7.0, top, 0.4, share, COLORS["blue"] if name == chosen else "#BBBBBB")
    for left in (3.3, 7.0):
        ax.plot([left, left], [0.35, 3.4], color="black", linewidth=0.8)
    return figure_of(ax)


def _bar(ax: Axes, left: float, top: float, height: float, share: float, color: str) -> None:
    """A share from 0 to 1 as a bar to the right, with the percents behind it."""
    ax.add_artist(Rectangle((left, top), 1.6 * share, height, facecolor=color, linewidth=0))
    end, middle = left + 1.6 * share + 0.05, top + height / 2
    ax.text(end, middle, f"{share:.0%}", va="center", fontsize=8.5)
