"""Exercises of notebook 2: token and channel mixing."""

import torch
from torch import Tensor
from torch.nn import functional

from mixer.lessons.exercises.checking import Answer, exercise, near, wrong_tensor


@exercise("2.1", returns="the mixed table, a tensor of shape (B, S, C)")
def _token_mixing(answer: Answer) -> str | None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (2, 6, 4), "w1": (5, 6), "b1": (5,), "w2": (6, 5), "b2": (6,)}
    inputs = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    x, w1, b1, w2, b2 = inputs.values()
    found = answer(x, w1, b1, w2, b2)
    hint = wrong_tensor(found, x.shape, "the mixed table")
    if hint:
        return hint

    def mixed(approximate: str) -> Tensor:
        hidden = x.transpose(1, 2) @ w1.T + b1  # (B, C, D_S)
        hidden = functional.gelu(hidden, approximate=approximate)
        return (hidden @ w2.T + b2).transpose(1, 2)  # (B, S, C)

    if near(found, mixed("tanh")):
        return None
    if near(found, mixed("none")):
        return (
            "very close: you used the exact GELU. Ask for the tanh approximation, as the "
            "official code does."
        )
    if near(found, x + mixed("tanh")):
        return "you added the skip connection too. Return only what the MLP gives."
    return (
        "the shape is right, the numbers are not. Is the GELU in place, and does each bias go "
        "with the token axis?"
    )


@exercise("2.2", returns="the matrix, a tensor of shape (S, S)")
def _blur_matrix(answer: Answer) -> str | None:
    for rows, columns in ((4, 4), (3, 5)):
        tokens = rows * columns
        found = answer(rows, columns)
        hint = wrong_tensor(found, (tokens, tokens), "the matrix")
        if hint:
            return f"for a grid of {rows} × {columns} tokens: {hint}"
        found = found.double()
        # One bright token each.
        pictures = torch.eye(tokens, dtype=torch.float64).reshape(tokens, 1, rows, columns)
        box = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
        expected = functional.conv2d(pictures, box, padding=1).reshape(tokens, tokens).T
        if near(found, expected, 1e-6):
            continue
        if near(found, expected / expected.sum(1, keepdim=True), 1e-6):
            return (
                "at the edges you average over the neighbours that exist. With zero padding "
                "every weight is 1/9."
            )
        if torch.equal(found != 0, expected != 0):
            return "the right neighbours, but the wrong numbers: a box blur takes 1/9 of each."
        around = functional.pad(pictures, (1, 1, 1, 1), mode="circular")
        wrapped = functional.conv2d(around, box).reshape(tokens, tokens).T
        if near(found, wrapped, 1e-6):
            return (
                "your neighbours wrap round the edges of the image. With zero padding there is "
                "nothing beyond an edge."
            )
        place = torch.arange(tokens)
        near_by = torch.tensor((0, 1, columns - 1, columns, columns + 1))
        strip = torch.isin((place[:, None] - place).abs(), near_by).double() / 9
        if near(found, strip, 1e-6):
            return (
                "the last token of a row is not a neighbour of the first token of the next row. "
                "Compare row and column."
            )
        return (
            "row i lists what token i takes from each token: 1/9 from itself and from each "
            "neighbour on the grid."
        )
    return None
