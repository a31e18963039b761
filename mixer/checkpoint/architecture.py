"""Which Mixer a file holds, by the names and shapes of its arrays, and the reading of them.

Names and shapes are all compared before the first number is read: a file that does not fit costs
neither time nor memory.
"""

import math
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mixer.checkpoint.layout import CheckpointError, Layout, shown
from mixer.config import MixerConfig
from mixer.model import MlpMixer

Size = int | tuple[int, int]


class Arrays(Protocol):
    """An open file of named arrays."""

    path: Path
    names: set[str]

    @property
    def layout(self) -> Layout:
        """Whose names they are."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, if the file says so."""

    def shape(self, name: str) -> tuple[int, ...]:
        """From the header alone."""

    def dtype(self, name: str) -> torch.dtype:
        """From the header alone."""

    def tensor(self, name: str, dtype: torch.dtype | None = torch.float32) -> Tensor:
        """Finite numbers; ``None`` keeps the type of the file."""


def config_of(
    file: Arrays, source_size: Size | None = None, image_size: Size | None = None
) -> MixerConfig:
    """The model that the names and shapes describe, every one of them compared.

    Args:
        file: its numbers are not looked at.
        source_size: pixels of the images it was trained on, where the file does not say.
        image_size: what is wanted of it; the same images if nothing else is known and the tokens
            are no square.

    Raises:
        CheckpointError: a name or a shape that does not fit.
    """
    blocks = _num_blocks(file)
    hidden, in_channels, patch, other = _shape(file, "stem.weight", 4)
    if patch != other:
        problem = f"expected square patches, found {patch} by {other}"
        raise CheckpointError(f"{file.path}: {file.layout.name('stem.weight')}: {problem}")
    tokens_mlp_dim, tokens = _shape(file, "blocks.0.token_mixing.fc1.weight", 2)
    channels_mlp_dim, _ = _shape(file, "blocks.0.channel_mixing.fc1.weight", 2)
    num_classes, _ = _shape(file, "head.weight", 2)
    size = _image_size(file, patch, tokens, source_size, image_size)
    widths = (hidden, tokens_mlp_dim, channels_mlp_dim)
    try:
        config = MixerConfig(patch, blocks, *widths, num_classes, size, in_channels)
    except ValueError as error:
        raise CheckpointError(f"{file.path}: {error}") from None
    if config.num_tokens != tokens:
        height, width = config.image_hw
        found = f"found image_size {height} by {width}, which makes {config.num_tokens}"
        raise CheckpointError(f"{file.path}: expected an image of {tokens} tokens, {found}")
    _check(file, config)
    return config


def _num_blocks(file: Arrays) -> int:
    numbers = {file.layout.block_number(name) for name in file.names} - {None}
    first = file.layout.block
    if not numbers:
        some = ", ".join(shown(name) for name in sorted(file.names)[:4]) or "nothing"
        expected = f"expected arrays {first}0{file.layout.separator}… of a Mixer"
        raise CheckpointError(f"{file.path}: {expected}, found {some}")
    missing = next(number for number in range(len(numbers) + 1) if number not in numbers)
    if missing != len(numbers):
        found = f"found {first}{max(n for n in numbers if n is not None)}, but no {first}{missing}"
        raise CheckpointError(f"{file.path}: expected blocks that are counted through, {found}")
    return missing


def _shape(file: Arrays, parameter: str, rank: int) -> tuple[int, ...]:
    """A parameter's shape with PyTorch's axes."""
    name = file.layout.name(parameter)
    shape = file.shape(name)
    if len(shape) != rank or min(shape) < 1:
        expected = f"expected {rank} axes, none of length 0, found {shape}"
        raise CheckpointError(f"{file.path}: {name}: {expected}")
    return file.layout.shape_from_file(shape)


def _image_size(
    file: Arrays, patch: int, tokens: int, source_size: Size | None, image_size: Size | None
) -> Size:
    if source_size is not None:
        if file.image_size not in (None, pair(source_size)):
            expected = f"expected {file.image_size}, as the file says"
            problem = f"source_size: {expected}, found {source_size!r}"
            raise CheckpointError(f"{file.path}: {problem}")
        return source_size
    if file.image_size is not None:
        return file.image_size
    side = math.isqrt(tokens)
    if side * side == tokens:
        return side * patch
    if image_size is not None:
        return image_size
    hint = "give its source_size=(height, width)"
    raise CheckpointError(f"{file.path}: {tokens} tokens are no square grid; {hint}")


def pair(size: Size) -> tuple[int, int]:
    """(height, width) of one number or two."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def parameter_shapes(config: MixerConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of a model, which need not be built for it."""
    patch, hidden = config.patch_size, config.hidden_dim
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    layer("stem", hidden, config.in_channels, patch, patch)
    for index in range(config.num_blocks):
        block = f"blocks.{index}"
        layer(f"{block}.norm1", hidden)
        layer(f"{block}.token_mixing.fc1", config.tokens_mlp_dim, config.num_tokens)
        layer(f"{block}.token_mixing.fc2", config.num_tokens, config.tokens_mlp_dim)
        layer(f"{block}.norm2", hidden)
        layer(f"{block}.channel_mixing.fc1", config.channels_mlp_dim, hidden)
        layer(f"{block}.channel_mixing.fc2", hidden, config.channels_mlp_dim)
    layer("pre_head_norm", hidden)
    layer("head", config.num_classes, hidden)
    return shapes


def _check(file: Arrays, config: MixerConfig) -> None:
    """Every array is there, none is too many, and each has its shape."""
    shapes = {file.layout.name(name): shape for name, shape in parameter_shapes(config).items()}
    if extra := file.names - shapes.keys():
        problem = "found an array that a Mixer does not have"
        raise CheckpointError(f"{file.path}: {shown(min(extra))}: {problem}")
    for name, shape in shapes.items():
        found, expected = file.shape(name), file.layout.shape_in_file(shape)
        if found != expected:
            problem = f"expected shape {expected}, found {found}"
            raise CheckpointError(f"{file.path}: {name}: {problem}")


def read_state(
    file: Arrays, config: MixerConfig, dtype: torch.dtype | None = torch.float32
) -> dict[str, Tensor]:
    """All parameters of a file that was found to be ``config``, with PyTorch's axes.

    Raises:
        CheckpointError: damaged, or a number that is not finite.
    """
    state = {}
    for name in parameter_shapes(config):
        array = file.layout.from_file(file.tensor(file.layout.name(name), dtype))
        state[name] = array.clone(memory_format=torch.contiguous_format)
    return state


def meta_model(config: MixerConfig) -> MlpMixer:
    """A model of shapes without memory; nothing is initialised in vain."""
    with torch.device("meta"):
        return MlpMixer(config)
