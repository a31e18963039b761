"""Images, colour filters and grids of weights, many of them in one picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer.drawing import DIVERGING, WIDTH, bare, new_figure, to_numpy


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


def each_to_one(grids: NDArray[Any]) -> NDArray[np.float64]:
    """Grids (N, …) scaled so that the largest magnitude in each is 1."""
    values = grids.astype(np.float64)
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    return values / np.maximum(largest, 1e-30)


def cut_into_patches(image: NDArray[Any], patch_size: int) -> NDArray[Any]:
    """Patches of an (H, W, 3) image, row by row: (S, P, P, 3)."""
    height, width = image.shape[:2]
    if height % patch_size or width % patch_size:
        raise ValueError(f"patch_size: expected a divisor of both sides of {height} × {width}, found {patch_size}")
    rows, columns = height // patch_size, width // patch_size
    split = image.reshape(rows, patch_size, columns, patch_size, 3).swapaxes(1, 2)  # (rows, columns, P, P, 3)
    return split.reshape(rows * columns, patch_size, patch_size, 3)


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
