"""Checkpoints of any kind: the official ``.npz``, ``.safetensors``, and torch's own files."""

from pathlib import Path

from mixer.checkpoint.architecture import Size, config_of, read_state
from mixer.checkpoint.archive import Archive
from mixer.checkpoint.layout import (
    OFFICIAL,
    OURS,
    SAFETENSORS_ENDING,
    TORCH_ENDINGS,
    CheckpointError,
)
from mixer.checkpoint.npz import model_of, write_npz
from mixer.checkpoint.tensors import Safetensors, TorchFile, write_safetensors
from mixer.checkpoint.timm_layout import TIMM
from mixer.config import MixerConfig
from mixer.files import StrPath, check_target
from mixer.model import MlpMixer

LAYOUTS = {layout.label: layout for layout in (OFFICIAL, OURS, TIMM)}

_READERS: dict[str, type[Archive | Safetensors | TorchFile]] = {
    ".npz": Archive,
    SAFETENSORS_ENDING: Safetensors,
    **dict.fromkeys(TORCH_ENDINGS, TorchFile),
}


def open_checkpoint(path: StrPath) -> Archive | Safetensors | TorchFile:
    """A checkpoint, opened by the ending of its name; to be used in a ``with`` statement.

    Raises:
        CheckpointError: no such file, a folder, another ending, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: expected a file, found a folder")
    if path.suffix.lower() not in _READERS:
        endings = ", ".join(_READERS)
        raise CheckpointError(f"{path}: expected a file that ends in one of {endings}")
    return _READERS[path.suffix.lower()](path)


def from_file(
    path: StrPath,
    image_size: Size | None = None,
    num_classes: int | None = None,
    *,
    source_size: Size | None = None,
) -> MlpMixer:
    """A model from a file of any kind and layout; arguments and errors as for ``from_npz``."""
    with open_checkpoint(path) as file:
        return model_of(file, image_size, num_classes, source_size)


def convert(
    source: StrPath,
    target: StrPath,
    layout: str | None = None,
    *,
    source_size: Size | None = None,
) -> MixerConfig:
    """Write a checkpoint anew in another layout, every number as it was.

    Args:
        source: a file of any kind and layout.
        target: ``.npz`` (always the official layout) or ``.safetensors``.
        layout: of the target: ``official``, ``ours`` or ``timm``; by its ending if not given.
        source_size: pixels of the images it was trained on, as for ``from_npz``.

    Returns:
        The architecture.

    Raises:
        ValueError: a target that cannot be; nothing was read.
        CheckpointError: a source that cannot be read; nothing was written.
        OSError: the target cannot be written.
    """
    target = Path(target)
    kind = target.suffix.lower()
    if kind not in (".npz", ".safetensors"):
        raise ValueError(f"{target}: expected a target that ends in .npz or .safetensors")
    layout = layout or ("official" if kind == ".npz" else "ours")
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, found {layout!r}")
    if (layout == "official") != (kind == ".npz"):
        ending = ".npz" if layout == "official" else ".safetensors"
        raise ValueError(f"{target}: expected {ending} for the layout {layout}")
    check_target(target)
    with open_checkpoint(source) as file:
        config = config_of(file, source_size)
        state = read_state(file, config, dtype=None)
    if kind == ".npz":
        write_npz(target, state, config.image_hw, dtype=None)
    else:
        write_safetensors(target, state, config.image_hw, LAYOUTS[layout])
    return config
