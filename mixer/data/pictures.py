"""One image file as RGB pixels, as a viewer shows it; docs/files.md lists what is read and how."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

# What shows through where an image is transparent: white, as on a page.
BACKGROUND = 255

# Pillow knows their endings, but reads no pixels from them by itself: films, tables of numbers,
# and drawings that need another program.
_NO_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

_WAY_OUT = "convert it to 8 or 16 bits"


def is_image_name(name: str) -> bool:
    """Whether the file's ending is one that Pillow reads pixels from; nothing is opened."""
    ending = os.path.splitext(name)[1].lower()
    kind = Image.registered_extensions().get(ending)
    return kind in Image.OPEN and kind not in _NO_PIXELS


def read_picture(path: Path) -> Tensor:
    """The file's first image: uint8 (3, H, W), upright, RGB, without transparency.

    Raises:
        ValueError: it cannot be read, or what its numbers mean is not known; names the file, says
            why and what to do.
    """
    try:
        with Image.open(path) as image:
            image.load()
            pixels = _rgb(_upright(image), image.format)
    # A decoder may raise anything: AVIF's raises RuntimeError, others struct.error or IndexError.
    except Exception as error:
        reason = str(error) or type(error).__name__
        found = f"expected an image, found what cannot be read as one ({reason})"
        way_out = "mend or delete it, or leave such files out with --skip_unreadable"
        raise ValueError(f"{path}: {found}; {way_out}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the camera noted it in EXIF."""
    try:
        return ImageOps.exif_transpose(image)
    # The pixels are read by now, so it is the note that is damaged: viewers then pass it over.
    except Exception:
        return image


def _rgb(image: Image.Image, file_format: str | None) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if image.mode.startswith("I;16"):
        return _grey(_sixteen_bits(image))
    if image.mode == "I":
        # Of these formats Pillow itself brings the values to 16 bits.
        return _grey(_integers(image, certain=file_format in ("PPM", "PNG")))
    if image.mode == "F":
        return _grey(_floats(image))
    if image.has_transparency_data:
        image = _on_background(image)
    return np.array(image.convert("RGB"))


def _grey(shades: np.ndarray) -> np.ndarray:
    """(H, W), 0 to 255 -> uint8 (H, W, 3)."""
    return np.rint(shades).astype(np.uint8)[..., None].repeat(3, axis=2)


def _sixteen_bits(image: Image.Image) -> np.ndarray:
    """White is 65,535; what PNG says is transparent shows the background."""
    values = np.asarray(image)
    shades = values / 257
    clear: Any = image.info.get("transparency")
    if isinstance(clear, int):
        shades[values == clear] = BACKGROUND
    return shades


def _integers(image: Image.Image, certain: bool) -> np.ndarray:
    """32-bit integers that hold 16 bits; what else is white, no file says."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535 or (high < 256 and not certain):
        expected = "values up to 65,535, some of them above 255"
        raise ValueError(f"mode I: expected {expected}, found {low} to {high}; {_WAY_OUT}")
    return values / 257


def _floats(image: Image.Image) -> np.ndarray:
    """White is 1.0."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:
        found = f"expected values 0 to 1, found {low:.4g} to {high:.4g}"
        raise ValueError(f"mode F: {found}; {_WAY_OUT}")
    return values * 255.0


def _on_background(image: Image.Image) -> Image.Image:
    clear = image.info.get("transparency")
    # Of a PNG with 16 bits a colour Pillow keeps the upper 8, but not of the transparent colour.
    if isinstance(clear, tuple) and max(clear) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    # Pillow has no direct way from La, grey that is multiplied by its opacity.
    picture = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    page = Image.new("RGBA", picture.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
    return Image.alpha_composite(page, picture)
