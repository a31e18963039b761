"""A folder of images, ``root/{train,test}/<class>/**/<image>``: what the official code reads."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from mixer.data.dataset import ImageData
from mixer.data.layout import Split, read_layout
from mixer.data.pictures import read_picture
from mixer.data.transforms import Size, resize


def load_folder(root: Path, image_size: Size, skip_unreadable: bool) -> ImageData:
    """Read a folder; its images are resized to ``image_size`` without cropping.

    Warns (``UserWarning``) of what was left out or taken instead.

    Raises:
        ValueError: it is no data set, or holds what cannot be read; says which and why.
    """
    layout = read_layout(root, skip_unreadable)
    for note in layout.notes:
        warnings.warn(f"{root}: {note}", stacklevel=3)
    train = _read_split(layout.train, image_size, skip_unreadable)
    test = _read_split(layout.test, image_size, skip_unreadable)
    layout.check(train[1], test[1])
    (x_train, y_train), (x_test, y_test) = (
        (torch.cat(images), torch.tensor(labels)) for images, labels in (train, test)
    )
    # Else sorted by class.
    order = torch.randperm(len(y_train), generator=torch.Generator().manual_seed(0))
    name, classes = root.resolve().name, tuple(layout.classes)
    return ImageData(name, x_train[order], y_train[order], x_test, y_test, classes)


def _read_split(
    split: Split, image_size: Size, skip_unreadable: bool
) -> tuple[list[Tensor], list[int]]:
    images: list[Tensor] = []
    labels: list[int] = []
    unreadable = list(split.unreadable)
    for path, label in zip(split.paths, split.labels, strict=True):
        try:
            image = read_picture(path)
        except ValueError as error:
            if not skip_unreadable:
                raise
            unreadable.append(str(error))
            continue
        images.append(resize(image[None], image_size).round().to(torch.uint8))
        labels.append(label)
    if unreadable:
        found = f"left out {len(unreadable)} unreadable images, first {unreadable[0]}"
        warnings.warn(f"{split.folder}: {found}", stacklevel=4)
    return images, labels
