"""Pictures and grids to draw with, and how far a figure differs from its stored picture."""

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from mixer.lessons import plots

BASELINE = Path(__file__).resolve().parent / "baseline"


def photo(size: int = 48) -> NDArray[np.uint8]:
    """A colourful picture that needs no file."""
    y, x = np.mgrid[:size, :size] / (size - 1)
    image = np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x * y)], axis=-1)
    return (image * 255).round().astype(np.uint8)


def grating(
    fy: float, fx: float, phase: float = 0.0, hw: tuple[int, int] = (8, 12)
) -> torch.Tensor:
    """A wave of fy cycles down and fx cycles across, per step."""
    y, x = torch.meshgrid(*(torch.arange(side).double() for side in hw), indexing="ij")
    return torch.cos(2 * torch.pi * (fy * y + fx * x) + phase)


def pixels(fig: Figure) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(plots.to_png(fig))).convert("RGB"))


def shrunk(fig: Figure, width: int = 200) -> NDArray[np.float64]:
    """So small that the details of a font no longer count, but what is drawn where still does."""
    return _to_width(Image.fromarray(pixels(fig)), width)


def stored(name: str) -> NDArray[np.float64]:
    return _to_width(Image.open(BASELINE / f"{name}.png").convert("RGB"), 200)


def _to_width(image: Image.Image, width: int) -> NDArray[np.float64]:
    height = round(width * image.height / image.width)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=np.float64)


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How far two small pictures differ, 0 to 255 (root mean square); infinite for another shape.

    FreeType sets text a little wider in one version of matplotlib than in another (seen: 3.10
    against 3.11), which moves what is laid out around it by a few pixels. So a pixel counts as the
    same if its value lies between those that the other picture has within two pixels of it.
    """
    if one.shape != other.shape:
        return float("inf")
    return max(_outside(one, other), _outside(other, one))


def _outside(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    window = (5, 5, 1)
    low, high = minimum_filter(other, window), maximum_filter(other, window)
    return float(np.sqrt(np.mean(np.clip(np.maximum(low - one, one - high), 0, None) ** 2)))
