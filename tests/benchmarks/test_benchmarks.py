"""Each script of benchmarks/ runs on something tiny and writes what it should."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import permutation
import pytest
import reproduce
import speed
import torch
import transfer
from helpers import TINY, ten_classes

import mixer
from mixer.checkpoint import bundled_names
from mixer.cost import training_flops
from mixer.files import sha256
from mixer.train import RECIPES, Evaluation, History, Recipe

FOUR_STEPS = Recipe(num_steps=4, warmup_steps=1, batch_size=8, augmentation="none", seed=7)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_is_told_from_others_by_its_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = {"device": "cpu", "threads": 1, "torch": "2.14"}
    recipe = replace(FOUR_STEPS, mixup=0.2)
    settings = common.settings_of(recipe, "mine", machine, model="M", checkpoint_sha256="old")
    assert settings["recipe_settings"] == {
        "warmup_steps": 1,
        "augmentation": "none",
        "mixup": 0.2,
    }
    assert [settings[name] for name in ("recipe", "num_steps", "seed")] == ["mine", 4, 7]
    path, made = tmp_path / "results" / "a.json", []

    def make(changes: dict[str, Any], accuracy: float | None = 0.5) -> Any:
        def work() -> dict[str, float]:
            made.append(changes)
            if accuracy is None:
                raise RuntimeError("the loss is nan")
            return {"accuracy": accuracy}

        return runs.make({**settings, **changes}, "a run", work)

    runs = common.Runs(path, {"what": "w"})
    assert make({})["accuracy"] == 0.5
    # Another version of torch is noted, but is no other machine.
    assert make({"machine": {**machine, "torch": "2.15"}}, 0.6)["accuracy"] == 0.5
    assert len(made) == 1
    for change in ({"seed": 8}, {"machine": {**machine, "threads": 2}}, {"num_steps": 5}):
        assert make(change, 0.6)["accuracy"] == 0.6
    assert make({"seed": 9}, None) is None and runs.failed == 1
    assert "a run: not run: RuntimeError: the loss is nan" in capsys.readouterr().err
    assert [run["accuracy"] for run in read(path)["runs"]] == [0.5, 0.6, 0.6, 0.6]
    # Runs of an earlier checkpoint of this model go; of another model or from scratch they stay.
    make({"model": "N"}), make({"checkpoint_sha256": None}), make({"checkpoint_sha256": "new"}, 0.9)
    kept = [(run["model"], run["checkpoint_sha256"]) for run in read(path)["runs"]]
    assert kept == [("N", "old"), ("M", None), ("M", "new")]
    assert read(path)["what"] == "w"


def test_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TINY, num_classes=10)
    monkeypatch.setitem(mixer.MODELS, speed.NANO, config)
    monkeypatch.setitem(mixer.MODELS, speed.LARGE, config)
    sizes: dict[str, Any] = {"compile": False, "batch_size": 4, "steps": 3, "precision": "fp32"}
    kinds = {"nano-training": (speed.training, sizes), "b16-forward": (speed.forward, sizes)}
    monkeypatch.setattr(speed, "comparisons", lambda device: kinds)
    monkeypatch.setitem(speed.MODELS, speed.TIMM, mixer.MlpMixer)
    monkeypatch.setattr(speed, "product", lambda *_: lambda: 2e9)
    arguments = ["--rounds", "2", "--device", "cpu", "--output", str(tmp_path / "speed.json")]
    assert speed.main(arguments) == 0
    found = read(tmp_path / "speed.json")["comparisons"]
    assert set(found) == set(kinds)
    for one in found.values():
        ours, timm = (one["sides"][name] for name in (speed.OURS, speed.TIMM))
        assert ours["images_per_second"]["low"] > 0 and timm["images_per_second"]["low"] > 0
        (ratio,) = one["ratios"]
        assert (ratio["side"], ratio["base"]) == (speed.OURS, speed.TIMM)
        assert ratio["low"] <= ratio["median"] <= ratio["high"] and one["rounds"] == 2
    one = found["nano-training"]
    assert one["flops_an_image"] == training_flops(config)
    share = one["sides"][speed.OURS]["share_of_a_large_product"]["high"]
    best = one["sides"][speed.OURS]["images_per_second"]["high"]
    assert share == pytest.approx(best * training_flops(config) / 2e9, rel=0.02, abs=1e-3)


@pytest.mark.slow
def test_timm_s_model_has_our_sizes() -> None:
    pytest.importorskip("timm", reason="timm is not installed (extra [bench])")
    config = mixer.create_model("Mixer-Nano_4", num_classes=10).config
    sizes = [sum(p.numel() for p in build(config).parameters()) for build in speed.MODELS.values()]
    assert sizes[0] == sizes[1]


def test_reproduce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    config = replace(TINY, image_size=32, patch_size=8, num_classes=5)
    mixer.save_npz(mixer.MlpMixer(config), tmp_path / "official.npz")

    def pretrained(name: str) -> Path:
        if name != "Mixer-B_16":
            raise ConnectionError(f"{name} could not be downloaded")
        return tmp_path / "official.npz"

    monkeypatch.setattr(reproduce, "pretrained", pretrained)
    monkeypatch.setattr(reproduce, "load_data", lambda name: ten_classes())
    monkeypatch.setitem(RECIPES, "tiny", FOUR_STEPS)
    places = ["--output", str(tmp_path / "r.json"), "--runs", str(tmp_path / "runs")]
    arguments = ["--recipe", "tiny", "--models", "Mixer-L_16", "Mixer-B_16", "--seeds", "2"]
    assert reproduce.main([*arguments, "--no-compile", *places]) == 1
    assert "Mixer-L_16: not run: Mixer-L_16 could not be downloaded" in capsys.readouterr().err
    first, second = read(tmp_path / "r.json")["runs"]
    assert (first["seed"], second["seed"]) == (7, 8)
    known = {"model": "Mixer-B_16", "upstream": "ImageNet", "recipe": "tiny", "num_steps": 4}
    known |= {"test_images": 20, "image_size": 32, "epochs": 0.33}
    assert first.items() >= known.items()
    assert first["checkpoint_sha256"] == sha256(tmp_path / "official.npz")
    assert sum(map(sum, first["confusion"])) == 20
    right = sum(row[label] for label, row in enumerate(first["confusion"]))
    assert first["accuracy"] == pytest.approx(right / 20)
    assert len(list((tmp_path / "runs").glob("*/model.npz"))) == 2
    # What is done is skipped.
    before = (tmp_path / "r.json").read_bytes()
    reproduce.main([*arguments, "--no-compile", *places])
    assert (tmp_path / "r.json").read_bytes() == before


def test_the_first_9728_of_the_test_images_count_apart() -> None:
    data = ten_classes(test=10_000)
    predictions = data.y_test.clone()
    predictions[9728:] += 1
    predictions %= 10
    scores = Evaluation(0.9728, 1.0, predictions, 10_000)
    found = reproduce.measured(History(), scores, data)
    assert found["accuracy_of_first_9728"] == 1.0 and found["accuracy"] == 0.9728


def test_stored_results_are_of_the_checkpoints_that_come_with_the_package() -> None:
    for entry in read(common.RESULTS / "cifar10.json")["runs"]:
        if entry["model"] in bundled_names() and entry["checkpoint_sha256"]:
            assert entry["checkpoint_sha256"] == sha256(mixer.bundled(entry["model"]))


def test_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ten_classes(train=200)
    monkeypatch.setattr(transfer, "load_data", lambda name: data)
    few = transfer.SEARCHES[transfer.SCRATCH].settings[:2]
    for name, search in transfer.SEARCHES.items():
        quick = replace(search, settings=few, ladders={1.0: (2, 3)})
        monkeypatch.setitem(transfer.SEARCHES, name, quick)
    monkeypatch.setattr(
        transfer, "recipe_for", lambda way, steps, seed, setting: replace(
            FOUR_STEPS, num_steps=steps, seed=seed, optimizer="adamw", **setting
        )
    )  # fmt: skip
    places = ["--output", str(tmp_path / "t.json"), "--tuning", str(tmp_path / "tuning.json")]
    arguments = ["--fractions", "0.1", "--seeds", "2", "--no-compile", *places]
    assert transfer.main(arguments) == 0
    runs = read(tmp_path / "t.json")["runs"]
    starts = (transfer.PRETRAINED, transfer.SCRATCH, transfer.AS_LONG)
    assert [(run["seed"], run["start"]) for run in runs] == [
        (seed, start) for seed in range(2) for start in starts
    ]
    for run in runs:
        assert run["labels"] == 20 and run["test_images"] == 20
        assert ("curve" in run) == (run["seed"] == 0)
        assert (run["checkpoint_sha256"] is None) == (run["start"] == transfer.SCRATCH)
    tried = read(tmp_path / "tuning.json")["runs"]
    # Both settings at the fewest steps, the better one up the ladder, for each way.
    assert len(tried) == 6 and {run["held_out_images"] for run in tried} == {10}
    before = (tmp_path / "t.json").read_bytes()
    assert transfer.main(arguments) == 0
    assert (tmp_path / "t.json").read_bytes() == before


def test_permutation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation, "load_data", lambda name: ten_classes())
    recipe = replace(FOUR_STEPS, optimizer="adamw", learning_rate=1e-3)
    monkeypatch.setattr(
        permutation, "recipe_for", lambda steps, seed: replace(recipe, num_steps=steps, seed=seed)
    )
    arguments = ["--steps", "6", "--output", str(tmp_path / "p.json")]
    assert permutation.main(arguments) == 0
    found = read(tmp_path / "p.json")
    assert len({(run["model"], run["shuffle"]) for run in found["runs"]}) == 6
    assert all(run["steps"] == [1, 2, 3, 4, 5, 6] for run in found["runs"])
    sizes = [model["parameters"] for model in found["models"].values()]
    assert abs(sizes[0] - sizes[1]) < 0.05 * sizes[0]
    before = (tmp_path / "p.json").read_bytes()
    assert permutation.main(arguments) == 0
    assert (tmp_path / "p.json").read_bytes() == before
