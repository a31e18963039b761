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
    WIDTH,
    Style,
    curves,
    mark_guessing,
    new_figure,
    percent_ticks,
    to_numpy,
)
from mixer.lessons.plots.output import LINE_STYLES
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
    groups = [group for group in (known, own) if group]
    sizes = [len(group) for group in groups]
    fig = new_figure(9.0, 0.7 * len(groups) + 0.5 * len(rows))
    axes = fig.subplots(len(groups), squeeze=False, height_ratios=sizes)[:, 0]
    for ax, group in zip(axes, groups, strict=True):
        _draw_accuracies(ax, group)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
    if known and own:
        axes[1].set_title("This project's own checkpoint, on a scale of its own:", loc="left")
    return fig


def _draw_accuracies(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Lines of ``accuracies`` on one scale."""
    beside: Style = {"transform": ax.get_yaxis_transform(), "va": "center", "clip_on": False}
    for y, row in enumerate(rows):
        said = []
        if row["official"] is not None:
            said.append(f"published {row['official']:.2%}")
        said.append(f"here {row['measured']:.2%}" if row["measured"] else "not run here yet")
        text = "\n".join(filter(None, [", ".join(said), row["note"]]))
        ax.text(1.03, y, text, fontsize=8.5, **beside)
    ys = range(len(rows))
    ring: Style = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 9}
    ax.plot([row["official"] for row in rows], ys, "o", label="published", **ring)
    measured = [row["measured"] for row in rows]
    ax.plot(measured, ys, "D", color=COLORS["blue"], label="this project")
    shares = [row[key] for row in rows for key in ("official", "measured") if row[key]]
    ax.set_xlim(np.floor(min(shares) * 20 - 0.2) / 20, 1.0)
    ax.set(ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticks(ys, [row["label"] for row in rows])
    percent_ticks(ax.xaxis)
    ax.grid(axis="x")
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)


def confusion(
    labels: ArrayLike | Tensor, predictions: ArrayLike | Tensor, classes: Sequence[str]
) -> Figure:
    """What was predicted for the images of each class: a row a true class, percent of the row.

    Args:
        labels: (N,) the true classes.
        predictions: (N,) the predicted ones.
        classes: their names.
    """
    count = len(classes)
    table = np.zeros((count, count))  # images: a row for each true class
    np.add.at(table, (to_numpy(labels), to_numpy(predictions)), 1)
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
