"""The streams of random numbers, pinned: a long run from years ago can be made again."""

import numpy as np
import pytest
import torch
from helpers import TINY, make_data

from mixer.data import normalize
from mixer.train import Batches, Recipe, batch_indices, seed_of
from mixer.train.batches import AUGMENT, MIX, MODEL, SHUFFLE

# Of seed 42 and step 0: the first offsets of eight images from the padded corner (rows, then
# columns, of 9 places each), which of them are mirrored, and the first of 50 images to be drawn.
ROWS = [7, 2, 6, 7, 0, 8, 2, 8]
COLUMNS = [4, 2, 2, 7, 3, 0, 4, 3]
MIRRORED = [False, False, False, False, True, True, True, False]
FIRST = [10, 29, 0, 9, 20, 47, 37, 17]


def stream(purpose, number):
    """A generator as the first version made it, written out."""
    words = np.random.SeedSequence((42, purpose, number)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) % 2**63)


def test_purposes_have_their_numbers():
    assert (SHUFFLE, AUGMENT, MODEL, MIX) == (0, 1, 2, 3)
    assert seed_of(42, AUGMENT, 0) == stream(1, 0).initial_seed()


def test_the_first_batch_of_seed_42():
    generator = stream(1, 0)
    offsets = torch.randint(0, 9, (2, 8), generator=generator)
    mirrored = torch.rand(8, generator=generator) < 0.5
    assert offsets.tolist() == [ROWS, COLUMNS]
    assert mirrored.tolist() == MIRRORED


def test_the_first_images_of_seed_42():
    order = torch.randperm(50, generator=stream(0, 0))
    assert order[:8].tolist() == FIRST
    assert batch_indices(50, 8, 0, 42).tolist() == FIRST


@pytest.mark.parametrize("step", [0, 5])
def test_batches_are_what_the_streams_say(step):
    """Shift and flip image by image, from the numbers drawn here."""
    data = make_data()
    recipe = Recipe(augmentation="pad_crop", batch_size=8, train_fraction=1.0)
    found, labels = Batches(data, recipe, TINY)(step)
    positions = range(8 * step, 8 * step + 8)
    orders = [torch.randperm(30, generator=stream(0, epoch)) for epoch in range(2)]
    rows = [int(orders[position // 30][position % 30]) for position in positions]
    generator = stream(1, step)
    # Images of 8 pixels are padded by one.
    offsets = torch.randint(0, 3, (2, 8), generator=generator)
    mirrored = torch.rand(8, generator=generator) < 0.5
    assert labels.tolist() == data.y_train[rows].tolist()
    for number, row in enumerate(rows):
        padded = np.pad(data.x_train[row].numpy(), ((0, 0), (1, 1), (1, 1)))
        top, left = offsets[:, number].tolist()
        image = padded[:, top : top + 8, left : left + 8]
        image = image[:, :, ::-1] if mirrored[number] else image
        expected = normalize(torch.from_numpy(image.copy()))
        assert torch.equal(found[number], expected)
