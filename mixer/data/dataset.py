"""A data set, which checks itself."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixer.data.folder import Photos


@dataclass(frozen=True)
class ImageData:
    """A data set: images uint8 (N, 3, H, W), RGB, labels int64 (N,), and the name of each class.

    Label ``k`` is class ``classes[k]``, from 0. Nothing is copied. Images may be ``Photos``, which
    stay in their files.

    Raises:
        ValueError: the parts are not that or do not fit together; says which, what was found and
            what was expected.
    """

    name: str
    x_train: Tensor | Photos
    y_train: Tensor
    x_test: Tensor | Photos
    y_test: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_classes(self.classes)
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        for split in ("train", "test"):
            images, labels = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            _check_images(f"x_{split}", images)
            _check_labels(f"y_{split}", labels, len(images), len(self.classes))
        train, test = (tuple(images.shape[2:]) for images in (self.x_train, self.x_test))
        if train != test:
            raise ValueError(f"x_test: expected {train} pixels, as x_train has, found {test}")

    def to(self, device: str | torch.device) -> "ImageData":
        """The same data with all tensors on ``device``; photos stay in their files."""
        tensors = {name: part for name, part in vars(self).items() if isinstance(part, Tensor)}
        moved: Any = {name: part.to(device) for name, part in tensors.items()}
        return replace(self, **moved)

    def identity(self) -> dict[str, Any]:
        """What tells it from other data, as plain values: classes, numbers of images, and hashes.

        A hash is of the bytes, of photos of the files' names and sizes; where they lie does not
        matter.
        """
        return {
            "classes": list(self.classes),
            "train_images": len(self.x_train),
            "test_images": len(self.x_test),
            "train_sha256": _sha256(self.x_train, self.y_train),
            "test_sha256": _sha256(self.x_test, self.y_test),
        }


def _sha256(images: Tensor | Photos, labels: Tensor) -> str:
    if isinstance(images, Photos):
        return images.sha256()
    found = hashlib.sha256(str(tuple(images.shape)).encode())
    for tensor in (images, labels):
        found.update(tensor.numpy(force=True).tobytes())
    return found.hexdigest()


def _check_classes(classes: Any) -> None:
    names = isinstance(classes, tuple | list) and all(isinstance(name, str) for name in classes)
    if not names or len(set(classes)) < max(2, len(classes)):
        raise ValueError(f"classes: expected two or more different names, found {classes!r}")


def _check_images(name: str, images: object) -> None:
    found = _described(images)
    shape = tuple(images.shape) if isinstance(images, Tensor | Photos) else ()
    fits = len(shape) == 4 and shape[1] == 3 and 0 not in shape
    if not fits or (isinstance(images, Tensor) and images.dtype != torch.uint8):
        raise ValueError(f"{name}: expected a uint8 tensor (N, 3, H, W), found {found}")


def _check_labels(name: str, labels: object, count: int, num_classes: int) -> None:
    found = _described(labels)
    if not isinstance(labels, Tensor) or labels.shape != (count,) or labels.dtype != torch.int64:
        raise ValueError(f"{name}: expected an int64 tensor ({count},), found {found}")
    if not labels.is_meta and not 0 <= labels.min() <= labels.max() < num_classes:
        found = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"{name}: expected labels 0 to {num_classes - 1}, found {found}")


def _described(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else str(type(value))
