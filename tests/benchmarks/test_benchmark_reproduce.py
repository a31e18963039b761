"""The runs behind the tables, with a tiny file in place of Google's, and the digits."""

import json
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import mixer
from mixer import data, train
from mixer.checkpoint import bundled_names
from mixer.files import sha256
from mixer.train import Recipe

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
    """benchmarks/reproduce.py, to which only Mixer-B_16 can be had, and recipes of four steps."""
    recipe = train.Recipe(num_steps=4, warmup_steps=1, batch_size=8, augmentation="none", seed=7)
    monkeypatch.setitem(train.RECIPES, "tiny", recipe)
    scratch = replace(recipe, from_scratch=True, stochastic_depth=0.1)
    monkeypatch.setitem(train.RECIPES, "tiny-scratch", scratch)
    monkeypatch.setitem(mixer.MODELS, "Mixer-Nano_4", TINY)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import reproduce

    official = write_checkpoint(tmp_path / "official.npz", seed=0)

    def pretrained(name: str) -> Path:
        if name != "Mixer-B_16":
            raise ConnectionError(f"{name} could not be downloaded. Fetch it by other means")
        return official

    monkeypatch.setattr(reproduce, "pretrained", pretrained)
    return reproduce


@pytest.fixture
def command(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Calls it on the digits, and returns the exit status."""

    def call(*arguments: str, recipe: str = "tiny") -> int:
        common = ["--recipe", recipe, "--dataset", "digits", "--device", "cpu"]
        common += ["--precision", "fp32", "--no-compile"]
        places = ["--output", str(tmp_path / "results.json"), "--runs", str(tmp_path / "runs")]
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *common, *places, *arguments])
        return benchmark.main()

    return call


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text())["runs"]


def counting(calls: list[int]) -> Callable[..., train.History]:
    """``train`` that notes the seed of each call."""

    def noted(model: Any, images: Any, recipe: train.Recipe, **options: Any) -> train.History:
        calls.append(recipe.seed)
        return train.train(model, images, recipe, **options)

    return noted


def test_what_a_run_leaves(benchmark: ModuleType, command: Command, tmp_path: Path) -> None:
    more = ("--seeds", "2", "--gradient_accumulation_steps", "2")
    assert command("--models", "Mixer-B_16", *more) == 0
    first, second = results(tmp_path)
    assert (first["seed"], second["seed"]) == (7, 8)
    known = {"model": "Mixer-B_16", "upstream": "ImageNet", "recipe": "tiny", "num_steps": 4}
    known |= {"precision": "fp32", "batch_size": 8, "image_size": 32, "dataset": "digits"}
    assert first.items() >= known.items()
    assert first["test_images"] == 360
    # The digits have fewer.
    assert first["accuracy_of_first_9728"] is None
    assert first["checkpoint_sha256"] == sha256(tmp_path / "official.npz")
    assert first["seconds"] >= 0 and first["images_per_second"] > 0
    assert first["machine"]["device"] == "cpu" and first["date"]
    assert sum(map(sum, first["confusion"])) == 360
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    test = data.load_data("digits")
    for entry, folder in zip((first, second), folders, strict=True):
        left = {path.name for path in folder.iterdir()}
        assert "model.npz" in left and "state.npz" not in left
        scores = train.evaluate(mixer.from_npz(folder / "model.npz"), test.x_test, test.y_test)
        assert entry["accuracy"] == scores.accuracy


def test_from_scratch_it_starts_with_random_weights(
    benchmark: ModuleType, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[torch.Tensor] = []

    def noted(model: Any, *args: Any, **options: Any) -> train.History:
        started.append(model.blocks[0].token_mixing.fc1.weight.detach().clone())
        assert model.config.stochastic_depth == 0.1
        return train.train(model, *args, **options)

    monkeypatch.setattr(benchmark, "train", noted)
    assert command("--seeds", "2", recipe="tiny-scratch") == 0
    first, _ = results(tmp_path)
    assert first["model"] == "Mixer-Nano_4" and first["upstream"] == "random weights"
    assert first["checkpoint_sha256"] is None and first["epochs"] == round(4 * 8 / 1408, 2)
    assert not torch.equal(*started)
    torch.manual_seed(7)
    expected = mixer.create_model("Mixer-Nano_4", 10, stochastic_depth=0.1)
    assert torch.equal(started[0], expected.blocks[0].token_mixing.fc1.weight)


def test_what_a_recipe_trains_unless_it_is_told(benchmark: ModuleType) -> None:
    assert benchmark.models_of("tiny-scratch") == ["Mixer-Nano_4"]
    assert benchmark.models_of("nano-finetune-cpu") == ["Mixer-Nano_4"]
    assert benchmark.models_of("official")[0] == "Mixer-B_16"
    assert benchmark.dataset_of("nano-upstream-gpu") == "tiny_imagenet32"
    assert benchmark.dataset_of("nano-scratch-gpu") == "cifar10"


def test_compile_is_the_default(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for flags in ((), ("--no-compile",), ("--compile", "reduce-overhead")):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", "--device", "cpu", *flags])
        args = benchmark.parse()
        plain = Recipe()

        def compile_of(name: str, recipe: Recipe = plain, args: Any = args) -> bool | str:
            return benchmark.options_of(name, recipe, args)["compile"]

        found[flags] = compile_of("Mixer-Nano_4")
        args.device = torch.device("cuda")
        assert compile_of("Mixer-Nano_4") == ("max-autotune" if not flags else found[flags])
        assert compile_of("Mixer-B_16") == ("blocks" if not flags else found[flags])
        unlike = Recipe(stochastic_depth=0.1)
        assert compile_of("Mixer-B_16", unlike) == found[flags]
    assert list(found.values()) == [True, False, "reduce-overhead"]


def test_what_is_done_is_skipped(
    benchmark: ModuleType, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("--models", "Mixer-B_16") == 0
    before = results(tmp_path)
    calls: list[int] = []
    monkeypatch.setattr(benchmark, "train", counting(calls))
    assert command("--models", "Mixer-B_16") == 0
    assert not calls and results(tmp_path) == before
    assert command("--models", "Mixer-B_16", "--seeds", "2") == 0
    assert calls == [8] and results(tmp_path)[0] == before[0]
    assert command("--models", "Mixer-B_16", "--steps", "3") == 0
    assert calls == [8, 7] and len(results(tmp_path)) == 3


def test_runs_of_another_checkpoint_are_made_anew(command: Command, tmp_path: Path) -> None:
    command("--models", "Mixer-B_16", "--seeds", "2")
    before = {entry["checkpoint_sha256"] for entry in results(tmp_path)}
    write_checkpoint(tmp_path / "official.npz", seed=1)
    command("--models", "Mixer-B_16")
    # No mean over seeds of two checkpoints.
    (entry,) = results(tmp_path)
    assert entry["checkpoint_sha256"] not in before


def test_it_goes_on_after_an_interruption(
    benchmark: ModuleType,
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

    def stopped(model: Any, *args: Any, **options: Any) -> train.History:
        def count(module: torch.nn.Module, inputs: Any) -> None:
            if module.training:
                steps.append(len(steps))
                # Ctrl-C in the second step of the second run.
                if len(steps) == 6:
                    signal.raise_signal(signal.SIGINT)

        model.register_forward_pre_hook(count)
        return train.train(model, *args, **options)

    monkeypatch.setattr(benchmark, "train", stopped)
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
    why = "ConnectionError: Mixer-L_16 could not be downloaded. Fetch it by other means"
    assert lines[0] == f"Mixer-L_16: not run: {why}"
    assert lines[1].startswith("not run: 1;")
    found = json.loads((tmp_path / "results.json").read_text())
    assert [entry["model"] for entry in found["runs"]] == ["Mixer-B_16"]
    assert [(entry["model"], entry["error"]) for entry in found["failed"]] == [("Mixer-L_16", why)]


def test_a_run_that_fails_does_not_end_the_series(
    benchmark: ModuleType, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(model: Any, images: Any, recipe: train.Recipe, **options: Any) -> train.History:
        if recipe.seed == 7:
            raise train.TrainingError("step 2: the loss is nan")
        return train.train(model, images, recipe, **options)

    monkeypatch.setattr(benchmark, "train", diverging)
    assert command("--models", "Mixer-B_16", "--seeds", "2") == 1
    found = json.loads((tmp_path / "results.json").read_text())
    assert [entry["seed"] for entry in found["runs"]] == [8]
    (failed,) = found["failed"]
    assert failed["seed"] == 7 and failed["error"] == "TrainingError: step 2: the loss is nan"


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
    first = entry["accuracy_of_first_9728"]
    assert first * 9728 == pytest.approx(entry["accuracy"] * 10_000, abs=0.1)


def test_stored_results_of_our_models_are_of_the_files_that_come_with_the_package(
    benchmark: ModuleType,
) -> None:
    file = benchmark.result_file("cifar10.json")
    for entry in json.loads(file.read_text(encoding="utf-8"))["runs"]:
        if entry["model"] in bundled_names() and entry["checkpoint_sha256"]:
            checkpoint = sha256(mixer.bundled(entry["model"]))
            hint = "run benchmarks/reproduce.py --models Mixer-Nano_4 --recipe nano-finetune-gpu"
            assert entry["checkpoint_sha256"] == checkpoint, hint


@pytest.mark.parametrize(
    ("device", "models", "recipe"),
    [
        ("cuda", ["Mixer-Nano_4"], "nano-finetune-gpu"),
        ("cpu", ["Mixer-Nano_4"], "nano-finetune-cpu"),
        ("cuda", ["Mixer-Nano_4", "Mixer-B_16"], "cifar10-100_500"),
        ("cuda", [], "cifar10-100_500"),
    ],
)
def test_the_recipe_fits_model_and_device(
    benchmark: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    models: list[str],
    recipe: str,
) -> None:
    monkeypatch.setattr(benchmark, "pick_device", lambda name: torch.device(device))
    monkeypatch.setattr(benchmark, "pick_precision", lambda device, precision: "bf16")
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *(["--models", *models] if models else [])])
    assert benchmark.parse().recipe == [recipe]
