"""Notebook 7: shuffled and shifted images, and what they do to accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from mixer.drawing import (
    COLORS,
    CYCLE,
    LINE_STYLES,
    MARKERS,
    WIDTH,
    Style,
    bare,
    mark_guessing,
    new_figure,
    percent_ticks,
    to_numpy,
)
from mixer.lessons.plots.output import each_to_one, show_signed, signed_limits, tile, to_rgb

# How a label stands at the left of a row.
AT_THE_LEFT: Style = {"rotation": 0, "ha": "right", "va": "center", "labelpad": 8}


def shuffled_images(rows: Mapping[str, Sequence[Any] | Tensor]) -> Figure:
    """Rows of images with a label at the left, such as the same ones in several orders of pixels.

    Args:
        rows: label -> images, as ``to_rgb`` takes them; as many in each row.
    """
    count = max(len(images) for images in rows.values())
    fig = new_figure(WIDTH, WIDTH * 0.82 / count * len(rows))
    axes = fig.subplots(len(rows), count, squeeze=False)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            bare(ax).imshow(to_rgb(image), interpolation="nearest")
        line[0].set_ylabel(label.replace(" and ", "\nand "), **AT_THE_LEFT)
    return fig


def weight_rows(
    rows: Mapping[str, ArrayLike | Tensor], scales: Sequence[Sequence[str]] = ()
) -> Figure:
    """Rows of small signed grids, a label above each row, a scale beside it.

    Args:
        rows: label -> grids (N, h, w), each of which is shown on its own scale.
        scales: groups of labels; the rows of a group have one scale instead, in weights.
    """
    most = max(len(to_numpy(grids)) for grids in rows.values())
    fig = new_figure(WIDTH, min(1.9, 0.4 + 6.8 / most) * len(rows))
    axes = fig.subplots(len(rows), 1, squeeze=False).ravel()
    for ax, (label, grids) in zip(axes, rows.items(), strict=True):
        values, together = to_numpy(grids), [group for group in scales if label in group]
        most_of_row = max(
            (signed_limits(rows[other])[1] for group in together for other in group), default=1.0
        )
        shown = values.astype(np.float64) if together else each_to_one(values)
        limits: Style = {"vmin": -most_of_row, "vmax": most_of_row}
        show_signed(bare(ax), tile(shown, len(values)), **limits)
        bar = fig.colorbar(ax.images[0], ax=ax, pad=0.01, aspect=8)
        bar.set_label("weight" if together else "of its largest", fontsize=9)
        ax.set_title(label, loc="left")
    return fig


def shuffle_curves(
    runs: Sequence[Mapping[str, Any]], names: Mapping[str, str], chance: float = 0.1
) -> Figure:
    """Test accuracy while training, a panel for each network, a line for each order of the pixels.

    Args:
        runs: as in mixer/lessons/results/permutation.json: each with ``model``, ``shuffle``, ``steps``
            and ``test_accuracy``. Of several runs of a kind the mean is drawn, and each as a thin
            line.
        names: ``model`` of a run -> title of its panel.
        chance: the share that guessing gets right.
    """
    fig = new_figure(WIDTH, 3.2)
    axes = fig.subplots(1, len(names), sharey=True, squeeze=False).ravel()
    shuffles = list(dict.fromkeys(run["shuffle"] for run in runs))
    for ax, (model, title) in zip(axes, names.items(), strict=True):
        for number, shuffle in enumerate(shuffles):
            chosen = [run for run in runs if run["model"] == model and run["shuffle"] == shuffle]
            if not chosen:
                continue
            steps = chosen[0]["steps"]
            same = [run["test_accuracy"] for run in chosen if list(run["steps"]) == list(steps)]
            for accuracy in same if len(same) > 1 else []:
                ax.plot(steps, accuracy, color=CYCLE[number], linewidth=0.7, alpha=0.5)
            style, marker = LINE_STYLES[number % len(LINE_STYLES)], MARKERS[number % len(MARKERS)]
            common: Style = {"color": CYCLE[number], "marker": marker, "markersize": 4}
            ax.plot(steps, np.mean(same, axis=0), style, label=shuffle, **common)
        ax.set_title(title)
        ax.set_xlabel("step")
        ax.grid(axis="y")
    for ax in axes:
        # Once all is drawn: it fixes the limits, which the panels share.
        mark_guessing(ax, chance)
    axes[0].set_ylabel("test accuracy")
    percent_ticks(axes[0].yaxis)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="pixels")
    return fig


def shift_curves(
    shifts: Sequence[int],
    accuracy: Mapping[str, Sequence[float]],
    kept: Mapping[str, Sequence[float]],
    patch_size: int,
) -> Figure:
    """What a shift of the test images does: to the accuracy, and to the single answers.

    Args:
        shifts: pixels, from 0 on.
        accuracy: name of a network -> its accuracy at each shift.
        kept: name of a network -> share of the images at each shift whose prediction is still that
            without a shift.
        patch_size: pixels; half a patch is marked.
    """
    fig = new_figure(WIDTH, 3.6)
    panels = (("accuracy", accuracy), ("predictions that stay the same", kept))
    for ax, (title, series) in zip(fig.subplots(1, 2), panels, strict=True):
        for number, (name, values) in enumerate(series.items()):
            style, marker = LINE_STYLES[number % len(LINE_STYLES)], MARKERS[number % len(MARKERS)]
            ax.plot(shifts, values, style, marker=marker, markersize=5, label=name)
        half, along = patch_size / 2, ax.get_xaxis_transform()
        ax.axvline(half, color=COLORS["grey"], linewidth=1, linestyle=":")
        ax.text(half, 0.02, " half a patch", transform=along, color="#555555", fontsize=9)
        ax.set_title(title)
        ax.set_xticks(list(shifts))
        ax.set_xlabel("moved right by … pixels")
        percent_ticks(ax.yaxis)
        ax.set_ylim(bottom=0.0)
        ax.grid(axis="y")
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig
