"""The official files: where they are, how they are had; and the small ones of the package."""

import os
from dataclasses import dataclass
from pathlib import Path

from mixer import files
from mixer.checkpoint.io import read
from mixer.checkpoint.names import CheckpointError
from mixer.config import get_config
from mixer.files import StrPath

OFFICIAL_URL = "https://storage.googleapis.com/mixer_models"

# Official accuracies are over all whole batches of 512: the last partial batch is dropped.
PUBLISHED_TEST_IMAGES = 9728


@dataclass(frozen=True)
class OfficialFile:
    """A file of Google's, and what the README of google-research/vision_transformer says of it."""

    # The paper's name.
    label: str
    # What it was pre-trained on.
    upstream: str
    # On CIFAR-10 after fine-tuning, over PUBLISHED_TEST_IMAGES, as first published.
    accuracy: float
    note: str = ""


OFFICIAL_FILES = {
    "Mixer-B_16": OfficialFile("Mixer-B/16", "ImageNet", 0.9672),
    "Mixer-L_16": OfficialFile("Mixer-L/16", "ImageNet", 0.9659),
    "Mixer-B_16-21k": OfficialFile("Mixer-B/16", "ImageNet-21k", 0.9682),
    "Mixer-L_16-21k": OfficialFile(
        "Mixer-L/16", "ImageNet-21k", 0.9634, "98.34 % in their later version"
    ),
}


def official_path(name: str, root: StrPath | None = None) -> Path:
    """Where ``download`` keeps the official file of a model, whether it is there or not.

    Raises:
        ValueError: there is no official file of that name.
    """
    if name not in OFFICIAL_FILES:
        raise ValueError(f"download: expected one of {', '.join(OFFICIAL_FILES)}, found {name!r}")
    return (Path(root) if root is not None else files.data_dir() / "checkpoints") / f"{name}.npz"


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
        raise ValueError(f"bundled: expected one of {', '.join(bundled_names())}, found {name!r}")
    return _WEIGHTS / f"{name}.npz"


def pretrained(name: StrPath, *, fetch: bool = True) -> Path:
    """The checkpoint that somebody means by a name or a path.

    Args:
        name: a file; or one of Google's names or of this package's, which means the checkpoint
            unless a *file* of that name is there.
        fetch: whether one of Google's may be downloaded.

    Raises:
        ValueError: there is none of that name.
        FileNotFoundError: no such file; or one of Google's that is not here, without ``fetch``.
        ConnectionError, CheckpointError: as ``download`` raises them.
    """
    path, known = Path(name), [*OFFICIAL_FILES, *bundled_names()]
    if path.is_file() or (path.exists() and name not in known):
        return path
    if name in bundled_names():
        return bundled(str(name))
    if name in OFFICIAL_FILES:
        if not fetch and not official_path(str(name)).exists():
            hint = f"mixer download {name} puts it there"
            raise FileNotFoundError(f"{name}: not in the cache; {hint}")
        return download(str(name))
    if path.suffix or path.name != str(name):
        raise FileNotFoundError(f"{name}: no such file")
    raise ValueError(f"checkpoint: expected a file or one of {', '.join(known)}, found {name!r}")


def download(name: str, root: StrPath | None = None, *, base_url: str | None = None) -> Path:
    """Path of an official checkpoint, fetched the first time; whole and checked, or not there.

    A transfer that broke off is taken up, now or in a later call. Two processes at once: the second
    waits for the first. A server that does not answer is given up after some seconds.

    Args:
        name: a key of ``OFFICIAL_FILES``, such as ``"Mixer-B_16"`` or ``"Mixer-L_16-21k"``.
        root: the folder; ``checkpoints`` in ``data_dir()`` if not given.
        base_url: another source of the same files; else the variable ``MIXER_CHECKPOINT_URL``,
            else Google's.

    Raises:
        ValueError: no official file of that name.
        ConnectionError: not to be had; says from where, and where to put the file by hand.
        OSError: the folder cannot be written.
        CheckpointError: what was sent, or is there, is not the file.
    """
    path = official_path(name, root)
    there = path.exists()
    if not there:
        files.check_writable(path.parent, "folder of checkpoints (see MIXER_DATA)")
        base = base_url or os.environ.get("MIXER_CHECKPOINT_URL") or OFFICIAL_URL
        folder = "imagenet21k" if name.endswith("-21k") else "imagenet1k"
        url = f"{base}/{folder}/{name.removesuffix('-21k')}.npz"
        try:
            files.download(url, path)
        except OSError as error:
            hint = "from_npz also reads it from anywhere, under any name"
            by_hand = f"Fetch {url} by other means and put it at {path}; {hint}."
            raise ConnectionError(f"{name} could not be downloaded ({error}). {by_hand}") from error
    try:
        file = read(path)
        found, expected = file.config(), get_config(name)
        if found != expected:
            raise CheckpointError(f"{path}: expected {name}, {expected}, found {found}")
        file.state()
    except CheckpointError as error:
        if there:
            raise CheckpointError(f"{error}; delete it and download it again") from None
        path.unlink()
        raise
    return path
