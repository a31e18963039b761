"""What trained models reach: accuracies, confusions, and what more labels bring."""

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
    LINE_STYLES,
    WIDTH,
    Style,
    bare,
    curves,
    mark_guessing,
    new_figure,
    percent_ticks,
    to_numpy,
)
from mixer.lessons.plots.shapes import INK, SOFT, draw_card, draw_words
from mixer.train import Recipe


def accuracies(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy after fine-tuning, a line for each model: the official number, and ours.

    Models without an official number stand below the others, on a scale of their own.

    Args:
        rows: each with ``label``; ``official``, the published accuracy, and ``measured``, ours,
            both from 0 to 1 or ``None``; ``note``, a few words or two lines of them that stand
            below the numbers.
    """
    known = [row for row in rows if row["official"] is not None]
    own = [row for row in rows if row["official"] is None]
    # Hundredths of an inch
    line, above, below, between = 46, 36, 42, 24
    both = bool(known and own)
    width, height = 900, above + line * len(rows) + below * (1 + both) + between * both
    fig = Figure(figsize=(width / 100, height / 100))
    # A white card with round corners, like the architecture's.
    fig.patch.set_alpha(0.0)
    card = bare(fig.add_axes((0, 0, 1, 1)))
    card.patch.set_alpha(0.0)
    draw_card(card, 2, 2, width - 4, height - 4, "white", "#D0D0D0", round_by=16, zorder=0)
    card.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    top = above
    for group in filter(None, (known, own)):
        if known and group is own:
            text = "This project's own checkpoint, on a scale of its own:"
            draw_words(card, 225, top + 12, text, ha="left", size=9.5)
            top += between
        high = line * len(group)
        ax = fig.add_axes((0.25, 1 - (top + high) / height, 0.47, high / height))
        _draw_accuracies(ax, group)
        if top == above:
            _name_marks(ax)
        top += high + below
    return fig


def _draw_accuracies(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Lines of ``accuracies`` on one scale."""
    known = [row[key] for row in rows for key in ("official", "measured") if row[key] is not None]
    ax.set_xlim(np.floor(min(known) * 20 - 0.2) / 20, 1.0)
    beside = ax.get_yaxis_transform()
    bar: Style = {
        "color": "#BBBBBB",
        "linewidth": 3,
        "solid_capstyle": "round",
        "zorder": 1,
    }
    ring: Style = {
        "color": "white",
        "markeredgecolor": INK,
        "markeredgewidth": 1.5,
        "zorder": 2,
    }
    for y, row in enumerate(rows):
        official, measured = row["official"], row["measured"]
        draw_words(ax, -0.02, y, row["label"], ha="right", size=10, transform=beside)
        if official is not None and measured is not None:
            ax.plot([official, measured], [y, y], **bar)
        if official is not None:
            ax.plot(official, y, "o", markersize=10, **ring)
        if measured is not None:
            ax.plot(measured, y, "D", markersize=7.5, color=COLORS["blue"], zorder=3)
        said = [] if official is None else [f"published {official:.2%}"]
        said += [f"here {measured:.2%}"] if measured is not None else ["not run here yet"]
        place: Style = {"ha": "left", "transform": beside}
        up, down = ((0.0, 0.0), (0.14, 0.24), (0.28, 0.19))[len(row["note"].splitlines())]
        draw_words(ax, 1.03, y - up, ", ".join(said), **place)
        draw_words(ax, 1.03, y + down, row["note"], size=8, color=SOFT, **place)
    ax.set(ylim=(len(rows) - 0.4, -0.6), yticks=[])
    percent_ticks(ax.xaxis)
    ax.locator_params(axis="x", nbins=6)
    ax.grid(axis="x", color="#E4E4E4")
    ax.set_axisbelow(True)
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0, labelsize=9)


def _name_marks(ax: Axes) -> None:
    """The legend of ``accuracies``, above its first line."""
    marks = (
        ("o", "white", INK, "published"),
        ("D", COLORS["blue"], COLORS["blue"], "this project"),
    )
    for marker, face, edge, label in marks:
        ax.plot([], [], marker, color=face, markeredgecolor=edge, markersize=8, label=label)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 0.99), ncols=2, frameon=False, fontsize=9.5)


def confusion(
    labels: ArrayLike | Tensor, predictions: ArrayLike | Tensor, classes: Sequence[str]
) -> Figure:
    """What was predicted for the images of each class: a row a true class, percent of the row.

    Args:
        labels: (N,) the true classes.
        predictions: (N,) the predicted ones.
        classes: their names.
    """
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (to_numpy(labels), to_numpy(predictions)), 1)
    return confusion_counts(table, classes)


def confusion_counts(counts: ArrayLike | Tensor, classes: Sequence[str]) -> Figure:
    """``confusion`` of images that have been counted already.

    Args:
        counts: (classes, classes), images: a row for each true class, a column for each predicted.
        classes: their names.
    """
    table, count = to_numpy(counts), len(classes)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    fig = new_figure(7.0, 0.9 + 0.44 * count)
    ax = fig.subplots()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(count, count):
        if shares[row, column] > 0.005:
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{shares[row, column] * 100:.0f}"
            ax.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    for place in np.arange(count) - 0.5:
        ax.add_patch(Rectangle((place, place), 1, 1, fill=False, clip_on=False))
    ax.set_xticks(range(count), classes, rotation=35, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(count), classes)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true class")
    ax.spines[:].set_visible(False)
    return fig


def few_labels(counts: Sequence[int], accuracy: Mapping[str, ArrayLike], chance: float) -> Figure:
    """Accuracy against the number of labelled training images, a line for each start.

    Args:
        counts: numbers of images, on a logarithmic axis.
        accuracy: name of a start -> its accuracy with each number of images, (N,); or of several
            seeds, (seeds, N), drawn as their mean and, side by side, a ring for each.
        chance: the share that guessing gets right.
    """
    seeds = {name: np.atleast_2d(values) for name, values in accuracy.items()}  # (seeds, N)
    means = {name: values.mean(axis=0) for name, values in seeds.items()}
    fig = curves(counts, means, xlabel="labelled images", ylabel="test accuracy", percent=True)
    ax = fig.axes[0]
    for line in ax.lines:
        line.set_marker("_")
    # Anew, with the markers that are drawn.
    ax.legend()
    for number, values in enumerate(seeds.values()):
        if len(values) < 2:
            continue
        for step, one in zip(np.linspace(-0.03, 0.03, len(values)), values, strict=True):
            ring: Style = {"markerfacecolor": "none", "markeredgecolor": f"C{number}"}
            ax.plot(np.multiply(counts, 10**step), one, "o", markersize=6, **ring)
    ax.set_xscale("log")
    ax.set_xticks(list(counts), [f"{count:,}" for count in counts])
    ax.minorticks_off()
    mark_guessing(ax, chance)
    return fig


def learning_rates(recipes: Mapping[str, Recipe]) -> Figure:
    """The learning rate of each recipe against the share of its run, the first wide and pale.

    Args:
        recipes: name -> recipe.
    """
    shares = np.linspace(0, 1, 201)
    fig = new_figure(WIDTH, 3.2)
    ax = fig.subplots()
    wide: Style = {"linewidth": 7, "alpha": 0.3}
    for number, (name, recipe) in enumerate(recipes.items()):
        rates = [recipe.learning_rate_at(share * recipe.num_steps) for share in shares]
        style = LINE_STYLES[max(0, number - 1) % len(LINE_STYLES)]
        ax.plot(shares, rates, style, label=name, **(wide if number == 0 else {}))
    ax.set_xlabel("share of the run")
    ax.set_ylabel("learning rate")
    ax.grid(axis="y")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig
