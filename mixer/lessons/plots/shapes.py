"""What the README's drawings are made of: words, cards, arrows, tables and small landscapes."""

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import BoxStyle, FancyBboxPatch, Rectangle
from numpy.typing import NDArray

from mixer.drawing import PART_COLORS, Style
from mixer.lessons.plots.grids import cut_into_patches

TOKEN, CHANNEL = PART_COLORS["token_mixing"], PART_COLORS["channel_mixing"]
INK, SOFT, _BOX = "#222222", "#767676", "#F1F1F1"
# The drawing's own 3 × 3 patches and 8 channels; pixels of a table's cell
SIDE, _COLUMNS, _CELL = 3, 8, 13.0


def draw_words(ax: Axes, x: float, y: float, text: str, *, size: float = 9, **options: Any) -> None:
    """A text with its middle there."""
    common: Style = {"color": INK, "ha": "center", "va": "center", "zorder": 5}
    family = "DejaVu Sans"
    ax.text(x, y, text, fontsize=size, family=family, linespacing=1.15, **(common | options))


def draw_card(
    ax: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    face: str,
    edge: str,
    *,
    round_by: float = 8,
    zorder: float,
) -> None:
    """A rectangle with round corners, its upper left corner there."""
    shape = BoxStyle.Round(pad=0, rounding_size=round_by)
    style: Style = {"facecolor": face, "edgecolor": edge, "linewidth": 1.2}
    ax.add_patch(FancyBboxPatch((x, y), width, height, shape, zorder=zorder, **style))


def draw_box(ax: Axes, x: float, y: float, width: float, text: str, rotation: float = 0) -> None:
    """A layer: a grey box, its left edge at ``x`` and its middle at ``y``."""
    draw_card(ax, x, y - 46, width, 92, _BOX, SOFT, round_by=6, zorder=2)
    draw_words(ax, x + width / 2, y, text, rotation=rotation, size=8.5 if "\n" in text else 9)


def draw_arrow(ax: Axes, x: float, to_x: float, y: float, above: str = "", below: str = "") -> None:
    """An arrow to the right, with a text above and below."""
    style: Style = {
        "arrowstyle": "-|>,head_width=0.28,head_length=0.5",
        "color": INK,
        "linewidth": 1.3,
    }
    ax.annotate("", (to_x, y), (x, y), arrowprops={**style, "shrinkA": 0, "shrinkB": 0}, zorder=4)
    middle = (x + to_x) / 2 - 2
    # Clear of the arrow's head.
    draw_words(ax, middle, y - 13, above, size=8.2)
    draw_words(ax, middle, y + 13, below, size=8.2)


def draw_skip(ax: Axes, x: float, plus_x: float, y: float, top: float) -> None:
    """A skip connection: leaves the line at ``x``, runs along ``top``, is added at ``plus_x``."""
    line: Style = {"color": INK, "linewidth": 1.3, "solid_joinstyle": "round", "zorder": 1}
    ring: Style = {
        "color": "white",
        "markeredgecolor": INK,
        "markeredgewidth": 1.3,
        "zorder": 4,
    }
    ax.plot([x, x, plus_x, plus_x], [y, top, top, y - 10], **line)
    ax.plot(x, y, "o", color=INK, markersize=4, zorder=5)
    ax.plot(plus_x, y, "o", markersize=15, **ring)
    draw_words(ax, plus_x, y, "+", size=13, weight="bold")
    label = {"facecolor": "#FFFCF0", "edgecolor": "none", "pad": 2}
    draw_words(ax, x + 62, top, "skip connection", size=8.5, bbox=label)


def draw_mlp(
    ax: Axes, x: float, y: float, letters: tuple[str, str, str], sizes: tuple[int, int], color: str
) -> None:
    """Three bars as high as the layers are wide, with the linear maps between them; 124 wide."""
    outer = 92 * sizes[0] / sizes[1] / 2
    places, halves = (x + 6, x + 62, x + 118), (outer, 46.0, outer)
    for (a, b), (p, q) in zip(pairwise(places), pairwise(halves), strict=True):
        style: Style = {"color": color, "alpha": 0.16, "linewidth": 0, "zorder": 1}
        ax.fill([a, b, b, a], [y - p, y - q, y + q, y + p], **style)
        draw_words(ax, (a + b) / 2, y, "Linear", size=8)
    for place, half, letter, size in zip(places, halves, letters, (*sizes, sizes[0]), strict=True):
        draw_card(ax, place - 6, y - half, 12, 2 * half, color, color, round_by=3, zorder=2)
        draw_words(ax, place, y + 58, letter, size=9.5)
        draw_words(ax, place, y + 73, f"{size:,}", size=8.5)
    draw_words(ax, places[1], y, "GELU", size=8.5, rotation=90, color="white")


def draw_table(
    ax: Axes,
    x: float,
    y: float,
    *,
    column: int | None = None,
    row: int | None = None,
    turned: bool = False,
) -> None:
    """A token table, left edge at ``x``, middle at ``y``, with a column and a row picked out."""
    shape = (_COLUMNS, SIDE**2) if turned else (SIDE**2, _COLUMNS)
    shades = np.random.default_rng(3).uniform(0.0, 1.0, (SIDE**2, _COLUMNS))
    shades = shades.T if turned else shades
    row_color = TOKEN if turned else CHANNEL
    top = y - shape[0] * _CELL / 2
    for i, j in np.ndindex(shape):
        color = row_color if i == row else TOKEN if j == column else "#9A9A9A"
        least, more = (0.55, 0.45) if i == row or j == column else (0.18, 0.4)
        style: Style = {"facecolor": color, "alpha": least + more * shades[i, j]}
        corner = (x + j * _CELL + 0.75, top + i * _CELL + 0.75)
        ax.add_patch(Rectangle(corner, _CELL - 1.5, _CELL - 1.5, zorder=3, **style))
    for index, color, across in ((row, row_color, True), (column, TOKEN, False)):
        if index is not None:
            corner = (x, top + index * _CELL) if across else (x + index * _CELL, top)
            size = (shape[1] * _CELL, _CELL) if across else (_CELL, shape[0] * _CELL)
            style = {"edgecolor": color, "linewidth": 1.8, "zorder": 4}
            ax.add_patch(Rectangle(corner, *size, fill=False, **style))


def draw_pieces_beside(ax: Axes, x: float, y: float) -> None:
    """The drawing's patches one below the other, a row of a token table each."""
    for index, piece in enumerate(landscape()):
        top = y + (index - SIDE**2 / 2) * _CELL
        extent = (x + 0.5, x + _CELL - 0.5, top + _CELL - 0.5, top + 0.5)
        ax.imshow(piece, extent=extent, interpolation="bilinear", zorder=2)


def draw_pieces_above(ax: Axes, x: float, y: float) -> None:
    """The drawing's patches side by side over a turned table."""
    bottom = y - _COLUMNS * _CELL / 2 - 4
    for index, piece in enumerate(landscape()):
        left = x + index * _CELL
        extent = (left + 0.5, left + _CELL - 0.5, bottom - 0.5, bottom - _CELL + 0.5)
        ax.imshow(piece, extent=extent, interpolation="bilinear", zorder=2)


def landscape() -> NDArray[np.uint8]:
    """The patches of a small landscape, drawn with a few formulas: (9, 40, 40, 3)."""
    size = 40 * SIDE
    y, x = np.mgrid[0:1:1j * size, 0:1:1j * size]  # fmt: skip
    mountain = _edge(y - 0.3 - 1.25 * np.abs(x - 0.36))
    snow = mountain * (y < 0.42 + 0.025 * np.sin(60 * x))
    trunk = (np.abs(x - 0.2) < 0.013) * _edge(y - 0.62) * (y < 0.76)
    # What covers what, from the back to the front: sun, two mountains, meadow, lake, a tree.
    layers = [
        (_edge(0.11 - np.hypot(x - 0.74, y - 0.2)), (1.0, 0.86, 0.35)),
        (mountain, (0.42, 0.47, 0.62)),
        (snow, (0.97, 0.97, 0.97)),
        (_edge(y - 0.45 - 0.9 * np.abs(x - 0.85)), (0.33, 0.39, 0.55)),
        (_edge(y - 0.66 - 0.03 * np.sin(7 * x)), (0.38, 0.62, 0.36)),
        (_edge(y - 0.80 + 0.16 * x**2), (0.30, 0.58, 0.80)),
        (_edge(0.09 - np.hypot((x - 0.2) * 1.3, y - 0.6)), (0.16, 0.42, 0.24)),
        (trunk, (0.36, 0.25, 0.2)),
    ]
    sky = np.stack([0.55 + 0.35 * y, 0.78 + 0.12 * y, 0.95 - 0.05 * y], axis=-1)
    for cover, color in layers:
        sky = sky * (1 - cover[..., None]) + cover[..., None] * np.array(color)
    return cut_into_patches((sky * 255).round().astype(np.uint8), size // SIDE)


def _edge(inside: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where a formula is positive, 0 where it is negative, with a soft edge between."""
    return np.clip(inside * 60, 0, 1)
