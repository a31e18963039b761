"""Notebook 6: where influence goes and what each block adds."""

from collections.abc import Sequence

import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from torch import Tensor

from mixer.drawing import (
    COLORS,
    SEQUENTIAL,
    WIDTH,
    Style,
    bare,
    new_figure,
    percent_ticks,
    to_numpy,
)


def heat_row(
    maps: ArrayLike | Tensor,
    titles: Sequence[str],
    *,
    mark: tuple[int, int] | None = None,
    columns: int | None = None,
    label: str = "",
) -> Figure:
    """Maps of sizes (N, h, w) side by side, on one scale, dark for zero.

    Args:
        maps: none of them negative.
        titles: one over each.
        mark: row and column of a cell to outline in each; it does not count for the scale, because
            a token's own patch would outshine all others. Cells brighter than the scale are shown
            in its brightest colour.
        columns: maps in a row.
        label: of the scale.
    """
    values = to_numpy(maps).astype(np.float64)
    columns = columns or len(values)
    rows = -(-len(values) // columns)
    others = np.ones(values.shape[1:], dtype=bool)
    if mark is not None:
        others[mark] = False
    largest = float(values[:, others].max()) or 1.0
    height = WIDTH / columns * values.shape[1] / values.shape[2] + 0.35
    fig = new_figure(WIDTH + 0.6, rows * height)
    axes = fig.subplots(rows, columns, squeeze=False)
    for index, ax in enumerate(axes.ravel()):
        if index >= len(values):
            ax.set_visible(False)
            continue
        bare(ax).set_title(titles[index], fontsize=9)
        picture = ax.imshow(values[index], cmap=SEQUENTIAL, vmin=0, vmax=largest)
        if mark is not None:
            outline: Style = {"fill": False, "edgecolor": COLORS["red"], "linewidth": 2}
            ax.add_patch(Rectangle((mark[1] - 0.5, mark[0] - 0.5), 1, 1, **outline))
    fig.colorbar(picture, ax=axes, label=label, shrink=0.9, aspect=12 * rows, pad=0.01)
    return fig


def update_sizes(
    token_mixing: ArrayLike | Tensor,
    channel_mixing: ArrayLike | Tensor,
    stream: ArrayLike | Tensor,
    between: ArrayLike | Tensor,
) -> Figure:
    """How large the updates of each block are, beside the stream and as a share of it.

    Args:
        token_mixing: (num_blocks,) root mean square of what token mixing adds.
        channel_mixing: (num_blocks,) of what channel mixing adds.
        stream: (num_blocks,) of the table before each block, to which token mixing adds.
        between: (num_blocks,) of the table after token mixing, to which channel mixing adds.
    """
    tokens, channels, table, middle = map(to_numpy, (token_mixing, channel_mixing, stream, between))
    places = np.arange(1, len(table) + 1)
    fig = new_figure(WIDTH, 3.0)
    left, right = fig.subplots(1, 2)
    left.plot(places, table, "s-", color="black", markersize=4, label="stream before the block")
    first: Style = {"color": COLORS["blue"], "markersize": 5, "label": "token mixing adds"}
    second: Style = {
        "color": COLORS["red"],
        "markersize": 5,
        "label": "channel mixing adds",
    }
    for ax, tokens_over, channels_over in ((left, 1.0, 1.0), (right, table, middle)):
        ax.plot(places, tokens / tokens_over, "o-", **first)
        ax.plot(places, channels / channels_over, "^--", **second)
        ax.set_xlabel("block")
        ax.set_xticks(places)
        ax.grid(axis="y")
    left.set_ylim(bottom=0)
    left.set_title("size (root mean square)")
    right.set_title("share of what it is added to")
    right.set_yscale("log")
    right.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 3)))
    percent_ticks(right.yaxis)
    right.minorticks_off()
    left.legend()
    return fig
