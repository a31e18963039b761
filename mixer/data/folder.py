"""A folder of photos, ``root/{train,test}/<class>/**/<photo>``, read from disk batch by batch.

There is one road for a photo, for training, tests and predictions: ``read_photo`` gives it whole,
then a box of it, or all of it, is resized once. docs/files.md lists which files are taken and how.
"""

import atexit
import copy
import hashlib
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing.pool import AsyncResult, ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder

from mixer.config import Size
from mixer.data.augment import height_width, resize
from mixer.files import format_error

# The first that holds class folders is taken.
TEST = ("test", "val", "valid", "validation")

# What operating systems put beside the files of users.
SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}

# Pillow knows their endings, but reads no pixels from them by itself: films, tables of numbers,
# and drawings that need another program.
NO_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

MOST_THREADS = 16

WAY_OUT = "leave such files out with --skip_unreadable, or (before a run begins) mend or delete it"

# Place in the batch, height and width of a photo -> a box of it: top, left, height, width.
Crop = Callable[[int, int, int], Sequence[int]]


class UnreadablePhoto(ValueError):
    """A photo that cannot be read; the message names its file and says why."""


def read_photo(path: str | os.PathLike[str]) -> Tensor:
    """The file's first image: uint8 (3, H, W), upright, RGB, on white where it is transparent.

    Raises:
        UnreadablePhoto: it cannot be read, or what its numbers mean is not known.
    """
    with _opened(path) as image:
        image.load()
        # Pixels are there by now: a damaged note of the camera is passed over, as viewers do.
        with suppress(Exception):
            image = ImageOps.exif_transpose(image)
        pixels = _rgb(image)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    try:
        # A pipe would be waited for.
        if not os.path.isfile(path):
            raise ValueError("no such file")
        with Image.open(path) as image:
            yield image
    # A decoder may raise anything: AVIF's raises RuntimeError, others struct.error or IndexError.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        found = f"expected a photo, found what cannot be read as one ({reason})"
        raise UnreadablePhoto(f"{os.fspath(path)}: {found}") from error


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image)[..., None].repeat(3, axis=2)
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        image = page
    return np.array(image.convert("RGB"))


def _deep_grey(image: Image.Image) -> np.ndarray:
    """uint8 (H, W) of more than 8 bits: white is 65,535, of floats 1.0."""
    values, white = np.asarray(image), 1 if image.mode == "F" else 65535
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= white:
        found = f"{low:.6g} to {high:.6g}; convert it to 8 or 16 bits"
        raise ValueError(f"mode {image.mode}: expected values 0 to {white}, found {found}")
    return np.rint(values * (255 / white)).astype(np.uint8)


@cache
def _threads() -> ThreadPool:
    """Pillow and torch free the interpreter's lock, so that threads do for reading."""
    pool = ThreadPool(min(MOST_THREADS, os.cpu_count() or 1))
    atexit.register(pool.terminate)
    return pool


class Photos(ImageFolder):
    """The photos of one half of a data set, in their files; memory holds a batch or two of them.

    torchvision's ``ImageFolder``, but hidden and system folders are left out, headers are looked at
    at once, and a slice or a tensor of rows picks some of the photos, still unread: ``read`` reads
    them. A single index gives a photo as it is, and its label.

    Args:
        root: holds a folder for each class.
        classes: in the order of their labels; a test set has those of training.
        size: at which photos are read, pixels or (height, width).
        skip_unreadable: leave out what cannot be read.

    Raises:
        UnreadablePhoto: something is no photo, and ``skip_unreadable`` is false.
    """

    def __init__(
        self, root: Path, classes: Sequence[str], size: Size = 224, skip_unreadable: bool = False
    ) -> None:
        self.given, self.image_hw = list(classes), height_width(size)
        self.skip_unreadable = skip_unreadable
        # How many files of other endings; what cannot be read, and why, by its path.
        self.left_out: Counter[str] = Counter()
        self.unreadable: dict[str, str] = {}
        super().__init__(os.fspath(root), loader=read_photo, allow_empty=True)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of what ``read`` gives: (N, 3, h, w)."""
        return (len(self), 3, *self.image_hw)

    def find_classes(self, directory: Any) -> tuple[list[str], dict[str, int]]:
        """Those that were given."""
        return self.given, {name: label for label, name in enumerate(self.given)}

    def make_dataset(  # type: ignore[override]
        self, directory: Any, class_to_idx: dict[str, int], **_: Any
    ) -> list[tuple[str, int]]:
        """Paths and labels of the files with a photo's ending and header, links followed."""
        samples = []
        for name, label in class_to_idx.items():
            top = os.path.join(directory, name)
            # A test set may lack a class.
            walk = os.walk(top, onerror=lambda e: self._leave_out(e.filename, e), followlinks=True)
            for folder, below, files in walk if os.path.isdir(top) else ():
                below[:] = sorted(filter(is_visible, below))
                for file in sorted(filter(is_visible, files)):
                    if is_photo(file):
                        samples.append((os.path.join(folder, file), label))
                    else:
                        self.left_out[os.path.splitext(file)[1].lower() or "no ending"] += 1
        modes = _threads().imap(self._mode, samples, chunksize=64)
        kept = [(sample, mode) for sample, mode in zip(samples, modes, strict=True) if mode]
        # Rows of grey with 16 bits.
        self.deep = [row for row, (_, mode) in enumerate(kept) if mode.startswith("I")]
        return [sample for sample, _ in kept]

    def _mode(self, sample: tuple[str, int]) -> str | None:
        """How the header says that pixels are stored, such as RGB or I;16; none, if left out."""
        try:
            with _opened(sample[0]) as image:
                return image.mode
        except UnreadablePhoto as error:
            self._leave_out(sample[0], error)
            return None

    def _leave_out(self, path: str, error: Exception) -> None:
        if not self.skip_unreadable:
            raise UnreadablePhoto(f"{format_error(error)}; {WAY_OUT}") from error
        self.unreadable[path] = format_error(error)

    def __getitem__(self, rows: Any) -> Any:
        """Of an integer the photo and its label, else ``Photos``."""
        if isinstance(rows, int):
            return super().__getitem__(rows)
        some = copy.copy(self)
        some.samples = [self.samples[row] for row in torch.arange(len(self))[rows].tolist()]
        some.imgs, some.targets = some.samples, [label for _, label in some.samples]
        return some

    def read(self, size: Size | None = None) -> Tensor:
        """All of them that can be read, resized: uint8 (N, 3, h, w)."""
        found = self.begin(range(len(self)), size or self.image_hw).get()
        none = torch.empty((0, 3, *height_width(size or self.image_hw)), dtype=torch.uint8)
        return torch.cat([none, *(photo for photo in found if photo is not None)])

    def begin(
        self, rows: Iterable[int], size: Size, crop: Crop | None = None, stand_in: bool = False
    ) -> AsyncResult:
        """Begin to read a batch, by threads.

        Args:
            rows: which photos.
            size: to which they are resized, pixels or (height, width).
            crop: says which box of a photo is cut out; without it, all of it is taken.
            stand_in: the next photo of the class stands in for one that cannot be read.

        Returns:
            An object whose ``get()`` waits for a list of them, each uint8 (1, 3, h, w), or ``None``
            for one that cannot be read; or raises ``UnreadablePhoto``, unless such are skipped.
        """
        read = partial(self._read, image_hw=height_width(size), crop=crop, stand_in=stand_in)
        return _threads().starmap_async(read, enumerate(rows))

    def _read(
        self, place: int, row: int, image_hw: tuple[int, int], crop: Crop | None, stand_in: bool
    ) -> Tensor | None:
        label = self.samples[row][1]
        for further in range(len(self) if stand_in else 1):
            path, other = self.samples[(row + further) % len(self)]
            if other != label or path in self.unreadable:
                continue
            try:
                photo = read_photo(path)
            except UnreadablePhoto as error:
                self._leave_out(path, error)
                print(f"left out, as file {len(self.unreadable)}: {error}", file=sys.stderr)
                continue
            height, width = photo.shape[1:]
            top, left, h, w = crop(place, height, width) if crop else (0, 0, height, width)
            box = photo[None, :, top : top + h, left : left + w]
            # Channel by channel: as floats a large photo takes much memory.
            channels = [resize(channel, image_hw) for channel in box.split(1, dim=1)]
            return torch.cat(channels, dim=1).round().to(torch.uint8)
        if stand_in:
            raise UnreadablePhoto(f"{self.root}/{self.classes[label]}: found no photo to be read")
        return None

    def sha256(self) -> str:
        """A hash of the files' names below the root, and of their sizes."""
        found = hashlib.sha256()
        for path, _ in self.samples:
            name = Path(path).relative_to(self.root).as_posix()
            found.update(f"{name}\0{os.path.getsize(path)}\0".encode(errors="surrogateescape"))
        return found.hexdigest()

    def empty_classes(self) -> list[str]:
        """The classes without a photo."""
        present = set(self.targets)
        return [name for name, label in self.class_to_idx.items() if label not in present]


def is_photo(name: str) -> bool:
    """Whether a file has an ending that the installed Pillow reads pixels from by itself."""
    kind = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return kind in Image.OPEN and kind not in NO_PIXELS


def is_visible(name: str) -> bool:
    """Whether a file or folder is somebody's: neither hidden nor a system's."""
    return not name.startswith(".") and name.lower() not in SYSTEM


def natural_key(name: str) -> tuple:
    """Sorts "2" before "10", and "img9" before "img10"."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def class_names(folder: Path) -> list[str]:
    """The class folders in it, in natural order: "2" before "10"."""
    entries = folder.iterdir() if folder.is_dir() else ()
    names = [entry.name for entry in entries if os.path.isdir(entry) and is_visible(entry.name)]
    return sorted(names, key=natural_key)


def read_folder(root: Path, size: Size, skip_unreadable: bool) -> tuple[Photos, Photos]:
    """The training and the test photos of a folder. Warns (``UserWarning``) of what is left out.

    Raises:
        ValueError: it is no data set; says what was found and what was expected.
        UnreadablePhoto: it holds what is no photo, and ``skip_unreadable`` is false.
    """
    folder, tested = _split(root, ["train"]), _split(root, TEST)
    classes = class_names(folder)
    if len(classes) < 2:
        below = ", ".join(class_names(folder / classes[0]))
        hint = f" with the folders {below}: one folder too many?" if below else ""
        raise ValueError(f"{folder}: expected two classes or more, found only {classes[0]}{hint}")
    if unknown := ", ".join(name for name in class_names(tested) if name not in classes):
        raise ValueError(f"{tested}: expected classes that {folder.name} has, found {unknown}")
    train, test = (Photos(part, classes, size, skip_unreadable) for part in (folder, tested))
    for note in _notes(train, test):
        warnings.warn(note, stacklevel=4)
    empty = [folder / name for name in train.empty_classes()] or ([] if len(test) else [tested])
    if empty:
        raise ValueError(f"{empty[0]}: expected at least one photo, found none")
    return train, test


def _split(root: Path, names: Sequence[str]) -> Path:
    """The first of the folders that holds class folders."""
    for name in names:
        if class_names(root / name):
            return root / name
    folder = root / names[0]
    loose = sum(is_photo(file.name) for file in folder.glob("*"))
    expected = f"a folder for each class, as in {folder.name}/cat/1.jpg, {folder.name}/dog/1.jpg"
    raise ValueError(f"{folder}: expected {expected}; found {loose} images and no class folders")


def _notes(train: Photos, test: Photos) -> Iterator[str]:
    """What is left out, or taken instead."""
    if not test.root.endswith(TEST[0]):
        yield f"{test.root} is the test set, as {TEST[0]} has no class folders"
    if empty := test.empty_classes():
        yield f"{test.root} has no photo of {', '.join(empty)}"
    for half in (train, test):
        if left_out := half.left_out:
            counts = ", ".join(f"{what} {count}" for what, count in sorted(left_out.items()))
            yield f"{half.root}: left out {left_out.total()} files: {counts}"
        if unreadable := sorted(half.unreadable.values()):
            yield f"{half.root}: left out {len(unreadable)} unreadable files, as {unreadable[0]}"
    # A few of them will do.
    deep = train[train.deep[:: len(train.deep) // 16 + 1]].read()
    if len(deep) and (brightest := int(deep.max())) <= 256 // 16:
        found = f"of {len(deep)} photos with 16 bits of grey none is brighter than {brightest}"
        yield f"{train.root}: {found} of 255: are their values of 12 bits? White is 65,535"
