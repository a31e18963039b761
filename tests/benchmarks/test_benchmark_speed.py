"""The comparisons of speed run from start to end on a small scale, and write what they found."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import mixer
from mixer.cost import training_flops
from mixer.data import load_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


class FakeSide:
    """Takes turns of one second by a clock of its own; ``speeds`` are its images per second."""

    def __init__(self, order: list[str], name: str, speeds: list[float | BaseException]) -> None:
        self.order, self.name, self.speeds = order, name, iter(speeds)
        self.stopped = False

    def warm_up(self) -> float:
        return 2.0

    def turn(self) -> tuple[float, float]:
        self.order.append(self.name)
        speed = next(self.speeds)
        if isinstance(speed, BaseException):
            raise speed
        return speed, 1.0

    def shares(self) -> dict[str, float]:
        return {"matrix products": 1.0}

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def race() -> Callable[..., Any]:
    """A race of fake sides: name -> their speeds; "product" is the large product."""

    def make(**speeds: list[float | BaseException]) -> Any:
        from comparisons import PRODUCT, Comparison
        from sides import Side, Task
        from speed import Race

        task = Task("training", "Mixer-Nano_4", 32, 4, 1)
        named = {PRODUCT if name == "product" else name: s for name, s in speeds.items()}
        sides = {name: Side(batch_size=index) for index, name in enumerate(named, 1)}
        if PRODUCT in sides:
            sides[PRODUCT] = Side(loop="product", batch_size=sides[PRODUCT].batch_size)
        order: list[str] = []
        started: dict[str, FakeSide] = {}

        def start(task: Any, side: Any) -> FakeSide:
            name = next(name for name, other in sides.items() if other is side)
            started[name] = FakeSide(order, name, named[name])
            return started[name]

        found = Race(Comparison("{batch} images", task, sides, (("a", "b"),)), start)
        found.order, found.started = order, started
        return found

    return make


def no_limit() -> Any:
    from common import Clock

    return Clock(None)


def test_sides_take_turns(race: Callable[..., Any]) -> None:
    from speed import run

    one = race(a=[4.0, 2, 9], b=[2.0, 4, 3], c=[1.0, 1, 1])
    notes: list[dict[str, Any]] = []
    assert run(one, 3, no_limit(), notes.append)
    assert one.order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [note["rounds"] for note in notes] == [1, 2, 3, 3]
    (found,) = notes[-1]["ratios"]
    assert found == {"side": "a", "base": "b", "median": 2.0, "low": 0.5, "high": 3.0}
    assert notes[-1]["what"] == "4 images"
    speeds = notes[-1]["sides"]["a"]["images_per_second"]
    assert speeds == {"median": 4.0, "low": 2.0, "high": 9.0}
    assert "share_of_time_by_part" in notes[-1]["sides"]["a"]
    assert "share_of_time_by_part" not in notes[-2]["sides"]["a"]
    assert all(side.stopped for side in one.started.values())


def test_a_failing_side_is_left_out_and_the_others_go_on(race: Callable[..., Any]) -> None:
    from speed import run

    one = race(a=[4.0, 2, 9], b=[2.0, RuntimeError("out of\nmemory")], c=[1.0, 1, 1])
    notes: list[dict[str, Any]] = []
    assert run(one, 3, no_limit(), notes.append)
    assert notes[-1]["left_out"] == {"b": "RuntimeError: out of memory"}
    assert notes[0]["ratios"] and notes[-1]["ratios"] == []
    assert set(notes[-1]["sides"]) == {"a", "c"} and notes[-1]["rounds"] == 3
    assert one.started["b"].stopped


def test_nothing_is_written_where_no_side_runs(race: Callable[..., Any]) -> None:
    from speed import run

    one = race(a=[ValueError("no")], b=[ValueError("no")])
    notes: list[dict[str, Any]] = []
    assert not run(one, 3, no_limit(), notes.append)
    assert notes == []


def test_a_large_product_alone_takes_no_earlier_comparison_s_place(
    race: Callable[..., Any],
) -> None:
    from speed import run

    one = race(a=[ValueError("no")], b=[ValueError("no")], product=[1e12, 1e12])
    notes: list[dict[str, Any]] = []
    assert not run(one, 2, no_limit(), notes.append)
    assert notes == [] and all(side.stopped for side in one.started.values())
    # Unless nothing else was asked for.
    assert run(race(product=[1e12, 1e12]), 2, no_limit(), notes.append)


def test_the_share_of_the_large_product(race: Callable[..., Any]) -> None:
    one = race(a=[2.0, 4.0], b=[1.0, 1.0], product=[1e12, 1e12])
    one.get_ready()
    for number in range(2):
        one.run_round(number)
    found = one.results()
    flops = training_flops(mixer.create_model("Mixer-Nano_4", 10, 32))
    assert found["flops_an_image"] == flops
    assert found["large_product_flops_per_second"] == 1e12
    shares = found["sides"]["a"]["share_of_a_large_product"]
    assert shares["high"] == pytest.approx(4 * flops / 1e12, abs=1e-3)
    assert set(found["sides"]) == {"a", "b"}


def test_results_stay_after_an_interruption(race: Callable[..., Any]) -> None:
    from speed import run

    one = race(a=[4.0, KeyboardInterrupt()], b=[2.0, 1.0])
    notes: list[dict[str, Any]] = []
    with pytest.raises(KeyboardInterrupt):
        run(one, 3, no_limit(), notes.append)
    assert [note["rounds"] for note in notes] == [1]
    assert all(side.stopped for side in one.started.values())


def test_minutes_end_the_rounds(race: Callable[..., Any]) -> None:
    """One round is made whatever the limit."""
    from common import Clock
    from speed import run

    notes: list[dict[str, Any]] = []
    assert run(race(a=[4.0] * 9, b=[2.0] * 9), 9, Clock(0), notes.append)
    assert notes[-1]["rounds"] == 1


def test_no_round_begins_that_would_end_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    import common

    now = 0.0
    monkeypatch.setattr(common, "time", SimpleNamespace(perf_counter=lambda: now))
    clock = common.Clock(minutes=2)
    now = 20
    clock.start_round()
    ends = []
    for now in (50, 80, 115):  # noqa: B007 (read by the clock)
        ends.append(clock.is_up())
    assert ends == [False, False, True]
    assert not common.Clock(None).is_up()


def test_one_comparison_takes_the_place_of_its_name_alone(tmp_path: Path) -> None:
    from speed import keep

    path = tmp_path / "speed.json"
    keep(path, "one", {"date": "1"}, {"rounds": 1})
    keep(path, "two", {"date": "1"}, {"rounds": 1})
    keep(path, "one", {"date": "2"}, {"rounds": 7})
    found = json.loads(path.read_text())["comparisons"]
    assert found == {"one": {"rounds": 7, "date": "2"}, "two": {"rounds": 1, "date": "1"}}


def small(steps: int = 1) -> Any:
    from sides import Task

    return Task("training", "Mixer-Nano_4", 32, 2, steps, "digits")


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "loop"),
    [
        ("ours", "mixer.train"),
        ('ours with nn.GELU("tanh")', "mixer.train"),
        ("ours with a narrow GELU", "mixer.train"),
        ("timm as it comes", "mixer.train"),
        ("timm with tanh", "mixer.train"),
        ("ours", "masters"),
        ("ours", "obvious"),
    ],
)
def test_each_way_to_train_takes_a_turn(model: str, loop: str) -> None:
    from sides import Side, build

    if model.startswith("timm"):
        pytest.importorskip("timm", reason="timm is not installed (extra [bench])")
    work = build(small(steps=3), Side(model=model, precision="fp32", compile=False, loop=loop), CPU)
    before = [parameter.clone() for parameter in work.loop.model.parameters()]
    assert work.warm_up() > 0
    images, seconds = work.turn()
    assert images == 6 and seconds > 0
    after = list(work.loop.model.parameters())
    assert any(not torch.equal(a, b.detach()) for a, b in zip(before, after, strict=True))


def test_the_forward_pass_and_the_large_product_take_turns() -> None:
    from sides import Side, build

    task = replace(small(steps=2), kind="forward")
    work = build(task, Side(precision="bf16", compile=False), CPU)
    assert work.turn()[0] == 4
    assert work.step().shape == (2, 1000) and not work.step().requires_grad
    product = build(task, Side(precision="fp32", loop="product"), CPU)
    product.a, product.b = product.a[:64, :64], product.b[:64, :64]
    assert product.turn()[0] == 8 * 2 * 2048**3


def test_settings_of_the_compiler_reach_the_steps_and_no_further() -> None:
    import torch._inductor.config as config
    from sides import Side, build

    work = build(small(), Side(precision="fp32", compile=False, inductor={"freezing": True}), CPU)
    seen: list[bool] = []
    work.loop = SimpleNamespace(run_step=lambda: seen.append(config.freezing))
    work.warm_up()
    work.turn()
    assert seen == [True] * 4 and config.freezing is False


def test_shares_of_time_add_up() -> None:
    from sides import Side, build

    found = build(small(), Side(precision="fp32", compile=False), CPU).shares()
    assert sum(found.values()) == pytest.approx(1, abs=0.01)
    assert found["matrix products"] > 0.05


def test_bf16_weights_with_masters_learn_what_fp32_weights_learn() -> None:
    from common import short_recipe
    from tried import MasterLoop

    from mixer.train import Loop

    data = load_data("digits")
    recipe = short_recipe(10, seed=0, batch_size=16)
    torch.manual_seed(0)
    ours = mixer.create_model("Mixer-Nano_4", 10)
    theirs = mixer.create_model("Mixer-Nano_4", 10)
    theirs.load_state_dict(ours.state_dict())
    loops = Loop(ours.train(), data, recipe), MasterLoop(theirs.train(), data, recipe, False)
    for _ in range(6):
        loops[0].run_step()
        theirs_now = float(loops[1].run_step())
        loops[0].read()
        assert theirs_now == pytest.approx(loops[0].history.loss[-1], abs=0.03)
    assert {p.dtype for p in loops[1].model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in loops[1].masters.parameters()} == {torch.float32}


def test_a_step_in_parts_is_the_step_of_the_batch() -> None:
    from ordinary import plain_step

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


def test_a_batch_is_split_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import sides

    monkeypatch.setattr(sides, "pick_accumulation", lambda config, size, *_: size)
    work = sides.build(small(), sides.Side(precision="fp32", compile=False), CPU)
    assert work.loop.accumulation == 2


def test_the_port_s_workers_rest_in_others_turns() -> None:
    import ordinary
    from sides import Training
    from torch.multiprocessing import active_children

    model = mixer.create_model("Mixer-Nano_4", 10, 32)
    loop = ordinary.PortLoop(model, load_data("digits"), 2, workers=1)
    work = Training(loop, 2, small(), SimpleNamespace(inductor={}))
    before = len(active_children())
    work.before_turn()
    assert len(active_children()) == before + 1
    work.after_turn()
    assert len(active_children()) == before
    assert work.turn()[0] == 2
    assert len(active_children()) == before


def test_too_little_shared_memory_is_said() -> None:
    import ordinary

    ordinary.enough_shared_memory(1)
    if ordinary.SHARED_MEMORY.exists():
        with pytest.raises(ordinary.TrainingError, match="shm-size"):
            ordinary.enough_shared_memory(10**18)


def test_timm_s_model_is_the_same_function() -> None:
    """As many parameters as ours, so that speeds compare like with like."""
    pytest.importorskip("timm", reason="timm is not installed (extra [bench])")
    from ordinary import TimmMixer

    model = mixer.create_model("Mixer-Nano_4")
    theirs = TimmMixer(model.config)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())


def test_other_gelus_are_the_same_function() -> None:
    from sides import BUILD

    config = mixer.MODELS["Mixer-Nano_4"]
    found = []
    for name in ("ours", 'ours with nn.GELU("tanh")', "ours with a narrow GELU"):
        torch.manual_seed(0)
        model = BUILD[name](config)
        torch.nn.init.normal_(model.head.weight)
        found.append(model(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gpu", [False, True])
def test_every_comparison_has_its_sides(gpu: bool) -> None:
    from comparisons import PRODUCT, comparisons
    from sides import BUILD

    found = comparisons(gpu, "bf16", "digits")
    large = "b16" if gpu else "s16"
    asked = {"nano-training", f"{large}-training", f"{large}-training-fp32", "nano-settings"}
    assert found.keys() == asked | {"b16-forward", "b16-forward-fp32"}
    for comparison in found.values():
        assert comparison.task.dataset == "digits"
        assert comparison.ratios
        for pair in comparison.ratios:
            assert set(pair) <= comparison.sides.keys() and len(set(pair)) == 2
        assert comparison.sides[PRODUCT].loop == "product"
        assert {side.model for side in comparison.sides.values()} <= BUILD.keys()
        assert "{batch}" in comparison.what


def test_settings_that_are_tried_are_the_compiler_s() -> None:
    import torch._inductor.config as config
    from comparisons import INDUCTOR

    for tried in INDUCTOR.values():
        with config.patch(tried):
            pass


def test_without_bf16_nothing_of_bf16_is_tried() -> None:
    from comparisons import comparisons

    for comparison in comparisons(False, "fp32").values():
        assert all(side.precision == "fp32" for side in comparison.sides.values())
        assert not any(side.loop == "masters" for side in comparison.sides.values())


def test_a_side_in_a_process_of_its_own() -> None:
    from sides import Side
    from workers import SideError, Worker

    worker = Worker(small(), Side(precision="fp32", compile=False), CPU, threads=1)
    try:
        assert worker.warm_up() > 0
        images, seconds = worker.turn()
        assert images == 2 and seconds > 0
        worker.process.kill()
        with pytest.raises(SideError, match="its process"):
            worker.turn()
    finally:
        worker.stop()
    assert not worker.process.is_alive()


def test_why_a_side_cannot_be_built_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import workers
    from sides import Side

    sent: list[Any] = []
    line = SimpleNamespace(send=sent.append, recv=lambda: "turn")
    task = replace(small(), model="Mixer-None")
    workers.serve(line, task, Side(), "cpu", None)
    ((worked, why),) = sent
    assert not worked and why.startswith("ValueError") and "Mixer-None" in why


def test_a_whole_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm", reason="timm is not installed (extra [bench])")
    import sides
    import speed

    # Half a minute each, for nothing here.
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    monkeypatch.setattr(sides.Product, "step", lambda self: None)
    monkeypatch.setattr(sides, "time_by_part", lambda step, steps: {"other": 1.0})
    path = tmp_path / "speed.json"
    arguments = ["--only", "nano-training", "--dataset", "digits", "--batch_size", "2"]
    arguments += ["--steps", "1", "--rounds", "1", "--device", "cpu", "--precision", "fp32"]
    monkeypatch.setattr(
        sys, "argv", ["speed.py", *arguments, "--in_process", "--output", str(path)]
    )
    assert speed.main() == 0
    found = json.loads(path.read_text())["comparisons"]["nano-training"]
    assert found["left_out"] == {} and found["rounds"] == 1
    assert len(found["sides"]) == 6 and len(found["ratios"]) == 6
    assert found["what"].startswith("training Mixer-Nano_4, 32 px, batches of 2, ")
    assert found["machine"]["device"] == "cpu" and "--only nano-training" in found["command"]

    only_ours = tmp_path / "ours.json"
    # Only some of the comparisons have the side.
    chosen = ["--only", "nano-training", "nano-settings", "--sides", "timm as it comes"]
    line = ["speed.py", *arguments[2:], *chosen, "--in_process", "--output", str(only_ours)]
    monkeypatch.setattr(sys, "argv", line)
    assert speed.main() == 0
    alone = json.loads(only_ours.read_text())["comparisons"]
    assert alone.keys() == {"nano-training"} and alone["nano-training"]["ratios"] == []
    assert alone["nano-training"]["sides"].keys() == {"timm as it comes"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "huge"], "--only: expected some of nano-training"),
        (["--sides", "theirs", "--output", "x.json"], "--sides: expected some of ours, "),
        (["--sides", "ours"], "--sides: expected --output beside it"),
    ],
)
def test_an_unknown_comparison_or_side_is_named(
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import speed

    monkeypatch.setattr(sys, "argv", ["speed.py", "--device", "cpu", *arguments])
    with pytest.raises(SystemExit):
        speed.main()
    assert says in capsys.readouterr().err


def test_what_was_measured_stands_without_a_profile(
    race: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from speed import Clock, run

    def broken(side: FakeSide) -> dict[str, float]:
        raise RuntimeError("no profiler here")

    monkeypatch.setattr(FakeSide, "shares", broken)
    notes: list[dict[str, Any]] = []
    race_of_two = race(a=[10, 10], b=[5, 5])
    assert run(race_of_two, 2, Clock(None), notes.append)
    assert notes[-1]["sides"].keys() == {"a", "b"} and not notes[-1]["left_out"]
    assert "share_of_time_by_part" not in notes[-1]["sides"]["a"]


def test_time_on_a_gpu_is_counted_once() -> None:
    from profiling import shares_by_part
    from torch.autograd import DeviceType

    def event(key: str, device: DeviceType, time: float, named: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            key=key,
            device_type=device,
            self_device_time_total=time,
            self_cpu_time_total=1.0,
            is_user_annotation=named,
        )

    events = [
        event("aten::mm", DeviceType.CPU, 10),
        event("sm90_gemm_kernel", DeviceType.CUDA, 10),
        event("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NNT", DeviceType.CUDA, 10),
        event("cutlass_80_tensorop_s1688", DeviceType.CUDA, 10),
        event("all steps", DeviceType.CUDA, 15, named=True),
    ]
    assert shares_by_part(events, cuda=True) == {"matrix products": 1.0}


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_every_accelerator_is_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sides import wait_for

    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    wait_for(torch.device(kind))
    wait_for(CPU)
    assert [device.type for device in waited] == [kind]
