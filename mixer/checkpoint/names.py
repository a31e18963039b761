"""What a parameter is called in each kind of file, and how its axes stand there.

``OFFICIAL`` is Google's (google-research/vision_transformer, vit_jax/models_mixer.py): kernels of
dense layers are (in, out), that of the stem is (height, width, in, out). ``OURS`` is
``MlpMixer.state_dict()``. ``TIMM`` is ``timm/models/mlp_mixer.py`` (``mixer_b16_224`` …), with
PyTorch's axes, as ours.
"""

from dataclasses import dataclass

from torch import Tensor


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; says which array, found and expected."""


# Our name of each layer in the order of the model -> the official one, timm's.
LAYERS = {
    "stem": ("stem", "stem.proj"),
    "norm1": ("LayerNorm_0", "norm1"),
    "token_mixing.fc1": ("token_mixing/Dense_0", "mlp_tokens.fc1"),
    "token_mixing.fc2": ("token_mixing/Dense_1", "mlp_tokens.fc2"),
    "norm2": ("LayerNorm_1", "norm2"),
    "channel_mixing.fc1": ("channel_mixing/Dense_0", "mlp_channels.fc1"),
    "channel_mixing.fc2": ("channel_mixing/Dense_1", "mlp_channels.fc2"),
    "pre_head_norm": ("pre_head_layer_norm", "norm"),
    "head": ("head", "head"),
}


def parameter_names(num_blocks: int) -> list[str]:
    """The names of all parameters of a Mixer, as in ``MlpMixer.state_dict()``."""
    first, *of_a_block, norm, head = LAYERS
    blocks = (f"blocks.{index}.{layer}" for index in range(num_blocks) for layer in of_a_block)
    return [
        f"{layer}.{kind}" for layer in (first, *blocks, norm, head) for kind in ("weight", "bias")
    ]


@dataclass(frozen=True)
class Layout:
    """Names and axes of the arrays in one kind of file."""

    # What users and messages call it.
    label: str
    # Our name of each layer -> its name.
    layers: dict[str, str]
    # What comes before the number of a block.
    block: str = "blocks."
    separator: str = "."
    # Whether kernels are (in, out) and HWIO, with Flax's names for weights.
    flax: bool = False

    def name(self, parameter: str) -> str:
        """``"blocks.3.token_mixing.fc1.weight"`` -> what this layout calls it."""
        layer, kind = parameter.rsplit(".", 1)
        prefix = ""
        if layer.startswith("blocks."):
            _, index, layer = layer.split(".", 2)
            prefix = f"{self.block}{index}{self.separator}"
        if self.flax and kind == "weight":
            kind = "scale" if "norm" in layer else "kernel"
        return f"{prefix}{self.layers[layer]}{self.separator}{kind}"

    def to_file(self, tensor: Tensor) -> Tensor:
        """A parameter with its axes as in the file."""
        return to_official(tensor) if self.flax else tensor

    def from_file(self, array: Tensor) -> Tensor:
        """The way back."""
        return from_official(array) if self.flax else array


OFFICIAL = Layout(
    "official", {ours: names[0] for ours, names in LAYERS.items()}, "MixerBlock_", "/", flax=True
)
OURS = Layout("ours", {ours: ours for ours in LAYERS})
TIMM = Layout("timm", {ours: names[1] for ours, names in LAYERS.items()})
LAYOUTS = {layout.label: layout for layout in (OFFICIAL, OURS, TIMM)}


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
