"""Google's official ``.npz`` checkpoints: names and layouts.

Layout of the official files (google-research/vision_transformer, vit_jax/checkpoint.py and
models_mixer.py): ``stem/{kernel,bias}``, ``MixerBlock_i/LayerNorm_{0,1}/{scale,bias}``,
``MixerBlock_i/{token_mixing,channel_mixing}/Dense_{0,1}/{kernel,bias}``,
``pre_head_layer_norm/{scale,bias}``, ``head/{kernel,bias}``. Kernels of dense layers are (in, out),
that of the stem is (height, width, in, out).
"""

import re

from torch import Tensor


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read or does not fit.

    Says which array, what was found and what was expected.
    """


_LAYERS = {
    "norm1": "LayerNorm_0",
    "norm2": "LayerNorm_1",
    "token_mixing.fc1": "token_mixing/Dense_0",
    "token_mixing.fc2": "token_mixing/Dense_1",
    "channel_mixing.fc1": "channel_mixing/Dense_0",
    "channel_mixing.fc2": "channel_mixing/Dense_1",
    "pre_head_norm": "pre_head_layer_norm",
}


def official_name(parameter: str) -> str:
    """``"blocks.3.token_mixing.fc1.weight"`` -> ``"MixerBlock_3/token_mixing/Dense_0/kernel"``."""
    layer, kind = parameter.rsplit(".", 1)
    prefix = ""
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", layer):
        prefix, layer = f"MixerBlock_{match[1]}/", match[2]
    if kind == "weight":
        kind = "scale" if "norm" in layer else "kernel"
    return f"{prefix}{_LAYERS.get(layer, layer)}/{kind}"


def to_official(tensor: Tensor) -> Tensor:
    """A parameter in the official layout.

    (out, in) -> (in, out); (out, in, height, width) -> HWIO; vectors stay.
    """
    if tensor.dim() == 4:
        return tensor.permute(2, 3, 1, 0)
    return tensor.t() if tensor.dim() == 2 else tensor


def from_official(array: Tensor) -> Tensor:
    """The way back: (in, out) -> (out, in); HWIO -> (out, in, height, width); vectors stay."""
    if array.dim() == 4:
        return array.permute(3, 2, 0, 1)
    return array.t() if array.dim() == 2 else array
