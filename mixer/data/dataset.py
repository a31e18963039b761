"""A data set in memory, which checks itself."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mixer.memory import free_memory


@runtime_checkable
class StoredImages(Protocol):
    """Images that need not lie in memory, such as ``mixer.data.ImageStore``."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of what indexing gives: (N, 3, H, W)."""

    @property
    def device(self) -> torch.device:
        """Where batches come out."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Tensor: ...

    def take(self, rows: Tensor) -> "StoredImages":
        """These images in this order."""

    def to(self, device: str | torch.device) -> "StoredImages":
        """The same images for batches on ``device``."""

    def batch(self, rows: Tensor, all_rows: Tensor | None = None) -> Any:
        """The images ``rows``, with all their detail, on the device."""


@dataclass(frozen=True)
class ImageData:
    """A data set: images uint8 (N, 3, H, W), RGB, labels int64 (N,), and the name of each class.

    Label ``k`` is class ``classes[k]``, from 0. Nothing is copied. Training images may be
    ``StoredImages``, more of them than memory holds.

    Raises:
        ValueError: the parts are not that or do not fit together; says which, what was found, what
            was expected and, where it is a line, how to get there.
    """

    name: str
    x_train: Tensor | StoredImages
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _checked_classes(self.classes))
        for split in ("train", "test"):
            images, labels = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            _check_images(f"x_{split}", images)
            _check_labels(f"y_{split}", labels, len(images), len(self.classes))
        sizes = tuple(self.x_train.shape[2:]), tuple(self.x_test.shape[2:])
        if sizes[0] != sizes[1]:
            found = f"{_by(sizes[0])} and {_by(sizes[1])} pixels"
            raise ValueError(f"expected images of one size in x_train and x_test, found {found}")

    def to(self, device: str | torch.device) -> "ImageData":
        """The same data with all tensors on ``device``.

        Test images that would take more than a third of its free memory stay where they are.
        """
        names = ["x_train", "y_train", "y_test"]
        moved = {name: getattr(self, name).to(device) for name in names}
        test = self.x_test
        if torch.device(device).type == "meta" or test.nbytes <= free_memory(device) / 3:
            test = test.to(device)
        return replace(self, **moved, x_test=test)

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
        return replace(self, x_train=_rows_of(self.x_train, rows), y_train=self.y_train[rows])


def _rows_of(images: Tensor | StoredImages, rows: Tensor) -> Tensor | StoredImages:
    return images.take(rows) if isinstance(images, StoredImages) else images[rows]


def _checked_classes(classes: object) -> tuple[str, ...]:
    expected = "classes: expected names, one for each class"
    if not isinstance(classes, tuple | list) or not classes:
        raise ValueError(f"{expected}, found {classes!r}")
    if wrong := [name for name in classes if not isinstance(name, str)]:
        raise ValueError(f"{expected}, found {wrong[0]!r} among them")
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        raise ValueError(f"{expected}, found {twice[0]!r} more than once")
    return tuple(classes)


def _check_images(name: str, images: object) -> None:
    expected = f"{name}: expected images as a uint8 tensor (N, 3, H, W)"
    if isinstance(images, StoredImages) and len(images) and name == "x_train":
        return
    if not isinstance(images, Tensor):
        raise ValueError(f"{expected}, found {_kind(images)}{_from_numpy(images)}")
    shape = tuple(images.shape)
    found = f"{expected}, found {_dtype(images)} {shape}"
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[3] == 3:
        raise ValueError(f"{found}; {name}.permute(0, 3, 1, 2) brings the channels to the front")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in shape:
        raise ValueError(found)
    if images.dtype != torch.uint8:
        raise ValueError(f"{found}{_to_bytes(name, images)}")


def _to_bytes(name: str, images: Tensor) -> str:
    """How images of another type become bytes, as far as their range says it."""
    if images.is_meta:
        return ""
    low, high = (float(value) for value in torch.aminmax(images.float()))
    there = f" with values {low:.4g} to {high:.4g}"
    if 0 <= low <= high <= 1:
        return f"{there}; ({name} * 255).round().to(torch.uint8) makes them such"
    if 0 <= low <= high <= 255:
        return f"{there}; {name}.round().to(torch.uint8) makes them such"
    return there


def _check_labels(name: str, labels: object, count: int, num_classes: int) -> None:
    expected = f"{name}: expected {count} integer labels"
    if not isinstance(labels, Tensor):
        raise ValueError(f"{expected}, found {_kind(labels)}{_from_numpy(labels)}")
    found = f"{expected}, found {_dtype(labels)} {tuple(labels.shape)}"
    if tuple(labels.shape) == (count, num_classes) and num_classes > 1:
        raise ValueError(f"{found}: one-hot; {name}.argmax(1) makes them such")
    if tuple(labels.shape) != (count,):
        raise ValueError(found)
    if labels.dtype != torch.int64:
        raise ValueError(f"{found}; they have to be int64, {name}.long() makes them such")
    if labels.is_meta:
        return
    low, high = (int(value) for value in torch.aminmax(labels))
    if low < 0 or high >= num_classes:
        wanted = f"labels 0 to {num_classes - 1} for {num_classes} classes"
        raise ValueError(f"{name}: expected {wanted}, found {low} to {high}")


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _from_numpy(value: object) -> str:
    is_array = _kind(value) == "numpy.ndarray"
    return "; torch.from_numpy makes a tensor of it" if is_array else ""


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
