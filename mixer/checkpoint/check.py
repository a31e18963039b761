"""What a checkpoint is, whether it is whole, and whether it was read right."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mixer.checkpoint import reference
from mixer.checkpoint.classes import HALF, normalization
from mixer.checkpoint.io import Checkpoint, from_npz, read
from mixer.checkpoint.names import OFFICIAL
from mixer.config import IMAGENET_21K_CLASSES, MODELS, MixerConfig, Size
from mixer.files import StrPath

# Of the logits and of the features before the head: relative, float32 against float64.
TOLERANCE = 1e-5


def check(
    path: StrPath, photo: Tensor | None = None, source_size: Size | None = None
) -> tuple[str, bool]:
    """Read every number of a checkpoint of any kind, and compare two programs on an image.

    Args:
        path: the file.
        photo: uint8 (3, H, W), resized to what the model takes; noise if not given.
        source_size: as for ``from_npz``.

    Returns:
        The report, in several lines, and whether the model's logits in float32 are those of the
        NumPy computation in float64, which shares nothing with it.

    Raises:
        CheckpointError: damaged, or not a Mixer; says which array, found and expected.
    """
    file = read(path)
    config = file.config(source_size)
    height, width = config.image_hw
    rows, columns = config.grid
    known = "as the file says" if file.image_size else "from its number of tokens"
    count = sum(array.numel() for array in file.state().values())
    kinds = sorted({str(array.dtype).removeprefix("torch.") for array in file.arrays.values()})
    lines = [
        f"file        {path}, layout {file.layout.label}",
        f"model       {model_name(config) or 'none of mixer.MODELS'}: patches of "
        f"{config.patch_size} px, {config.num_blocks} blocks, C {config.hidden_dim}, "
        f"D_S {config.tokens_mlp_dim}, D_C {config.channels_mlp_dim}",
        f"images      {height} x {width} px, {known}; {rows} x {columns} patches",
        f"classes     {config.num_classes:,}",
        f"parameters  {count:,} in {len(file.arrays)} arrays, {' and '.join(kinds)}",
        "whole       every array is there, has its shape, and holds finite numbers only",
    ]
    mean, std = normalization(path)
    if (mean, std) != HALF:
        lines.append(f"pixels      mean {mean}, deviation {std}, by its config.json")
    images = image_for(config, photo, mean, std)
    difference = disagreement(file, images, source_size)
    agree = difference <= TOLERANCE
    what = "noise" if photo is None else "the photo"
    verdict = "agree" if agree else "DISAGREE"
    lines += [
        f"logits      on {what}: ours in float32, NumPy in float64: {verdict}",
        f"            relative difference {difference:.1e}, tolerance {TOLERANCE:.0e}",
    ]
    return "\n".join(lines), agree


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


def image_for(
    config: MixerConfig, photo: Tensor | None, mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """One image (1, H, W, C) of the model's size: the photo, or noise."""
    if photo is None:
        shape = (1, *config.image_hw, config.in_channels)
        return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    pixels = photo[None].float() / 255
    pixels = F.interpolate(pixels, config.image_hw, mode="bilinear", antialias=True)
    image = pixels[0].permute(1, 2, 0).numpy()  # (H, W, 3)
    return ((image - np.array(mean)) / np.array(std))[None].astype(np.float32)


def disagreement(
    file: Checkpoint, images: NDArray[np.float32], source_size: Size | None = None
) -> float:
    """How far the model's float32 results are from the NumPy computation in float64.

    Args:
        file: a checkpoint that was read; the model reads it anew.
        images: (B, H, W, C), of the checkpoint's own image size.
        source_size: as for ``from_npz``.

    Returns:
        The larger of two relative differences: of the logits, and of the pooled features before
        the head, which also tell where the head is all zero. NaN if anything overflows.
    """
    model = from_npz(file.path, source_size=source_size).eval()
    with torch.inference_mode():
        pooled = model.forward_features(torch.from_numpy(images).permute(0, 3, 1, 2)).mean(1)
        found = (pooled.double().numpy(), model.head(pooled).double().numpy())
    state = file.state(torch.float64)
    arrays = {OFFICIAL.name(name): OFFICIAL.to_file(state[name]).numpy() for name in state}
    expected = reference.forward(arrays, images)
    norm = np.linalg.norm
    pairs = zip(found, expected, strict=True)
    # Logits of a head of zeros are compared as they are.
    return float(np.max([norm(ours - theirs) / (norm(theirs) or 1.0) for ours, theirs in pairs]))
