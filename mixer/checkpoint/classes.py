"""What the outputs of a checkpoint are called."""

import json
from pathlib import Path
from typing import Any

from torchvision.models import ResNet50_Weights

from mixer.files import StrPath


def class_names(path: StrPath, num_classes: int) -> list[str] | None:
    """The names of a checkpoint's classes, in the order of its outputs.

    They are looked for in the record beside the file (``NAME.json``, as the checkpoints of this
    package have), then in the ``config.json`` of the run that wrote it. Without either, 1,000
    classes are taken to be ImageNet's, by torchvision's list. Outputs beyond the names, and those
    of the ImageNet-21k heads, for which there is no such list, have their number.

    Returns:
        ``num_classes`` names, or ``None`` if none is known.
    """
    path = Path(path)
    for record in (path.with_suffix(".json"), path.with_name("config.json")):
        names = _classes(record)
        if names and len(names) <= num_classes:
            return names + [f"class {index}" for index in range(len(names), num_classes)]
    imagenet = ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    return list(imagenet) if num_classes == len(imagenet) else None


def _classes(record: Path) -> list[str]:
    """The list under ``classes``; empty if there is no such file, or no such list in it."""
    try:
        found: Any = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    names = found.get("classes") if isinstance(found, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    return names
