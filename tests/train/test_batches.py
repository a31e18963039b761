"""Batches: each image once an epoch, and a pure function of seed and step."""

from dataclasses import replace

import pytest
import torch
from helpers import SHORT, TINY, run, tiny_model

import mixer.data
from mixer.data import ImageData, normalize, random_crop, random_flip, random_resized_crop
from mixer.train import Batches, Recipe, batch_indices, seed_of
from mixer.train import batches as batches_module
from mixer.train.batches import AUGMENT


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


def test_the_official_split_trains_on_the_first_98_percent(data):
    images = torch.zeros(100, 3, 8, 8, dtype=torch.uint8)
    images[98:] = 255
    split = replace(data, x_train=images, y_train=torch.zeros(100, dtype=torch.int64))
    recipe = Recipe(num_steps=2, warmup_steps=0, batch_size=98, augmentation="none")
    seen = []
    model = tiny_model()
    model.stem.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0]) if model.training else None
    )
    run(model, split, recipe)
    assert [len(batch) for batch in seen] == [98, 98]
    assert all(bool((batch == -1).all()) for batch in seen)


EVERYTHING = replace(SHORT, auto_augment="randaugment", mixup=0.2, cutmix=1.0)
RECIPES = {
    "inception": SHORT,
    "pad_crop": replace(SHORT, augmentation="pad_crop"),
    "none": replace(SHORT, augmentation="none"),
    "everything": EVERYTHING,
}


def same_batch(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_is_a_function_of_seed_and_step(data, name):
    """The same twice, in any order, from another object, and whatever torch's generator is at."""
    batches = Batches(data, RECIPES[name], TINY)
    in_order = [batches(step) for step in range(6)]
    torch.manual_seed(7)
    backwards = [batches(step) for step in reversed(range(6))][::-1]
    fresh = Batches(data, RECIPES[name], TINY)
    for step in range(6):
        assert same_batch(in_order[step], backwards[step])
    assert same_batch(fresh(4), in_order[4])
    assert not same_batch(in_order[0], in_order[1])
    other = Batches(data, replace(RECIPES[name], seed=43), TINY)
    assert not same_batch(other(0), in_order[0])


@pytest.mark.parametrize("name", RECIPES)
def test_making_a_batch_leaves_torch_s_generator_as_it_was(data, name):
    batches = Batches(data, RECIPES[name], TINY)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    batches(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_batch_holds(data):
    images, labels = Batches(data, SHORT, TINY)(0)
    assert images.shape == (12, 3, 8, 8) and images.dtype == torch.float32
    assert -1 <= images.min() < -0.5 and 0.5 < images.max() <= 1
    assert labels.shape == (12,) and labels.dtype == torch.int64
    larger = replace(TINY, image_size=(16, 12))
    images, target = Batches(data, EVERYTHING, larger)(0)
    assert images.shape == (12, 3, 16, 12) and target.shape == (12, 3)
    torch.testing.assert_close(target.sum(1), torch.ones(12))


def test_training_augments_with_the_functions_of_mixer_data(data):
    """Those that the notebooks show: applied by hand in the same order, they give the batch."""
    rows = batch_indices(30, 12, 2, SHORT.seed)
    chosen = data.x_train[rows]

    def generator():
        return torch.Generator().manual_seed(seed_of(SHORT.seed, AUGMENT, 2))

    drawn = generator()
    cropped = random_flip(random_resized_crop(chosen, 8, generator=drawn), drawn)
    assert torch.equal(Batches(data, RECIPES["inception"], TINY)(2)[0], normalize(cropped))
    drawn = generator()
    shifted = random_flip(random_crop(chosen, 1, drawn), drawn)
    assert torch.equal(Batches(data, RECIPES["pad_crop"], TINY)(2)[0], normalize(shifted))
    assert torch.equal(Batches(data, RECIPES["none"], TINY)(2)[0], normalize(chosen))


@pytest.mark.parametrize(
    ("kind", "functions"),
    [
        ("inception", ["random_resized_crop", "random_flip"]),
        ("pad_crop", ["random_crop", "random_flip"]),
        ("none", []),
    ],
)
def test_a_kind_of_augmentation_calls_its_functions_alone(data, monkeypatch, kind, functions):
    called = []
    for name in ("random_crop", "random_flip", "random_resized_crop"):
        function = getattr(mixer.data, name)
        assert getattr(batches_module, name) is function

        def noted(*arguments, name=name, function=function, **options):
            called.append(name)
            return function(*arguments, **options)

        monkeypatch.setattr(batches_module, name, noted)
    Batches(data, RECIPES[kind], TINY)(0)
    assert called == functions


@pytest.mark.parametrize(("size", "groups"), [(64, 8), (100, 8), (5, 5)])
def test_randaugment_draws_for_eight_groups(size, groups):
    data = ImageData(
        "made",
        torch.zeros(size, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(size, dtype=torch.int64),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(1, dtype=torch.int64),
        ("a", "b"),
    )
    recipe = replace(SHORT, batch_size=size, auto_augment="randaugment", train_fraction=1.0)
    batches = Batches(data, recipe, TINY)
    seen = []
    batches.auto_augment = lambda images: seen.append(len(images)) or images
    assert len(batches(0)[0]) == size
    assert len(seen) == groups and sum(seen) == size


def test_generators_of_other_devices_are_not_seeded(data, monkeypatch):
    def refuse(seed):
        raise AssertionError("a generator of another device was set")

    model = tiny_model()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    run(model, data)
