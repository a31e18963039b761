"""Checks for the notebooks' exercises: each says "right" or gives a hint, never a traceback.

A notebook calls ``check("1.2", answer)``. A check is a function registered with
``@exercise("1.2", returns="the patches, a tensor")``; it takes the reader's function and returns
``None`` when it is right, else a hint, one or two sentences long.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Answer = Callable[..., Any]
Check = Callable[[Answer], str | None]


@dataclass(frozen=True)
class Exercise:
    """A check, and what the reader's function should return, in a few words."""

    check: Check
    returns: str


EXERCISES: dict[str, Exercise] = {}


class NothingCameBack(Exception):
    """The reader's function returned nothing yet."""


def exercise(number: str, *, returns: str) -> Callable[[Check], Check]:
    """Register the check of one exercise, such as ``"1.2"``: notebook 1, exercise 2."""

    def register(function: Check) -> Check:
        EXERCISES[number] = Exercise(function, returns)
        return function

    return register


def check(number: str, answer: object) -> None:
    """Print whether ``answer``, a function that the reader wrote, solves an exercise.

    Raises:
        ValueError: there is no exercise of that number.
    """
    if number not in EXERCISES:
        known = ", ".join(sorted(EXERCISES))
        raise ValueError(f"exercise: expected one of {known}, found {number!r}")
    hint = _hint(EXERCISES[number], answer)
    said = "right." if hint is None else f"not yet. Hint: {hint}"
    print(textwrap.fill(f"Exercise {number}: {said}", width=88))


def _hint(exercise: Exercise, answer: object) -> str | None:
    if not callable(answer):
        return f"hand over your function itself, without calling it; found {answer!r}."
    try:
        return exercise.check(_returning(answer))
    except NothingCameBack:
        return f"nothing came back. Replace the stub and return {exercise.returns}."
    # Whatever else the reader's code raises becomes a hint, too.
    except Exception as error:
        return f"your answer stopped with {type(error).__name__}: {error}"


def _returning(answer: Answer) -> Answer:
    """The reader's function, which raises ``NothingCameBack`` instead of returning nothing."""

    def asked(*args: Any) -> Any:
        found = answer(*args)
        if found is None or found is Ellipsis:
            raise NothingCameBack
        return found

    return asked


def compare(name: str, mine: Tensor, reference: Tensor, tolerance: float = 1e-6) -> bool:
    """Print whether two tensors agree: the same shape, and no entry further off than ``tolerance``.

    What it prints when they agree is the same on every machine.
    """
    if mine.shape != reference.shape:
        print(f"{name}: DIFFERENT SHAPES, {tuple(mine.shape)} against {tuple(reference.shape)}")
        return False
    difference = (mine - reference).abs().max().item() if mine.numel() else 0.0
    # Also true for nan.
    if not difference <= tolerance:
        print(f"{name}: DIFFERENT, by up to {difference:.1e}")
        return False
    print(f"{name}: the same, shape {tuple(mine.shape)}, no entry off by more than {tolerance:.0e}")
    return True


def wrong_tensor(found: object, shape: Sequence[int], what: str = "the result") -> str | None:
    """A hint if ``found`` is no tensor of this shape, else ``None``; for use in checks."""
    if not isinstance(found, Tensor):
        return f"{what} should be a tensor of shape {tuple(shape)}, found {type(found).__name__}."
    if tuple(found.shape) != tuple(shape):
        return f"{what} should have shape {tuple(shape)}, found {tuple(found.shape)}."
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        return f"{what} holds nan or infinity."
    return None


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-7) -> bool:
    """Whether no entry is further off than ``tolerance``, or than float32 rounds if it is that."""
    if found.dtype != expected.dtype:
        found, tolerance = found.to(expected.dtype), max(tolerance, 1e-5)
    return torch.allclose(found, expected, rtol=0, atol=tolerance)


def count_up(*shape: int) -> Tensor:
    """The numbers 0, 1, 2, … in double precision: every entry tells where it came from."""
    return torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
