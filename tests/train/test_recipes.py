"""Recipes: the official values, the schedules, and what is refused."""

import json
import math
from dataclasses import asdict, replace

import pytest
from helpers import official_schedule

import mixer
from mixer.train import RECIPES, Recipe, get_recipe


def test_the_official_recipe_is_the_default():
    found = {name: value for name, value in asdict(Recipe()).items() if value}
    assert found == {
        "num_steps": 10_000,
        "warmup_steps": 500,
        "batch_size": 512,
        "learning_rate": 0.03,
        "decay_type": "cosine",
        "optimizer": "sgd",
        "max_grad_norm": 1.0,
        "seed": 42,
        "train_fraction": 0.98,
        "augmentation": "inception",
        "muon_parts": "blocks",
        "auto_augment": "none",
        "auto_augment_magnitude": 9,
    }
    assert get_recipe("official") == Recipe() == get_recipe(Recipe())
    assert RECIPES["cifar10-100_500"] == Recipe(num_steps=500, warmup_steps=100)
    assert RECIPES["colab"] == Recipe(num_steps=100, warmup_steps=5)
    with pytest.raises(ValueError, match=r"recipe: expected one of official, .* found 'oficial'"):
        get_recipe("oficial")


@pytest.mark.parametrize("name", mixer.checkpoint.bundled_names())
def test_the_bundled_weights_were_made_by_these(name):
    record = json.loads(mixer.bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
    words = record["command"].split()
    assert asdict(RECIPES[words[words.index("--recipe") + 1]]) == record["recipe"]


@pytest.mark.parametrize("decay", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_schedule(decay, warmup):
    recipe = Recipe(num_steps=20, warmup_steps=warmup, decay_type=decay)
    for step in range(21):
        expected = official_schedule(0.03, step, 20, warmup, decay)
        assert recipe.learning_rate_at(step) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_schedule_in_points_one_can_check_by_hand():
    wsd = Recipe(decay_type="wsd", warmup_steps=10, num_steps=100, cooldown_steps=20)
    rates = [wsd.learning_rate_at(step) for step in (0, 5, 10, 80, 90, 100)]
    assert rates == pytest.approx([0, 0.015, 0.03, 0.03, 0.015, 0])
    assert replace(wsd, cooldown_steps=0).learning_rate_at(99) == 0.03


BAD = [
    ("num_steps", 0),
    ("batch_size", 0),
    ("warmup_steps", 1.5),
    ("cooldown_steps", -1),
    ("seed", 1 << 63),
    ("auto_augment_magnitude", 31),
    ("optimizer", "lion"),
    ("learning_rate", -0.1),
    ("learning_rate", math.nan),
    ("weight_decay", math.inf),
    ("ema_decay", 1.0),
    ("train_fraction", 1.01),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_recipe_is_refused_and_the_ends_are_allowed(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* found {value!r}"):
        Recipe(**{name: value})
    ends = {"num_steps": 1, "batch_size": 1, "warmup_steps": 0, "learning_rate": 0.0}
    assert Recipe(**ends, seed=(1 << 63) - 1, auto_augment_magnitude=30, train_fraction=1.0)
