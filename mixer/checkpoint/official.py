"""The official files: where they are, how they are had; and the small ones of the package."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from mixer.checkpoint import transfer
from mixer.checkpoint.architecture import config_of, parameter_shapes
from mixer.checkpoint.archive import Archive
from mixer.checkpoint.layout import CheckpointError, official_name
from mixer.config import get_config
from mixer.files import check_writable, data_dir, locked

OFFICIAL_URL = "https://storage.googleapis.com/mixer_models"

# Official accuracies are over all whole batches of 512: the last partial batch is dropped.
PUBLISHED_TEST_IMAGES = 9728


@dataclass(frozen=True)
class OfficialFile:
    """A file of Google's, and what the README of google-research/vision_transformer says of it."""

    # Below OFFICIAL_URL.
    path: str
    # The paper's name.
    label: str
    # What it was pre-trained on.
    upstream: str
    # On CIFAR-10 after fine-tuning, over PUBLISHED_TEST_IMAGES, as first published.
    accuracy: float
    note: str = ""


OFFICIAL_FILES = {
    "Mixer-B_16": OfficialFile("imagenet1k/Mixer-B_16.npz", "Mixer-B/16", "ImageNet", 0.9672),
    "Mixer-L_16": OfficialFile("imagenet1k/Mixer-L_16.npz", "Mixer-L/16", "ImageNet", 0.9659),
    "Mixer-B_16-21k": OfficialFile(
        "imagenet21k/Mixer-B_16.npz", "Mixer-B/16", "ImageNet-21k", 0.9682
    ),
    "Mixer-L_16-21k": OfficialFile(
        "imagenet21k/Mixer-L_16.npz",
        "Mixer-L/16",
        "ImageNet-21k",
        0.9634,
        "98.34 % in their later version",
    ),
}


def official_path(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Where ``download`` keeps the official file of a model, whether it is there or not.

    Raises:
        ValueError: there is no official file of that name.
    """
    if name not in OFFICIAL_FILES:
        raise ValueError(f"download: expected one of {', '.join(OFFICIAL_FILES)}, found {name!r}")
    return (Path(root) if root is not None else data_dir() / "checkpoints") / f"{name}.npz"


_WEIGHTS = Path(__file__).parent.parent / "weights"


def bundled_names() -> list[str]:
    """The small checkpoints that come with the package, by name."""
    return sorted(path.stem for path in _WEIGHTS.glob("*.npz") if path.stem.startswith("Mixer-"))


def bundled(name: str) -> Path:
    """Path of a small checkpoint that comes with the package, such as ``"Mixer-Nano_4"``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in bundled_names():
        known = ", ".join(bundled_names()) or "none"
        raise ValueError(f"bundled: expected one of {known}, found {name!r}")
    return _WEIGHTS / f"{name}.npz"


def pretrained(name: str) -> Path:
    """The checkpoint of that name: one of the package, or an official one, downloaded if need be.

    Raises:
        ValueError: there is none of that name.
        ConnectionError, CheckpointError: as ``download`` raises them.
    """
    if name in OFFICIAL_FILES:
        return download(name)
    if name in bundled_names():
        return bundled(name)
    known = ", ".join([*OFFICIAL_FILES, *bundled_names()])
    raise ValueError(f"checkpoint: expected one of {known}, found {name!r}")


def download(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    base_url: str | None = None,
    attempts: int = 5,
    timeout: float = 30.0,
    patience: float = 30.0,
    progress: bool = True,
    ask_again: bool = False,
) -> Path:
    """Path of an official checkpoint, fetched the first time; whole and checked, or not there.

    A broken transfer is taken up where it stopped, now or in a later call. The file gets its name
    only after its length, its zip structure with every CRC, and the names and shapes of its arrays
    were found right. Two processes at once: the second waits for the first. A server that does not
    answer at all is given up after ``patience``, and not asked again for a quarter of an hour.

    Args:
        name: a key of ``OFFICIAL_FILES``, such as ``"Mixer-B_16"`` or ``"Mixer-L_16-21k"``.
        root: the folder; ``checkpoints`` in ``data_dir()`` if not given.
        base_url: another source of the same files; else the variable ``MIXER_CHECKPOINT_URL``,
            else Google's.
        attempts: how often a transfer is begun or taken up.
        timeout: seconds without a byte after which a transfer counts as broken.
        patience: seconds, over all attempts, that the server may take to answer at all.
        progress: whether to show a bar, and to say what is waited for.
        ask_again: ask also a server that did not answer a short while ago.

    Raises:
        ValueError: no official file of that name.
        ConnectionError: not to be had; says from where, and where to put the file by hand.
        OSError: the folder cannot be written.
        CheckpointError: what was sent is not the file.
    """
    path = official_path(name, root)
    base = base_url or os.environ.get("MIXER_CHECKPOINT_URL") or OFFICIAL_URL
    url = f"{base}/{OFFICIAL_FILES[name].path}"
    # Asked before the lock, which a folder that is only to be read could not hold.
    if path.exists():
        verify(path, name)
        return path
    check_writable(path.parent, "folder of checkpoints")
    with _one_at_a_time(path, progress):
        # Another process may have fetched it while we waited.
        if not path.exists():
            part = path.with_name(f".{path.name}.part")
            if not ask_again and (silence := transfer.remembered_silence(path.parent, url)):
                raise _not_to_be_had(name, url, path.parent, silence)
            _fetch_right(url, part, name, (attempts, timeout, patience, progress))
            os.replace(part, path)
            return path
    verify(path, name)
    return path


@contextmanager
def _one_at_a_time(path: Path, progress: bool) -> Iterator[None]:
    """Hold the lock of a download; who has to wait for it is told so."""

    def say() -> None:
        if progress:
            print(f"{path.name}: another process is fetching it", file=sys.stderr, flush=True)

    with locked(path.with_name(f".{path.name}.lock"), say, patience=2.0):
        yield


def _fetch_right(url: str, part: Path, name: str, limits: tuple[int, float, float, bool]) -> None:
    """Fetch what is missing, and check it; what is not the file is thrown away.

    Raises:
        ConnectionError, CheckpointError: as ``download`` does.
    """
    resumed = part.exists()
    # Whole already, where a process was killed just before it gave the file its name.
    if resumed and _is_right(part, name):
        return
    try:
        transfer.fetch(url, part, *limits)
        # A piece that was there may have been of another file: once more, from the start.
        if resumed and not _is_right(part, name):
            part.unlink()
            transfer.fetch(url, part, *limits)
    except (OSError, HTTPException) as error:
        transfer.remember_silence(part.parent, url, isinstance(error, transfer.NoAnswer))
        raise _not_to_be_had(name, url, part.parent, error) from error
    transfer.remember_silence(part.parent, url, False)
    try:
        verify(part, name)
    except CheckpointError:
        part.unlink()
        raise


def _not_to_be_had(name: str, url: str, folder: Path, error: Exception) -> ConnectionError:
    by_hand = f"Fetch {url} by other means and put it at {folder / f'{name}.npz'}"
    anywhere = "from_npz also reads it from anywhere, under any name."
    return ConnectionError(f"{name} could not be downloaded ({error}). {by_hand}; {anywhere}")


def verify(path: Path, name: str) -> None:
    """Raise ``CheckpointError`` unless the file holds the named model, every byte of it right."""
    with Archive(path) as archive:
        found, expected = config_of(archive), get_config(name)
        if found != expected:
            remedy = "delete it and download it again"
            raise CheckpointError(f"{path}: expected {name}, {expected}, found {found}; {remedy}")
        for parameter in parameter_shapes(expected):
            archive.tensor(official_name(parameter))


def _is_right(path: Path, name: str) -> bool:
    try:
        verify(path, name)
    except CheckpointError:
        return False
    return True
