"""Which checkpoint a command is about: by name, by file, or the best at hand."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixer.config import MixerConfig

# Google's with readable classes first, the more accurate of two on ImageNet before the other.
_GOOGLES = ("Mixer-B_16", "Mixer-L_16", "Mixer-B_16-21k", "Mixer-L_16-21k")


def best() -> Path:
    """Google's, if one is in the cache, else the most accurate of those in this package."""
    from mixer.checkpoint import bundled, official_path

    there = (path for name in _GOOGLES if (path := official_path(name)).exists())
    return next(there, bundled("Mixer-Nano_4-cifar10-scratch"))


def is_googles(path: Path) -> bool:
    """Whether it is a file of Google's in the cache."""
    from mixer.checkpoint import official_path

    return path in [official_path(name) for name in _GOOGLES]


def find(text: str, fetch: bool = False) -> Path:
    """The checkpoint of that name, or the file.

    Args:
        text: a name of Google's or of ours, or the path of a file.
        fetch: whether one of Google's may be downloaded.

    Raises:
        ValueError: neither; says which names there are.
        OSError: one of Google's that is not in the cache, or a path where no file is.
    """
    from mixer.checkpoint import pretrained

    return pretrained(text, fetch=fetch)


def described(path: Path, config: "MixerConfig") -> str:
    """A line on what a checkpoint of that configuration is, for those who did not choose it."""
    from mixer.checkpoint import bundled, bundled_names

    if path not in [bundled(name) for name in bundled_names()]:
        return str(path)
    size = f"{config.image_hw[0]} px, {config.num_classes} classes"
    return f"{path.stem}, the small one of this package ({size})"
