"""Token-mixing weights for other resolutions (paper, appendix C)."""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mixer.config import MixerConfig


def resize_token_mixing(
    state: Mapping[str, Tensor], source: MixerConfig, target: MixerConfig
) -> tuple[dict[str, Tensor], MixerConfig]:
    """Fit the token-mixing MLPs to another grid of tokens.

    Grown K times in each direction (paper, appendix C), the MLP becomes K x K copies of the old
    one, each on its own tile of the image: block-diagonal weights, repeated biases, a hidden width
    K² times as large. On a mosaic of K x K images the logits are then the mean of the old model's.

    For every other grid the hidden width stays: tokens are resampled to the old grid, mixed there
    by the old MLP, and its result resampled back, both bilinearly (antialiased where the grid
    shrinks). Both are linear, so they fold into the weights; what is constant over the image stays
    exactly as it was.

    Args:
        state: parameters of a model of ``source``.
        source: its configuration.
        target: another one; what counts is its grid of tokens.

    Returns:
        The new parameters, and ``target`` with the token-mixing width that they need.
    """
    state = dict(state)
    if source.grid == target.grid:
        return state, target
    (rows, columns), (new_rows, new_columns) = source.grid, target.grid
    factor = new_rows // rows
    enlarged = (rows * factor, columns * factor) == (new_rows, new_columns)
    # Where token r of the image stands, tile by tile.
    order = _tile_order(source.grid, factor)  # (K² S,)
    width = source.tokens_mlp_dim * (factor**2 if enlarged else 1)
    for block in range(source.num_blocks):
        prefix = f"blocks.{block}.token_mixing."
        weight1, bias1 = state[f"{prefix}fc1.weight"], state[f"{prefix}fc1.bias"]
        weight2, bias2 = state[f"{prefix}fc2.weight"], state[f"{prefix}fc2.bias"]
        if enlarged:
            copies = factor**2
            weight1 = torch.block_diag(*[weight1] * copies)[:, order]  # (K² D_S, K² S)
            weight2 = torch.block_diag(*[weight2] * copies)[order]  # (K² S, K² D_S)
            bias1, bias2 = bias1.repeat(copies), bias2.repeat(copies)[order]
        else:
            weight1 = weight1 @ _resampling(target.grid, source.grid, weight1)  # (D_S, S')
            back = _resampling(source.grid, target.grid, weight2)  # (S', S)
            weight2, bias2 = back @ weight2, back @ bias2
        state[f"{prefix}fc1.weight"], state[f"{prefix}fc1.bias"] = weight1.contiguous(), bias1
        state[f"{prefix}fc2.weight"], state[f"{prefix}fc2.bias"] = weight2.contiguous(), bias2
    return state, replace(target, tokens_mlp_dim=width)


def _tile_order(grid: tuple[int, int], factor: int) -> Tensor:
    """For each token of the large grid, row by row: its place when they stand tile by tile."""
    rows, columns = grid
    places = torch.arange(rows * columns * factor**2).view(factor, factor, rows, columns)
    return places.permute(0, 2, 1, 3).reshape(-1)  # (K rows K columns,)


def _resampling(source: tuple[int, int], target: tuple[int, int], like: Tensor) -> Tensor:
    """Matrix (T, S) that resamples a grid of S tokens to one of T, bilinearly.

    Each row sums to one. Type and device are those of ``like``.
    """
    tokens = source[0] * source[1]
    basis = torch.eye(tokens, dtype=like.dtype, device=like.device).view(1, tokens, *source)
    return F.interpolate(basis, size=target, mode="bilinear", antialias=True).view(tokens, -1).t()
