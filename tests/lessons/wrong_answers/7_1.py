"""Mirrors the order of the patches and forgets that each patch is mirrored as well."""

import torch


def mirror_orders(rows, columns, patch_size):
    patches = torch.arange(rows * columns).view(rows, columns).flip(1).flatten()
    return patches, torch.arange(patch_size**2)
