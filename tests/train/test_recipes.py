"""Recipes: the official values, the schedules, and what is refused."""

from dataclasses import replace

import pytest
from helpers import SHORT, official_schedule

from mixer.train import RECIPES, Recipe


def test_the_official_recipe_is_the_default():
    official = Recipe()
    assert (official.num_steps, official.warmup_steps, official.batch_size) == (10_000, 500, 512)
    assert (official.learning_rate, official.decay_type, official.optimizer) == (
        0.03,
        "cosine",
        "sgd",
    )
    assert (official.weight_decay, official.max_grad_norm, official.train_fraction) == (
        0.0,
        1.0,
        0.98,
    )
    assert official.augmentation == "inception" and official.auto_augment == "none"
    beyond = ("mixup", "cutmix", "label_smoothing", "dropout", "stochastic_depth", "ema_decay")
    assert [getattr(official, name) for name in beyond] == [0.0] * 6
    assert RECIPES["official"] == official
    assert RECIPES["cifar10-100_500"] == replace(official, num_steps=500, warmup_steps=100)
    assert RECIPES["colab"] == replace(official, num_steps=100, warmup_steps=5)


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
        ("num_steps", 1.5),
        ("seed", -1),
        ("seed", 1 << 64),
        ("learning_rate", float("nan")),
        ("label_smoothing", 1.0),
        ("max_grad_norm", 0.0),
        ("train_fraction", 0.0),
        ("warmup_steps", 1.5),
        ("cooldown_steps", 2.5),
        ("warmup_steps", "10"),
        ("auto_augment_magnitude", 31),
        ("auto_augment_magnitude", -1),
        ("auto_augment_magnitude", 4.5),
    ],
)
def test_a_bad_recipe_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* found"):
        Recipe(**{name: value})


def test_wsd_holds_the_rate_and_a_longer_run_begins_alike():
    recipe = replace(
        SHORT,
        decay_type="wsd",
        warmup_steps=10,
        num_steps=100,
        cooldown_steps=20,
        learning_rate=0.5,
    )
    rates = [recipe.learning_rate_at(step) for step in range(101)]
    assert rates[0] == 0 and rates[5] == 0.25
    assert set(rates[10:81]) == {0.5}
    assert rates[90] == 0.25 and rates[100] == 0
    longer = replace(recipe, num_steps=200)
    assert [longer.learning_rate_at(step) for step in range(81)] == rates[:81]


@pytest.mark.parametrize("part", ["token_mixing_learning_rate", "outer_learning_rate"])
def test_a_part_has_no_rate_where_the_whole_has_none(part):
    with pytest.raises(ValueError, match=rf"^{part}: expected none beside a learning_rate of 0"):
        Recipe(learning_rate=0.0, **{part: 0.1})
    assert getattr(Recipe(learning_rate=0.0, **{part: 0.0}), part) == 0.0
