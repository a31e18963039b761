"""Every exercise: the stub and a typical wrong answer get a hint, the folded solution is right."""

import math
import re
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F

from mixer.lessons import exercises as checks
from mixer.lessons.exercises import check

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SET_UP = {"setup"}


def exercises():
    """(number, set-up code, stub cell, solution) of every exercise in the notebooks."""
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        set_up = "\n".join(
            cell.source for cell in notebook.cells if SET_UP & set(cell.metadata.get("tags", []))
        )
        for cell in notebook.cells:
            for tag in cell.metadata.get("tags", []):
                if tag.startswith("exercise-"):
                    number = tag.removeprefix("exercise-")
                    summary = rf"<summary>Solution {re.escape(number)}.*?</summary>"
                    code = r"```python\n(.*?)```"
                    pattern = rf"{summary}\s*{code}\s*</details>"
                    solution = re.search(pattern, text, re.DOTALL)
                    yield pytest.param(set_up, cell.source, solution and solution[1], id=number)


EXERCISES = list(exercises())


def answer(number, set_up, code, monkeypatch, capsys):
    """What the check prints of ``code``, in a namespace where only the set-up cell ran."""
    monkeypatch.chdir(ROOT / "notebooks")
    namespace = {}
    # A notebook may turn gradients off for itself; this brings them back
    with torch.enable_grad():
        exec(compile(set_up, "set-up", "exec"), namespace)
        capsys.readouterr()
        exec(compile(code, f"exercise {number}", "exec"), namespace)
    return capsys.readouterr().out


def checking_line(stub):
    return stub.rstrip().splitlines()[-1]


def test_every_check_belongs_to_an_exercise():
    assert {param.id for param in EXERCISES} == set(checks.EXERCISES)


def test_every_notebook_has_two_exercises_or_more():
    counts = [
        sum(param.id.startswith(f"{int(path.name[:2])}.") for param in EXERCISES)
        for path in NOTEBOOKS
    ]
    assert min(counts) >= 2


@pytest.mark.parametrize(("set_up", "stub", "solution"), EXERCISES)
def test_stub_gets_a_hint(set_up, stub, solution, request, monkeypatch, capsys):
    number = request.node.callspec.id
    assert f'check("{number}"' in checking_line(stub)
    assert "not yet. Hint:" in answer(number, set_up, stub, monkeypatch, capsys)


@pytest.mark.parametrize(("set_up", "stub", "solution"), EXERCISES)
def test_solution_is_right(set_up, stub, solution, request, monkeypatch, capsys):
    number = request.node.callspec.id
    assert solution, "no folded solution"
    said = answer(number, set_up, f"{solution}\n{checking_line(stub)}", monkeypatch, capsys)
    assert f"Exercise {number}: right." in said


@pytest.mark.parametrize(("set_up", "stub", "solution"), EXERCISES)
def test_typical_wrong_answer_gets_a_hint(set_up, stub, solution, request, monkeypatch, capsys):
    number = request.node.callspec.id
    wrong = ROOT / "tests" / "lessons" / "wrong_answers" / f"{number.replace('.', '_')}.py"
    code = wrong.read_text(encoding="utf-8")
    said = answer(number, set_up, f"{code}\n{checking_line(stub)}", monkeypatch, capsys)
    assert "not yet. Hint:" in said
    assert "stopped with" not in said, "the hint should be about the answer, not about an exception"


def tile_by_tile(rows, columns, factor):
    tokens = torch.arange(rows * columns * factor**2).view(factor, rows, factor, columns)
    return tokens.permute(0, 2, 1, 3).reshape(-1).tolist()


def wave_at(place, grid):
    return divmod(int(place), grid.shape[1])


def wave_that_takes_half_off(grid):
    pairs = zip(wave_at(torch.fft.fft2(grid).abs().argmax(), grid), grid.shape, strict=True)
    return tuple(at if at <= side // 2 else at - side // 2 for at, side in pairs)


def wave_of_the_real_part(grid):
    pairs = zip(wave_at(torch.fft.fft2(grid).real.argmax(), grid), grid.shape, strict=True)
    return tuple(min(at, side - at) for at, side in pairs)


def over_the_tokens(x, scale, bias):
    deviation = (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    return (x - x.mean(1, keepdim=True)) / deviation * scale + bias


def clipped_by_a_plain_division(gradients, max_norm):
    length = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    return [gradient * min(1.0, max_norm / length) for gradient in gradients]


@pytest.mark.parametrize(
    ("number", "wrong", "hint"),
    [
        ("2.2", lambda x, s, b: F.layer_norm(x, (6,), s, b, eps=1e-5), "Add 1e-6"),
        ("2.2", lambda x, s, b: F.layer_norm(x, (6,), s, b, eps=0.0), "Add 1e-6"),
        (
            "2.2",
            lambda x, s, b: F.layer_norm(x, (6,), s, b, eps=1e-6).float(),
            "should be the result",
        ),
        ("2.2", over_the_tokens, "the columns have been normalised"),
        ("4.3", lambda arrays, shapes: set(shapes) ^ set(arrays), "a list is wanted, found set"),
        ("4.2", tile_by_tile, "the inverse of what is asked"),
        ("5.2", clipped_by_a_plain_division, "division by zero"),
        ("6.1", wave_that_takes_half_off, "torch.fft.fft2"),
        ("6.1", wave_of_the_real_part, "torch.fft.fft2"),
    ],
)
def test_answers_that_were_taken_for_right(number, wrong, hint, capsys):
    check(number, wrong)
    said = " ".join(capsys.readouterr().out.split())
    assert f"Exercise {number}: not yet." in said and hint in said


def mixed_in_floats(x, w1, b1, w2, b2):
    inner = math.sqrt(2 / math.pi)
    hidden = x.transpose(1, 2) @ w1.T + b1
    hidden = hidden / 2 * (1 + torch.tanh(inner * (hidden + 0.044715 * hidden**3)))
    return (hidden @ w2.T + b2).transpose(1, 2).float()


def mixed_with_eight_digits(x, w1, b1, w2, b2):
    hidden = x.transpose(1, 2) @ w1.T + b1
    hidden = hidden / 2 * (1 + torch.tanh(0.79788456 * (hidden + 0.044715 * hidden**3)))
    return (hidden @ w2.T + b2).transpose(1, 2)


def clipped_in_doubles(gradients, max_norm):
    length = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    factor = min(1.0, max_norm / length) if length else 1.0
    return [gradient.double() * factor for gradient in gradients]


@pytest.mark.parametrize(
    ("number", "right"),
    [
        ("2.1", mixed_in_floats),
        ("2.1", mixed_with_eight_digits),
        ("5.2", clipped_in_doubles),
    ],
)
def test_answers_that_were_taken_for_wrong(number, right, capsys):
    check(number, right)
    assert f"Exercise {number}: right" in " ".join(capsys.readouterr().out.split())


def test_checks_leave_the_generator_as_it_was(capsys):
    for number in checks.EXERCISES:
        torch.manual_seed(7)
        check(number, lambda *_: [])
        found = torch.rand(3)
        torch.manual_seed(7)
        assert torch.equal(found, torch.rand(3)), number


def test_what_an_answer_raises_becomes_a_hint(capsys):
    def raising(*_):
        raise ZeroDivisionError("division by zero")

    for number in checks.EXERCISES:
        check(number, raising)
        assert f"Exercise {number}: not yet. Hint:" in capsys.readouterr().out


def test_an_unknown_number_is_refused():
    with pytest.raises(ValueError, match=r"expected one of 1\.1"):
        check("9.9", None)


@pytest.mark.parametrize("nothing", [None, ...])
def test_a_function_that_returns_nothing_is_told_what_to_return(nothing, capsys):
    for number, exercise in checks.EXERCISES.items():
        check(number, lambda *_: nothing)
        said = " ".join(capsys.readouterr().out.split())
        assert said == (
            f"Exercise {number}: not yet. Hint: nothing came back. "
            f"Replace the stub and return {exercise.returns}."
        )


def test_what_is_no_function_gets_a_hint(capsys):
    for number in checks.EXERCISES:
        check(number, 7)
        assert "hand over your function itself" in " ".join(capsys.readouterr().out.split())
