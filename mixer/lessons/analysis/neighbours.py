"""How alike the weights of neighbouring tokens are: a number that tells a picture from noise."""

import torch
from torch import Tensor


def neighbours_agree(grids: Tensor) -> Tensor:
    """Correlation between a unit's weights and those of the tokens to the right and below: (N,).

    Each unit's mean is taken off first, so that a unit that only averages does not count as a
    picture; 1 is a smooth picture, 0 is what noise has, -1 a chessboard.

    Args:
        grids: (N, h, w), the units of a block, laid out as the patches are.

    Raises:
        ValueError: another shape, or a grid without neighbours.
    """
    if grids.dim() != 3 or max(grids.shape[1:]) < 2:
        expected = "expected shape (N, h, w) with at least two patches"
        raise ValueError(f"grids: {expected}, found {tuple(grids.shape)}")
    grids = grids.detach().cpu().double()
    grids = grids - grids.mean((1, 2), keepdim=True)
    here = torch.cat([grids[:, :, :-1].flatten(1), grids[:, :-1].flatten(1)], 1)  # (N, pairs)
    there = torch.cat([grids[:, :, 1:].flatten(1), grids[:, 1:].flatten(1)], 1)  # (N, pairs)
    return torch.nn.functional.cosine_similarity(here, there, dim=1)
