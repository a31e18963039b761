"""Training on a CUDA device: precisions, optimisers, resuming, compilation, memory.

Skipped where there is none. What a GPU draws is not what a CPU draws, so runs that are compared
between the two have no augmentation.
"""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import SHORT, make_data, needs_muon, same_weights, tiny_model

from mixer.config import MODELS
from mixer.model import MlpMixer
from mixer.train import Options, train
from mixer.train.loop import train_steps
from mixer.train.run import Run, Stopped

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICE = "cuda"
PRECISIONS = ["fp32", "bf16", "fp16"]
RATES = {"sgd": 0.03, "adamw": 1e-3, "muon": 1e-3}
OPTIMIZERS = ["sgd", "adamw", pytest.param("muon", marks=needs_muon)]
# A GPU may add in another order each time.
SAME = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 5e-3}


def recipe_of(optimizer, **changes):
    plain = {"learning_rate": RATES[optimizer], "augmentation": "none", **changes}
    return replace(SHORT, optimizer=optimizer, **plain)


def run(model, recipe, precision="fp32", device=DEVICE, **options):
    options = {"data": make_data(), "progress": False, **options}
    return train(model, recipe=recipe, device=device, precision=precision, **options)


def assert_close_weights(one, other, tolerance):
    for name, tensor in one.cpu().state_dict().items():
        there = other.cpu().state_dict()[name]
        torch.testing.assert_close(tensor, there, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_learns_in_every_precision(precision):
    model = tiny_model()
    learned = run(model, recipe_of("adamw", num_steps=60, learning_rate=0.02), precision)
    assert learned.loss[-1] < 0.5 * learned.loss[0] and learned.test_accuracy[-1] > 0.7
    assert all(p.is_cuda and p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_skipped_first_step_of_fp16_leaves_the_weights_as_they_were(optimizer):
    recipe = recipe_of(optimizer, num_steps=3, warmup_steps=0)
    model = tiny_model()
    running = Run(model, make_data(), recipe, Options(DEVICE, "fp16", progress=False))
    running.scaler = torch.amp.GradScaler(DEVICE, init_scale=2.0**40)
    steps = train_steps(running)
    next(steps)
    assert same_weights(model, tiny_model().to(DEVICE))
    running.scaler.update(new_scale=2.0**10)
    assert list(steps) == [2, 3] and np.isfinite(running.history.loss).all()
    assert not same_weights(model, tiny_model().to(DEVICE))
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stopped_run_has_the_losses_of_a_whole_one(tmp_path, monkeypatch, optimizer, precision):
    recipe = recipe_of(optimizer, num_steps=8, ema_decay=0.9, augmentation="inception")
    whole, resumed = tiny_model(), tiny_model(seed=5)
    expected = run(whole, recipe, precision, eval_every=4)
    note = Run.note
    stop = lambda run: run.step == 5 and signal.raise_signal(signal.SIGINT)  # noqa: E731
    monkeypatch.setattr(Run, "note", lambda run, *measured: (note(run, *measured), stop(run)))
    options = {"eval_every": 4, "output_dir": tmp_path}
    with pytest.raises(Stopped, match="after step 5 of 8"):
        run(tiny_model(), recipe, precision, **options)
    monkeypatch.undo()
    found = run(resumed, recipe, precision, **options, resume=True)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=SAME[precision])
    np.testing.assert_allclose(found.test_loss, expected.test_loss, rtol=SAME[precision])
    assert_close_weights(whole, resumed, SAME[precision])


@pytest.mark.parametrize("augmentation", ["inception", "pad_crop"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_device(precision, optimizer, augmentation):
    recipe = recipe_of(optimizer, ema_decay=0.9, augmentation=augmentation, num_steps=20)
    running = Run(tiny_model(), make_data(), recipe, Options(DEVICE, precision, progress=False))
    steps = train_steps(running)
    # What is made in the first steps may wait.
    assert [next(steps) for _ in range(2)] == [1, 2]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    running.read()
    assert running.history.steps == list(range(5)) and np.isfinite(running.history.loss).all()


@pytest.mark.slow
@pytest.mark.parametrize(("compile", "parts"), [(True, 2), ("max-autotune", 1)])
def test_a_compiled_model_trains_as_an_eager_one(compile, parts):
    pytest.importorskip("triton")
    eager, compiled = tiny_model(), tiny_model()
    expected = run(eager, recipe_of("sgd"), eval_every=3)
    options = {"compile": compile, "gradient_accumulation_steps": parts}
    found = run(compiled, recipe_of("sgd"), eval_every=3, **options)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found.test_loss, expected.test_loss, rtol=2e-3, atol=2e-3)
    assert_close_weights(compiled, eager, 5e-3)


def test_a_full_memory_makes_the_step_again_in_twice_the_parts(capsys):
    config = replace(MODELS["Mixer-S_16"], num_blocks=2, num_classes=3, image_size=128)
    model = MlpMixer(config)
    recipe = recipe_of("sgd", num_steps=2, batch_size=256)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    # Enough for the model and some of the batch.
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.2e9 / total))
    try:
        history = run(model, recipe)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "the step again with the batch in" in capsys.readouterr().out
    assert np.isfinite(history.loss).all() and len(history.loss) == 2
