"""Notebook 6: token-mixing units, the waves in them, and numbers for each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer.drawing import (
    COLORS,
    CYCLE,
    LINE_STYLES,
    SEQUENTIAL,
    WIDTH,
    Style,
    bare,
    new_figure,
    percent_ticks,
    to_numpy,
)
from mixer.lessons.plots.output import each_to_one, show_signed, tile


def unit_gallery(
    panels: Mapping[str, ArrayLike | Tensor],
    *,
    columns: int = 8,
    paired: bool = True,
) -> Figure:
    """All units of several blocks, as in the paper's Figure 5: blue below zero, red above.

    Each unit is scaled by its own largest weight.

    Args:
        panels: title -> weights (N, h, w) in the order in which to show them, row by row.
        columns: units in a row, an even number if they come in pairs.
        paired: units 0 and 1, 2 and 3, … are pairs, and stand closer together.
    """
    canvases = []
    for grids in panels.values():
        values = each_to_one(to_numpy(grids))
        if paired:
            if len(values) % 2:
                values = np.concatenate([values, np.full_like(values[:1], np.nan)])
            line = np.full((len(values) // 2, values.shape[1], 1), np.nan)
            values = np.concatenate([values[::2], line, values[1::2]], axis=2)  # (M, h, 2 w + 1)
        canvases.append(tile(values, columns // 2 if paired else columns, gap=3 if paired else 1))
    tallest = max(canvas.shape[0] / canvas.shape[1] for canvas in canvases)
    fig = new_figure(9.0, 9.0 / len(canvases) * tallest + 0.35, gap=0.12)
    axes = fig.subplots(1, len(canvases), squeeze=False)[0]
    for ax, title, canvas in zip(axes, panels, canvases, strict=True):
        show_signed(bare(ax, title), canvas)
    return fig


def unit_waves(grids: ArrayLike | Tensor, titles: Sequence[str]) -> Figure:
    """A few units, and below each the waves that it is made of, with the strongest marked.

    In the lower pictures the middle is no wave at all (the mean), right is waves that run from left
    to right, down those that run from top to bottom, and further out is finer, in cycles across the
    image. A wave shows twice, on both sides of the middle. Weights are drawn over the largest of
    their unit, strengths over the strongest of theirs.

    Args:
        grids: (N, h, w).
        titles: one over each unit.
    """
    values = each_to_one(to_numpy(grids))
    height, width = values.shape[1:]
    fig = new_figure(WIDTH + 0.9, 2 * WIDTH / len(values) + 0.8)
    axes = fig.subplots(2, len(values), squeeze=False)
    for (top, bottom), grid, title in zip(axes.T, values, titles, strict=True):
        show_signed(bare(top, title, frame=True), grid)
        top.title.set_fontsize(9)
        power = np.abs(np.fft.fftshift(np.fft.fft2(grid, s=(4 * height, 4 * width))))
        # The middle of a pixel stands for its wave: quarters of a cycle, from minus a half.
        extent = [edge - 1 / 8 for edge in (-width / 2, width / 2, height / 2, -height / 2)]
        scale: Style = {"cmap": SEQUENTIAL, "extent": extent, "aspect": width / height}
        waves = bottom.imshow(power / power.max(), vmin=0, vmax=1, **scale)
        down, across = (height - 1) // 2, (width - 1) // 2
        bottom.set_xticks([-across, 0, across])
        bottom.set_yticks([-down, 0, down] if bottom is axes[1, 0] else [])
        row, column = np.unravel_index(power.argmax(), power.shape)
        y, x = row / 4 - height / 2, column / 4 - width / 2
        ring: Style = {
            "markersize": 11,
            "markeredgewidth": 2,
            "markerfacecolor": "none",
            "clip_on": False,
        }
        bottom.plot([x, -x], [y, -y], "o", markeredgecolor="white", **ring)
        # Room for a ring at the finest wave; the same in all panels.
        bottom.set_xlim(-width / 2 - 0.8, width / 2 + 0.8)
        bottom.set_ylim(height / 2 + 0.8, -height / 2 - 0.8)
        bottom.set_facecolor(colormaps[SEQUENTIAL](0.0))
    axes[0, 0].set_ylabel("weights")
    axes[1, 0].set_ylabel("waves in them,\ncycles down")
    fig.supxlabel("cycles across the image", fontsize=10)
    _scale_beside(fig, axes[0], axes[0, 0].images[0], "of its largest")
    _scale_beside(fig, axes[1], waves, "of its strongest")
    return fig


def _scale_beside(fig: Figure, axes: NDArray[Any], picture: AxesImage, label: str) -> None:
    bar = fig.colorbar(picture, ax=list(axes), pad=0.01, aspect=10)
    bar.set_label(label, fontsize=9)


def by_block(
    panels: Mapping[str, Sequence[ArrayLike | Tensor]],
    controls: Mapping[str, Sequence[ArrayLike | Tensor]] | None = None,
) -> Figure:
    """A number for each unit, block by block: a dot a unit, a line for the median of each block.

    Args:
        panels: name of the number -> for each block, the units' values.
        controls: name of the number -> for each block, the values of shuffled units; drawn as the
            grey range from their 5th to their 95th percentile.
    """
    fig = new_figure(WIDTH, 3.0)
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    dots: Style = {"color": COLORS["blue"], "markersize": 3, "alpha": 0.6, "zorder": 2}
    line: Style = {
        "color": COLORS["red"],
        "markersize": 5,
        "zorder": 3,
        "label": "median unit",
    }
    band: Style = {"color": COLORS["grey"], "alpha": 0.3, "linewidth": 0}
    for ax, (name, blocks) in zip(axes, panels.items(), strict=True):
        places = np.arange(1, len(blocks) + 1)
        for place, values in zip(places, map(to_numpy, blocks), strict=True):
            # Evenly spread, and the same each time.
            aside = (np.arange(len(values)) * 0.618034 % 1 - 0.5) * 0.6
            ax.plot(place + aside, values, ".", **dots)
        medians = [np.median(to_numpy(values)) for values in blocks]
        ax.plot(places, medians, "o-", **line)
        if controls and name in controls:
            ranges = [np.percentile(to_numpy(values), (5, 95)) for values in controls[name]]
            ax.fill_between(places, *np.array(ranges).T, label="shuffled: middle 90 %", **band)
        ax.set_title(name)
        ax.set_xlabel("block")
        ax.set_xticks(places)
        ax.grid(axis="y")
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def similarity_histogram(
    series: Mapping[str, ArrayLike | Tensor], limit: float | None = None
) -> Figure:
    """How alike the two units of each pair are, for trained units and controls.

    Args:
        series: name -> cosines, -1 to 1.
        limit: pairs to the left of it count as twins; drawn as a line.
    """
    fig = new_figure(WIDTH, 3.0)
    ax = fig.subplots()
    bins = np.linspace(-1, 1, 51)
    for number, (name, values) in enumerate(series.items()):
        share = np.histogram(to_numpy(values), bins)[0] / max(1, to_numpy(values).size)
        if number == 0:
            ax.stairs(share, bins, fill=True, color=CYCLE[0], alpha=0.35)
        style = LINE_STYLES[number % len(LINE_STYLES)]
        ax.stairs(share, bins, color=CYCLE[number], linewidth=2, linestyle=style, label=name)
    if limit is not None:
        ax.axvline(limit, color="black", linewidth=1, linestyle=":")
        coordinates = ("data", "axes fraction")
        ax.annotate("twins ", (limit, 0.93), xycoords=coordinates, ha="right", fontsize=9)
    ax.set_xlabel("similarity of the two units of a pair (−1: opposite)")
    ax.set_ylabel("share of the pairs")
    percent_ticks(ax.yaxis)
    ax.legend()
    return fig


def spectra(
    directions: Mapping[str, Sequence[ArrayLike | Tensor]],
    waves: Mapping[str, Sequence[ArrayLike | Tensor]],
) -> Figure:
    """Two spectra of several models side by side: a pale line a block, a strong one their mean.

    1, the broken line, is what all directions have in an orthogonal matrix, and all waves in noise.

    Args:
        directions: model -> for each block, the singular values (K,), the largest first
            (``analysis.singular_spectrum``).
        waves: model -> for each block, energies (K,) of 1 to K cycles across the image
            (``analysis.wave_spectrum``).
    """
    fig = new_figure(WIDTH, 3.2)
    left, right = fig.subplots(1, 2)
    labels = ("singular value, largest first", "cycles across the image")
    for ax, panel, label in zip((left, right), (directions, waves), labels, strict=True):
        for number, (name, blocks) in enumerate(panel.items()):
            lines = np.stack([to_numpy(block) for block in blocks])  # (blocks, K)
            x = np.arange(1, lines.shape[1] + 1)
            color = CYCLE[number]
            ax.plot(x, lines.T, color=color, linewidth=0.8, alpha=0.3)
            style = LINE_STYLES[number % len(LINE_STYLES)]
            ax.plot(x, lines.mean(0), style, color=color, linewidth=2.5, label=name)
        ax.axhline(1, color=COLORS["grey"], linestyle="--", linewidth=1.2)
        ax.set_xlabel(label)
        ax.grid(axis="y")
    left.set_title("directions: size")
    right.set_title("waves: energy")
    right.set_xticks(x)
    left.set_ylabel("over the mean of all")
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig
