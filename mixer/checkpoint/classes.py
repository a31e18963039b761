"""What stands beside a checkpoint: the names of its outputs, and how its pixels are scaled."""

import json
from pathlib import Path
from typing import Any

from mixer.files import StrPath

# Of the official models, (x - 127.5) / 127.5 of each colour: (mean, deviation) of pixels in [0, 1].
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def class_names(path: StrPath, num_classes: int | None = None) -> tuple[str, ...] | None:
    """The names of a checkpoint's classes, in the order of its outputs; ``None`` if none is known.

    They are looked for in the record beside the file (``NAME.json``, as the checkpoints of this
    package have), then in a ``config.json``: ``classes`` of the run that wrote it, ``label_names``
    or ``id2label`` of Hugging Face.

    Args:
        path: the checkpoint.
        num_classes: so many names are wanted. Without a list 1,000 classes are then ImageNet's, by
            torchvision's; outputs beyond the names have their number.
    """
    path = Path(path)
    for record in (path.with_suffix(".json"), path.with_name("config.json")):
        names = _names(_read(record))
        if names and len(names) <= (num_classes or len(names)):
            more = range(len(names), num_classes or len(names))
            return (*names, *(f"class {index}" for index in more))
    if num_classes == 1000:
        from torchvision.models import ResNet50_Weights

        return tuple(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
    return None


def normalization(path: StrPath) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each colour, of pixels in [0, 1], that a checkpoint expects.

    They stand in ``pretrained_cfg`` of a ``config.json`` of Hugging Face; else they are the
    official ones, 0.5 each.
    """
    config = _read(Path(path).with_name("config.json"))
    found = config.get("pretrained_cfg")
    found = {**config, **found} if isinstance(found, dict) else config
    try:
        return tuple(map(float, found["mean"])), tuple(map(float, found["std"]))
    except (KeyError, TypeError, ValueError):
        return HALF


def _read(record: Path) -> dict[str, Any]:
    """What a JSON file says; empty if there is none."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _names(found: dict[str, Any]) -> list[str]:
    """The list of names in a record, if it is one; ``id2label`` goes from numbers to names."""
    names = found.get("classes") or found.get("label_names") or found.get("id2label")
    if isinstance(names, dict):
        names = [names.get(str(index)) for index in range(len(names))]
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else []
