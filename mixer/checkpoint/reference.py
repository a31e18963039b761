"""A Mixer in plain NumPy and float64, straight from the arrays of an official file.

Written from the paper (Figure 1 and equation 1) and the conventions of the official Flax code, with
none of ``mixer.model``: two programs that agree on the logits have read a file alike. B images,
S tokens, C channels, D_S and D_C the hidden widths of the two MLPs.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward(arrays: Mapping[str, NDArray], images: NDArray) -> tuple[Array, Array]:
    """Pooled features and logits.

    Args:
        arrays: official names to arrays in the official layout, of any floating type.
        images: (B, H, W, 3) in [-1, 1].

    Returns:
        The mean over the tokens after the last norm, (B, C), and the logits, (B, classes).
    """
    a = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    x = embed(a, np.asarray(images, np.float64))  # (B, S, C)
    index = 0
    while f"MixerBlock_{index}/LayerNorm_0/scale" in a:
        x = block(a, f"MixerBlock_{index}", x)  # (B, S, C)
        index += 1
    features = layer_norm(a, "pre_head_layer_norm", x).mean(axis=1)  # (B, C)
    return features, dense(a, "head", features)


def embed(a: Mapping[str, Array], images: Array) -> Array:
    """The per-patch fully connected layer: (B, H, W, 3) -> (B, S, C), tokens row by row."""
    # A convolution whose stride is its kernel's size is one matrix product for each patch.
    kernel = a["stem/kernel"]  # (P, P, 3, C)
    patch, _, colours, hidden = kernel.shape
    batch, height, width, _ = images.shape
    rows, columns = height // patch, width // patch
    x = images.reshape(batch, rows, patch, columns, patch, colours)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, rows, columns, P, P, 3)
    x = x.reshape(batch, rows * columns, patch * patch * colours)  # (B, S, 3P²)
    return x @ kernel.reshape(-1, hidden) + a["stem/bias"]  # (B, S, C)


def block(a: Mapping[str, Array], name: str, x: Array) -> Array:
    """Equation 1: token mixing, then channel mixing, each after a norm and with a skip."""
    y = layer_norm(a, f"{name}/LayerNorm_0", x).swapaxes(1, 2)  # (B, C, S)
    x = x + mlp(a, f"{name}/token_mixing", y).swapaxes(1, 2)  # (B, S, C)
    y = layer_norm(a, f"{name}/LayerNorm_1", x)  # (B, S, C)
    return x + mlp(a, f"{name}/channel_mixing", y)  # (B, S, C)


def mlp(a: Mapping[str, Array], name: str, x: Array) -> Array:
    """Two dense layers with a GELU between them: (..., D) -> (..., D)."""
    return dense(a, f"{name}/Dense_1", gelu(dense(a, f"{name}/Dense_0", x)))


def dense(a: Mapping[str, Array], name: str, x: Array) -> Array:
    """(..., in) -> (..., out); kernels are (in, out)."""
    return x @ a[f"{name}/kernel"] + a[f"{name}/bias"]


def gelu(x: Array) -> Array:
    """The tanh approximation, which is Flax's default."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(a: Mapping[str, Array], name: str, x: Array) -> Array:
    """Over the channels, with Flax's default epsilon of 1e-6."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-6) * a[f"{name}/scale"] + a[f"{name}/bias"]
