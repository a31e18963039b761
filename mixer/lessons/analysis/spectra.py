"""Two spectra of a block's units: how strong is each direction, and how strong is each wave?

An optimiser leaves its mark on both. Muon makes every update orthogonal (Jordan et al., 2024), so
that all directions, and with them fine waves and coarse ones, grow alike; AdamW's updates follow
the directions in which gradients are large.
"""

import torch
from torch import Tensor

from mixer.lessons.analysis.units import as_grids


def singular_spectrum(grids: Tensor) -> Tensor:
    """Singular values of the matrix of a block's units, over their root mean square: (K,).

    All are 1 where the matrix is orthogonal: its units, or its tokens, are at right angles and of
    one length. The largest come first.

    Args:
        grids: (N, h, w), the units of a block; K is the smaller of N and h * w.
    """
    values: Tensor = torch.linalg.svdvals(as_grids(grids).flatten(1))
    return values / values.square().mean().sqrt()


def wave_spectrum(grids: Tensor) -> Tensor:
    """Energy of a wave with k cycles across the image, k = 1, 2, …, over that of any wave: (K,).

    Noise has 1 everywhere, as far as chance goes; a smooth picture more at the left, and less at
    the right. Waves count where they are nearest: one of 1.4 cycles counts as 1. The mean, 0
    cycles, is left out.

    Args:
        grids: (N, h, w); K is half the larger of h and w.

    Raises:
        ValueError: grids that are too small for a wave.
    """
    weights = as_grids(grids)  # (N, 1, h, w)
    height, width = weights.shape[-2:]
    if max(height, width) < 2:
        raise ValueError(f"grids: expected at least 2 cells a side, found {height} × {width}")
    energy = torch.fft.fft2(weights).abs().square().sum((0, 1)).flatten()  # (h * w,)
    down, across = (torch.fft.fftfreq(side, 1 / side).double() for side in (height, width))
    cycles = torch.hypot(down[:, None], across).round().long().flatten()  # (h * w,)
    count = max(height, width) // 2
    wave_energy = energy[cycles > 0].mean()
    found = [energy[cycles == k].mean() for k in range(1, count + 1)]
    return torch.stack(found) / wave_energy
