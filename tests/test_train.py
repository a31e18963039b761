"""Recipes, the loop, evaluation, going on after a kill, and the command line, on models of a few thousand weights."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import mixer
import mixer.train as mixer_train
from mixer.config import MixerConfig
from mixer.data import ImageData, normalize
from mixer.model import MlpMixer
from mixer.train import (
    RECIPES,
    Recipe,
    TrainingError,
    batch_indices,
    evaluate,
    finetune,
    main,
    pick_precision,
    train,
)

TINY = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=8)
SHORT = Recipe(num_steps=6, warmup_steps=2, batch_size=12, train_fraction=1.0)

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch 2.9 or later")


def tiny_model(seed=0, config=TINY):
    torch.manual_seed(seed)
    model = MlpMixer(config)
    torch.nn.init.normal_(model.head.weight, std=0.5)  # with a zero head the first gradients reach the head only
    return model


def make_data():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 3
    images = torch.randint(0, 256, (40, 3, 8, 8), generator=generator)
    images[:, 0] = images[:, 0] // 4 + 90 * labels[:, None, None]  # red tells the class
    images = images.clamp(0, 255).to(torch.uint8)
    return ImageData("tiny", images[:30], labels[:30], images[30:], labels[30:], ("a", "b", "c"))


@pytest.fixture(scope="module")
def data():
    return make_data()


def run(model, data, recipe=SHORT, **options):
    return train(model, data, recipe, device="cpu", precision="fp32", progress=False, **options)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# ---------------------------------------------------------------------------------------------- recipes


def test_the_official_recipe_is_the_default():
    official = Recipe()
    assert (official.num_steps, official.warmup_steps, official.batch_size) == (10_000, 500, 512)
    assert (official.learning_rate, official.decay_type, official.optimizer) == (0.03, "cosine", "sgd")
    assert (official.weight_decay, official.max_grad_norm, official.train_fraction) == (0.0, 1.0, 0.98)
    assert official.augmentation == "inception" and official.auto_augment == "none"
    beyond = ("mixup", "cutmix", "label_smoothing", "dropout", "stochastic_depth", "ema_decay")
    assert [getattr(official, name) for name in beyond] == [0.0] * 6
    assert RECIPES["official"] == official
    assert RECIPES["cifar10-100_500"] == replace(official, num_steps=500, warmup_steps=100)
    assert RECIPES["colab"] == replace(official, num_steps=100, warmup_steps=5)


def official_schedule(base, step, total, warmup, decay):
    """vit_jax/utils.py, written out: warm-up times decay."""
    share = min(1.0, max(0.0, (step - warmup) / (total - warmup)))
    rate = base * 0.5 * (1 + math.cos(math.pi * share)) if decay == "cosine" else 1e-5 + (base - 1e-5) * (1 - share)
    return rate * min(1.0, step / warmup) if warmup else rate


@pytest.mark.parametrize("decay", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_schedule(decay, warmup):
    recipe = Recipe(num_steps=20, warmup_steps=warmup, decay_type=decay)
    for step in range(21):
        expected = official_schedule(0.03, step, 20, warmup, decay)
        assert recipe.learning_rate_at(step) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_schedule_in_points_one_can_check_by_hand():
    recipe = Recipe(num_steps=500, warmup_steps=100)
    assert recipe.learning_rate_at(0) == 0.0
    assert recipe.learning_rate_at(50) == pytest.approx(0.015)
    assert recipe.learning_rate_at(100) == pytest.approx(0.03)
    assert recipe.learning_rate_at(300) == pytest.approx(0.015)
    assert recipe.learning_rate_at(500) == pytest.approx(0.0, abs=1e-12)
    assert replace(recipe, decay_type="linear").learning_rate_at(500) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decay_type", "step"),
        ("optimizer", "lion"),
        ("augmentation", "crop"),
        ("auto_augment", "auto"),
        ("num_steps", 0),
        ("batch_size", 0),
        ("warmup_steps", -1),
        ("learning_rate", float("nan")),
        ("label_smoothing", 1.0),
        ("max_grad_norm", 0.0),
        ("train_fraction", 0.0),
    ],
)
def test_a_bad_recipe_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* found"):
        Recipe(**{name: value})


# ----------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 25])
def test_every_image_once_an_epoch(batch_size):
    drawn = torch.cat([batch_indices(10, batch_size, step, seed=3) for step in range(40)])
    assert len(drawn) == 40 * batch_size
    for epoch in drawn[: len(drawn) // 10 * 10].view(-1, 10):
        assert epoch.sort().values.tolist() == list(range(10))


def test_order_of_images_depends_on_seed_and_epoch():
    first, second = batch_indices(50, 50, 0, 1), batch_indices(50, 50, 1, 1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, batch_indices(50, 50, 0, 2))
    assert torch.equal(first, batch_indices(50, 50, 0, 1))


# ----------------------------------------------------------------------------- the official step, written out


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
    assert max(norms) > 0.3  # else clipping was not tried
    np.testing.assert_allclose(history.loss, losses, rtol=1e-5)
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not same_weights(found, tiny_model())


def test_the_official_split_trains_on_the_first_98_percent(data):
    images = torch.zeros(100, 3, 8, 8, dtype=torch.uint8)
    images[98:] = 255
    split = replace(data, x_train=images, y_train=torch.zeros(100, dtype=torch.int64))
    recipe = Recipe(num_steps=2, warmup_steps=0, batch_size=98, augmentation="none")
    seen = []
    model = tiny_model()
    model.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]) if model.training else None)
    run(model, split, recipe)
    assert [len(batch) for batch in seen] == [98, 98]
    assert all(bool((batch == -1).all()) for batch in seen)


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulation_equals_one_batch(data, parts):
    whole, split = tiny_model(), tiny_model()
    expected = run(whole, data)
    found = run(split, data, gradient_accumulation_steps=parts)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    for a, b in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_training_learns(data):
    model = tiny_model()
    recipe = replace(SHORT, num_steps=60, optimizer="adamw", learning_rate=0.02, augmentation="none")
    history = run(model, data, recipe, eval_every=20)
    assert history.eval_steps == [20, 40, 60]
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.test_accuracy[-1] > 0.7
    assert history.images_per_second > 0
    assert not model.training


def test_two_runs_are_equal_and_another_seed_is_not(data):
    models = [tiny_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        run(model, data, replace(SHORT, seed=seed))
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


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


# -------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_evaluate_counts_every_image(data, batch_size):
    model = tiny_model().train()
    scores = evaluate(model, data.x_test, data.y_test, batch_size=batch_size)
    logits = model.eval()(normalize(data.x_test))
    assert scores.num_images == 10 and scores.predictions.shape == (10,)
    assert torch.equal(scores.predictions, logits.argmax(1))
    assert scores.accuracy == (logits.argmax(1) == data.y_test).double().mean().item()
    assert scores.loss == pytest.approx(F.cross_entropy(logits, data.y_test).item(), rel=1e-5)


def test_evaluate_leaves_the_mode_as_it_was(data):
    for model in (tiny_model().train(), tiny_model().eval()):
        before = model.training
        evaluate(model, data.x_test, data.y_test)
        assert model.training == before


# ----------------------------------------------------------------------------------- device and precision


@needs_muon
def test_muon_and_adamw_step_as_torch_s_own(data):
    model = tiny_model()
    recipe = replace(SHORT, optimizer="muon", learning_rate=0.01, weight_decay=0.1)
    muon, adamw = mixer_train.build_optimizers(model, recipe)
    names = {id(p): name for name, p in model.named_parameters()}
    inner = [p for p in model.blocks.parameters() if p.dim() == 2]
    taken = [p for group in muon.param_groups for p in group["params"]]
    assert {names[id(p)] for p in taken} == {names[id(p)] for p in inner}
    decayed, spared = adamw.param_groups
    assert "lr_scale" in spared
    assert {names[id(p)] for p in decayed["params"]} == {"stem.weight", "head.weight"}
    assert all(p.dim() == 1 for p in spared["params"]) and spared["weight_decay"] == 0
    together = [id(p) for o in (muon, adamw) for group in o.param_groups for p in group["params"]]
    assert sorted(together) == sorted(names)

    weight = model.blocks[0].channel_mixing.fc1.weight
    grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    before = weight.detach().clone()
    weight.grad = grad.clone()
    muon.step()
    # orthogonal up to Newton-Schulz's tolerance, and of the root mean square of an AdamW step
    update = (before * (1 - 0.01 * 0.1) - weight.detach()) / 0.01
    singular = torch.linalg.svdvals(update) / (0.2 * max(weight.shape) ** 0.5)
    assert singular.min() > 0.6 and singular.max() < 1.3


@needs_muon
def test_muon_on_channel_mixing_leaves_token_mixing_to_adamw_at_a_rate_of_its_own(data):
    model = tiny_model()
    split = {"muon_parts": "channel_mixing", "token_mixing_learning_rate": 0.005, "token_mixing_weight_decay": 0.3}
    recipe = replace(SHORT, optimizer="muon", learning_rate=0.01, weight_decay=0.1, outer_learning_rate=0.002, **split)
    muon, adamw = mixer_train.build_optimizers(model, recipe)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("channel_mixing" in names[id(p)] for p in muon.param_groups[0]["params"])
    tokens, outer, vectors = adamw.param_groups
    assert all("token_mixing" in names[id(p)] and p.dim() == 2 for p in tokens["params"])
    assert [group["lr_scale"] for group in adamw.param_groups] == [0.5, 0.2, 0.2]
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.3, 0.1, 0.0]
    assert {names[id(p)] for p in outer["params"]} == {"stem.weight", "head.weight"}
    assert sum(len(group["params"]) for group in (*muon.param_groups, *adamw.param_groups)) == len(names)
    loop = mixer_train.Loop(model, data, recipe, "fp32", False, 1)
    loop.step = recipe.warmup_steps
    loop.run_step()
    rate = recipe.learning_rate_at(recipe.warmup_steps)
    assert [group["lr"] for group in loop.optimizers[1].param_groups] == pytest.approx([rate / 2, rate / 5, rate / 5])


def test_wsd_holds_the_rate_and_a_longer_run_begins_alike():
    recipe = replace(SHORT, decay_type="wsd", warmup_steps=10, num_steps=100, cooldown_steps=20, learning_rate=0.5)
    rates = [recipe.learning_rate_at(step) for step in range(101)]
    assert rates[0] == 0 and rates[5] == 0.25
    assert set(rates[10:81]) == {0.5}
    assert rates[90] == 0.25 and rates[100] == 0
    longer = replace(recipe, num_steps=200)
    assert [longer.learning_rate_at(step) for step in range(81)] == rates[:81]


def test_muon_needs_a_torch_that_has_it(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match=r"muon needs torch 2.9 or later, found .*; use adamw"):
        mixer_train.build_optimizers(tiny_model(), replace(SHORT, optimizer="muon"))


def test_precision_is_what_the_device_does_natively(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))  # a T4
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # what torch says about a T4
    assert pick_precision(cuda) == "fp16"
    for capability in ((8, 0), (9, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert pick_precision(cuda) == "bf16"
    monkeypatch.setattr(mixer_train, "_cpu_has_bf16", lambda: False)
    assert pick_precision(torch.device("cpu")) == "fp32"
    monkeypatch.setattr(mixer_train, "_cpu_has_bf16", lambda: True)
    assert pick_precision(torch.device("cpu")) == "bf16"
    assert pick_precision(torch.device("cpu"), "fp32") == "fp32"


@pytest.mark.parametrize(
    ("gigabytes", "precision", "name", "parts"),
    [
        (15, "fp16", "Mixer-B_16", 4),  # Colab's T4: 128 images at a time
        (79, "bf16", "Mixer-B_16", 1),  # an H100
        (79, "fp32", "Mixer-B_16", 2),
        (40, "bf16", "Mixer-B_16", 2),
        (15, "fp16", "Mixer-Nano_4", 1),
    ],
)
def test_batch_is_split_as_the_memory_asks(monkeypatch, gigabytes, precision, name, parts):
    memory = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    config = mixer.MODELS[name]
    assert mixer_train.pick_accumulation(config, 512, torch.device("cuda"), precision) == parts
    assert mixer_train.pick_accumulation(config, 512, torch.device("cpu"), precision) == 1


@pytest.mark.parametrize("name", ["Mixer-S_32", "Mixer-Nano_4"])
def test_activation_bytes_are_what_autograd_keeps(name):
    model = mixer.create_model(name, num_classes=10)
    size = model.config.image_hw[0]
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def kept(count):
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address comes twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = model(torch.zeros(count, 3, size, size))
        assert logits.requires_grad
        return sum(nbytes for nbytes, _ in storages.values())

    each = (kept(4) - kept(2)) / 2
    assert mixer_train.activation_bytes(model.config) == pytest.approx(each, rel=0.06)  # without stem and head


def test_a_batch_is_never_split_further_than_into_images(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=1))
    assert mixer_train.pick_accumulation(mixer.MODELS["Mixer-B_16"], 6, torch.device("cuda"), "fp16") == 6


def test_rates_that_the_model_was_not_built_with(data):
    with pytest.raises(ValueError, match=r"stochastic_depth: the recipe says 0.5, but the model was built with 0.0"):
        run(tiny_model(), data, replace(SHORT, stochastic_depth=0.5))


def test_fp32_is_tf32_on_a_gpu_and_afterwards_as_before():
    before = torch.get_float32_matmul_precision()
    with mixer_train.tf32(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
    with mixer_train.tf32(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before


def test_bad_precision():
    with pytest.raises(ValueError, match=r"^precision: .* found 'int8'"):
        pick_precision(torch.device("cpu"), "int8")
    with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
        pick_precision(torch.device("cpu"), "fp16")


# ---------------------------------------------------------------------------------- stopping and going on

RICH = replace(SHORT, num_steps=7, optimizer="adamw", learning_rate=1e-3, ema_decay=0.9, stochastic_depth=0.3)
DROPPING = replace(TINY, stochastic_depth=0.3)


def rich(optimizer):
    return replace(RICH, optimizer=optimizer)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import numpy as np, test_train as t, mixer.train as m
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
step, savez = m.Loop.run_step, np.savez
def run_step(self):
    if self.step == {at}:
        if {saving}:
            # half of a state is in its file when the end comes
            np.savez = lambda file, **arrays: (savez(file, meta=arrays["meta"]), file.flush(), kill())
        else:
            kill()
    return step(self)
m.Loop.run_step = run_step
model, recipe = t.tiny_model(config=t.DROPPING), t.rich({optimizer!r})
t.run(model, t.make_data(), recipe, output_dir={folder!r}, save_every=2, eval_every=3)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize(
    ("optimizer", "at", "saving"),
    [
        ("sgd", 0, False),  # before anything was kept
        ("sgd", 6, False),
        ("sgd", 3, True),  # while the second state is written, after step 4
        ("adamw", 5, False),
        pytest.param("muon", 5, False, marks=needs_muon),
    ],
)
def test_killed_and_resumed_ends_with_the_same_weights(data, tmp_path, optimizer, at, saving):
    recipe = rich(optimizer)
    whole = tiny_model(config=DROPPING)
    resumed = tiny_model(seed=9 if at else 0, config=DROPPING)  # nothing of it may matter, if there is a state
    expected = run(whole, data, recipe, output_dir=tmp_path / "whole", eval_every=3)
    places = {"tests": os.path.dirname(__file__), "folder": str(tmp_path / "killed")}
    code = KILLED.format(**places, optimizer=optimizer, at=at, saving=saving)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    assert sum('"loss"' in line for line in lines) == at + saving
    assert len(list((tmp_path / "killed").glob("*.tmp"))) == saving  # the half state; the whole one before it is there
    # From the first steps or from the last state:
    assert (tmp_path / "killed" / "state.npz").exists() == (at >= 2)
    found = run(resumed, data, recipe, output_dir=tmp_path / "killed", eval_every=3, resume=True)
    assert same_weights(whole, resumed)
    assert found.loss == expected.loss and found.test_accuracy == expected.test_accuracy
    for name in ("metrics.jsonl", "model.npz", "best.npz"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not list((tmp_path / "killed").glob("*.tmp"))


@pytest.mark.parametrize("at", [0, 1, 4])
def test_interrupted_in_the_middle_of_a_step_and_resumed(data, tmp_path, monkeypatch, at):
    whole, resumed = tiny_model(), tiny_model(seed=5)
    run(whole, data)
    gradients = mixer_train.Loop._gradients

    def interrupted(loop):
        if loop.step == at:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C
        return gradients(loop)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(mixer_train.Loop, "_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt, match=f"stopped after step {at + 1} of 6"):
        run(tiny_model(), data, state_file=tmp_path / "state.npz")
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is before
    run(resumed, data, state_file=tmp_path / "state.npz", resume=True)
    assert same_weights(whole, resumed)


def test_resume_with_other_settings_says_which(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    other = replace(SHORT, learning_rate=0.5, num_steps=9)
    with pytest.raises(ValueError, match="other settings") as caught:
        run(tiny_model(), data, other, output_dir=tmp_path, resume=True)
    assert "learning_rate: 0.03 there, 0.5 now" in str(caught.value)
    assert "num_steps: 6 there, 9 now" in str(caught.value)
    assert "batch_size" not in str(caught.value)
    with pytest.raises(ValueError, match="train_images: 30 there, 29 now"):
        run(tiny_model(), replace(data, x_train=data.x_train[:29]), output_dir=tmp_path, resume=True)
    with pytest.raises(ValueError, match="tokens_mlp_dim: 6 there, 7 now"):
        run(tiny_model(config=replace(TINY, tokens_mlp_dim=7)), data, output_dir=tmp_path, resume=True)


def test_a_run_is_not_resumed_on_other_data_of_the_same_name(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    for other in (replace(data, y_train=data.y_train.flip(0)), replace(data, x_train=255 - data.x_train)):
        with pytest.raises(ValueError, match=r"crc: \d+ there, \d+ now"):
            run(tiny_model(), other, output_dir=tmp_path, resume=True)


def test_a_damaged_state_is_named(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    whole = (tmp_path / "state.npz").read_bytes()
    for damaged in (whole[:1000], b"", whole[:300] + b"0000" + whole[304:]):
        (tmp_path / "state.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state\.npz: damaged .*start again under another name"):
            run(tiny_model(), data, output_dir=tmp_path, resume=True)


def test_a_run_is_not_resumed_as_another_checkpoint_s(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path, origin="one.npz")
    run(tiny_model(), data, output_dir=tmp_path, origin="one.npz", resume=True)
    with pytest.raises(ValueError, match=r"origin: one\.npz there, two\.npz now"):
        run(tiny_model(), data, output_dir=tmp_path, origin="two.npz", resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["origin"] == "one.npz"


def test_a_run_folder_in_use_is_not_overwritten(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    before = (tmp_path / "state.npz").read_bytes()
    with pytest.raises(ValueError, match="holds a run"):
        run(tiny_model(), data, output_dir=tmp_path)
    assert (tmp_path / "state.npz").read_bytes() == before


def test_what_is_in_a_run_folder(data, tmp_path):
    model = tiny_model()
    history = run(model, data, output_dir=tmp_path / "deep" / "run", eval_every=2)
    folder = tmp_path / "deep" / "run"
    assert json.loads((folder / "history.json").read_text()) == asdict(history)
    assert json.loads((folder / "config.json").read_text())["recipe"] == asdict(SHORT)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line] == history.loss
    assert [(line["step"], line["test_accuracy"]) for line in lines if "test_accuracy" in line] == list(
        zip(history.eval_steps, history.test_accuracy, strict=True)
    )
    assert same_weights(mixer.from_npz(folder / "model.npz"), model)
    best = evaluate(mixer.from_npz(folder / "best.npz"), data.x_test, data.y_test)
    assert best.accuracy == max(history.test_accuracy)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert sorted(board.Tags()["scalars"]) == ["test/accuracy", "train/loss", "train/lr"]
    assert [event.value for event in board.Scalars("train/loss")] == pytest.approx(history.loss)
    assert [event.step for event in board.Scalars("test/accuracy")] == [2, 4, 6]


# ------------------------------------------------------------------------------------------------ trouble


def test_the_state_of_a_step_that_diverged_does_not_replace_a_good_one(data, tmp_path, monkeypatch):
    update = mixer_train.Loop._update

    def diverge(loop):
        loss = update(loop)
        if loop.step == 3:
            with torch.no_grad():
                loop.model.stem.weight.fill_(float("inf"))
        return loss

    monkeypatch.setattr(mixer_train.Loop, "_update", diverge)
    with pytest.raises(TrainingError, match=r"^step 4: the loss is nan after it; the state after step 3 is good"):
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
    rows = batch_indices(int(len(data.x_train) * recipe.train_fraction), recipe.batch_size, 0, recipe.seed)
    logits = model(normalize(data.x_train[rows]))
    expected = F.cross_entropy(logits, data.y_train[rows], label_smoothing=0.2).item()
    plain = F.cross_entropy(logits, data.y_train[rows]).item()
    assert run(model, data, recipe).loss[0] == pytest.approx(expected, rel=1e-5)
    assert abs(plain - expected) > 1e-3


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(data, tmp_path):
    model, state = tiny_model(), tmp_path / "state.npz"
    recipe = replace(SHORT, learning_rate=1e30, warmup_steps=0, max_grad_norm=1e30, augmentation="none")
    with pytest.raises(TrainingError, match=r"^step \d: the loss is .*lower learning rate"):
        run(model, data, recipe, state_file=state, save_every=1)
    assert not state.exists()  # of its only step nothing is worth keeping
    with pytest.raises(TrainingError, match=r"no state had been written yet\. Start again under another name"):
        run(tiny_model(), data, recipe)
    with pytest.raises(TrainingError, match=r"^step 2: .* the state after step 1 is good and stays in .*state\.npz"):
        run(tiny_model(), data, replace(recipe, warmup_steps=1), state_file=state, save_every=1)  # the first rate is 0
    with np.load(state) as kept:
        assert all(np.isfinite(kept[name]).all() for name in kept.files)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


class Halving:
    """A gradient scaler as fp16 has it, on a CPU: it divides by its scale, and halves it when told of infinities."""

    def __init__(self):
        self.value, self.stepped = 8.0, 0

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

    def step(self, optimizer):
        self.stepped += 1
        optimizer.step()

    def update(self):
        self.value /= 2

    def state_dict(self):
        return {}


@needs_muon
def test_an_infinite_gradient_under_fp16_leaves_all_weights_as_they_were(data):
    model = tiny_model()
    loop = mixer_train.Loop(model, data, replace(rich("muon"), warmup_steps=0), "fp32", False, 1)
    loop.scaler = Halving()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    infinite = model.head.weight.register_hook(lambda grad: grad * float("inf"))  # AdamW's, not Muon's
    loop.run_step()
    assert loop.scaler.stepped == 0 and loop.step == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    loop.scaler.value = 2.0**-11
    with pytest.raises(TrainingError, match="the norm of its gradient"):
        loop.run_step()
    infinite.remove()
    model.zero_grad()
    loop.scaler.value = 1.0
    loop.run_step()
    assert loop.scaler.stepped == 2 and not torch.equal(model.stem.weight, before["stem.weight"])


def test_out_of_memory_says_which_accumulation_to_try(data, monkeypatch):
    def full(loop):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(mixer_train.Loop, "_gradients", full)
    with pytest.raises(TrainingError, match=r"12 images at a time; try --gradient_accumulation_steps 2$"):
        run(tiny_model(), data)
    with pytest.raises(TrainingError, match=r"4 images at a time; try --gradient_accumulation_steps 4$"):
        run(tiny_model(), data, gradient_accumulation_steps=3)


def test_out_of_memory_elsewhere_says_what_to_try(data, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(torch.optim.SGD, "step", full)  # momentum is made there, in the first step
    with pytest.raises(TrainingError, match=r"12 images at a time; try --gradient_accumulation_steps 2$"):
        run(tiny_model(), data)
    monkeypatch.undo()
    monkeypatch.setattr(mixer_train, "evaluate", full)
    with pytest.raises(TrainingError, match=r"while testing 6 images at a time; try --eval_batch_size 3$"):
        run(tiny_model(), data, eval_batch_size=6)


def test_unwritable_folder_and_full_disk_are_noticed_before_the_first_step(data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(mixer_train.Loop, "run_step", lambda loop: pytest.fail("a step was made"))
    with pytest.raises(OSError, match="cannot be written"):
        run(tiny_model(), data, output_dir=tmp_path / "file" / "run")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"needs about .* MB, 0 MB are free"):
        run(tiny_model(), data, output_dir=tmp_path / "run")
    with pytest.raises(OSError, match="cannot be written"):
        run(tiny_model(), data, state_file=tmp_path / "file" / "state.npz")


def test_a_run_that_goes_on_needs_less_space(data, tmp_path, monkeypatch):
    needed = []
    usage = shutil.disk_usage(tmp_path)
    for resume in (False, True):
        total = 3 * mixer_train._state_bytes(tiny_model(), SHORT)
        there = sum(file.stat().st_size for file in tmp_path.glob("*.npz"))
        needed.append(total - there)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed[-1]))
        run(tiny_model(), data, output_dir=tmp_path, resume=resume)
    assert needed[1] < needed[0]


def test_inputs_that_do_not_fit(data):
    with pytest.raises(ValueError, match="tiny has 3, the head only 2"):
        run(tiny_model(config=replace(TINY, num_classes=2)), data)
    with pytest.raises(ValueError, match="a divisor of the batch size 12, found 5"):
        run(tiny_model(), data, gradient_accumulation_steps=5)
    with pytest.raises(ValueError, match="0 to train on"):
        run(tiny_model(), replace(data, x_train=data.x_train[:0], y_train=data.y_train[:0]))


def test_finetune_takes_recipes_by_name(data, monkeypatch):
    assert mixer.finetune is finetune
    monkeypatch.setitem(RECIPES, "short", SHORT)
    one, other = tiny_model(), tiny_model()
    finetune(one, data, "short", device="cpu", precision="fp32", progress=False)
    run(other, data)
    assert same_weights(one, other)
    with pytest.raises(ValueError, match="recipe: expected one of official"):
        finetune(one, data, "cifar-10")


def test_quick(monkeypatch):
    monkeypatch.setenv("MIXER_QUICK", "1")
    assert mixer_train.quick(100, 3) == 3
    monkeypatch.setenv("MIXER_QUICK", "0")
    assert mixer_train.quick(100, 3) == 100


# ------------------------------------------------------------------------------------------- command line


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "data"))
    digits = mixer.data.load_data("digits")
    small = replace(digits, x_test=digits.x_test[:20], y_test=digits.y_test[:20])
    load = mixer.data.load_data
    monkeypatch.setattr(
        mixer_train.mixer_data, "load_data", lambda name, **kw: small if name == "digits" else load(name, **kw)
    )

    def call(*arguments, name="digits-1_3"):
        options = ["--output_dir", str(tmp_path / "output"), "--device", "cpu", "--precision", "fp32"]
        return main(["--name", name, *options, *map(str, arguments)])

    call.folder = tmp_path / "output"
    return call


NANO = ("--model_type", "Mixer-Nano_4", "--train_batch_size", 4)


def test_command_line_end_to_end(command, capsys):
    checkpoint = mixer.bundled("Mixer-Nano_4")
    assert command(*NANO, "--pretrained_dir", checkpoint, "--eval_every", 2, "--learning_rate", 0.01) == 0
    assert "over all 20 test images" in capsys.readouterr().out
    folder = command.folder / "digits-1_3"
    config = json.loads((folder / "config.json").read_text())
    assert config["data"]["name"] == "digits"
    assert (config["recipe"]["warmup_steps"], config["recipe"]["num_steps"]) == (1, 3)
    assert (config["recipe"]["batch_size"], config["recipe"]["learning_rate"]) == (4, 0.01)
    history = json.loads((folder / "history.json").read_text())
    assert history["eval_steps"] == [2, 3]
    assert history["loss"][0] == pytest.approx(math.log(10), abs=1e-5)  # a zero head
    trained, start = mixer.from_npz(folder / "model.npz"), mixer.from_npz(checkpoint)
    assert trained.config.num_classes == 10
    moved = (trained.stem.weight - start.stem.weight).abs().max()
    assert 0 < moved < 0.05  # it began there, not anew

    assert command(*NANO, "--learning_rate", 0.01) == 1
    assert "holds a run" in capsys.readouterr().err
    assert command(*NANO, "--learning_rate", 0.01, "--resume") == 0
    assert command(*NANO, "--learning_rate", 0.02, "--resume") == 1
    assert "learning_rate: 0.01 there, 0.02 now" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(command, monkeypatch, capsys):
    update = mixer_train.Loop._update

    def interrupted(loop):
        if loop.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return update(loop)

    monkeypatch.setattr(mixer_train.Loop, "_update", interrupted)
    assert command(*NANO) == 130
    error = capsys.readouterr().err
    assert "stopped after step 2 of 3; " in error and ". To go on: the same command with --resume" in error
    monkeypatch.setattr(mixer_train.Loop, "_update", update)
    assert command(*NANO, "--resume") == 0

    def at_once(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(mixer_train, "_run", at_once)
    assert command(*NANO) == 130
    assert "stopped. To go on" in capsys.readouterr().err


def test_memory_that_does_not_hold_the_model_is_named(command, monkeypatch, capsys):
    def full(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 18 GiB")

    monkeypatch.setattr(mixer_train, "train", full)
    assert command(*NANO) == 1
    assert "out of memory with the model and the data set alone; try a smaller --image_size" in capsys.readouterr().err


def test_folder_images_are_read_at_the_size_of_the_checkpoint(command, pets, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixer.save_npz(mixer.from_npz(mixer.bundled("Mixer-Nano_4"), image_size=64), tmp_path / "64.npz")
    sizes = ("--pretrained_dir", tmp_path / "64.npz", "--dataset", f"folder:{pets}", "--train_batch_size", 2)
    assert command("--model_type", "Mixer-Nano_4", *sizes) == 0
    assert json.loads((command.folder / "digits-1_3" / "config.json").read_text())["model"]["image_size"] == [64, 64]


def test_resume_with_another_checkpoint_of_the_same_sizes_is_refused(command, tmp_path, capsys):
    one, other = mixer.bundled("Mixer-Nano_4"), mixer.bundled("Mixer-Nano_4-cifar10")
    assert command(*NANO, "--pretrained_dir", one) == 0
    capsys.readouterr()
    assert command(*NANO, "--pretrained_dir", other, "--resume") == 1
    error = capsys.readouterr().err
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, other)]
    assert f"origin: checkpoint of sha256 {hashes[0]} there, checkpoint of sha256 {hashes[1]} now" in error
    assert command(*NANO, "--from_scratch", "--resume") == 1
    assert "random weights now" in capsys.readouterr().err
    copy = shutil.copy(one, tmp_path / "renamed.npz")
    assert command(*NANO, "--pretrained_dir", copy, "--resume") == 0


@pytest.fixture
def pets(tmp_path):
    """A folder data set of two classes, four images each to train and to test."""
    from PIL import Image

    for split in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(4):
                image = Image.new("RGB", (32, 32), (100 * label, 50, 10 * number))
                image.save(tmp_path / "pets" / split / name / f"{number}.png")
    return tmp_path / "pets"


def test_a_damaged_image_of_a_folder_is_refused_or_left_out(command, pets, capsys):
    (pets / "train" / "dark" / "2.png").write_bytes(b"no picture")
    there = (*NANO, "--dataset", f"folder:{pets}")
    assert command(*there) == 1
    assert "2.png: expected an image" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="left out 1 unreadable images"):
        assert command(*there, "--skip_unreadable") == 0
    assert json.loads((command.folder / "digits-1_3" / "config.json").read_text())["data"]["classes"] == 2


def test_a_folder_without_images_or_classes_is_refused(command, pets, capsys):
    there = (*NANO, "--dataset", f"folder:{pets}")
    for image in (pets / "test" / "light").iterdir():
        image.unlink()
    assert command(*there) == 1
    assert "test/light: expected at least one image of this class, found none" in capsys.readouterr().err
    shutil.rmtree(pets / "train")
    (pets / "train").mkdir()
    assert command(*there) == 1
    assert "train: expected one folder for each class, found an empty folder" in capsys.readouterr().err
    assert not list((command.folder / "digits-1_3").iterdir())


def recipe_of(*arguments):
    return mixer_train._recipe_of(mixer_train._parser().parse_args(list(arguments)))


def test_name_sets_what_is_not_given():
    assert recipe_of("--name", "cifar100-7_50") == ("cifar100", Recipe(num_steps=50, warmup_steps=7))
    assert recipe_of("--name", "cifar10-100_500")[1] == RECIPES["cifar10-100_500"]
    assert recipe_of("--name", "my-set-7_50") == ("my-set", Recipe(num_steps=50, warmup_steps=7))
    assert recipe_of("--name", "first try") == ("cifar10", Recipe())
    given = recipe_of("--name", "cifar100-7_50", "--dataset", "digits", "--num_steps", "60", "--decay_type", "linear")
    assert given == ("digits", Recipe(num_steps=60, warmup_steps=7, decay_type="linear"))
    assert recipe_of("--name", "cifar10-1_2", "--recipe", "colab")[1] == RECIPES["colab"]


def test_every_setting_of_a_recipe_has_a_flag():
    beyond = {
        "augmentation": "none",
        "auto_augment": "randaugment",
        "auto_augment_magnitude": 5,
        "mixup": 0.2,
        "cutmix": 1.0,
        "dropout": 0.1,
    }
    beyond |= {"label_smoothing": 0.1, "stochastic_depth": 0.2, "ema_decay": 0.99, "train_fraction": 1.0}
    words = [word for name, value in beyond.items() for word in (f"--{name}", str(value))]
    assert recipe_of("--name", "try", *words)[1] == Recipe(**beyond)
    dests = {action.dest for action in mixer_train._parser()._actions}
    assert {field.name for field in fields(Recipe)} <= dests


def test_flags_beyond_the_official_recipe_reach_the_run(command):
    more = ("--stochastic_depth", 0.2, "--dropout", 0.1, "--mixup", 0.2, "--cutmix", 1.0, "--ema_decay", 0.9)
    assert command(*NANO, *more) == 0
    saved = json.loads((command.folder / "digits-1_3" / "config.json").read_text())
    assert saved["model"]["stochastic_depth"] == saved["recipe"]["stochastic_depth"] == 0.2
    assert saved["recipe"]["mixup"] == 0.2


def test_from_scratch_starts_from_the_seed(command):
    args = ("--from_scratch", "--learning_rate", 0.0, "--num_steps", 1)
    assert command(*NANO, *args) == 0
    torch.manual_seed(42)
    expected = mixer.create_model("Mixer-Nano_4", num_classes=10)
    assert same_weights(mixer.from_npz(command.folder / "digits-1_3" / "model.npz"), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model_type", "Mixer-X_16"), "model: expected one of Mixer-S_32"),
        (("--dataset", "imagenet"), "dataset: expected one of"),
        (("--precision", "fp8"), "precision: expected"),
        (("--fp16",), "fp16: expected no other precision"),
        (("--recipe", "slow"), "recipe: expected one of"),
        (("--image_size", 30), "multiple"),
        (("--pretrained_dir", "missing.npz"), "missing.npz: no such file"),
        (("--gradient_accumulation_steps", 3), "a divisor of the batch size 4, found 3"),
        (("--decay_type", "step"), "decay_type: expected one of cosine, linear"),
        (("--eval_batch_size", 0), "eval_batch_size: expected a positive number, found 0"),
        (("--eval_every", -5), "eval_every: expected a positive number, found -5"),
        (("--save_every", 0), "save_every: expected a positive number, found 0"),
        (("--device", "gpu"), "device: expected cuda, cuda:1, mps or cpu, found 'gpu'"),
        (("--device", "cuda:99"), "device: expected one of this machine, found cuda:99"),
        (("--num_steps", 2, "--warmup_steps", 3), "warmup_steps: expected at most num_steps, 2, found 3"),
        (("--name", ".."), "name: expected the name of a folder, found '..'"),
        (
            ("--train_batch_size", 8, "--gradient_accumulation_steps", 2, "--compile", "max-autotune"),
            "compile: expected",
        ),
        (("--model_type", "Mixer-B_16", "--pretrained_dir", mixer.bundled("Mixer-Nano_4")), "no Mixer-B_16"),
        (("--model_type", "Mixer-S_16"), "expected one of Mixer-B_16"),
    ],
)
def test_bad_input_is_named(command, capsys, arguments, message):
    assert command(*NANO, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error


def test_without_the_official_file_the_message_says_what_to_do(command, capsys, monkeypatch):
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", "http://127.0.0.1:9/mixer")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert command("--model_type", "Mixer-B_16") == 1
    error = capsys.readouterr().err
    assert "could not be downloaded" in error and "put it at" in error


def test_the_module_runs_and_its_help_has_the_flags():
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mixer.train", "--help"], capture_output=True, text=True, timeout=200
    )
    assert shown.returncode == 0, shown.stderr
    flags = """--name --model_type --pretrained_dir --output_dir --train_batch_size --eval_batch_size --eval_every
        --learning_rate --weight_decay --num_steps --decay_type --warmup_steps --max_grad_norm --seed
        --gradient_accumulation_steps --fp16 --dataset --image_size --precision --compile --resume --device"""
    for flag in flags.split():
        assert flag in shown.stdout
