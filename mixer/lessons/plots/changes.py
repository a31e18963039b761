"""Notebook 2: what a change of the input changes in the output of several layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer.drawing import DIVERGING, WIDTH, Style, bare, to_numpy

# A smaller change counts as none.
TOLERANCE = 1e-12


def change_tables(
    changes: Mapping[str, ArrayLike | Tensor],
    cells: Sequence[tuple[int, int]] = (),
    *,
    columns: int | None = None,
    digits: int = 1,
) -> Figure:
    """What a change of the input changes in the output of several layers, side by side.

    Entries that did not change are white and show a dot, those that changed by next to nothing are
    white too; the others are coloured by the change.

    Args:
        changes: name of a layer -> its output after the change minus its output before, (S, C).
        cells: the entries (token, channel) that were changed, as indices from 0, to be outlined
            in every table.
        columns: tables in a row; all of them if not given.
        digits: behind the decimal point; what would be written as zero is written as ≈0.
    """
    arrays = [to_numpy(values).astype(np.float64) for values in changes.values()]
    (rows, width), count = arrays[0].shape, len(arrays)
    columns = min(columns or count, count)
    # From table to table, in entries.
    pitch = width + 0.7, rows + 1.2
    size = pitch[0] * columns + 0.5, pitch[1] * -(-count // columns) + 0.9
    # Inches of an entry.
    unit = min(0.52, (WIDTH + 1) / size[0])
    # One axes for all tables, and few artists: quick enough to follow a slider.
    fig = Figure(figsize=(unit * size[0], unit * size[1]), facecolor="white")
    ax = bare(fig.add_axes((0, 0, 1, 1)))
    entries = _Entries(digits, 8 / 72 / unit)
    for index, (title, values) in enumerate(zip(changes, arrays, strict=True)):
        left, top = index % columns * pitch[0] + 1.0, index // columns * pitch[1] + 0.8
        ax.text(left + width / 2, top - 0.2, title, ha="center", va="bottom", fontsize=11)
        # Row numbers once in each line of tables, column numbers under the last line.
        if not index % columns:
            _number_rows(ax, left, top, rows)
        if index + columns >= count:
            _number_columns(ax, left, top + rows, width)
        entries.add(values, left, top)
        for token, channel in cells:
            corner = left + channel, top + token
            ax.add_artist(Rectangle(corner, 1, 1, fill=False, linewidth=2.5, zorder=3))
    entries.draw(ax)
    ax.set_xlim(0, size[0])
    ax.set_ylim(size[1], 0)
    return fig


def _number_rows(ax: Axes, left: float, top: float, rows: int) -> None:
    style: Style = {"ha": "right", "va": "center"}
    ax.text(left - 0.5, top + rows / 2, "token", fontsize=9, rotation=90, **style)
    for row in range(rows):
        ax.text(left - 0.15, top + row + 0.5, str(row + 1), fontsize=8, **style)


def _number_columns(ax: Axes, left: float, bottom: float, columns: int) -> None:
    style: Style = {"ha": "center", "va": "top"}
    ax.text(left + columns / 2, bottom + 0.5, "channel", fontsize=9, **style)
    for column in range(columns):
        ax.text(left + column + 0.5, bottom + 0.1, str(column + 1), fontsize=8, **style)


@dataclass
class _Entries:
    """The entries of all tables, collected to be drawn together."""

    digits: int
    # Height of a text, in entries.
    text_size: float
    faces: list[NDArray[Any]] = field(default_factory=list)
    corners: list[NDArray[Any]] = field(default_factory=list)
    dots: list[NDArray[Any]] = field(default_factory=list)
    numbers: dict[str, list[Path]] = field(default_factory=lambda: {"black": [], "white": []})

    def add(self, values: NDArray[np.float64], left: float, top: float) -> None:
        """A table (S, C) with its upper left corner there."""
        largest = float(np.abs(values).max()) or 1.0
        moved, written = np.abs(values) > TOLERANCE, np.abs(values) >= self._least
        # A small change is seen, too; what is written as nothing looks like nothing.
        shade = np.sign(values) * np.maximum(np.abs(values) / largest, 0.2)
        colors = matplotlib.colormaps[DIVERGING](shade / 2 + 0.5)  # (S, C, 4)
        self.faces.append(np.where((moved & written)[..., None], colors, 1.0).reshape(-1, 4))
        # As (x, y), each (entries, 2).
        self.corners.append(np.argwhere(np.ones_like(moved))[:, ::-1] + (left, top))
        self.dots.append(np.argwhere(~moved)[:, ::-1] + (left + 0.5, top + 0.5))
        for row, column in np.argwhere(moved):
            value = float(values[row, column])
            color = "white" if abs(value) > 0.6 * largest else "black"
            place = left + column + 0.5, top + row + 0.5
            self.numbers[color].append(_outline(self._text(value), place, self.text_size))

    @property
    def _least(self) -> float:
        """What is smaller is written as zero."""
        return 0.5 * 10**-self.digits

    def _text(self, value: float) -> str:
        if abs(value) < self._least:
            return "≈0"
        return f"{value:+.{self.digits}f}".replace("-", "−")

    def draw(self, ax: Axes) -> None:
        square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
        squares = np.concatenate(self.corners)[:, None] + square  # (entries, 4, 2)
        style: Style = {"edgecolors": "#CCCCCC", "linewidths": 0.8}
        ax.add_artist(PolyCollection(squares, facecolors=np.concatenate(self.faces), **style))
        ax.plot(*np.concatenate(self.dots).T, ".", color="#AAAAAA", markersize=2)
        for color, paths in self.numbers.items():
            if paths:
                shape = Path.make_compound_path(*paths)
                ax.add_artist(PathPatch(shape, facecolor=color, linewidth=0, zorder=2))


@lru_cache(maxsize=2048)
def _glyphs(text: str) -> Path:
    """The outlines of a short text of size 1, its middle at the origin."""
    path = TextPath((0, 0), text, size=100)
    box = path.get_extents()
    # Half the height of a digit.
    middle = (box.x0 + box.x1) / 2, 36.0
    return Path((path.vertices - middle) / 100, path.codes)


def _outline(text: str, place: tuple[float, float], size: float) -> Path:
    """A text as a path, y growing downwards; many of these draw quicker than many texts."""
    path = _glyphs(text)
    return Path(np.asarray(path.vertices) * (size, -size) + place, path.codes)
