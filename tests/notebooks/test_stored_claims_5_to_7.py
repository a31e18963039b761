"""What notebooks 5 to 7 say in words, against the outputs stored beside the words.

As for notebooks 1 to 4: storing a run with other numbers fails here until the text is read again.
"""

import json
import math
import re

import nbformat
import pytest
import torch
from test_stored_claims import FOLDER, number, prose_and_outputs

from mixer.checkpoint import bundled, from_npz
from mixer.lessons.analysis import neighbours_agree, shuffle_units, token_mixing_units
from mixer.lessons.evidence import results
from mixer.train import RECIPES

PATHS = sorted(FOLDER.glob("0[5-7]_*.ipynb"))
NAMES = [path.stem for path in PATHS]


def printed_by(name):
    (path,) = FOLDER.glob(f"{name}_*.ipynb")
    return prose_and_outputs(path)[1]


def record_of(name):
    return json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))


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
    losses = [float(found) for found in re.findall(r"step \d+: loss (\d\.\d+)", told)]
    start = math.log(10)
    assert 0.4 < (start - losses[0]) / (start - losses[-1]) < 0.6
    # The last ones differ by what chance makes
    assert max(curve[-3:]) - min(curve[-3:]) < 2 * 0.014
    (whole,) = shares(r"Mixer-Nano_4: ([\d.]+)% of 10,000", told)[:1]
    (less,) = shares(r"([\d.]+)% of the first 9,728", told)
    (error, _) = shares(r"images: ([\d.]+) points", told)
    assert abs(whole - less) < error
    assert "stem 0.000" in told
    ends = re.search(r"pre-trained (\d+)%, from scratch (\d+)%", told)
    assert int(ends[1]) > int(ends[2]) + 6


def test_what_notebook_5_says_of_labels_and_steps():
    told = printed_by("05")
    row = r"([a-z][a-z, -]*?) +([\d,]+) labels: ([\d.]+)% \(([\d.]+)% to ([\d.]+)%"
    found = re.findall(row, told)
    means = {(start, size): float(mean) for start, size, mean, *_ in found}
    assert len(means) == 6 and all(float(high) - float(low) < 3 for *_, low, high in found)
    assert 4 < means["pre-trained", "500"] - means["from scratch", "5,000"] < 6
    lead = [means["pre-trained", n] - means["from scratch", n] for n in ("500", "5,000")]
    assert [round(points) for points in lead] == [31, 14]
    as_long = [means["pre-trained, as long", n] - means["pre-trained", n] for n in ("500", "5,000")]
    assert [round(points) for points in as_long] == [-6, -4]
    made = re.findall(r"5[\d,]+  ([a-z, -]+?) +([\d,]+) +0\.\d+ .* ([\d.]+)\n", told)
    wanted = [int(steps.replace(",", "")) for _, steps, _ in made]
    assert [start for start, *_ in made] == 2 * [start for start, _ in list(means)[::2]]
    assert [wanted[at + 1] / wanted[at] for at in (0, 3)] == [5, 20]
    losses = [float(loss) for *_, loss in made]
    assert losses[5] < losses[3] / 2 and abs(losses[5] - losses[4]) < 0.02
    assert 0.8 * losses[0] < losses[2] < losses[0]
    # Smoothed labels leave so much
    for base in ("nano-finetune-cpu", "nano-scratch-cpu"):
        assert RECIPES[base].label_smoothing == 0.05
    floor = -(0.955 * math.log(0.955) + 9 * 0.005 * math.log(0.005))
    assert f"{floor:.2f}" == "0.28" and all(abs(loss - floor) < 0.015 for loss in losses[4:])
    fewest = {}
    for run in results("transfer_tuning")["runs"]:
        key = run["start"], run["fraction"]
        fewest[key] = min(run["num_steps"], fewest.get(key, 9999))
    assert sorted(fewest.values()) == [50, 100, 250, 500]
    assert [wanted[at] for at in (0, 1, 3)] == [50, 250, 100] and wanted[4] == 2000
    photographed = record_of("Mixer-Nano_4")["classes"]
    kinds = ("cat", "retriever", "frog", "goose", "sports car")
    assert all(any(kind in name for name in photographed) for kind in kinds)
    tried = [run for run in results("transfer_tuning")["runs"] if run["fraction"] == 0.1]
    doubled = {r["num_steps"]: r["accuracy"] for r in tried if r["start"] == "from scratch"}
    assert max(doubled) == max(wanted) == 2000 and round(100 * (doubled[2000] - doubled[1000])) == 2
    above = re.search(r"first test above the line: step ([\d,]+)\n", told)
    assert above is not None
    rows = re.findall(
        r"([\w -]+?) *: +([\d,]+) steps, ([\d.]+) million images, .*?([\d.]+)% of", told
    )
    steps = {name: int(count.replace(",", "")) for name, count, *_ in rows}
    images = {name: float(count) for name, _, count, _ in rows}
    right = {name: float(share) for name, *_, share in rows}
    crossing = int(above[1].replace(",", ""))
    assert crossing == 3 * steps["fine-tuning"]
    assert 0.15 < steps["fine-tuning"] / steps["from scratch"] < 0.17
    assert 0.85 < images["pre-training"] / images["from scratch"] < 0.9
    paid = images["pre-training"] + images["fine-tuning"]
    assert 1 < paid / images["from scratch"] < 1.05
    assert 1.9 < right["from scratch"] - right["fine-tuning"] < 2.1
    fine, scratch = (record_of(f"Mixer-Nano_4-cifar10{end}")["curve"] for end in ("", "-scratch"))
    assert fine["eval_steps"][0] == 196
    assert scratch["test_accuracy"][0] < fine["test_accuracy"][0] < scratch["test_accuracy"][1]
    assert scratch["eval_steps"][1] == 10 * 196


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
    rows = re.findall(r"Mixer-Nano_4 +nano-finetune-gpu, \S+ +(?:mirrored +)?1,960 .*", told)
    assert len(rows) == 3 and not re.search(r"mirrored\d", told)
    ends = re.search(r"the ends: ([\d.]+%(?:, )?)+\n", told)
    assert ends is not None and len(results("cifar10")["runs"]) == ends[0].count("%") == 2
    one, other = (run["curve"]["test_accuracy"] for run in results("cifar10")["runs"])
    assert all(abs(last - before) < 0.002 for before, last in (one[-2:], other[-2:]))
    assert 0.0005 < abs(one[-1] - other[-1]) < 0.0015


def test_what_notebook_6_says_of_neighbours_and_of_the_start():
    told = printed_by("06")
    rows = re.findall(r"(trained|another network), blocks 1 to 8: (.*)", told)
    agreement, other = ([float(found) for found in row.split()] for _, row in rows)
    assert (agreement[1], agreement[3], agreement[5]) == (0.33, 0.28, 0.06)
    assert min(agreement) == agreement[5] and sorted(agreement)[-2:] == [0.28, 0.33]
    assert max(other) == other[1] == 0.24 and all(other[block] < 0.02 for block in (2, 3, 6, 7))
    assert max(other[block] for block in (0, 4, 5)) < -0.05
    network = from_npz(bundled("Mixer-Nano_4-cifar10-scratch"))
    chance = [
        float(neighbours_agree(shuffle_units(token_mixing_units(network, block), seed)).mean())
        for block in range(8)
        for seed in range(20)
    ]
    assert f"{min(chance):.2f} {max(chance):.2f}" == "-0.06 0.01"
    own = [float(found) for found in re.findall(r"its own start +(\S+),", told)]
    by_decay = [float(found) for found in re.findall(r"(\S+) by what decay left", told)]
    other = [float(found) for found in re.findall(r"to another +(\S+)", told)]
    assert len(own) == len(other) == len(by_decay) == 8
    assert 0.015 < min(own) ** 2 < max(own) ** 2 < 0.095 and max(map(abs, other)) < 0.05
    assert max(by_decay) < min(own) / 3


def test_what_notebook_6_says_of_units():
    told = printed_by("06")
    medians = shares(r"median +([\d.]+)% of the energy in the mean", told)
    draws = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))
    chance = float((draws.mean(1) ** 2 * 64 / draws.square().sum(1)).median())
    assert f"{chance:.1%}" == "0.7%" and medians[0] == 0.004 < chance < 0.016 == min(medians[1:])
    sums = shares(r"mean, +(\d+)% of the units have most", told)
    assert 0.3 < sums[4] < 0.4 and max(sums[:4] + sums[5:]) < 0.05
    local = shares(r"block \d: +(\d+)% of the units are more local", told)
    smooth = shares(r"wider, +(\d+)% are smoother", told)
    assert min(local[:3]) > 0.25 and 0.55 < max(local[:3]) < 0.65 and max(local[3:]) <= 0.05
    wide = shares(r"than chance, +(\d+)% spread wider", told)
    assert 0.22 < wide[1] < 0.28 and all(0.19 < share < 0.5 for share in wide[3:])
    assert 0.15 < min(smooth) == smooth[7] < 0.18 and 0.66 < max(smooth) == smooth[6] < 0.75
    most_local, spread = (found.split(", ") for found in re.findall(r"from blocks (.*)", told))
    assert most_local == ["1"] * 8 + ["2"] * 3 + ["3"]
    assert len(set(spread)) == 6


def test_what_notebook_6_says_of_twins():
    told = printed_by("06")
    rows = re.findall(r"(opposite|alike|random phases|units mixed) +((?: *\d+%){8})", told)
    twins = {kind: [int(n) for n in re.findall(r"\d+", row)] for kind, row in rows}
    opposite, alike = twins["opposite"], twins["alike"]
    by_phases, mixed = twins["random phases"], twins["units mixed"]
    assert all(15 < found < 21 for found in opposite[:2]) and alike[:2] == [0, 0]
    assert max(by_phases[:2]) < 5 and max(mixed[:4]) == 0 and opposite[2:4] == [0, 0]
    assert max(by_phases[2:]) == 0 and mixed[4] < 5
    assert all(30 < found < 36 for found in (opposite[4], alike[4]))
    for found, chance, other in zip(opposite[5:], mixed[5:], alike[5:], strict=True):
        assert found < chance + 6 and 2.6 < other / chance < 4.2


def test_what_notebook_6_says_of_influence():
    told = printed_by("06")
    own = {
        name: [int(share) for share in row.split("% ")]
        for name, row in re.findall(r"(\S[\w ]*\S) +own patch .*8: (.*)%", told)
    }
    assert own["trained"][0] > 90 > 50 > own["at the start"][0]
    for seed in (1, 2):
        pairs = zip(own["trained"][1:], own[f"shuffled {seed}"][1:], strict=True)
        assert all(trained < shuffled for trained, shuffled in pairs)
    away = {
        name: [float(patches) for patches in row.split()]
        for name, row in re.findall(
            r"(trained|trained by Muon|shuffled 1) +after blocks 1 to 8: (.*)", told
        )
    }
    assert away["trained"][1:] == sorted(away["trained"][1:]) and max(away["trained"][:3]) < 2.8
    assert min(away["shuffled 1"]) >= 4.5 and away["trained"][7] < min(away["shuffled 1"])
    nearer = zip(away["trained by Muon"][1:5], away["trained"][1:5], strict=True)
    assert all(muon < ours - 0.2 and 1.8 < muon < 2.5 for muon, ours in nearer)
    right = shares(r"(?:as trained|shuffled \d) +([\d.]+)% of 1,000", told)
    assert len(right) == 4 and all(0.57 < share < 0.63 for share in right[1:])
    assert all(0.27 < right[0] - share < 0.33 for share in right[1:])
    added = re.findall(r"token mixing adds +(\d+)%, channel mixing +(\d+)%", told)
    larger = [int(tokens) > int(channels) for tokens, channels in added]
    assert larger == [False, False, *[True] * 5, False]
    assert all(int(tokens) > 2 * int(channels) for tokens, channels in added[3:5])
    assert all(int(added[b][0]) > 0.8 * int(added[b][1]) for b in (0, 1, 7))
    sizes = re.search(r"'token_mixing': (\d+), 'channel_mixing': (\d+)", told)
    assert int(sizes[2]) // int(sizes[1]) in (15, 16)


def test_what_notebook_6_says_of_fine_tuning():
    told = printed_by("06")
    pair = r"([\d.]+)%, (\d+)%"
    moves = re.findall(rf"token mixing {pair}; channel mixing {pair}", told)
    assert len(moves) == 8
    short, long = ([float(row[at]) for row in moves for at in (k, k + 2)] for k in (0, 1))
    assert max(short) < 5 < 33 < min(long) < max(long) < 91
    stem = re.search(rf"stem: +{pair}", told)
    assert stem is not None and float(stem[1]) > max(short) and float(stem[2]) < min(long)
    by_kind = [[float(row[at]) for row in moves] for at in range(4)]
    assert all(a >= b for a, b in zip(by_kind[0], by_kind[2], strict=True))


def test_what_notebook_6_says_of_optimisers():
    told = printed_by("06")
    right = [float(share) for share in re.findall(r"([\d.]+)% of 10,000 test images right", told)]
    assert len(right) == 4 and 1.9 < right[1] - right[0] < 2.1 and right[2] == right[0]
    rows = re.findall(r"(\S.*\S) +waves of 1 to 4 cycles: (.*); neighbours.*: (.*)", told)
    waves = {name: [float(energy) for energy in row.split()] for name, row, _ in rows}
    coarse_to_fine = {name: row[0] / row[3] for name, row in waves.items()}
    assert coarse_to_fine["AdamW"] > 2 > coarse_to_fine["AdamW, fine-tuned by Muon"] > 1.5
    assert 0.9 < coarse_to_fine["Muon"] < 1.1 and 0.9 < coarse_to_fine["random start"] < 1.1
    ends = {
        name + kind: [int(share) for share in re.findall(r"(\d+)%", row)]
        for name, kind, row in re.findall(
            r"(AdamW|Muon) +(smoother|finer) +than chance: (.*)", told
        )
    }
    assert all(
        15 < few < many
        for few, many in zip(ends["Muonsmoother"][:5], ends["AdamWsmoother"][:5], strict=True)
    )
    assert min(ends["Muonfiner"]) > 10 and ends["Muonfiner"][2] == max(ends["Muonfiner"]) == 69
    assert min(ends["AdamWfiner"][:3]) > 15 > 5 > max(ends["AdamWfiner"][3:])
    near = {name: [float(share) for share in row.split()] for name, _, row in rows}
    assert min(near["AdamW"]) > 0.1 > 0.05 > max(near["Muon"]) and near["Muon"][2] < -0.2
    records = [record_of(name) for name in ("Mixer-Nano_4", "Mixer-Nano_4-muon")]
    one, other = (record["recipe"] for record in records)
    differing = {name for name in one if one[name] != other[name]}
    assert differing == {
        "muon_parts",
        "token_mixing_learning_rate",
        "token_mixing_weight_decay",
    }
    # The decay is the same, under another name.
    assert one["token_mixing_weight_decay"] == other["weight_decay"]
    assert 2 * one["token_mixing_learning_rate"] == other["learning_rate"]
    assert records[0]["steps"] == records[1]["steps"]
    smooth = results("upstream_last")
    assert f"{max(smooth['neighbours_agree']):.2f}" == "0.52" and near["AdamW"][1] == 0.33
    assert round(100 * (records[0]["accuracy"] - smooth["accuracy"]), 1) == 2.5


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
    assert 75 < small < 77 < convolutional < nano


def test_what_notebook_7_says_of_the_zeros():
    told = printed_by("07")
    pattern = r"(all weights|zeros kept) +(.*) after \d+ .*, (\S+)% before"
    found = re.findall(pattern, told)
    ends = {name: [float(end) for end in re.findall(r"([\d.]+)%", row)] for name, row, _ in found}
    assert all(len(row) == 3 for row in ends.values())
    behind = [free - kept for free, kept in zip(*ends.values(), strict=True)]
    assert min(ends["all weights"]) > max(ends["zeros kept"]) and 4 < sum(behind) / 3 < 5.5
    # The smaller part of what was brought back
    before = float(found[0][2])
    assert min(ends["zeros kept"]) - before > 0.85 * (min(ends["all weights"]) - before)
