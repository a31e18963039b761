"""A data set, which checks itself."""

import hashlib
from collections import Counter
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
        sizes = [tuple(images.shape[2:]) for images in (self.x_train, self.x_test)]
        if sizes[0] != sizes[1]:
            found = f"{sizes[0]} and {sizes[1]}"
            raise ValueError(
                f"x_train, x_test: expected images of one (height, width), found {found}"
            )

    def to(self, device: str | torch.device) -> "ImageData":
        """The same data with all tensors on ``device``; photos stay in their files."""
        names = ("x_train", "y_train", "x_test", "y_test")
        parts = {name: getattr(self, name) for name in names}
        tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})

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

    def subset(self, fraction: float, seed: int = 0) -> "ImageData":
        """The same data with a random part of the training set: ``fraction`` of each class.

        Of each class that is there, at least one image is kept.

        Raises:
            ValueError: ``fraction`` is outside (0, 1].
        """
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction: expected a number in (0, 1], found {fraction!r}")
        generator = torch.Generator().manual_seed(seed)
        labels = self.y_train.cpu()
        kept = []
        for label in range(len(self.classes)):
            members = (labels == label).nonzero().squeeze(1)
            count = max(1, round(len(members) * fraction)) if len(members) else 0
            kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
        rows = torch.cat(kept)
        rows = rows[torch.randperm(len(rows), generator=generator)].to(self.y_train.device)
        return replace(self, x_train=self.x_train[rows], y_train=self.y_train[rows])


def _sha256(images: Tensor | Photos, labels: Tensor) -> str:
    if isinstance(images, Photos):
        return images.sha256()
    found = hashlib.sha256(str(tuple(images.shape)).encode())
    for tensor in (images, labels):
        found.update(tensor.numpy(force=True).tobytes())
    return found.hexdigest()


def _check_classes(classes: object) -> None:
    expected, found = "classes: expected at least two different names", repr(classes)
    if isinstance(classes, tuple | list) and all(isinstance(name, str) for name in classes):
        twice = [name for name, count in Counter(classes).items() if count > 1]
        if len(classes) > 1 and not twice:
            return
        found = f"{twice[0]!r} more than once" if twice else found
    raise ValueError(f"{expected}, found {found}")


def _check_images(name: str, images: object) -> None:
    found = _described(images)
    fits = isinstance(images, Tensor) and images.ndim == 4 and images.dtype == torch.uint8
    if not (isinstance(images, Photos) or (fits and images.shape[1] == 3)) or 0 in images.shape:
        raise ValueError(f"{name}: expected a uint8 tensor (N, 3, H, W), found {found}")


def _check_labels(name: str, labels: object, count: int, num_classes: int) -> None:
    found = _described(labels)
    if not isinstance(labels, Tensor) or labels.shape != (count,) or labels.dtype != torch.int64:
        raise ValueError(f"{name}: expected an int64 tensor ({count},), found {found}")
    if not labels.is_meta and not 0 <= labels.min() <= labels.max() < num_classes:
        found = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"{name}: expected labels 0 to {num_classes - 1}, found {found}")


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
