"""The scripts that measure speed run from start to end on a small scale, and write what they print."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run a script of benchmarks/ with some arguments; returns what it wrote."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # half a minute each, for nothing here

    def call(name: str, *arguments: str) -> dict[str, Any]:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # DataLoader's workers look the data set's class up
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "RESULTS", tmp_path)
        monkeypatch.setattr(sys, "argv", [name, "--device", "cpu", *arguments])
        module.main()
        written = sorted(tmp_path.glob("*.json"))
        assert len(written) == 1
        results: dict[str, Any] = json.loads(written[0].read_text())
        return results

    return call


def test_ratio_and_spread(script: Callable[..., dict[str, Any]]) -> None:
    from common import ratio, spread

    speeds = {"ours": [10.0, 40.0, 30.0], "theirs": [10.0, 10.0, 10.0]}
    assert ratio(speeds, "ours", "theirs") == {"median": 3.0, "low": 1.0, "high": 4.0}
    assert spread(speeds["ours"]) == {"median": 30.0, "low": 10.0, "high": 40.0}


def test_sides_take_turns(script: Callable[..., dict[str, Any]]) -> None:
    from common import interleave

    order: list[str] = []

    def side(name: str) -> Callable[[], int]:
        return lambda: order.append(name) or 5  # type: ignore[func-returns-value]

    before = {"b": lambda: order.append("ready")}
    found = interleave({"a": side("a"), "b": side("b")}, 2, torch.device("cpu"), before)
    assert order == ["a", "ready", "b"] * 2
    assert {name: len(speeds) for name, speeds in found.items()} == {"a": 2, "b": 2}


def test_small_model(script: Callable[..., dict[str, Any]]) -> None:
    found = script("small_model_speed", "--dataset", "digits", "--rounds", "1", "--steps", "1", "--batch_size", "4")
    sides = set(found["times_the_obvious_loop"])
    assert {"the obvious loop", "mixer.train, fp32", "mixer.train, compiled"} <= sides
    assert all(speed["low"] > 0 for speed in found["images_per_second"].values())
    for shares in found["share_of_time_by_part"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=0.01)
        assert shares["matrix products"] > 0.05


def test_throughput(script: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("timm", reason="timm is not installed (extra [bench])")
    small = ("--model", "Mixer-Nano_4", "--image_size", "32", "--batch_size", "2", "--dataset", "digits")
    found = script("train_throughput", *small, "--rounds", "1", "--steps", "1", "--no_compile")
    assert {"ours, fp32", "timm, fp32", "a port's loop, fp32"} <= set(found["images_per_second"])
    assert all(share["of_a_large_product"] > 0 for side, share in found["share_of_matrix_peak"].items() if "," in side)
    assert found["times_timm"]["ours, fp32"]["low"] > 0


def test_timm_s_model_is_the_same_function(script: Callable[..., dict[str, Any]]) -> None:
    """Same sizes: as many parameters and FLOPs as ours, so that speeds compare like with like."""
    pytest.importorskip("timm", reason="timm is not installed (extra [bench])")
    import mixer

    spec = importlib.util.spec_from_file_location("train_throughput", ROOT / "benchmarks" / "train_throughput.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = mixer.create_model("Mixer-Nano_4")
    theirs = module.TimmMixer(model.config)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())


def test_nano_on_a_gpu_on_a_small_scale(script: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    small = ("--steps", "2", "--batch_size", "8", "--dataset", "digits", "--folder", str(tmp_path / "runs"))
    arguments = ("--recipes", "nano-scratch-gpu", *small, "--output", str(tmp_path / "found.json"))
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("needs torch 2.9 or later")
    (result,) = script("nano_gpu", *arguments)["runs"]
    assert result["num_steps"] == 2 and result["recipe"] == "nano-scratch-gpu"
    assert (tmp_path / "runs" / "nano-scratch-gpu" / "model.npz").exists()
