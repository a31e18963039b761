"""The official files: where they are and how they are fetched.

And the small ones that come with the package.
"""

import os
import re
import shutil
import time
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm.auto import tqdm

from mixer.checkpoint.archive import Archive
from mixer.checkpoint.layout import CheckpointError, official_name
from mixer.checkpoint.npz import config_of, meta_model
from mixer.config import get_config
from mixer.files import data_dir

OFFICIAL_URL = "https://storage.googleapis.com/mixer_models"

# Official accuracies are over all whole batches of 512: the last partial batch is dropped.
PUBLISHED_TEST_IMAGES = 9728


@dataclass(frozen=True)
class OfficialFile:
    """A file of Google's, and what they say of it.

    They say it in the README of google-research/vision_transformer.
    """

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
    """The checkpoint of that name.

    One that comes with the package, or an official one, which is downloaded if need be.

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
    progress: bool = True,
) -> Path:
    """Path of an official checkpoint, fetched the first time.

    It is whole and checked, or not there at all. A broken transfer is taken up where it stopped,
    now or in a later call. The file gets its name only after its length, its zip structure with
    every CRC, and the names and shapes of its arrays were found right. Two processes at once: the
    second waits for the first.

    Args:
        name: a key of ``OFFICIAL_FILES``, such as ``"Mixer-B_16"`` or ``"Mixer-L_16-21k"``.
        root: the folder; ``checkpoints`` in ``data_dir()`` if not given.
        base_url: another source of the same files; else the variable ``MIXER_CHECKPOINT_URL``,
            else Google's.
        attempts: how often a transfer is begun or taken up.
        timeout: seconds without a byte after which a transfer counts as broken.
        progress: whether to show a bar.

    Raises:
        ValueError: no official file of that name.
        ConnectionError: not to be had; says from where, and where to put the file by hand.
        CheckpointError: what was sent is not the file.
    """
    path = official_path(name, root)
    base = base_url or os.environ.get("MIXER_CHECKPOINT_URL") or OFFICIAL_URL
    url = f"{base}/{OFFICIAL_FILES[name].path}"
    # Asked before the lock, which a folder that is only to be read could not hold.
    if path.exists():
        verify(path, name)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            verify(path, name)
            return path
        part = path.with_name(f".{path.name}.part")
        try:
            _fetch_the_right(name, url, part, attempts, timeout, progress)
        except (OSError, HTTPException) as error:
            hint = f"Fetch {url} by other means and put it at {path}"
            anywhere = "from_npz also reads it from anywhere, under any name."
            raise ConnectionError(
                f"{name} could not be downloaded ({error}). {hint}; {anywhere}"
            ) from error
        try:
            verify(part, name)
        except CheckpointError:
            part.unlink()
            raise
        os.replace(part, path)
    return path


def verify(path: Path, name: str) -> None:
    """Raise ``CheckpointError`` unless the file holds the named model, as it was written."""
    with Archive(path) as archive:
        found, expected = config_of(archive), get_config(name)
        if found != expected:
            models = f"expected {name}, {expected}, found {found}"
            raise CheckpointError(f"{path}: {models}; delete it and download it again")
        for parameter in meta_model(expected).state_dict():
            archive.tensor(official_name(parameter))


def _is_right(path: Path, name: str) -> bool:
    try:
        verify(path, name)
    except CheckpointError:
        return False
    return True


def _fetch_the_right(
    name: str, url: str, part: Path, attempts: int, timeout: float, progress: bool
) -> None:
    """Fetch what is missing; all of it, if the piece that was there is of another file."""
    resumed = part.exists()
    _fetch(url, part, attempts, timeout, progress)
    if resumed and not _is_right(part, name):
        part.unlink()
        _fetch(url, part, attempts, timeout, progress)


def _fetch(url: str, part: Path, attempts: int, timeout: float, progress: bool) -> None:
    """Append what is missing of ``url`` to ``part``."""
    for attempt in range(1, attempts + 1):
        try:
            if _fetch_once(url, part, timeout, progress):
                return
            error: Exception = ConnectionError(
                f"the connection broke off after {part.stat().st_size} bytes"
            )
        except HTTPError as answer:
            # Nothing after what we have: begin anew if that is not the file.
            if answer.code == 416 and part.exists():
                part.unlink()
            elif answer.code < 500:
                raise
            error = answer
        except (OSError, HTTPException) as broken:
            error = broken
        if attempt == attempts:
            raise error
        time.sleep(min(2.0 ** (attempt - 1), 8.0) * min(1.0, timeout / 30.0))


def _fetch_once(url: str, part: Path, timeout: float, progress: bool) -> bool:
    """One request; whether all the bytes that the server announced are now in ``part``."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(request, timeout=timeout) as answer:
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if answer.status != 206 or start is None or int(start[1]) != have:
            # The server sends the whole file, whatever we asked for.
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise OSError(
                f"{part.parent}: {total - have} bytes are missing, {free} are free on the disk"
            )
        bar = tqdm(
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=part.name[1:-5],
            disable=not progress,
        )
        with open(part, "ab" if have else "wb") as file, bar:
            while piece := answer.read1(1 << 20):
                file.write(piece)
                bar.update(len(piece))
    return total is None or part.stat().st_size == total
