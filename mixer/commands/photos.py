"""Photos as a model takes them."""

import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# The share of each side that a central crop keeps: 224 of 256 pixels.
CROP = 0.875


def check_photos(texts: list[str]) -> list[Path]:
    """The files, none of which is opened; of a pattern such as ``*.jpg`` all that match.

    Raises:
        ValueError: a folder, an address, or nothing at all.
    """
    photos: list[Path] = []
    for text in texts:
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text):
            raise ValueError(f"{text}: expected the file of a photo, found an address; fetch it")
        if Path(text).is_dir():
            hint = f"name its files, such as {text.rstrip('/')}/*.jpg"
            raise ValueError(f"{text}: expected the file of a photo, found a folder; {hint}")
        if not Path(text).exists():
            # Windows hands patterns on as they were typed.
            matching = sorted(path for path in map(Path, glob.glob(text)) if path.is_file())
            if not matching:
                raise ValueError(f"{text}: expected the file of a photo, found no such file")
            photos += matching
        else:
            photos.append(Path(text))
    return photos


def read_photo(path: Path) -> "Tensor":
    """(3, H, W), 0 to 255, RGB.

    Raises:
        ValueError: it cannot be read; names the file and says why.
    """
    from mixer.data import read_photo as read

    try:
        return read(path)
    except ValueError as error:
        reason = str(error.__cause__ or error)
        raise ValueError(f"{path}: cannot be read as a photo ({reason})") from error


def prepare(photo: "Tensor", size: tuple[int, int], crop: bool) -> "Tensor":
    """(3, H, W), 0 to 255 -> (1, 3, h, w) in [-1, 1], as the official evaluation.

    The whole photo is resized to the model's size, whatever its sides; with ``crop`` only the
    middle of it, the largest box of the model's own proportions, less an eighth.
    """
    from mixer.data import normalize, resize

    if crop:
        photo = central(photo, size)
    return normalize(resize(photo[None], size))


def central(photo: "Tensor", size: tuple[int, int]) -> "Tensor":
    """The central box of a photo (3, H, W): ``CROP`` of the largest with the sides of ``size``."""
    height, width = photo.shape[1:]
    scale = CROP * min(height / size[0], width / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    return photo[:, top : top + rows, left : left + columns]
