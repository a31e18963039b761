"""An ``.npz``, read one array at a time. Nothing is unpickled; every defect has a name.

The image size that a model was trained at cannot be read off its arrays: 64 tokens are an image of
8 by 8 patches or of 4 by 16. ``write_archive`` puts it into the comment of the zip archive, which
``numpy.load`` and with it the official code pass over.
"""

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixer.checkpoint.layout import (
    OFFICIAL,
    SAFETENSORS_ENDING,
    TORCH_ENDINGS,
    CheckpointError,
    shown,
)

# Bytes of a member that may be its header; NumPy itself refuses longer ones.
_HEADER_BYTES = 10_240
# Bytes that one of deflate's can stand for (zlib's technical details).
_MOST_INFLATED = 1032
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
    """What an array's first bytes say of it, and where its numbers begin."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int


class Archive:
    """An npz whose arrays are read one at a time; every defect ends in a ``CheckpointError``."""

    layout = OFFICIAL

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise CheckpointError(f"{self.path}: expected a file, found a folder")
        other = self.path.suffix.lower() in (SAFETENSORS_ENDING, *TORCH_ENDINGS)
        if other and self.path.exists():
            way = "mixer.checkpoint.from_file reads it, and mixer convert makes an .npz of it"
            raise CheckpointError(f"{self.path}: expected an .npz file, found another kind; {way}")
        try:
            self.zip = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise CheckpointError(f"{self.path}: no such file") from None
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            problem = f"not an npz file, or a truncated one ({error})"
            raise CheckpointError(f"{self.path}: {problem}") from None
        names = [name.removesuffix(".npy") for name in self.zip.namelist()]
        try:
            _check_end(self.path)
            if len(set(names)) != len(names):
                raise CheckpointError(f"{self.path}: the same array stands in it twice")
            # Height and width in pixels, if the file says so.
            self.image_size = said_image_size(self.zip.comment, self.path)
        except CheckpointError:
            self.zip.close()
            raise
        self.names = set(names)
        self._headers: dict[str, Header] = {}
        # One piece of memory for all arrays, which stays in the cache.
        self._scratch = np.empty(0, np.uint8)

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.zip.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, from its header alone."""
        return self._header(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """The type of an array's numbers, from its header alone."""
        return _TYPES[self._header(name).dtype.itemsize, self._header(name).dtype.kind]

    def tensor(self, name: str, dtype: torch.dtype | None = torch.float32) -> Tensor:
        """One array, all of it finite, as ``dtype`` or (``None``) in the type of the file.

        The next call may use the same memory: copy what is to be kept.
        """
        kept = self.dtype(name)
        array = self._read(name)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        # Beyond the type's range a number becomes infinite, and is named.
        tensor = torch.from_numpy(array).to(dtype or kept)
        return finite(tensor, name, self.path)

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self.names:
            expected = "expected this array, found none of that name"
            raise CheckpointError(f"{self.path}: {name}: {expected}")
        known = self.zip.NameToInfo
        return known[f"{name}.npy" if f"{name}.npy" in known else name]

    def _header(self, name: str) -> Header:
        """The header, whose shape and type make up the length that the archive states."""
        if name in self._headers:
            return self._headers[name]
        member = self._member(name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Others inflate without a limit, and NumPy does not write them.
            problem = "expected stored or deflated numbers, found another compression"
            raise CheckpointError(f"{self.path}: {shown(name)}: {problem}")
        self._check_length(name, member)
        try:
            with self.zip.open(member) as file:
                first = io.BytesIO(file.read(_HEADER_BYTES))
            header = _READ_HEADER[np.lib.format.read_magic(first)](first)
        # A damaged zip or header can fail in every way that these parsers know.
        except Exception as error:
            raise self._unreadable(name, error) from None
        shape, fortran, dtype = header
        self._check_dtype(name, dtype)
        found, size = member.file_size - first.tell(), math.prod(shape) * dtype.itemsize
        if found != size:
            lengths = f"expected {size} bytes for {shape}, found {found}"
            raise CheckpointError(f"{self.path}: {shown(name)}: {lengths}")
        self._headers[name] = Header(shape, fortran, dtype, first.tell())
        return self._headers[name]

    def _read(self, name: str) -> np.ndarray:
        shape, fortran, dtype, start = self._header(name)
        size = math.prod(shape) * dtype.itemsize
        if len(self._scratch) < size:
            self._scratch = np.empty(size, np.uint8)
        buffer = self._scratch[:size]
        try:
            with self.zip.open(self._member(name)) as file:
                file.read(start)
                _fill(buffer, file)
        except Exception as error:
            raise self._unreadable(name, error) from None
        array = buffer.view(dtype).reshape(shape, order="F" if fortran else "C")
        # bfloat16, which NumPy knows as two bytes without a meaning.
        if dtype.kind == "V":
            return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return array

    def _unreadable(self, name: str, error: Exception) -> CheckpointError:
        kind = type(error).__name__
        return CheckpointError(f"{self.path}: {shown(name)}: cannot be read ({kind}: {error})")

    def _check_length(self, name: str, member: zipfile.ZipInfo) -> None:
        """A length that no file of this size can inflate to would ask for memory in vain."""
        deflated = member.compress_type == zipfile.ZIP_DEFLATED
        most = member.compress_size * (_MOST_INFLATED if deflated else 1)
        if member.file_size > most or member.compress_size > self.path.stat().st_size:
            lengths = f"expected at most {most} bytes, found {member.file_size}"
            raise CheckpointError(f"{self.path}: {shown(name)}: {lengths}")

    def _check_dtype(self, name: str, dtype: np.dtype) -> None:
        if dtype.hasobject:
            problem = "holds pickled objects, which are never loaded"
            raise CheckpointError(f"{self.path}: {shown(name)}: {problem}")
        # Of those without a meaning, two bytes alone are known; fields have one.
        known = (dtype.itemsize, dtype.kind) in _TYPES and dtype.names is None
        if not known:
            expected = f"expected floating point numbers, found {dtype}"
            raise CheckpointError(f"{self.path}: {shown(name)}: {expected}")


def _check_end(path: Path) -> None:
    """Whether the comment at the file's end is whole, which zipfile does not look at."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 22 - 0xFFFF))
        last = file.read()
    # The record of the central directory, whose last two bytes are the length of what follows.
    start = last.rfind(b"PK\x05\x06")
    length = int.from_bytes(last[start + 20 : start + 22], "little")
    if len(last) - start - 22 < length:
        raise CheckpointError(f"{path}: not an npz file, or a truncated one (its end is missing)")


# Bytes of a number and NumPy's letter for its kind.
_TYPES = {
    (2, "f"): torch.float16,
    (2, "V"): torch.bfloat16,
    (4, "f"): torch.float32,
    (8, "f"): torch.float64,
}


def finite(tensor: Tensor, name: str, path: Path) -> Tensor:
    """The same tensor; ``CheckpointError`` if any of its numbers is NaN or infinite."""
    # The sum is quick and shows every NaN; only where it is not finite (or overflows) is each
    # number looked at.
    if not math.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        found = f"expected finite numbers, found {bad} NaN or infinite"
        raise CheckpointError(f"{path}: {shown(name)}: {found}")
    return tensor


def _fill(buffer: np.ndarray, file: IO[bytes]) -> None:
    """Read into ``buffer`` in pieces, and on to the end, where zipfile compares the CRC."""
    view = memoryview(buffer)  # type: ignore[arg-type]
    while view:
        piece = file.read(min(len(view), 1 << 18))
        if not piece:
            raise EOFError(f"{len(view)} bytes are missing")
        view[: len(piece)] = piece
        view = view[len(piece) :]
    file.read(1)


def said_image_size(text: bytes | str, path: Path) -> tuple[int, int] | None:
    """Height and width out of ``{"image_size": [16, 64]}``; ``None`` if it says nothing of them.

    Raises:
        CheckpointError: it says something else than two positive numbers.
    """
    try:
        said = json.loads(text)
    # Whatever else a comment holds is nobody's mistake.
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or "image_size" not in said:
        return None
    size = said["image_size"]
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int for n in size):
        found = shown(json.dumps(size))
        raise CheckpointError(f"{path}: image_size: expected [height, width], found {found}")
    return size[0], size[1]


def image_size_text(image_size: tuple[int, int]) -> str:
    """What ``said_image_size`` reads."""
    return json.dumps({"image_size": list(image_size)})


def write_archive(
    file: IO[bytes], arrays: Mapping[str, np.ndarray], image_size: tuple[int, int]
) -> None:
    """Write an npz as ``numpy.savez`` does, with the image size in its comment."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.comment = image_size_text(image_size).encode()
