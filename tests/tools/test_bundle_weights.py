"""From a run folder to a bundled checkpoint and its record, and the record's command run again."""

import importlib.util
import json
import math
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import mixer
from mixer.train import History, Recipe, cli

ROOT = Path(__file__).resolve().parents[2]
NAME = "Mixer-Nano_4-muon"
COMMAND = (
    "python -m mixer.train --name r --model_type Mixer-Nano_4 --from_scratch --dataset digits "
    "--num_steps 3 --warmup_steps 1 --train_batch_size 4 --optimizer adamw --learning_rate 1e-2 "
    "--weight_decay 0.1 --token_mixing_learning_rate 5e-3 --precision fp32 --device cpu --seed 5"
)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "tools" / "bundle_weights.py"
    spec = importlib.util.spec_from_file_location("bundle_weights", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SUBSET = 20
    return module


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps from scratch on the digits."""
    folder = tmp_path_factory.mktemp("runs")
    assert cli.main([*COMMAND.split()[3:], "--output_dir", str(folder)]) == 0
    return folder / "r"


@pytest.fixture(scope="module")
def weights(tool: ModuleType, run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the tool put that run's model."""
    folder = tmp_path_factory.mktemp("weights")
    arguments = [str(run_folder), NAME, "--command", COMMAND, "--command", "more"]
    more = ["--weights", str(folder), "--machine", "an abacus"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bundle_weights.py", *arguments, *more])
        tool.main()
    return folder


@pytest.fixture
def record(weights: Path) -> dict[str, Any]:
    """What the tool says of the run."""
    return json.loads((weights / f"{NAME}.json").read_text(encoding="utf-8"))


def test_the_file_is_the_run_s_model_in_half_precision(run_folder: Path, weights: Path) -> None:
    stored = mixer.from_npz(weights / f"{NAME}.npz").state_dict()
    for name, tensor in mixer.from_npz(run_folder / "model.npz").state_dict().items():
        torch.testing.assert_close(stored[name], tensor.half().float(), atol=0, rtol=0)
    with np.load(weights / f"{NAME}.npz") as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float16)}


def test_what_the_record_says(record: dict[str, Any], run_folder: Path) -> None:
    history = json.loads((run_folder / "history.json").read_text())
    assert record["model"] == "Mixer-Nano_4" and record["dataset"] == "digits"
    assert (record["command"], record["later_commands"]) == (COMMAND, ["more"])
    assert (record["seed"], record["steps"], record["precision"]) == (5, 3, "fp32")
    assert record["machine"] == "an abacus" and record["origin"] == "random weights"
    assert Recipe(**record["recipe"]).token_mixing_learning_rate == 5e-3
    assert record["first_losses"] == [round(loss, 4) for loss in history["loss"]]
    assert record["curve"]["eval_steps"] == history["eval_steps"]
    assert record["test_images"] == 360 and record["subset_images"] == 20
    assert 0 <= record["accuracy_mirror_averaged"] <= 1


def test_how_much_of_the_start_is_left(record: dict[str, Any]) -> None:
    # Three steps change little.
    assert len(record["similarity_to_the_start"]) == len(record["neighbours_agree"]) == 8
    assert all(0.95 < similarity <= 1 for similarity in record["similarity_to_the_start"])
    assert all(abs(agreement) < 0.3 for agreement in record["neighbours_agree"])
    # Rates of the three steps: warm-up 0, then a cosine from its top, half-way down.
    rates = 1e-2 * (0 + 1 + 0.5 * (1 + math.cos(math.pi / 2)))
    found = record["learning_rate_times_decay"]
    assert found == {
        "channel_mixing": round(0.1 * rates, 3),
        "token_mixing": round(0.05 * rates, 3),
        "outer": round(0.1 * rates, 3),
    }


def test_sums_of_a_long_run(tool: ModuleType) -> None:
    recipe = Recipe(
        num_steps=1000,
        warmup_steps=0,
        learning_rate=0.01,
        weight_decay=0.2,
        optimizer="adamw",
        token_mixing_learning_rate=0.005,
        token_mixing_weight_decay=0.4,
        outer_weight_decay=0.0,
    )
    model = mixer.create_model("Mixer-Nano_4")
    found = tool.decay_in_all(model, recipe, 1000)
    expected = {"channel_mixing": 1.0, "token_mixing": 1.0, "outer": 0.0}
    assert found == pytest.approx(expected, abs=0.002)
    # Half of a cosine's steps have more than half of its sum.
    assert 0.8 < tool.decay_in_all(model, recipe, 500)["token_mixing"] < 0.83


def test_a_fine_tuned_model_is_held_against_its_checkpoint_s_start(
    tool: ModuleType, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "bundled_names", lambda: [NAME])
    monkeypatch.setattr(tool, "bundled", lambda name: weights / f"{name}.npz")
    digest = tool.sha256(weights / f"{NAME}.npz")
    start = tool.random_start([written(tmp_path, f"checkpoint of sha256 {digest}")])
    torch.manual_seed(5)
    expected = mixer.create_model("Mixer-Nano_4", 10).state_dict()
    assert all(torch.equal(start.state_dict()[key], expected[key]) for key in expected)
    assert tool.random_start([written(tmp_path, "checkpoint of sha256 0")]) is None


def test_of_several_runs_the_first_one_s_seed_drew_the_start(
    tool: ModuleType, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copy(weights / f"{NAME}.npz", tmp_path))
    record = json.loads((weights / f"{NAME}.json").read_text(encoding="utf-8"))
    several = {**record, "seed": 6, "earlier": [record]}
    copied.with_suffix(".json").write_text(json.dumps(several), encoding="utf-8")
    monkeypatch.setattr(tool, "bundled_names", lambda: [NAME])
    monkeypatch.setattr(tool, "bundled", lambda name: copied)
    origin = f"checkpoint of sha256 {tool.sha256(copied)}"
    start = tool.random_start([written(tmp_path, origin)])
    torch.manual_seed(5)
    expected = mixer.create_model("Mixer-Nano_4", 10).state_dict()
    assert all(torch.equal(start.state_dict()[key], expected[key]) for key in expected)


def test_an_earlier_run_needs_its_command(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "run", NAME, "--command", "c", "--earlier", "folder"])
    with pytest.raises(SystemExit):
        tool.main()
    assert "expected a folder and at least one command" in capsys.readouterr().err


def written(folder: Path, origin: str) -> Path:
    """A run folder that says no more than where its run began."""
    settings = {"recipe": {"seed": 9}, "origin": origin}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_a_run_from_another_one_s_weights_counts_both(
    tool: ModuleType, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = shutil.copytree(run_folder, tmp_path / "later")
    run_folder = shutil.copytree(run_folder, tmp_path / "first")
    on_gpu = json.loads((run_folder / "config.json").read_text()) | {"device": "A GPU"}
    (run_folder / "config.json").write_text(json.dumps(on_gpu))
    settings = json.loads((later / "config.json").read_text())
    settings["recipe"] |= {"from_scratch": False, "seed": 6}
    settings["origin"] = f"checkpoint of sha256 {tool.sha256(run_folder / 'model.npz')}"
    (later / "config.json").write_text(json.dumps(settings))
    arguments = [str(later), NAME, "--command", "second", "--weights", str(tmp_path)]
    more = ["--earlier", str(run_folder), COMMAND, "went on"]
    monkeypatch.setattr(sys, "argv", ["bundle_weights.py", *arguments, *more])
    tool.main()
    record = json.loads((tmp_path / f"{NAME}.json").read_text(encoding="utf-8"))
    (first,) = record["earlier"]
    assert (first["command"], record["command"]) == (COMMAND, "second")
    assert (first["later_commands"], record["later_commands"]) == (["went on"], [])
    assert (first["seed"], record["seed"]) == (5, 6)
    assert (first["steps"], record["steps"]) == (3, 6)
    batch = first["recipe"]["batch_size"]
    assert (first["images"], record["images"]) == (3 * batch, 6 * batch)
    assert first["chosen_by_test_accuracy"] is False
    # Either run on a machine of its own.
    assert first["machine"].startswith("A GPU, torch 2.")
    assert re.search(r", \d+ threads?, torch 2\.", record["machine"])
    for part, once in first["learning_rate_times_decay"].items():
        assert record["learning_rate_times_decay"][part] == pytest.approx(2 * once, abs=1e-9)
    # Against the random weights of the first run's seed.
    assert all(0.95 < similarity <= 1 for similarity in record["similarity_to_the_start"])
    settings["origin"] = "checkpoint of sha256 0"
    (later / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="expected to have begun with weights of"):
        tool.main()


def test_a_recipe_of_other_times_is_named(
    tool: ModuleType, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(run_folder, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings["recipe"]["momentum"] = 0.9
    (folder / "config.json").write_text(json.dumps(settings))
    arguments = [str(folder), "Mixer-Nano_4", "--command", COMMAND, "--weights", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["bundle_weights.py", *arguments])
    with pytest.raises(ValueError, match="recipes have no momentum"):
        tool.main()
    assert not list(tmp_path.glob("Mixer-*"))


def test_the_record_s_command_gives_the_recorded_losses(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import replay

    monkeypatch.setattr(replay, "bundled", lambda name: weights / f"{name}.npz")
    found = replay.replay(NAME, steps=3, patience=120)
    assert found["same"] and found["steps"] == 3
    assert found["largest_difference"] < 0.001


def test_the_best_weights_count_to_their_step(tool: ModuleType) -> None:
    history = History(steps=list(range(9)), eval_steps=[3, 6, 9], test_accuracy=[0.2, 0.4, 0.4])
    assert tool.best_step(history) == 6


def test_old_weights_stand_where_no_record_can_be_made(
    tool: ModuleType, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{NAME}.npz").write_bytes(b"old weights")
    arguments = [str(run_folder), NAME, "--command", COMMAND, "--weights", str(tmp_path)]
    arguments += ["--earlier", str(tmp_path / "nowhere"), COMMAND]
    monkeypatch.setattr(sys, "argv", ["bundle_weights.py", *arguments])
    with pytest.raises(ValueError, match="expected to have begun with"):
        tool.main()
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.npz"]
    assert (tmp_path / f"{NAME}.npz").read_bytes() == b"old weights"
