"""Forgets to move the axes back."""


def unpatchify(patches, patch_size, grid):
    rows, columns = grid
    return patches.reshape(len(patches), 3, rows * patch_size, columns * patch_size)
