"""Forgets that the transform's last entries are negative waves."""

import torch


def strongest_wave(grid):
    width = grid.shape[1]
    return divmod(int(torch.fft.fft2(grid).abs().argmax()), width)
