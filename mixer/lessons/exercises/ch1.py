"""Exercises of notebook 1: patch embedding."""

import torch
from torch.nn import functional

from mixer.lessons.exercises.checking import Answer, count_up, exercise, wrong_tensor


@exercise("1.1", returns="the patches, a tensor of shape (B, S, 3·P·P)")
def _patchify(answer: Answer) -> str | None:
    for batch, height, width, patch in ((2, 4, 6, 2), (1, 6, 3, 3)):
        images = count_up(batch, 3, height, width)
        tokens = (height // patch) * (width // patch)
        found = answer(images, patch)
        hint = wrong_tensor(found, (batch, tokens, 3 * patch * patch), "the patches")
        if hint:
            return f"for images of shape {tuple(images.shape)} and patch size {patch}: {hint}"
        if torch.equal(found, functional.unfold(images, patch, stride=patch).transpose(1, 2)):
            continue
        if torch.equal(found, images.reshape(found.shape)):
            return (
                "a plain reshape cuts strips across the image. Split H and W first, then permute."
            )
        grid = images.reshape(batch, 3, height // patch, patch, width // patch, patch)
        if torch.equal(found, grid.permute(0, 2, 4, 3, 5, 1).reshape(found.shape)):
            return (
                "these are the right patches, but each lists its pixels before its colours. Put "
                "the colour axis first."
            )
        if torch.equal(found, grid.permute(0, 4, 2, 1, 3, 5).reshape(found.shape)):
            return (
                "these are the right patches in the wrong order: go along the rows of the grid, "
                "not down its columns."
            )
        return (
            "the shape is right, the entries are not. Check the order of the axes in your permute."
        )
    return None


@exercise("1.2", returns="the images, a tensor of shape (B, 3, H, W)")
def _unpatchify(answer: Answer) -> str | None:
    for batch, rows, columns, patch in ((1, 2, 2, 2), (2, 2, 3, 2), (1, 1, 2, 3)):
        images = count_up(batch, 3, rows * patch, columns * patch)
        patches = functional.unfold(images, patch, stride=patch).transpose(1, 2)
        found = answer(patches, patch, (rows, columns))
        hint = wrong_tensor(found, images.shape, "the images")
        if hint:
            return f"for a grid of {rows} × {columns} patches of {patch} pixels: {hint}"
        if not torch.equal(found, images):
            if torch.equal(found, patches.reshape(images.shape)):
                return (
                    "a plain reshape leaves the pixels in the order of the patches. Undo the "
                    "permute of the way in."
                )
            return (
                f"the pixels are not where they were. Try it on one image of {rows} × {columns} "
                "patches and print it."
            )
    return None
