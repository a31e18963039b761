"""The images of a folder, decoded once: bytes one after another in a file, and an index of them.

The index says which files were decoded, by name, size and time, and how many of them are in the
file of bytes by now. It is written whole, after the bytes it speaks of: a process that was killed
leaves what the next one goes on from, and what is there is never half an image.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Generator
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from mixer.files import locked, replacing

# To be raised when other pixels come out of the same files.
VERSION = 1
# Seconds of work that a killed process may lose.
RECORD_EVERY = 5.0
# Fewer images are decoded sooner than workers start.
WORTH_WORKERS = 64
MOST_WORKERS = 16

# One file's pixels, uint8 (H, W, 3) or (3, H, W).
Read = Callable[[Path], np.ndarray]


@dataclass
class Index:
    """What is in the file of bytes: the shape of each image, zeros for an unreadable one."""

    key: str
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    # By the place of the image.
    errors: dict[int, str] = field(default_factory=dict)

    def num_bytes(self) -> int:
        """The length of the file of bytes."""
        return sum(shape[0] * shape[1] * shape[2] for shape in self.shapes)

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        about = json.dumps([self.key, {str(place): text for place, text in self.errors.items()}])
        shapes = np.array(self.shapes, np.int32).reshape(-1, 3)
        with replacing(path) as file:
            np.savez(file, shapes=shapes, about=np.array(about))


def read_index(path: Path, key: str) -> Index:
    """The index of ``path``; an empty one, if it is of other files, damaged or not there."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found, errors = json.loads(str(file["about"]))
            shapes = [tuple(shape) for shape in file["shapes"].tolist()]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return Index(key)
    if found != key:
        return Index(key)
    return Index(key, shapes, {int(place): text for place, text in errors.items()})


def key_of(paths: Sequence[Path], root: Path, *settings: Any) -> str:
    """A hash of everything that decides about the pixels: names, sizes and times of the files."""
    facts = [json.dumps([VERSION, *settings])]
    # A path in "." does not begin with it.
    above = len(os.fspath(root / "_")) - 1
    for path in map(os.fspath, paths):
        status = os.stat(path)
        # A name may hold anything but a zero.
        facts.append(f"{os.sep}{path[above:]}\0{status.st_size}\0{status.st_mtime_ns}")
    return hashlib.sha256("\0".join(facts).encode(errors="surrogateescape")).hexdigest()


class Cache:
    """The decoded images of one split of a folder: ``<stem>-<key>.bin`` and ``….npz``.

    Args:
        stem: path without key and ending; what was kept there under other keys goes.
        paths: the files, in order.
        key: of files and settings.
        read: decodes one file; raises ``ValueError`` for one that cannot be read. It goes to worker
            processes.
    """

    def __init__(self, stem: Path, paths: Sequence[Path], key: str, read: Read) -> None:
        self.stem = stem
        # Other files than those of another key: who has mapped them keeps what they are.
        own = f"{stem}-{key[:12]}"
        self.bytes_path, self.index_path = Path(f"{own}.bin"), Path(f"{own}.npz")
        self.paths, self.key, self.read = paths, key, read

    def fill(self, skip_unreadable: bool, what: str) -> Index:
        """Decode what is not there yet; another process that does so is waited for.

        Raises:
            ValueError: an image cannot be read, and ``skip_unreadable`` is false.
            OSError: the cache cannot be written.
        """
        index = self._index(skip_unreadable)
        if len(index.shapes) < len(self.paths):
            waiting = f"{what}: another process decodes the images; waiting for it"
            # One for all keys: who decodes a changed folder deletes the old pixels.
            with locked(Path(f"{self.stem}.lock"), partial(print, waiting, flush=True)):
                # Another process may have gone on meanwhile.
                index = self._index(skip_unreadable)
                if len(index.shapes) < len(self.paths):
                    self._go_on(index, skip_unreadable, what)
        return index

    def _index(self, skip_unreadable: bool) -> Index:
        index = read_index(self.index_path, self.key)
        there = self.bytes_path.stat().st_size if self.bytes_path.exists() else 0
        if there < index.num_bytes():
            return Index(self.key)
        for place in index.errors:
            try:
                self.read(self.paths[place])
            except ValueError:
                if not skip_unreadable:
                    raise
            else:
                # It can be read by now, as after a change of its permissions.
                return Index(self.key)
        return index

    def _go_on(self, index: Index, skip_unreadable: bool, what: str) -> None:
        if not index.shapes:
            # A new file: another process may still read the old one, and no old index may stand
            # beside new bytes.
            self.index_path.unlink(missing_ok=True)
            self.bytes_path.unlink(missing_ok=True)
        self._forget_others()
        with open(self.bytes_path, "ab") as file:
            file.truncate(index.num_bytes())
            file.seek(0, os.SEEK_END)
            try:
                self._decode(index, file, skip_unreadable, what)
            finally:
                self._record(index, file)

    def _forget_others(self) -> None:
        """Delete what was decoded of other files, unless this system keeps it as it is mapped."""
        for ending in ("bin", "npz"):
            for old in self.stem.parent.glob(f"{self.stem.name}-*.{ending}"):
                if old not in (self.bytes_path, self.index_path):
                    with suppress(OSError):
                        old.unlink()

    def _decode(self, index: Index, file: Any, skip_unreadable: bool, what: str) -> None:
        recorded = time.monotonic()
        done, total = len(index.shapes), len(self.paths)
        with tqdm(total=total, initial=done, unit="image", desc=what, dynamic_ncols=True) as bar:
            for found in _decoded(self.paths[done:], self.read):
                if isinstance(found, str):
                    if not skip_unreadable:
                        raise ValueError(found)
                    index.errors[len(index.shapes)] = found
                    index.shapes.append((0, 0, 0))
                else:
                    file.write(found.tobytes())
                    index.shapes.append(found.shape)
                bar.update()
                if time.monotonic() - recorded > RECORD_EVERY:
                    self._record(index, file)
                    recorded = time.monotonic()

    def _record(self, index: Index, file: Any) -> None:
        file.flush()
        os.fsync(file.fileno())
        index.write(self.index_path)


class _Files(Dataset):
    """Decoded images, or why they cannot be read."""

    def __init__(self, paths: Sequence[Path], read: Read) -> None:
        self.paths, self.read = paths, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> np.ndarray | str:
        try:
            return self.read(self.paths[place])
        except ValueError as error:
            return str(error)


def _end_with(parent: int, worker: int) -> None:
    """Let this worker process end soon after its parent.

    PyTorch's own watch takes whoever is the parent when it begins: of a worker whose parent was
    killed before that, it makes an orphan that waits for ever.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _as_it_is(item: Any) -> Any:
    return item


def _decoded(paths: Sequence[Path], read: Read) -> Iterator[np.ndarray | str]:
    """The files in order, decoded by several processes where that pays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(MOST_WORKERS, cores or 1)
    # A process that was made to end with its parent may have none of its own.
    if len(paths) < WORTH_WORKERS or multiprocessing.current_process().daemon:
        workers = 0
    if workers and sys.platform != "linux":
        # Processes would have to be started afresh there, and run a script again that does not
        # protect itself.
        yield from _by_threads(paths, read, workers)
        return
    yield from DataLoader(
        _Files(paths, read),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        multiprocessing_context="fork" if workers else None,
        # Arrays of NumPy travel through pipes; tensors would go through shared memory, of which
        # containers have little.
        collate_fn=_as_it_is,
        worker_init_fn=partial(_end_with, os.getpid()),
        # Its own, so that torch's global one is not touched.
        generator=Generator(),
    )


def _by_threads(paths: Sequence[Path], read: Read, workers: int) -> Iterator[np.ndarray | str]:
    files = _Files(paths, read)
    coming: deque[Future[np.ndarray | str]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for place in range(len(files)):
            coming.append(pool.submit(files.__getitem__, place))
            # No more images in memory than these.
            if len(coming) > 8 * workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
