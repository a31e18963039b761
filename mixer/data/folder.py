"""A folder of images, ``root/{train,test}/<class>/**/<image>``: what the official code reads."""

import hashlib
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixer.data.cache import Cache, Index, key_of
from mixer.data.dataset import ImageData
from mixer.data.pictures import read_picture
from mixer.data.store import ImageStore, map_file
from mixer.data.transforms import Size, resize
from mixer.data.tree import Layout, Split, read_layout
from mixer.files import check_writable, data_dir

REMEDY = "let the variable MIXER_DATA name another folder"

# Training images are stored at up to so many times the model's size, so that a crop of a quarter of
# the area still has a pixel for each of the model's.
DETAIL = 2


def load_folder(
    root: Path, image_size: Size, skip_unreadable: bool, keep_in: Path | None = None
) -> ImageData:
    """Read a folder: decoded once, into ``folders`` of the data folder, and mapped from there.

    Training images keep their shape and up to twice the size, test images are resized to
    ``image_size`` without cropping. Warns (``UserWarning``) of what was left out or taken instead.

    Args:
        root: the folder.
        image_size: of the model, pixels or (height, width).
        skip_unreadable: leave out what cannot be read.
        keep_in: the data folder; ``data_dir()`` if not given.

    Raises:
        ValueError: it is no data set, or holds what cannot be read; says which and why.
        OSError: the data folder cannot be written.
    """
    image_hw = (image_size, image_size) if isinstance(image_size, int) else image_size
    layout = read_layout(root, skip_unreadable)
    for note in layout.notes:
        warnings.warn(f"{root}: {note}", stacklevel=3)
    place = _place(keep_in or data_dir(), root, image_hw)
    # Each is mapped at once: another process may put a changed folder's in their place.
    cache, train, y_train = _decoded(layout, "train", place, image_hw, skip_unreadable)
    layout.check_train(y_train.tolist())
    stored = _store(cache.bytes_path, train, image_hw)
    cache, _, y_test = _decoded(layout, "test", place, image_hw, skip_unreadable)
    layout.check_test(y_test.tolist())
    x_test = map_file(cache.bytes_path)[0].view(len(y_test), 3, *image_hw)
    # Else sorted by class.
    order = torch.randperm(len(y_train), generator=torch.Generator().manual_seed(0))
    x_train = stored.take(order)
    name, classes = root.resolve().name, tuple(layout.classes)
    return ImageData(name, x_train, y_train[order], x_test, y_test, classes)


def _place(keep_in: Path, root: Path, image_hw: tuple[int, int]) -> Path:
    """The folder's own in ``keep_in``: one for each size, which a changed folder takes over."""
    whole = root.resolve()
    mark = hashlib.sha256(str(whole).encode(errors="surrogateescape")).hexdigest()[:12]
    height, width = image_hw
    # Names may have 255 bytes.
    name = whole.name.encode(errors="surrogateescape")[:100].decode(errors="ignore")
    return keep_in / "folders" / f"{name}-{height}x{width}-{mark}"


def _decoded(
    layout: Layout, name: str, place: Path, image_hw: tuple[int, int], skip_unreadable: bool
) -> tuple[Cache, Index, Tensor]:
    """The files of a split's images, their index, and the labels of those that can be read."""
    split: Split = getattr(layout, name)
    read = partial(read_detailed if name == "train" else read_small, image_hw=image_hw)
    key = key_of(split.paths, layout.root, name, image_hw, DETAIL)
    what = f"{layout.root.name}/{split.folder.name}"
    try:
        if not place.is_dir():
            check_writable(place, "folder for decoded images")
        cache = Cache(place / name, split.paths, key, read)
        index = cache.fill(skip_unreadable, what)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{place}: cannot be written or read ({reason}); {REMEDY}") from error
    if unreadable := [*split.unreadable, *index.errors.values()]:
        found = f"left out {len(unreadable)} unreadable images, first {unreadable[0]}"
        warnings.warn(f"{split.folder}: {found}", stacklevel=4)
    labels = [label for place, label in enumerate(split.labels) if place not in index.errors]
    return cache, index, torch.tensor(labels)


def _store(path: Path, index: Index, image_hw: tuple[int, int]) -> ImageStore:
    sizes = torch.tensor([shape[:2] for shape in index.shapes if shape[2]])
    counts = sizes.prod(dim=1)
    pixels, mapped = map_file(path)
    starts = counts.cumsum(0) - counts
    return ImageStore(pixels.view(-1, 3), starts, sizes, image_hw, mapped=mapped)


def read_detailed(path: Path, image_hw: tuple[int, int]) -> np.ndarray:
    """An image to train on: uint8 (H, W, 3), its own shape, up to DETAIL times the model's size.

    It is made smaller as ``resize`` does it, without antialiasing, so that it looks like the images
    of a test.
    """
    image = read_picture(path)
    height, width = image.shape[1:]
    scale = max(DETAIL * image_hw[0] / height, DETAIL * image_hw[1] / width)
    if scale < 1:
        image = _resized(image, (max(1, round(height * scale)), max(1, round(width * scale))))
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def read_small(path: Path, image_hw: tuple[int, int]) -> np.ndarray:
    """An image to test with: uint8 (3, h, w), resized to the model's size without cropping."""
    return np.ascontiguousarray(_resized(read_picture(path), image_hw).numpy())


def _resized(image: Tensor, image_hw: tuple[int, int]) -> Tensor:
    return resize(image[None], image_hw).round().to(torch.uint8)[0]
