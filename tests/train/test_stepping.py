"""Steps that a flag forbids, without the host asking for it; readings several steps late."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import DROPPING, SHORT, needs_muon, rich, run, same_weights, tiny_model
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from mixer.train import Loop, TrainingError, build_optimizers
from mixer.train import loop as loop_module
from mixer.train.averaging import AveragedWeights
from mixer.train.readings import Readings
from mixer.train.stepping import STEPS_WORTH_COMPILING, GuardedSteps

GPU = torch.device("cuda")
OPTIMIZERS = ["sgd", "adamw", pytest.param("muon", marks=needs_muon)]


def stepper_of(model, name, device, **options):
    recipe = replace(SHORT, optimizer=name, learning_rate=0.01, weight_decay=0.1)
    return GuardedSteps(build_optimizers(model, recipe), torch.device(device), **options)


def give_gradients(model, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_forbidden_step_is_as_if_it_had_not_been_tried(name, device):
    """The device "cuda" is a stand-in: tensors are on the CPU, the way is that of a GPU."""
    model, other = tiny_model(), tiny_model()
    steppers = [stepper_of(each, name, device) for each in (model, other)]
    yes, no = torch.tensor(True), torch.tensor(False)
    for number, rate in enumerate((0.01, 0.008, 0.0, 0.005)):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        give_gradients(model, 100 + number, float("nan" if number % 2 else "inf"))
        steppers[0].set_rate(rate)
        steppers[0].step(no)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        for each, stepper in zip((model, other), steppers, strict=True):
            give_gradients(each, number)
            stepper.set_rate(rate)
            stepper.step(yes)
        assert same_weights(model, other)
    assert not same_weights(model, tiny_model())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gpu_s_way_is_the_plain_optimiser_s(name):
    model, plain = tiny_model(), tiny_model()
    recipe = replace(SHORT, optimizer=name, learning_rate=0.01, weight_decay=0.1)
    recipe = replace(recipe, token_mixing_learning_rate=0.005)
    stepper = GuardedSteps(build_optimizers(model, recipe), GPU)
    optimizers = build_optimizers(plain, recipe)
    for number, rate in enumerate((0.01, 0.02, 0.003)):
        give_gradients(model, number)
        stepper.set_rate(rate)
        stepper.step(torch.tensor(True))
        give_gradients(plain, number)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]
            optimizer.step()
    assert not same_weights(plain, tiny_model())
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@needs_muon
def test_muon_is_compiled_on_a_gpu_once_for_all_rates(monkeypatch):
    compiled = []

    def compile(function, **options):
        assert options == {"dynamic": False}

        def noted(allowed, rate):
            # A number would be compiled anew for each rate.
            assert isinstance(rate, torch.Tensor) and isinstance(allowed, torch.Tensor)
            compiled.append(float(rate))
            return function(allowed, rate)

        return noted

    monkeypatch.setattr(torch, "compile", compile)
    model = tiny_model()
    for device in ("cpu", "cuda"):
        stepper = stepper_of(model, "muon", device, compile=True)
        for rate in (0.5, 0.25):
            give_gradients(model, 0)
            stepper.set_rate(rate)
            stepper.step(torch.tensor(True))
    assert compiled == [0.5, 0.25]


@needs_muon
def test_muon_s_compiled_step_is_one_graph_for_all_rates(monkeypatch):
    """The graph is that of ``torch.compile``; what makes code of it is left out."""
    graphs = []

    def count(module, inputs):
        graphs.append(module)
        return module.forward

    compile = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda step, **options: compile(step, backend=count, **options)
    )
    torch.compiler.reset()
    models = tiny_model(), tiny_model()
    for model, compiled in zip(models, (True, False), strict=True):
        stepper = stepper_of(model, "muon", "cuda", compile=compiled)
        for number, rate in enumerate((0.5, 0.25, 0.1)):
            give_gradients(model, number)
            stepper.set_rate(rate)
            stepper.step(torch.tensor(number != 1))
    assert len(graphs) == 1
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class Watched(TorchDispatchMode):
    """Counts what makes a host wait for a device: numbers that are asked for, and copies to it."""

    def __init__(self):
        super().__init__()
        self.asked = self.copied = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        # item(), float(), bool() …
        self.asked += function is torch.ops.aten._local_scalar_dense.default
        if function is torch.ops.aten._to_copy.default:
            self.copied += result.device != args[0].device
        return result


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_host_asks_for_nothing_in_a_step(data, name):
    loop = Loop(tiny_model(), data, replace(rich(name), warmup_steps=0, ema_decay=0.0))
    loop.stepper = GuardedSteps(loop.optimizers, GPU)
    batch = loop.batches(0)
    # Which images come next is worked out on the host.
    loop.batches = lambda step: batch
    with Watched() as watched:
        bool(torch.tensor(True))
        assert watched.asked == 1
        for _ in range(3):
            loop.run_step()
        assert watched.asked == 1
    loop.read()
    assert loop.history.steps == [0, 1, 2]


def test_averaging_copies_nothing_to_the_device():
    """The device "meta" is a stand-in for one that would be waited for."""
    decay = 0.9
    model = tiny_model().to("meta")
    ours = AveragedWeights(model, decay)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    for average, copies in ((ours, 0), (theirs, 2)):
        with Watched() as watched:
            for _ in range(3):
                average.update_parameters(model)
        assert watched.copied == copies


def test_averages_are_pytorch_s_own():
    model = tiny_model()
    averages = [
        AveragedWeights(model, 0.9),
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    ]
    for seed in range(4):
        changed = tiny_model(seed=seed)
        for average in averages:
            average.update_parameters(changed)
    assert same_weights(*averages) and not same_weights(averages[0].module, changed)
    assert list(averages[0].state_dict()) == list(averages[1].state_dict())


def poisoned(monkeypatch, at, value=float("nan")):
    gradients = Loop._gradients

    def once(loop):
        loss = gradients(loop)
        if loop.step == at:
            loop.model.head.weight.grad[0, 0] = value
        return loss

    monkeypatch.setattr(Loop, "_gradients", once)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_bad_step_is_named_however_late_it_is_read(data, monkeypatch, name, device):
    recipe = replace(SHORT, optimizer=name, warmup_steps=0)
    start = GuardedSteps.__init__

    def elsewhere(stepper, optimizers, _, compile=False):
        start(stepper, optimizers, torch.device(device), compile)

    monkeypatch.setattr(GuardedSteps, "__init__", elsewhere)
    # The first three steps of such a run.
    expected = tiny_model()
    loop = Loop(expected, data, recipe)
    for _ in range(3):
        loop.run_step()
    poisoned(monkeypatch, 3)
    model = tiny_model()
    with pytest.raises(TrainingError, match=r"^step 3: the loss is [\d.]+, the norm .* nan; "):
        run(model, data, recipe, read_every=6)
    assert same_weights(model, expected)


def test_reading_late_leaves_the_same_files(data, tmp_path):
    for name, every in (("often", 1), ("late", 4)):
        options = {"output_dir": tmp_path / name, "eval_every": 3, "save_every": 5}
        model = tiny_model(config=DROPPING)
        run(model, data, rich("adamw"), read_every=every, **options)
    for file in ("metrics.jsonl", "model.npz", "best.npz"):
        one, other = ((tmp_path / name / file).read_bytes() for name in ("often", "late"))
        assert one == other, file


def test_readings_are_due_at_the_start_every_so_often_and_before_tests_and_states(
    data, monkeypatch
):
    read, steps = Readings.read, []

    def noted(readings):
        found = read(readings)
        steps.append([reading.step for reading in found])
        return found

    monkeypatch.setattr(Readings, "read", noted)
    recipe = replace(SHORT, num_steps=20)
    run(tiny_model(), data, recipe, read_every=10, eval_every=7)
    assert [some[-1] + 1 for some in steps if some] == [1, 7, 10, 14, 20]
    assert [step for some in steps for step in some] == list(range(20))


def test_steps_that_fp16_skips_are_counted_and_logged(data, tmp_path, monkeypatch):
    """On a CPU fp16 does not train: its scaler is a stand-in that changes nothing."""

    class Scaler(torch.amp.GradScaler):
        def __init__(self, device, enabled):
            super().__init__("cpu", init_scale=1.0, enabled=True)

    monkeypatch.setattr(torch.amp, "GradScaler", Scaler)
    poisoned(monkeypatch, 2, float("inf"))
    history = run(tiny_model(), data, replace(SHORT, warmup_steps=0), output_dir=tmp_path)
    assert history.skipped_steps == [2] and len(history.loss) == 6
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line.get("skipped")] == [3]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_apple_s_kernels_are_not_asked_to_forbid_a_step(name):
    """In some releases of torch they pass over ``found_inf``; a stand-in, on the CPU."""
    model = tiny_model()
    stepper = stepper_of(model, name, "mps")
    seen = []
    for optimizer in stepper.optimizers:
        optimizer.register_step_pre_hook(lambda one, *_: seen.append(hasattr(one, "found_inf")))
    stepper.set_rate(0.01)
    for allowed in (False, True):
        give_gradients(model, 1)
        stepper.step(torch.tensor(allowed))
        assert same_weights(model, tiny_model()) is not allowed
    assert not any(seen)


@pytest.mark.parametrize(("steps", "compiled"), [(-1, False), (0, True)])
def test_the_optimiser_s_step_is_compiled_in_long_runs_only(monkeypatch, data, steps, compiled):
    asked = []

    class Spy(GuardedSteps):
        def __init__(self, optimizers, device, compile):
            asked.append(compile)
            super().__init__(optimizers, device, compile)

    monkeypatch.setattr(loop_module, "GuardedSteps", Spy)
    for compile in (True, False):
        recipe = replace(SHORT, num_steps=STEPS_WORTH_COMPILING + steps)
        Loop(tiny_model(), data, recipe, compile=compile)
    assert asked == [compiled, False]
