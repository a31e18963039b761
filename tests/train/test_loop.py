"""The training step: the official one written out, parts, averages, and steps that go wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    DROPPING,
    SHORT,
    needs_muon,
    official_schedule,
    rich,
    run,
    same_weights,
    tiny_model,
)

import mixer
from mixer.data import load_data, normalize
from mixer.train import Options, Recipe, TrainingError, batch_indices, train
from mixer.train import run as run_module
from mixer.train.loop import train_steps
from mixer.train.run import Run

OPTIONS = Options(device="cpu", precision="fp32", progress=False)


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_official_recipe_step_by_step(data, decay):
    recipe = replace(SHORT, augmentation="none", decay_type=decay, num_steps=8, max_grad_norm=0.3)
    expected, found = tiny_model(), tiny_model()
    optimizer = torch.optim.SGD(expected.parameters(), lr=1.0, momentum=0.9)
    losses, norms, rates = [], [], []
    for step in range(8):
        rows = batch_indices(30, 12, step, recipe.seed)
        rates.append(official_schedule(0.03, step, 8, 2, decay))
        optimizer.param_groups[0]["lr"] = rates[-1]
        loss = F.cross_entropy(expected(normalize(data.x_train[rows])), data.y_train[rows])
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.cat([p.grad.flatten() for p in expected.parameters()]).norm()))
        for p in expected.parameters():
            p.grad *= min(1.0, 0.3 / (norms[-1] + 1e-6))
        optimizer.step()
        losses.append(loss.item())
    history = run(found, data, recipe)
    # Else clipping was not tried.
    assert max(norms) > 0.3 > min(norms) or min(norms) > 0.3
    np.testing.assert_allclose(history.loss, losses, rtol=1e-5)
    np.testing.assert_allclose(history.lr, rates, rtol=1e-12)
    assert history.steps == list(range(8)) and not found.training
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not same_weights(found, tiny_model())


# Losses of Mixer-Nano_4 on scikit-learn's digits, as they were before the loop was written anew.
BASE = Recipe(num_steps=12, warmup_steps=3, batch_size=16, seed=7)
ADAMW = replace(BASE, optimizer="adamw", learning_rate=1e-3)
MUON = {"muon_parts": "channel_mixing", "learning_rate": 3e-3, "weight_decay": 0.2}
PARTS = {"token_mixing_learning_rate": 1e-3, "token_mixing_weight_decay": 0.1}
OUTER = {"outer_learning_rate": 2e-3, "outer_weight_decay": 0.05, "augmentation": "none"}
GOLDEN = {
    "inception": (
        BASE,
        [2.29291, 2.33282, 2.36535, 2.31851, 2.19709, 2.24044, 2.35198, 2.32528, 2.27389, 2.4513],
        0.0043703,
    ),
    "adamw, average": (
        replace(ADAMW, weight_decay=0.1, ema_decay=0.9, augmentation="pad_crop"),
        [2.29638, 2.29475, 2.30584, 2.27009, 2.20155, 2.15643, 2.16296, 2.16431, 2.13535, 2.13425],
        0.0012228,
    ),
    "muon on channel mixing": (
        replace(BASE, optimizer="muon", **MUON, **PARTS, **OUTER),
        [2.28907, 2.29856, 2.27812, 2.19496, 2.07248, 2.00077, 2.0089, 1.9991, 1.98809, 1.99556],
        0.0047587,
    ),
    "mixup, cutmix": (
        replace(ADAMW, mixup=0.2, cutmix=1.0),
        [2.29763, 2.30205, 2.31204, 2.30375, 2.2911, 2.27938, 2.31252, 2.29683, 2.29485, 2.33219],
        0.0019251,
    ),
}


@needs_muon
@pytest.mark.parametrize("name", GOLDEN)
def test_the_numbers_are_those_of_earlier_versions(name):
    pytest.importorskip("sklearn")
    recipe, losses, head = GOLDEN[name]
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4"), num_classes=10)
    digits = load_data("digits")
    digits = replace(digits, x_test=digits.x_test[:20], y_test=digits.y_test[:20])
    history = train(model, digits, recipe, OPTIONS)
    loose = 2e-3 if recipe.optimizer == "muon" else 1e-4
    np.testing.assert_allclose(history.loss[2:], losses, rtol=loose)
    assert history.loss[:2] == pytest.approx([np.log(10)] * 2, rel=1e-4)
    assert float(model.head.weight.detach().abs().mean()) == pytest.approx(head, rel=loose)


@pytest.mark.parametrize("parts", [2, 5, 12])
def test_a_batch_in_parts_is_the_same_batch(data, parts):
    """Of five parts of twelve images not all have the same size."""
    whole, split = tiny_model(), tiny_model()
    expected = run(whole, data)
    found = run(split, data, gradient_accumulation_steps=parts)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    for a, b in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_averaged_weights_are_what_remains(data):
    recipe = replace(SHORT, num_steps=3, warmup_steps=0, ema_decay=0.75)
    averaged = tiny_model()
    history = run(averaged, data, recipe, eval_every=1)
    steps = []
    for count in (1, 2, 3):
        steps.append(tiny_model())
        shorter = Run(steps[-1], data, recipe, OPTIONS)
        made = train_steps(shorter)
        assert [next(made) for _ in range(count)] == list(range(1, count + 1))
    # The average starts as a copy of the model after the first step.
    for a, *b in zip(*(model.parameters() for model in (averaged, *steps)), strict=True):
        torch.testing.assert_close(a, 0.75 * (0.75 * b[0] + 0.25 * b[1]) + 0.25 * b[2])
    assert not same_weights(averaged, steps[-1])
    scored = mixer.train.evaluate(averaged, data.x_test, data.y_test)
    assert history.test_loss[-1] == pytest.approx(scored.loss, rel=1e-6)


def poisoned(monkeypatch, bad_step, value):
    """The images of a step, counted from 1, are such numbers."""
    make = run_module.Batches.__call__

    def images(batches, step):
        images, target = make(batches, step)
        return (images * value if step + 1 == bad_step else images), target

    monkeypatch.setattr(run_module.Batches, "__call__", images)


@pytest.mark.parametrize("every", [1, 6])
def test_a_loss_that_is_not_finite_is_named_however_late_it_is_read(data, monkeypatch, every):
    poisoned(monkeypatch, 4, float("nan"))
    running = Run(tiny_model(), data, SHORT, OPTIONS)
    running.read_every = every
    with pytest.raises(TrainingError, match=r"^step 4: the loss is nan, .* nan; start again"):
        list(train_steps(running))
    assert running.history.steps == ([0, 1, 2] if every == 1 else [0])


def test_the_last_state_is_good_and_goes_on(data, tmp_path, monkeypatch):
    options = {"output_dir": tmp_path, "save_every": 1}
    poisoned(monkeypatch, 4, float("inf"))
    with pytest.raises(TrainingError, match=r"^step 4: .*state\.pt holds the last good state"):
        run(tiny_model(), data, **options)
    monkeypatch.undo()
    whole, resumed = tiny_model(), tiny_model(seed=5)
    run(whole, data)
    run(resumed, data, **options, resume=True)
    assert same_weights(whole, resumed)


@pytest.mark.parametrize("what", ["weight", "momentum", "average"])
def test_a_state_that_is_not_finite_is_never_written(data, tmp_path, monkeypatch, what):
    save = Run.save

    def spoilt(running):
        if running.step == 4:
            tensors = {
                "weight": running.model.stem.weight,
                "momentum": running.optimizers[0].state[running.model.stem.weight]["exp_avg"],
                "average": running.average.head.bias,
            }
            tensors[what].data[0] = float("nan")
        save(running)

    monkeypatch.setattr(Run, "save", spoilt)
    with pytest.raises(TrainingError, match=r"^step 4: a weight is not finite after it; "):
        run(tiny_model(config=DROPPING), data, rich("adamw"), output_dir=tmp_path, save_every=2)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2


class Halving(torch.amp.GradScaler):
    """A gradient scaler as fp16 has it, on a CPU; it skips what is infinite."""

    def __init__(self, device="cpu", enabled=True, scale=8.0):
        super().__init__("cpu", init_scale=scale, enabled=True)


@needs_muon
def test_an_infinite_gradient_under_fp16_leaves_all_weights_as_they_were(data):
    model = tiny_model()
    running = Run(model, data, replace(SHORT, optimizer="muon", warmup_steps=0), OPTIONS)
    running.scaler = Halving()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # AdamW's, not Muon's.
    infinite = model.head.weight.register_hook(lambda grad: grad * float("inf"))
    steps = train_steps(running)
    next(steps)
    assert running.scaler.get_scale() == 4.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    infinite.remove()
    next(steps)
    assert not torch.equal(model.stem.weight, before["stem.weight"])
    # A scale that is too small to be halved is no ordinary one.
    running.scaler.update(new_scale=2.0**-9)
    model.head.weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(TrainingError, match=r"^step 3: .* gradient's norm inf"):
        next(steps)


# As CUDA, Apple's GPUs, PyTorch's CPU allocator and Python say it.
NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


def small_memory(monkeypatch, most, error):
    """Memory for the backward pass of so many images."""
    cross_entropy = F.cross_entropy

    def loss(logits, target, **more):
        if logits.requires_grad and len(logits) > most:
            # Full in the backward pass, when something of the gradient is there.
            logits.register_hook(lambda grad: (_ for _ in ()).throw(error))
        return cross_entropy(logits, target, **more)

    monkeypatch.setattr(F, "cross_entropy", loss)


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:12])
def test_a_full_memory_makes_the_step_again_in_twice_the_parts(data, monkeypatch, capsys, error):
    expected, found = tiny_model(), tiny_model()
    losses = run(expected, data, gradient_accumulation_steps=4).loss
    small_memory(monkeypatch, 3, error)
    assert run(found, data).loss == losses and same_weights(expected, found)
    assert capsys.readouterr().out.splitlines() == [
        "out of memory with 12 images at a time: the step again with the batch in 2 parts",
        "out of memory with 6 images at a time: the step again with the batch in 4 parts",
    ]


def test_a_full_memory_that_parts_do_not_help_is_said(data, monkeypatch):
    small_memory(monkeypatch, 0, NO_MEMORY[0])
    with pytest.raises(TrainingError, match=r"^out of memory with 1 images at a time; try a small"):
        run(tiny_model(), data)
    options = replace(OPTIONS, compile="max-autotune")
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    match = r"^out of memory with 12 images at a time; try --gradient_accumulation_steps 2$"
    with pytest.raises(TrainingError, match=match):
        train(tiny_model(), data, SHORT, options)
    monkeypatch.undo()
    small_memory(monkeypatch, 0, RuntimeError("another error"))
    with pytest.raises(RuntimeError, match="another error"):
        run(tiny_model(), data)


def test_on_a_cpu_parts_hold_four_gigabytes(data, monkeypatch):
    image = mixer.cost.activation_bytes(tiny_model().config)
    for most, parts in ((12 * image, 1), (12 * image - 1, 2), (5 * image, 3), (image / 2, 12)):
        monkeypatch.setattr(run_module, "CPU_ACTIVATIONS", most)
        assert Run(tiny_model(), data, SHORT, OPTIONS).parts == parts


def test_speed_leaves_out_the_first_step_of_a_process(data, monkeypatch):
    """The first step compiles; of a single step there is nothing else to say."""
    now = 0.0
    seconds = iter([100.0, 1.0, 1.0, 2.0])
    make = run_module.Batches.__call__

    def batch(batches, step):
        nonlocal now
        now += next(seconds)
        return make(batches, step)

    def test(running):
        nonlocal now
        now += 50
        running._clock = now

    monkeypatch.setattr(run_module.Batches, "__call__", batch)
    monkeypatch.setattr(run_module.time, "perf_counter", lambda: now)
    monkeypatch.setattr(Run, "test", test)
    running = Run(tiny_model(), data, replace(SHORT, num_steps=4), replace(OPTIONS, eval_every=1))
    steps = train_steps(running)
    next(steps)
    assert running.history.images_per_second == 12 / 100
    assert list(steps) == [2, 3, 4]
    assert running.history.images_per_second == 3 * 12 / 4
    assert running.history.seconds == 104


@pytest.mark.slow
def test_a_compiled_model_trains_as_an_eager_one(data):
    eager, compiled = tiny_model(), tiny_model()
    expected = run(eager, data, eval_every=3)
    found = run(compiled, data, eval_every=3, compile=True)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-3)
    np.testing.assert_allclose(found.test_loss, expected.test_loss, rtol=2e-3)
    for a, b in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=5e-3, atol=5e-3)


def test_every_model_is_compiled_anew_and_tested_uncompiled(data, monkeypatch):
    """After eight versions of a function torch runs it uncompiled, without a word."""
    seen = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: seen.append("reset"))
    monkeypatch.setattr(run_module, "check_compile", lambda *_, **__: None)

    def compile(model, **options):
        seen.append(options)
        return lambda images: seen.append(model.training) or model(images)

    monkeypatch.setattr(torch, "compile", compile)
    for mode in (True, "max-autotune"):
        run(tiny_model(), data, replace(SHORT, num_steps=1), compile=mode)
    first, second = ({"mode": mode, "dynamic": False} for mode in (None, "max-autotune"))
    assert seen == ["reset", first, True, "reset", second, True]
