"""Runs that were killed or interrupted, and go on; and those that must not."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from helpers import DROPPING, ROOT, SHORT, TINY, needs_muon, rich, run, same_weights, tiny_model

from mixer.train import Loop, state

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import numpy as np, helpers as t, mixer.train as m
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
step, savez = m.Loop.run_step, np.savez
def run_step(self):
    if self.step == {at}:
        if {saving}:
            # half of a state is in its file when the end comes
            def half(file, **arrays):
                savez(file, meta=arrays["meta"])
                file.flush()
                kill()
            np.savez = half
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
        # Before anything was kept.
        ("sgd", 0, False),
        ("sgd", 6, False),
        # While the second state is written, after step 4.
        ("sgd", 3, True),
        ("adamw", 5, False),
        pytest.param("muon", 5, False, marks=needs_muon),
    ],
)
def test_killed_and_resumed_ends_with_the_same_weights(data, tmp_path, optimizer, at, saving):
    recipe = rich(optimizer)
    whole = tiny_model(config=DROPPING)
    # Nothing of it may matter, if there is a state.
    resumed = tiny_model(seed=9 if at else 0, config=DROPPING)
    expected = run(whole, data, recipe, output_dir=tmp_path / "whole", eval_every=3)
    places = {"tests": str(ROOT / "tests"), "folder": str(tmp_path / "killed")}
    code = KILLED.format(**places, optimizer=optimizer, at=at, saving=saving)
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    assert sum('"loss"' in line for line in lines) == at + saving
    # The half state; the whole one before it is there.
    assert len(list((tmp_path / "killed").glob(".*.tmp"))) == saving
    # From the first steps or from the last state:
    assert (tmp_path / "killed" / "state.npz").exists() == (at >= 2)
    found = run(resumed, data, recipe, output_dir=tmp_path / "killed", eval_every=3, resume=True)
    assert same_weights(whole, resumed)
    assert found.loss == expected.loss and found.test_accuracy == expected.test_accuracy
    for name in ("metrics.jsonl", "model.npz", "best.npz"):
        assert (tmp_path / "killed" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes(), name
    assert not list((tmp_path / "killed").glob(".*.tmp"))


@pytest.mark.parametrize("at", [0, 1, 4])
def test_interrupted_in_the_middle_of_a_step_and_resumed(data, tmp_path, monkeypatch, at):
    whole, resumed = tiny_model(), tiny_model(seed=5)
    run(whole, data)
    gradients = Loop._gradients

    def interrupted(loop):
        if loop.step == at:
            # Ctrl-C.
            os.kill(os.getpid(), signal.SIGINT)
        return gradients(loop)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Loop, "_gradients", interrupted)
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
    fewer = replace(data, x_train=data.x_train[:29], y_train=data.y_train[:29])
    with pytest.raises(ValueError, match="train_images: 30 there, 29 now"):
        run(tiny_model(), fewer, output_dir=tmp_path, resume=True)
    with pytest.raises(ValueError, match="tokens_mlp_dim: 6 there, 7 now"):
        run(
            tiny_model(config=replace(TINY, tokens_mlp_dim=7)),
            data,
            output_dir=tmp_path,
            resume=True,
        )


def test_a_run_is_not_resumed_on_other_data_of_the_same_name(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    for other in (
        replace(data, y_train=data.y_train.flip(0)),
        replace(data, x_train=255 - data.x_train),
        replace(data, y_test=data.y_test.flip(0)),
        replace(data, x_test=255 - data.x_test),
    ):
        with pytest.raises(ValueError, match=r"crc: \d+ there, \d+ now"):
            run(tiny_model(), other, output_dir=tmp_path, resume=True)


def test_a_damaged_state_is_named(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    whole = (tmp_path / "state.npz").read_bytes()
    for damaged in (whole[:1000], b"", whole[:300] + b"0000" + whole[304:]):
        (tmp_path / "state.npz").write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"state\.npz: damaged .*start again under another name"
        ):
            run(tiny_model(), data, output_dir=tmp_path, resume=True)


def test_a_run_is_not_resumed_as_another_checkpoint_s(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path, origin="one.npz")
    run(tiny_model(), data, output_dir=tmp_path, origin="one.npz", resume=True)
    with pytest.raises(ValueError, match=r"origin: one\.npz there, two\.npz now"):
        run(tiny_model(), data, output_dir=tmp_path, origin="two.npz", resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["origin"] == "one.npz"


RATES = ["token_mixing_learning_rate", "token_mixing_weight_decay", "outer_learning_rate"]


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(("then", "now"), [(None, 0.001), (0.001, None)])
def test_a_rate_that_comes_or_goes_is_another_recipe(data, tmp_path, name, then, now):
    recipe = replace(SHORT, optimizer="adamw", **{name: then})
    run(tiny_model(), data, recipe, output_dir=tmp_path)
    with pytest.raises(ValueError, match=f"{name}: {then} there, {now} now"):
        run(tiny_model(), data, replace(recipe, **{name: now}), output_dir=tmp_path, resume=True)


def test_what_an_older_state_does_not_hold_is_not_compared():
    saved = {"recipe": {"num_steps": 3}}
    now = {"recipe": {"num_steps": 3, "news": None}, "origin": None}
    assert state.differences(saved, now) == []
    now["recipe"]["num_steps"] = 4
    assert state.differences(saved, now) == ["num_steps: 3 there, 4 now"]
