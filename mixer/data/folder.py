"""A folder of images, in the layout that the official code reads.

``root/{train,test}/<class>/<image>``.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixer.data.dataset import ImageData
from mixer.data.transforms import resize


def load_folder(root: Path, image_size: int, skip_unreadable: bool) -> ImageData:
    """``root/{train,test}/<class>/<image>``: the layout that the official code reads."""
    names: dict[str, list[str]] = {}
    for split in ("train", "test"):
        folder = root / split
        if not folder.is_dir():
            raise ValueError(
                f"{folder}: expected a folder with one folder for each class, found none"
            )
        names[split] = sorted(
            p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")
        )
        if not names[split]:
            raise ValueError(f"{folder}: expected one folder for each class, found an empty folder")
    if differing := sorted(set(names["train"]) ^ set(names["test"])):
        only = f"only one has {', '.join(differing)}"
        raise ValueError(f"{root}: expected the same classes in train and test; {only}")
    splits = [
        _read_split(root / split, names["train"], image_size, skip_unreadable)
        for split in ("train", "test")
    ]
    (x_train, y_train), (x_test, y_test) = splits
    # Shuffled: else it would be sorted by class.
    order = torch.randperm(len(y_train), generator=torch.Generator().manual_seed(0))
    return ImageData(
        root.resolve().name, x_train[order], y_train[order], x_test, y_test, tuple(names["train"])
    )


def _read_split(
    folder: Path, classes: list[str], image_size: int, skip_unreadable: bool
) -> tuple[Tensor, Tensor]:
    images: list[Tensor] = []
    labels: list[int] = []
    unreadable: list[Path] = []
    for label, name in enumerate(classes):
        before = len(images)
        for path in sorted(
            p for p in (folder / name).iterdir() if p.is_file() and not p.name.startswith(".")
        ):
            try:
                image = _read_image(path)
            except ValueError:
                if not skip_unreadable:
                    raise
                unreadable.append(path)
                continue
            images.append(resize(image[None], image_size).round().to(torch.uint8))
            labels.append(label)
        if len(images) == before:
            raise ValueError(
                f"{folder / name}: expected at least one image of this class, found none"
            )
    if unreadable:
        warnings.warn(
            f"{folder}: left out {len(unreadable)} unreadable images, first {unreadable[0]}",
            stacklevel=4,
        )
    return torch.cat(images), torch.tensor(labels)


def _read_image(path: Path) -> Tensor:
    """(3, H, W), 0..255."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            # A grey image of 16 bits, which convert() would cut off at 255.
            deep = image.mode.startswith("I;16")
            pixels = (
                np.asarray(image)[..., None].repeat(3, 2) / 257
                if deep
                else np.array(image.convert("RGB"))
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: expected an image, found what cannot be read as one ({error})"
        ) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
