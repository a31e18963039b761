"""Exercises of notebook 6: what token mixing learns."""

import torch
from torch import Tensor
from torch.nn import functional

from mixer.lessons.exercises.checking import Answer, exercise, wrong_tensor


@exercise("6.1", returns="the indices, a tensor with a number for each unit")
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


@exercise("6.2", returns="the influence, a tensor of shape (S, S)")
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
