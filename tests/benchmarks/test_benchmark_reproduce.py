"""The benchmark of the official table, with a tiny file in place of Google's, and the digits."""

import importlib.util
import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import mixer
from mixer import data, train

Command = Callable[..., int]
ROOT = Path(__file__).resolve().parents[2]
TINY = mixer.MixerConfig(
    patch_size=8,
    num_blocks=1,
    hidden_dim=8,
    tokens_mlp_dim=8,
    channels_mlp_dim=16,
    num_classes=5,
    image_size=32,
)


def write_checkpoint(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    mixer.save_npz(mixer.MlpMixer(TINY), path)
    return path


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/reproduce.py, to which only Mixer-B_16 can be had, and a recipe of four steps."""
    recipe = train.Recipe(num_steps=4, warmup_steps=1, batch_size=8, augmentation="none", seed=7)
    monkeypatch.setitem(train.RECIPES, "tiny", recipe)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("reproduce", ROOT / "benchmarks" / "reproduce.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    official = write_checkpoint(tmp_path / "official.npz", seed=0)

    def download(name: str) -> Path:
        if name != "Mixer-B_16":
            raise ConnectionError(f"{name} could not be downloaded. Fetch it by other means")
        return official

    monkeypatch.setattr(mixer, "download", download)
    return module


@pytest.fixture
def command(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Calls it on the digits, and returns the exit status."""

    def call(*arguments: str) -> int:
        common = [
            "--recipe",
            "tiny",
            "--dataset",
            "digits",
            "--device",
            "cpu",
            "--precision",
            "fp32",
        ]
        places = ["--output", str(tmp_path / "results.json"), "--runs", str(tmp_path / "runs")]
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *common, *places, *arguments])
        return benchmark.main()

    return call


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text())["runs"]


def test_what_a_run_leaves(benchmark: ModuleType, command: Command, tmp_path: Path) -> None:
    assert (
        command("--models", "Mixer-B_16", "--seeds", "2", "--gradient_accumulation_steps", "2") == 0
    )
    first, second = results(tmp_path)
    assert (first["seed"], second["seed"]) == (7, 8)
    known = {
        "model": "Mixer-B_16",
        "upstream": "ImageNet",
        "recipe": "tiny",
        "num_steps": 4,
        "precision": "fp32",
    }
    assert (
        first.items() >= {**known, "batch_size": 8, "image_size": 32, "dataset": "digits"}.items()
    )
    assert first["test_images"] == 360
    # The digits have fewer.
    assert first["accuracy_of_first_9728"] is None
    assert first["checkpoint_sha256"] == benchmark.sha256(tmp_path / "official.npz")
    assert first["seconds"] >= 0 and first["images_per_second"] > 0
    assert first["machine"]["device"] == "cpu" and first["date"]
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    test = data.load_data("digits")
    for entry, folder in zip((first, second), folders, strict=True):
        left = {path.name for path in folder.iterdir()}
        assert "model.npz" in left and "state.npz" not in left
        scores = train.evaluate(mixer.from_npz(folder / "model.npz"), test.x_test, test.y_test)
        assert entry["accuracy"] == scores.accuracy


def test_what_is_done_is_skipped(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("--models", "Mixer-B_16") == 0
    before = results(tmp_path)
    calls: list[int] = []

    def finetune(model: Any, images: Any, recipe: train.Recipe, **options: Any) -> train.History:
        calls.append(recipe.seed)
        return train.finetune(model, images, recipe, **options)

    monkeypatch.setattr(mixer, "finetune", finetune, raising=False)
    assert command("--models", "Mixer-B_16") == 0
    assert not calls and results(tmp_path) == before
    assert command("--models", "Mixer-B_16", "--seeds", "2") == 0
    assert calls == [8] and results(tmp_path)[0] == before[0]


def test_runs_of_another_checkpoint_are_made_anew(command: Command, tmp_path: Path) -> None:
    command("--models", "Mixer-B_16", "--seeds", "2")
    before = {entry["checkpoint_sha256"] for entry in results(tmp_path)}
    write_checkpoint(tmp_path / "official.npz", seed=1)
    command("--models", "Mixer-B_16")
    # No mean over seeds of two checkpoints.
    (entry,) = results(tmp_path)
    assert entry["checkpoint_sha256"] not in before


def test_it_goes_on_after_an_interruption(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command("--models", "Mixer-B_16", "--seeds", "2")
    whole = results(tmp_path)
    (tmp_path / "results.json").unlink()
    shutil.rmtree(tmp_path / "runs")
    steps: list[int] = []

    def finetune(model: Any, *args: Any, **options: Any) -> train.History:
        def count(module: torch.nn.Module, inputs: Any) -> None:
            if module.training:
                steps.append(len(steps))
                # Ctrl-C in the second step of the second run.
                if len(steps) == 6:
                    signal.raise_signal(signal.SIGINT)

        model.register_forward_pre_hook(count)
        return train.finetune(model, *args, **options)

    monkeypatch.setattr(mixer, "finetune", finetune, raising=False)
    assert command("--models", "Mixer-B_16", "--seeds", "2") == 130
    assert "the same command" in capsys.readouterr().err
    assert len(results(tmp_path)) == 1 and len(steps) == 6
    assert command("--models", "Mixer-B_16", "--seeds", "2") == 0
    # Not one step twice.
    assert len(steps) == 8
    for ours, theirs in zip(results(tmp_path), whole, strict=True):
        assert ours["seed"] == theirs["seed"] and ours["accuracy"] == theirs["accuracy"]


def test_what_cannot_be_had_is_reported(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--models", "Mixer-L_16", "Mixer-B_16") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "not run" in line]
    assert (
        lines[0]
        == "Mixer-L_16: not run: Mixer-L_16 could not be downloaded. Fetch it by other means"
    )
    assert lines[1].startswith("not run: Mixer-L_16;")
    assert [entry["model"] for entry in results(tmp_path)] == ["Mixer-B_16"]


def test_a_precision_that_the_device_lacks(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("--precision", "fp16")
    assert "fp16 needs a CUDA device" in capsys.readouterr().err


def test_accuracy_without_the_last_partial_batch(
    benchmark: ModuleType, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randint(0, 256, (10_000, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(10_000) % 2
    # Which is trained never, so it is right never.
    labels[9728:] = 2
    large = data.ImageData("large", images[:64], labels[:64], images, labels, ("a", "b", "c"))
    monkeypatch.setattr(benchmark, "load_data", lambda name: large)
    assert command("--models", "Mixer-B_16") == 0
    (entry,) = results(tmp_path)
    assert entry["test_images"] == 10_000
    assert entry["accuracy_of_first_9728"] * 9728 == pytest.approx(
        entry["accuracy"] * 10_000, abs=0.1
    )


def test_the_stored_results_of_our_model_are_of_the_file_that_comes_with_the_package(
    benchmark: ModuleType,
) -> None:
    stored = json.loads(
        (ROOT / "benchmarks" / "results" / "cifar10.json").read_text(encoding="utf-8")
    )["runs"]
    for entry in stored:
        if entry["model"] in benchmark.OWN:
            checkpoint = benchmark.sha256(mixer.bundled(entry["model"]))
            assert entry["checkpoint_sha256"] == checkpoint, (
                "run python benchmarks/reproduce.py --models Mixer-Nano_4"
            )
