"""What notebooks 5 to 7 say in words, against the outputs stored beside the words.

As for notebooks 1 to 4: storing a run with other numbers fails here until the text is read again.
"""

import re

import nbformat
import pytest
from test_stored_claims import FOLDER, number, prose_and_outputs

from mixer.lessons.evidence import results

PATHS = sorted(FOLDER.glob("0[5-7]_*.ipynb"))
NAMES = [path.stem for path in PATHS]


def printed_by(name):
    (path,) = FOLDER.glob(f"{name}_*.ipynb")
    return prose_and_outputs(path)[1]


def shares(pattern, text):
    """What a pattern finds, percents as shares."""
    return [float(found) / 100 for found in re.findall(pattern, text)]


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_people_count_from_one(path):
    for text in prose_and_outputs(path):
        assert not re.findall(r"\b(?:blocks?|tokens?|rows?|columns?|patch(?:es)?|unit) 0\b", text)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_cells_are_short_and_lines_fit(path):
    for cell in nbformat.read(path, as_version=4).cells:
        lines = cell.source.splitlines()
        assert max(map(len, lines), default=0) <= 100
        assert cell.cell_type != "code" or len(lines) <= 15, lines[0]


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_one_spelling_and_times(path):
    prose, told = prose_and_outputs(path)
    assert set(re.findall(r"Mixer.Nano.?\d", prose + told)) <= {"Mixer-Nano_4"}
    assert re.search(r"<!-- time[^>]*-->[^<]+<!-- /time -->", prose)


def test_a_twin_is_a_phase_twin():
    """Notebook 6's word has no second meaning in notebook 7."""
    prose, told = prose_and_outputs(PATHS[2])
    assert "twin" not in (prose + told).lower()


def test_notebook_6_has_at_most_twelve_figures():
    cells = nbformat.read(PATHS[1], as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) <= 12


def test_what_notebook_5_says_of_its_run():
    told = printed_by("05")
    curve = [float(found) for found in re.findall(r"test accuracy (0\.\d+)", told)]
    # Most of the way is made in the first fifth
    assert len(curve) == 5 and curve[0] - 0.1 > 0.5 * (curve[-1] - 0.1)
    (whole,) = shares(r"Mixer-Nano_4: ([\d.]+)% of 10,000", told)[:1]
    (less,) = shares(r"([\d.]+)% of the first 9,728", told)
    (error, _) = shares(r"images: ([\d.]+) points", told)
    assert abs(whole - less) < error
    assert "stem 0.000" in told
    ends = re.search(r"pre-trained (\d+)%, from scratch (\d+)%", told)
    assert int(ends[1]) > int(ends[2]) + 6


def test_what_notebook_5_says_of_labels_and_steps():
    told = printed_by("05")
    found = re.findall(r"(pre-trained|from scratch) +[\d,]+ labels: ([\d.]+)% \((\S+)%", told)
    means = {start: [float(mean) for s, mean, _ in found if s == start] for start, *_ in found}
    assert all(len(row) == 3 for row in means.values())
    # Nearly flat, both of them
    assert means["from scratch"][0] > 0.9 * means["from scratch"][2]
    assert means["pre-trained"][0] > 0.85 * means["pre-trained"][2]
    assert "first test above the line: none" in told
    rows = re.findall(
        r"([\w -]+?) *: +([\d,]+) steps, ([\d.]+) million images, .*?([\d.]+)% of", told
    )
    steps = {name: int(count.replace(",", "")) for name, count, *_ in rows}
    images = {name: float(count) for name, _, count, _ in rows}
    right = {name: float(share) for name, *_, share in rows}
    assert steps["fine-tuning"] * 4 == steps["from scratch"]
    assert 4.5 < images["pre-training"] / images["from scratch"] < 5.5
    saved = images["from scratch"] - images["fine-tuning"]
    assert 6 < images["pre-training"] / saved < 7
    assert 1 < right["fine-tuning"] - right["from scratch"] < 1.5


def test_what_notebook_5_says_of_classes_and_of_the_table():
    told = printed_by("05")
    pairs = re.findall(r"\w+ +(\d+)% in section 5, +(\d+)% here", told)
    gains = [int(after) - int(before) for before, after in pairs]
    assert len(gains) == 10 and min(gains) > 0
    last = {
        name: int(after)
        for name, _, after in re.findall(r"(\w+) +(\d+)% in section 5, +(\d+)% here", told)
    }
    assert min(last, key=last.get) == "cat"
    rows = re.findall(r"Mixer-Nano_4 +nano-finetune-cpu, \S+ +(?:mirrored +)?1,950 .*", told)
    assert len(rows) == 3
    ends = re.search(r"the ends: ([\d.]+%(?:, )?)+\n", told)
    assert ends is not None and len(results("cifar10")["runs"]) == ends[0].count("%") == 1
    before, last = results("cifar10")["runs"][0]["curve"]["test_accuracy"][-2:]
    assert abs(last - before) < 0.002


def test_what_notebook_6_says_of_neighbours_and_of_the_start():
    told = printed_by("06")
    rows = re.findall(r"(trained|another network), blocks 1 to 8: (.*)", told)
    agreement, other = ([float(found) for found in row.split()] for _, row in rows)
    assert 0.455 < min(agreement[:3]) < max(agreement[:3]) < 0.505
    assert max(agreement[3], agreement[7]) < 0.1
    assert other[0] < 0.02 < min(other[1:])
    assert all(0.13 < other[block] / agreement[block] < 0.2 for block in (1, 2))
    assert all(other[block] > agreement[block] - 0.02 for block in (3, 7))
    assert all(other[block] < agreement[block] for block in (0, 1, 2, 4, 5, 6))
    own = [float(found) for found in re.findall(r"its own start +(\S+), to", told)]
    other = [float(found) for found in re.findall(r"to another +(\S+)", told)]
    assert len(own) == len(other) == 8
    assert max(own) ** 2 < 0.02 and max(map(abs, other)) < 0.05
    assert number(r"([\d.]+%) of the start is left", told) < 0.01


def test_what_notebook_6_says_of_units():
    told = printed_by("06")
    sums = shares(r"mean, +(\d+)% of the units have most", told)
    assert 0.2 < sums[3] < 0.3 and max(sums[:3] + sums[4:]) < 0.05
    local = shares(r"block \d: +(\d+)% of the units are more local", told)
    smooth = shares(r"than chance, +(\d+)% smoother", told)
    assert min(local[:3]) > 0.2 and 0.55 < max(local[:3]) < 0.65 and max(local[3:]) < 0.1
    most = [block for block, share in enumerate(smooth, start=1) if share > 0.5]
    assert most == [1, 2, 3, 5, 6, 7] and min(smooth) > 0.2
    most_local, spread = (found.split(", ") for found in re.findall(r"from blocks (.*)", told))
    assert set(most_local) <= set("123") and most_local.count("1") == 10
    assert len(set(spread)) > 3


def test_what_notebook_6_says_of_twins():
    told = printed_by("06")
    rows = re.findall(r"(opposite|alike)(, random phases|) +((?: *\d+%){8})", told)
    twins = {kind + more: [int(n) for n in re.findall(r"\d+", row)] for kind, more, row in rows}
    opposite, alike = twins["opposite"], twins["alike"]
    by_phases, alike_by_phases = twins["opposite, random phases"], twins["alike, random phases"]
    assert 30 < opposite[0] > 2 * by_phases[0] and opposite[0] > 1.7 * alike[0]
    assert max(opposite[1], alike[1]) < 10
    assert opposite[2] < by_phases[2] and alike[2] > 2 * alike_by_phases[2]
    assert max(by_phases[3:] + alike_by_phases[3:]) == 0
    assert all(a > b > 20 for a, b in zip(alike[3:], opposite[3:], strict=True))


def test_what_notebook_6_says_of_influence():
    told = printed_by("06")
    own = {
        name: [int(share) for share in row.split("% ")]
        for name, row in re.findall(r"(\S[\w ]*\S) +own patch .*8: (.*)%", told)
    }
    assert own["trained"][0] > 90 > 50 > own["at the start"][0]
    for seed in (1, 2, 3):
        pairs = zip(own["trained"][1:], own[f"shuffled {seed}"][1:], strict=True)
        assert all(trained < shuffled for trained, shuffled in pairs)
    away = {
        name: [float(patches) for patches in row.split()]
        for name, row in re.findall(r"(trained|shuffled 1) +after blocks 1 to 8: (.*)", told)
    }
    assert away["trained"] == sorted(away["trained"]) and away["trained"][0] < 3.3
    assert min(away["shuffled 1"]) >= 4.5 and away["trained"][7] < min(away["shuffled 1"])
    added = re.findall(r"token mixing adds +(\d+)%, channel mixing +(\d+)%", told)
    larger = [int(tokens) > int(channels) for tokens, channels in added]
    assert larger == [True, False, *[True] * 6]
    assert all(int(tokens) > 2 * int(channels) for tokens, channels in added[2:])
    sizes = re.search(r"'token_mixing': (\d+), 'channel_mixing': (\d+)", told)
    assert int(sizes[2]) // int(sizes[1]) in (15, 16)


def test_what_notebook_6_says_of_fine_tuning():
    told = printed_by("06")
    pair = r"([\d.]+)%, (\d+)%"
    moves = re.findall(rf"token mixing {pair}; channel mixing {pair}", told)
    assert len(moves) == 8
    short, long = ([float(row[at]) for row in moves for at in (k, k + 2)] for k in (0, 1))
    assert max(short) < 5 < 50 < min(long)
    stem = re.search(rf"stem: +{pair}", told)
    assert stem is not None and float(stem[1]) > max(short) and float(stem[2]) < min(long)
    by_kind = [[float(row[at]) for row in moves] for at in range(4)]
    assert all(a >= b for a, b in zip(by_kind[0], by_kind[2], strict=True))
    assert all(a < b for a, b in zip(by_kind[1], by_kind[3], strict=True))


def test_what_notebook_6_says_of_optimisers():
    told = printed_by("06")
    rows = re.findall(r"(\S.*\S) +waves of 1 to 4 cycles: (.*)", told)
    waves = {name: [float(energy) for energy in row.split()] for name, row in rows}
    coarse_to_fine = [row[0] / row[3] for row in waves.values()]
    assert coarse_to_fine == sorted(coarse_to_fine, reverse=True) and len(waves) == 4
    assert coarse_to_fine[0] > 4 and coarse_to_fine[2] < 2
    assert abs(waves["random start"][0] - 1) < 0.15


def test_what_notebook_7_says_of_shuffles():
    told = printed_by("07")
    patches, pixels = (
        number(rf"\n{kind} +([\d.]+%)\n", told)
        for kind in ("patches and pixels inside", "all pixels")
    )
    assert patches > 0.15 > pixels
    ends = {
        (name, shuffle): float(share)
        for name, shuffle, share in re.findall(
            r"(Mixer|convolutional network) +(original|patches and pixels inside|all pixels) +"
            r"([\d.]+)% \(",
            told,
        )
    }
    lead = {
        shuffle: ends["convolutional network", shuffle] - ends["Mixer", shuffle]
        for shuffle in ("original", "patches and pixels inside", "all pixels")
    }
    assert lead["original"] > 10 and lead["patches and pixels inside"] < 0
    assert 0 < lead["all pixels"] < 2


def test_what_notebook_7_says_of_a_shift():
    told = printed_by("07")
    kept = re.findall(r"moved by 2: [\d.]+% right, ([\d.]+)% of the answers", told)
    small, convolutional, nano = map(float, kept)
    assert small < nano < convolutional


def test_what_notebook_7_says_of_the_zeros():
    told = printed_by("07")
    pattern = r"(all weights|zeros kept) +(.*) after \d+ .*, (\S+)% before"
    found = re.findall(pattern, told)
    ends = {name: [float(end) for end in re.findall(r"([\d.]+)%", row)] for name, row, _ in found}
    assert all(len(row) == 3 for row in ends.values())
    behind = [free - kept for free, kept in zip(*ends.values(), strict=True)]
    assert min(ends["all weights"]) > max(ends["zeros kept"]) and 2 < sum(behind) / 3 < 4.5
    # The smaller part of what was brought back
    before = float(found[0][2])
    assert min(ends["zeros kept"]) - before > 0.85 * (min(ends["all weights"]) - before)
