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


def numbers(pattern, text):
    """Every number that a pattern finds, in order."""
    return [float(found.replace(",", "")) for found in re.findall(pattern, text)]


def test_what_notebook_1_says_of_filters_and_costs():
    _, printed = prose_and_outputs(FOLDER / "01_patch_embedding.ipynb")
    brightness, _, _, red_blue = numbers(r"in the sky, on average +([+-]\d+)", printed)
    assert brightness > 100 and red_blue < -10
    medians = numbers(r"median roughness (\d\.\d+)", printed)
    assert 0.85 < medians[0] < medians[1]
    smoother, every = re.findall(r"(\d+) of (\d+) learned filters are smoother", printed)[0]
    assert 0.08 < int(smoother) / int(every) < 0.12
    assert "less than token mixing for P = [14, 16, 28, 32, 56]" in printed
    mixing = number(r"token mixing +(\d\.\d+) billion", printed)
    assert number(r"matrices cost (\d\.\d) billion besides", printed) > mixing
    assert "in each row: [9, 9, 9, 9, 9, 9, 9, 9]" in printed and "matrix: 18" in printed


def test_what_notebook_2_says_of_reach_and_order():
    _, printed = prose_and_outputs(FOLDER / "02_token_and_channel_mixing.ipynb")
    assert numbers(r"(\d+) of 20 entries changed", printed) == [4, 5, 20, 4]
    assert "channel mixing then mean: the same for tokens in another order: True" in printed
    assert "token mixing   then mean: the same for tokens in another order: False" in printed
    assert "one token-mixing MLP     150,528 weights, with biases   151,108 para" in printed


def test_what_notebook_2_says_of_depth():
    _, printed = prose_and_outputs(FOLDER / "02_token_and_channel_mixing.ipynb")
    growth = r"from 4 to 24 blocks: table × (\S+), gradient × (\S+)"
    neither, skip, norm, both = [
        (float(table), float(gradient)) for table, gradient in re.findall(growth, printed)
    ]
    assert max(neither) < 1e-9 and min(skip) > 1000
    assert norm[0] < 2 and norm[1] > 10
    assert min(both) > 1.7 and max(both) < 2.5


def test_what_notebook_2_says_of_gelus_and_kernels():
    _, printed = prose_and_outputs(FOLDER / "02_token_and_channel_mixing.ipynb")
    rounding, gelu = numbers(r"logits change by (\S+),", printed)
    assert gelu > 1000 * rounding
    assert printed.count("the same classes win: True") == 2
    (times,) = numbers(r"features about ([\d,]+) times as much as the GELU", printed)
    assert times > 100
    learned, shuffled = numbers(r"correlation of neighbours (\S+)", printed)
    assert learned > 0.2 and abs(shuffled) < 0.1


def test_what_notebook_3_says_of_the_bugs():
    _, printed = prose_and_outputs(FOLDER / "03_the_mixer.ipynb")
    assert "found something: {'ours': 0, 'A': 1, 'B': 4, 'C': 1, 'D': 4, 'E': 4}" in printed
    found = re.findall(r"([ABCE]): +(\d+)% of the tiles change, logits off by (\S+)", printed)
    changed = {name: int(share) for name, share, _ in found}
    apart = {name: float(size) for name, _, size in found}
    assert changed["A"] == changed["C"] == 0 and 0 < changed["E"] < 10 and changed["B"] > 90
    assert max(apart["A"], apart["C"]) < 0.01 < apart["B"] < apart["E"] and 1.5 < apart["E"] < 2


def test_what_notebook_3_says_of_its_training():
    _, printed = prose_and_outputs(FOLDER / "03_the_mixer.ipynb")
    curve = numbers(r"test accuracy (0\.\d+)", printed)
    assert len(curve) == 10 and curve[0] > 0.2 and curve[-1] > 0.5
    assert abs(numbers(r"accuracy 0\.\d+, loss (\d\.\d+)", printed)[0] - 2.3026) < 1e-3
    colour = number(r"accuracy (0\.\d+) in colour", printed)
    assert 0.3 < number(r"in colour, (0\.\d+) in grey", printed) < colour - 0.1
    assert number(r"the package's own (0\.\d+)", printed) > colour


def test_what_notebook_3_says_of_shares():
    _, printed = prose_and_outputs(FOLDER / "03_the_mixer.ipynb")
    shares = re.findall(r"token mixing's share of the multiplications: (.*)", printed)[0].split()
    assert len(shares) == 5 and set(shares[1:]) <= {"10%", "11%"}


def test_what_notebook_3_says_of_mistakes():
    _, printed = prose_and_outputs(FOLDER / "03_the_mixer.ipynb")
    for group in ("animals", "vehicles"):
        stayed = number(rf"{group}: (\d+%) of the mistakes stay", printed)
        assert stayed > 0.1 + number(rf"{group}: .*, (\d+%) if all were alike", printed)
    (said,) = re.findall(r"said: (.*)", printed)
    assert said.split(", ").count("ship") == 5
    crossing = numbers(r"(\d+)% of \w+ taken for", printed.split("that do not stay:")[1])
    # Of about 200 images of a class.
    assert len(crossing) == 4 and 5 <= min(crossing) <= max(crossing) <= 10


def test_what_notebook_4_says_of_mistakes():
    _, printed = prose_and_outputs(FOLDER / "04_official_checkpoints.ipynb")
    rungs = re.findall(r"block 1 (\S+), block 8 (\S+), logits (\S+)", printed)
    ours, epsilon, gelu, both = [tuple(map(float, errors)) for errors in rungs]
    assert gelu[1] > 2 * gelu[0] and epsilon[1] == epsilon[0] > gelu[0] > 10 * ours[0]
    assert gelu[1] > epsilon[1] and gelu[2] > epsilon[2]
    assert all(b > max(a) for a, b in zip(zip(gelu, epsilon, strict=True), both, strict=True))
    mistakes = numbers(r"relative error of the logits (\S+)", printed)
    assert len(mistakes) == 3 and 0.5 < min(mistakes) < max(mistakes) < 2


def test_what_notebook_4_says_of_the_photographs():
    prose, printed = prose_and_outputs(FOLDER / "04_official_checkpoints.ipynb")
    (likeliest,) = re.findall(r"likeliest: (.*)", printed)
    cat, coffee, flower, rocket = likeliest.split(", ")
    text = " ".join(prose.split())
    assert f"gets the coffee right (*{coffee}*)" in text
    assert f"The rocket is an *{rocket}*" in text
    assert f"becomes a *{flower}*" in text and f"the cat is a *{cat}*" in text
