"""Every figure of the notebooks and the README, as functions that return a matplotlib ``Figure``.

A notebook calls ``use_style()`` once and then, for each picture, ``show(plots.some_figure(…), alt="…")``.
No function here touches ``pyplot``'s list of open figures, so nothing is shown twice and nothing leaks.

House rules: the Okabe-Ito colours, which people with colour-blindness can tell apart; signed numbers in
``DIVERGING`` with zero in the middle (``signed_limits``); a white ground, so that figures read the same in
JupyterLab's dark theme; 7 to 9 inches wide at 100 dots an inch, which is the width of a notebook.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

# Okabe & Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
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
DIVERGING = "RdBu_r"  # ColorBrewer's red-blue, safe for colour-blind readers: blue < 0, white = 0, red > 0
SEQUENTIAL = "viridis"
DPI = 100
WIDTH = 8.0  # inches: what fits a notebook's column


def use_style() -> None:
    """Set matplotlib's defaults for the whole session: fonts, colours, a white ground."""
    matplotlib.rcParams.update(
        {
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "axes.facecolor": "white",
            "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.prop_cycle": cycler(color=CYCLE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "grid.color": "#DDDDDD",
            "lines.linewidth": 2.0,
            "image.cmap": SEQUENTIAL,
            "image.interpolation": "nearest",
        }
    )


def new_figure(width: float = WIDTH, height: float = 3.0) -> Figure:
    """An empty figure, inches, that lays itself out and that ``pyplot`` knows nothing about."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def to_png(fig: Figure, *, tight: bool = False, quick: bool = False) -> bytes:
    """The figure as PNG bytes.

    Args:
        fig: any figure.
        tight: crop or grow to what is drawn, also outside the figure's own frame.
        quick: larger bytes in less time, for pictures that follow a slider.
    """
    buffer = io.BytesIO()
    options: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.05} if tight else {}
    fig.savefig(
        buffer,
        format="png",
        facecolor="white",
        metadata={"Software": None},  # the version of matplotlib has no place in a notebook's diff
        pil_kwargs={"compress_level": 1} if quick else {"optimize": True},
        **options,
    )
    return buffer.getvalue()


def show(fig: Figure, alt: str) -> None:
    """Display a figure in a notebook, once, with a text for those who cannot see it.

    The text goes where ``nbconvert`` looks for it (the output's metadata, as the ``alt`` of the image) and
    where everything else does (the output's plain text).

    Args:
        fig: the figure.
        alt: what it shows, in a sentence. The same from run to run: nbval compares it.

    Raises:
        ValueError: ``alt`` is empty.
    """
    from IPython.display import display

    data, metadata = png_bundle(to_png(fig), alt)
    display(data, metadata=metadata, raw=True)


def png_bundle(png: bytes, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of a notebook output that holds a PNG and its alternative text.

    Raises:
        ValueError: ``alt`` is empty.
    """
    from base64 import b64encode

    if not alt.strip():
        raise ValueError(f"alt: expected a sentence that says what the picture shows, found {alt!r}")
    data = {"image/png": b64encode(png).decode("ascii"), "text/plain": f"<Figure: {alt}>"}
    return data, {"image/png": {"alt": alt}}


# ---------------------------------------------------------------------------------------------- arrays


def to_numpy(array: ArrayLike | Tensor) -> NDArray[Any]:
    """A NumPy array of a tensor (any device, with or without gradient) or of anything array-like."""
    if isinstance(array, Tensor):
        return array.detach().cpu().float().numpy() if array.is_floating_point() else array.detach().cpu().numpy()
    return np.asarray(array)


def to_rgb(image: ArrayLike | Tensor) -> NDArray[np.uint8]:
    """One image as uint8 (H, W, 3), as matplotlib likes it.

    Args:
        image: (3, H, W), (H, W, 3) or (H, W); uint8, or floating point with 0..255 if any value is above 1,
            in [-1, 1] if any is below 0 (the model's scale), else in [0, 1].

    Raises:
        ValueError: another shape.
    """
    values = to_numpy(image)
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[-1] != 3:
        values = values.transpose(1, 2, 0)  # (H, W, 3)
    if values.ndim == 2:
        values = np.stack([values] * 3, axis=-1)  # (H, W, 3)
    if values.ndim != 3 or values.shape[-1] != 3:
        raise ValueError(f"image: expected shape (3, H, W), (H, W, 3) or (H, W), found {values.shape}")
    if values.dtype != np.uint8:
        values = values.astype(np.float64)
        if values.min() < 0:
            values = (values + 1) * 127.5
        elif values.max() <= 1:
            values = values * 255
        values = values.round().clip(0, 255).astype(np.uint8)
    return values


def signed_limits(values: ArrayLike | Tensor) -> tuple[float, float]:
    """Limits of a colour map with zero in the middle: (-m, m), m the largest magnitude (1 if all are zero)."""
    array = to_numpy(values)
    largest = float(np.abs(array).max()) if array.size else 0.0
    return -(largest or 1.0), largest or 1.0


def tile(grids: ArrayLike | Tensor, columns: int, gap: int = 1, fill: float = np.nan) -> NDArray[Any]:
    """Many small grids (N, h, w) or (N, h, w, 3) as one large one, row by row.

    One ``imshow`` of the result draws far quicker than N axes.
    """
    values = to_numpy(grids)
    count, height, width = values.shape[:3]
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *values.shape[3:])
    dtype = values.dtype if values.dtype == np.uint8 else np.float64
    canvas = np.full(shape, 255 if dtype == np.uint8 else fill, dtype=dtype)
    for index, grid in enumerate(values):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = grid
    return canvas


# ------------------------------------------------------------------------------------- common figures


def bare(ax: Axes, title: str | None = None, frame: bool = False) -> Axes:
    """Take ticks (and frame) off an axes that holds a picture."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(frame)
    if title is not None:
        ax.set_title(title)
    return ax


def image_grid(
    images: Sequence[Any] | Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    size: float = 1.5,
    title_colors: Sequence[str] | None = None,
) -> Figure:
    """Images side by side, with a title over each.

    Args:
        images: what ``to_rgb`` takes, each.
        titles: one for each image.
        columns: images in a row; as many as fit the width of a notebook if not given.
        size: inches of one image.
        title_colors: one for each title, such as ``COLORS["red"]`` where a model was wrong.

    Raises:
        ValueError: no images, or not one title for each.
    """
    count = len(images)
    if not count:
        raise ValueError("images: expected at least one, found none")
    for name, given in (("titles", titles), ("title_colors", title_colors)):
        if given is not None and len(given) != count:
            raise ValueError(f"{name}: expected {count}, one for each image, found {len(given)}")
    columns = min(count, columns or max(1, int(WIDTH / size)))
    rows = -(-count // columns)
    fig = new_figure(columns * size, rows * (size + (0.35 if titles else 0.0)))
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for index, ax in enumerate(axes):
        bare(ax)
        if index < count:
            ax.imshow(to_rgb(images[index]), interpolation="nearest")
            if titles:
                color = title_colors[index] if title_colors else "black"
                ax.set_title(titles[index], fontsize=9, color=color)
    return fig


def weight_grid(
    weights: ArrayLike | Tensor,
    *,
    columns: int = 16,
    title: str | None = None,
    each: bool = True,
    width: float = WIDTH,
) -> Figure:
    """Small grids of signed weights (N, h, w), tiled: blue below zero, white at zero, red above.

    Args:
        weights: (N, h, w).
        columns: grids in a row.
        title: over the figure.
        each: scale each grid by its own largest magnitude; else one scale for all.
        width: inches.
    """
    values = to_numpy(weights).astype(np.float64)
    if each:
        values = values / np.maximum(np.abs(values).max(axis=(1, 2), keepdims=True), 1e-30)
    canvas = tile(values, columns)
    low, high = signed_limits(values)
    fig = new_figure(width, width * canvas.shape[0] / canvas.shape[1] + (0.4 if title else 0.1))
    ax = bare(fig.subplots(), title)
    ax.imshow(np.ma.masked_invalid(canvas), cmap=DIVERGING, vmin=low, vmax=high, interpolation="nearest")
    return fig


def rgb_filter_grid(
    filters: ArrayLike | Tensor, *, columns: int = 16, title: str | None = None, width: float = WIDTH
) -> Figure:
    """Colour filters (N, 3, P, P), tiled: each scaled on its own, mid-grey is zero."""
    values = to_numpy(filters).astype(np.float64).transpose(0, 2, 3, 1)  # (N, P, P, 3)
    values = values / np.maximum(np.abs(values).max(axis=(1, 2, 3), keepdims=True), 1e-30)
    canvas = tile(values * 0.5 + 0.5, columns, fill=1.0)
    fig = new_figure(width, width * canvas.shape[0] / canvas.shape[1] + (0.4 if title else 0.1))
    bare(fig.subplots(), title).imshow(canvas, interpolation="nearest")
    return fig


def curves(
    steps: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str = "step",
    ylabel: str = "",
    title: str | None = None,
    percent: bool = False,
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Lines over training steps, such as loss or accuracy, one for each entry of ``series``.

    Args:
        steps: x of every line; or a mapping with an x for each line.
        series: name -> y values. A single line needs no legend and gets none.
        xlabel, ylabel, title: texts.
        percent: y holds shares from 0 to 1, to be written as percent.
        log: logarithmic y axis.
        ax: draw there, to put several panels in one figure (``new_figure().subplots(1, 2)``).
    """
    if ax is None:
        ax = new_figure(6.5, 3.2).subplots()
    for number, (name, y) in enumerate(series.items()):
        x = steps[name] if isinstance(steps, Mapping) else steps
        few = len(to_numpy(y)) <= 20  # type: ignore[arg-type]
        style = ("-", "--", "-.", ":")[number // len(CYCLE) % 4]
        ax.plot(to_numpy(x), to_numpy(y), style, label=name, marker="o" if few else None, markersize=4)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(axis="y")
    if title:
        ax.set_title(title)
    if percent:
        ax.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    if log:
        ax.set_yscale("log")
    if len(series) > 1:
        ax.legend()
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    return figure


# ---------------------------------------------------------------------- notebook 1: patches and tokens


def _grid_of(image: NDArray[Any], patch_size: int) -> NDArray[Any]:
    """Patches of an (H, W, 3) image, row by row: (S, P, P, 3)."""
    height, width = image.shape[:2]
    if height % patch_size or width % patch_size:
        raise ValueError(f"patch_size: expected a divisor of both sides of {height} × {width}, found {patch_size}")
    rows, columns = height // patch_size, width // patch_size
    split = image.reshape(rows, patch_size, columns, patch_size, 3).swapaxes(1, 2)  # (rows, columns, P, P, 3)
    return split.reshape(rows * columns, patch_size, patch_size, 3)


def patch_grid(image: ArrayLike | Tensor, patch_size: int, *, numbers: bool = True) -> Figure:
    """A photo beside the patches it is cut into, numbered in the order of the tokens.

    Args:
        image: what ``to_rgb`` takes.
        patch_size: pixels; a divisor of both sides.
        numbers: write the number of its token on each patch (left out for more than 100 patches).
    """
    pixels = to_rgb(image)
    patches = _grid_of(pixels, patch_size)
    columns = pixels.shape[1] // patch_size
    gap = max(1, round(pixels.shape[1] * 0.012))
    fig = new_figure(WIDTH, 4.1)
    left, right = fig.subplots(1, 2)
    bare(left, f"{pixels.shape[0]} × {pixels.shape[1]} pixels").imshow(pixels)
    bare(right, f"{len(patches)} patches of {patch_size} × {patch_size} pixels").imshow(tile(patches, columns, gap))
    if numbers and len(patches) <= 100:
        step = patch_size + gap
        for index in range(len(patches)):
            x, y = index % columns * step + patch_size / 2, index // columns * step + patch_size / 2
            box = {"facecolor": "black", "alpha": 0.55, "pad": 1.0, "edgecolor": "none"}
            right.text(x, y, str(index), color="white", ha="center", va="center", fontsize=8, bbox=box)
    return fig


def linear_map(matrix: ArrayLike | Tensor, rows: Sequence[str], column_label: str) -> Figure:
    """A matrix as a picture, one coloured square for each weight and a name for each row.

    Args:
        matrix: (outputs, inputs).
        rows: names of the outputs.
        column_label: what the inputs are.
    """
    values = to_numpy(matrix)
    low, high = signed_limits(values)
    fig = new_figure(WIDTH, 0.9 + WIDTH * 0.75 * values.shape[0] / values.shape[1])
    ax = fig.subplots()
    picture = ax.imshow(values, cmap=DIVERGING, vmin=low, vmax=high)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xlabel(column_label)
    ax.set_xticks(np.arange(-0.5, values.shape[1]), minor=True)
    ax.set_yticks(np.arange(-0.5, values.shape[0]), minor=True)
    ax.grid(which="minor", color="#EEEEEE", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    fig.colorbar(picture, ax=ax, label="weight", shrink=0.9)
    return fig


def filter_responses(
    image: ArrayLike | Tensor, filters: ArrayLike | Tensor, responses: ArrayLike | Tensor, names: Sequence[str]
) -> Figure:
    """Filters of a patch embedding over what they answer to each patch of a photo.

    Args:
        image: the photo, what ``to_rgb`` takes.
        filters: (N, 3, P, P); each is drawn on its own scale, mid-grey is zero.
        responses: (N, rows, columns), one number for each patch.
        names: one for each filter.
    """
    kernels = to_numpy(filters).transpose(0, 2, 3, 1)  # (N, P, P, 3)
    answers = to_numpy(responses)
    fig = new_figure(WIDTH + 1, 3.4)
    axes = fig.subplots(2, len(names) + 1)
    bare(axes[0, 0]).axis("off")
    axes[0, 0].text(1.0, 0.5, "filter", ha="right", va="center", transform=axes[0, 0].transAxes)
    bare(axes[1, 0]).imshow(to_rgb(image))
    axes[1, 0].set_xlabel("photo")
    for column, name in enumerate(names, start=1):
        kernel, answer = kernels[column - 1], answers[column - 1]
        bare(axes[0, column], name, frame=True).imshow(kernel / (np.abs(kernel).max() or 1.0) * 0.5 + 0.5)
        low, high = signed_limits(answer)
        bare(axes[1, column], frame=True).imshow(answer, cmap=DIVERGING, vmin=low, vmax=high)
        axes[1, column].set_xlabel("its channel")
    return fig


def cost_curves(patch_sizes: Sequence[int], costs: Mapping[str, Sequence[float]], ylabel: str) -> Figure:
    """Cost of each part of a model against the patch size, both on logarithmic axes.

    Args:
        patch_sizes: pixels.
        costs: name of a part -> its cost at each patch size.
        ylabel: the unit.
    """
    fig = new_figure(7.0, 3.8)
    ax = fig.subplots()
    for number, (name, values) in enumerate(costs.items()):
        ax.plot(
            patch_sizes, values, marker="os^Dv"[number % 5], linestyle=("-", "--", "-.", ":")[number % 4], label=name
        )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(patch_sizes, [str(size) for size in patch_sizes])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    ax.set_xlabel("patch size P, pixels")
    ax.set_ylabel(ylabel)
    ax.grid(color="#DDDDDD")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def patch_sizes(image: ArrayLike | Tensor, patch_size: int, costs: Mapping[int, float], unit: str) -> Figure:
    """A photo cut into patches, beside the cost of each patch size with the present one picked out.

    Args:
        image: what ``to_rgb`` takes.
        patch_size: pixels; a key of ``costs``.
        costs: patch size -> cost.
        unit: of the cost.
    """
    pixels = to_rgb(image)
    patches = _grid_of(pixels, patch_size)
    gap = max(1, round(patch_size * 0.12))
    fig = Figure(figsize=(WIDTH, 3.9), facecolor="white")  # placed by hand: quick enough to follow a slider
    left = bare(fig.add_axes((0.0, 0.0, 0.47, 0.9)), f"{len(patches):,} patches of {patch_size} × {patch_size}")
    left.imshow(tile(patches, pixels.shape[1] // patch_size, gap))
    right = fig.add_axes((0.54, 0.13, 0.45, 0.71))
    names, heights = [str(size) for size in costs], list(costs.values())
    colors = [COLORS["blue"] if size == patch_size else "#CCCCCC" for size in costs]
    floor = min(heights) / 2
    tops = np.log10(np.array(heights) / floor)
    right.bar(range(len(names)), tops, color=colors)
    for place, (top, cost) in enumerate(zip(tops, heights, strict=True)):
        right.text(place, top + 0.02, f"{cost:.3g}", ha="center", va="bottom", fontsize=9)
    right.set_xticks(range(len(names)), names)
    right.set_yticks([])
    right.spines["left"].set_visible(False)
    right.set_xlabel("patch size P, pixels")
    right.set_title(f"{unit}\n(bars on a logarithmic scale)", fontsize=10)
    return fig
