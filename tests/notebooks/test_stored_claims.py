"""What notebooks 1 to 4 say in words, against the outputs stored beside the words.

Cells assert what holds in every run; these tests hold what the text says of the stored one, so that
storing a run with other numbers fails here until the text is read again.
"""

import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
PATHS = sorted(FOLDER.glob("0[1-4]_*.ipynb"))
NAMES = [path.stem for path in PATHS]


def prose_and_outputs(path):
    """(all markdown, all that was printed or told of a figure) of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    told = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs]
    return prose, "\n".join(told)


def number(pattern, text):
    """The only number that a pattern finds, as printed: 0.55 or 55%."""
    (found,) = re.findall(pattern, text)
    return float(found.removesuffix("%")) / (100 if found.endswith("%") else 1)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_people_count_from_one(path):
    for text in prose_and_outputs(path):
        assert not re.findall(
            r"\b(?:blocks?|tokens?|rows?|columns?|patch(?:es)?|channel) 0\b", text
        )


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_one_spelling_of_the_small_model(path):
    text = "\n".join(prose_and_outputs(path))
    assert set(re.findall(r"Mixer.Nano.?\d", text)) <= {"Mixer-Nano_4"}


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_times_are_measured(path):
    prose, _ = prose_and_outputs(path)
    assert re.search(r"<!-- time[^>]*-->[^<]+<!-- /time -->", prose)
    by_hand = re.sub(r"<!-- time[^>]*-->[^<]+<!-- /time -->", "", prose)
    # How long it takes to read is a guess, and says so.
    said = set(re.findall(r"\d+ (?:seconds|minutes)[\w ]*", by_hand))
    assert all(time.endswith("minutes to read") for time in said)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_cells_are_short(path):
    for cell in nbformat.read(path, as_version=4).cells:
        lines = cell.source.splitlines()
        assert cell.cell_type != "code" or len(lines) <= 15, cell.source
        # A link cannot be broken.
        assert not [line for line in lines if len(line) > 100 and "http" not in line]


def test_what_notebook_3_says_of_its_training():
    prose, printed = prose_and_outputs(FOLDER / "03_the_mixer.ipynb")
    curve = [float(value) for value in re.findall(r"test accuracy (0\.\d+)", printed)]
    assert curve[0] < 0.2 and curve[-1] > 0.5 and len(curve) == 10
    assert "starts near guessing" in " ".join(prose.split())

    colour = number(r"accuracy (0\.\d+) in colour", printed)
    grey = number(r"in colour, (0\.\d+) in grey", printed)
    assert 0.2 < grey < colour - 0.05

    for group in ("animals", "vehicles"):
        stayed = number(rf"{group}: (\d+%) of the mistakes stay", printed)
        assert stayed > 0.1 + number(rf"{group}: .*, (\d+%) if all were alike", printed)
    assert number(r"the package's own (0\.\d+)", printed) > colour


def test_what_notebook_3_says_of_single_confusions():
    prose, printed = prose_and_outputs(FOLDER / "03_the_mixer.ipynb")
    pairs = set(re.findall(r"% of (\w+) taken for (\w+)", printed))
    said = set(re.findall(r"\*(\w+)\* → \*(\w+)\*", prose))
    assert said and said <= pairs


def test_what_notebook_4_says_of_the_photographs():
    prose, printed = prose_and_outputs(FOLDER / "04_official_checkpoints.ipynb")
    (likeliest,) = re.findall(r"likeliest: (.*)", printed)
    cat, coffee, flower, rocket = likeliest.split(", ")
    text = " ".join(prose.split())
    assert f"gets the coffee right (*{coffee}*)" in text
    assert f"The rocket is an *{rocket}*" in text
    assert f"becomes an *{flower}*" in text and f"the cat is a *{cat}*" in text
