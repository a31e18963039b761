"""An ``.npz`` whose arrays are read one at a time.

Nothing is unpickled; every defect has a name.
"""

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from mixer.checkpoint.layout import CheckpointError


class Archive:
    """An npz whose arrays are read one at a time; every defect ends in a ``CheckpointError``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.zip = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise CheckpointError(f"{self.path}: no such file") from None
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise CheckpointError(
                f"{self.path}: not an npz file, or a truncated one ({error})"
            ) from None
        names = [name.removesuffix(".npy") for name in self.zip.namelist()]
        if len(set(names)) != len(names):
            self.zip.close()
            raise CheckpointError(f"{self.path}: the same array stands in it twice")
        self.names = set(names)
        # One piece of memory for all arrays, which stays in the cache.
        self.scratch = np.empty(0, np.uint8)

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.zip.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, from its header alone."""
        return self._read(name, header_only=True).shape

    def tensor(self, name: str) -> Tensor:
        """One array as float32, all of it finite.

        The next call may use the same memory: copy what is to be kept.
        """
        array = self._read(name, header_only=False)
        # A float64 beyond float32 becomes infinite, and is named below.
        with np.errstate(over="ignore"):
            tensor = torch.from_numpy(array.astype(np.float32, copy=False))
        # The sum is quick and shows every NaN; only where it is not finite (or overflows) is each
        # number looked at.
        if not math.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                f"{self.path}: {name}: expected finite numbers, found {bad} NaN or infinite"
            )
        return tensor

    def _read(self, name: str, header_only: bool) -> np.ndarray:
        if name not in self.names:
            raise CheckpointError(
                f"{self.path}: {name}: expected this array, found none of that name"
            )
        member = f"{name}.npy" if f"{name}.npy" in self.zip.NameToInfo else name
        try:
            with self.zip.open(member) as file:
                version = np.lib.format.read_magic(file)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, dtype = read_header(file)
                self._check_dtype(name, dtype)
                if header_only:
                    return np.broadcast_to(np.uint8(0), shape)
                found, size = (
                    self.zip.getinfo(member).file_size - file.tell(),
                    math.prod(shape) * dtype.itemsize,
                )
                if found != size:
                    raise CheckpointError(
                        f"{self.path}: {name}: expected {size} bytes for {shape}, found {found}"
                    )
                if len(self.scratch) < size:
                    self.scratch = np.empty(size, np.uint8)
                buffer = self.scratch[:size]
                _fill(buffer, file)
        except CheckpointError:
            raise
        except Exception as error:
            # A damaged zip or header can fail in every way that these parsers know.
            kind = type(error).__name__
            raise CheckpointError(
                f"{self.path}: {name}: cannot be read ({kind}: {error})"
            ) from None
        array = buffer.view(dtype).reshape(shape, order="F" if fortran else "C")
        # This is bfloat16, which NumPy knows as two bytes without a meaning.
        if dtype.kind == "V":
            return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return array

    def _check_dtype(self, name: str, dtype: np.dtype) -> None:
        if dtype.hasobject:
            raise CheckpointError(
                f"{self.path}: {name}: holds pickled objects, which are never loaded"
            )
        if dtype.kind != "f" and dtype != np.dtype("V2"):
            raise CheckpointError(
                f"{self.path}: {name}: expected floating point numbers, found {dtype}"
            )


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
