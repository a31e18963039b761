"""A run whose end is moved goes on as if it had been planned so, or says why it cannot."""

from dataclasses import replace

import pytest
from helpers import DROPPING, NANO, SHORT, run, same_weights, tiny_model

from mixer.train import Loop, training

WSD = replace(SHORT, num_steps=6, decay_type="wsd", cooldown_steps=2)


def stopped_after(data, recipe, steps, folder, monkeypatch):
    """The state after some steps of a recipe, as a killed run leaves it."""
    step = Loop.run_step

    def stopped(loop):
        if loop.step == steps:
            raise RuntimeError("stopped")
        return step(loop)

    monkeypatch.setattr(Loop, "run_step", stopped)
    with pytest.raises(RuntimeError, match="stopped"):
        run(tiny_model(), data, recipe, output_dir=folder, save_every=1)
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("recipe", "steps", "longer"),
    [
        # Before its cool-down; then without one; then at its end, since it has none.
        (WSD, 4, {"num_steps": 12}),
        (WSD, 3, {"num_steps": 12, "cooldown_steps": 5}),
        (replace(WSD, cooldown_steps=0), 6, {"num_steps": 10}),
        # Still warming up.
        (SHORT, 2, {"num_steps": 10}),
    ],
)
def test_a_longer_run_is_as_if_it_had_been_planned(
    data, tmp_path, monkeypatch, recipe, steps, longer
):
    planned = replace(recipe, **longer)
    if steps == recipe.num_steps:
        run(tiny_model(), data, recipe, output_dir=tmp_path / "run")
    else:
        stopped_after(data, recipe, steps, tmp_path / "run", monkeypatch)
    whole, resumed = tiny_model(), tiny_model(seed=5)
    expected = run(whole, data, planned)
    found = run(resumed, data, planned, output_dir=tmp_path / "run", resume=True)
    assert same_weights(whole, resumed)
    assert found.loss == expected.loss and found.lr == expected.lr
    # The new plan is the one to go on with.
    again = run(tiny_model(), data, planned, output_dir=tmp_path / "run", resume=True)
    assert again.loss == expected.loss


@pytest.mark.parametrize(
    ("recipe", "name"), [(SHORT, "cosine"), (WSD, "wsd"), (replace(SHORT, decay_type="linear"), "")]
)
def test_a_rate_that_has_begun_to_fall_is_named(data, tmp_path, recipe, name):
    run(tiny_model(), data, recipe, output_dir=tmp_path)
    before = (tmp_path / "state.npz").read_bytes()
    with pytest.raises(
        ValueError, match="num_steps: 6 there, 10 now; at step 6 its rate"
    ) as caught:
        run(tiny_model(), data, replace(recipe, num_steps=10), output_dir=tmp_path, resume=True)
    assert "would have been" in str(caught.value) and "--keep_head" in str(caught.value)
    assert (tmp_path / "state.npz").read_bytes() == before


def test_an_end_that_is_past_is_refused(data, tmp_path):
    constant = replace(WSD, cooldown_steps=0)
    run(tiny_model(), data, constant, output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"has made 6 steps already .*num_steps: 6 there, 4 now"):
        run(tiny_model(), data, replace(constant, num_steps=4), output_dir=tmp_path, resume=True)


def test_other_settings_are_refused_along_with_the_end(data, tmp_path):
    run(tiny_model(), data, WSD, output_dir=tmp_path)
    other = replace(WSD, num_steps=20, seed=1)
    with pytest.raises(ValueError, match="seed: 42 there, 1 now"):
        run(tiny_model(), data, other, output_dir=tmp_path, resume=True)


def test_a_data_set_s_name_is_not_taken_for_the_run_s(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"data\.name: tiny there, renamed now"):
        run(tiny_model(), replace(data, name="renamed"), output_dir=tmp_path, resume=True)


def test_the_command_goes_on_or_says_why_not(command, capsys):
    constant = (*NANO, "--decay_type", "wsd")
    assert command(*constant) == 0
    assert command(*constant, "--resume", "--num_steps", 5) == 0
    assert "test accuracy" in capsys.readouterr().out
    falling = (*NANO, "--decay_type", "wsd", "--cooldown_steps", 2)
    assert command(*falling, name="digits-1_4") == 0
    assert command(*falling, "--resume", "--num_steps", 8, name="digits-1_4") == 1
    assert "num_steps: 4 there, 8 now; at step 4 its rate was 0.015" in capsys.readouterr().err


def test_an_end_moved_to_where_the_run_stands_is_tested(data, tmp_path, monkeypatch):
    recipe = replace(WSD, cooldown_steps=0)
    stopped_after(data, recipe, 4, tmp_path / "run", monkeypatch)
    shorter = replace(recipe, num_steps=4)
    found = run(tiny_model(), data, shorter, output_dir=tmp_path / "run", resume=True)
    assert found.eval_steps == [4] and len(found.test_accuracy) == 1


def test_a_resumed_run_goes_on_in_as_many_parts(data, tmp_path, monkeypatch):
    """By then the free memory may ask for another number of them."""
    recipe = replace(SHORT, stochastic_depth=0.3)
    whole, resumed = tiny_model(config=DROPPING), tiny_model(config=DROPPING, seed=5)
    parts = {"parts": 2}
    monkeypatch.setattr(training, "pick_accumulation", lambda *_: parts["parts"])
    run(whole, data, recipe)
    step = Loop.run_step

    def stopped(loop):
        if loop.step == 3:
            raise RuntimeError("stopped")
        return step(loop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "run_step", stopped)
        with pytest.raises(RuntimeError, match="stopped"):
            run(tiny_model(config=DROPPING), data, recipe, output_dir=tmp_path, save_every=1)
    parts["parts"] = 3
    run(resumed, data, recipe, output_dir=tmp_path, resume=True)
    assert same_weights(whole, resumed)
