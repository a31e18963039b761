"""The layouts of checkpoint files: what a parameter is called in each, and how its axes stand.

``OFFICIAL`` is that of Google's files (google-research/vision_transformer, vit_jax/checkpoint.py
and models_mixer.py): ``stem/{kernel,bias}``, ``MixerBlock_i/LayerNorm_{0,1}/{scale,bias}``,
``MixerBlock_i/{token_mixing,channel_mixing}/Dense_{0,1}/{kernel,bias}``,
``pre_head_layer_norm/{scale,bias}``, ``head/{kernel,bias}``. Kernels of dense layers are (in, out),
that of the stem is (height, width, in, out). ``OURS`` is that of ``MlpMixer.state_dict()``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

# Endings of files of named PyTorch tensors.
SAFETENSORS_ENDING, TORCH_ENDINGS = ".safetensors", (".bin", ".pt", ".pth")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; says which array, found and expected."""


@dataclass(frozen=True)
class Layout:
    """Names and axes of the arrays in one kind of file."""

    # What users and messages call it.
    label: str
    # The name of block i is this and i.
    block: str = "blocks."
    separator: str = "."
    # Layers that have another name than ours.
    layers: Mapping[str, str] = field(default_factory=dict)
    # Whether kernels are (in, out) and HWIO, with Flax's names for weights.
    flax: bool = False

    def name(self, parameter: str) -> str:
        """``"blocks.3.token_mixing.fc1.weight"`` -> what this layout calls it."""
        layer, kind = parameter.rsplit(".", 1)
        prefix = ""
        if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", layer):
            prefix, layer = f"{self.block}{match[1]}{self.separator}", match[2]
        if self.flax and kind == "weight":
            kind = "scale" if "norm" in layer else "kernel"
        return f"{prefix}{self.layers.get(layer, layer)}{self.separator}{kind}"

    def block_number(self, name: str) -> int | None:
        """Which block an array belongs to, by its name; ``None`` for all others."""
        # At most four digits: a longer number is no block's, and costs time to read.
        pattern = rf"{re.escape(self.block)}(0|[1-9][0-9]{{0,3}}){re.escape(self.separator)}"
        match = re.match(pattern, name)
        return int(match[1]) if match else None

    def to_file(self, tensor: Tensor) -> Tensor:
        """A parameter with its axes as in the file."""
        return to_official(tensor) if self.flax else tensor

    def from_file(self, array: Tensor) -> Tensor:
        """The way back."""
        return from_official(array) if self.flax else array

    def shape_in_file(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a parameter, as the file has it."""
        if not self.flax or len(shape) not in (2, 4):
            return shape
        return shape[::-1] if len(shape) == 2 else (shape[2], shape[3], shape[1], shape[0])

    def shape_from_file(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The way back."""
        if not self.flax or len(shape) not in (2, 4):
            return shape
        return shape[::-1] if len(shape) == 2 else (shape[3], shape[2], shape[0], shape[1])


OURS = Layout("ours")

OFFICIAL = Layout(
    "official",
    block="MixerBlock_",
    separator="/",
    layers={
        "norm1": "LayerNorm_0",
        "norm2": "LayerNorm_1",
        "token_mixing.fc1": "token_mixing/Dense_0",
        "token_mixing.fc2": "token_mixing/Dense_1",
        "channel_mixing.fc1": "channel_mixing/Dense_0",
        "channel_mixing.fc2": "channel_mixing/Dense_1",
        "pre_head_norm": "pre_head_layer_norm",
    },
    flax=True,
)


def official_name(parameter: str) -> str:
    """``"blocks.3.token_mixing.fc1.weight"`` -> ``"MixerBlock_3/token_mixing/Dense_0/kernel"``."""
    return OFFICIAL.name(parameter)


def to_official(tensor: Tensor) -> Tensor:
    """A parameter in the official layout: (out, in) -> (in, out); (out, in, h, w) -> HWIO."""
    if tensor.dim() == 4:
        return tensor.permute(2, 3, 1, 0)
    return tensor.t() if tensor.dim() == 2 else tensor


def from_official(array: Tensor) -> Tensor:
    """The way back: (in, out) -> (out, in); HWIO -> (out, in, height, width)."""
    if array.dim() == 4:
        return array.permute(3, 2, 0, 1)
    return array.t() if array.dim() == 2 else array


def shown(name: str) -> str:
    """A name from a file, fit for a message: short, and without control characters."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return printable if len(printable) <= 80 else f"{printable[:60]}… ({len(name)} characters)"
