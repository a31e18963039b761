"""Checks for the notebooks' exercises, a file for each notebook: ``check("1.2", answer)``."""

from mixer.lessons.exercises import ch1, ch2, ch3, ch4, ch5, ch6, ch7  # noqa: F401  (each registers its checks)
from mixer.lessons.exercises.checking import EXERCISES, check, compare, exercise, wrong_tensor

__all__ = ["EXERCISES", "check", "compare", "exercise", "wrong_tensor"]
