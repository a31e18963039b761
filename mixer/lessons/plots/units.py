"""Notebook 6: token-mixing units as pictures, and the cards of its explorers.

A card is one axes measured in inches from the upper left corner, on which everything is placed by
hand: every further axes would cost about 10 ms, and the automatic layout more than all else.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer.drawing import COLORS, Style, curves, figure_of, new_figure, to_numpy
from mixer.lessons.plots.output import SEQUENTIAL, bare, each_to_one, show_signed, tile, to_rgb


def unit_gallery(
    panels: Mapping[str, Tensor],
    *,
    columns: int = 6,
    across: int = 1,
    width: float = 9.0,
    numbered: bool = False,
    framed: Mapping[str, int] | None = None,
) -> Figure:
    """Units as in the paper's Figure 5: blue below zero, red above, each over its largest weight.

    Args:
        panels: title -> weights (N, h, w), shown row by row.
        columns: units in a row of a panel.
        across: panels side by side; those in one line have as many rows of units.
        width: inches of the figure.
        numbered: write 1 to N under the units of each panel.
        framed: title -> how many pairs stand first in the panel; a frame is drawn around each.
    """
    gap, pairs = 2 if numbered or framed else 1, framed or {}
    canvases = [tile(each_to_one(to_numpy(grids)), columns, gap) for grids in panels.values()]
    lines = canvases[::across]
    cell = (width - 0.25 * across) / (across * lines[0].shape[1] + across)
    extra = 0.2 if numbered else 0.1 if framed else 0.0
    rows = [canvas.shape[0] * cell + 0.3 + extra for canvas in lines]
    fig = new_figure(width, sum(rows) + 0.2, gap=0.1)
    axes = fig.subplots(len(lines), across, squeeze=False, height_ratios=rows).ravel()
    for ax, (title, grids), canvas in zip(axes, panels.items(), canvases, strict=True):
        show_signed(bare(ax), canvas)
        ax.set_title(title, pad=14 if framed else None)
        high, wide = (side + gap for side in grids.shape[1:])
        for index in range(len(grids) if numbered else 0):
            below = index // columns * high + high - gap
            middle = index % columns * wide + (wide - gap - 1) / 2
            ax.text(middle, below, str(index + 1), ha="center", va="top", fontsize=9)
        for pair in range(pairs.get(title, 0)):
            left, top = 2 * pair % columns * wide - 1.1, 2 * pair // columns * high - 1.1
            _outline(ax, left, top, 2 * wide - gap + 1.2, high - gap + 1.2, "black", 2)
    return fig


def local_and_wide(
    most_local: ArrayLike | Tensor, local: Sequence[float], wide: Sequence[float], chance: float
) -> Figure:
    """The most local units, and by block the shares that are more local or wider than chance.

    Args:
        most_local: (N, h, w).
        local, wide: shares of the units, 0 to 1, a number a block.
        chance: the share that either would have by chance.
    """
    fig = new_figure(9.0, 3.3)
    left, right = fig.subplots(1, 2, width_ratios=[1, 1.1])
    grids = each_to_one(to_numpy(most_local))
    show_signed(bare(left, f"the {len(grids)} most local units"), tile(grids, 4))
    series = {"more local": local, "wider": wide, "chance": [chance] * len(local)}
    blocks = range(1, len(local) + 1)
    curves(blocks, series, xlabel="block", ylabel="share of the units", percent=True, ax=right)
    return fig


def unit_card(
    overview: ArrayLike | Tensor,
    position: int,
    grids: Mapping[str, ArrayLike | Tensor],
    photo: ArrayLike | Tensor,
    images: Sequence[Any] | Tensor,
    *,
    overview_title: str,
) -> Figure:
    """One unit: its place among the others, its weights, alone and over a photo, what excites it.

    Args:
        overview: (N, h, w), all units in the order chosen.
        position: the unit's place in that order.
        grids: title -> weights (h, w); the first is the unit's own, others stand beside it; up
            to 3.
        photo: what ``to_rgb`` takes; the unit's grid is laid over it.
        images: those that excite the unit most.
        overview_title: over the overview.
    """
    units = each_to_one(to_numpy(overview))
    height, width = units.shape[1:]
    # About as many rows as columns.
    columns = round(len(units) ** 0.5)
    canvas = tile(units, columns)
    ax = sheet(9.0, 4.5)
    across = min(4.0, 4.0 * canvas.shape[1] / canvas.shape[0])
    cell = place(ax, canvas, 0.1, 0.4, across, overview_title)
    high, wide = (height + 1) * cell, (width + 1) * cell
    left, top = position % columns * wide - cell / 2, position // columns * high - cell / 2
    _outline(ax, 0.1 + left, 0.4 + top, wide, high, "black", 2.5)

    side, start = 1.45, 4.3
    own = each_to_one(np.stack([to_numpy(grid) for grid in grids.values()]))
    for index, (title, grid) in enumerate(zip(grids, own, strict=True)):
        left = start + index * (side + 0.1)
        cell = place(ax, grid, left, 0.4, side, title, room=1.7)
        _outline(ax, left, 0.4, width * cell, height * cell, "#999999", 0.8)
    place(ax, tinted(to_rgb(photo), own[0]), start, 2.4, side, "over a grey photo", room=2.0)
    pictures = np.stack([to_rgb(image) for image in images])
    pictures = tile(pictures, 3, gap=max(1, pictures.shape[2] // 12))
    place(ax, pictures, start + side + 0.3, 2.4, 2.3, "images that excite it most", room=2.0)
    return figure_of(ax)


def influence_card(
    photo: ArrayLike | Tensor,
    maps: ArrayLike | Tensor,
    patch: int,
    titles: Sequence[str],
    *,
    photo_title: str,
) -> Figure:
    """A photo with one patch outlined, and for each depth a map of where that patch's influence is.

    Args:
        photo: what ``to_rgb`` takes.
        maps: (N, h, w), none of them negative; each is scaled by its largest value outside the
            patch itself.
        patch: the patch outlined, counted row by row.
        titles: one over each map.
        photo_title: over the photo.
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

    ax = sheet(9.0, 3.9)
    size = place(ax, pixels, 0.1, 0.4, 3.0, photo_title, room=3.1)
    high, wide = pixels.shape[0] / rows * size, pixels.shape[1] / columns * size
    _outline(ax, 0.1 + column * wide, 0.4 + row * high, wide, high, COLORS["red"], 3)
    across = min(5.5, 3.0 * canvas.shape[1] / canvas.shape[0])
    cell = place(ax, canvas, 3.4, 0.4, across, cmap=SEQUENTIAL, vmin=0)
    for index, title in enumerate(titles):
        left = 3.4 + index % per_line * (columns + gap) * cell
        top = 0.4 + index // per_line * (rows + gap) * cell
        ax.text(left + columns * cell / 2, top - 0.05, title, ha="center", va="bottom", fontsize=9)
        _outline(ax, left + column * cell, top + row * cell, cell, cell, COLORS["red"], 2)
    # A colour bar would be a second axes.
    scale: Style = {"ha": "left", "va": "center", "fontsize": 9}
    ax.text(0.1, 3.63, "%: the outlined patch's share of the influence", **scale)
    ax.text(3.4, 3.63, "0", **scale)
    ramp = np.linspace([0.0] * 6, [1.0] * 6, 64, axis=1)  # (6, 64)
    place(ax, ramp, 3.55, 3.57, 1.2, cmap=SEQUENTIAL, vmin=0)
    ax.text(4.85, 3.63, "the largest value outside the outlined patch, map by map", **scale)
    return figure_of(ax)


def tinted(pixels: NDArray[np.uint8], grid: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A grey photo seen through a grid from -1 to 1: blue below zero, red above.

    The colours are laid over the photo, up to three quarters of each dot, so that outlines stay.
    """
    grey = 0.3 + 0.7 * pixels.mean(-1, keepdims=True) / 255
    cell = np.ones((pixels.shape[0] // grid.shape[0], pixels.shape[1] // grid.shape[1]))
    value = np.kron(grid, cell)[..., None]  # (H, W, 1)
    paint = np.where(value < 0, np.array([0.0, 0.3, 0.8]), np.array([0.85, 0.1, 0.1]))
    strength = 0.75 * np.abs(value)
    return (255 * ((1 - strength) * grey + strength * paint)).astype(np.uint8)


def sheet(width: float, height: float) -> Axes:
    """An empty card of so many inches."""
    ax = Figure(figsize=(width, height), facecolor="white").add_axes((0, 0, 1, 1), frameon=False)
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_autoscale_on(False)
    return ax


def place(
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
    ax.text(left + width / 2, top - 0.07, title, ha="center", va="bottom", fontsize=9)
    return cell


def _outline(
    ax: Axes, left: float, top: float, width: float, height: float, color: str, linewidth: float
) -> None:
    style: Style = {"edgecolor": color, "linewidth": linewidth, "zorder": 3, "clip_on": False}
    ax.add_artist(Rectangle((left, top), width, height, fill=False, **style))
