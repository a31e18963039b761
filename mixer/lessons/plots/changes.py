"""Notebook 2: what a change of the input changes in the output of several layers."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import matplotlib
import matplotlib.patches
import matplotlib.path
import matplotlib.textpath
import matplotlib.ticker
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from torch import Tensor

from mixer.drawing import DIVERGING, WIDTH, bare, to_numpy


def touched(
    changes: Mapping[str, ArrayLike | Tensor],
    cells: Sequence[tuple[int, int]] = (),
    *,
    columns: int | None = None,
    digits: int = 1,
    tolerance: float = 1e-12,
) -> Figure:
    """What a change of the input changes in the output of several layers, side by side.

    Entries that did not change are white and show a dot; the others are coloured by the change.

    Args:
        changes: name of a layer -> its output after the change minus its output before, (S, C).
        cells: the entries (token, channel) that were changed, to be outlined in every table.
        columns: tables in a row; all of them if not given.
        digits: behind the decimal point; what would be written as zero is written as ≈0.
        tolerance: a smaller change counts as none.
    """
    arrays = [to_numpy(values).astype(np.float64) for values in changes.values()]
    (rows, width), count = arrays[0].shape, len(arrays)
    columns = min(columns or count, count)
    lines = -(-count // columns)
    pitch = width + 0.7, rows + 1.2  # from table to table, in entries
    size = pitch[0] * columns + 0.5, pitch[1] * lines + 0.9
    unit = min(0.52, (WIDTH + 1) / size[0])  # inches of an entry
    # One axes for all tables: quick enough to follow a slider.
    fig = Figure(figsize=(unit * size[0], unit * size[1]), facecolor="white")
    ax = bare(fig.add_axes((0, 0, 1, 1)))
    colormap = matplotlib.colormaps[DIVERGING]
    outlines: dict[str, list[matplotlib.path.Path]] = {"black": [], "white": []}
    faces, corners, dots = [], [], []
    for index, (title, values) in enumerate(zip(changes, arrays, strict=True)):
        left, top = index % columns * pitch[0] + 1.0, index // columns * pitch[1] + 0.8
        ax.text(left + width / 2, top - 0.2, title, ha="center", va="bottom", fontsize=11)
        if not index % columns:  # row numbers once in each line of tables, column numbers under the last line
            ax.text(left - 0.5, top + rows / 2, "token", ha="right", va="center", fontsize=9, rotation=90)
            for row in range(rows):
                ax.text(left - 0.15, top + row + 0.5, str(row), ha="right", va="center", fontsize=8)
        if index + columns >= count:
            ax.text(left + width / 2, top + rows + 0.5, "channel", ha="center", va="top", fontsize=9)
            for column in range(width):
                ax.text(left + column + 0.5, top + rows + 0.1, str(column), ha="center", va="top", fontsize=8)
        largest = float(np.abs(values).max()) or 1.0
        moved = np.abs(values) > tolerance
        shade = np.sign(values) * np.maximum(np.abs(values) / largest, 0.2)  # also a small change is seen
        colors = np.where(moved[..., None], colormap(shade / 2 + 0.5), 1.0)  # (S, C, 4)
        faces.append(colors.reshape(-1, 4))
        corners.append(np.argwhere(np.ones_like(moved))[:, ::-1] + (left, top))  # (x, y) of each entry
        dots.append(np.argwhere(~moved)[:, ::-1] + (left + 0.5, top + 0.5))
        for row, column in np.argwhere(moved):
            value = float(values[row, column])
            text = f"{value:+.{digits}f}".replace("-", "−") if abs(value) >= 0.5 * 10**-digits else "≈0"
            place = left + column + 0.5, top + row + 0.5
            outlines["white" if abs(value) > 0.6 * largest else "black"].append(_outline(text, place, 8 / 72 / unit))
        for token, channel in cells:
            corner = left + channel, top + token
            ax.add_artist(Rectangle(corner, 1, 1, fill=False, linewidth=2.5, zorder=3))
    squares = np.concatenate(corners)[:, None] + np.array([(0, 0), (1, 0), (1, 1), (0, 1)])  # (entries, 4, 2)
    ax.add_artist(PolyCollection(squares, facecolors=np.concatenate(faces), edgecolors="#CCCCCC", linewidths=0.8))
    ax.plot(*np.concatenate(dots).T, ".", color="#AAAAAA", markersize=2)
    for color, paths in outlines.items():
        if paths:
            shape = matplotlib.path.Path.make_compound_path(*paths)
            ax.add_artist(matplotlib.patches.PathPatch(shape, facecolor=color, linewidth=0, zorder=2))
    ax.set_xlim(0, size[0])
    ax.set_ylim(size[1], 0)
    return fig


@lru_cache(maxsize=2048)
def _glyphs(text: str) -> matplotlib.path.Path:
    """The outlines of a short text of size 1, its middle at the origin."""
    path = matplotlib.textpath.TextPath((0, 0), text, size=100)
    box = path.get_extents()
    middle = (box.x0 + box.x1) / 2, 36.0  # half the height of a digit
    return matplotlib.path.Path((path.vertices - middle) / 100, path.codes)


def _outline(text: str, place: tuple[float, float], size: float) -> matplotlib.path.Path:
    """A text as a path at a place where y grows downwards; many of these draw quicker than many texts."""
    path = _glyphs(text)
    return matplotlib.path.Path(np.asarray(path.vertices) * (size, -size) + place, path.codes)
