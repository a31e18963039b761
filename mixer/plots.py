"""Every figure of the notebooks and the README, as functions that return a matplotlib ``Figure``.

A notebook calls ``use_style()`` once and then, for each picture, ``show(plots.some_figure(…), alt="…")``.
No function here touches ``pyplot``'s list of open figures, so nothing is shown twice and nothing leaks.

House rules: the Okabe-Ito colours, which people with colour-blindness can tell apart; signed numbers in
``DIVERGING`` with zero in the middle (``signed_limits``); a white ground, so that figures read the same in
JupyterLab's dark theme; 7 to 9 inches wide at 100 dots an inch, which is the width of a notebook.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import matplotlib
import matplotlib.patches
import matplotlib.path
import matplotlib.textpath
import matplotlib.ticker
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import BoxStyle, FancyBboxPatch, Rectangle
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from mixer.config import MixerConfig, get_config

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
PART_COLORS = {  # the parts of a Mixer, the same in every figure
    "stem": COLORS["green"],
    "embedding": COLORS["green"],  # as notebook 1 calls the stem
    "token_mixing": COLORS["blue"],
    "channel_mixing": COLORS["red"],
    "norms": COLORS["black"],
    "head": COLORS["purple"],
}
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
    return buffer.getvalue() if quick else _with_palette(buffer.getvalue())


def _with_palette(png: bytes) -> bytes:
    """The picture with 256 colours, about half the bytes, if the eye cannot tell; photos stay as they are."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    reduced = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    difference = np.asarray(picture, dtype=np.float32) - np.asarray(reduced.convert("RGB"), dtype=np.float32)
    if np.sqrt(np.mean(difference**2)) > 1.0:  # of 255
        return png
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", optimize=True)
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


def _percent_ticks(axis: Axis) -> None:
    """Ticks for shares from 0 to 1, at round percents and with all their digits: 0.6 -> 60%, 0.965 -> 96.5%."""
    if axis.get_scale() == "linear":
        axis.set_major_locator(matplotlib.ticker.MaxNLocator("auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda share, _: f"{100 * share:.6g}%"))


def curves(
    steps: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str = "step",
    ylabel: str = "",
    title: str | None = None,
    percent: bool = False,
    log: bool = False,
    beside: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Lines over training steps, such as loss or accuracy, one for each entry of ``series``.

    Args:
        steps: x of every line; or a mapping with an x for each line.
        series: name -> y values. A single line needs no legend and gets none.
        xlabel, ylabel, title: texts.
        percent: y holds shares from 0 to 1, to be written as percent.
        log: logarithmic y axis.
        beside: put the legend to the right of the axes, where it can cover no line.
        ax: draw there, to put several panels in one figure (``new_figure().subplots(1, 2)``).
    """
    if ax is None:
        ax = new_figure(WIDTH if beside else 6.5, 3.2).subplots()
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
    if log:
        ax.set_yscale("log")
    if percent:
        _percent_ticks(ax.yaxis)
    if len(series) > 1:
        ax.legend(**({"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if beside else {}))
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
        filters: (N, 3, P, P); each is drawn on its own scale, mid-grey is zero, with lines between its pixels.
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
        for lines in (axes[0, column].axvline, axes[0, column].axhline):  # so that a white filter is no empty panel
            for pixel in range(1, len(kernel)):
                lines(pixel - 0.5, color="#999999", linewidth=0.5)
        low, high = signed_limits(answer)
        bare(axes[1, column], frame=True).imshow(answer, cmap=DIVERGING, vmin=low, vmax=high)
        axes[1, column].set_xlabel("answer,\none square a patch", fontsize=9)
    return fig


def rgb_filters_compared(named: Mapping[str, ArrayLike | Tensor], *, columns: int = 8) -> Figure:
    """Sets of colour filters (N, 3, P, P) side by side, each filter scaled on its own; mid-grey is zero."""
    sets = [to_numpy(filters).astype(np.float64).transpose(0, 2, 3, 1) for filters in named.values()]  # (N, P, P, 3)
    fig = new_figure(WIDTH, 0.3 + WIDTH / len(named) * -(-len(sets[0]) // columns) / columns)
    fig.get_layout_engine().set(w_pad=0.15)  # type: ignore[union-attr,call-arg]  # new_figure's is the constrained one
    for ax, title, values in zip(fig.subplots(1, len(named), squeeze=False)[0], named, sets, strict=True):
        values = values / np.maximum(np.abs(values).max(axis=(1, 2, 3), keepdims=True), 1e-30)
        bare(ax, title).imshow(tile(values * 0.5 + 0.5, columns, fill=1.0), interpolation="nearest")
    return fig


def cost_curves(patch_sizes: Sequence[int], costs: Mapping[str, Sequence[float]], ylabel: str) -> Figure:
    """Cost of each part of a model against the patch size, both on logarithmic axes.

    Args:
        patch_sizes: pixels.
        costs: name of a part -> its cost at each patch size; a name of ``PART_COLORS`` gets that colour.
        ylabel: the unit.
    """
    fig = new_figure(7.0, 3.8)
    ax = fig.subplots()
    for number, (name, values) in enumerate(costs.items()):
        color = PART_COLORS.get(name.replace(" ", "_"), CYCLE[number % len(CYCLE)])
        style = ("-", "--", "-.", ":")[number % 4]
        ax.plot(patch_sizes, values, style, marker="os^Dv"[number % 5], color=color, label=name)
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


# -------------------------------------------------------------------- README: the architecture, drawn

_TOKEN, _CHANNEL = PART_COLORS["token_mixing"], PART_COLORS["channel_mixing"]
_INK, _SOFT, _BOX = "#222222", "#767676", "#F1F1F1"
_SIDE, _COLUMNS, _CELL = 3, 8, 13.0  # the drawing's own 3 × 3 patches and 8 channels; pixels of a table's cell


def architecture(name: str) -> Figure:
    """The model in one drawing: shapes at every arrow, skip connections, transposes.

    The upper part is the whole model, the two rows below open one Mixer block. A token table has a row for each token
    and a column for each channel: token mixing reads it by columns, channel mixing by rows.

    Args:
        name: the model of ``MODELS`` whose numbers stand in the drawing, such as ``"Mixer-B_16"``.

    Raises:
        ValueError: an unknown name.
    """
    config = get_config(name)
    fig = Figure(figsize=(9.0, 7.6))
    fig.patch.set_alpha(0.0)  # the ground is a white card with round corners, so that it sits well on a dark page
    ax = bare(fig.add_axes((0, 0, 1, 1)))
    ax.patch.set_alpha(0.0)
    _draw_card(ax, 2, 2, 896, 756, "white", "#D0D0D0", round_by=16, zorder=0)
    _draw_model(ax, config)
    _draw_token_mixing(ax, config)
    _draw_channel_mixing(ax, config)
    height, width = config.image_hw
    numbers = f"numbers of {name.replace('_', '/')} at {height} × {width} pixels"
    letters = f"S tokens, C channels, P pixels a side of a patch; 9 patches and 8 channels drawn; {numbers}"
    _draw_words(ax, 450, 741, letters, size=9, color=_SOFT)
    ax.set(xlim=(0, 900), ylim=(760, 0), aspect="equal")  # y downwards, a unit is a pixel of the README
    return fig


def _draw_model(ax: Axes, config: MixerConfig) -> None:
    patch, tokens, channels = config.patch_size, config.num_tokens, config.hidden_dim
    (height, width), pixels = config.image_hw, patch * patch * config.in_channels
    y, under = 120.0, 199.0
    side, gap, left, top = 36.0, 3.0, 24.0, 63.0
    for index, piece in enumerate(_landscape()):
        at_x, at_y = left + index % _SIDE * (side + gap), top + index // _SIDE * (side + gap)
        ax.imshow(piece, extent=(at_x, at_x + side, at_y + side, at_y), interpolation="bilinear", zorder=2)
    _draw_words(ax, left + 57, 40, "image", weight="bold")
    _draw_words(ax, left + 57, under, f"{height} × {width} × {config.in_channels}\n{patch} × {patch} pixels a patch")
    _draw_arrow(ax, 146, 182, y, "cut")
    _draw_pieces_beside(ax, 188, y)
    _draw_words(ax, 195, 40, "patches", weight="bold")
    _draw_words(ax, 195, under, f"S × 3P²\n{tokens} × {pixels}")
    _draw_arrow(ax, 206, 225, y)
    _draw_box(ax, 227, y, 74, f"Linear\n(stem)\n{pixels} → {channels}\nsame for\nall patches")
    _draw_arrow(ax, 303, 321, y)
    _draw_pieces_beside(ax, 324, y)
    _draw_table(ax, 341, y, column=2, row=6)
    _draw_words(ax, 393, 40, "token table", weight="bold")
    _draw_words(ax, 393, under, f"S × C\n{tokens} × {channels}")
    _draw_words(ax, 449, y - 31, "one channel", color=_TOKEN, ha="left", size=8.5)
    _draw_words(ax, 449, y + 27, "one token", color=_CHANNEL, ha="left", size=8.5)
    _draw_arrow(ax, 449, 527, y, "S × C")
    for offset in (8, 4, 0):
        _draw_card(ax, 529 + offset, y - 46 - offset, 88, 92, "#FFF4CC", "#A67C00", zorder=3 - offset / 10)
    _draw_words(ax, 573, y, f"{config.num_blocks} ×\nMixer\nblock", size=12, weight="bold")
    _draw_arrow(ax, 627, 667, y, "S × C")
    _draw_box(ax, 669, y, 24, "LayerNorm", rotation=90)
    _draw_arrow(ax, 695, 735, y, "S × C")
    _draw_box(ax, 737, y, 38, "mean over\nthe tokens", rotation=90)
    _draw_arrow(ax, 777, 813, y, "C", str(channels))
    _draw_box(ax, 815, y, 24, "Linear (head)", rotation=90)
    _draw_arrow(ax, 841, 872, y)
    _draw_words(ax, 836, under, f"scores of\n{config.num_classes:,} classes")
    ax.fill([529, 617, 884, 16], [y + 47, y + 47, 236, 236], color="#FFF4CC", alpha=0.5, linewidth=0, zorder=0.5)
    _draw_card(ax, 16, 226, 868, 500, "#FFFCF0", "#A67C00", zorder=0.6)
    _draw_words(ax, 450, 246, "Inside one Mixer block", size=12, weight="bold")


def _draw_token_mixing(ax: Axes, config: MixerConfig) -> None:
    tokens, channels = config.num_tokens, config.hidden_dim
    y, under = 378.0, 454.0
    _draw_words(ax, 32, 272, "1  Token mixing", color=_TOKEN, size=12, weight="bold", ha="left")
    _draw_words(ax, 200, 272, "looks at one channel of all tokens at a time", color=_TOKEN, size=10, ha="left")
    _draw_pieces_beside(ax, 34, y)
    _draw_table(ax, 51, y, column=2)
    _draw_words(ax, 103, under, f"S × C = {tokens} × {channels}")
    _draw_arrow(ax, 158, 212, y, "   S × C")
    _draw_box(ax, 214, y, 24, "LayerNorm", rotation=90)
    _draw_arrow(ax, 240, 282, y, "S × C")
    _draw_box(ax, 284, y, 24, "transpose", rotation=90)
    _draw_arrow(ax, 310, 352, y, "C × S")
    _draw_pieces_above(ax, 356, y)
    _draw_table(ax, 356, y, row=2, turned=True)
    _draw_words(ax, 415, under, f"C × S = {channels} × {tokens}")
    _draw_arrow(ax, 477, 519, y, "C × S")
    _draw_mlp(ax, 523, y, ("S", "$D_S$", "S"), (tokens, config.tokens_mlp_dim), _TOKEN)
    _draw_words(ax, 585, 312, "MLP 1", color=_TOKEN, weight="bold", size=10.5)
    _draw_words(ax, 585, under + 16, f"the same for all {channels} channels", color=_TOKEN)
    _draw_arrow(ax, 651, 693, y, "C × S")
    _draw_box(ax, 695, y, 24, "transpose", rotation=90)
    _draw_arrow(ax, 721, 771, y, "S × C")
    _draw_skip(ax, 166, 783, y, 291)
    ax.plot([793, 866, 866, 24, 24], [y, y, 488, 488, 608], color=_INK, linewidth=1.3, solid_joinstyle="round")
    _draw_words(ax, 829, y - 13, "S × C", size=8.2)


def _draw_channel_mixing(ax: Axes, config: MixerConfig) -> None:
    tokens, channels = config.num_tokens, config.hidden_dim
    y, under = 608.0, 684.0
    _draw_words(ax, 40, 510, "2  Channel mixing", color=_CHANNEL, size=12, weight="bold", ha="left")
    _draw_words(ax, 230, 510, "looks at all channels of one token at a time", color=_CHANNEL, size=10, ha="left")
    _draw_arrow(ax, 24, 34, y)
    _draw_pieces_beside(ax, 38, y)
    _draw_table(ax, 55, y, row=6)
    _draw_words(ax, 107, under, f"S × C = {tokens} × {channels}")
    _draw_arrow(ax, 162, 242, y, "S × C")
    _draw_box(ax, 244, y, 24, "LayerNorm", rotation=90)
    _draw_arrow(ax, 270, 352, y, "S × C")
    _draw_mlp(ax, 357, y, ("C", "$D_C$", "C"), (channels, config.channels_mlp_dim), _CHANNEL)
    _draw_words(ax, 419, 544, "MLP 2", color=_CHANNEL, weight="bold", size=10.5)
    _draw_words(ax, 419, under + 16, f"the same for all {tokens} tokens", color=_CHANNEL)
    _draw_arrow(ax, 486, 566, y, "S × C")
    _draw_skip(ax, 170, 578, y, 528)
    _draw_arrow(ax, 589, 660, y, "S × C")
    _draw_pieces_beside(ax, 666, y)
    _draw_table(ax, 683, y)
    _draw_words(ax, 735, under, f"S × C = {tokens} × {channels}")
    _draw_arrow(ax, 791, 870, y, "S × C", "next block")


def accuracies(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy after fine-tuning, a line for each model: the official number, and what this project measured.

    Models without an official number stand below the others, on a scale of their own.

    Args:
        rows: each with ``label``; ``official``, the published accuracy, and ``measured``, ours, both from 0 to 1 or
            ``None``; ``note``, a few words or two lines of them that stand below the numbers.
    """
    known = [row for row in rows if row["official"] is not None]
    own = [row for row in rows if row["official"] is None]
    line, above, below, between = 46, 36, 42, 24  # hundredths of an inch
    width, height = 900, above + line * len(rows) + below * (2 if known and own else 1) + between * bool(known and own)
    fig = Figure(figsize=(width / 100, height / 100))
    fig.patch.set_alpha(0.0)  # a white card with round corners, like the architecture's
    card = bare(fig.add_axes((0, 0, 1, 1)))
    card.patch.set_alpha(0.0)
    _draw_card(card, 2, 2, width - 4, height - 4, "white", "#D0D0D0", round_by=16, zorder=0)
    card.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    top = above
    for group in filter(None, (known, own)):
        if known and group is own:
            _draw_words(
                card, 225, top + 12, "This project's own checkpoint, on a scale of its own:", ha="left", size=9.5
            )
            top += between
        ax = fig.add_axes((0.25, 1 - (top + line * len(group)) / height, 0.47, line * len(group) / height))
        _draw_accuracies(ax, group)
        if top == above:
            _name_marks(ax)
        top += line * len(group) + below
    return fig


def _draw_accuracies(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Lines of ``accuracies`` on one scale."""
    known = [row[key] for row in rows for key in ("official", "measured") if row[key] is not None]
    ax.set_xlim(np.floor(min(known) * 20 - 0.2) / 20, 1.0)
    for y, row in enumerate(rows):
        official, measured = row["official"], row["measured"]
        _draw_words(ax, -0.02, y, row["label"], ha="right", size=10, transform=ax.get_yaxis_transform())
        if official is not None and measured is not None:
            ax.plot([official, measured], [y, y], color="#BBBBBB", linewidth=3, solid_capstyle="round", zorder=1)
        if official is not None:
            ax.plot(official, y, "o", markersize=10, color="white", markeredgecolor=_INK, markeredgewidth=1.5, zorder=2)
        if measured is not None:
            ax.plot(measured, y, "D", markersize=7.5, color=COLORS["blue"], zorder=3)
        said = [] if official is None else [f"published {official:.2%}"]
        said += [f"here {measured:.2%}"] if measured is not None else ["not run here yet"]
        place: dict[str, Any] = {"ha": "left", "transform": ax.get_yaxis_transform()}
        up, down = ((0.0, 0.0), (0.14, 0.24), (0.28, 0.19))[len(row["note"].splitlines())]
        _draw_words(ax, 1.03, y - up, ", ".join(said), **place)
        _draw_words(ax, 1.03, y + down, row["note"], size=8, color=_SOFT, **place)
    ax.set(ylim=(len(rows) - 0.4, -0.6), yticks=[])
    _percent_ticks(ax.xaxis)
    ax.locator_params(axis="x", nbins=6)
    ax.grid(axis="x", color="#E4E4E4")
    ax.set_axisbelow(True)
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0, labelsize=9)


def _name_marks(ax: Axes) -> None:
    """The legend of ``accuracies``, above its first line."""
    marks = (("o", "white", _INK, "published"), ("D", COLORS["blue"], COLORS["blue"], "this project"))
    for marker, face, edge, label in marks:
        ax.plot([], [], marker, color=face, markeredgecolor=edge, markersize=8, label=label)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 0.99), ncols=2, frameon=False, fontsize=9.5)


def _draw_words(ax: Axes, x: float, y: float, text: str, *, size: float = 9, **options: Any) -> None:
    common: dict[str, Any] = {"color": _INK, "ha": "center", "va": "center", "family": "DejaVu Sans", "zorder": 5}
    ax.text(x, y, text, fontsize=size, linespacing=1.15, **(common | options))


def _draw_card(
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


def _draw_box(ax: Axes, x: float, y: float, width: float, text: str, rotation: float = 0) -> None:
    _draw_card(ax, x, y - 46, width, 92, _BOX, _SOFT, round_by=6, zorder=2)
    _draw_words(ax, x + width / 2, y, text, rotation=rotation, size=8.5 if "\n" in text else 9)


def _draw_arrow(ax: Axes, x: float, to_x: float, y: float, above: str = "", below: str = "") -> None:
    style = {"arrowstyle": "-|>,head_width=0.28,head_length=0.5", "color": _INK, "linewidth": 1.3}
    ax.annotate("", (to_x, y), (x, y), arrowprops={**style, "shrinkA": 0, "shrinkB": 0}, zorder=4)
    middle = (x + to_x) / 2 - 2
    _draw_words(ax, middle, y - 13, above, size=8.2)  # clear of the arrow's head
    _draw_words(ax, middle, y + 13, below, size=8.2)


def _draw_skip(ax: Axes, x: float, plus_x: float, y: float, top: float) -> None:
    """A skip connection: leaves the line at ``x``, runs over everything at ``top``, and is added at ``plus_x``."""
    ax.plot([x, x, plus_x, plus_x], [y, top, top, y - 10], color=_INK, linewidth=1.3, solid_joinstyle="round", zorder=1)
    ax.plot(x, y, "o", color=_INK, markersize=4, zorder=5)
    ax.plot(plus_x, y, "o", markersize=15, markerfacecolor="white", markeredgecolor=_INK, markeredgewidth=1.3, zorder=4)
    _draw_words(ax, plus_x, y, "+", size=13, weight="bold")
    label = {"facecolor": "#FFFCF0", "edgecolor": "none", "pad": 2}
    _draw_words(ax, x + 62, top, "skip connection", size=8.5, bbox=label)


def _draw_mlp(ax: Axes, x: float, y: float, letters: tuple[str, str, str], sizes: tuple[int, int], color: str) -> None:
    """Three bars as high as the layers are wide, with the linear maps between them; 124 wide."""
    outer = 92 * sizes[0] / sizes[1] / 2
    places, halves = (x + 6, x + 62, x + 118), (outer, 46.0, outer)
    for (a, b), (p, q) in zip(pairwise(places), pairwise(halves), strict=True):
        ax.fill([a, b, b, a], [y - p, y - q, y + q, y + p], color=color, alpha=0.16, linewidth=0, zorder=1)
        _draw_words(ax, (a + b) / 2, y, "Linear", size=8)
    for place, half, letter, size in zip(places, halves, letters, (*sizes, sizes[0]), strict=True):
        _draw_card(ax, place - 6, y - half, 12, 2 * half, color, color, round_by=3, zorder=2)
        _draw_words(ax, place, y + 58, letter, size=9.5)
        _draw_words(ax, place, y + 73, f"{size:,}", size=8.5)
    _draw_words(ax, places[1], y, "GELU", size=8.5, rotation=90, color="white")


def _draw_table(
    ax: Axes, x: float, y: float, *, column: int | None = None, row: int | None = None, turned: bool = False
) -> None:
    """A token table, its left edge at ``x`` and its middle at ``y``, with a column and a row picked out."""
    shape = (_COLUMNS, _SIDE**2) if turned else (_SIDE**2, _COLUMNS)
    shades = np.random.default_rng(3).uniform(0.0, 1.0, (_SIDE**2, _COLUMNS))
    shades = shades.T if turned else shades
    row_color = _TOKEN if turned else _CHANNEL
    top = y - shape[0] * _CELL / 2
    for i, j in np.ndindex(shape):
        color = row_color if i == row else _TOKEN if j == column else "#9A9A9A"
        strength = (0.55 + 0.45 * shades[i, j]) if row == i or column == j else (0.18 + 0.4 * shades[i, j])
        corner = (x + j * _CELL + 0.75, top + i * _CELL + 0.75)
        ax.add_patch(Rectangle(corner, _CELL - 1.5, _CELL - 1.5, facecolor=color, alpha=strength, zorder=3))
    for index, color, across in ((row, row_color, True), (column, _TOKEN, False)):
        if index is not None:
            corner = (x, top + index * _CELL) if across else (x + index * _CELL, top)
            size = (shape[1] * _CELL, _CELL) if across else (_CELL, shape[0] * _CELL)
            ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=1.8, zorder=4))


def _draw_pieces_beside(ax: Axes, x: float, y: float) -> None:
    """The drawing's patches one below the other, a row of a token table each."""
    for index, piece in enumerate(_landscape()):
        top = y + (index - _SIDE**2 / 2) * _CELL
        ax.imshow(
            piece, extent=(x + 0.5, x + _CELL - 0.5, top + _CELL - 0.5, top + 0.5), interpolation="bilinear", zorder=2
        )


def _draw_pieces_above(ax: Axes, x: float, y: float) -> None:
    """The drawing's patches side by side over a turned table."""
    bottom = y - _COLUMNS * _CELL / 2 - 4
    for index, piece in enumerate(_landscape()):
        left = x + index * _CELL
        extent = (left + 0.5, left + _CELL - 0.5, bottom - 0.5, bottom - _CELL + 0.5)
        ax.imshow(piece, extent=extent, interpolation="bilinear", zorder=2)


def _landscape() -> NDArray[np.uint8]:
    """The patches of a small landscape, drawn with a few formulas: (9, 40, 40, 3)."""
    size = 40 * _SIDE
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
    return _grid_of((sky * 255).round().astype(np.uint8), size // _SIDE)


# ------------------------------------------------------------ notebook 2: tables of tokens and channels


def _value_table(
    ax: Axes,
    values: NDArray[Any],
    limits: tuple[float, float],
    *,
    title: str,
    digits: int = 1,
) -> None:
    """Draw one table: a coloured square with a number for each entry."""
    rows, columns = values.shape
    ax.imshow(values, cmap=DIVERGING, vmin=limits[0], vmax=limits[1], interpolation="nearest", aspect="equal")
    ax.hlines(np.arange(0.5, rows - 1), -0.5, columns - 0.5, color="white", linewidth=1.5)
    ax.vlines(np.arange(0.5, columns - 1), -0.5, rows - 0.5, color="white", linewidth=1.5)
    largest = max(abs(limits[0]), abs(limits[1]))
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:z.{digits}f}".replace("-", "−")  # z: no minus before a zero
        color = "white" if abs(value) > 0.6 * largest else "black"
        ax.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    bare(ax, title)
    ax.set_xticks(range(columns), [str(column) for column in range(columns)])
    ax.set_yticks(range(rows), [str(row) for row in range(rows)])
    ax.tick_params(length=0)
    ax.set_xlabel("channel")
    ax.set_ylabel("token")


def tables(named: Mapping[str, ArrayLike | Tensor], *, digits: int = 1, each: bool = False) -> Figure:
    """Tables of tokens and channels side by side: blue below zero, white at zero, red above.

    Args:
        named: title -> table (S, C).
        digits: behind the decimal point.
        each: give each table a colour scale of its own.

    Raises:
        ValueError: something that is not a table of two axes.
    """
    arrays = {title: to_numpy(values).astype(np.float64) for title, values in named.items()}
    for title, values in arrays.items():
        if values.ndim != 2:
            raise ValueError(f"{title}: expected a table (S, C), found shape {values.shape}")
    common = signed_limits(np.concatenate([values.ravel() for values in arrays.values()]))
    widths = [values.shape[1] for values in arrays.values()]
    tallest = max(values.shape[0] for values in arrays.values())
    unit = min(0.5, (WIDTH - 0.7 * len(widths)) / sum(widths))
    fig = new_figure(unit * sum(widths) + 0.8 * len(widths), unit * tallest + 0.9)
    if len(arrays) > 1:  # room between a table and the next one's label
        fig.get_layout_engine().set(w_pad=0.12)  # type: ignore[union-attr,call-arg]  # new_figure's is the constrained one
    axes = fig.subplots(1, len(arrays), squeeze=False, width_ratios=widths)[0]
    for ax, (title, values) in zip(axes, arrays.items(), strict=True):
        _value_table(ax, values, signed_limits(values) if each else common, title=title, digits=digits)
    return fig


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
    """How large the table and the gradient are in networks of more and more blocks, on logarithmic axes.

    Args:
        sizes: name of a variant -> standard deviation of the table after 1, 2, 3, … blocks.
        gradients: name of a variant -> size of the gradient at the input with 1, 2, 3, … blocks.
    """
    fig = new_figure(WIDTH + 1, 3.4)
    for ax, series, title in zip(
        fig.subplots(1, 2), (sizes, gradients), ("size of the table", "size of the gradient at the input"), strict=True
    ):
        for number, (name, values) in enumerate(series.items()):
            y = to_numpy(values)
            ax.plot(range(1, len(y) + 1), y, linestyle=("-", "--", "-.", ":")[number % 4], label=name)
        ax.set_yscale("log")
        ax.minorticks_off()
        ax.set_xlabel("blocks")
        ax.set_title(title)
        ax.grid(color="#DDDDDD")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


# ------------------------------------------------------------------------------- notebook 3: the Mixer


def part_shares(measures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """What share of a model each part holds: a panel for each measure, a bar for each model.

    Args:
        measures: such as ``"parameters"`` -> name of a model -> part -> number; the same models in each.
    """
    models = list(next(iter(measures.values())))
    fig = new_figure(9.0, 1.0 + 0.42 * len(models))
    axes = fig.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    bars: dict[str, Rectangle] = {}
    for ax, (measure, table) in zip(axes, measures.items(), strict=True):
        for row, model in enumerate(models):
            parts, left = table[model], 0.0
            total = sum(parts.values())
            for part, number in parts.items():
                share = number / total
                color = PART_COLORS.get(part, COLORS["grey"])
                bars[part.replace("_", " ")] = ax.barh(row, share, 0.72, left=left, color=color).patches[0]
                if share >= 0.05:
                    middle = left + share / 2
                    ax.text(middle, row, f"{share:.0%}", color="white", ha="center", va="center", fontsize=9)
                left += share
        ax.set_title(measure)
        ax.set_xlim(0, 1)
        _percent_ticks(ax.xaxis)
    axes[0].set_yticks(range(len(models)), models)
    axes[0].invert_yaxis()
    fig.legend(list(bars.values()), list(bars), loc="outside lower center", ncols=len(bars))
    return fig


def findings(table: Mapping[str, Mapping[str, str]]) -> Figure:
    """Which check finds something in which model: a row for each model, a column for each check.

    Args:
        table: model -> check -> what it found in a few words, or an empty string where it found nothing.
    """
    checks = list(next(iter(table.values())))
    fig = new_figure(9.0, 0.9 + 0.55 * len(table))
    ax = bare(fig.subplots())
    for row, (model, found) in enumerate(table.items()):
        for column, check in enumerate(checks):
            text = found[check]
            face = "#FBE3D0" if text else "#F2F2F2"
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor="white", linewidth=2))
            style: dict[str, Any] = {"weight": "bold", "color": "#8A3C00"} if text else {"color": "#777777"}
            ax.text(column + 0.5, row + 0.5, text or "nothing", ha="center", va="center", fontsize=9, **style)
        ax.text(-0.05, row + 0.5, model, ha="right", va="center", fontsize=10)
    for column, check in enumerate(checks):
        ax.text(
            column + 0.5, -0.12, check.replace("_", "\n", 1).replace("_", " "), ha="center", va="bottom", fontsize=9
        )
    ax.set_xlim(-0.7, len(checks))
    ax.set_ylim(len(table), -0.6)
    return fig


def training(steps: ArrayLike, loss: ArrayLike, eval_steps: ArrayLike, accuracy: ArrayLike, chance: float) -> Figure:
    """The loss of every training step, beside the accuracy on test images with the level of guessing.

    Args:
        steps, loss: of each step; a running mean over some of them is drawn on top.
        eval_steps, accuracy: when the test images were scored, and the shares that were right.
        chance: the share that guessing gets right.
    """
    values = to_numpy(loss)
    fig = new_figure(9.0, 3.2)
    left, right = fig.subplots(1, 2)
    left.plot(to_numpy(steps), values, color=COLORS["sky"], linewidth=1, label="each step")
    window = max(1, len(values) // 12)
    if window > 1:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        left.plot(to_numpy(steps)[window - 1 :], smooth, color=COLORS["blue"], label=f"mean of {window} steps")
        left.legend()
    left.set_xlabel("step")
    left.set_ylabel("training loss")
    left.grid(axis="y")
    curves(eval_steps, {"model": accuracy}, ylabel="test accuracy", percent=True, ax=right)
    right.axhline(chance, color=COLORS["grey"], linestyle="--", linewidth=1.2)
    right.annotate(
        "guessing", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#555555"
    )
    right.set_ylim(bottom=0)
    return fig


def confusion(labels: ArrayLike | Tensor, predictions: ArrayLike | Tensor, classes: Sequence[str]) -> Figure:
    """What was predicted for the images of each class: a row for each true class, shares of the row in percent.

    Args:
        labels: (N,) the true classes.
        predictions: (N,) the predicted ones.
        classes: their names.
    """
    count = len(classes)
    table = np.zeros((count, count))
    np.add.at(table, (to_numpy(labels), to_numpy(predictions)), 1)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    fig = new_figure(7.0, 0.9 + 0.44 * count)
    ax = fig.subplots()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(count, count):
        if shares[row, column] > 0.005:
            color = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, f"{shares[row, column] * 100:.0f}", ha="center", va="center", color=color, fontsize=9)
        if row == column:
            ax.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=COLORS["black"], clip_on=False)
            )
    ax.set_xticks(range(count), classes, rotation=35, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(count), classes)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true class")
    ax.spines[:].set_visible(False)
    return fig


# ---------------------------------------------------------------- notebook 4: official checkpoints


def checkpoint_arrays(shapes: Mapping[str, tuple[int, ...]]) -> Figure:
    """How many numbers each array of a checkpoint holds, coloured by the part of the model that it belongs to.

    Args:
        shapes: official array name -> shape, in the order in which to show them.
    """
    fig = new_figure(WIDTH + 1, 0.26 * len(shapes) + 0.9)
    ax = fig.subplots()
    seen: set[str] = set()
    for row, (name, shape) in enumerate(shapes.items()):
        size, part = int(np.prod(shape)), "norms" if "norm" in name.lower() else "other"
        part = next((known for known in PART_COLORS if known in name), part)
        label = None if part in seen else part.replace("_", " ")
        ax.barh(row, size, color=PART_COLORS.get(part, COLORS["grey"]), label=label)
        ax.annotate(" × ".join(map(str, shape)), (size, row), (5, 0), textcoords="offset points", va="center")
        seen.add(part)
    ax.set_yticks(range(len(shapes)), list(shapes), fontsize=9, family="DejaVu Sans Mono")
    ax.set_ylim(len(shapes) - 0.4, -0.6)
    ax.set_xlim(right=1.22 * max(int(np.prod(shape)) for shape in shapes.values()))
    ax.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    ax.set_xlabel("numbers in the array")
    fig.legend(loc="outside upper center", ncols=len(seen))
    return fig


def parity_ladder(errors: Mapping[str, Sequence[float]], stages: Sequence[str]) -> Figure:
    """Relative error of every stage of the model against a reference, one line for each variant of the model."""
    fig = new_figure(WIDTH, 3.6)
    ax = fig.subplots()
    for number, (name, values) in enumerate(errors.items()):
        shown = [value if value > 0 else np.nan for value in values]  # exact stages have no place on a log scale
        style = ("-", "-.", "-", ":")[number % 4]  # dotted: a line below it is still seen
        ax.plot(range(len(stages)), shown, style, marker="osD^"[number % 4], markersize=5, label=name)
    ax.set_yscale("log")
    ax.set_xticks(range(len(stages)), list(stages), rotation=45, ha="right")
    ax.set_ylabel("relative error")
    ax.grid(axis="y")
    fig.legend(loc="outside upper center", ncols=len(errors))
    return fig


def top_classes(images: Sequence[Any], names: Sequence[Sequence[str]], shares: Sequence[Sequence[float]]) -> Figure:
    """Photographs, and under each the classes that a model finds most likely, with their probabilities.

    Args:
        images: what ``to_rgb`` takes, each.
        names: for each image the names of its classes, most likely first.
        shares: for each image their probabilities, 0 to 1.
    """
    fig = new_figure(WIDTH, 3.9)
    pictures, bars = fig.subplots(2, len(images), height_ratios=[1.3, 1], squeeze=False)
    for ax, below, image, classes, values in zip(pictures, bars, images, names, shares, strict=True):
        bare(ax).imshow(to_rgb(image))
        below.barh(range(len(values)), values, 0.36, color=COLORS["sky"])
        for row, name in enumerate(classes):
            below.text(0, row - 0.22, f"{name}  {values[row]:.0%}", va="bottom", fontsize=9)
        below.set_xlim(0, 1)
        bare(below).set_ylim(len(classes) - 0.7, -0.9)
    return fig


def token_matrices(named: Mapping[str, ArrayLike | Tensor]) -> Figure:
    """Weight matrices side by side, each with its own symmetric colours."""
    fig = new_figure(WIDTH, 3.4)
    axes = fig.subplots(1, len(named), squeeze=False)[0]
    for ax, (name, matrix) in zip(axes, named.items(), strict=True):
        values = to_numpy(matrix)
        low, high = signed_limits(values)
        ax.imshow(values, cmap=DIVERGING, vmin=low / 2, vmax=high / 2, interpolation="nearest")
        ax.set_title(f"{name}\n{values.shape[0]} × {values.shape[1]}", fontsize=9)
        ax.set_xlabel("token")
        ax.set_xticks([])
        ax.set_yticks([])
    axes[0].set_ylabel("hidden unit")
    return fig


# ------------------------------------------------------------------------ notebook 5: fine-tuning


def few_labels(counts: Sequence[int], accuracy: Mapping[str, ArrayLike], chance: float) -> Figure:
    """Accuracy against the number of labelled training images, a line for each start.

    Args:
        counts: numbers of images, on a logarithmic axis.
        accuracy: name of a start -> its accuracy with each number of images, (N,); or of several seeds, (seeds, N),
            drawn as their mean with a band from the lowest to the highest.
        chance: the share that guessing gets right.
    """
    seeds = {name: np.atleast_2d(values) for name, values in accuracy.items()}  # (seeds, N)
    means = {name: values.mean(axis=0) for name, values in seeds.items()}
    fig = curves(counts, means, xlabel="labelled images", ylabel="test accuracy", percent=True)
    ax = fig.axes[0]
    for number, values in enumerate(seeds.values()):
        if len(values) > 1:
            ax.fill_between(counts, values.min(axis=0), values.max(axis=0), color=f"C{number}", alpha=0.25, linewidth=0)
    ax.set_xscale("log")
    ax.set_xticks(list(counts), [f"{count:,}" for count in counts])
    ax.minorticks_off()
    ax.axhline(chance, color=COLORS["grey"], linestyle="--", linewidth=1.2)
    ax.annotate("guessing", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#555555")
    ax.set_ylim(bottom=0.0)
    return fig


# ----------------------------------------------------------------- notebook 6: what token mixing learns


def unit_gallery(
    panels: Mapping[str, ArrayLike | Tensor], *, columns: int = 8, paired: bool = True, width: float = 9.0
) -> Figure:
    """All units of several blocks, as in the paper's Figure 5: blue below zero, white at zero, red above.

    Each unit is scaled by its own largest weight.

    Args:
        panels: title -> weights (N, h, w) in the order in which to show them, row by row.
        columns: units in a row, an even number if they come in pairs.
        paired: units 0 and 1, 2 and 3, … are pairs, and stand closer together.
        width: inches.
    """
    canvases = []
    for grids in panels.values():
        values = _each_to_one(to_numpy(grids))
        if paired:
            if len(values) % 2:
                values = np.concatenate([values, np.full_like(values[:1], np.nan)])
            line = np.full((len(values) // 2, values.shape[1], 1), np.nan)
            values = np.concatenate([values[::2], line, values[1::2]], axis=2)  # (M, h, 2 w + 1)
        canvases.append(tile(values, columns // 2 if paired else columns, gap=3 if paired else 1))
    tallest = max(canvas.shape[0] / canvas.shape[1] for canvas in canvases)
    fig = new_figure(width, width / len(canvases) * tallest + 0.35)
    fig.get_layout_engine().set(w_pad=0.12)  # type: ignore[union-attr,call-arg]  # new_figure's is the constrained one
    for ax, title, canvas in zip(fig.subplots(1, len(canvases), squeeze=False)[0], panels, canvases, strict=True):
        bare(ax, title).imshow(np.ma.masked_invalid(canvas), cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest")
    return fig


def _each_to_one(grids: NDArray[Any]) -> NDArray[np.float64]:
    """Grids (N, …) scaled so that the largest magnitude in each is 1."""
    values = grids.astype(np.float64)
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    return values / np.maximum(largest, 1e-30)


def unit_waves(grids: ArrayLike | Tensor, titles: Sequence[str]) -> Figure:
    """A few units, and below each the strengths of the waves that it is made of, with the strongest marked.

    In the lower pictures the middle is no wave at all (the mean), right is waves that run from left to right, down
    those that run from top to bottom, and further out is finer. A wave shows twice, on both sides of the middle.

    Args:
        grids: (N, h, w).
        titles: one over each unit.
    """
    values = _each_to_one(to_numpy(grids))
    height, width = values.shape[1:]
    fig = new_figure(WIDTH, 2 * WIDTH / len(values) + 0.5)
    axes = fig.subplots(2, len(values), squeeze=False)
    for (top, bottom), grid, title in zip(axes.T, values, titles, strict=True):
        bare(top, title, frame=True).imshow(grid, cmap=DIVERGING, vmin=-1, vmax=1)
        top.title.set_fontsize(9)
        power = np.abs(np.fft.fftshift(np.fft.fft2(grid, s=(4 * height, 4 * width))))
        extent = (-0.5, 0.5, 0.5, -0.5)
        bare(bottom, frame=True).imshow(power, cmap=SEQUENTIAL, extent=extent)
        row, column = np.unravel_index(power.argmax(), power.shape)
        y, x = row / (4 * height) - 0.5, column / (4 * width) - 0.5
        ring = {"markersize": 11, "markeredgewidth": 2, "markerfacecolor": "none", "clip_on": False}
        bottom.plot([x, -x], [y, -y], "o", markeredgecolor="white", **ring)
    axes[0, 0].set_ylabel("weights")
    axes[1, 0].set_ylabel("waves in them")
    return fig


def by_block(
    panels: Mapping[str, Sequence[ArrayLike | Tensor]],
    controls: Mapping[str, Sequence[ArrayLike | Tensor]] | None = None,
    *,
    control_name: str = "shuffled: middle 90 %",
) -> Figure:
    """A number for each unit, block by block: a dot for each unit, a line for the median of each block.

    Args:
        panels: name of the number -> for each block, the units' values.
        controls: name of the number -> for each block, the values in a control; drawn as the grey range from their
            5th to their 95th percentile.
        control_name: for the legend.
    """
    fig = new_figure(WIDTH, 3.0)
    for ax, (name, blocks) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        places = np.arange(1, len(blocks) + 1)
        for place, values in zip(places, map(to_numpy, blocks), strict=True):
            aside = (np.arange(len(values)) * 0.618034 % 1 - 0.5) * 0.6  # evenly spread, and the same each time
            ax.plot(place + aside, values, ".", color=COLORS["blue"], markersize=3, alpha=0.6, zorder=2)
        medians = [np.median(to_numpy(values)) for values in blocks]
        ax.plot(places, medians, "o-", color=COLORS["red"], markersize=5, zorder=3, label="median unit")
        if controls and name in controls:
            low, high = np.array([np.percentile(to_numpy(values), (5, 95)) for values in controls[name]]).T
            ax.fill_between(places, low, high, color=COLORS["grey"], alpha=0.3, linewidth=0, label=control_name)
        ax.set_title(name)
        ax.set_xlabel("block")
        ax.set_xticks(places)
        ax.grid(axis="y")
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def similarity_histogram(series: Mapping[str, ArrayLike | Tensor], limit: float | None = None) -> Figure:
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
        ax.stairs(
            share, bins, color=CYCLE[number], linewidth=2, linestyle=("-", "--", "-.", ":")[number % 4], label=name
        )
    if limit is not None:
        ax.axvline(limit, color="black", linewidth=1, linestyle=":")
        ax.annotate("twins ", (limit, 0.93), xycoords=("data", "axes fraction"), ha="right", fontsize=9)
    ax.set_xlabel("similarity of the two units of a pair (−1: opposite)")
    ax.set_ylabel("share of the pairs")
    _percent_ticks(ax.yaxis)
    ax.legend()
    return fig


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
        mark: row and column of a cell to outline in each; it does not count for the scale, because a token's
            own patch would outshine all others. Cells brighter than the scale are shown in its brightest colour.
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
    fig = new_figure(WIDTH + 0.6, rows * (WIDTH / columns * values.shape[1] / values.shape[2] + 0.35))
    axes = fig.subplots(rows, columns, squeeze=False)
    for index, ax in enumerate(axes.ravel()):
        if index >= len(values):
            ax.set_visible(False)
            continue
        picture = bare(ax, titles[index]).imshow(values[index], cmap=SEQUENTIAL, vmin=0, vmax=largest)
        ax.title.set_fontsize(9)
        if mark is not None:
            outline: dict[str, Any] = {"fill": False, "edgecolor": COLORS["red"], "linewidth": 2}
            ax.add_patch(Rectangle((mark[1] - 0.5, mark[0] - 0.5), 1, 1, **outline))
    fig.colorbar(picture, ax=axes, label=label, shrink=0.9, aspect=12 * rows, pad=0.01)
    return fig


def update_sizes(
    token_mixing: ArrayLike | Tensor,
    channel_mixing: ArrayLike | Tensor,
    stream: ArrayLike | Tensor,
    between: ArrayLike | Tensor,
) -> Figure:
    """How large the updates of each block are: beside the stream that they are added to, and as a share of it.

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
    for ax, tokens_over, channels_over in ((left, 1.0, 1.0), (right, table, middle)):
        ax.plot(places, tokens / tokens_over, "o-", color=COLORS["blue"], markersize=5, label="token mixing adds")
        style = {"color": COLORS["red"], "markersize": 5, "label": "channel mixing adds"}
        ax.plot(places, channels / channels_over, "^--", **style)
        ax.set_xlabel("block")
        ax.set_xticks(places)
        ax.grid(axis="y")
    left.set_ylim(bottom=0)
    left.set_title("size (root mean square)")
    right.set_title("share of what it is added to")
    right.set_yscale("log")
    right.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 3)))
    _percent_ticks(right.yaxis)
    right.minorticks_off()
    left.legend()
    return fig


# An explorer's figure is one axes measured in inches from the upper left corner, on which everything is placed by
# hand: every further axes would cost about 10 ms, and the automatic layout more than everything else together.


def _sheet(width: float, height: float) -> Axes:
    fig = Figure(figsize=(width, height), facecolor="white")
    ax = fig.add_axes((0, 0, 1, 1), frameon=False)
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_autoscale_on(False)
    return ax


def _place(
    ax: Axes, picture: NDArray[Any], left: float, top: float, width: float, title: str = "", **options: Any
) -> float:
    """Put a picture with its upper left corner there, a title over its middle; returns the inches of a cell of it."""
    cell = width / picture.shape[1]
    extent = (left, left + width, top + picture.shape[0] * cell, top)
    if picture.ndim == 2:  # signed weights, -1 to 1, unless said otherwise
        options = {"cmap": DIVERGING, "vmin": -1, "vmax": 1} | options
    ax.imshow(np.ma.masked_invalid(picture), extent=extent, aspect="auto", interpolation="nearest", **options)
    if title:
        ax.text(left + width / 2, top - 0.07, title, ha="center", va="bottom", fontsize=9)
    return cell


def _outline_cell(ax: Axes, left: float, top: float, width: float, height: float, color: str, linewidth: float) -> None:
    ax.add_artist(Rectangle((left, top), width, height, fill=False, edgecolor=color, linewidth=linewidth, zorder=3))


def unit_card(
    overview: ArrayLike | Tensor,
    position: int,
    grids: Mapping[str, ArrayLike | Tensor],
    photo: ArrayLike | Tensor,
    images: Sequence[Any] | Tensor,
    *,
    overview_title: str,
    images_title: str,
) -> Figure:
    """One unit of a block: where it stands among the others, its weights, its weights over a photo, what excites it.

    Args:
        overview: (N, h, w), all units in the order chosen.
        position: the unit's place in that order.
        grids: title -> weights (h, w); the first is the unit's own, others stand beside it (its twin, …); up to 3.
        photo: what ``to_rgb`` takes; the unit's grid is laid over it.
        images: those that excite the unit most.
        overview_title, images_title: texts.
    """
    units = _each_to_one(to_numpy(overview))
    height, width = units.shape[1:]
    columns = _columns_of(len(units))
    canvas = tile(units, columns)
    across = min(4.0, 4.0 * canvas.shape[1] / canvas.shape[0])
    ax = _sheet(9.0, 4.5)
    cell = _place(ax, canvas, 0.1, 0.4, across, overview_title)
    left, top = position % columns * (width + 1) - 0.5, position // columns * (height + 1) - 0.5
    _outline_cell(ax, 0.1 + left * cell, 0.4 + top * cell, (width + 1) * cell, (height + 1) * cell, "black", 2.5)

    side, start = 1.45, 4.3
    own = _each_to_one(np.stack([to_numpy(grid) for grid in grids.values()]))
    for index, (title, grid) in enumerate(zip(grids, own, strict=True)):
        place = start + index * (side + 0.1)
        _place(ax, grid, place, 0.4, side, title)
        _outline_cell(ax, place, 0.4, side, side * height / width, "#999999", 0.8)
    _place(ax, _tinted(to_rgb(photo), own[0]), start, 2.4, side, "over a photo")
    pictures = np.stack([to_rgb(image) for image in images[:6]])
    _place(ax, tile(pictures, 3, gap=max(1, pictures.shape[2] // 12)), start + side + 0.3, 2.4, 2.3, images_title)
    return _figure_of(ax)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    return figure


def _columns_of(count: int) -> int:
    """An even number of columns that makes a block of ``count`` squares about square."""
    return 2 * max(1, round(count**0.5 / 2))


def _tinted(pixels: NDArray[np.uint8], grid: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A grey photo with a grid from -1 to 1 laid over it: blue below zero, red above, stronger colour for larger."""
    grey = pixels.mean(-1, keepdims=True)
    rows = np.arange(pixels.shape[0]) * grid.shape[0] // pixels.shape[0]
    columns = np.arange(pixels.shape[1]) * grid.shape[1] // pixels.shape[1]
    value = grid[rows][:, columns, None]  # (H, W, 1)
    color = np.where(value < 0, np.array([33, 102, 172.0]), np.array([178, 24, 43.0]))
    strength = 0.75 * np.abs(value)
    return ((1 - strength) * (90 + 0.6 * grey) + strength * color).clip(0, 255).astype(np.uint8)


def influence_card(
    photo: ArrayLike | Tensor, maps: ArrayLike | Tensor, patch: int, titles: Sequence[str], *, photo_title: str
) -> Figure:
    """A photo with one patch outlined, and for each depth a map of where that patch's influence is.

    Args:
        photo: what ``to_rgb`` takes.
        maps: (N, h, w), none of them negative; each is scaled by its largest value outside the patch itself.
        patch: the patch outlined, counted row by row.
        titles: one over each map.
        photo_title: over the photo.
    """
    pixels, values = to_rgb(photo), to_numpy(maps).astype(np.float64)
    rows, columns = values.shape[1:]
    row, column = divmod(patch, columns)
    others = np.delete(values.reshape(len(values), -1), patch, axis=1).max(axis=1)  # (N,)
    per_line, gap = -(-len(values) // 2), max(2, columns // 5)
    canvas = tile((values / np.maximum(others, 1e-30)[:, None, None]).clip(0, 1), per_line, gap)

    ax = _sheet(9.0, 3.6)
    size = _place(ax, pixels, 0.1, 0.4, 3.0, photo_title)
    high, wide = pixels.shape[0] / rows * size, pixels.shape[1] / columns * size
    _outline_cell(ax, 0.1 + column * wide, 0.4 + row * high, wide, high, COLORS["red"], 3)
    across = min(5.5, 3.0 * canvas.shape[1] / canvas.shape[0])
    cell = _place(ax, canvas, 3.4, 0.4, across, cmap=SEQUENTIAL, vmin=0)
    for index, title in enumerate(titles):
        left = 3.4 + index % per_line * (columns + gap) * cell
        top = 0.4 + index // per_line * (rows + gap) * cell
        ax.text(left + columns * cell / 2, top - 0.05, title, ha="center", va="bottom", fontsize=9)
        _outline_cell(ax, left + column * cell, top + row * cell, cell, cell, COLORS["red"], 2)
    return _figure_of(ax)


def shuffle_card(
    original: ArrayLike | Tensor,
    shuffled: ArrayLike | Tensor,
    probabilities: Mapping[str, tuple[float, float]],
    accuracy: Mapping[str, float],
    chosen: str,
    *,
    truth: str,
) -> Figure:
    """An image before and after a shuffle, what a model says to both, and its accuracy under every shuffle.

    Args:
        original, shuffled: what ``to_rgb`` takes.
        probabilities: class -> the probability that the model gives it before and after, 0 to 1.
        accuracy: kind of shuffle -> share of test images that the model gets right.
        chosen: the kind that is shown.
        truth: the class of the image.
    """
    ax = _sheet(9.0, 3.9)
    _place(ax, to_rgb(original), 0.1, 0.3, 1.6, f"before: {truth}")
    _place(ax, to_rgb(shuffled), 0.1, 2.2, 1.6, "after")

    def bar(left: float, top: float, height: float, share: float, color: str) -> None:
        ax.add_artist(Rectangle((left, top), 1.6 * share, height, facecolor=color, linewidth=0))
        ax.text(left + 1.6 * share + 0.05, top + height / 2, f"{share:.0%}", va="center", fontsize=8.5)

    ax.text(4.0, 0.23, "what the model says", ha="center", va="bottom", fontsize=9)
    pitch = 3.0 / max(1, len(probabilities))
    for index, (name, (before, after)) in enumerate(probabilities.items()):
        top = 0.4 + index * pitch
        label = f"{name} ✓" if name == truth else name
        ax.text(3.2, top + 0.26, label, ha="right", va="center", fontsize=9)
        bar(3.3, top, 0.24, before, COLORS["grey"])
        bar(3.3, top + 0.27, 0.24, after, COLORS["blue"])
    for left, color, label in ((3.3, COLORS["grey"], "before"), (4.2, COLORS["blue"], "after")):
        ax.add_artist(Rectangle((left, 3.55), 0.22, 0.14, facecolor=color, linewidth=0))
        ax.text(left + 0.3, 3.62, label, va="center", fontsize=9)

    ax.text(7.8, 0.23, "accuracy under each shuffle", ha="center", va="bottom", fontsize=9)
    pitch = 3.0 / max(1, len(accuracy))
    for index, (name, share) in enumerate(accuracy.items()):
        top = 0.4 + index * pitch
        weight = "bold" if name == chosen else "normal"
        ax.text(6.9, top + 0.2, textwrap.fill(name, 16), ha="right", va="center", fontsize=9, fontweight=weight)
        bar(7.0, top, 0.4, share, COLORS["blue"] if name == chosen else "#BBBBBB")
    for left in (3.3, 7.0):
        ax.plot([left, left], [0.35, 3.4], color="black", linewidth=0.8)
    return _figure_of(ax)


# ------------------------------------------------------------------- notebook 7: what mixing is blind to


def shuffled_images(rows: Mapping[str, Sequence[Any] | Tensor]) -> Figure:
    """Images in rows, a label at the left of each row, such as the same images in several orders of their pixels.

    Args:
        rows: label -> images, as ``to_rgb`` takes them; as many in each row.
    """
    count = max(len(images) for images in rows.values())
    fig = new_figure(WIDTH, WIDTH * 0.82 / count * len(rows))
    axes = fig.subplots(len(rows), count, squeeze=False)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            bare(ax).imshow(to_rgb(image), interpolation="nearest")
        line[0].set_ylabel(label.replace(" and ", "\nand "), rotation=0, ha="right", va="center", labelpad=8)
    return fig


def weight_rows(rows: Mapping[str, ArrayLike | Tensor]) -> Figure:
    """Rows of small signed grids (N, h, w), one row for each label; each grid is scaled on its own."""
    fig = new_figure(WIDTH, 0.95 * len(rows))
    axes = fig.subplots(len(rows), 1, squeeze=False).ravel()
    for ax, (label, grids) in zip(axes, rows.items(), strict=True):
        values = to_numpy(grids).astype(np.float64)
        values = values / np.maximum(np.abs(values).max(axis=(1, 2), keepdims=True), 1e-30)
        canvas = np.ma.masked_invalid(tile(values, len(values)))
        bare(ax).imshow(canvas, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest")
        ax.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
    return fig


def shuffle_curves(runs: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Figure:
    """Test accuracy while training, a panel for each network, a line for each order of the pixels.

    Args:
        runs: as in benchmarks/results/permutation.json: each with ``model``, ``shuffle``, ``steps`` and
            ``test_accuracy``. Of several runs of a kind the mean is drawn, and each as a thin line.
        names: ``model`` of a run -> title of its panel.
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
            style, marker = ("-", "--", "-.")[number % 3], "os^"[number % 3]
            mean = np.mean(same, axis=0)
            ax.plot(steps, mean, style, marker=marker, markersize=4, color=CYCLE[number], label=shuffle)
        ax.set_title(title)
        ax.set_xlabel("step")
        ax.grid(axis="y")
    axes[0].set_ylabel("test accuracy")
    _percent_ticks(axes[0].yaxis)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="pixels")
    return fig


def shift_curves(
    shifts: Sequence[int], accuracy: Mapping[str, Sequence[float]], kept: Mapping[str, Sequence[float]], patch_size: int
) -> Figure:
    """What a shift of the test images does: to the accuracy, and to the single answers.

    Args:
        shifts: pixels, from 0 on.
        accuracy: name of a network -> its accuracy at each shift.
        kept: name of a network -> share of the images at each shift whose prediction is still that without a shift.
        patch_size: pixels; half a patch is marked.
    """
    fig = new_figure(WIDTH, 3.6)
    panels = (("accuracy", accuracy), ("predictions that stay the same", kept))
    for ax, (title, series) in zip(fig.subplots(1, 2), panels, strict=True):
        for number, (name, values) in enumerate(series.items()):
            ax.plot(shifts, values, ("-", "--", "-.")[number % 3], marker="os^"[number % 3], markersize=5, label=name)
        ax.axvline(patch_size / 2, color=COLORS["grey"], linewidth=1, linestyle=":")
        ax.text(patch_size / 2, 0.02, " half a patch", transform=ax.get_xaxis_transform(), color="#555555", fontsize=9)
        ax.set_title(title)
        ax.set_xticks(list(shifts))
        ax.set_xlabel("moved right by … pixels")
        _percent_ticks(ax.yaxis)
        ax.set_ylim(bottom=0.0)
        ax.grid(axis="y")
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig
