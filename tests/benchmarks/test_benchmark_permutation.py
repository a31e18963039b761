"""The permutation experiment can be stopped at any time and goes on where it was."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mixer import data, train

Command = Callable[[], list[dict[str, Any]]]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import permutation as module

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(12) % 10
    tiny = data.ImageData("tiny", images, labels, images[:6], labels[:6], tuple("abcdefghij"))
    monkeypatch.setattr(module, "load_data", lambda name: tiny)
    recipe = train.Recipe(
        warmup_steps=1, batch_size=4, optimizer="adamw", learning_rate=1e-3, augmentation="none"
    )
    monkeypatch.setattr(
        module, "recipe_for", lambda steps, seed: replace(recipe, num_steps=steps, seed=seed)
    )
    return module


@pytest.fixture
def command(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    statuses: list[int] = []

    def call() -> list[dict[str, Any]]:
        output = tmp_path / "permutation.json"
        places = ["--output", str(output), "--state", str(tmp_path / "state")]
        monkeypatch.setattr(sys, "argv", ["permutation.py", "--steps", "6", *places])
        statuses.append(benchmark.main())
        runs: list[dict[str, Any]] = json.loads(output.read_text())["runs"]
        return runs

    return call


def test_every_kind_runs_once(command: Command, tmp_path: Path) -> None:
    runs = command()
    assert len({(r["model"], r["shuffle"]) for r in runs}) == len(runs) == 6
    for result in runs:
        assert result["steps"] == [1, 2, 3, 4, 5, 6]
        assert len(result["test_accuracy"]) == 6
        assert result["images_per_second"] > 0
    before = (tmp_path / "permutation.json").read_text()
    command()
    assert (tmp_path / "permutation.json").read_text() == before


def test_it_goes_on_after_an_interruption(
    benchmark: ModuleType, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = command()
    (tmp_path / "permutation.json").unlink()

    def interrupted(model: Any, *args: Any, **options: Any) -> train.History:
        # Stopped in the second run, after two of its six steps; its state is on disk.
        calls.append(model)
        if len(calls) != 2:
            return train.train(model, *args, **{**options, "save_every": 2})
        batches = iter(range(10))

        def stop_at_the_third(module: torch.nn.Module, inputs: Any) -> None:
            if module.training and next(batches) == 2:
                raise KeyboardInterrupt

        model.register_forward_pre_hook(stop_at_the_third)
        return train.train(model, *args, **{**options, "save_every": 2})

    calls: list[Any] = []
    monkeypatch.setattr(benchmark, "train", interrupted)
    command()
    assert len(json.loads((tmp_path / "permutation.json").read_text())["runs"]) == 1
    assert len(list((tmp_path / "state").glob("*.npz"))) == 1
    for ours, theirs in zip(command(), whole, strict=True):
        for key in ("model", "shuffle", "steps", "test_accuracy", "test_loss"):
            assert ours[key] == theirs[key]
    assert len(calls) == 2 + 5
    assert not list((tmp_path / "state").glob("*.npz"))


def test_both_networks_are_of_one_size(benchmark: ModuleType) -> None:
    mixer, cnn = (
        sum(p.numel() for p in build(benchmark.CONFIG).parameters())
        for build in benchmark.MODELS.values()
    )
    assert abs(mixer - cnn) / mixer < 0.05
