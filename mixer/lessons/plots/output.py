"""What every figure is made of: images and grids as arrays, and PNGs with alternative texts."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from mixer.drawing import COLORS, WIDTH, Style, new_figure, to_numpy

# For lines that share an axes: never told apart by colour alone.
LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v")
# The parts of a Mixer, the same in every figure. Notebook 1 calls the stem "embedding".
PART_COLORS = {
    "stem": COLORS["green"],
    "embedding": COLORS["green"],
    "token_mixing": COLORS["blue"],
    "channel_mixing": COLORS["red"],
    "norms": COLORS["black"],
    "head": COLORS["purple"],
}
# ColorBrewer's red-blue, safe for colour-blind readers: blue < 0, white = 0, red > 0.
DIVERGING = "RdBu_r"
SEQUENTIAL = "viridis"


def bare(ax: Axes, title: str | None = None, frame: bool = False) -> Axes:
    """Take ticks (and frame) off an axes that holds a picture."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(frame)
    if title is not None:
        ax.set_title(title)
    return ax


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
        # The version of matplotlib has no place in a notebook's diff
        metadata={"Software": None},
        pil_kwargs={"compress_level": 1} if quick else {"optimize": True},
        **options,
    )
    return buffer.getvalue() if quick else _with_palette(buffer.getvalue())


def _with_palette(png: bytes) -> bytes:
    """The picture with 256 colours, about half the bytes, if the eye cannot tell (photos stay)."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    reduced = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    values, fewer = (np.asarray(image.convert("RGB"), np.float32) for image in (picture, reduced))
    # Root mean square, of 255.
    if np.sqrt(np.mean((values - fewer) ** 2)) > 1.0:
        return png
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def show(fig: Figure, alt: str) -> None:
    """Display a figure in a notebook, once, with a text for those who cannot see it.

    The text goes where ``nbconvert`` looks for it (the output's metadata, as the ``alt`` of the
    image) and where everything else does (the output's plain text).

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
    if not alt.strip():
        raise ValueError(
            f"alt: expected a sentence that says what the picture shows, found {alt!r}"
        )
    data = {"image/png": base64.b64encode(png).decode("ascii"), "text/plain": f"<Figure: {alt}>"}
    return data, {"image/png": {"alt": alt}}


def to_rgb(image: ArrayLike | Tensor) -> NDArray[np.uint8]:
    """One image as uint8 (H, W, 3), as matplotlib likes it.

    Args:
        image: (3, H, W), (H, W, 3) or (H, W); uint8, or floating point with 0..255 if any value is
            above 2, in [-1, 1] if any is below 0 (the model's scale), else in [0, 1].

    Raises:
        ValueError: another shape.
    """
    values = to_numpy(image)
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[-1] != 3:
        values = values.transpose(1, 2, 0)  # (H, W, 3)
    if values.ndim == 2:
        values = np.stack([values] * 3, axis=-1)  # (H, W, 3)
    if values.ndim != 3 or values.shape[-1] != 3:
        raise ValueError(
            f"image: expected shape (3, H, W), (H, W, 3) or (H, W), found {values.shape}"
        )
    if values.dtype != np.uint8:
        values = values.astype(np.float64)
        # Interpolation overshoots a little at either end of a scale.
        if values.max() <= 2:
            values = (values + 1) * 127.5 if values.min() < 0 else values * 255
        values = values.round().clip(0, 255).astype(np.uint8)
    return values


def signed_limits(values: ArrayLike | Tensor) -> tuple[float, float]:
    """Limits of a colour map around zero: (-m, m), m the largest magnitude (1 if all are zero)."""
    array = to_numpy(values)
    largest = float(np.abs(array).max()) if array.size else 0.0
    return -(largest or 1.0), largest or 1.0


def tile(grids: ArrayLike | Tensor, columns: int, gap: int = 1) -> NDArray[Any]:
    """Many small grids (N, h, w) or (N, h, w, 3) as one large one, row by row.

    One ``imshow`` of the result draws far quicker than N axes.
    """
    values = to_numpy(grids)
    count, height, width = values.shape[:3]
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *values.shape[3:])
    dtype = values.dtype if values.dtype == np.uint8 else np.float64
    canvas = np.full(shape, 255 if dtype == np.uint8 else np.nan, dtype=dtype)
    for index, grid in enumerate(values):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = grid
    return canvas


def each_to_one(grids: NDArray[Any]) -> NDArray[np.float64]:
    """Grids (N, …) scaled so that the largest magnitude in each is 1."""
    values = grids.astype(np.float64)
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    return values / np.maximum(largest, 1e-30)


def show_signed(ax: Axes, canvas: NDArray[Any], **options: Any) -> None:
    """Weights from -1 to 1 (h, w) in colours with white at zero; what is no number stays empty."""
    common: Style = {"cmap": DIVERGING, "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    ax.imshow(np.ma.masked_invalid(canvas), **(common | options))


def image_grid(
    images: Sequence[Any] | Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    size: float = 1.5,
) -> Figure:
    """Images side by side, with a title over each.

    Args:
        images: what ``to_rgb`` takes, each.
        titles: one for each image.
        columns: images in a row; as many as fit the width of a notebook if not given.
        size: inches of one image.

    Raises:
        ValueError: no images, or not one title for each.
    """
    count = len(images)
    if not count:
        raise ValueError("images: expected at least one, found none")
    if titles is not None and len(titles) != count:
        raise ValueError(f"titles: expected {count}, one for each image, found {len(titles)}")
    columns = min(count, columns or max(1, int(WIDTH / size)))
    rows = -(-count // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0) if titles else 0
    fig = new_figure(columns * size, rows * (size + 0.15 * lines + 0.1))
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for index, ax in enumerate(axes):
        bare(ax)
        if index < count:
            ax.imshow(to_rgb(images[index]), interpolation="nearest")
            if titles:
                ax.set_title(titles[index], fontsize=9)
    return fig


def weight_grid(weights: ArrayLike | Tensor, *, columns: int = 16) -> Figure:
    """Small grids of signed weights, tiled, each on its own scale, with a bar that explains it.

    Args:
        weights: (N, h, w).
        columns: grids in a row.
    """
    canvas = tile(each_to_one(to_numpy(weights)), columns)
    fig = new_figure(WIDTH + 1, WIDTH * canvas.shape[0] / canvas.shape[1] + 0.1)
    ax = bare(fig.subplots())
    show_signed(ax, canvas)
    bar = fig.colorbar(ax.images[0], ax=ax, ticks=[-1, 0, 1])
    bar.ax.set_yticklabels(["−largest", "0", "+largest"])
    return fig
