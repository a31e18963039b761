"""Exercises of notebook 6: what token mixing learns."""

import torch
from torch import Tensor
from torch.nn import functional

from mixer.lessons.analysis import learned_part
from mixer.lessons.exercises.checking import Answer, exercise, wrong_tensor


@exercise("6.1", returns="two whole numbers")
def _strongest_wave(answer: Answer) -> str | None:
    # 7 of 8 is the wave of -1; with a phase past a quarter turn the real part is negative.
    cases = (
        (8, 8, 1, 3, 2.5),
        (8, 8, 3, -1, 0.4),
        (6, 10, 0, 4, 2.5),
        (6, 10, -2, 0, 0.4),
        (8, 8, 0, 0, 2.5),
    )
    for height, width, down, across, phase in cases:
        y, x = torch.arange(height).double()[:, None], torch.arange(width).double()
        cycles = down * y / height + across * x / width
        grid = torch.cos(2 * torch.pi * cycles + phase) + 0.2 * torch.sin(7.3 * x * y)
        found = answer(grid)
        if not isinstance(found, tuple | list) or len(found) != 2:
            return f"expected two numbers, cycles down and cycles across, found {found!r}."
        pair = tuple(int(number) for number in found)
        right = (abs(down), abs(across))
        holds = f"{right[0]} cycles down and {right[1]} across"
        where = f"on a grid of {height} × {width} that holds {holds}"
        if pair == right:
            continue
        if pair == right[::-1]:
            return f"{where}, you return them the wrong way round: down comes first."
        if pair in ((down % height, across % width), (-down % height, -across % width)):
            return (
                f"{where}, you return {pair}: the transform's last entries are negative waves. "
                "Count back from the end."
            )
        return (
            f"{where}, you return {pair}. Find the largest magnitude (abs) of torch.fft.fft2, as "
            "row and column."
        )
    return None


@exercise("6.2", returns="the indices, a tensor with a number for each unit")
def _most_opposite(answer: Answer) -> str | None:
    generator = torch.Generator().manual_seed(0)
    units = torch.randn(12, 3, 4, generator=generator, dtype=torch.float64)
    units = units * torch.linspace(0.1, 5, 12, dtype=torch.float64)[:, None, None]
    found = answer(units)
    hint = wrong_tensor(found, (12,), "the indices")
    if hint:
        return hint
    flat = units.flatten(1)
    similarity = functional.normalize(flat, dim=1) @ functional.normalize(flat, dim=1).T
    if torch.equal(found.long(), similarity.argmin(1)):
        return None
    if torch.equal(found.long(), (flat @ flat.T).argmin(1)):
        return (
            "large units win everywhere: that is the plain product. Divide each unit by its norm "
            "first."
        )
    if torch.equal(found.long(), similarity.argmax(1)):
        return "every unit found itself. You want the smallest cosine, not the largest."
    if torch.equal(found.long(), similarity.abs().fill_diagonal_(2).argmin(1)):
        return "you found the units that have least in common (cosine near 0). Opposite is near −1."
    return (
        "the shape is right, the indices are not. Normalise, multiply all with all, take the "
        "least of each row."
    )


@exercise("6.3", returns="the influence, a tensor of shape (S, S)")
def _influence_of_two(answer: Answer) -> str | None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
    found = answer(first, second)
    hint = wrong_tensor(found, (5, 5), "the influence")
    if hint:
        return hint
    skip = torch.eye(5, dtype=torch.float64)
    whole = (skip + second) @ (skip + first)

    def near(other: Tensor) -> bool:
        return torch.allclose(found.double(), other, rtol=0, atol=1e-9)

    if near(whole.abs()):
        return None
    if near(whole):
        return "nearly: influence is a size, so it has no sign. Take the absolute value."
    if near((second @ first).abs()) or near(second @ first):
        return (
            "you left out the skip connections: each block gives x + W @ x, so its matrix is the "
            "identity plus W."
        )
    if near(((skip + first) @ (skip + second)).abs()):
        return "the order is wrong: the first block acts first, so its matrix stands on the right."
    if near((skip + second @ first).abs()):
        return "the skip goes round each block, not round both together."
    return (
        "the shape is right, the numbers are not. Write down x after the first block, then put "
        "that into the second."
    )


@exercise("6.4", returns="what was added, a tensor of shape (N, h, w)")
def _added_by_training(answer: Answer) -> str | None:
    generator = torch.Generator().manual_seed(0)
    start, learned = torch.randn(2, 7, 3, 4, generator=generator, dtype=torch.float64)
    trained = 0.6 * start + learned
    found = answer(trained, start)
    hint = wrong_tensor(found, (7, 3, 4), "what was added")
    if hint:
        return hint

    def near(other: Tensor) -> bool:
        return torch.allclose(found.double(), other, rtol=0, atol=1e-6)

    if near(learned_part(trained, start)):
        return None
    if near(trained - start):
        return (
            "you subtract the whole start. But weight decay has shrunk it: find out how much of it "
            "is left in each unit."
        )
    products = (trained * start).flatten(1).sum(1)[:, None, None]
    if near(trained - products * start):
        return "nearly: the start is not of length 1. Divide by the square of its length."
    whole = (trained * start).sum() / start.square().sum()
    if near(trained - whole * start):
        return "you took one share for all units together. Each has its own."
    return (
        "the shape is right, the numbers are not. The share is the product of a unit with its "
        "start, over the start's product with itself; take that much of the start off."
    )
