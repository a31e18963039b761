"""Notebook 4: the arrays of a checkpoint, how closely models agree, what one sees in a photo."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from torch import Tensor

from mixer.drawing import COLORS, WIDTH, Style, new_figure, to_numpy
from mixer.lessons.plots.output import DIVERGING, PART_COLORS, bare, signed_limits, to_rgb


def checkpoint_arrays(shapes: Mapping[str, tuple[int, ...]]) -> Figure:
    """How many numbers each array of a checkpoint holds, coloured by its part of the model.

    Args:
        shapes: official array name -> shape, in the order in which to show them.
    """
    fig = new_figure(WIDTH + 1, 0.26 * len(shapes) + 0.9)
    ax = fig.subplots()
    seen: set[str] = set()
    for row, (name, shape) in enumerate(shapes.items()):
        size, part = int(np.prod(shape)), "norms" if "norm" in name.lower() else "other"
        part = next((known for known in PART_COLORS if known in name), part)
        label = None if part in seen else part.replace("_", " ")
        ax.barh(row, size, color=PART_COLORS.get(part, COLORS["grey"]), label=label)
        text = " × ".join(map(str, shape))
        ax.annotate(text, (size, row), (5, 0), textcoords="offset points", va="center")
        seen.add(part)
    ax.set_yticks(range(len(shapes)), list(shapes), fontsize=9, family="DejaVu Sans Mono")
    ax.set_ylim(len(shapes) - 0.4, -0.6)
    ax.set_xlim(right=1.22 * max(int(np.prod(shape)) for shape in shapes.values()))
    ax.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    ax.set_xlabel("numbers in the array")
    fig.legend(loc="outside upper center", ncols=len(seen))
    return fig


def parity_ladder(errors: Mapping[str, Sequence[float]], stages: Sequence[str]) -> Figure:
    """Relative error of every stage of a model against a reference, a line for each variant.

    A stage that agrees exactly has no place on the logarithmic axis, and no mark.
    """
    fig = new_figure(WIDTH, 4.0)
    ax = fig.subplots()
    for number, (name, values) in enumerate(errors.items()):
        shown = [value if value > 0 else np.nan for value in values]
        # Lines lie on each other here: every second one is thin and dotted, and the one below seen.
        style, width, size = ((":", 1.5, 4), ("-", 3, 9))[(number + 1) % 2]
        look: Style = {"marker": "osD^vP"[number % 6], "markersize": size, "linewidth": width}
        ax.plot(range(len(stages)), shown, style, label=name, **look)
    ax.set_yscale("log")
    ax.set_xticks(range(len(stages)), list(stages))
    ax.set_xlim(-0.5, len(stages) - 0.5)
    ax.set_ylabel("relative error")
    ax.grid(axis="y")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def top_classes(
    images: Sequence[Any], names: Sequence[Sequence[str]], shares: Sequence[Sequence[float]]
) -> Figure:
    """Photographs, and under each the most likely classes with their probabilities.

    Args:
        images: what ``to_rgb`` takes, each.
        names: for each image the names of its classes, most likely first.
        shares: for each image their probabilities, 0 to 1.
    """
    fig = new_figure(WIDTH, 3.9)
    pictures, bars = fig.subplots(2, len(images), height_ratios=[1.3, 1], squeeze=False)
    columns = zip(pictures, bars, images, names, shares, strict=True)
    for ax, below, image, classes, values in columns:
        bare(ax).imshow(to_rgb(image))
        below.barh(range(len(values)), values, 0.36, color=COLORS["sky"])
        for row, name in enumerate(classes):
            below.text(0, row - 0.22, f"{name}  {values[row]:.0%}", va="bottom", fontsize=9)
        below.set_xlim(0, 1)
        bare(below).set_ylim(len(classes) - 0.7, -0.9)
    return fig


def token_matrices(
    named: Mapping[str, ArrayLike | Tensor], copies: Mapping[str, int] | None = None
) -> Figure:
    """Weight matrices side by side, each with its own symmetric colours.

    Args:
        named: title -> (hidden units, tokens).
        copies: title of a matrix -> how many equal parts along its diagonal to outline.
    """
    fig = new_figure(WIDTH, 3.4)
    axes = fig.subplots(1, len(named), squeeze=False)[0]
    for ax, (name, matrix) in zip(axes, named.items(), strict=True):
        values = to_numpy(matrix)
        low, high = signed_limits(values)
        ax.imshow(values, cmap=DIVERGING, vmin=low / 2, vmax=high / 2, interpolation="nearest")
        ax.set_title(f"{name}\n{values.shape[0]} × {values.shape[1]}", fontsize=9)
        ax.set_xlabel("token")
        _outline_diagonal(ax, values.shape, (copies or {}).get(name, 0))
        for set_ticks, count in ((ax.set_yticks, len(values)), (ax.set_xticks, values.shape[1])):
            numbers = [1, count // 4, count // 2, 3 * count // 4, count]
            set_ticks([number - 1 for number in numbers], [str(number) for number in numbers])
    axes[0].set_ylabel("hidden unit")
    return fig


def _outline_diagonal(ax: Axes, shape: tuple[int, ...], parts: int) -> None:
    height, width = (side / max(1, parts) for side in shape)
    style: Style = {"fill": False, "edgecolor": "black", "linewidth": 1, "linestyle": "--"}
    for part in range(parts):
        corner = part * width - 0.5, part * height - 0.5
        ax.add_patch(Rectangle(corner, width, height, **style))
