"""Notebook 1: patches, the filters of their embedding, and what a patch size costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer.drawing import CYCLE, WIDTH, Style, new_figure, to_numpy
from mixer.lessons.plots.output import (
    DIVERGING,
    LINE_STYLES,
    MARKERS,
    PART_COLORS,
    bare,
    each_to_one,
    signed_limits,
    tile,
    to_rgb,
)

NO_WEIGHT = "#D5D5D5"


def patch_grid(image: ArrayLike | Tensor, patch_size: int) -> Figure:
    """A photo beside the patches it is cut into, numbered from 1 in the order of the tokens.

    Args:
        image: what ``to_rgb`` takes.
        patch_size: pixels; a divisor of both sides.
    """
    pixels = to_rgb(image)
    patches = cut_into_patches(pixels, patch_size)
    columns = pixels.shape[1] // patch_size
    gap = max(1, round(pixels.shape[1] * 0.012))
    fig = new_figure(WIDTH, 4.1)
    left, right = fig.subplots(1, 2)
    bare(left, f"{pixels.shape[0]} × {pixels.shape[1]} pixels").imshow(pixels)
    bare(right, f"{len(patches)} patches of {patch_size} × {patch_size} pixels")
    right.imshow(tile(patches, columns, gap))
    box: Style = {"facecolor": "black", "alpha": 0.55, "pad": 1.0, "edgecolor": "none"}
    for index in range(len(patches)):
        y, x = (place * (patch_size + gap) + patch_size / 2 for place in divmod(index, columns))
        style: Style = {"color": "white", "fontsize": 8, "bbox": box}
        right.text(x, y, str(index + 1), ha="center", va="center", **style)
    return fig


def linear_map(matrix: ArrayLike | Tensor, rows: Sequence[str], column_label: str) -> Figure:
    """A matrix as a picture: a coloured square for each weight, a grey one for each exact zero.

    Args:
        matrix: (outputs, inputs).
        rows: names of the outputs.
        column_label: what the inputs are.
    """
    values = to_numpy(matrix)
    low, high = signed_limits(values)
    fig = new_figure(WIDTH, 0.9 + WIDTH * 0.75 * values.shape[0] / values.shape[1])
    ax = fig.subplots()
    # A weight near zero is almost white: what is zero for every image needs another colour.
    ax.set_facecolor(NO_WEIGHT)
    picture = ax.imshow(np.ma.masked_equal(values, 0), cmap=DIVERGING, vmin=low, vmax=high)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xlabel(f"{column_label} (grey: the weight is exactly 0)")
    numbers = [1, *range(5, values.shape[1] + 1, 5)]
    ax.set_xticks([number - 1 for number in numbers], [str(number) for number in numbers])
    ax.set_xticks(np.arange(-0.5, values.shape[1]), minor=True)
    ax.set_yticks(np.arange(-0.5, values.shape[0]), minor=True)
    ax.grid(which="minor", color="white", linewidth=0.7)
    ax.tick_params(which="minor", length=0)
    fig.colorbar(picture, ax=ax, label="weight", shrink=0.9)
    return fig


def filter_responses(
    filters: ArrayLike | Tensor, responses: ArrayLike | Tensor, names: Sequence[str]
) -> Figure:
    """Filters of a patch embedding over what they answer to each patch of a photo.

    Args:
        filters: (N, 3, P, P); each is drawn on its own scale, mid-grey is zero, with lines between
            its pixels.
        responses: (N, rows, columns), one number for each patch; each map has its own scale,
            written under it: two thirds of its largest magnitude, and what is beyond looks alike.
        names: one for each filter.
    """
    kernels, answers = to_colors(filters), to_numpy(responses)
    fig = new_figure(WIDTH + 1, 3.9)
    axes = fig.subplots(2, len(names), height_ratios=[1, 2])
    for column, (name, kernel, answer) in enumerate(zip(names, kernels, answers, strict=True)):
        bare(axes[0, column], name, frame=True).imshow(kernel)
        # So that a white filter is no empty panel.
        for lines in (axes[0, column].axvline, axes[0, column].axhline):
            for pixel in range(1, len(kernel)):
                lines(pixel - 0.5, color="#999999", linewidth=0.5)
        low, high = signed_limits(answer / 1.5)
        bare(axes[1, column], frame=True).imshow(answer, cmap=DIVERGING, vmin=low, vmax=high)
        axes[1, column].set_xlabel(f"answers, −{high:.0f} to +{high:.0f}", fontsize=9)
    return fig


def cost_curves(
    patch_sizes: Sequence[int], costs: Mapping[str, Sequence[float]], ylabel: str
) -> Figure:
    """Cost of each part of a model against the patch size, both on logarithmic axes.

    Args:
        patch_sizes: pixels.
        costs: name of a part -> its cost at each patch size; a name of ``PART_COLORS`` gets that
            colour.
        ylabel: the unit.
    """
    fig = new_figure(7.0, 3.8)
    ax = fig.subplots()
    for number, (name, values) in enumerate(costs.items()):
        color = PART_COLORS.get(name.replace(" ", "_"), CYCLE[number % len(CYCLE)])
        style, marker = LINE_STYLES[number % len(LINE_STYLES)], MARKERS[number % len(MARKERS)]
        ax.plot(patch_sizes, values, style, marker=marker, color=color, label=name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(patch_sizes, [str(size) for size in patch_sizes])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    ax.set_xlabel("patch size P, pixels")
    ax.set_ylabel(ylabel)
    ax.grid(color="#DDDDDD")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def to_colors(filters: ArrayLike | Tensor) -> NDArray[np.float64]:
    """Colour filters (N, 3, P, P) as pictures (N, P, P, 3), 0 to 1: each on its own scale."""
    return each_to_one(to_numpy(filters).transpose(0, 2, 3, 1)) * 0.5 + 0.5  # (N, P, P, 3)


def cut_into_patches(image: NDArray[Any], patch_size: int) -> NDArray[Any]:
    """Patches of an (H, W, 3) image, row by row: (S, P, P, 3)."""
    height, width = image.shape[:2]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"patch_size: expected a divisor of {height} and {width} pixels, found {patch_size}"
        )
    rows, columns = height // patch_size, width // patch_size
    split = image.reshape(rows, patch_size, columns, patch_size, 3)
    return split.swapaxes(1, 2).reshape(-1, patch_size, patch_size, 3)  # (S, P, P, 3)
