"""Batches: each image once an epoch, and a pure function of data, recipe, seed and step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import SHORT, TINY, Rank, make_data

from mixer.data import UnreadablePhoto, load_data, normalize, read_photo, resize, sample_crop_boxes
from mixer.data.augment import random_crop, random_flip, random_resized_crop
from mixer.train import Batches, batch_indices, seed_of
from mixer.train.batches import AUGMENT, MIX, MODEL, SHUFFLE


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 25])
def test_every_image_once_an_epoch(batch_size):
    drawn = torch.cat([batch_indices(10, batch_size, step, seed=3) for step in range(40)])
    assert len(drawn) == 40 * batch_size
    for epoch in drawn[: len(drawn) // 10 * 10].view(-1, 10):
        assert epoch.sort().values.tolist() == list(range(10))


def stream(purpose, *numbers):
    """A generator as the first version made it, written out."""
    words = np.random.SeedSequence((42, purpose, *numbers)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) % 2**63)


def test_streams_are_those_of_the_first_version():
    """A long run from years ago can be made again."""
    assert (SHUFFLE, AUGMENT, MODEL, MIX) == (0, 1, 2, 3)
    assert seed_of(42, AUGMENT, 0) == stream(1, 0).initial_seed()
    order, other = (torch.randperm(50, generator=stream(0, epoch)) for epoch in (0, 1))
    assert order[:8].tolist() == [10, 29, 0, 9, 20, 47, 37, 17]
    assert batch_indices(50, 20, 2, 42).tolist() == [*order[40:].tolist(), *other[:10].tolist()]


EVERYTHING = replace(SHORT, auto_augment="randaugment", mixup=0.2, cutmix=1.0)
RECIPES = {
    "inception": SHORT,
    "pad_crop": replace(SHORT, augmentation="pad_crop"),
    "none": replace(SHORT, augmentation="none"),
    "trivial": replace(SHORT, auto_augment="trivialaugment", mixup=0.2),
    "everything": EVERYTHING,
}


def same_batch(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_is_a_function_of_seed_and_step(data, name):
    """The same twice, in any order, and whatever torch's generator, left as it was, is at."""
    batches = Batches(data, RECIPES[name], TINY)
    in_order = [batches(step) for step in range(3)]
    for step in (2, 0, 1):
        before = torch.manual_seed(step).get_state()
        assert same_batch(in_order[step], batches(step))
        assert torch.equal(torch.get_rng_state(), before)
    assert len({float(image.sum()) for image in in_order[0][0]}) > 6
    assert not same_batch(in_order[0], in_order[1])
    other = Batches(data, replace(RECIPES[name], seed=43), TINY)
    assert not same_batch(other(0), in_order[0])


def test_training_augments_with_the_functions_of_mixer_data(data):
    """Those that the notebooks show: applied by hand in the same order, they give the batch."""
    rows, wide = batch_indices(30, 12, 2, SHORT.seed), (16, 24)
    for name, augmented in (
        ("inception", lambda x, drawn: random_resized_crop(x, wide, generator=drawn)),
        ("pad_crop", lambda x, drawn: random_crop(resize(x, wide), 2, drawn)),
    ):
        drawn = stream(1, 2)
        expected = normalize(random_flip(augmented(data.x_train[rows], drawn), drawn))
        images, labels = Batches(data, RECIPES[name], replace(TINY, image_size=wide))(2)
        assert torch.equal(images, expected) and torch.equal(labels, data.y_train[rows])
    images, _ = Batches(data, RECIPES["none"], TINY)(2)
    assert torch.equal(images, normalize(data.x_train[rows]))


def test_mixed_labels_are_shares(data):
    images, target = Batches(data, EVERYTHING, replace(TINY, image_size=(16, 12)))(0)
    assert images.shape == (12, 3, 16, 12) and target.shape == (12, 3)
    assert -1 <= images.min() < -0.5 and 0.5 < images.max() <= 1
    torch.testing.assert_close(target.sum(1), torch.ones(12))
    plain = replace(SHORT, augmentation="none")
    images, mixup, cutmix = (
        Batches(data, replace(plain, **mix), TINY)(0)[0]
        for mix in ({}, {"mixup": 0.2}, {"cutmix": 1.0})
    )
    # CutMix pastes boxes, mixup changes nearly every pixel.
    assert (mixup == images).double().mean() < 0.2 < (cutmix == images).double().mean() < 1


def test_the_official_split_trains_on_the_first_98_percent():
    data = make_data()
    data.x_train[29:] = 0
    recipe = replace(SHORT, train_fraction=0.98, batch_size=29, augmentation="none")
    images, _ = Batches(data, recipe, TINY)(0)
    assert len(images) == 29 and not (images == -1).all(dim=(1, 2, 3)).any()


def test_randaugment_draws_for_eight_groups(data):
    recipe = replace(SHORT, batch_size=64, auto_augment="randaugment", auto_augment_magnitude=17)
    batches, seen = Batches(data, recipe, TINY), []
    assert batches.auto_augment.magnitude == 17
    batches.auto_augment = lambda images: seen.append(len(images)) or images
    assert len(batches(0)[0]) == 64 and seen == [8] * 8


def test_processes_share_a_batch(data, monkeypatch, photos):
    for source in (data, photos):
        for name in ("inception", "pad_crop"):
            whole = Batches(source, RECIPES[name], TINY)(3)
            with monkeypatch.context() as patch:
                ranks, parts = Rank(patch, 3), []
                for ranks.rank in range(3):
                    parts.append(Batches(source, RECIPES[name], TINY)(3))
            assert same_batch(whole, map(torch.cat, zip(*parts, strict=True)))


@pytest.fixture
def photos(folder):
    return load_data(f"folder:{folder}", image_size=5)


def test_a_box_of_a_photo_comes_from_seed_step_and_row(photos):
    """Cut from the whole photo and resized once, to the model's size."""
    rows = batch_indices(30, 12, 4, 42).tolist()
    boxed = []
    for place, row in enumerate(rows):
        photo = read_photo(photos.x_train.samples[row][0])
        height, width = photo.shape[1:]
        ((top, left, h, w),) = sample_crop_boxes(1, (height, width), stream(1, 4, place)).tolist()
        boxed.append(resize(photo[None, :, top : top + h, left : left + w], 8).round())
    mirrored = torch.rand(12, generator=stream(1, 4)) < 0.5
    expected = torch.cat([b.flip(-1) if m else b for b, m in zip(boxed, mirrored, strict=True)])
    images, labels = Batches(photos, RECIPES["inception"], TINY)(4)
    assert torch.equal(images, normalize(expected))
    assert labels.tolist() == [photos.x_train.targets[row] for row in rows]
    images, _ = Batches(photos, RECIPES["none"], TINY)(4)
    assert torch.equal(images, normalize(photos.x_train[rows].read(8)))


def test_photos_are_read_one_step_ahead_and_no_further(photos):
    batches = Batches(photos, RECIPES["everything"], TINY)
    in_order = []
    for step in range(6):
        in_order.append(batches(step))
        assert list(batches.coming) == ([step + 1] if step < 5 else [])
    # Asked for out of turn.
    for step in (4, 2, 5, 0):
        assert same_batch(batches(step), in_order[step])


def test_a_photo_that_breaks_off_stops_the_batch_or_another_stands_in(folder, capsys):
    bad = folder / "train" / "b" / "1.bmp"
    bad.write_bytes(bad.read_bytes()[:1000])
    everything = replace(SHORT, batch_size=30)
    with pytest.raises(UnreadablePhoto, match=r"train/b/1\.bmp.*--skip_unreadable"):
        Batches(load_data(f"folder:{folder}"), everything, TINY)(0)
    data = load_data(f"folder:{folder}", skip_unreadable=True)
    assert len(Batches(data, everything, TINY)(0)[0]) == 30
    assert "left out, as file 1: " in capsys.readouterr().err
