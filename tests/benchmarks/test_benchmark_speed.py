"""Scripts that measure speed run from start to end on a small scale, and write what they print."""

import importlib.util
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--model",
    "Mixer-Nano_4",
    "--image_size",
    "32",
    "--batch_size",
    "2",
    "--dataset",
    "digits",
    "--steps",
    "1",
)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Load a script of benchmarks/ as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def call(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # DataLoader's workers look the data set's class up.
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return call


@pytest.fixture
def script(
    load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Run a script of benchmarks/, by name or loaded, with arguments; returns what it wrote."""
    # Half a minute each, for nothing here.
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)

    def call(which: str | ModuleType, *arguments: str) -> dict[str, Any]:
        module = load(which) if isinstance(which, str) else which
        monkeypatch.setattr(module, "RESULTS", tmp_path)
        monkeypatch.setattr(sys, "argv", [module.__name__, "--device", "cpu", *arguments])
        module.main()
        written = sorted(tmp_path.glob("*.json"))
        assert len(written) == 1
        results: dict[str, Any] = json.loads(written[0].read_text())
        return results

    return call


@pytest.fixture
def throughput(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """train_throughput.py in fp32 alone, its port with one worker, without its large product."""
    pytest.importorskip("timm", reason="timm is not installed (extra [bench])")
    module = load("train_throughput")
    monkeypatch.setattr(module.PortLoop.__init__, "__defaults__", (1, 1))
    monkeypatch.setattr(module, "matrix_peak", lambda *_: 1e11)
    # As many sides on every processor.
    monkeypatch.setattr(module, "pick_precision", lambda _: "fp32")
    return module


def test_ratio_and_spread(script: Callable[..., dict[str, Any]]) -> None:
    from common import ratio, spread

    speeds = {"ours": [10.0, 40.0, 30.0], "theirs": [10.0, 10.0, 10.0]}
    assert ratio(speeds, "ours", "theirs") == {"median": 3.0, "low": 1.0, "high": 4.0}
    assert spread(speeds["ours"]) == {"median": 30.0, "low": 10.0, "high": 40.0}


def side_that_notes(order: list[str], name: str) -> Callable[[], int]:
    return lambda: order.append(name) or 5  # type: ignore[func-returns-value]


def test_sides_take_turns(script: Callable[..., dict[str, Any]]) -> None:
    from common import interleave

    order: list[str] = []
    sides = {name: side_that_notes(order, name) for name in "abc"}
    before, after = ({"b": lambda word=word: order.append(word)} for word in ("ready", "done"))
    found = interleave(sides, 4, torch.device("cpu"), before, after)
    b = ["ready", "b", "done"]
    assert order == ["a", *b, "c", *b, "c", "a", "c", "a", *b, "a", *b, "c"]
    assert {name: len(speeds) for name, speeds in found.items()} == {"a": 4, "b": 4, "c": 4}


def test_enough_ends_the_rounds(script: Callable[..., dict[str, Any]]) -> None:
    from common import interleave

    sides = {name: side_that_notes([], name) for name in "ab"}
    found = interleave(sides, 9, torch.device("cpu"), enough=lambda speeds: len(speeds["b"]) == 2)
    assert {name: len(speeds) for name, speeds in found.items()} == {"a": 2, "b": 2}


def test_a_step_in_parts_is_the_step_of_the_batch(script: Callable[..., dict[str, Any]]) -> None:
    from common import plain_step

    import mixer

    found = []
    for parts in (1, 3):
        torch.manual_seed(0)
        model = mixer.create_model("Mixer-Nano_4")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        images, target = torch.randn(6, 3, 32, 32), torch.randint(10, (6,))
        losses = [plain_step(model, optimizer, images, target, parts) for _ in range(2)]
        found.append((losses, [p.detach().clone() for p in model.parameters()]))
    (whole, weights), (split, others) = found
    assert split == pytest.approx(whole, abs=1e-5)
    assert whole[0] != whole[1]
    for weight, other in zip(weights, others, strict=True):
        torch.testing.assert_close(other, weight, atol=1e-5, rtol=1e-4)


def test_small_model(script: Callable[..., dict[str, Any]]) -> None:
    found = script(
        "small_model_speed",
        "--dataset",
        "digits",
        "--rounds",
        "1",
        "--steps",
        "1",
        "--batch_size",
        "4",
    )
    sides = set(found["times_the_obvious_loop"])
    assert {"the obvious loop", "mixer.train, fp32", "mixer.train, compiled"} <= sides
    assert all(speed["low"] > 0 for speed in found["images_per_second"].values())
    for shares in found["share_of_time_by_part"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=0.01)
        assert shares["matrix products"] > 0.05


def test_throughput(script: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("timm", reason="timm is not installed (extra [bench])")
    before = torch.get_float32_matmul_precision()
    found = script("train_throughput", *SMALL, "--rounds", "1", "--no_compile")
    sides = set(found["images_per_second"])
    assert {"ours, fp32", "timm, fp32", "a port's loop, fp32"} <= sides
    assert all(
        share["of_a_large_product"] > 0
        for side, share in found["share_of_matrix_peak"].items()
        if "," in side
    )
    assert found["times_timm"]["ours, fp32"]["low"] > 0
    assert found["rounds"] == 1
    assert found["left_out"] == {}
    assert found["seconds_until_ready"].keys() == sides
    assert found["parts_of_a_batch"] == dict.fromkeys(sides, 1)
    assert found["machine"]["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert torch.get_float32_matmul_precision() == before


def test_sides_on_a_gpu(throughput: ModuleType) -> None:
    few = [("ours", "fp32", False), ("timm", "fp32", False)]
    half = [
        ("ours", "bf16", False),
        ("timm", "bf16", False),
        ("ours", "bf16", True),
        ("timm", "bf16", True),
    ]
    assert throughput.choices("bf16", compiled=True, few=True) == few + half
    assert throughput.choices("bf16", compiled=False, few=True) == few + half[:2]
    assert len(throughput.choices("bf16", compiled=True, few=False)) == 12
    assert len(throughput.choices("fp32", compiled=True, few=False)) == 6


def test_results_are_written_after_each_round(
    throughput: ModuleType,
    script: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A run that ends in its third round leaves two."""
    turns, run = itertools.count(1), throughput.Side.run

    def until_the_third(side: Any, steps: int) -> int:
        # Four sides.
        if steps == 7 and next(turns) > 8:
            raise KeyboardInterrupt
        return int(run(side, 1))

    monkeypatch.setattr(throughput.Side, "run", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        script(
            throughput,
            *SMALL,
            "--steps",
            "7",
            "--rounds",
            "5",
            "--no_compile",
            "--output",
            str(tmp_path / "a.json"),
        )
    found = json.loads((tmp_path / "a.json").read_text())
    assert len(found["images_per_second"]) == 4
    assert found["rounds"] == 2


def test_minutes_end_the_rounds(
    throughput: ModuleType, script: Callable[..., dict[str, Any]]
) -> None:
    """One round is made whatever the limit."""
    found = script(throughput, *SMALL, "--rounds", "5", "--no_compile", "--minutes", "0")
    assert found["rounds"] == 1


def test_no_round_begins_that_would_end_too_late(
    throughput: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now))
    clock = throughput.Clock(minutes=2)
    now = 20
    clock.start_round()
    ends = []
    for now in (50, 80, 115):  # noqa: B007 (read by the clock)
        ends.append(clock.is_up())
    assert ends == [False, False, True]
    assert not throughput.Clock(None).is_up()


@pytest.mark.parametrize("side", ["timm, fp32", "a port's loop, fp32"])
def test_a_side_out_of_memory_is_left_out(
    side: str,
    throughput: ModuleType,
    script: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_large(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    if side.startswith("timm"):
        monkeypatch.setitem(
            throughput.BUILD, "timm", type("Large", (throughput.TimmMixer,), {"forward": too_large})
        )
    else:
        monkeypatch.setattr(throughput, "plain_step", too_large)
    found = script(throughput, *SMALL, "--rounds", "1", "--no_compile")
    assert found["left_out"].keys() == {side}
    assert "out of memory" in found["left_out"][side]
    assert side not in found["images_per_second"]
    assert "ours, fp32" in found["images_per_second"]
    missing, there = ("times_timm_fp32", "times_a_port_s_loop")[
        :: 1 if side.startswith("timm") else -1
    ]
    assert found[missing] == {}
    assert found[there]["ours, fp32"]["median"] > 0


def test_a_batch_is_split_by_memory(
    throughput: ModuleType, script: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = throughput.mixer.MlpMixer.forward

    def noted(self: Any, images: torch.Tensor) -> Any:
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(throughput.mixer.MlpMixer, "forward", noted)
    monkeypatch.setattr(throughput, "pick_accumulation", lambda config, size, *_: size)
    found = script(throughput, *SMALL, "--rounds", "1", "--no_compile")
    assert set(found["parts_of_a_batch"].values()) == {2}
    assert set(sizes) == {1}


def test_the_port_s_workers_rest_in_others_turns(throughput: ModuleType) -> None:
    from torch.multiprocessing import active_children

    import mixer

    data = throughput.load_data("digits")
    model = mixer.create_model("Mixer-Nano_4", len(data.classes), 32)
    side = throughput.Side(throughput.PortLoop(model, data, 2), 2, torch.device("cpu"))
    before = len(active_children())
    side.before_turn()
    assert len(active_children()) == before + 1
    assert side.run(1) == 2
    side.after_turn()
    assert len(active_children()) == before


def test_too_little_shared_memory_is_said(throughput: ModuleType) -> None:
    throughput.enough_shared_memory(1)
    if throughput.SHARED_MEMORY.exists():
        with pytest.raises(throughput.TrainingError, match="shm-size"):
            throughput.enough_shared_memory(10**18)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Tesla T4", 65e12),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA T400", None),
    ],
)
def test_peaks_of_the_data_sheets(throughput: ModuleType, name: str, peak: float | None) -> None:
    assert throughput.datasheet_peak(name) == peak


def test_fp32_is_full_fp32_in_the_port_s_loop(throughput: ModuleType) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with throughput.full_fp32():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_timm_s_model_is_the_same_function(throughput: ModuleType) -> None:
    """Same sizes: as many parameters and FLOPs as ours, so that speeds compare like with like."""
    import mixer

    model = mixer.create_model("Mixer-Nano_4")
    theirs = throughput.TimmMixer(model.config)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())


def test_speed_table_shows_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("speed_figures", ROOT / "tools" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    figures = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "speed_figures", figures)
    spec.loader.exec_module(figures)
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "cifar10.json")
    machines: dict[str, dict[str, Any]] = {
        "cpu": {"device": "cpu", "processor": "P", "threads": 2},
        "cpu-avx2": {"device": "cpu", "processor": "P", "threads": 2, "cpu_capability": "AVX2"},
        "cuda": {"device": "G", "processor": "P", "cpu_capability": "AVX2"},
    }
    for name, machine in machines.items():
        (tmp_path / f"train_throughput-{name}.json").write_text(json.dumps(speeds_of(machine)))
    rows = [line.strip("| ").split(" | ") for line in figures.speed_table().splitlines()[2:]]
    assert [row[0].split("; ")[1] for row in rows[::3]] == [
        "P, 2 threads",
        "P (AVX2), 2 threads",
        "G",
    ]
    assert [row[3].split(" × ")[1] for row in rows[6:]] == [
        "timm's model in our loop, same precision",
        "timm's model in our loop, same precision",
        "timm's model in our loop, fp32 (TF32)",
    ]
    assert [row[1] for row in rows[:3]] == ["ours, fp32", "ours, bf16", "ours, bf16"]
    assert "**0.9**" in rows[1][3]


def speeds_of(machine: dict[str, Any]) -> dict[str, Any]:
    """A result in which ours is the slower model at each precision."""

    def ratio(value: float) -> dict[str, float]:
        return {"median": value, "low": value, "high": value}

    return {
        "what": "images/s training M; sides take turns",
        "machine": machine,
        "images_per_second": {"ours, fp32": ratio(10.0), "ours, bf16": ratio(27.0)},
        "times_timm": {"ours, fp32": ratio(1.0), "ours, bf16": ratio(0.9)},
        "times_timm_fp32": {"ours, fp32": ratio(1.0), "ours, bf16": ratio(2.7)},
    }


def test_nano_on_a_gpu_on_a_small_scale(
    script: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    small = (
        "--steps",
        "2",
        "--batch_size",
        "8",
        "--dataset",
        "digits",
        "--folder",
        str(tmp_path / "runs"),
    )
    arguments = ("--recipes", "nano-scratch-gpu", *small, "--output", str(tmp_path / "found.json"))
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("needs torch 2.9 or later")
    (result,) = script("nano_gpu", *arguments)["runs"]
    assert result["num_steps"] == 2 and result["recipe"] == "nano-scratch-gpu"
    assert (tmp_path / "runs" / "nano-scratch-gpu" / "model.npz").exists()
