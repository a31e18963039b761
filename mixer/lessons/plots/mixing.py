"""Notebook 2: tables of tokens and channels, GELUs, and signals in deep networks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer.drawing import COLORS, WIDTH, new_figure, to_numpy
from mixer.lessons.plots.output import DIVERGING, LINE_STYLES, bare, signed_limits


def _value_table(
    ax: Axes,
    values: NDArray[Any],
    limits: tuple[float, float],
    *,
    title: str,
    texts: NDArray[np.str_],
) -> None:
    """Draw one table: a coloured square with a text for each entry, counted from 1."""
    rows, columns = values.shape
    low, high = limits
    ax.imshow(values, cmap=DIVERGING, vmin=low, vmax=high, interpolation="nearest")
    ax.hlines(np.arange(0.5, rows - 1), -0.5, columns - 0.5, color="#CCCCCC", linewidth=0.8)
    ax.vlines(np.arange(0.5, columns - 1), -0.5, rows - 0.5, color="#CCCCCC", linewidth=0.8)
    for (row, column), text in np.ndenumerate(texts):
        color = "white" if abs(values[row, column]) > 0.6 * high else "black"
        shown = text.replace("-", "−")
        ax.text(column, row, shown, ha="center", va="center", fontsize=9, color=color)
    bare(ax, title, frame=True)
    ax.set_xticks(range(columns), [str(number + 1) for number in range(columns)])
    ax.set_yticks(range(rows), [str(number + 1) for number in range(rows)])
    ax.tick_params(length=0)
    ax.set_xlabel("channel")
    ax.set_ylabel("token")


def token_tables(named: Mapping[str, ArrayLike | Tensor], *, digits: int = 1) -> Figure:
    """Tables of tokens and channels side by side, on one scale: blue below zero, red above.

    Args:
        named: title -> table (S, C).
        digits: behind the decimal point.

    Raises:
        ValueError: something that is not a table of two axes.
    """
    arrays = {title: to_numpy(values).astype(np.float64) for title, values in named.items()}
    for title, values in arrays.items():
        if values.ndim != 2:
            raise ValueError(f"{title}: expected a table (S, C), found shape {values.shape}")
    limits = signed_limits(np.concatenate([values.ravel() for values in arrays.values()]))
    widths = [values.shape[1] for values in arrays.values()]
    tallest = max(values.shape[0] for values in arrays.values())
    unit = min(0.5, (WIDTH - 0.7 * len(widths)) / sum(widths))
    # Room between a table and the next one's label.
    gap = 0.12 if len(arrays) > 1 else None
    fig = new_figure(unit * sum(widths) + 0.8 * len(widths), unit * tallest + 0.9, gap)
    axes = fig.subplots(1, len(arrays), squeeze=False, width_ratios=widths)[0]
    for ax, (title, values) in zip(axes, arrays.items(), strict=True):
        # z: no minus before a zero.
        texts = np.vectorize(lambda value: f"{value:z.{digits}f}")(values)
        _value_table(ax, values, limits, title=title, texts=texts)
    return fig


def change_tables(
    changes: Mapping[str, ArrayLike | Tensor], cell: tuple[int, int], *, digits: int = 2
) -> Figure:
    """What a change of one entry changes in the output of several layers, two tables in a row.

    Entries that did not change are white and show a dot; the others are coloured by the change,
    each table on its own scale.

    Args:
        changes: name of a layer -> its output after the change minus its output before, (S, C).
        cell: the entry (token, channel) that was changed, as indices from 0; outlined in each.
        digits: behind the decimal point.
    """
    arrays = {title: to_numpy(values).astype(np.float64) for title, values in changes.items()}
    rows, columns = next(iter(arrays.values())).shape
    lines = -(-len(arrays) // 2)
    fig = new_figure(1.2 * columns + 0.6, lines * (0.5 * rows + 0.9))
    fig.set_layout_engine("constrained", hspace=0.08)
    for ax, (title, values) in zip(fig.subplots(lines, 2).flat, arrays.items(), strict=True):
        texts = np.char.mod(f"%+.{digits}f", values)
        texts[np.abs(values) < 1e-12] = "·"
        _value_table(ax, values, signed_limits(values), title=title, texts=texts)
        corner = cell[1] - 0.5, cell[0] - 0.5
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=2.5, zorder=3))
    return fig


def gelus(x: ArrayLike | Tensor, exact: ArrayLike | Tensor, tanh: ArrayLike | Tensor) -> Figure:
    """Two forms of GELU, and the difference between them.

    Args:
        x: where they were computed.
        exact: the values of the exact form.
        tanh: the values of the tanh approximation.
    """
    at, first, second = to_numpy(x), to_numpy(exact), to_numpy(tanh)
    fig = new_figure(WIDTH, 3.2)
    left, right = fig.subplots(1, 2)
    left.plot(at, first, label="exact (erf)")
    left.plot(at, second, "--", label="tanh")
    left.set_title("the two GELUs")
    left.legend()
    right.plot(at, second - first, color=COLORS["green"])
    right.axhline(0, color=COLORS["grey"], linewidth=0.8)
    right.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    right.set_title("tanh minus exact")
    for ax in (left, right):
        ax.set_xlabel("x")
        ax.grid(color="#DDDDDD")
    return fig


def depths(sizes: Mapping[str, ArrayLike], gradients: Mapping[str, ArrayLike]) -> Figure:
    """How large table and gradient are in networks of more and more blocks, on logarithmic axes.

    Args:
        sizes: name of a variant -> standard deviation of the table after 1, 2, 3, … blocks.
        gradients: name of a variant -> size of the gradient at the input with 1, 2, 3, … blocks.
    """
    fig = new_figure(WIDTH + 1, 3.4)
    panels = {"size of the table": sizes, "size of the gradient at the input": gradients}
    for ax, (title, series) in zip(fig.subplots(1, 2), panels.items(), strict=True):
        for number, (name, values) in enumerate(series.items()):
            y = to_numpy(values)
            style = LINE_STYLES[number % len(LINE_STYLES)]
            ax.plot(range(1, len(y) + 1), y, linestyle=style, label=name)
        ax.set_yscale("log")
        ax.minorticks_off()
        ax.set_xlabel("blocks")
        ax.set_title(title)
        ax.grid(color="#DDDDDD")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig
