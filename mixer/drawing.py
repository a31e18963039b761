"""What training and lessons draw with: colours, style, empty figures, and the curves of a run."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

if "matplotlib" in sys.modules or "MPLBACKEND" not in os.environ:
    import matplotlib
else:
    # A cell hands its notebook's backend on to the commands that it starts, which may lack it.
    backend = os.environ.pop("MPLBACKEND")
    import matplotlib

    os.environ["MPLBACKEND"] = backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
import matplotlib.ticker
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer.files import StrPath, replacing

# Keyword arguments that several calls of matplotlib share.
Style = dict[str, Any]

COLORS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#808080",
}
CYCLE = [COLORS[name] for name in ("blue", "red", "green", "orange", "purple", "sky", "black")]
DPI = 100
# Inches: what fits a notebook's column.
WIDTH = 8.0


def use_style() -> None:
    """Set matplotlib's defaults for the whole session, where its own are not these."""
    matplotlib.rcParams.update(
        {
            "figure.dpi": DPI,
            "axes.titlesize": 11,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.prop_cycle": cycler(color=CYCLE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#DDDDDD",
            "lines.linewidth": 2.0,
            "image.interpolation": "nearest",
        }
    )


def new_figure(width: float = WIDTH, height: float = 3.0, gap: float | None = None) -> Figure:
    """An empty figure, inches, that lays itself out and that ``pyplot`` knows nothing about.

    Args:
        width, height: inches.
        gap: inches of padding at both sides of each axes; matplotlib's own if not given.
    """
    engine = ConstrainedLayoutEngine(w_pad=gap)
    return Figure(figsize=(width, height), facecolor="white", layout=engine)


def figure_of(ax: Axes) -> Figure:
    """The figure that an axes is on."""
    fig = ax.get_figure()
    assert isinstance(fig, Figure)
    return fig


def to_numpy(array: ArrayLike | Tensor) -> NDArray[Any]:
    """A NumPy array of a tensor (any device, with or without gradient) or anything array-like."""
    if not isinstance(array, Tensor):
        return np.asarray(array)
    values = array.detach().cpu()
    # NumPy has no bfloat16.
    return values.float().numpy() if values.is_floating_point() else values.numpy()


def percent_ticks(axis: Axis) -> None:
    """Ticks for shares, 0 to 1, at round percents, with all digits: 0.6 -> 60%, 0.965 -> 96.5%."""
    if axis.get_scale() == "linear":
        axis.set_major_locator(matplotlib.ticker.MaxNLocator("auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda share, _: f"{100 * share:.6g}%")


def curves(
    steps: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str = "step",
    ylabel: str = "",
    percent: bool = False,
    beside: bool = False,
    chance: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Lines over training steps, such as loss or accuracy, one for each entry of ``series``.

    Args:
        steps: x of every line; or a mapping with an x for each line.
        series: name -> y values. A single line needs no legend and gets none.
        xlabel, ylabel: texts.
        percent: y holds shares from 0 to 1, to be written as percent.
        beside: put the legend to the right of the axes, where it can cover no line.
        chance: the share that guessing gets right, to be marked.
        ax: draw there, to put several panels in one figure (``new_figure().subplots(1, 2)``).
    """
    ax = ax or new_figure(WIDTH if beside else 6.5, 3.2).subplots()
    for name, y in series.items():
        x = to_numpy(steps[name] if isinstance(steps, Mapping) else steps)
        ax.plot(x, to_numpy(y), "o-" if len(x) <= 20 else "-", label=name, markersize=4)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(axis="y")
    if percent:
        percent_ticks(ax.yaxis)
    if chance is not None:
        mark_guessing(ax, chance)
    if len(series) > 1:
        ax.legend(**({"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if beside else {}))
    return figure_of(ax)


def mark_guessing(ax: Axes, chance: float) -> None:
    """A broken line across accuracies at the share that guessing gets right."""
    ax.axhline(chance, color=COLORS["grey"], linestyle="--", linewidth=1.2)
    style: Style = {"ha": "right", "va": "bottom", "color": "#555555"}
    ax.annotate("guessing", (1, chance), xycoords=("axes fraction", "data"), **style)
    ax.set_ylim(bottom=0.0)


def training(
    steps: ArrayLike, loss: ArrayLike, eval_steps: ArrayLike, accuracy: ArrayLike, chance: float
) -> Figure:
    """The loss of every training step, beside the accuracy on test images and that of guessing.

    Args:
        steps, loss: of each step; a running mean over some of them is drawn on top.
        eval_steps, accuracy: when the test images were scored, and the shares that were right.
        chance: the share that guessing gets right.
    """
    made, values = to_numpy(steps), to_numpy(loss)
    left, right = new_figure(9.0, 3.2).subplots(1, 2)
    left.plot(made, values, color=COLORS["sky"], linewidth=1, label="each step")
    window = max(1, len(values) // 12)
    if window > 1:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        name = f"mean of the last {window} steps"
        left.plot(made[window - 1 :], smooth, color=COLORS["blue"], label=name)
        left.legend()
    left.set(xlabel="step", ylabel="training loss")
    left.grid(axis="y")
    test = {"model": accuracy}
    return curves(eval_steps, test, ylabel="test accuracy", percent=True, chance=chance, ax=right)


def save_figure(fig: Figure, path: StrPath) -> None:
    """Write a figure in the format of its ending, whole or not at all.

    It is drawn by the Agg canvas, whatever backend ``MPLBACKEND`` names.
    """
    with replacing(path) as file:
        fig.savefig(file, format=Path(path).suffix[1:] or "png")
