"""What a checkpoint is, where its numbers lie, and whether it was read right."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixer.checkpoint import reference
from mixer.checkpoint.architecture import Size, config_of, read_state
from mixer.checkpoint.archive import Archive
from mixer.checkpoint.formats import open_checkpoint
from mixer.checkpoint.layout import OFFICIAL
from mixer.checkpoint.npz import model_of
from mixer.config import IMAGENET_21K_CLASSES, MODELS, MixerConfig
from mixer.files import StrPath

# Of the logits and of the features before the head: relative, float32 against float64.
TOLERANCE = 1e-5

PARTS = ("stem", "token_mixing", "channel_mixing", "norms", "head")


@dataclass(frozen=True)
class Range:
    """Where the numbers of one part of the model lie."""

    count: int
    lowest: float
    highest: float
    deviation: float


@dataclass(frozen=True)
class Inspection:
    """A whole checkpoint: every array was read and found finite."""

    layout: str
    config: MixerConfig
    # Whether the file itself says its image size, or it follows from the number of tokens.
    says_size: bool
    # Such as "float32", in the order of their number.
    dtypes: tuple[str, ...]
    arrays: int
    ranges: dict[str, Range]


def inspect(path: StrPath, source_size: Size | None = None) -> Inspection:
    """Read a checkpoint of any kind, every number of it.

    Raises:
        CheckpointError: damaged, or not a Mixer; says which array, found and expected.
    """
    with open_checkpoint(path) as file:
        config = config_of(file, source_size)
        kinds = [str(file.dtype(name)).removeprefix("torch.") for name in file.names]
        state = read_state(file, config, torch.float64)
        dtypes = sorted(set(kinds), key=kinds.count, reverse=True)
        says = file.image_size is not None
        ranges = {
            part: _range([value for name, value in state.items() if _part(name) == part])
            for part in PARTS
        }
        return Inspection(file.layout.label, config, says, tuple(dtypes), len(state), ranges)


def _part(name: str) -> str:
    """Which of ``PARTS`` a parameter belongs to."""
    return "norms" if "norm" in name else next(part for part in PARTS if part in name)


def _range(values: list[Tensor]) -> Range:
    count = sum(value.numel() for value in values)
    mean = sum(float(value.sum()) for value in values) / count
    square = sum(float(((value - mean) ** 2).sum()) for value in values) / count
    lowest, highest = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    return Range(count, lowest, highest, square**0.5)


def model_name(config: MixerConfig) -> str | None:
    """Which of ``mixer.MODELS`` it is, whatever its head and its image size; ``None`` if none.

    The heads of ImageNet-21k have ``-21k`` at the end of the name.
    """
    for name, known in MODELS.items():
        fixed = ("patch_size", "num_blocks", "hidden_dim", "channels_mlp_dim", "in_channels")
        same = all(getattr(known, size) == getattr(config, size) for size in fixed)
        # Models enlarged K times in each direction have K² times the width.
        if same and config.tokens_mlp_dim in {k * k * known.tokens_mlp_dim for k in range(1, 17)}:
            return f"{name}-21k" if config.num_classes == IMAGENET_21K_CLASSES else name
    return None


def disagreement(
    path: StrPath, images: NDArray[np.float32], source_size: Size | None = None
) -> float:
    """How far the model's float32 results are from the NumPy computation in float64.

    Args:
        path: a checkpoint of any kind.
        images: (B, H, W, C) in [-1, 1], of the checkpoint's own image size.
        source_size: as for ``from_npz``.

    Returns:
        The larger of two relative differences: of the logits, and of the pooled features before
        the head, which also tell where the head is all zero. NaN if anything overflows.
    """
    with open_checkpoint(path) as file:
        model = model_of(file, source_size=source_size).eval()
    with torch.inference_mode():
        pooled = model.forward_features(torch.from_numpy(images).permute(0, 3, 1, 2)).mean(1)
        logits = model.head(pooled)
    expected = reference.forward(official_arrays(path, source_size), images)
    found = (pooled.double().numpy(), logits.double().numpy())
    differences = [_relative(*both) for both in zip(found, expected, strict=True)]
    return float(np.max(differences))


def _relative(found: NDArray, expected: NDArray) -> float:
    difference, size = np.linalg.norm(found - expected), np.linalg.norm(expected)
    return float(difference / size) if size else float(difference)


def official_arrays(path: StrPath, source_size: Size | None = None) -> dict[str, NDArray]:
    """The arrays under their official names: of an ``.npz`` as NumPy itself reads them."""
    with open_checkpoint(path) as file:
        config = config_of(file, source_size)
        plain = isinstance(file, Archive) and all(
            file.dtype(name) != torch.bfloat16 for name in file.names
        )
        if not plain:
            state = read_state(file, config, torch.float64)
            return {
                OFFICIAL.name(name): OFFICIAL.to_file(value).numpy()
                for name, value in state.items()
            }
    with np.load(Path(path), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
