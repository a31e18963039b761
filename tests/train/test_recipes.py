"""Recipes: the official values, the schedules, and what is refused."""

import json
import math
from dataclasses import asdict, replace

import pytest
from helpers import official_schedule

import mixer
from mixer.train import RECIPES, Recipe, get_recipe


def test_the_official_recipe_is_the_default():
    official = Recipe()
    found = official.num_steps, official.warmup_steps, official.batch_size, official.learning_rate
    assert found == (10_000, 500, 512, 0.03)
    assert (official.decay_type, official.optimizer) == ("cosine", "sgd")
    found = official.weight_decay, official.max_grad_norm, official.train_fraction, official.seed
    assert found == (0.0, 1.0, 0.98, 42)
    assert official.augmentation == "inception" and official.auto_augment == "none"
    beyond = ("mixup", "cutmix", "label_smoothing", "dropout", "stochastic_depth", "ema_decay")
    assert [getattr(official, name) for name in (*beyond, "cooldown_steps")] == [0] * 7
    assert get_recipe("official") == official == get_recipe(official)
    assert RECIPES["cifar10-100_500"] == replace(official, num_steps=500, warmup_steps=100)
    assert RECIPES["colab"] == replace(official, num_steps=100, warmup_steps=5)
    with pytest.raises(ValueError, match=r"recipe: expected one of official, .* found 'oficial'"):
        get_recipe("oficial")


@pytest.mark.parametrize("name", mixer.checkpoint.bundled_names())
def test_the_bundled_weights_were_made_by_these(name):
    record = json.loads(mixer.bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
    words = record["command"].split()
    assert asdict(RECIPES[words[words.index("--recipe") + 1]]) == record["recipe"]


def test_fine_tuning_on_a_cpu():
    there, here = RECIPES["nano-finetune-gpu"], RECIPES["nano-finetune-cpu"]
    assert (here.num_steps, here.batch_size, here.warmup_steps) == (1950, 128, 100)
    assert (here.learning_rate, here.optimizer, here.ema_decay) == (3e-3, "muon", 0.998)
    assert (here.mixup, here.cutmix, here.stochastic_depth, here.label_smoothing) == (0, 0, 0, 0.05)
    assert there.label_smoothing == 0.1 and here.auto_augment == "none"


def test_from_scratch_on_a_cpu():
    here = RECIPES["nano-scratch-cpu"]
    assert (here.num_steps, here.batch_size, here.warmup_steps) == (7800, 128, 400)
    assert (here.learning_rate, here.weight_decay, here.ema_decay) == (6e-3, 0.05, 0.999)
    assert here.from_scratch and here.mixup == 0


@pytest.mark.parametrize("decay", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_schedule(decay, warmup):
    recipe = Recipe(num_steps=20, warmup_steps=warmup, decay_type=decay)
    for step in range(21):
        expected = official_schedule(0.03, step, 20, warmup, decay)
        assert recipe.learning_rate_at(step) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_schedule_in_points_one_can_check_by_hand():
    recipe = Recipe(num_steps=500, warmup_steps=100)
    rates = [recipe.learning_rate_at(step) for step in (0, 50, 100, 300, 500)]
    assert rates == pytest.approx([0, 0.015, 0.03, 0.015, 0], abs=1e-12)
    assert replace(recipe, decay_type="linear").learning_rate_at(500) == pytest.approx(1e-5)
    wsd = Recipe(decay_type="wsd", warmup_steps=10, num_steps=100, cooldown_steps=20)
    rates = [wsd.learning_rate_at(step) for step in (0, 5, 10, 80, 90, 100)]
    assert rates == pytest.approx([0, 0.015, 0.03, 0.03, 0.015, 0])
    # Without a cool-down only the step after the last has no rate.
    assert replace(wsd, cooldown_steps=0).learning_rate_at(99) == 0.03


BAD = {
    "num_steps": [0, 1.5],
    "batch_size": [0],
    "warmup_steps": [-1, 1.5, "10"],
    "cooldown_steps": [-1, 2.5],
    "seed": [-1, 1 << 63],
    "auto_augment_magnitude": [-1, 31, 4.5],
    "decay_type": ["step"],
    "optimizer": ["lion"],
    "augmentation": ["torchvision_crop"],
    "muon_parts": ["head"],
    "auto_augment": ["auto"],
    "learning_rate": [-0.1, math.nan, math.inf],
    "weight_decay": [-0.1],
    "mixup": [-0.1],
    "cutmix": [math.inf],
    "token_mixing_learning_rate": [-0.1],
    "outer_learning_rate": [math.inf],
    "token_mixing_weight_decay": [-0.1],
    "outer_weight_decay": [-0.1],
    "label_smoothing": [1.0, -0.1],
    "dropout": [1.0],
    "stochastic_depth": [1.0],
    "ema_decay": [1.0, -0.1],
    "max_grad_norm": [0.0],
    "train_fraction": [0.0, 1.01],
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, value) for n, some in BAD.items() for value in some]
)
def test_a_bad_recipe_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* found {value!r}"):
        Recipe(**{name: value})


def test_the_ends_of_what_is_allowed():
    least = {"num_steps": 1, "batch_size": 1, "warmup_steps": 0, "cooldown_steps": 0, "seed": 0}
    assert Recipe(**least, auto_augment_magnitude=0, train_fraction=1.0, learning_rate=0.0)
    assert Recipe(seed=(1 << 63) - 1, auto_augment_magnitude=30, mixup=0.0, ema_decay=0.0)


@pytest.mark.parametrize("part", ["token_mixing_learning_rate", "outer_learning_rate"])
def test_a_part_has_no_rate_where_the_whole_has_none(part):
    with pytest.raises(ValueError, match=rf"^{part}: expected none beside a learning_rate of 0"):
        Recipe(learning_rate=0.0, **{part: 0.1})
    assert getattr(Recipe(learning_rate=0.0, **{part: 0.0}), part) == 0.0
