"""Checks for the notebooks' exercises: each says "right", or gives a hint; none ends in a traceback.

A notebook calls ``check("1.2", answer)``. A check is a function registered with ``@exercise("1.2")``;
it takes the answer and returns ``None`` when it is right, else a hint, one or two sentences long.
"""

import textwrap
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Check = Callable[[object], "str | None"]
CHECKS: dict[str, Check] = {}


def exercise(number: str) -> Callable[[Check], Check]:
    """Register the check of one exercise, such as ``"1.2"``: notebook 1, exercise 2."""

    def register(function: Check) -> Check:
        CHECKS[number] = function
        return function

    return register


def check(number: str, answer: object) -> None:
    """Print whether ``answer`` (mostly a function that the reader wrote) solves an exercise.

    Raises:
        ValueError: there is no exercise of that number.
    """
    if number not in CHECKS:
        raise ValueError(f"exercise: expected one of {', '.join(sorted(CHECKS))}, found {number!r}")
    try:
        hint = CHECKS[number](answer)
    except Exception as error:  # whatever the reader's code raises becomes a hint
        hint = f"your answer stopped with {type(error).__name__}: {error}"
    text = f"Exercise {number}: right." if hint is None else f"Exercise {number}: not yet. Hint: {hint}"
    print(textwrap.fill(text, width=88))


def compare(name: str, mine: Tensor, reference: Tensor, tolerance: float = 1e-6) -> bool:
    """Print whether two tensors agree: the same shape, and no entry further off than ``tolerance``.

    What it prints when they agree is the same on every machine.
    """
    if mine.shape != reference.shape:
        print(f"{name}: DIFFERENT SHAPES, {tuple(mine.shape)} against {tuple(reference.shape)}")
        return False
    difference = (mine - reference).abs().max().item() if mine.numel() else 0.0
    if not difference <= tolerance:  # also true for nan
        print(f"{name}: DIFFERENT, by up to {difference:.1e}")
        return False
    print(f"{name}: the same, shape {tuple(mine.shape)}, no entry off by more than {tolerance:.0e}")
    return True


def wrong_tensor(found: object, shape: Sequence[int], what: str = "the result") -> str | None:
    """A hint if ``found`` is no tensor of this shape, else ``None``; for use in checks."""
    if found is None or found is Ellipsis:
        return f"nothing came back. Replace the stub and return {what}, a tensor of shape {tuple(shape)}."
    if not isinstance(found, Tensor):
        return f"{what} should be a tensor of shape {tuple(shape)}, found {type(found).__name__}."
    if tuple(found.shape) != tuple(shape):
        return f"{what} should have shape {tuple(shape)}, found {tuple(found.shape)}."
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        return f"{what} holds nan or infinity."
    return None


def count_up(*shape: int) -> Tensor:
    """A tensor of the numbers 0, 1, 2, … in double precision: every entry tells where it came from."""
    size = 1
    for side in shape:
        size *= side
    return torch.arange(size, dtype=torch.float64).reshape(shape)
