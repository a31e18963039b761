"""Every exercise: the stub and typical wrong answers get a hint, the folded solution is right.

Answers lie in the folders ``wrong_answers`` and ``right_answers``, in files that begin with the
exercise's number, such as ``4_2.py`` or ``4_2_inverse.py``. A wrong one may name words of its hint
in ``HINT``.
"""

import re
import runpy
from pathlib import Path

import nbformat
import pytest
import torch

from mixer.lessons import exercises as checks
from mixer.lessons.exercises import check, compare

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def exercises():
    """(number, set-up code, stub cell, solution) of every exercise in the notebooks."""
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        tagged = [(tag, cell.source) for cell in cells for tag in cell.metadata.get("tags", [])]
        set_up = "\n".join(source for tag, source in tagged if tag == "setup")
        for tag, source in tagged:
            if tag.startswith("exercise-"):
                number = tag.removeprefix("exercise-")
                folded = (
                    rf"<summary>Solution {re.escape(number)}.*?</summary>\s*```python\n(.*?)```"
                )
                solution = re.search(folded, text, re.DOTALL)
                yield pytest.param(number, set_up, source, solution and solution[1], id=number)


EXERCISES = list(exercises())


def answer(number, set_up, code, capsys):
    """What the check prints of ``code``, in a namespace where only the set-up cell ran."""
    namespace = {}
    with torch.enable_grad():
        exec(compile(set_up, "set-up", "exec"), namespace)
        capsys.readouterr()
        exec(compile(code, f"exercise {number}", "exec"), namespace)
    return words(capsys)


def words(capsys):
    return " ".join(capsys.readouterr().out.split())


def answers(folder):
    return [pytest.param(path, id=path.stem) for path in sorted((HERE / folder).glob("*.py"))]


def said_to(path, capsys):
    """The exercise's number, what its check says to the last function of a file, and the file."""
    number, found = ".".join(path.stem.split("_")[:2]), runpy.run_path(str(path))
    own = [value for value in found.values() if getattr(value, "__module__", "") == "<run_path>"]
    check(number, own[-1])
    return number, words(capsys), found


def test_every_notebook_has_two_exercises_and_a_check_for_each():
    numbers = [param.values[0] for param in EXERCISES]
    assert sorted(numbers) == sorted(checks.EXERCISES)
    assert numbers == [f"{int(path.name[:2])}.{n}" for path in NOTEBOOKS for n in (1, 2)]


@pytest.mark.parametrize(("number", "set_up", "stub", "solution"), EXERCISES)
def test_stub_gets_a_hint_and_the_solution_is_right(number, set_up, stub, solution, capsys):
    assert f"Exercise {number}: not yet. Hint: nothing" in answer(number, set_up, stub, capsys)
    code = f"{solution}\n{stub.rstrip().splitlines()[-1]}"
    assert answer(number, set_up, code, capsys) == f"Exercise {number}: right."


def test_every_exercise_has_a_wrong_answer():
    found = {".".join(param.values[0].stem.split("_")[:2]) for param in answers("wrong_answers")}
    assert found == set(checks.EXERCISES)


@pytest.mark.parametrize("path", answers("wrong_answers"))
def test_a_typical_wrong_answer_gets_a_hint(path, capsys):
    number, said, found = said_to(path, capsys)
    assert f"Exercise {number}: not yet. Hint:" in said and found.get("HINT", "") in said
    assert "stopped with" not in said, "the hint should be about the answer, not an exception"


@pytest.mark.parametrize("path", answers("right_answers"))
def test_another_right_answer_is_right(path, capsys):
    number, said, _ = said_to(path, capsys)
    assert said == f"Exercise {number}: right."


def test_whatever_is_handed_over_gets_a_hint(capsys):
    def raising(*_):
        raise ZeroDivisionError("division by zero")

    for number, exercise in checks.EXERCISES.items():
        for found, hint in (
            (7, "hand over your function itself, without calling it; found 7."),
            (raising, "your answer stopped with ZeroDivisionError: division by zero"),
            (
                lambda *_: None,
                f"nothing came back. Replace the stub and return {exercise.returns}.",
            ),
            (lambda *_: ..., f"nothing came back. Replace the stub and return {exercise.returns}."),
        ):
            check(number, found)
            assert words(capsys) == f"Exercise {number}: not yet. Hint: {hint}"


def test_checks_leave_the_generator_as_it_was():
    for number in checks.EXERCISES:
        torch.manual_seed(7)
        check(number, lambda *_: [])
        found = torch.rand(3)
        torch.manual_seed(7)
        assert torch.equal(found, torch.rand(3)), number


def test_an_unknown_number_is_refused():
    with pytest.raises(ValueError, match=r"expected one of 1\.1"):
        check("9.9", None)


@pytest.mark.parametrize(
    ("mine", "same", "said"),
    [
        (torch.tensor([1.0, 2.0 + 1e-7]), True, "a: the same, shape (2,), no entry off by more"),
        (torch.tensor([1.0, 2.1]), False, "a: DIFFERENT, by up to 1.0e-01"),
        (torch.tensor([1.0, float("nan")]), False, "a: DIFFERENT, by up to nan"),
        (torch.tensor([[1.0, 2.0]]), False, "a: DIFFERENT SHAPES, (1, 2) against (2,)"),
    ],
)
def test_compare_says_whether_two_tensors_agree(mine, same, said, capsys):
    assert compare("a", mine, torch.tensor([1.0, 2.0])) is same
    assert words(capsys).startswith(said)
