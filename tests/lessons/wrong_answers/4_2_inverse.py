"""Gives the order tile by tile, the inverse of what is asked."""

import torch

HINT = "the inverse of what is asked"


def tile_order(rows, columns, factor):
    tokens = torch.arange(rows * columns * factor**2).view(factor, rows, factor, columns)
    return tokens.permute(0, 2, 1, 3).reshape(-1).tolist()
