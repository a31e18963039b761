"""What the README's drawings are made of: words, cards, arrows, tables and small landscapes."""

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import BoxStyle, FancyBboxPatch, Rectangle
from numpy.typing import NDArray

from mixer.drawing import PART_COLORS
from mixer.lessons.plots.grids import cut_into_patches

TOKEN, CHANNEL = PART_COLORS["token_mixing"], PART_COLORS["channel_mixing"]
INK, SOFT, _BOX = "#222222", "#767676", "#F1F1F1"
SIDE, _COLUMNS, _CELL = 3, 8, 13.0  # the drawing's own 3 × 3 patches and 8 channels; pixels of a table's cell


def draw_words(ax: Axes, x: float, y: float, text: str, *, size: float = 9, **options: Any) -> None:
    common: dict[str, Any] = {"color": INK, "ha": "center", "va": "center", "family": "DejaVu Sans", "zorder": 5}
    ax.text(x, y, text, fontsize=size, linespacing=1.15, **(common | options))


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
    style = BoxStyle.Round(pad=0, rounding_size=round_by)
    patch = FancyBboxPatch((x, y), width, height, style, facecolor=face, edgecolor=edge, linewidth=1.2, zorder=zorder)
    ax.add_patch(patch)


def draw_box(ax: Axes, x: float, y: float, width: float, text: str, rotation: float = 0) -> None:
    draw_card(ax, x, y - 46, width, 92, _BOX, SOFT, round_by=6, zorder=2)
    draw_words(ax, x + width / 2, y, text, rotation=rotation, size=8.5 if "\n" in text else 9)


def draw_arrow(ax: Axes, x: float, to_x: float, y: float, above: str = "", below: str = "") -> None:
    style = {"arrowstyle": "-|>,head_width=0.28,head_length=0.5", "color": INK, "linewidth": 1.3}
    ax.annotate("", (to_x, y), (x, y), arrowprops={**style, "shrinkA": 0, "shrinkB": 0}, zorder=4)
    middle = (x + to_x) / 2 - 2
    draw_words(ax, middle, y - 13, above, size=8.2)  # clear of the arrow's head
    draw_words(ax, middle, y + 13, below, size=8.2)


def draw_skip(ax: Axes, x: float, plus_x: float, y: float, top: float) -> None:
    """A skip connection: leaves the line at ``x``, runs over everything at ``top``, and is added at ``plus_x``."""
    ax.plot([x, x, plus_x, plus_x], [y, top, top, y - 10], color=INK, linewidth=1.3, solid_joinstyle="round", zorder=1)
    ax.plot(x, y, "o", color=INK, markersize=4, zorder=5)
    ax.plot(plus_x, y, "o", markersize=15, markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1.3, zorder=4)
    draw_words(ax, plus_x, y, "+", size=13, weight="bold")
    label = {"facecolor": "#FFFCF0", "edgecolor": "none", "pad": 2}
    draw_words(ax, x + 62, top, "skip connection", size=8.5, bbox=label)


def draw_mlp(ax: Axes, x: float, y: float, letters: tuple[str, str, str], sizes: tuple[int, int], color: str) -> None:
    """Three bars as high as the layers are wide, with the linear maps between them; 124 wide."""
    outer = 92 * sizes[0] / sizes[1] / 2
    places, halves = (x + 6, x + 62, x + 118), (outer, 46.0, outer)
    for (a, b), (p, q) in zip(pairwise(places), pairwise(halves), strict=True):
        ax.fill([a, b, b, a], [y - p, y - q, y + q, y + p], color=color, alpha=0.16, linewidth=0, zorder=1)
        draw_words(ax, (a + b) / 2, y, "Linear", size=8)
    for place, half, letter, size in zip(places, halves, letters, (*sizes, sizes[0]), strict=True):
        draw_card(ax, place - 6, y - half, 12, 2 * half, color, color, round_by=3, zorder=2)
        draw_words(ax, place, y + 58, letter, size=9.5)
        draw_words(ax, place, y + 73, f"{size:,}", size=8.5)
    draw_words(ax, places[1], y, "GELU", size=8.5, rotation=90, color="white")


def draw_table(
    ax: Axes, x: float, y: float, *, column: int | None = None, row: int | None = None, turned: bool = False
) -> None:
    """A token table, its left edge at ``x`` and its middle at ``y``, with a column and a row picked out."""
    shape = (_COLUMNS, SIDE**2) if turned else (SIDE**2, _COLUMNS)
    shades = np.random.default_rng(3).uniform(0.0, 1.0, (SIDE**2, _COLUMNS))
    shades = shades.T if turned else shades
    row_color = TOKEN if turned else CHANNEL
    top = y - shape[0] * _CELL / 2
    for i, j in np.ndindex(shape):
        color = row_color if i == row else TOKEN if j == column else "#9A9A9A"
        strength = (0.55 + 0.45 * shades[i, j]) if row == i or column == j else (0.18 + 0.4 * shades[i, j])
        corner = (x + j * _CELL + 0.75, top + i * _CELL + 0.75)
        ax.add_patch(Rectangle(corner, _CELL - 1.5, _CELL - 1.5, facecolor=color, alpha=strength, zorder=3))
    for index, color, across in ((row, row_color, True), (column, TOKEN, False)):
        if index is not None:
            corner = (x, top + index * _CELL) if across else (x + index * _CELL, top)
            size = (shape[1] * _CELL, _CELL) if across else (_CELL, shape[0] * _CELL)
            ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=1.8, zorder=4))


def draw_pieces_beside(ax: Axes, x: float, y: float) -> None:
    """The drawing's patches one below the other, a row of a token table each."""
    for index, piece in enumerate(landscape()):
        top = y + (index - SIDE**2 / 2) * _CELL
        ax.imshow(
            piece, extent=(x + 0.5, x + _CELL - 0.5, top + _CELL - 0.5, top + 0.5), interpolation="bilinear", zorder=2
        )


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
    layers: list[tuple[NDArray[Any], tuple[float, float, float]]] = [
        (np.clip((0.11 - np.hypot(x - 0.74, y - 0.2)) * 60, 0, 1), (1.0, 0.86, 0.35)),  # sun
        (np.clip((y - 0.3 - 1.25 * np.abs(x - 0.36)) * 60, 0, 1), (0.42, 0.47, 0.62)),  # mountain
        (np.clip((y - 0.3 - 1.25 * np.abs(x - 0.36)) * 60, 0, 1) * (y < 0.42 + 0.025 * np.sin(60 * x)), (0.97,) * 3),
        (np.clip((y - 0.45 - 0.9 * np.abs(x - 0.85)) * 60, 0, 1), (0.33, 0.39, 0.55)),  # a lower one
        (np.clip((y - 0.66 - 0.03 * np.sin(7 * x)) * 60, 0, 1), (0.38, 0.62, 0.36)),  # meadow
        (np.clip((y - 0.80 + 0.16 * x**2) * 60, 0, 1), (0.30, 0.58, 0.80)),  # lake
        (np.clip((0.09 - np.hypot((x - 0.2) * 1.3, y - 0.6)) * 60, 0, 1), (0.16, 0.42, 0.24)),  # tree
        ((np.abs(x - 0.2) < 0.013) * np.clip((y - 0.62) * 60, 0, 1) * (y < 0.76), (0.36, 0.25, 0.2)),  # its trunk
    ]
    sky = np.stack([0.55 + 0.35 * y, 0.78 + 0.12 * y, 0.95 - 0.05 * y], axis=-1)
    for cover, color in layers:
        sky = sky * (1 - cover[..., None]) + cover[..., None] * np.array(color)
    return cut_into_patches((sky * 255).round().astype(np.uint8), size // SIDE)
