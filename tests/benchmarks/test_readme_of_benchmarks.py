"""What benchmarks/README.md says of scripts and recipes is so."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.nn import functional as F

from mixer.checkpoint import bundled, bundled_names, from_npz
from mixer.lessons.analysis import starting_model, token_mixing_units
from mixer.train import RECIPES, Recipe

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_script_is_named_and_every_name_is_a_script() -> None:
    named = set(re.findall(r"`(\w+\.py)`", README))
    assert named == {path.name for path in FOLDER.glob("*.py")}


def test_what_it_says_of_the_runs_on_a_gpu_is_in_their_records() -> None:
    page = " ".join(README.split())
    for name in ("Mixer-Nano_4", "Mixer-Nano_4-muon", "Mixer-Nano_4-cifar10-scratch"):
        record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
        assert record["machine"].startswith("NVIDIA H200, torch 2.11")
        said = re.search(rf"(\d+) s at {record['images_per_second']:,}\b", page)
        assert said is not None and round(int(said[1]) / 3600, 2) == record["hours"]
    runs = json.loads((FOLDER / "results/cifar10.json").read_text(encoding="utf-8"))["runs"]
    first, second = (f"{run['seconds']:.0f}" for run in runs if "H200" in run["machine"]["device"])
    assert f"two fine-tunings {first} and {second} s" in page


@pytest.mark.parametrize("name", [name for name in bundled_names() if "Nano" in name])
def test_a_bundled_checkpoint_was_made_by_the_recipe_that_its_command_names(name: str) -> None:
    record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
    words = record["command"].split()
    assert Recipe(**record["recipe"]) == RECIPES[words[words.index("--recipe") + 1]]


@pytest.mark.parametrize("name", [name for name in bundled_names() if "Nano" in name])
def test_the_start_of_a_bundled_checkpoint_can_be_drawn_again(name: str) -> None:
    record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
    model = from_npz(bundled(name))
    # What was fine-tuned began as the upstream model did, with 200 classes.
    classes = model.config.num_classes if record["recipe"]["from_scratch"] else 200
    start = starting_model(replace(model.config, num_classes=classes), record["seed"])
    for block, recorded in enumerate(record["similarity_to_the_start"]):
        now, then = (token_mixing_units(m, block).flatten() for m in (model, start))
        assert float(F.cosine_similarity(now, then, dim=0)) == pytest.approx(recorded, abs=0.002)
    assert max(record["similarity_to_the_start"]) > 0.15


def test_what_smoother_units_cost() -> None:
    page = " ".join(README.split())
    smooth = json.loads((FOLDER / "results/upstream_last.json").read_text(encoding="utf-8"))
    shipped = json.loads(bundled("Mixer-Nano_4").with_suffix(".json").read_text(encoding="utf-8"))

    def best_three(record: dict[str, Any]) -> str:
        one, two, three = sorted(record["neighbours_agree"])[:-4:-1]
        return f"{one:.2f}, {two:.2f} and {three:.2f}"

    low, high = (f"{end(smooth['similarity_to_the_start']):.2f}" for end in (min, max))
    before, after = (f"{100 * record['accuracy']:.1f}" for record in (shipped, smooth))
    assert f"from {best_three(shipped)} to {best_three(smooth)} and the similarity" in page
    assert f"the start to {low} to {high}, and the accuracy from {before} to {after} %" in page
    assert Recipe(**smooth["recipe"]) == RECIPES["nano-upstream-last-cpu"]


def test_how_well_the_commands_gave_their_losses_again() -> None:
    found = json.loads((FOLDER / "results/replay.json").read_text(encoding="utf-8"))["replays"]
    assert found.keys() == set(bundled_names()) and all(run["same"] for run in found.values())
    commands = {name: run["command"] for name, run in found.items()}
    for name, command in commands.items():
        record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
        assert command == record["command"]
    apart = max(run["changes_off"] for run in found.values())
    steps = min(run["steps"] for run in found.values())
    said = (
        f"over the first {steps} steps, the changes from one loss to the next were off by at most "
    )
    assert f"{said}{100 * apart:.0f} % of what they are" in " ".join(README.split())
