"""The pictures of the explorers, drawn quickly.

An explorer's figure is one axes measured in inches from the upper left corner, on which everything
is placed by hand: every further axes would cost about 10 ms, and the automatic layout more than
everything else together.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer.drawing import COLORS, SEQUENTIAL, Style, figure_of, to_numpy
from mixer.lessons.plots.output import each_to_one, show_signed, tile, to_rgb


def _sheet(width: float, height: float) -> Axes:
    fig = Figure(figsize=(width, height), facecolor="white")
    ax = fig.add_axes((0, 0, 1, 1), frameon=False)
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_autoscale_on(False)
    return ax


def _place(
    ax: Axes,
    picture: NDArray[Any],
    left: float,
    top: float,
    width: float,
    title: str = "",
    room: float = math.inf,
    **options: Any,
) -> float:
    """Put a picture with its upper left corner there; returns the inches of a cell.

    It is as wide as ``width``, or narrower where it would be higher than ``room``.
    """
    width = min(width, room * picture.shape[1] / picture.shape[0])
    cell = width / picture.shape[1]
    extent = (left, left + width, top + picture.shape[0] * cell, top)
    # Without three colours: signed weights, -1 to 1, unless the options say otherwise.
    show_signed(ax, picture, extent=extent, aspect="auto", **options)
    if title:
        ax.text(left + width / 2, top - 0.07, title, ha="center", va="bottom", fontsize=9)
    return cell


def _outline_cell(
    ax: Axes, left: float, top: float, width: float, height: float, color: str, linewidth: float
) -> None:
    style: Style = {"edgecolor": color, "linewidth": linewidth, "zorder": 3}
    ax.add_artist(Rectangle((left, top), width, height, fill=False, **style))


def unit_card(
    overview: ArrayLike | Tensor,
    position: int,
    grids: Mapping[str, ArrayLike | Tensor],
    photo: ArrayLike | Tensor,
    images: Sequence[Any] | Tensor,
    *,
    overview_title: str,
    images_title: str,
) -> Figure:
    """One unit: its place among the others, its weights, alone and over a photo, what excites it.

    Args:
        overview: (N, h, w), all units in the order chosen.
        position: the unit's place in that order.
        grids: title -> weights (h, w); the first is the unit's own, others stand beside it (its
            twin, …); up to 3.
        photo: what ``to_rgb`` takes; the unit's grid is laid over it.
        images: those that excite the unit most.
        overview_title, images_title: texts.
    """
    units = each_to_one(to_numpy(overview))
    height, width = units.shape[1:]
    columns = _columns_of(len(units))
    canvas = tile(units, columns)
    across = min(4.0, 4.0 * canvas.shape[1] / canvas.shape[0])
    ax = _sheet(9.0, 4.5)
    cell = _place(ax, canvas, 0.1, 0.4, across, overview_title)
    high, wide = (height + 1) * cell, (width + 1) * cell
    left, top = position % columns * wide - cell / 2, position // columns * high - cell / 2
    _outline_cell(ax, 0.1 + left, 0.4 + top, wide, high, "black", 2.5)

    side, start = 1.45, 4.3
    own = each_to_one(np.stack([to_numpy(grid) for grid in grids.values()]))
    for index, (title, grid) in enumerate(zip(grids, own, strict=True)):
        place = start + index * (side + 0.1)
        cell = _place(ax, grid, place, 0.4, side, title, room=1.7)
        _outline_cell(ax, place, 0.4, width * cell, height * cell, "#999999", 0.8)
    _place(ax, tinted(to_rgb(photo), own[0]), start, 2.4, side, "over a photo", room=2.0)
    pictures = np.stack([to_rgb(image) for image in images[:6]])
    pictures = tile(pictures, 3, gap=max(1, pictures.shape[2] // 12))
    _place(ax, pictures, start + side + 0.3, 2.4, 2.3, images_title, room=2.0)
    return figure_of(ax)


def _columns_of(count: int) -> int:
    """An even number of columns that makes a block of ``count`` squares about square."""
    return 2 * max(1, round(count**0.5 / 2))


def tinted(pixels: NDArray[np.uint8], grid: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A grey photo seen through a grid from -1 to 1: blue below zero, red above.

    The colours multiply the photo, as coloured glass does, so that its outlines stay.
    """
    grey = 0.35 + 0.65 * pixels.mean(-1, keepdims=True) / 255
    rows = np.arange(pixels.shape[0]) * grid.shape[0] // pixels.shape[0]
    columns = np.arange(pixels.shape[1]) * grid.shape[1] // pixels.shape[1]
    value = grid[rows][:, columns, None]  # (H, W, 1)
    glass = np.where(value < 0, np.array([0.25, 0.55, 1.0]), np.array([1.0, 0.35, 0.3]))
    strength = np.abs(value)
    return (255 * grey * (1 - strength + strength * glass)).clip(0, 255).astype(np.uint8)


def influence_card(
    photo: ArrayLike | Tensor,
    maps: ArrayLike | Tensor,
    patch: int,
    titles: Sequence[str],
    *,
    photo_title: str,
    note: str = "",
) -> Figure:
    """A photo with one patch outlined, and for each depth a map of where that patch's influence is.

    Args:
        photo: what ``to_rgb`` takes.
        maps: (N, h, w), none of them negative; each is scaled by its largest value outside the
            patch itself.
        patch: the patch outlined, counted row by row.
        titles: one over each map.
        photo_title: over the photo.
        note: below it.
    """
    pixels, values = to_rgb(photo), to_numpy(maps).astype(np.float64)
    rows, columns = values.shape[1:]
    row, column = divmod(patch, columns)
    others = np.delete(values.reshape(len(values), -1), patch, axis=1).max(axis=1)  # (N,)
    # Two lines up to eight maps, three up to twelve, then four.
    per_line = -(-len(values) // min(4, max(2, -(-len(values) // 4))))
    # A title's height between the lines.
    gap = max(2, columns // 5, math.ceil(0.2 * per_line * columns / (5.5 - 0.2 * per_line)))
    canvas = tile((values / np.maximum(others, 1e-30)[:, None, None]).clip(0, 1), per_line, gap)

    ax = _sheet(9.0, 3.9)
    size = _place(ax, pixels, 0.1, 0.4, 3.0, photo_title, room=3.1)
    high, wide = pixels.shape[0] / rows * size, pixels.shape[1] / columns * size
    _outline_cell(ax, 0.1 + column * wide, 0.4 + row * high, wide, high, COLORS["red"], 3)
    across = min(5.5, 3.0 * canvas.shape[1] / canvas.shape[0])
    cell = _place(ax, canvas, 3.4, 0.4, across, cmap=SEQUENTIAL, vmin=0)
    for index, title in enumerate(titles):
        left = 3.4 + index % per_line * (columns + gap) * cell
        top = 0.4 + index // per_line * (rows + gap) * cell
        ax.text(left + columns * cell / 2, top - 0.05, title, ha="center", va="bottom", fontsize=9)
        _outline_cell(ax, left + column * cell, top + row * cell, cell, cell, COLORS["red"], 2)
    # A colour bar would be a second axes.
    scale: Style = {"ha": "left", "va": "center", "fontsize": 9}
    ax.text(0.1, 3.63, note, **scale)
    ax.text(3.4, 3.63, "0", **scale)
    ramp = np.linspace([0.0] * 6, [1.0] * 6, 64, axis=1)  # (6, 64)
    _place(ax, ramp, 3.55, 3.57, 1.2, cmap=SEQUENTIAL, vmin=0)
    ax.text(4.85, 3.63, "the brightest of the other patches of a map", **scale)
    return figure_of(ax)


def shuffle_card(
    original: ArrayLike | Tensor,
    shuffled: ArrayLike | Tensor,
    probabilities: Mapping[str, tuple[float, float]],
    accuracy: Mapping[str, float],
    chosen: str,
    *,
    truth: str,
) -> Figure:
    """An image before and after a shuffle, what a model says, and its accuracy under each shuffle.

    Args:
        original, shuffled: what ``to_rgb`` takes.
        probabilities: class -> the probability that the model gives it before and after, 0 to 1.
        accuracy: kind of shuffle -> share of test images that the model gets right.
        chosen: the kind that is shown.
        truth: the class of the image.
    """
    ax = _sheet(9.0, 3.9)
    _place(ax, to_rgb(original), 0.1, 0.3, 1.6, f"before: {truth}", room=1.6)
    _place(ax, to_rgb(shuffled), 0.1, 2.2, 1.6, "after", room=1.6)

    ax.text(4.0, 0.23, "what the model says", ha="center", va="bottom", fontsize=9)
    pitch = 3.0 / max(1, len(probabilities))
    for index, (name, (before, after)) in enumerate(probabilities.items()):
        top = 0.4 + index * pitch
        label = f"{name} ✓" if name == truth else name
        ax.text(3.2, top + 0.26, label, ha="right", va="center", fontsize=9)
        _bar(ax, 3.3, top, 0.24, before, COLORS["grey"])
        _bar(ax, 3.3, top + 0.27, 0.24, after, COLORS["blue"])
    for left, color, label in ((3.3, COLORS["grey"], "before"), (4.2, COLORS["blue"], "after")):
        ax.add_artist(Rectangle((left, 3.55), 0.22, 0.14, facecolor=color, linewidth=0))
        ax.text(left + 0.3, 3.62, label, va="center", fontsize=9)

    ax.text(7.8, 0.23, "accuracy under each shuffle", ha="center", va="bottom", fontsize=9)
    pitch = 3.0 / max(1, len(accuracy))
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
