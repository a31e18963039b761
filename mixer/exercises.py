"""Checks for the notebooks' exercises: each says "right", or gives a hint; none ends in a traceback.

A notebook calls ``check("1.2", answer)``. A check is a function registered with ``@exercise("1.2")``;
it takes the answer and returns ``None`` when it is right, else a hint, one or two sentences long.
"""

from collections.abc import Callable

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
    print(f"Exercise {number}: right." if hint is None else f"Exercise {number}: not yet. Hint: {hint}")
