"""Exercises of notebook 4: official checkpoints."""

import numpy as np
import torch

from mixer.lessons.exercises.checking import Answer, exercise, wrong_tensor


@exercise("4.1", returns="the parameter, a tensor")
def _to_pytorch(answer: Answer) -> str | None:
    for shape, axes in (((7,), (0,)), ((3, 4), (1, 0)), ((2, 2, 3, 5), (3, 2, 0, 1))):
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        found = answer(array)
        expected = torch.from_numpy(array.transpose(axes).copy())
        hint = wrong_tensor(found, expected.shape, f"the parameter for an array of shape {shape}")
        if hint:
            return hint
        if not torch.equal(found, expected):
            if len(shape) == 4 and torch.equal(found, expected.transpose(2, 3)):
                return (
                    "nearly: the filters are mirrored along their diagonal. array.T turns H and "
                    "W round, too."
                )
            return (
                f"the shape for {shape} is right, the entries are not: move the axes, do not "
                "reshape."
            )
    return None


@exercise("4.2", returns="a list of numbers, one for each token")
def _tile_order(answer: Answer) -> str | None:
    # In some of them the order and its inverse are not the same.
    for rows, columns, factor in ((2, 2, 2), (2, 3, 3), (3, 2, 2)):
        order = [int(place) for place in answer(rows, columns, factor)]
        count = rows * columns * factor**2
        if sorted(order) != list(range(count)):
            return (
                f"for {factor} × {factor} tiles of {rows} × {columns}, 0 … {count - 1} should "
                "each occur once."
            )
        expected = [
            ((r // rows) * factor + c // columns) * rows * columns
            + (r % rows) * columns
            + c % columns
            for r in range(rows * factor)
            for c in range(columns * factor)
        ]
        if order == expected:
            continue
        if order == list(range(count)) != expected:
            return (
                "this is the order row by row through the whole image. The tiles should come one "
                "after another."
            )
        if order == sorted(range(count), key=expected.__getitem__):
            return (
                "this is tile_by_tile itself, the inverse of what is asked: list for each token of "
                "the large image its place among the tiles."
            )
        return (
            f"not the right order for {factor} × {factor} tiles of {rows} × {columns} tokens; "
            "number them on paper."
        )
    return None
