"""``train`` and ``finetune``: what they take, what they leave behind."""

from dataclasses import replace

import pytest
import torch
from helpers import DROPPING, SHORT, TINY, rich, run, same_weights, tiny_model

import mixer
from mixer.train import RECIPES, Options, finetune, train


def test_training_learns(data):
    model = tiny_model()
    recipe = replace(
        SHORT, num_steps=60, optimizer="adamw", learning_rate=0.02, augmentation="none"
    )
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


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_torch_s_generator_is_left_as_it_was(data, optimizer):
    model = tiny_model(config=DROPPING)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(model, data, replace(rich(optimizer), auto_augment="randaugment", mixup=0.2))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_was_drawn_before_does_not_matter(data):
    models = [tiny_model(config=DROPPING) for _ in range(2)]
    for model, seed in zip(models, (3, 4), strict=True):
        torch.manual_seed(seed)
        run(model, data, rich("adamw"))
    assert same_weights(*models)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_every": 0}, "eval_every: expected a positive integer, found 0"),
        ({"save_every": -1}, "save_every: expected a positive integer, found -1"),
        ({"eval_every": 2.5}, "eval_every: expected a positive integer, found 2.5"),
        ({"eval_batch_size": 0}, "eval_batch_size: expected a positive integer, found 0"),
        ({"compile": "fast"}, "compile: expected one of default, .* found 'fast'"),
        ({"device": "gpu"}, "device: expected cuda"),
        ({"precision": "fp8"}, "precision: expected auto"),
    ],
)
def test_options_that_no_run_can_have(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Options(**options)


def test_options_and_changes_of_them(data):
    options = Options(device="cpu", precision="fp32", progress=False, eval_every=2)
    assert train(tiny_model(), data, SHORT, options).eval_steps == [2, 4, 6]
    assert train(tiny_model(), data, SHORT, options, eval_every=3).eval_steps == [3, 6]
    with pytest.raises(TypeError, match="often"):
        train(tiny_model(), data, SHORT, options, often=3)


def test_rates_that_the_model_was_not_built_with(data):
    with pytest.raises(
        ValueError, match=r"stochastic_depth: the recipe says 0.5, but the model was built with 0.0"
    ):
        run(tiny_model(), data, replace(SHORT, stochastic_depth=0.5))


def test_inputs_that_do_not_fit(data):
    with pytest.raises(ValueError, match="tiny has 3, the head only 2"):
        run(tiny_model(config=replace(TINY, num_classes=2)), data)
    with pytest.raises(ValueError, match="a divisor of the batch size 12, found 5"):
        run(tiny_model(), data, gradient_accumulation_steps=5)
    one = replace(data, x_train=data.x_train[:1], y_train=data.y_train[:1])
    with pytest.raises(ValueError, match=r"1 to train on \(50% are used\)"):
        run(tiny_model(), one, replace(SHORT, train_fraction=0.5))


def test_finetune_takes_recipes_by_name(data, monkeypatch):
    assert mixer.finetune is finetune
    monkeypatch.setitem(RECIPES, "short", SHORT)
    one, other = tiny_model(), tiny_model()
    finetune(one, data, "short", device="cpu", precision="fp32", progress=False)
    run(other, data)
    assert same_weights(one, other)
    with pytest.raises(ValueError, match="recipe: expected one of official"):
        finetune(one, data, "cifar-10")


def test_a_class_that_is_never_seen_is_said(data):
    """As in a folder whose images stand class by class, of which the first part is used."""
    labels = torch.tensor([0] * 10 + [1] * 18 + [2] * 2)
    sorted_data = replace(data, y_train=labels)
    with pytest.warns(UserWarning, match="the first 90% of the training images hold none of c$"):
        run(tiny_model(), sorted_data, replace(SHORT, num_steps=2, train_fraction=0.9))


def test_a_state_has_one_place(tmp_path):
    own = tmp_path / "state.npz"
    assert Options(output_dir=tmp_path, state_file=own).state_path == own
    moved = replace(Options(output_dir=tmp_path), output_dir=tmp_path / "other")
    assert moved.state_path == tmp_path / "other" / "state.npz"
    with pytest.raises(ValueError, match="state_file: expected none beside output_dir"):
        Options(output_dir=tmp_path, state_file=tmp_path / "elsewhere.npz")
