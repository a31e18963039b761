"""The sizes of a Mixer, and the table of models.

Sizes follow Table 1 of Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision"
(2021, arXiv:2105.01601).
"""

import operator
import re
from dataclasses import dataclass, replace
from typing import Any

# Pixels: one number, or (height, width).
Size = int | tuple[int, int]


@dataclass(frozen=True)
class MixerConfig:
    """Everything that decides the shape of a Mixer.

    Args:
        patch_size: P, pixels.
        num_blocks: the paper's "number of layers".
        hidden_dim: C, channels of each token.
        tokens_mlp_dim: D_S, hidden width of the token-mixing MLP.
        channels_mlp_dim: D_C, hidden width of the channel-mixing MLP.
        num_classes: width of the head.
        image_size: pixels; (height, width) if rectangular. Each is a multiple of ``patch_size``.
        in_channels: 3 for colours.
        dropout: rate inside both MLPs.
        stochastic_depth: rate of the last block; it grows linearly from 0 at the first.

    Raises:
        ValueError: a size is not a positive integer, an image side is not a multiple of the
            patch size, or a rate is outside [0, 1).
    """

    patch_size: int
    num_blocks: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    num_classes: int = 1000
    image_size: Size = 224
    in_channels: int = 3
    dropout: float = 0.0
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if name in ("dropout", "stochastic_depth"):
                if not 0.0 <= value < 1.0:
                    raise ValueError(f"{name}: expected a rate in [0, 1), found {value!r}")
            elif name != "image_size":
                object.__setattr__(self, name, _positive(name, value))
        size = self.image_size
        sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
        if len(sides) != 2:
            raise ValueError(f"image_size: expected one size or (height, width), found {size!r}")
        sides = tuple(_positive("image_size", side) for side in sides)
        if any(side % self.patch_size for side in sides):
            raise ValueError(
                f"image_size: expected multiples of the patch size {self.patch_size}, "
                f"found {size!r}"
            )
        object.__setattr__(self, "image_size", sides)

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, pixels."""
        # A tuple since __post_init__.
        height, width = self.image_size  # type: ignore[misc]
        return height, width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.image_hw
        return height // self.patch_size, width // self.patch_size

    @property
    def num_tokens(self) -> int:
        """S, the number of tokens."""
        rows, columns = self.grid
        return rows * columns


def _positive(name: str, value: Any) -> int:
    """The plain integer of any integer type, such as NumPy's."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ValueError(f"{name}: expected a positive integer, found {value!r}")
    return number


def _table_1(patch_size: int, num_blocks: int, hidden_dim: int) -> MixerConfig:
    # In every model of Table 1 the two MLPs have half and four times the hidden width C.
    return MixerConfig(patch_size, num_blocks, hidden_dim, hidden_dim // 2, hidden_dim * 4)


MODELS: dict[str, MixerConfig] = {
    "Mixer-S_32": _table_1(32, 8, 512),
    "Mixer-S_16": _table_1(16, 8, 512),
    "Mixer-B_32": _table_1(32, 12, 768),
    "Mixer-B_16": _table_1(16, 12, 768),
    "Mixer-L_32": _table_1(32, 24, 1024),
    "Mixer-L_16": _table_1(16, 24, 1024),
    "Mixer-H_14": _table_1(14, 32, 1280),
    # Not in the paper: small enough to train on a CPU, for 32-pixel images.
    "Mixer-Nano_4": MixerConfig(4, 8, 128, 64, 512, num_classes=10, image_size=32),
}

# The official ImageNet-21k heads.
IMAGENET_21K_CLASSES = 21_843


def get_config(name: str, **changes: Any) -> MixerConfig:
    """The configuration of a named model, with any fields changed.

    ``name`` is a key of ``MODELS``; the suffix ``-21k`` gives the head of the official
    ImageNet-21k files. ``changes`` are fields of ``MixerConfig``; ``None`` keeps a field.

    Raises:
        ValueError: an unknown name, or sizes that ``MixerConfig`` refuses.
    """
    base = name.removesuffix("-21k")
    if base not in MODELS:
        raise ValueError(
            f"model: expected one of {', '.join(MODELS)} (with -21k or without), found {name!r}"
        )
    config = MODELS[base]
    if base != name:
        config = replace(config, num_classes=IMAGENET_21K_CLASSES)
    given = {field: value for field, value in changes.items() if value is not None}
    return replace(config, **given)


def parse_image_size(text: str) -> Size:
    """``"224"`` -> 224 and ``"16x64"`` -> (16, 64), height first, pixels.

    Raises:
        ValueError: neither one positive number nor two.
    """
    if match := re.fullmatch(r"([1-9][0-9]{0,5})(?:[x×]([1-9][0-9]{0,5}))?", text.strip()):
        return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))
    raise ValueError(f"image_size: expected pixels such as 224 or 16x64, found {text!r}")
