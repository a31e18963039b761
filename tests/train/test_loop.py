"""The loop: the official step written out, accumulation, averages, and steps that go wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import SHORT, needs_muon, official_schedule, rich, run, same_weights, tiny_model

from mixer.data import normalize
from mixer.train import Loop, TrainingError, batch_indices, scoring
from mixer.train import loop as loop_module


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_official_recipe_step_by_step(data, decay):
    recipe = replace(SHORT, augmentation="none", decay_type=decay, num_steps=8, max_grad_norm=0.3)
    expected, found = tiny_model(), tiny_model()
    optimizer = torch.optim.SGD(expected.parameters(), lr=1.0, momentum=0.9)
    losses, norms = [], []
    for step in range(8):
        rows = batch_indices(30, 12, step, recipe.seed)
        optimizer.param_groups[0]["lr"] = official_schedule(0.03, step, 8, 2, decay)
        loss = F.cross_entropy(expected(normalize(data.x_train[rows])), data.y_train[rows])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in expected.parameters()]).norm()
        for p in expected.parameters():
            p.grad *= min(1.0, 0.3 / (float(norm) + 1e-6))
        optimizer.step()
        losses.append(loss.item())
        norms.append(float(norm))
    history = run(found, data, recipe)
    # Else clipping was not tried.
    assert max(norms) > 0.3
    np.testing.assert_allclose(history.loss, losses, rtol=1e-5)
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not same_weights(found, tiny_model())


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulation_equals_one_batch(data, parts):
    whole, split = tiny_model(), tiny_model()
    expected = run(whole, data)
    found = run(split, data, gradient_accumulation_steps=parts)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    for a, b in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_averaged_weights_are_what_remains(data):
    recipe = replace(SHORT, num_steps=2, warmup_steps=0, ema_decay=0.5)
    averaged, last = tiny_model(), tiny_model()
    run(averaged, data, recipe)
    run(last, data, replace(recipe, ema_decay=0.0))
    assert not same_weights(averaged, last)
    # The average starts as a copy of the model after the first step.
    first = tiny_model()
    run(first, data, replace(recipe, ema_decay=0.0, num_steps=1))
    for a, b, c in zip(averaged.parameters(), first.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(a, (b + c) / 2)


def test_the_state_of_a_step_that_diverged_does_not_replace_a_good_one(data, tmp_path, monkeypatch):
    update = Loop._update

    def diverge(loop):
        loss = update(loop)
        if loop.step == 3:
            with torch.no_grad():
                loop.model.stem.weight.fill_(float("inf"))
        return loss

    monkeypatch.setattr(Loop, "_update", diverge)
    with pytest.raises(
        TrainingError, match=r"^step 4: the loss is nan after it; the state after step 3 is good"
    ):
        run(tiny_model(), data, state_file=tmp_path / "state.npz", save_every=1)
    monkeypatch.undo()
    whole, resumed = tiny_model(), tiny_model(seed=5)
    run(whole, data)
    run(resumed, data, state_file=tmp_path / "state.npz", resume=True)
    assert same_weights(whole, resumed)


def test_label_smoothing_is_torch_s(data):
    recipe = replace(SHORT, label_smoothing=0.2, augmentation="none", num_steps=1, warmup_steps=1)
    model = tiny_model()
    torch.nn.init.normal_(model.head.weight)
    rows = batch_indices(
        int(len(data.x_train) * recipe.train_fraction), recipe.batch_size, 0, recipe.seed
    )
    logits = model(normalize(data.x_train[rows]))
    expected = F.cross_entropy(logits, data.y_train[rows], label_smoothing=0.2).item()
    plain = F.cross_entropy(logits, data.y_train[rows]).item()
    assert run(model, data, recipe).loss[0] == pytest.approx(expected, rel=1e-5)
    assert abs(plain - expected) > 1e-3


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(data, tmp_path):
    model, state = tiny_model(), tmp_path / "state.npz"
    recipe = replace(
        SHORT, learning_rate=1e30, warmup_steps=0, max_grad_norm=1e30, augmentation="none"
    )
    with pytest.raises(TrainingError, match=r"^step \d: the loss is .*lower learning rate"):
        run(model, data, recipe, state_file=state, save_every=1)
    # Of its only step nothing is worth keeping.
    assert not state.exists()
    with pytest.raises(
        TrainingError, match=r"no state had been written yet\. Start again under another name"
    ):
        run(tiny_model(), data, recipe)
    with pytest.raises(
        TrainingError, match=r"^step 2: .* the state after step 1 is good and stays in .*state\.npz"
    ):
        # The first rate is 0.
        run(tiny_model(), data, replace(recipe, warmup_steps=1), state_file=state, save_every=1)
    with np.load(state) as kept:
        assert all(np.isfinite(kept[name]).all() for name in kept.files)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


class Halving:
    """A gradient scaler as fp16 has it, on a CPU.

    It divides by its scale, and halves it when told of infinities.
    """

    def __init__(self):
        self.value = 8.0

    def is_enabled(self):
        return True

    def get_scale(self):
        return self.value

    def scale(self, loss):
        return loss * self.value

    def unscale_(self, optimizer):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad /= self.value

    def update(self):
        self.value /= 2

    def state_dict(self):
        return {}


@needs_muon
def test_an_infinite_gradient_under_fp16_leaves_all_weights_as_they_were(data):
    model = tiny_model()
    loop = Loop(model, data, replace(rich("muon"), warmup_steps=0), "fp32")
    loop.scaler = Halving()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # AdamW's, not Muon's.
    infinite = model.head.weight.register_hook(lambda grad: grad * float("inf"))
    loop.run_step()
    loop.read()
    assert loop.step == 1 and loop.history.skipped_steps == [0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    loop.scaler.value = 2.0**-10
    loop.run_step()
    with pytest.raises(TrainingError, match=r"^step 1: .* the norm of its gradient inf"):
        loop.read()
    infinite.remove()
    model.zero_grad()
    loop.scaler.value = 1.0
    loop.run_step()
    loop.read()
    assert loop.history.steps == [0, 2] and loop.history.skipped_steps == [0]
    assert not torch.equal(model.stem.weight, before["stem.weight"])
    assert not torch.equal(model.head.weight, before["head.weight"])


# As CUDA, Apple's GPUs, PyTorch's CPU allocator and Python say it.
NO_MEMORY = [
    torch.OutOfMemoryError("no memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:12])
def test_out_of_memory_says_which_accumulation_to_try(data, monkeypatch, error):
    def full(loop):
        raise error

    monkeypatch.setattr(Loop, "_gradients", full)
    with pytest.raises(
        TrainingError, match=r"12 images at a time; try --gradient_accumulation_steps 2$"
    ):
        run(tiny_model(), data)
    with pytest.raises(
        TrainingError, match=r"4 images at a time; try --gradient_accumulation_steps 4$"
    ):
        run(tiny_model(), data, gradient_accumulation_steps=3)


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:12])
def test_out_of_memory_elsewhere_says_what_to_try(data, monkeypatch, error):
    def full(*_, **__):
        raise error

    # Momentum is made there, in the first step.
    monkeypatch.setattr(torch.optim.SGD, "step", full)
    with pytest.raises(
        TrainingError, match=r"12 images at a time; try --gradient_accumulation_steps 2$"
    ):
        run(tiny_model(), data)
    monkeypatch.undo()
    monkeypatch.setattr(scoring, "evaluate", full)
    with pytest.raises(
        TrainingError, match=r"while testing 6 images at a time; try --eval_batch_size 3$"
    ):
        run(tiny_model(), data, eval_batch_size=6)


def test_images_per_second_leaves_out_the_first_step_of_a_process(data, monkeypatch):
    """The first step compiles; of a single step there is nothing else to say."""
    now = 0.0
    seconds = iter([100.0, 1.0, 1.0, 2.0])

    def gradients(loop):
        nonlocal now
        now += next(seconds)
        return make(loop)

    make = Loop._gradients
    monkeypatch.setattr(Loop, "_gradients", gradients)
    monkeypatch.setattr(loop_module.time, "perf_counter", lambda: now)
    loop = Loop(tiny_model(), data, SHORT)
    loop.run_step()
    loop.read()
    loop.history.note_speed(12)
    assert loop.history.images_per_second == 12 / 100
    for _ in range(3):
        loop.run_step()
        # Tests and files come between steps.
        now += 50
        loop.read()
        now += 1000
    loop.history.note_speed(12)
    assert loop.history.images_per_second == 3 * 12 / 154
    assert loop.history.seconds == 254
    loop.finish()
    assert loop.history.images_per_second == 3 * 12 / 154
